"""Runs at the command line: asked for in parts, canceled, repaired, paused, filled in afterwards; and what is told."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import LANDINGD, WAIT_TIMEOUT_S, LandingdProcess, orders, results

pytestmark = pytest.mark.timeout(300)  # each verb is a process, and the machine may be busy

NIGHTLY = {
    "nightly/job.yml": """
        name: nightly
        parameters:
          - {name: month, default: Oct, choices: [Oct, Nov]}
          - {name: day, default: "2026-10-01"}
        schedule: {quartz_cron_expression: "0 0 2 * * ?", timezone_id: Europe/Berlin}
        tasks:
          - {task_key: first, sql: first.sql, table: silver.first}
          - {task_key: second, depends_on: [{task_key: first}], sql: second.sql, table: gold.second}
        """,
    "nightly/first.sql": "SELECT $month AS month, $day AS day",
    "nightly/second.sql": """
        SELECT day, CASE $month WHEN 'Nov' THEN error('there is no data for Nov') ELSE $month END AS month
        FROM silver.first
        """,
    "slow/job.yml": """
        name: slow
        queue: {enabled: true}
        tasks: [{task_key: count, sql: count.sql, table: gold.count}]
        """,
    "slow/count.sql": "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3",
}
BUNDLE = """
bundle: {name: shop}
variables:
  tz: {default: UTC}
resources:
  jobs:
    daily:
      name: daily
      schedule: {quartz_cron_expression: "0 0 2 * * ?", timezone_id: "${var.tz}"}
      tasks: [{task_key: a, sql: a.sql, table: gold.a}]
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LandingdProcess]:
    with LandingdProcess(tmp_path / "base", NIGHTLY) as daemon:
        yield daemon


def complaint(daemon: LandingdProcess, *arguments: str, exit_code: int) -> str:
    """What it says on standard error, which is never a traceback."""
    said = daemon.run(*arguments, exit_code=exit_code).stderr.decode()
    assert said.strip(), arguments
    assert "Traceback" not in said, said
    return said


def text(daemon: LandingdProcess, *arguments: str, exit_code: int = 0) -> str:
    return daemon.run(*arguments, exit_code=exit_code).stdout.decode()


def slow_run(daemon: LandingdProcess) -> int:
    """A run that is at work and does not end by itself."""
    run_id = int(daemon.cli("run", "slow", "--no-wait")["run_id"])
    daemon.until(lambda: daemon.ledger("SELECT 1 FROM attempts WHERE run_id = ?", (run_id,)))
    return run_id


# --- who reads ---------------------------------------------------------------------------------------------------


