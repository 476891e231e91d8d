"""What one job does starts others: tables that change, runs that end, conditions that come true; and the clock."""

from pathlib import Path

from brokers import Mosquitto
from daemons import LandingdProcess
from listening import Subscriber

CHAIN = {
    "source/job.yml": """
        name: source
        triggers: [{file_arrival: {path: in}}]
        tasks:
          - {task_key: bronze, ingest: {schema: {n: BIGINT}}, table: bronze.n}
          - {task_key: positive, depends_on: [{task_key: bronze}], sql: positive.sql, table: silver.positive}
        """,
    "source/positive.sql": "SELECT CASE WHEN n = 13 THEN error('unlucky') ELSE n END AS n FROM bronze.n WHERE n > 0",
    "other/job.yml": """
        name: other
        tasks: [{task_key: table, sql: table.sql, table: silver.other}]
        """,
    "other/table.sql": "SELECT $run_id AS run",
    "by_table/job.yml": """
        name: by_table
        triggers: [{table_update: {table_names: [silver.positive]}}]
        tasks:
          - task_key: gold
            sql: gold.sql
            table: gold.by_table
            parameters: {tables: "{{job.trigger.table_update.updated_tables}}"}
        """,
    "by_table/gold.sql": "SELECT sum(n) AS total, $tables AS tables FROM silver.positive",
    "by_both/job.yml": """
        name: by_both
        trigger: {table_update: {table_names: [silver.positive, silver.other], condition: ALL_UPDATED}}
        tasks: [{task_key: note, sql: note.sql}]
        """,
    "by_both/note.sql": "SELECT 1 AS noted",
    "by_job/job.yml": """
        name: by_job
        triggers: [{job_completion: {jobs: [source]}}]
        tasks: [{task_key: note, sql: note.sql}]
        """,
    "by_job/note.sql": "SELECT 1 AS noted",
    "by_failure/job.yml": """
        name: by_failure
        triggers: [{job_completion: {jobs: [{job_name: source}], if_status: FAILED}}]
        tasks: [{task_key: note, sql: note.sql}]
        """,
    "by_failure/note.sql": "SELECT 1 AS noted",
    "if_large/job.yml": """
        name: if_large
        triggers:
          - table_update: {table_names: [silver.positive]}
            sql_condition: {sql: large.sql, trigger_mode: QUERY_RETURNS_ROWS}
        tasks: [{task_key: note, sql: note.sql}]
        """,
    "if_large/large.sql": "SELECT n FROM silver.positive WHERE n > 100",
    "if_large/note.sql": "SELECT 1 AS noted",
}
CLOCK = {
    "ticks/job.yml": """
        name: ticks
        triggers:
          - periodic: {interval: 1, unit: SECONDS}
          - schedule: {quartz_cron_expression: "* * * * * ?", timezone_id: UTC}
          - schedule: {cron: "* * * * *"}
            pause_status: PAUSED
        tasks: [{task_key: note, sql: note.sql, parameters: {at: "{{job.trigger.time.timestamp_ms}}"}}]
        """,
    "ticks/note.sql": """
        CREATE TABLE IF NOT EXISTS silver.ticks (at_ms VARCHAR);
        INSERT INTO silver.ticks VALUES ($at)
        """,
}


def count(daemon: LandingdProcess, job: str) -> int:
    return len(daemon.ledger("SELECT 1 FROM runs WHERE job = ? AND result = 'SUCCESS'", (job,)))


def counts(daemon: LandingdProcess) -> dict[str, int]:
    return {job: count(daemon, job) for job in ("by_table", "by_both", "by_job", "by_failure", "if_large")}


def has_said(daemon: LandingdProcess, job: str, why: str) -> bool:
    """Whether the job's trigger has held back with these words."""
    (trigger,) = daemon.get(f"/v1/triggers/{job}")["triggers"]
    return any(one["outcome"] == "NOT_TRIGGERED" and why in one["description"] for one in trigger["history"])


def test_tables_that_change_runs_that_end_and_conditions_start_other_jobs(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", CHAIN, broker_port=broker.port) as daemon:
        daemon.drop("in/1.csv", "n\n1\n2\n")
        expected = {"by_table": 1, "by_both": 0, "by_job": 1, "by_failure": 0, "if_large": 0}
        daemon.until(lambda: counts(daemon) == expected and has_said(daemon, "if_large", "no rows"))
        assert daemon.query("FROM gold.by_table") == [{"total": 3, "tables": '["silver.positive"]'}]
        daemon.until(lambda: has_said(daemon, "by_both", "waits for silver.other"))

        daemon.cli("run", "other")
        daemon.drop("in/2.csv", "n\n200\n")
        expected = {"by_table": 2, "by_both": 1, "by_job": 2, "by_failure": 0, "if_large": 1}
        daemon.until(lambda: counts(daemon) == expected)

        daemon.drop("in/3.csv", "n\n13\n")  # bronze takes it, and silver fails of it
        expected["by_failure"] = 1
        daemon.until(lambda: counts(daemon) == expected and not daemon.open_runs())

        runs = {run["job"]: run for run in reversed(daemon.cli("runs", "-n", "100"))}  # each job's newest
        triggers = {job: runs[job]["trigger"] for job in expected}
        assert triggers == dict.fromkeys(expected, "TABLE") | {
            "by_job": "JOB_COMPLETION",
            "by_failure": "JOB_COMPLETION",
        }
        assert runs["by_failure"]["trigger_info"] == {"job_completion": {"runs": {"source": runs["source"]["run_id"]}}}
        assert b"silver.positive (version 2" in daemon.run("triggers", "by_table").stdout
        ear.until(lambda: len(ear.events("run_finished")) == len(daemon.ledger("SELECT 1 FROM runs")))
        told = {(event["job"], event["trigger_name"]) for event in ear.events("run_started")}
        assert {("by_table", "table_update"), ("by_job", "job_completion"), ("source", "file_arrival")} <= told


def test_the_clock_starts_runs_every_second_each_time_once(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", CLOCK) as daemon:
        by_trigger = "SELECT trigger_name, count(*) AS n FROM runs WHERE result = 'SUCCESS' GROUP BY 1"

        def ticked() -> dict[str, int]:
            return {row["trigger_name"]: row["n"] for row in daemon.ledger(by_trigger)}

        daemon.until(lambda: min([ticked().get(name, 0) for name in ("periodic", "schedule")]) >= 2)
        told = {one["trigger"]: one for one in daemon.cli("triggers", "ticks")["triggers"]}
        assert told["schedule-2"]["paused_because"] == "the trigger is paused, by the job file"
        assert told["schedule"]["next_fire_time"] > told["schedule"]["last_triggered"]["timestamp"][:19]
        daemon.cli("pause", "ticks")
        daemon.until(lambda: not daemon.open_runs())
        runs = daemon.ledger("SELECT trigger_type, trigger_name, trigger_info ->> '$.time_s' AS at_s FROM runs")
        assert {row["trigger_type"] for row in runs} == {"PERIODIC"}
        assert {row["trigger_name"] for row in runs} == {"periodic", "schedule"}
        of_schedule = [row["at_s"] for row in runs if row["trigger_name"] == "schedule"]
        assert len(set(of_schedule)) == len(of_schedule)
        assert all(at_s == int(at_s) for at_s in of_schedule)
        wrote = {row["at_ms"] for row in daemon.query("SELECT DISTINCT at_ms FROM silver.ticks")}
        assert {str(int(at_s * 1000)) for at_s in of_schedule} <= wrote
