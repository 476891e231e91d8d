"""The process is killed as runs branch, loop, wait for others, fail, are canceled and repaired, at any of its writes.

After the next start each ends as it would have ended without that: every task does what it does once, no run that
another one waits for is started twice, and what was canceled stays canceled.
"""

import contextlib
import json
import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

import invariants
from crash import truth
from crash.victim import ALL_CALLS, STORES, Victim
from daemons import NotAnsweringError
from listening import Heard, Subscriber

Make = Callable[..., Victim]
Arm = Callable[[], object]
OFTEN = {"ledger": 2, "warehouse": 1}
"""So many points of each moment are tried in the short form."""

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


# --- the moments in which it is killed ----------------------------------------------------------------------------


def ask(victim: Victim, job: str, **parameters: str) -> None:
    """The same request however often it is asked: one run."""
    victim.post("/v1/runs", job=job, request_id=job, parameters=parameters)


def runs(victim: Victim) -> dict[int, tuple[str, str, str | None, int]]:
    rows = victim.ledger("SELECT run_id, job, state, result, repairs FROM runs ORDER BY run_id")
    return {row["run_id"]: (row["job"], row["state"], row["result"], row["repairs"]) for row in rows}


class Moment:
    """What goes on as it is killed, and what it has to come to."""

    def before(self, victim: Victim) -> None:
        """What is done in peace."""

    def act(self, victim: Victim) -> None:
        """What is asked of it; asked again after the next start, as whoever got no answer would."""
        raise NotImplementedError

    def check(self, victim: Victim) -> None:
        """What the ledger has to say once all is at rest."""
        raise NotImplementedError


class Run(Moment):
    """A condition, a loop, a retry, a run of another job and a task that fails."""

    def act(self, victim: Victim) -> None:
        ask(victim, "whole", bad="yes")

    def check(self, victim: Victim) -> None:
        assert runs(victim) == {1: ("whole", "TERMINATED", "FAILED", 0), 2: ("child", "TERMINATED", "SUCCESS", 0)}
        assert results(victim, 1) == FAILED


class Cancel(Moment):
    """A run is broken off while it waits for another one, and for the retries of a loop."""

    def before(self, victim: Victim) -> None:
        ask(victim, "waiting")
        sql = "SELECT count(*) AS n FROM tasks WHERE state = 'WAITING_FOR_RETRY'"
        victim.until(lambda: victim.ledger(sql)[0]["n"] == 3 and not victim.ledger("SELECT 1 FROM outbox"))

    def act(self, victim: Victim) -> None:
        if runs(victim)[1][1] == "RUNNING":
            victim.post("/v1/runs/1/cancel")

    def check(self, victim: Victim) -> None:
        assert runs(victim) == {1: ("waiting", "TERMINATED", "CANCELED", 0), 2: ("child", "TERMINATED", "CANCELED", 0)}
        assert results(victim, 1) == BROKEN_OFF
        assert results(victim, 2) == {"a": "SUCCESS", "b": "CANCELED"}


class Repair(Moment):
    """A run that has failed is taken up again."""

    def before(self, victim: Victim) -> None:
        ask(victim, "whole", bad="yes")
        victim.until(lambda: at_rest(victim) and victim.checkpointed())

    def act(self, victim: Victim) -> None:
        if runs(victim)[1][3] == 0:
            victim.post("/v1/runs/1/repair", parameters={"bad": "no"})

    def check(self, victim: Victim) -> None:
        assert runs(victim) == {1: ("whole", "TERMINATED", "SUCCESS", 1), 2: ("child", "TERMINATED", "SUCCESS", 0)}
        assert results(victim, 1) == WELL


@dataclass(frozen=True)
class Counted:
    """A moment, and of each (store, system call) how many one thread makes at least, and at most."""

    moment: Moment
    writes: dict[tuple[str, str], tuple[int, int]]


Span = tuple[int, int]


def writes(*, pages: Span, syncs: Span, log: Span, log_syncs: Span) -> dict[tuple[str, str], Span]:
    """The ledger's writes and syncs, the warehouse's; both stores are folded into one file at the end."""
    return {
        ("ledger", "pwrite64"): pages,
        ("ledger", "fdatasync"): syncs,
        ("ledger", "ftruncate"): (1, 1),
        ("ledger", "unlink"): (1, 1),
        ("warehouse", "write"): log,
        ("warehouse", "fdatasync"): log_syncs,
        ("warehouse", "pwrite64"): (4, 10),
        ("warehouse", "unlink"): (1, 1),
    }


# How often events are taken from the outbox depends on how fast the broker is, and when tasks that end side by side
# are recorded on their order: hence from ... to.
MOMENTS = {
    "run": Counted(Run(), writes(pages=(240, 480), syncs=(5, 8), log=(8, 14), log_syncs=(9, 16))),
    "cancel": Counted(Cancel(), writes(pages=(70, 160), syncs=(2, 3), log=(1, 2), log_syncs=(3, 4))),
    "repair": Counted(Repair(), writes(pages=(100, 220), syncs=(4, 5), log=(3, 6), log_syncs=(5, 8))),
}


