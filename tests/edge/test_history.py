"""What the ledger forgets, and what it must not."""

import pytest

from landingd.edge.ledger import LedgerThread, views
from pastruns import T0_S, PastRuns

LATER = 1_000.0


@pytest.fixture
def past(tmp_path):
    with PastRuns(tmp_path / "ledger.sqlite") as past:
        yield past


@pytest.fixture
def ledger(past):
    thread = LedgerThread(past.path)
    yield thread
    thread.close()


async def forget(ledger, *run_ids, before=LATER):
    return await ledger.transact(lambda verbs: verbs.forget_runs(run_ids, before_s=T0_S + before))


def file(past, run, *, state="loaded", name="a.csv"):
    file_id = past.put(
        "files", job="shop", path=name.encode(), name=name, content_hash=name, state=state, size=1, mtime_ns=1,
        ctime_ns=1, inode=1, device=1, seen_at_s=T0_S, run_id=run,
    )  # fmt: skip
    past.put("run_files", run_id=run, file_id=file_id)
    return file_id


def whole(past, **more):
    """A run with something in every table."""
    run = past.run(repairs=1, **more)
    past.task(run, "bronze")
    past.attempt(run, "bronze", 1, (1, 2))
    past.put("edges", run_id=run, upstream="bronze", task_key="gold")
    past.put(
        "expectations", run_id=run, task_key="bronze", attempt=1, name="e", on_violation="warn", passed=1, failed=0
    )
    past.repair(run, 1, ["bronze"], 5)
    return run


async def test_a_forgotten_run_leaves_nothing_behind_but_what_is_known_of_its_files(past, ledger):
    run, kept = whole(past), whole(past)
    file_id = file(past, run)
    past.put(
        "loads", file_id=file_id, task_key="bronze", run_id=run, attempt=1, rows_in=1, rows_loaded=1, rows_rejected=0,
        loaded_at_s=T0_S,
    )  # fmt: skip
    assert await forget(ledger, run) == [run]
    for table in ("runs", "tasks", "attempts", "edges", "expectations", "repairs"):
        assert past.rows(f"SELECT DISTINCT run_id FROM {table}") == [(kept,)]
    assert past.rows("SELECT * FROM run_files") == []
    assert past.rows("SELECT state, run_id FROM files") == [("loaded", None)]
    assert past.rows("SELECT run_id FROM loads") == [(run,)]


async def test_what_has_not_ended_or_ended_lately_stays(past, ledger):
    runs = [
        past.run(result=None),
        past.run(result=None, state="QUEUED"),
        past.run(result=None, state="TERMINATING"),
        past.run(took=5 * LATER),
    ]
    assert await forget(ledger, *runs) == []


async def test_a_run_stays_while_a_file_waits_for_its_repair(past, ledger):
    run = past.run(result="FAILED")
    file(past, run)
    waiting = file(past, run, state="waiting", name="b.csv")
    assert await forget(ledger, run) == []
    assert past.rows("SELECT run_id FROM files WHERE file_id = ?", waiting) == [(run,)]


async def test_a_skipped_run_is_forgotten_too(past, ledger):
    run = past.run(result="MAXIMUM_CONCURRENT_RUNS_REACHED", state="SKIPPED", started_at_s=None)
    assert await forget(ledger, run) == [run]


async def test_a_run_stays_while_the_run_that_asked_for_it_is_kept(past, ledger):
    parent = past.run()
    child = past.run(job="other", parent_run_id=parent, parent_task_key="sub")
    assert await forget(ledger, child) == []
    assert await forget(ledger, parent) == [parent]
    assert await forget(ledger, child) == [child]


def test_decisions_find_the_newest_run_of_each_trigger_and_of_each_result(past):
    old = past.run(trigger_type="PERIODIC", trigger_name="schedule")
    success = past.run()
    failed = past.run(result="FAILED")
    newest = past.run(result="FAILED", trigger_type="ONE_TIME")
    other = past.run(job="other")
    with views.reading(past.path) as db:
        assert views.runs_to_keep(db) == {old, success, failed, newest, other}
    again = past.run(trigger_type="PERIODIC", trigger_name="schedule")
    with views.reading(past.path) as db:
        assert views.runs_to_keep(db) == {again, failed, newest, other}


async def test_runs_are_looked_at_by_number_until_one_was_queued_too_late(past, ledger):
    for at in (0, 10, 20, 2000, 30):
        past.run(at=at)

    async def after(run_id, limit):
        return await ledger.transact(lambda verbs: verbs.runs_after(run_id, before_s=T0_S + LATER, limit=limit))

    assert await after(0, 2) == [1, 2]
    assert await after(2, 9) == [3]
    assert await after(3, 9) == []


async def test_a_backfill_is_known_as_long_as_one_of_its_runs_is(past, ledger):
    for id_ in ("a", "b", "new"):
        at = T0_S + (5 * LATER if id_ == "new" else 0)
        past.put("backfills", backfill_id=id_, job="shop", parameter="day", range="{}", requested_at_s=at)
    past.run(trigger_key="backfill:b:2026-01-01")
    past.run(trigger_key="backfill:ab:2026-01-01")
    gone = await ledger.transact(lambda verbs: verbs.forget_backfills(before_s=T0_S + LATER))
    assert gone == 1
    assert past.rows("SELECT backfill_id FROM backfills ORDER BY 1") == [("b",), ("new",)]


async def test_of_each_trigger_the_newest_answer_stays(past, ledger):
    for name, last in (("schedule", 1), ("schedule", 2), ("schedule", 5000), ("periodic", 1), ("periodic", 2)):
        past.put(
            "trigger_history", job="shop", trigger_name=name, outcome="NOT_TRIGGERED", description="", first_s=T0_S,
            last_s=T0_S + last,
        )  # fmt: skip
    assert await ledger.transact(lambda verbs: verbs.forget_trigger_history(before_s=T0_S + LATER)) == 3
    assert past.rows("SELECT trigger_name, last_s FROM trigger_history ORDER BY seq") == [
        ("schedule", T0_S + 5000),
        ("periodic", T0_S + 2),
    ]
