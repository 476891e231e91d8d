"""Jobs that decide, repeat, call other jobs and Python, and clean up; and what their tasks tell each other."""

from pathlib import Path
from typing import Any

from brokers import Mosquitto
from daemons import LandingdProcess, results
from listening import Subscriber

CHOOSE = {
    "choose/job.yml": """
        name: choose
        parameters: [{name: orders, default: "5", type: integer, min: 0}]
        tasks:
          - {task_key: count, sql: count.sql}
          - task_key: many
            depends_on: [{task_key: count}]
            condition_task: {op: GREATER_THAN, left: "{{tasks.count.values.n}}", right: "3"}
          - {task_key: large, depends_on: [{task_key: many, outcome: "true"}], sql: taken.sql}
          - {task_key: small, depends_on: [{task_key: many, outcome: "false"}], sql: taken.sql}
          - {task_key: after_small, depends_on: [{task_key: small}], sql: taken.sql}
          - {task_key: both, depends_on: [{task_key: large}, {task_key: after_small}], sql: taken.sql}
        """,
    "choose/count.sql": "SELECT CAST($orders AS INTEGER) AS n",
    "choose/taken.sql": "SELECT true AS taken",
}
LOOP = {
    "loop/job.yml": """
        name: loop
        tasks:
          - {task_key: table, sql: table.sql}
          - task_key: rows
            depends_on: [{task_key: table}]
            for_each_task:
              inputs: ["a", "b", "c"]
              concurrency: 2
              task:
                task_key: row
                sql: row.sql
                parameters: {item: "{{input}}", of: "{{task.name}}"}
          - task_key: meetings
            for_each_task:
              inputs: '["a", "b", "c"]'
              concurrency: 2
              task:
                task_key: meeting
                spark_python_task: {python_file: meeting.py, parameters: ["{{input}}"]}
          - {task_key: gold, depends_on: [{task_key: rows}, {task_key: meetings}], sql: gold.sql, table: gold.items}
        """,
    "loop/table.sql": "CREATE OR REPLACE TABLE silver.items (item VARCHAR NOT NULL, written_by VARCHAR)",
    "loop/row.sql": "INSERT INTO silver.items VALUES ($item, $of); SELECT $item AS wrote",
    "loop/meeting.py": """
        import json, os, pathlib, sys, time

        here, me = pathlib.Path(__file__).parent, sys.argv[1]
        (here / f"{me}.came").touch()
        deadline_s = time.monotonic() + 60
        while len(list(here.glob("*.came"))) < 2:  # alone it would wait in vain
            if time.monotonic() > deadline_s:
                sys.exit("nobody came")
            time.sleep(0.01)
        pathlib.Path(os.environ["LANDINGD_VALUES"]).write_text(json.dumps({"met": me.upper()}))
        """,
    "loop/gold.sql": "SELECT list(item ORDER BY item) AS items FROM silver.items",
}
FRAGILE = {
    "fragile/job.yml": """
        name: fragile
        parameters: [{name: broken, default: b}]
        tasks:
          - {task_key: inputs, sql: inputs.sql}
          - task_key: each
            depends_on: [{task_key: inputs}]
            for_each_task:
              inputs: "{{tasks.inputs.output.rows}}"
              concurrency: 3
              task: {task_key: one, sql: one.sql, parameters: {item: "{{input.item}}"}}
          - {task_key: after, depends_on: [{task_key: each}], sql: after.sql}
        """,
    "fragile/inputs.sql": "SELECT unnest(['a', 'b', 'c']) AS item, 1 AS n",
    "fragile/one.sql": """
        CREATE TABLE IF NOT EXISTS gold.parts (item VARCHAR);
        INSERT INTO gold.parts SELECT CASE $item WHEN $broken THEN error('this one is broken') ELSE $item END
        """,
    "fragile/after.sql": "SELECT list(item ORDER BY item) AS items FROM gold.parts",
}
TALK = {
    "talk/job.yml": """
        name: talk
        tasks:
          - {task_key: pick, python_task: {file: pick.py}}
          - task_key: script
            depends_on: [{task_key: pick}]
            spark_python_task: {python_file: script.py, parameters: ["{{tasks.pick.values.month}}"]}
          - task_key: monthly
            depends_on: [{task_key: script}]
            run_job_task:
              job_name: monthly
              job_parameters: {month: "{{tasks.pick.values.month}}", factor: "{{tasks.script.values.factor}}"}
          - task_key: gold
            depends_on: [{task_key: monthly}]
            sql: gold.sql
            table: gold.talk
            parameters:
              letters: "{{tasks.script.values.letters}}"
              inner: "{{tasks.monthly.run_id}}"
        """,
    "talk/pick.py": """
        def main(ctx):
            ctx.sql("CREATE OR REPLACE TABLE silver.months AS SELECT unnest(['Oct', 'Nov']) AS month")
            (row,) = ctx.sql("SELECT min(month) AS month FROM silver.months")
            ctx.values["month"] = row["month"]
        """,
    "talk/script.py": """
        import json, os, sys

        with open(os.environ["LANDINGD_VALUES"], "w") as file:
            json.dump({"letters": len(sys.argv[1]), "factor": 7}, file)
        """,
    "talk/gold.sql": """
        SELECT month, product, CAST($letters AS INTEGER) AS letters
        FROM silver.monthly JOIN silver.months USING (month)
        """,
    "monthly/job.yml": """
        name: monthly
        parameters: [{name: month, default: Oct, choices: [Oct, Nov]}, {name: factor, default: "1"}]
        tasks: [{task_key: table, sql: table.sql, table: silver.monthly}]
        """,
    "monthly/table.sql": "SELECT $month AS month, 6 * CAST($factor AS INTEGER) AS product",
}
CLEANING = {
    "cleaning/job.yml": """
        resources:
          jobs:
            lenient:
              name: lenient
              tasks: &tasks
                - {task_key: wrong, sql: wrong.sql}
                - {task_key: behind, depends_on: [{task_key: wrong}], sql: cleanup.sql}
                - {task_key: cleanup, depends_on: [{task_key: behind}], run_if: ALL_DONE, sql: cleanup.sql}
                - {task_key: sorry, depends_on: [{task_key: wrong}], run_if: AT_LEAST_ONE_FAILED, sql: cleanup.sql}
            strict:
              name: strict
              strict: true
              tasks: *tasks
        """,
    "cleaning/wrong.sql": "SELECT error('no luck') AS n",
    "cleaning/cleanup.sql": """
        CREATE TABLE IF NOT EXISTS gold.cleaned (run VARCHAR);
        INSERT INTO gold.cleaned VALUES ('cleaned')
        """,
}