class Point(NamedTuple):
    """Where to kill: as this thread's n-th such call on this store begins, counted from the moment on."""

    moment: str
    store: str
    call: str
    n: int


def points() -> Iterator[Any]:
    """Every one there is; those of the short form are the same ones each time, and among those that always come."""
    for name, counted in MOMENTS.items():
        for store in STORES:
            writes = {call: of for (where, call), of in counted.writes.items() if where == store}
            sure = [(call, n) for call, (least, _) in writes.items() for n in range(1, least + 1)]
            often = random.Random(f"{name} {store}").sample(sure, min(OFTEN[store], len(sure)))  # noqa: S311 -- the same each time
            for call, (_, most) in writes.items():
                for n in range(1, most + 1):
                    marks = () if (call, n) in often else (pytest.mark.long,)
                    yield pytest.param(Point(name, store, call, n), id=f"{name}-{store}-{call}-{n}", marks=marks)


@pytest.mark.parametrize("point", list(points()))
def test_killed_at_any_write_every_run_ends_as_it_would_have_and_nothing_is_done_twice(
    victim_with: Make, ear: Subscriber, point: Point
) -> None:
    counted = MOMENTS[point.moment]
    victim = victim_with(JOBS)
    victim.start_traceable()
    counted.moment.before(victim)
    victim.arm(point.store, point.call, point.n)
    with contextlib.suppress(NotAnsweringError):
        counted.moment.act(victim)
        victim.until_dead_or(lambda: at_rest(victim) and victim.checkpointed())
    if victim.alive:
        victim.signal(signal.SIGTERM)  # the last writes are those of a stop
    if victim.wait() == 0:
        assert point.n > counted.writes[point.store, point.call][0], "it was not killed"
    else:
        assert victim.killed()
    was_broken_off = {run_id for run_id, run in runs(victim).items() if "TERMINATING" in run or "CANCELED" in run}
    victim.start()
    counted.moment.act(victim)
    victim.until(lambda: at_rest(victim))
    assert {run_id for run_id, run in runs(victim).items() if "CANCELED" in run} >= was_broken_off
    assert victim.stop() == 0, victim.log_tail()
    counted.moment.check(victim)
    check_stores(victim, ear.heard)
    shutil.rmtree(victim.base)


@pytest.mark.parametrize("name", MOMENTS)
def test_no_write_of_a_run_goes_uncounted(victim_with: Make, ear: Subscriber, name: str) -> None:
    """The points above are all there are."""
    counted = MOMENTS[name]
    victim = victim_with(JOBS)
    victim.start_traceable()
    counted.moment.before(victim)
    trace = victim.trace([file for store in STORES for file in victim.store(store)], calls=ALL_CALLS)
    counted.moment.act(victim)
    victim.until(lambda: at_rest(victim) and victim.checkpointed())
    assert victim.stop() == 0, victim.log_tail()
    trace.end()
    counted.moment.check(victim)
    check_stores(victim, ear.heard)
    seen = Counter((file.partition(".")[0], call, thread) for thread, file, call in trace.calls())
    most: Counter[tuple[str, str]] = Counter()
    for (store, call, _), n in seen.items():
        most[store, call] = max(most[store, call], n)
    assert set(most) <= set(counted.writes)
    for where, (fewest, highest) in counted.writes.items():
        assert fewest <= most[where] <= highest, (where, most[where])


def at_rest(victim: Victim) -> bool:
    """There is a run, all have ended, and all is told."""
    return bool(runs(victim)) and victim.at_rest()


def results(victim: Victim, run_id: int) -> dict[str, str]:
    rows = victim.ledger("SELECT task_key, result FROM tasks WHERE run_id = ?", (run_id,))
    return {row["task_key"]: row["result"] for row in rows}


# --- what has to be true however it went --------------------------------------------------------------------------


def check_stores(victim: Victim, heard: list[Heard]) -> None:
    assert invariants.broken(victim.state / "ledger.sqlite", at_rest=True) == []
    stores = truth.Stores(victim.state)
    check_done_once(stores)
    check_told(stores, heard)
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


def check_told(stores: truth.Stores, heard: list[Heard]) -> None:
    """Each end was told, under one id, in one wording."""
    words: dict[str, set[str]] = defaultdict(set)
    ends: dict[tuple[int, int], set[str]] = defaultdict(set)
    for message in heard:
        if event_id := message.payload.get("event_id"):
            words[event_id].add(json.dumps(message.payload, sort_keys=True))
        if message.payload.get("event") == "run_finished":
            ends[message.payload["run_id"], message.payload["repair"]].add(message.payload["event_id"])
    assert {i: several for i, several in words.items() if len(several) > 1} == {}
    wanted = {(i, n) for i, repairs in stores.ledger("SELECT run_id, repairs FROM runs") for n in range(repairs + 1)}
    assert set(ends) == wanted
    assert all(len(ids) == 1 for ids in ends.values())
