"""The first minute of a newcomer, and the many hours in which nothing happens."""

import os
import time
from pathlib import Path

import pytest

from daemons import REPOSITORY, LandingdProcess, orders

pytest.importorskip("amqtt", reason="the demo needs the extra landingd[broker]")

WATCHED_S = 6.0
CPU_SHARE_MAX = 0.05
"""Generous: under 1 % is the aim, on a machine that does nothing else."""


def test_the_demo_ends_well_twice_in_a_row(tmp_path: Path) -> None:
    env = {"PATHS__PIPELINES": str(REPOSITORY / "pipelines")}
    daemon = LandingdProcess(tmp_path / "base", {}, env=env)
    for _ in ("in a fresh base", "over what the first one left"):
        told = daemon.run("demo", "--scale", "0.05").stdout.decode()
        assert "gold.revenue_by_brand" in told
        assert "run_finished" in told
        assert "silver_events" in told
    assert daemon.cli("query", "SELECT count(*) > 5 AS ok FROM gold.revenue_by_brand") == [{"ok": True}]
    assert daemon.file_counts() == {"loaded": 9}


def test_the_demo_does_not_touch_a_state_that_is_not_a_demos(daemon: LandingdProcess) -> None:
    daemon.drop("orders/a.csv", orders((1, "ada", 1)))
    daemon.until_loaded(1)
    assert b"a daemon runs" in daemon.run("demo", exit_code=65).stderr
    daemon.stop()
    assert b"not a demo's" in daemon.run("demo", exit_code=65).stderr
    assert daemon.cli("query", "SELECT orders FROM gold.revenue") == [{"orders": 1}]


def test_an_idle_daemon_writes_nothing_and_hardly_runs(daemon: LandingdProcess) -> None:
    daemon.drop("orders/a.csv", orders((1, "ada", 1)))
    daemon.until_loaded(1)
    # Two seconds after the last write the log is folded into the warehouse; from there on there is nothing to do.
    daemon.until(lambda: not (daemon.state / "warehouse.duckdb.wal").exists())
    before, cpu_before_s, log_before = _stores(daemon), _cpu_s(daemon.pid), daemon.log_file.stat().st_size
    time.sleep(WATCHED_S)  # what does not happen raises no signal
    assert _stores(daemon) == before
    assert daemon.log_file.stat().st_size == log_before
    assert _cpu_s(daemon.pid) - cpu_before_s < CPU_SHARE_MAX * WATCHED_S


def _stores(daemon: LandingdProcess) -> dict[str, tuple[int, int]]:
    files = [path for path in daemon.state.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