def test_a_reader_of_a_pipe_that_leaves_is_told_apart_from_a_failure_and_nothing_is_said(
    daemon: LandingdProcess,
) -> None:
    daemon.cli("run", "nightly")
    for arguments in (["show", "1"], ["show", "1", "--json"], ["runs"], ["runs", "--json"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [LANDINGD, *arguments], env=daemon.env, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b""), arguments


@pytest.mark.parametrize("arguments", [["runs"], ["runs", "--json"], ["show", "1"], ["status"]])
def test_a_disk_that_is_full_is_one_line_and_74(daemon: LandingdProcess, arguments: list[str]) -> None:
    daemon.cli("run", "nightly")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [LANDINGD, *arguments], env=daemon.env, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (74, b"landingd: standard output: No space left on device\n")


# --- run and repair ---------------------------------------------------------------------------------------------


def test_a_failed_run_is_repaired_from_where_it_failed_and_everything_tells_of_it(daemon: LandingdProcess) -> None:
    failed = daemon.cli("run", "nightly", "-p", "month=Nov", exit_code=1)
    assert results(failed) == {"first": "SUCCESS", "second": "FAILED"}
    assert f"landingd repair {failed['run_id']}" in text(daemon, "show", "1")

    said = text(daemon, "repair", "1", "-p", "month=Oct", "--latest-repair-id", "0")
    assert "repair 1: second again" in said
    run = daemon.cli("show", "1")
    assert (run["result"], run["repairs"], run["parameters"]["month"]) == ("SUCCESS", 1, "Oct")
    assert [repair["result"] for repair in run["repair_history"]] == ["SUCCESS"]
    complaint(daemon, "repair", "1", "--latest-repair-id", "0", "--task", "second", exit_code=65)
    assert "second" in text(daemon, "repair", "1", "--latest-repair-id", "1", "--task", "second")

    matrix = daemon.cli("runs", "nightly", "--matrix")
    second = next(task for task in matrix["tasks"] if task["task_key"] == "second")
    assert [cell["result"] for cell in second["cells"]] == ["FAILED", "SUCCESS", "SUCCESS"]
    shown = text(daemon, "runs", "nightly", "--matrix")
    assert all(word in shown for word in ("↻1", "↻2", "✗", "■", "failed"))
    assert "┊" in text(daemon, "show", "1")
    (row,) = daemon.ledger("SELECT * FROM job_run_timeline")
    assert (row["job_name"], row["result_state"], row["repairs"]) == ("nightly", "SUCCESS", 2)
    # Small runs are first tried in one transaction; where that is rolled back, it is an attempt that was interrupted.
    sql = "SELECT result_state FROM job_task_run_timeline WHERE task_key = 'second' AND outcome <> 'interrupted'"
    assert [row["result_state"] for row in daemon.ledger(f"{sql} ORDER BY attempt")] == ["FAILED", "SUCCESS", "SUCCESS"]


def test_a_part_of_a_job_runs_alone_beside_a_daemon_and_without_one(daemon: LandingdProcess) -> None:
    assert results(daemon.cli("run", "nightly", "--only", "first")) == {"first": "SUCCESS"}
    again = daemon.cli("run", "nightly", "--request-id", "42", "--no-wait")
    assert daemon.cli("run", "nightly", "--request-id", "42", "--no-wait")["run_id"] == again["run_id"]
    daemon.ended(again["run_id"])
    daemon.stop()
    assert results(daemon.cli("run", "nightly", "--only", "second")) == {"second": "SUCCESS"}
    failed = daemon.cli("run", "nightly", "-p", "month=Nov", exit_code=1)
    repaired = daemon.cli("repair", str(failed["run_id"]), "-p", "month=Oct")
    assert (repaired["result"], repaired["repairs"]) == ("SUCCESS", 1)


def test_what_cannot_be_done_is_one_line_with_a_hint(daemon: LandingdProcess) -> None:
    daemon.cli("run", "nightly")
    for arguments, exit_code, words in (
        (["run", "nightl"], 66, ["nightl", "nightly"]),
        (["run", "nightly", "-p", "month"], 65, ["month", "name=value"]),
        (["run", "nightly", "-p", "month=\udcff"], 65, ["no text"]),
        (["pause", "night\udcff"], 66, ["no job", "night"]),
        (["run", "nightly", "-p", "month=Oct", "-p", "month=Nov"], 65, ["month", "two values", "Oct", "Nov"]),
        (["run", "nightly", "-p", "month=Dec"], 65, ["month", "Dec", "Oct"]),
        (["run", "nightly", "--only", "secnd"], 65, ["secnd"]),
        (["repair", "1"], 65, ["nothing to repair"]),
        (["repair", "1", "--task", "first", "--all-failed"], 65, ["not both"]),
        (["repair", "1", "--latest-repair-id", "7"], 65, ["latest repair"]),
        (["cancel"], 65, ["cancel which", "landingd cancel RUN"]),
        (["cancel", "1"], 65, ["ended"]),
        (["cancel", "99"], 66, ["99"]),
        (["cancel", "1", "--queued-only"], 65, ["--job"]),
        (["cancel", "--job", "nightl"], 66, ["nightly"]),
        (["pause", "nightly", "--trigger", "shedule"], 66, ["shedule", "schedule"]),
        (["triggers", "nightl"], 66, ["nightly"]),
        (["runs", "--matrix"], 65, ["landingd runs JOB --matrix"]),
        (["runs", "nightl", "--matrix"], 66, ["nightly"]),
        (["validate", "--target", "dev"], 65, ["--bundle"]),
    ):
        said = complaint(daemon, *arguments, exit_code=exit_code)
        assert all(word in said for word in words), (arguments, said)
        assert len(said.splitlines()) <= 2, said


# --- cancel, queue ----------------------------------------------------------------------------------------------


def test_runs_wait_in_the_queue_and_are_canceled_there_and_at_work(daemon: LandingdProcess) -> None:
    going = slow_run(daemon)
    waits = daemon.cli("run", "slow", "--no-wait")["run_id"]
    (queued,) = daemon.cli("queue")
    assert (queued["run_id"], queued["waits_for"]) == (waits, f"run {going} to end (max_concurrent_runs: 1)")
    assert f"run {going} to end" in text(daemon, "queue")
    skipped = daemon.cli("run", "slow", "--no-queue", exit_code=1)
    assert skipped["result"] == "MAXIMUM_CONCURRENT_RUNS_REACHED"

    assert daemon.cli("cancel", "--job", "slow", "--queued-only") == {"job": "slow", "runs": [waits]}
    asked_s = time.monotonic()
    assert "being canceled" in text(daemon, "cancel", str(going))
    assert daemon.ended(going)["result"] == "CANCELED"
    assert time.monotonic() - asked_s < WAIT_TIMEOUT_S
    assert text(daemon, "queue").strip() == "nothing waits"
    states = {row["run_id"]: row["result_state"] for row in daemon.ledger("SELECT * FROM job_run_timeline")}
    assert states == {going: "CANCELED", waits: "CANCELED", skipped["run_id"]: "SKIPPED"}


def test_what_a_daemon_left_behind_is_canceled_without_one(daemon: LandingdProcess) -> None:
    slow_run(daemon)
    waits = daemon.cli("run", "slow", "--no-wait")["run_id"]
    daemon.kill()
    assert daemon.cli("cancel", str(waits))["state"] == "TERMINATED"
    assert len(daemon.cli("cancel", "--job", "slow")["runs"]) == 1
    assert daemon.open_runs() == []


# --- pause, triggers --------------------------------------------------------------------------------------------


def test_a_pause_outlives_the_daemon_and_a_resume_ends_it(daemon: LandingdProcess) -> None:
    def paused() -> dict[str, bool]:
        return {job["job"]: job["paused"] for job in daemon.cli("jobs")}

    assert "paused" in text(daemon, "pause", "nightly")
    assert paused() == {"nightly": True, "slow": False}
    daemon.stop()
    assert paused() == {"nightly": True, "slow": False}
    daemon.cli("resume", "nightly")
    daemon.cli("pause", "nightly", "--trigger", "schedule")
    assert paused() == {"nightly": False, "slow": False}
    daemon.start()
    told = daemon.cli("triggers", "nightly")
    assert [(one["trigger"], one["paused"]) for one in told["triggers"]] == [("schedule", True)]
    assert "on request" in text(daemon, "triggers", "nightly")
    assert daemon.cli("resume", "nightly", "--trigger", "schedule")["paused_triggers"] == []
    assert "Europe/Berlin" in text(daemon, "triggers", "nightly")


def test_the_reading_verbs_say_the_same_with_and_without_a_daemon(daemon: LandingdProcess) -> None:
    verbs = (["jobs"], ["queue"], ["runs", "nightly", "--matrix"], ["triggers", "nightly"], ["alerts"])

    def told() -> list[Any]:
        return [daemon.cli(*verb) for verb in verbs]

    daemon.cli("run", "nightly")
    before = told()
    daemon.stop()
    assert told() == before
    for verb in verbs:
        assert text(daemon, *verb).strip(), verb


# --- backfill ---------------------------------------------------------------------------------------------------


def test_a_backfill_runs_once_for_each_value_and_needs_the_daemon(daemon: LandingdProcess) -> None:
    asked = ["backfill", "nightly", "--param", "day", "--from", "2026-10-01", "--to", "2026-10-03", "--every", "1d"]
    dry = daemon.cli(*asked, "--dry-run")
    assert [run["value"] for run in dry["runs"]] == ["2026-10-01", "2026-10-02", "2026-10-03"]
    assert daemon.cli("runs") == []
    done = daemon.cli(*asked)
    assert (done["ended"]["runs"], done["ended"]["done"]) == ({"SUCCESS": 3}, True)
    assert sorted(run["parameters"]["day"] for run in daemon.cli("runs")) == ["2026-10-01", "2026-10-02", "2026-10-03"]
    again = daemon.cli(*asked, "--no-wait")
    assert all(run["known"] for run in again["runs"])
    assert "3 SUCCESS" in text(daemon, *asked)
    assert "day" in complaint(daemon, *asked[:3], "dya", *asked[4:], exit_code=65)
    daemon.stop()
    assert "landingd serve" in complaint(daemon, *asked, exit_code=69)


# --- bundles ----------------------------------------------------------------------------------------------------


def test_a_bundle_is_checked_as_it_is(tmp_path: Path) -> None:
    bundle = tmp_path / "databricks.yml"
    bundle.write_text(BUNDLE)
    (tmp_path / "a.sql").write_text("SELECT 1 AS one")

    def check(*arguments: str, exit_code: int) -> dict[str, Any]:
        done = subprocess.run(
            [LANDINGD, "validate", "--bundle", bundle, "--json", *arguments],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == exit_code, done
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    assert check(exit_code=0)["jobs"] == [{"job": "daily", "tasks": 1, "runs": True}]
    bad = check("--var", "tz=Mars/Olympus", exit_code=1)
    assert not bad["valid"]
    assert any("Mars/Olympus" in problem["error"] for problem in bad["problems"])
    bundle.write_text(BUNDLE + "      job_clusters: [{job_cluster_key: c}]\n")
    (problem,) = check(exit_code=1)["problems"]
    assert problem["line"] == len(BUNDLE.splitlines()) + 1


# --- history ----------------------------------------------------------------------------------------------------


def test_what_was_long_ago_is_forgotten_and_what_is_known_of_files_stays(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base") as daemon:
        for name in ("a", "b", "c"):
            daemon.drop(f"orders/{name}.csv", orders((1, name, 1)))
            daemon.until_loaded("abc".index(name) + 1)
        assert daemon.stop() == 0
        daemon.env["LANDINGD_HISTORY__RETENTION_DAYS"] = "0.00000001"
        daemon.start()
        newest = max(row["run_id"] for row in daemon.ledger("SELECT run_id FROM job_run_timeline"))
        daemon.until(lambda: daemon.logged("history_forgotten"))
        assert [run["run_id"] for run in daemon.cli("runs")] == [newest]
        assert {row["job_run_id"] for row in daemon.ledger("SELECT job_run_id FROM job_task_run_timeline")} == {newest}
        complaint(daemon, "show", "1", exit_code=66)
        assert "loaded" in text(daemon, "why", "orders/a.csv")
        assert daemon.cli("census", "--rows")["adds_up"]
        assert daemon.cli("files")[-1]["run_id"] is None
        # The same bytes are still known, and what they became can be taken back.
        daemon.drop("orders/again.csv", orders((1, "a", 1)))
        daemon.until(lambda: daemon.file_counts().get("duplicate") == 1)
        daemon.cli("unload", "orders/b.csv")
        assert daemon.value("SELECT count(*) FROM gold.revenue") == 2
