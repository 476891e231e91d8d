"""Jobs that have nothing to do do nothing, and jobs that cannot be are refused before they do anything."""

import time
from pathlib import Path
from typing import Any

from brokers import Mosquitto
from daemons import LandingdProcess, orders
from listening import Subscriber

WATCHED_S = 3.0

AT_REST = {
    "stream/job.yml": """
        name: stream
        continuous: {path: in}
        tasks: [{task_key: bronze, ingest: {}, table: bronze.orders}]
        """,
    "behind/job.yml": """
        name: behind
        continuous: {pause_status: UNPAUSED}
        tasks: [{task_key: gold, sql: gold.sql, table: gold.orders}]
        """,
    "behind/gold.sql": "SELECT count(*) AS orders FROM bronze.orders",
    "nightly/job.yml": """
        name: nightly
        triggers:
          - schedule: {quartz_cron_expression: "0 0 2 1 JAN ? 2099", timezone_id: Europe/Berlin}
          - periodic: {interval: 4, unit: WEEKS}
          - job_completion: {jobs: [nobody]}
        tasks: [{task_key: gold, sql: gold.sql, table: gold.nightly}]
        """,
    "nightly/gold.sql": "SELECT 1 AS one",
    "nobody/job.yml": """
        name: nobody
        tasks: [{task_key: gold, sql: gold.sql, table: gold.nobody}]
        """,
    "nobody/gold.sql": "SELECT 1 AS one",
}
SOUND = {
    "sound/job.yml": """
        name: sound
        parameters: [{name: month, widget: dropdown, choices: [Oct, Nov], default: Oct}]
        schedule: {quartz_cron_expression: "0 0 2 * * ?", timezone_id: Europe/Berlin}
        tasks:
          - {task_key: bronze, sql: one.sql, table: bronze.one}
          - {task_key: gold, depends_on: [{task_key: bronze}], sql: gold.sql, table: gold.one}
        """,
    "sound/one.sql": "SELECT $month AS month",
    "sound/gold.sql": "SELECT month FROM bronze.one",
}
UNSOUND = {
    "unsound/job.yml": """
        name: unsound
        parameters: [{name: month, choices: [Oct, Nov], default: Dec}]
        schedule: {quartz_cron_expression: "0 0 25 * * ?", timezone_id: Europe/Brelin}
        job_clusters: [{job_cluster_key: small}]
        tasks:
          - {task_key: bronze, sql: one.sql, table: bronze.two}
          - {task_key: silver, depends_on: [{task_key: bronz}], sql: silver.sql, table: silver.two}
          - {task_key: gold, sql: gold.sql, table: gold.two, existing_cluster_id: abc}
          - {task_key: loop, for_each_task: {inputs: "{{tasks.nobody.values.x}}", task: {task_key: i, sql: one.sql}}}
        """,
    "unsound/one.sql": "SELECT $month AS month",
    "unsound/silver.sql": "SELECT moth FROM bronze.two",
    "unsound/gold.sql": "SELECT 1 AS one",
}


def books(daemon: LandingdProcess) -> dict[str, int]:
    """How much is in the ledger of what runs and what starts them."""
    tables = ("runs", "tasks", "attempts", "files", "outbox", "alerts")
    found = {table: daemon.ledger(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}
    history = daemon.ledger("SELECT coalesce(sum(times), 0) AS n FROM trigger_history")
    return found | {"evaluations": history[0]["n"]}


def test_jobs_that_are_always_on_or_wait_for_their_hour_start_no_run_without_work(
    tmp_path: Path, broker: Mosquitto
) -> None:
    env = {"LANDING__SCAN_INTERVAL_SECONDS": "0.5"}
    with (
        Subscriber(broker.port) as ear,
        LandingdProcess(tmp_path / "base", AT_REST, broker_port=broker.port, env=env) as daemon,
    ):
        daemon.drop("in/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        behind = "SELECT 1 FROM runs WHERE job = 'behind' AND result = 'SUCCESS'"
        daemon.until(lambda: daemon.ledger(behind) and daemon.query("FROM gold.orders") == [{"orders": 1}])
        daemon.until(lambda: not daemon.open_runs() and not daemon.ledger("SELECT 1 FROM outbox"))
        daemon.drop("in/same.csv", orders((1, "ada", 1)))  # looked at, and no work
        daemon.until(lambda: daemon.file_counts().get("duplicate"))
        daemon.until(lambda: not daemon.ledger("SELECT 1 FROM outbox"))
        before, told = books(daemon), len(ear.events())
        time.sleep(WATCHED_S)  # what does not happen raises no signal
        assert books(daemon) == before
        assert len(ear.events()) == told
        assert {run["job"] for run in daemon.cli("runs")} == {"stream", "behind"}

        daemon.drop("in/b.csv", orders((2, "bob", 2)))
        daemon.until(lambda: daemon.query("FROM gold.orders") == [{"orders": 2}])


def test_validate_takes_what_is_sound_and_says_all_that_is_not_in_one_go(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base", SOUND)
    assert daemon.cli("validate") == {"valid": True, "unbound": []}
    daemon.write(UNSOUND)
    told: dict[str, Any] = daemon.cli("validate", exit_code=1)
    assert not told["valid"]
    said = daemon.run("validate", exit_code=1).stderr.decode()
    for line, words in (
        (2, "'Dec'"),
        (3, "25"),
        (3, "Europe/Brelin"),
        (4, "job_clusters"),
        (7, "bronz"),
        (8, "existing_cluster_id"),
        (9, "nobody"),
    ):
        assert any(
            problem["file"].endswith("unsound/job.yml") and problem["line"] == line and words in problem["error"]
            for problem in told["problems"]
        ), (line, words, told["problems"])
        assert words in said
    assert all(hint in said for hint in ("did you mean 'Europe/Berlin'?", "did you mean 'bronze'?"))
    assert any("moth" in problem["error"] for problem in told["problems"])
    refused = daemon.run("serve", exit_code=78).stderr.decode()
    assert "job_clusters" in refused
    assert not (daemon.state / "ledger.sqlite").exists() or daemon.ledger("SELECT 1 FROM runs") == []
