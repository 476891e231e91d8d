"""Runs that are broken off, that take too long, that are tried again, that find no room, and that are not to start."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

from brokers import Mosquitto
from daemons import ORDERS, LandingdProcess, attempts, orders, results
from listening import Subscriber

ENDLESS = "SELECT count(*) AS n FROM range(3000) a, range(3000) b, range(1000000) c WHERE hash(a, b, c) = 1"

LONG = {
    "long/job.yml": """
        name: long
        tasks:
          - {task_key: before, sql: before.sql, table: silver.before}
          - {task_key: script, depends_on: [{task_key: before}], spark_python_task: {python_file: script.py}}
          - {task_key: query, depends_on: [{task_key: before}], sql: endless.sql, table: silver.endless}
          - {task_key: after, depends_on: [{task_key: script}, {task_key: query}], sql: after.sql, table: gold.after}
        """,
    "long/before.sql": "SELECT 1 AS n",
    "long/endless.sql": ENDLESS,
    "long/after.sql": "SELECT n FROM silver.endless",
    "long/script.py": """
        import os, pathlib, time

        pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
        while True:
            time.sleep(1)
        """,
    "late/job.yml": """
        name: late
        tasks:
          - {task_key: once, sql: endless.sql, table: silver.once, timeout_seconds: 0.2, max_retries: 1}
          - task_key: twice
            depends_on: [{task_key: once}]
            run_if: ALL_DONE
            sql: endless.sql
            table: silver.twice
            timeout_seconds: 0.2
            max_retries: 1
            retry_on_timeout: true
        """,
    "late/endless.sql": ENDLESS,
    "overdue/job.yml": """
        name: overdue
        timeout_seconds: 0.5
        tasks: [{task_key: endless, sql: endless.sql, table: silver.overdue}]
        """,
    "overdue/endless.sql": ENDLESS,
}
SHAKY = {
    "shaky/job.yml": """
        name: shaky
        tasks:
          - task_key: shaky
            python_task: {file: shaky.py}
            max_retries: 5
            backoff: {initial_seconds: 0.1, factor: 2, jitter: 0}
          - task_key: hopeless
            depends_on: [{task_key: shaky}]
            python_task: {file: shaky.py, function: hopeless}
            max_retries: 5
        """,
    "shaky/shaky.py": """
        def main(ctx):
            ctx.sql("CREATE TABLE IF NOT EXISTS silver.tries (attempt INTEGER)")
            ctx.sql("INSERT INTO silver.tries VALUES ($attempt)", {"attempt": ctx.attempt})
            if ctx.attempt < 4:
                raise ConnectionError("the other side does not answer")

        def hopeless(ctx):
            ctx.sql("SELECT nothing FROM silver.tries")
        """,
}
WAITING = """
    import pathlib, time

    def main(ctx):
        go = pathlib.Path(__file__).with_name("go")
        while not go.exists():
            time.sleep(0.01)
    """
ROOM = {
    "single/job.yml": """
        name: single
        queue: {enabled: false}
        tasks: [{task_key: wait, python_task: {file: wait.py}}]
        """,
    "single/wait.py": WAITING,
    "line/job.yml": """
        name: line
        parameters: [{name: n, default: "0"}]
        tasks:
          - {task_key: wait, python_task: {file: wait.py}}
          - {task_key: note, depends_on: [{task_key: wait}], sql: note.sql}
        """,
    "line/wait.py": WAITING,
    "line/note.sql": "CREATE TABLE IF NOT EXISTS silver.line (n VARCHAR); INSERT INTO silver.line VALUES ($n)",
}


def started(daemon: LandingdProcess, job: str, **parameters: str) -> int:
    """A run that was asked for and is not waited for."""
    return int(daemon.post("/v1/runs", job=job, parameters=parameters)["run_id"])


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_a_run_at_work_is_canceled_and_what_takes_too_long_times_out(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", LONG, broker_port=broker.port) as daemon:
        run_id = started(daemon, "long")
        pid_file = daemon.pipelines / "long/pid"
        pid = int(daemon.until(lambda: pid_file.exists() and pid_file.read_text()))
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM attempts WHERE task_key = 'query'"))
        daemon.cli("cancel", str(run_id))
        run = daemon.ended(run_id)
        assert run["result"] == "CANCELED"
        assert results(run) == {
            "before": "SUCCESS",
            "script": "CANCELED",
            "query": "CANCELED",
            "after": "CANCELED",
        }
        daemon.until(lambda: not is_alive(pid))
        assert daemon.query("FROM silver.before") == [{"n": 1}]
        ear.until(lambda: [end["result"] for end in ear.events("run_finished")] == ["CANCELED"])

        late = daemon.cli("run", "late", exit_code=1)
        assert results(late) == {"once": "TIMEDOUT", "twice": "TIMEDOUT"}
        assert attempts(late) == {"once": ["timed out"], "twice": ["timed out"] * 2}
        overdue = daemon.cli("run", "overdue", exit_code=1)
        assert (overdue["result"], "0.5 s" in overdue["error"]) == ("TIMEDOUT", True)


def test_a_failed_attempt_is_tried_again_after_growing_pauses_unless_that_cannot_help(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", SHAKY, broker_port=broker.port) as daemon:
        run = daemon.cli("run", "shaky", exit_code=1)
        assert attempts(run) == {"shaky": ["failed"] * 3 + ["committed"], "hopeless": ["failed"]}
        assert "nothing" in run["error"]
        assert daemon.query("FROM silver.tries") == [{"attempt": 4}], "nothing stays of an attempt that failed"
        spans = daemon.ledger("SELECT * FROM attempts WHERE task_key = 'shaky' ORDER BY attempt")
        pauses_s = [after["started_at_s"] - before["ended_at_s"] for before, after in itertools.pairwise(spans)]
        assert all(pause_s >= least_s for pause_s, least_s in zip(pauses_s, (0.1, 0.2, 0.4), strict=True))
        ear.until(lambda: ear.events("run_finished"))
        retries = ear.events("task_will_retry")
        assert [retry["attempt"] for retry in retries] == [1, 2, 3]
        assert all("does not answer" in retry["error"] and retry["retry_at"] for retry in retries)


def test_a_run_that_finds_no_room_waits_in_line_or_is_skipped_and_says_so(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", ROOM, broker_port=broker.port) as daemon:
        first = started(daemon, "single")
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM attempts WHERE run_id = ?", (first,)))
        skipped = daemon.cli("run", "single", exit_code=1)
        assert (skipped["state"], skipped["result"]) == ("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED")
        (told,) = ear.until(lambda: ear.events("run_skipped"))
        assert (told["run_id"], told["result"]) == (skipped["run_id"], "MAXIMUM_CONCURRENT_RUNS_REACHED")
        assert told["error"]

        line = [started(daemon, "line", n=str(n)) for n in range(3)]
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM attempts WHERE run_id = ?", (line[0],)))
        assert [run["run_id"] for run in daemon.cli("queue")] == line[1:]
        daemon.kill()  # who waits, waits on
        daemon.start()
        daemon.until(
            lambda: daemon.ledger("SELECT 1 FROM attempts WHERE run_id = ? AND ended_at_s IS NULL", (line[0],))
        )
        assert [run["run_id"] for run in daemon.cli("queue")] == line[1:]
        for job in ("single", "line"):
            (daemon.pipelines / job / "go").touch()
        assert [daemon.ended(run_id)["result"] for run_id in (first, *line)] == ["SUCCESS"] * 4
        assert daemon.query("FROM silver.line") == [{"n": str(n)} for n in range(3)]
        begun = daemon.ledger("SELECT run_id FROM runs WHERE job = 'line' ORDER BY started_at_s")
        assert [row["run_id"] for row in begun] == line


def test_a_pause_outlives_the_daemon_and_the_files_that_come_meanwhile_are_loaded_afterwards(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", ORDERS, broker_port=broker.port) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        daemon.cli("pause", "orders")
        daemon.drop("orders/b.csv", orders((2, "ada", 2)))
        daemon.until(lambda: hashed(daemon) == 2)
        daemon.stop()
        daemon.drop("orders/c.csv", orders((3, "ada", 3)))
        daemon.start()
        daemon.drop("orders/d.csv", orders((4, "ada", 4)))
        daemon.until(lambda: hashed(daemon) == 4)
        why = daemon.until(lambda: daemon.get("/v1/triggers/orders")["triggers"][0]["last_not_triggered"])
        assert why["description"] == "the job is paused, on request"
        assert daemon.file_counts() == {"loaded": 1, "waiting": 3}
        assert len(daemon.cli("runs")) == 1
        assert ear.retained()["landingd/story/jobs/orders/state"]["paused"] is True
        assert b"paused" in daemon.run("jobs").stdout

        daemon.cli("resume", "orders")
        daemon.until_loaded(4)
        assert daemon.query("FROM gold.revenue") == [{"customer": "ada", "orders": 4, "revenue": 10}]
        assert ear.retained()["landingd/story/jobs/orders/state"]["paused"] is False


def hashed(daemon: LandingdProcess) -> int:
    """How many files are complete and known."""
    return len(daemon.ledger("SELECT 1 FROM files WHERE content_hash IS NOT NULL"))
