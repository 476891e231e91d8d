"""A run goes on where it can, stops where it must, and is taken up again where it was left."""

import signal
from pathlib import Path

from brokers import Mosquitto
from daemons import LandingdProcess, attempts, results
from listening import Subscriber

ENDLESS = "SELECT count(*) AS n FROM range(3000) a, range(3000) b, range(1000000) c WHERE hash(a, b, c) = 1"
LONG = ENDLESS.replace("1000000", "20")
"""Takes a second."""

FAN = {
    "fan/job.yml": """
        name: fan
        triggers: [{file_arrival: {path: fan}}]
        tasks:
          - {task_key: bronze, ingest: {}, table: bronze.fan}
          - {task_key: wrong, depends_on: [{task_key: bronze}], sql: wrong.sql, table: silver.wrong}
          - {task_key: under, depends_on: [{task_key: wrong}], sql: under.sql, table: gold.under}
          - {task_key: last, depends_on: [{task_key: under}, {task_key: beside}], sql: last.sql}
          - {task_key: beside, depends_on: [{task_key: bronze}], sql: beside.sql, table: silver.beside}
          - {task_key: after, depends_on: [{task_key: beside}], sql: after.sql, table: gold.after}
        """,
    "fan/wrong.sql": "SELECT CAST(name AS INTEGER) AS n FROM bronze.fan",
    "fan/under.sql": "SELECT count(*) AS n FROM silver.wrong",
    "fan/last.sql": "CREATE TABLE IF NOT EXISTS gold.last (run VARCHAR); INSERT INTO gold.last VALUES ($run_id)",
    "fan/beside.sql": "SELECT id FROM bronze.fan",
    "fan/after.sql": "SELECT count(*) AS n FROM silver.beside",
}


def test_a_failure_skips_what_is_downstream_and_a_repair_runs_only_that(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", FAN, broker_port=broker.port) as daemon:
        daemon.drop("fan/a.csv", "id,name\n1,ada\n")
        run = daemon.ended(1)
        assert run["result"] == "FAILED"
        assert "ada" in run["error"]
        assert results(run) == {
            "bronze": "SUCCESS",
            "wrong": "FAILED",
            "under": "UPSTREAM_FAILED",
            "last": "UPSTREAM_FAILED",
            "beside": "SUCCESS",
            "after": "SUCCESS",
        }
        ear.until(lambda: ear.events("run_finished"))
        told = {event["task_key"]: event["result"] for event in ear.events("task_finished")}
        assert told == results(run)

        daemon.write({"fan/wrong.sql": "SELECT length(name) AS n FROM bronze.fan"})
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: daemon.logged("reloaded"))
        repaired = daemon.cli("repair", "1")
        assert (repaired["run_id"], repaired["result"], repaired["repairs"]) == (1, "SUCCESS", 1)
        assert set(results(repaired).values()) == {"SUCCESS"}
        shown = daemon.cli("show", "1")
        before, after = attempts(run), attempts(shown)
        assert [key for key in after if after[key] != before[key]] == ["wrong", "under", "last"]
        assert after == before | {key: [*before[key], "committed"] for key in ("wrong", "under", "last")}
        assert before["wrong"][-1] == "failed"
        assert [repair["tasks"] for repair in shown["repair_history"]] == [["wrong", "under", "last"]]
        assert any("ada" in (attempt["error"] or "") for attempt in shown["tasks"][1]["attempts"])
        assert daemon.value("SELECT n FROM silver.wrong") == 3
        assert daemon.value("SELECT run FROM gold.last") == "1"
        ear.until(lambda: len(ear.events("run_finished")) == 2)
        ids = [event["event_id"] for event in ear.events()]
        assert len(ids) == len(set(ids))
        assert b"nothing to repair" in daemon.run("repair", "1", exit_code=65).stderr


