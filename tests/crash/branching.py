"""Jobs that branch, loop, wait for each other, fail and are taken up again, and what has to be true of their runs.

Each task that does something leaves a row behind, so it shows if it was done twice. Nothing here asks how often the
daemon has died.
"""

import json
from collections import Counter, defaultdict

import invariants
from crash import truth
from crash.victim import Victim
from listening import Heard

MARK = """
    CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR);
    INSERT INTO gold.did SELECT CAST($run_id AS BIGINT), $task_key;
    SELECT 3 AS n, [1, 2, 3] AS list;
    """
BAD = """
    CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR);
    INSERT INTO gold.did SELECT CAST($run_id AS BIGINT),
    CASE WHEN CAST($bad AS VARCHAR) = 'yes' THEN error('bad') ELSE $task_key END;
    """
ONCE = """
    CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR);
    INSERT INTO gold.did SELECT CAST($run_id AS BIGINT),
    CASE WHEN CAST($nth AS INTEGER) = 1 THEN error('not the first time') ELSE $task_key END;
    """
JOBS = {
    "whole/job.yml": """
        name: whole
        max_concurrent_runs: 2
        parameters: [{name: bad, default: "no"}]
        tasks:
          - {task_key: list, sql: mark.sql}
          - task_key: many
            depends_on: [{task_key: list}]
            condition_task: {op: GREATER_THAN, left: "{{tasks.list.values.n}}", right: "2"}
          - {task_key: yes_, depends_on: [{task_key: many, outcome: "true"}], sql: mark.sql}
          - {task_key: no_, depends_on: [{task_key: many, outcome: "false"}], sql: mark.sql}
          - task_key: each
            depends_on: [{task_key: list}]
            for_each_task:
              inputs: "{{tasks.list.values.list}}"
              concurrency: 2
              task: {task_key: one, sql: mark.sql}
          - task_key: again
            depends_on: [{task_key: each}]
            sql: once.sql
            parameters: {nth: "{{task.execution_count}}"}
            max_retries: 3
          - {task_key: call, depends_on: [{task_key: each}], run_job_task: {job_name: child}}
          - {task_key: table_, depends_on: [{task_key: call}], sql: table.sql, table: gold.counted}
          - {task_key: weak, depends_on: [{task_key: again}], sql: bad.sql}
          - {task_key: behind, depends_on: [{task_key: weak}], sql: mark.sql}
          - {task_key: always, depends_on: [{task_key: weak}], run_if: ALL_DONE, sql: mark.sql}
        """,
    "whole/mark.sql": MARK,
    "whole/once.sql": ONCE,
    "whole/bad.sql": BAD,
    "whole/table.sql": "SELECT count(*) AS n FROM gold.did",
    "child/job.yml": """
        name: child
        parameters: [{name: wait, default: "no"}]
        tasks:
          - {task_key: a, sql: mark.sql}
          - task_key: b
            depends_on: [{task_key: a}]
            sql: wait.sql
            max_retries: 1
            min_retry_interval_millis: 3600000
        """,
    "child/mark.sql": MARK,
    "child/wait.sql": BAD.replace("$bad", "$wait"),
    "waiting/job.yml": """
        name: waiting
        tasks:
          - {task_key: a, sql: mark.sql}
          - task_key: call
            depends_on: [{task_key: a}]
            run_job_task: {job_name: child, job_parameters: {wait: "yes"}}
          - task_key: each
            depends_on: [{task_key: a}]
            for_each_task:
              inputs: [1, 2, 3]
              concurrency: 2
              task: {task_key: one, sql: never.sql, max_retries: 1, min_retry_interval_millis: 3600000}
          - {task_key: after, depends_on: [{task_key: call}], sql: mark.sql}
        """,
    "waiting/mark.sql": MARK,
    "waiting/never.sql": "SELECT error('never');",
}
CHAIN = {
    "first/job.yml": """
        name: first
        tasks:
          - {task_key: a, sql: mark.sql}
          - {task_key: table_, depends_on: [{task_key: a}], sql: table.sql, table: gold.made}
        """,
    "first/mark.sql": MARK,
    "first/table.sql": "SELECT count(*) AS n FROM gold.did",
    "second/job.yml": """
        name: second
        triggers: [{table_update: {table_names: [gold.made]}}]
        tasks: [{task_key: a, sql: mark.sql}]
        """,
    "second/mark.sql": MARK,
    "third/job.yml": """
        name: third
        triggers: [{job_completion: {jobs: [first, second]}}]
        tasks: [{task_key: a, sql: mark.sql}]
        """,
    "third/mark.sql": MARK,
}
WELL = {
    "again": "SUCCESS",
    "always": "SUCCESS",
    "behind": "SUCCESS",
    "call": "SUCCESS",
    "each": "SUCCESS",
    "each[0]": "SUCCESS",
    "each[1]": "SUCCESS",
    "each[2]": "SUCCESS",
    "list": "SUCCESS",
    "many": "SUCCESS",
    "no_": "EXCLUDED",
    "table_": "SUCCESS",
    "weak": "SUCCESS",
    "yes_": "SUCCESS",
}
"""What the job `whole` comes to where nothing is told to fail."""
FAILED = WELL | {"weak": "FAILED", "behind": "UPSTREAM_FAILED"}
BROKEN_OFF = dict.fromkeys(("call", "each", "each[0]", "each[1]", "each[2]", "after"), "CANCELED") | {"a": "SUCCESS"}


