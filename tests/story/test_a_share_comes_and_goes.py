"""A daemon whose landing directories are on several file systems, one of which is unmounted and mounted again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import ORDERS, LandingdProcess, orders

LATE_SCANS = {"LANDING__SCAN_INTERVAL_SECONDS": "3600"}
"""So that what is found was told by the watch, or by a poll."""
RETRACTING = {
    **ORDERS,
    "orders/job.yml": ORDERS["orders/job.yml"].replace("path: orders,", "path: orders, on_delete: retract,"),
}


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "share"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "landingd-test", path], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"not permitted here: mount -t tmpfs: {made.stderr.strip()}")
    yield path
    for point in (tmp_path / "base/landing/orders", path):
        subprocess.run(["umount", "-l", point], capture_output=True, check=False)


def mounted(share: Path, root: Path) -> None:
    subprocess.run(["mount", "--bind", share, root], check=True)


def root(daemon: LandingdProcess, directory: str = "orders") -> dict[str, object]:
    return next(one for one in daemon.get("/v1/status")["roots"] if one["directory"] == directory)


def test_a_share_that_is_unmounted_and_mounted_again_loses_nothing_and_loads_nothing_twice(
    tmp_path: Path, share: Path
) -> None:
    (tmp_path / "base/landing/orders").mkdir(parents=True)
    mounted(share, tmp_path / "base/landing/orders")
    with LandingdProcess(tmp_path / "base", RETRACTING, env=LATE_SCANS) as daemon:
        directory = daemon.landing / "orders"
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        for number in (2, 3):
            subprocess.run(["umount", directory], check=True)
            daemon.until(lambda: not root(daemon)["available"])
            assert str(root(daemon)["unavailable_because"]).startswith("was on tmpfs landingd-test ")
            # What lands on the share meanwhile, as from another machine, raises no event that is heard.
            (share / f"{number}-away.csv").write_text(orders((10 * number, "ada", 1)))
            mounted(share, directory)
            daemon.until_loaded(2 * number - 2)
            daemon.until(lambda: root(daemon)["available"] and root(daemon)["mode"] == "inotify")
            # The same directory of the same device, and yet the old watch is dead.
            daemon.drop(f"orders/{number}-back.csv", orders((10 * number + 1, "ada", 1)))
            daemon.until_loaded(2 * number - 1)
        assert daemon.value("SELECT list(id ORDER BY id) FROM silver.orders") == [1, 20, 21, 30, 31]
        (directory / "a.csv").unlink()
        subprocess.run(["umount", directory], check=True)
        daemon.until(lambda: not root(daemon)["available"])
        mounted(share, directory)
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM files WHERE name = 'orders/a.csv' AND presence = 'removed'"))


def test_a_daemon_that_starts_without_its_share_waits_for_it(tmp_path: Path, share: Path) -> None:
    directory = tmp_path / "base/landing/orders"
    directory.mkdir(parents=True)
    mounted(share, directory)
    with LandingdProcess(tmp_path / "base", RETRACTING, env=LATE_SCANS) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
    subprocess.run(["umount", directory], check=True)
    with LandingdProcess(tmp_path / "base", RETRACTING, env=LATE_SCANS) as daemon:
        daemon.until(lambda: not root(daemon)["available"])
        assert daemon.value("SELECT count(*) FROM silver.orders") == 1
        mounted(share, directory)
        daemon.until(lambda: root(daemon)["available"])
        daemon.drop("orders/b.csv", orders((2, "ada", 1)))
        daemon.until_loaded(2)
        assert daemon.value("SELECT list(id ORDER BY id) FROM silver.orders") == [1, 2]


def test_roots_of_several_kinds_live_in_one_daemon(tmp_path: Path, share: Path) -> None:
    layered = tmp_path / "base/landing/layered"
    layered.mkdir(parents=True)
    for layer in ("lower", "upper", "work"):
        (share / layer).mkdir()
    layers = ",".join(f"{name}dir={share / name}" for name in ("lower", "upper", "work"))
    jobs = {
        **ORDERS,
        "layered/job.yml": """
            name: layered
            triggers:
              - file_arrival: {path: layered}
            tasks:
              - task_key: bronze
                ingest: {}
                table: bronze.layered
            """,
    }
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, layered], check=True)
    try:
        with LandingdProcess(tmp_path / "base", jobs, env=LATE_SCANS) as daemon:
            daemon.until(lambda: [r["mode"] for r in daemon.get("/v1/status")["roots"]] == ["poll", "inotify"])
            daemon.drop("orders/a.csv", orders((1, "ada", 1)))
            (share / "upper/behind.csv").write_text("id\n1\n")
            daemon.until_loaded(2)
            assert 1 <= float(str(root(daemon, "layered")["latency_seconds"])) < 5
            assert root(daemon)["latency_seconds"] == 0
    finally:
        subprocess.run(["umount", layered], check=True)