RETRIES = {
    "flags/job.yml": """
        name: flags
        triggers: [{file_arrival: {path: flags}}]
        tasks: [{task_key: bronze, ingest: {schema_hints: {flag: VARCHAR}}, table: bronze.flags}]
        """,
    "patient/job.yml": """
        name: patient
        tasks:
          - task_key: wait
            sql: wait.sql
            table: gold.waited
            max_retries: 50
            min_retry_interval_millis: 200
        """,
    "patient/wait.sql": "SELECT CASE WHEN count(*) = 0 THEN error('no flag yet') ELSE count(*) END AS n"
    " FROM bronze.flags WHERE flag = 'go'",
    "hasty/job.yml": """
        name: hasty
        tasks:
          - {task_key: never, sql: never.sql, table: gold.never, max_retries: 2, min_retry_interval_millis: 300}
        """,
    "hasty/never.sql": "SELECT error('never') AS n",
    "endless/job.yml": """
        name: endless
        tasks: [{task_key: query, sql: endless.sql, table: gold.n, timeout_seconds: 0.5, max_retries: 3}]
        """,
    "endless/endless.sql": ENDLESS,
}


def test_a_failed_attempt_is_retried_after_its_interval_until_it_works_or_its_retries_are_used_up(
    tmp_path: Path,
) -> None:
    with LandingdProcess(tmp_path / "base", RETRIES) as daemon:
        daemon.drop("flags/a.csv", "flag\nwait\n")
        daemon.until_loaded(1)
        patient = daemon.post("/v1/runs", job="patient")["run_id"]
        hasty = daemon.cli("run", "hasty", exit_code=1)
        assert hasty["result"] == "FAILED"
        assert attempts(hasty) == {"never": ["failed", "failed", "failed"]}
        begun = [row[0] for row in daemon.ledger("SELECT started_at_s FROM attempts WHERE task_key = 'never'")]
        assert begun[1] - begun[0] >= 0.3
        assert begun[2] - begun[1] >= 0.3
        sql = "SELECT state, failures FROM tasks WHERE run_id = ?"
        assert daemon.until(lambda: daemon.ledger(sql, (patient,))[0]["failures"] >= 2)

        daemon.drop("flags/b.csv", "flag\ngo\n")
        run = daemon.ended(patient)
        assert run["result"] == "SUCCESS"
        *failed, last = attempts(run)["wait"]
        assert (set(failed), last) == ({"failed"}, "committed")


