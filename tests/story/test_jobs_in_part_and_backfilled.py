"""A part of a job is run again, and a job is run for days that are gone, over and over until all of them are well."""

from pathlib import Path

from brokers import Mosquitto
from daemons import LandingdProcess, attempts, results
from listening import Subscriber

DAILY = {
    "daily/job.yml": """
        name: daily
        parameters:
          - {name: day, type: date, default: "2026-10-01"}
          - {name: shop, default: west, choices: [west, east]}
        tasks:
          - {task_key: bronze, sql: bronze.sql, table: bronze.daily}
          - {task_key: silver, depends_on: [{task_key: bronze}], sql: silver.sql, table: silver.daily}
          - {task_key: gold, depends_on: [{task_key: silver}], sql: gold.sql}
          - {task_key: report, depends_on: [{task_key: gold}], sql: report.sql, table: gold.report}
          - {task_key: beside, depends_on: [{task_key: bronze}], sql: beside.sql, table: gold.beside}
        """,
    "daily/bronze.sql": "SELECT CAST($run_id AS BIGINT) AS run",
    "daily/silver.sql": "SELECT run FROM bronze.daily",
    "daily/gold.sql": """
        CREATE TABLE IF NOT EXISTS gold.days (day VARCHAR, shop VARCHAR, run BIGINT);
        INSERT INTO gold.days
        SELECT CASE $day WHEN '2026-10-03' THEN error('there is no 3 October') ELSE $day END, $shop, run
        FROM silver.daily
        """,
    "daily/report.sql": "SELECT count(*) AS days FROM gold.days",
    "daily/beside.sql": "SELECT count(*) AS n FROM bronze.daily",
}
HEALED = {"daily/gold.sql": "INSERT INTO gold.days SELECT $day, $shop, run FROM silver.daily"}
FIVE_DAYS = ("--param", "day", "--from", "2026-10-01", "--to", "2026-10-05", "--every", "1d", "-p", "shop=east")
DAYS = [f"2026-10-0{n}" for n in range(1, 6)]


def test_only_a_task_and_what_is_behind_it_or_before_it_runs(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", DAILY) as daemon:
        assert set(results(daemon.cli("run", "daily")).values()) == {"SUCCESS"}
        part = daemon.cli("run", "daily", "--only", "silver+")
        assert results(part) == dict.fromkeys(["silver", "gold", "report"], "SUCCESS")
        assert part["only"] == ["silver+"]
        assert daemon.query("SELECT run FROM gold.days") == [{"run": 1}, {"run": 1}], "bronze is as it was"
        before = daemon.cli("run", "daily", "--only", "+silver", "--only", "beside")
        assert set(results(before)) == {"bronze", "silver", "beside"}
        assert daemon.value("SELECT run FROM silver.daily") == before["run_id"]
        assert b"silvr" in daemon.run("run", "daily", "--only", "silvr+", exit_code=65).stderr
        assert len(daemon.cli("runs")) == 3


def test_five_days_are_filled_in_and_the_one_that_failed_alone_runs_again(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", DAILY, broker_port=broker.port) as daemon:
        filled = daemon.cli("backfill", "daily", *FIVE_DAYS, "--id", "october", exit_code=1)
        assert filled["ended"]["runs"] == {"FAILED": 1, "SUCCESS": 4}
        (failed,) = filled["ended"]["failed"]
        assert (failed["value"], "there is no 3 October" in failed["error"]) == ("2026-10-03", True)
        by_day = {run["value"]: run["run_id"] for run in filled["runs"]}
        assert list(by_day) == DAYS

        daemon.write(HEALED)
        daemon.cli("reload")
        again = daemon.cli("backfill", "daily", *FIVE_DAYS, "--id", "october", "--rerun-failed")
        assert (again["repaired"], again["ended"]["runs"]) == ([failed["run_id"]], {"SUCCESS": 5})
        assert {run["value"]: run["run_id"] for run in again["runs"]} == by_day
        runs = {run["parameters"]["day"]: run for run in daemon.cli("runs")}
        assert sorted(runs) == DAYS
        assert {day: run["repairs"] for day, run in runs.items()} == dict.fromkeys(DAYS, 0) | {"2026-10-03": 1}
        assert {(run["trigger"], run["parameters"]["shop"]) for run in runs.values()} == {("BACKFILL", "east")}
        third = attempts(daemon.get(f"/v1/runs/{failed['run_id']}"))
        assert [third[key].count("committed") for key in ("bronze", "silver", "gold", "report")] == [1] * 4
        stored = daemon.query("SELECT day, shop FROM gold.days ORDER BY day")
        assert stored == [{"day": day, "shop": "east"} for day in DAYS]
        ear.until(lambda: [end["result"] for end in ear.events("run_finished")].count("SUCCESS") == 5)
