"""After loading, as an operator sees it: files leave the landing directory, and nothing is lost with them."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Mosquitto
from daemons import ORDERS, LandingdProcess, orders
from listening import Subscriber

ARCHIVING = ORDERS | {
    "orders/job.yml": ORDERS["orders/job.yml"].replace(
        '{path: orders, pattern: "*.csv*"}',
        '{path: orders, pattern: "*.csv*", cleanup: archive, archive_retention_days: 30, on_delete: retract}',
    )
}
SOON = {"LANDING__SCAN_INTERVAL_SECONDS": "0.2", "LANDING__CLEANUP_INTERVAL_SECONDS": "0.2"}


def presences(daemon: LandingdProcess) -> list[str]:
    return [row["presence"] for row in daemon.ledger("SELECT presence FROM files ORDER BY file_id")]


def archived(daemon: LandingdProcess) -> list[Path]:
    return sorted(path for path in (daemon.base / "archive").rglob("*") if path.is_file())


def test_loaded_files_are_archived_replayed_from_there_and_never_taken_for_removed(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with (
        Subscriber(broker.port) as ear,
        LandingdProcess(tmp_path / "base", ARCHIVING, broker_port=broker.port, env=SOON) as daemon,
    ):
        daemon.drop("orders/2026/a.csv", orders((1, "ada", 1)))
        daemon.drop(b"orders/gr\xfc\xdfe.csv", orders((2, "ada", 2)))
        daemon.until(lambda: presences(daemon) == ["archived"] * 2)
        assert [path for path in daemon.landing.rglob("*") if path.is_file()] == []
        assert {os.fsencode(path.parent.relative_to(daemon.base)) for path in archived(daemon)} == {
            b"archive/orders/orders/2026",
            b"archive/orders/orders",
        }
        ear.until(lambda: [e for e in ear.heard if e.payload.get("event") == "file_archived"])
        assert "archived" in str(daemon.cli("why", "orders/2026/a.csv"))

        # Scans pass by, a correction arrives, the process is killed: the rows stay what they are.
        daemon.drop("orders/2026/a.csv", orders((1, "ada", 5)))
        daemon.until(lambda: presences(daemon) == ["archived"] * 3)
        assert daemon.value("SELECT revenue FROM gold.revenue") == 7
        daemon.kill()
        daemon.start()
        assert daemon.run("census").returncode == 0

        daemon.run("replay", "orders/2026/a.csv")
        assert daemon.value("SELECT revenue FROM gold.revenue") == 7
        assert daemon.value("SELECT count(*) FROM bronze.orders") == 2
        reloaded = daemon.ledger("SELECT state, presence FROM files ORDER BY file_id DESC LIMIT 1")[0]
        assert tuple(reloaded) == ("loaded", "archived")
        assert len(archived(daemon)) == 3
        assert daemon.stop() == 0


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """An archive in which there is room for next to nothing."""
    archive = tmp_path / "base/archive"
    archive.mkdir(parents=True)
    how = ["mount", "-t", "tmpfs", "-o", "size=4k", "landingd-test", archive]
    made = subprocess.run(how, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"not permitted here: mount: {made.stderr.strip()}")
    yield archive
    subprocess.run(["umount", "-l", archive], check=False, capture_output=True)


def test_a_full_archive_is_reported_loses_nothing_and_holds_up_no_load(full: Path, tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", ARCHIVING, env=SOON) as daemon:
        rows = [(n, "ada", 1.0) for n in range(1, 2001)]
        daemon.drop("orders/large.csv", orders(*rows))
        daemon.until_loaded(1)
        (failed,) = daemon.until(lambda: daemon.logged("file_cleanup_failed"))
        assert "No space left" in failed["error"]
        daemon.drop("orders/later.csv", orders((3000, "ada", 1)))
        daemon.until_loaded(2)
        assert (daemon.landing / "orders/large.csv").exists()
        assert b"No space left" in daemon.run("why", "orders/large.csv").stdout
        assert daemon.cli("status")["cleanup_failing"] == 1
        assert b"could not be archived" in daemon.run("status").stdout
        assert daemon.run("census").returncode == 0

        subprocess.run(["mount", "-o", "remount,size=1m", full], check=True)
        daemon.until(lambda: presences(daemon) == ["archived"] * 2)
        assert len(daemon.logged("file_cleanup_failed")) == 1
        assert daemon.cli("status")["cleanup_failing"] == 0
        assert daemon.value("SELECT orders FROM gold.revenue") == 2001
        runs = daemon.ledger("SELECT count(*) AS n FROM runs")[0]["n"]
        assert runs == 2, "a failed cleanup started a run"


def test_a_policy_that_changes_holds_for_files_that_are_loaded_already(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", env=SOON) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        assert presences(daemon) == ["present"]
        deleting = ORDERS["orders/job.yml"].replace('"*.csv*"}', '"*.csv*", cleanup: delete}')
        daemon.write({"orders/job.yml": deleting})
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: presences(daemon) == ["deleted"])
        assert not (daemon.landing / "orders/a.csv").exists()
        assert daemon.value("SELECT revenue FROM gold.revenue") == 1
