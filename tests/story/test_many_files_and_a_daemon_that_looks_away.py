"""What lands while nobody looks is loaded all the same, once: events are hints, the scan is the truth."""

import signal
from pathlib import Path

import pytest

from daemons import LandingdProcess, orders

QUEUE_MAX = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def drop_many(daemon: LandingdProcess, count: int) -> None:
    folder = daemon.landing / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:06}.csv").write_text(orders((number, "ada", 1)))


def assert_each_row_is_there_once(daemon: LandingdProcess, count: int) -> None:
    assert daemon.file_counts() == {"loaded": count}
    for table in ("bronze.orders", "silver.orders"):
        rows = daemon.query(f"SELECT count(*) AS n, count(DISTINCT id) AS ids, max(id) AS top FROM {table}")
        assert rows == [{"n": count, "ids": count, "top": count - 1}], table
    assert daemon.value("SELECT orders FROM gold.revenue") == count
    assert daemon.ledger("SELECT count(*) AS n FROM run_files")[0]["n"] == count


def test_a_thousand_files_that_land_while_it_is_down_are_loaded_at_start(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base")
    drop_many(daemon, 1000)
    with daemon:
        daemon.until_loaded(1000)
        assert_each_row_is_there_once(daemon, 1000)
        daemon.stop()
    with daemon:
        # A second start finds them all known. What comes after it is the proof that it has looked.
        daemon.drop("orders/999999.csv", orders((1000, "ada", 1)))
        daemon.until_loaded(1001)
        assert_each_row_is_there_once(daemon, 1001)


@pytest.mark.timeout(300)
def test_twenty_thousand_files_that_overflow_the_kernels_queue_are_all_loaded(daemon: LandingdProcess) -> None:
    count = max(20_000, QUEUE_MAX + 1000)
    daemon.signal(signal.SIGSTOP)
    drop_many(daemon, count)
    daemon.signal(signal.SIGCONT)
    daemon.until_loaded(count, timeout_s=240)
    assert any("more events than" in line["why"] for line in daemon.logged("scan_wanted"))
    assert_each_row_is_there_once(daemon, count)
