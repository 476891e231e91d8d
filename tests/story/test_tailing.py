"""Files that keep growing, as the installed daemon reads them: a producer that never stops, rotations, and deaths."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemons import LandingdProcess, unindented

LOGS = {
    "logs/job.yml": """
        name: logs
        triggers:
          - file_arrival: {path: logs, pattern: "*.log*"}
        tasks:
          - task_key: bronze
            ingest: {tail: true, schema_hints: {n: BIGINT, written: DOUBLE}}
            table: bronze.logs
          - task_key: silver
            depends_on: [{task_key: bronze}]
            sql: silver.sql
            table: silver.logs
          - task_key: gold
            depends_on: [{task_key: silver}]
            sql: gold.sql
            table: gold.counts
        """,
    "logs/silver.sql": "SELECT n, written FROM bronze.logs",
    "logs/gold.sql": "SELECT n % 10 AS digit, count(*) AS lines, max(n) AS newest FROM silver.logs GROUP BY ALL",
}
PRODUCER = unindented("""
    import os, sys, time
    path, rate, seconds, rotations = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

    def begin():
        out = open(path, "ab", buffering=0)
        out.write(b"n,written\\n")
        return out

    out, n, began = begin(), 0, time.monotonic()
    rotated = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate)
        lines = b"".join(b"%d,%.6f\\n" % (i, time.time()) for i in range(n, due))
        n = max(n, due)
        half = len(lines) // 2
        out.write(lines[:half])  # whoever reads now sees half a line
        out.write(lines[half:])
        if rotated < rotations and passed > seconds * (rotated + 1) / (rotations + 1):
            rotated += 1
            os.rename(path, f"{path}.{rotated}")
            out.write(b"%d,%.6f\\n" % (n, time.time()))  # it does not know of the rotation yet
            n += 1
            time.sleep(0.01)
            out.close()
            out = begin()
        time.sleep(0.005)
    out.write(b"%d,%.6f" % (n, time.time()))
    out.write(b"\\n")
    print(n + 1)
    """)


@contextmanager
def producing(path: Path, *, rate: int, seconds: float, rotations: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes lines there, numbered from 0, and then prints how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [str(path), str(rate), str(seconds), str(rotations)]
    with subprocess.Popen([sys.executable, "-c", PRODUCER, *arguments], stdout=subprocess.PIPE, text=True) as producer:
        try:
            yield producer
        finally:
            producer.kill()


@pytest.mark.parametrize(
    ("seconds", "kills"),
    [pytest.param(3.0, 2, id="short"), pytest.param(60.0, 3, id="long", marks=pytest.mark.long)],
)
def test_every_line_of_a_busy_producer_is_loaded_once_through_rotations_and_deaths(
    tmp_path: Path, seconds: float, kills: int
) -> None:
    daemon = LandingdProcess(tmp_path / "base", LOGS)
    with daemon, producing(daemon.landing / "logs/app.log", rate=5000, seconds=seconds, rotations=2) as producer:
        began_s = time.monotonic()
        for death in range(kills):
            daemon.until(lambda due=began_s + seconds * (death + 1) / (kills + 1): time.monotonic() > due)
            daemon.kill()
            daemon.start()
        written = int(producer.communicate(timeout=seconds + 60)[0])
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM files") and lines(daemon) >= written)
        daemon.until(lambda: not daemon.open_runs())
        assert daemon.query("SELECT count(*) AS n, count(DISTINCT n) AS d, max(n) + 1 AS m FROM silver.logs") == [
            {"n": written, "d": written, "m": written}
        ]
        assert daemon.value("SELECT sum(lines) FROM gold.counts") == written
        census = daemon.cli("census", "--rows")
        assert (census["adds_up"], census["totals"]["loaded"], census["totals"]["waiting"]) == (True, 3, 0)
        daemon.until(lambda: not list((daemon.state / "tails").iterdir()))
        assert daemon.file_counts().keys() == {"loaded"}


def lines(daemon: LandingdProcess) -> int:
    """How many rows the ledger knows of."""
    (row,) = daemon.ledger("SELECT coalesce(sum(rows_loaded), 0) AS n FROM loads")
    return int(row["n"])
