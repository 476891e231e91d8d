"""What random runs have found, kept in their shortest form; and whether the script that judges them sees at all."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import invariants
from daemons import REPOSITORY, LandingdProcess, results

SLEEPER = {
    "sleeper/job.yml": """
        name: sleeper
        tasks:
          - {task_key: sleeps, python_task: {file: sleeps.py}}
          - {task_key: after, depends_on: [{task_key: sleeps}], sql: after.sql}
        """,
    "sleeper/sleeps.py": "import time\n\n\ndef main(ctx):\n    time.sleep(2.5)\n",
    "sleeper/after.sql": "CREATE OR REPLACE TABLE gold.after AS SELECT 1 AS n",
}


def test_a_stop_waits_for_an_attempt_longer_than_the_time_between_two_looks_at_the_mounts(tmp_path: Path) -> None:
    """The threads that look at the mounts end with intake: the next look died of that, and the whole daemon of it."""
    with LandingdProcess(tmp_path / "base", SLEEPER) as daemon:
        run_id = daemon.post("/v1/runs", job="sleeper")["run_id"]
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM tasks WHERE state = 'RUNNING'"))
        assert daemon.stop() == 0, daemon.log_tail()
        assert daemon.ledger("SELECT task_key FROM attempts WHERE outcome = 'committed'")
        daemon.start()
        assert results(daemon.ended(run_id)) == {"sleeps": "SUCCESS", "after": "SUCCESS"}


ENDLESS = {
    "endless/job.yml": """
        name: endless
        tasks: [{task_key: counts, sql: counts.sql}]
        """,
    "endless/counts.sql": "CREATE TABLE IF NOT EXISTS gold.n (n BIGINT);"
    "INSERT INTO gold.n SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3;",
}


def test_a_script_that_takes_long_without_any_table_is_not_carried_out_as_jobs_are_read(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", ENDLESS) as daemon:
        run_id = daemon.post("/v1/runs", job="endless")["run_id"]
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM tasks WHERE state = 'RUNNING'"))
        daemon.post(f"/v1/runs/{run_id}/cancel")
        assert daemon.ended(run_id)["result"] == "CANCELED"


# --- the laws -----------------------------------------------------------------------------------------------------

BOOKS = {
    "child/job.yml": "name: child\ntasks: [{task_key: a, sql: a.sql}]",
    "child/a.sql": "SELECT 1",
    "job/job.yml": """
        name: job
        parameters: [{name: bad, default: "yes"}]
        tasks:
          - {task_key: a, sql: a.sql}
          - task_key: each
            depends_on: [{task_key: a}]
            for_each_task: {inputs: [1, 2], concurrency: 2, task: {task_key: one, sql: a.sql}}
          - {task_key: call, depends_on: [{task_key: a}], run_job_task: {job_name: child}}
          - {task_key: bad, depends_on: [{task_key: a}], sql: bad.sql}
          - {task_key: under, depends_on: [{task_key: bad}], sql: a.sql}
        """,
    "job/a.sql": "SELECT 1",
    "job/bad.sql": "SELECT CASE WHEN CAST($bad AS VARCHAR) = 'yes' THEN error('bad') END",
}
A_FILE = (
    "INSERT INTO files (job, path, name, content_hash, size, mtime_ns, ctime_ns, inode, device, seen_at_s, state, "
    "run_id) VALUES ('job', x'61', 'a', 'a', 1, 1, 1, 1, 1, 1"
)
BREAKS = {
    "runs_are_in_one_state": "UPDATE runs SET result = NULL WHERE run_id = 1",
    "ended_runs_have_no_open_tasks": "UPDATE tasks SET state = 'PENDING', result = NULL WHERE task_key = 'under'",
    "runs_under_way_have_open_tasks": "UPDATE runs SET state = 'RUNNING' WHERE run_id = 1",
    "queued_runs_have_begun_nothing": "UPDATE runs SET state = 'QUEUED'; UPDATE tasks SET state = 'RUNNING'",
    "nothing_of_a_run_that_is_broken_off_waits": "UPDATE runs SET state = 'TERMINATING'; "
    "UPDATE tasks SET state = 'PENDING'",
    "tasks_are_in_one_state": "UPDATE tasks SET result = NULL WHERE task_key = 'a'",
    "attempts_are_numbered": "UPDATE attempts SET attempt = 3 WHERE task_key = 'bad' AND attempt = 2",
    "only_what_runs_has_an_open_attempt": "UPDATE attempts SET outcome = NULL WHERE task_key = 'a'",
    "a_task_commits_once": "UPDATE attempts SET outcome = 'committed', repair = 1 WHERE task_key = 'bad'; "
    "INSERT INTO attempts SELECT run_id, task_key, attempt + 7, repair, 1, 1, 'committed', NULL, NULL, NULL, NULL, "
    "NULL, NULL, NULL FROM attempts WHERE task_key = 'bad'",
    "blockers_are_counted": "UPDATE runs SET state = 'RUNNING'; UPDATE tasks SET state = 'PENDING', blockers = 7",
    "nothing_begins_before_what_it_waits_for": "UPDATE tasks SET state = 'RUNNING', blockers = 1, attempts = 2",
    "runs_are_no_more_than_allowed": "UPDATE runs SET state = 'RUNNING', job = 'job'",
    "loops_keep_to_their_concurrency": "UPDATE tasks SET state = 'RUNNING', concurrency = 1 WHERE task_key = 'each'; "
    "UPDATE tasks SET state = 'RUNNING' WHERE parent = 'each'",
    "loops_end_as_their_iterations": "UPDATE tasks SET result = 'FAILED' WHERE task_key = 'each[1]'",
    "iterations_belong_to_loops": "UPDATE tasks SET parent = 'none' WHERE task_key = 'each[1]'",
    "skipped_runs_have_reasons_and_nothing_else": "UPDATE runs SET state = 'SKIPPED' WHERE run_id = 1",
    "child_runs_know_their_parents": "UPDATE runs SET depth = 7 WHERE run_id = 2",
    "a_task_waits_for_one_child": "INSERT INTO runs (job, trigger_type, trigger_key, state, queued_at_s, "
    "parent_run_id, parent_task_key) SELECT 'child', 'RUN_JOB_TASK', value, 'QUEUED', 1, 1, 'call' "
    "FROM json_each('[1, 2]')",
    "repairs_are_numbered": "UPDATE repairs SET repair = 2",
    "keys_are_accepted_once": "",
    "every_end_is_told_once": "DELETE FROM outbox WHERE payload LIKE '%run_finished%'",
    "files_are_given_to_runs_that_know_them": f"{A_FILE}, 'loaded', 1)",
    "files_wait_for_a_reason": f"{A_FILE}, 'waiting', 1)",
    "results_follow_from_those_before": "UPDATE tasks SET result = 'EXCLUDED' WHERE task_key = 'under'",
    "runs_end_as_their_tasks": "UPDATE runs SET result = 'FAILED' WHERE run_id = 1",
    "attempts_say_what_their_tasks_say": "UPDATE tasks SET result = 'FAILED' WHERE task_key = 'a'",
    "everything_has_ended": "UPDATE runs SET state = 'RUNNING'",
    "children_end_before_their_parents": "UPDATE runs SET state = 'RUNNING' WHERE run_id = 2",
    "run_jobs_name_runs_that_went_well": "UPDATE tasks SET output = '{\"run_id\": 1}' WHERE task_key = 'call'",
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that failed and was repaired, with a loop and a run that it waited for."""
    base = tmp_path_factory.mktemp("books")
    with LandingdProcess(base, BOOKS, broker_port=1) as daemon:
        run_id = daemon.post("/v1/runs", job="job")["run_id"]
        assert daemon.ended(run_id)["result"] == "FAILED"
        daemon.post(f"/v1/runs/{run_id}/repair", parameters={"bad": "no"})
        daemon.until(lambda: not daemon.open_runs())
        assert daemon.stop() == 0
    return base / "state/ledger.sqlite"