def test_a_timeout_interrupts_the_query_and_is_not_retried(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", RETRIES) as daemon:
        run = daemon.cli("run", "endless", exit_code=1)
        assert run["result"] == "FAILED"
        assert results(run) == {"query": "TIMEDOUT"}
        assert attempts(run) == {"query": ["timed out"]}
        assert 500 <= run["duration_ms"] < 5000
        daemon.drop("flags/a.csv", "flag\ngo\n")
        daemon.until_loaded(1)
        assert daemon.cli("run", "patient")["result"] == "SUCCESS"


def two_steps(first: str) -> dict[str, str]:
    """A task with a timeout has a transaction of its own, however small the run is."""
    return {
        "steps/job.yml": """
            name: steps
            triggers: [{file_arrival: {path: steps}}]
            tasks:
              - {task_key: bronze, ingest: {}, table: bronze.steps, timeout_seconds: 60}
              - {task_key: long, depends_on: [{task_key: bronze}], sql: long.sql, table: gold.long}
              - {task_key: short, depends_on: [{task_key: long}], sql: short.sql, table: gold.short}
            """,
        "steps/long.sql": first,
        "steps/short.sql": "SELECT count(*) AS n FROM bronze.steps",
    }


def _at_work(daemon: LandingdProcess, task_key: str) -> bool:
    sql = "SELECT 1 FROM tasks WHERE task_key = ? AND state = 'RUNNING'"
    return bool(daemon.ledger(sql, (task_key,)))


def test_a_stop_lets_the_running_attempt_finish_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", two_steps(LONG)) as daemon:
        daemon.drop("steps/a.csv", "id\n1\n")
        daemon.until(lambda: _at_work(daemon, "long"))
        assert daemon.stop() == 0
        states = {row["task_key"]: (row["state"], row["result"]) for row in daemon.ledger("SELECT * FROM tasks")}
        assert states == {
            "bronze": ("TERMINATED", "SUCCESS"),
            "long": ("TERMINATED", "SUCCESS"),
            "short": ("PENDING", None),
        }
    with daemon:
        run = daemon.ended(1)
        assert run["result"] == "SUCCESS"
        assert attempts(run) == {"bronze": ["committed"], "long": ["committed"], "short": ["committed"]}


def test_a_stop_interrupts_what_does_not_finish_in_time_and_the_next_start_does_it_again(tmp_path: Path) -> None:
    env = {"RUNS__DRAIN_SECONDS": "0.2"}
    with LandingdProcess(tmp_path / "base", two_steps(ENDLESS), env=env) as daemon:
        daemon.drop("steps/a.csv", "id\n1\n")
        daemon.until(lambda: _at_work(daemon, "long"))
        assert daemon.stop() == 0
        # The commit of the warehouse is whole: it can be read, and the file's rows are there once.
        assert daemon.cli("query", "SELECT count(*) AS n FROM bronze.steps") == [{"n": 1}]
        daemon.write(two_steps("SELECT count(*) AS n FROM bronze.steps"))
    with daemon:
        run = daemon.ended(1)
        assert run["result"] == "SUCCESS"
        assert attempts(run) == {
            "bronze": ["committed"],
            "long": ["interrupted", "committed"],
            "short": ["committed"],
        }


def test_a_small_run_that_a_stop_interrupts_is_done_again_whole(tmp_path: Path) -> None:
    small = {name: text.replace(", timeout_seconds: 60", "") for name, text in two_steps(ENDLESS).items()}
    with LandingdProcess(tmp_path / "base", small, env={"RUNS__DRAIN_SECONDS": "0.2"}) as daemon:
        daemon.drop("steps/a.csv", "id\n1\n")
        daemon.until(lambda: _at_work(daemon, "long"))
        assert daemon.stop() == 0
        daemon.write({"steps/long.sql": "SELECT count(*) AS n FROM bronze.steps"})
    with daemon:
        run = daemon.ended(1)
        assert run["result"] == "SUCCESS"
        assert {outcomes[-1] for outcomes in attempts(run).values()} == {"committed"}
        assert daemon.query("SELECT id, (SELECT n FROM gold.long) AS n FROM bronze.steps") == [{"id": 1, "n": 1}]


def test_a_stop_while_a_retry_is_waited_for_does_not_wait(tmp_path: Path) -> None:
    jobs = RETRIES | {"hasty/job.yml": RETRIES["hasty/job.yml"].replace("300", "3600000")}
    with LandingdProcess(tmp_path / "base", jobs) as daemon:
        daemon.post("/v1/runs", job="hasty")
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM tasks WHERE state = 'WAITING_FOR_RETRY'"))
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(timeout_s=10) == 0
    with daemon:
        daemon.until(lambda: daemon.get("/v1/status")["active_jobs"] == ["hasty"])
        (task,) = daemon.ledger("SELECT state, failures FROM tasks")
        assert tuple(task) == ("WAITING_FOR_RETRY", 1)


def test_a_run_of_two_batches_keeps_a_job_to_one_run_at_a_time(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", two_steps(LONG)) as daemon:
        daemon.drop("steps/a.csv", "id\n1\n")
        daemon.until(lambda: _at_work(daemon, "long"))
        for number in range(2, 12):
            daemon.drop(f"steps/{number}.csv", f"id\n{number}\n")
        daemon.until_loaded(11)
        assert [run["file_count"] for run in daemon.cli("runs", "steps")] == [10, 1]


def test_of_files_that_change_or_go_while_a_run_is_under_way_the_newest_bytes_are_loaded(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", two_steps(LONG)) as daemon:
        daemon.drop("steps/a.csv", "id\n1\n")
        daemon.until(lambda: _at_work(daemon, "long"))
        known = "SELECT 1 FROM files WHERE name = ? AND size = ? AND content_hash IS NOT NULL"
        for name, content in (("gone", "id\n20\n"), ("changed", "id\n300\n"), ("changed", "id\n3\n")):
            daemon.drop(f"steps/{name}.csv", content)
            size = len(content)
            daemon.until(lambda name=name, size=size: daemon.ledger(known, (f"steps/{name}.csv", size)))
        (daemon.landing / "steps/gone.csv").unlink()
        daemon.until_loaded(2)
        assert daemon.value("SELECT list(id ORDER BY id) FROM bronze.steps") == [1, 3]
        (gone,) = daemon.cli("why", "steps/gone.csv")["versions"]
        assert (gone["state"], gone["reason"]) == ("replaced", "it went away before it could be loaded")
        assert {run["result"] for run in daemon.cli("runs")} == {"SUCCESS"}

        daemon.drop("steps/gone.csv", "id\n20\n")
        daemon.until_loaded(3)
        assert daemon.value("SELECT list(id ORDER BY id) FROM bronze.steps") == [1, 3, 20]