def task(run: dict[str, Any], task_key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in run["tasks"] if one["task_key"] == task_key)
    return found


def test_a_condition_takes_one_side_and_excludes_the_other(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", CHOOSE, broker_port=broker.port) as daemon:
        true = daemon.cli("run", "choose")
        false = daemon.cli("run", "choose", "-p", "orders=3")
        assert (true["result"], false["result"]) == ("SUCCESS", "SUCCESS")
        taken = {"count": "SUCCESS", "many": "SUCCESS", "both": "SUCCESS"}
        assert results(true) == taken | {"large": "SUCCESS", "small": "EXCLUDED", "after_small": "EXCLUDED"}
        assert results(false) == taken | {"large": "EXCLUDED", "small": "SUCCESS", "after_small": "SUCCESS"}
        assert [task(run, "many")["output"]["condition"] for run in (true, false)] == ["true", "false"]
        assert task(true, "small")["attempts"] == []
        assert b"EXCLUDED" in daemon.run("show", "1").stdout
        ear.until(lambda: len(ear.events("run_finished")) == 2)
        told = {e["task_key"]: e["result"] for e in ear.events("task_finished") if e["run_id"] == true["run_id"]}
        assert told == results(true)
        refused = daemon.run("run", "choose", "-p", "orders=many", exit_code=65).stderr
        assert b"orders" in refused


def test_a_loop_runs_its_task_for_each_input_two_at_a_time(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", LOOP) as daemon:
        run = daemon.cli("run", "loop")
        assert run["result"] == "SUCCESS"
        assert daemon.query("FROM gold.items") == [{"items": ["a", "b", "c"]}]
        assert daemon.query("SELECT item, written_by FROM silver.items ORDER BY item") == [
            {"item": item, "written_by": f"rows[{n}]"} for n, item in enumerate("abc")
        ]
        for loop, values in (("rows", [{"wrote": item} for item in "abc"]), ("meetings", [{"met": i} for i in "ABC"])):
            assert task(run, loop)["iterations"] == {
                "concurrency": 2,
                "total": 3,
                "active": 0,
                "completed": 3,
                "succeeded": 3,
                "failed": 0,
                "errors": [],
            }
            each = [task(run, f"{loop}[{n}]") for n in range(3)]
            assert [one["input"] for one in each] == ["a", "b", "c"]
            assert [one["output"]["values"] for one in each] == values
            assert most_at_once(daemon, f"{loop}[%") <= 2


def most_at_once(daemon: LandingdProcess, like: str) -> int:
    """How many of these attempts were under way at the same time."""
    spans = daemon.ledger("SELECT started_at_s AS b, ended_at_s AS e FROM attempts WHERE task_key LIKE ?", (like,))
    return max(sum(other["b"] <= one["b"] < other["e"] for other in spans) for one in spans)


def test_of_a_loop_only_the_iteration_that_failed_is_repaired(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", FRAGILE) as daemon:
        failed = daemon.cli("run", "fragile", exit_code=1)
        ends = {"inputs": "SUCCESS", "each[0]": "SUCCESS", "each[1]": "SUCCESS", "each[2]": "SUCCESS"}
        assert results(failed) == ends | {"each": "FAILED", "each[1]": "FAILED", "after": "UPSTREAM_FAILED"}
        assert "1 of 3 iterations did not succeed: each[1]" in failed["error"]
        assert task(failed, "each[1]")["input"] == {"item": "b", "n": 1}
        repaired = daemon.cli("repair", str(failed["run_id"]), "-p", "broken=none")
        assert results(repaired) == ends | {"each": "SUCCESS", "after": "SUCCESS"}
        again = [one["task_key"] for one in repaired["tasks"] for a in one["attempts"] if a["repair"] == 1]
        assert sorted(again) == ["after", "each", "each[1]"]
        assert task(repaired, "after")["output"]["values"] == {"items": ["a", "b", "c"]}


def test_tasks_tell_each_other_values_from_python_scripts_sql_and_other_jobs(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", TALK) as daemon:
        run = daemon.cli("run", "talk")
        assert run["result"] == "SUCCESS", run["error"]
        assert daemon.query("FROM gold.talk") == [{"month": "Nov", "product": 42, "letters": 3}]
        inner = daemon.cli("show", str(task(run, "monthly")["output"]["run_id"]))
        assert (inner["job"], inner["trigger"], inner["parameters"]) == (
            "monthly",
            "RUN_JOB_TASK",
            {"month": "Nov", "factor": "7"},
        )
        assert inner["parent"] == {"run_id": run["run_id"], "task_key": "monthly"}
        (attempt,) = task(run, "gold")["attempts"]
        assert attempt["parameters"]["letters"] == "3"


def test_a_cleanup_runs_after_a_failure_and_strict_says_whether_the_run_has_failed(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", CLEANING) as daemon:
        lenient = daemon.cli("run", "lenient")
        strict = daemon.cli("run", "strict", exit_code=1)
        assert (lenient["result"], strict["result"]) == ("SUCCESS_WITH_FAILURES", "FAILED")
        ends = {"wrong": "FAILED", "behind": "UPSTREAM_FAILED", "cleanup": "SUCCESS", "sorry": "SUCCESS"}
        assert results(lenient) == results(strict) == ends
        assert daemon.value("SELECT count(*) FROM gold.cleaned") == 4
