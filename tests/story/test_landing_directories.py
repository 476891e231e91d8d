"""Directories are their producers': they may be missing, be deleted and come back."""

import shutil
from pathlib import Path

from daemons import ORDERS, LandingdProcess, orders

LATE_SCANS = {"LANDING__SCAN_INTERVAL_SECONDS": "3600"}
"""So that what is found was told by the watch."""


def test_directories_that_are_not_there_are_created(tmp_path: Path) -> None:
    jobs = {**ORDERS, "orders/job.yml": ORDERS["orders/job.yml"].replace("path: orders", "path: far/down/orders")}
    with LandingdProcess(tmp_path / "base", jobs, env=LATE_SCANS) as daemon:
        assert (daemon.landing / "far/down/orders").is_dir()
        daemon.drop("far/down/orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)


def test_a_landing_directory_that_is_deleted_and_comes_back_is_watched_again(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", env=LATE_SCANS) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        for number, deleted in ((2, daemon.landing / "orders"), (3, daemon.landing)):
            shutil.rmtree(deleted)
            daemon.until(lambda: daemon.get("/v1/status")["not_watched"])
            # What lies in it when it comes back raised no event that anybody heard.
            away = daemon.base / "away"
            away.mkdir()
            (away / f"{number}-before.csv").write_text(orders((number * 10, "ada", 1)))
            daemon.landing.mkdir(exist_ok=True)
            away.rename(daemon.landing / "orders")
            daemon.until_loaded(2 * number - 2)
            daemon.until(lambda: not daemon.get("/v1/status")["not_watched"])
            daemon.drop(f"orders/{number}-after.csv", orders((number * 10 + 1, "ada", 1)))
            daemon.until_loaded(2 * number - 1)
        assert daemon.value("SELECT list(id ORDER BY id) FROM silver.orders") == [1, 20, 21, 30, 31]


def test_a_new_subdirectory_is_looked_into_and_watched(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", env=LATE_SCANS) as daemon:
        daemon.drop("orders/2026/11/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        daemon.drop("orders/2026/11/b.csv", orders((2, "ada", 1)))
        daemon.until_loaded(2)
        outside = daemon.base / "2026-12"
        outside.mkdir()
        (outside / "c.csv").write_text(orders((3, "ada", 1)))
        outside.rename(daemon.landing / "orders/2026/12")
        daemon.until_loaded(3)
        assert daemon.value("SELECT orders FROM gold.revenue") == 3