def test_the_laws_hold_of_a_ledger_that_nobody_has_touched(ledger: Path) -> None:
    assert invariants.broken(ledger, at_rest=True, concurrent={"job": 1, "child": 1}, keeps_news=True) == []
    asked = [sys.executable, REPOSITORY / "tests/invariants.py", ledger, "--at-rest", "--most", "job=1"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{len(BREAKS)} laws hold\n"), done.stderr


@pytest.mark.parametrize("law", [*invariants.ALWAYS, *invariants.AT_REST], ids=lambda law: law.__name__)
def test_each_law_sees_a_ledger_that_breaks_it(ledger: Path, tmp_path: Path, law: invariants.Law) -> None:
    changed = Path(shutil.copy(ledger, tmp_path))
    with closing(sqlite3.connect(changed)) as db:
        if law is invariants.keys_are_accepted_once:  # the schema sees to it as well
            text = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'runs'").fetchone()[0]
            loose = text.replace("UNIQUE (job, trigger_key)", "CHECK (1)").replace("TABLE runs", "TABLE loose")
            db.executescript(f"{loose}; INSERT INTO loose SELECT * FROM runs; DROP TABLE runs;")
            db.executescript("PRAGMA legacy_alter_table = ON; ALTER TABLE loose RENAME TO runs")
            db.execute("UPDATE runs SET trigger_key = 'k', job = 'job'")
        db.executescript(BREAKS[law.__name__])
        db.commit()
    told = invariants.broken(changed, at_rest=True, concurrent={"job": 1}, keeps_news=True)
    assert any(one.startswith(f"{law.__name__}:") for one in told), told
