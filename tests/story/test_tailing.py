"""Files that keep growing, as the installed daemon reads them: a producer that never stops, rotations, and deaths."""

import os
import shutil
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


EVENTS = {
    "events/job.yml": """
        name: events
        triggers:
          - file_arrival: {path: events, pattern: "*.ndjson*"}
        tasks:
          - task_key: bronze
            ingest: {format: json, tail: true, schema_hints: {n: BIGINT}}
            table: bronze.events
        """,
}


def test_a_log_that_is_copied_and_cut_goes_on_and_why_tells_how_far_it_is_read(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", EVENTS) as daemon:
        log = daemon.drop("events/app.ndjson", '{"n": 1}\n{"n": 2}\n{"n": 3')
        daemon.until(lambda: lines(daemon) == 2)
        with log.open("a") as writer:
            writer.write("}\n")
            writer.flush()
            daemon.until(lambda: lines(daemon) == 3)
            shutil.copyfile(log, log.with_suffix(".ndjson.1"))
            os.truncate(log, 0)
            writer.write('{"n": 4}\n')
        daemon.until(lambda: lines(daemon) == 4)
        daemon.until(lambda: not daemon.open_runs())
        assert daemon.query("SELECT n FROM bronze.events ORDER BY n") == [{"n": n} for n in (1, 2, 3, 4)]
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM tails WHERE state = 'finished' AND tail_id = 1"))
        told = daemon.cli("why", "events/app.ndjson")["tails"]
        assert [(one["generation"], one["state"], one["rows_loaded"]) for one in told] == [
            (1, "finished", 3),
            (2, "growing", 1),
        ]
        census = daemon.cli("census", "--rows")
        assert (census["adds_up"], census["totals"]["loaded"]) == (True, 2)