def ask(victim: Victim, job: str, **parameters: str) -> None:
    """The same request however often it is asked: one run."""
    victim.post("/v1/runs", job=job, request_id=job, parameters=parameters)


def runs(victim: Victim) -> dict[int, tuple[str, str, str | None, int]]:
    rows = victim.ledger("SELECT run_id, job, state, result, repairs FROM runs ORDER BY run_id")
    return {row["run_id"]: (row["job"], row["state"], row["result"], row["repairs"]) for row in rows}


def at_rest(victim: Victim) -> bool:
    """There is a run, all have ended, and all is told."""
    return bool(runs(victim)) and victim.at_rest()


def results(victim: Victim, run_id: int) -> dict[str, str]:
    rows = victim.ledger("SELECT task_key, result FROM tasks WHERE run_id = ?", (run_id,))
    return {row["task_key"]: row["result"] for row in rows}


# --- what has to be true however it went --------------------------------------------------------------------------


def check_ended(victim: Victim) -> None:
    """The job `whole`, told to fail, has ended as it has to, and so has the run that it waited for."""
    assert runs(victim) == {1: ("whole", "TERMINATED", "FAILED", 0), 2: ("child", "TERMINATED", "SUCCESS", 0)}
    assert results(victim, 1) == FAILED


def waits(victim: Victim) -> bool:
    """The job `waiting` waits for all that it can wait for, and all is told."""
    sql = "SELECT count(*) AS n FROM tasks WHERE state = 'WAITING_FOR_RETRY'"
    return bool(victim.ledger(sql)[0]["n"] == 3 and not victim.ledger("SELECT 1 FROM outbox"))


def check_broken_off(victim: Victim) -> None:
    """The job `waiting` was canceled while it waited, and so was the run that it waited for."""
    assert runs(victim) == {1: ("waiting", "TERMINATED", "CANCELED", 0), 2: ("child", "TERMINATED", "CANCELED", 0)}
    assert results(victim, 1) == BROKEN_OFF
    assert results(victim, 2) == {"a": "SUCCESS", "b": "CANCELED"}


def check_stores(victim: Victim, heard: list[Heard], *, ledger_was_lost: bool = False) -> None:
    assert invariants.broken(victim.state / "ledger.sqlite", at_rest=True) == []
    stores = truth.Stores(victim.state)
    check_done_once(stores)
    check_told(stores, heard, exact=not ledger_was_lost)
    assert [line for line in victim.log() if line["level"] == "critical"] == []


def check_done_once(stores: truth.Stores) -> None:
    """Each task that leaves a row has left one for each repair in which it ran, and no other row is there."""
    did = Counter(stores.warehouse("SELECT run_id, task_key FROM gold.did"))
    marking = Counter(
        (run_id, key)
        for run_id, key in stores.ledger("SELECT run_id, task_key FROM attempts WHERE outcome = 'committed'")
        if key not in {"many", "each", "call", "table_"}
    )
    assert did == marking
    commits = stores.warehouse("SELECT run_id, task_key, attempt FROM meta.commits ORDER BY ALL")
    assert commits == stores.ledger(
        "SELECT run_id, task_key, attempt FROM attempts WHERE outcome = 'committed' "
        "AND task_key NOT IN ('many', 'each', 'call') ORDER BY run_id, task_key, attempt"
    )


def check_told(stores: truth.Stores, heard: list[Heard], *, exact: bool) -> None:
    """Each end was told, under one id, in one wording; not `exact`: a ledger that had forgotten tells it in others."""
    words: dict[str, set[str]] = defaultdict(set)
    ends: dict[tuple[int, int], set[str]] = defaultdict(set)
    for message in heard:
        if event_id := message.payload.get("event_id"):
            words[event_id].add(json.dumps(message.payload, sort_keys=True))
        if message.payload.get("event") == "run_finished":
            ends[message.payload["run_id"], message.payload["repair"]].add(message.payload["event_id"])
    assert not exact or {i: several for i, several in words.items() if len(several) > 1} == {}
    wanted = {(i, n) for i, repairs in stores.ledger("SELECT run_id, repairs FROM runs") for n in range(repairs + 1)}
    assert set(ends) == wanted
    assert all(len(ids) == 1 for ids in ends.values())
