"""The process died: a real ledger and a real warehouse that do not agree, and what a start makes of them."""

import pytest

import invariants
from bookkeeping import LARGE, Clock, arrival, bronze, job, looked_up, table
from landingd.core.isolate import DEATHS_MAX
from landingd.core.lifecycle import CRASHES_MAX
from landingd.edge.engine import EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.recovery import recover
from landingd.model import AttemptKey, Committed, Failed, Result, ScriptPlan, Stats

JOB = job(bronze(), table("silver", "bronze"))


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(EngineOptions(tmp_path / "w.duckdb", tmp_path / "scratch", tmp_path / "landing", threads=1))
    yield engine
    engine.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def books(path):
    ledger = LedgerThread(path)
    yield Books(ledger, Clock())
    ledger.close()


async def commit(engine, key):
    """What the attempt did reaches the warehouse, and then the process dies."""
    outcome = await engine.execute(ScriptPlan(key, "shop", "CREATE OR REPLACE TABLE gold.x AS SELECT 1 AS a", {}))
    assert isinstance(outcome, Committed)


async def begin(books, of=JOB, **more):
    await books.accept([arrival(**{"size": LARGE, **more})])
    return await books.next_run(of)


def tasks(path):
    return looked_up(path, "SELECT task_key, state, result, attempts, crashes FROM tasks ORDER BY position")


def attempts(path):
    return looked_up(path, "SELECT task_key, attempt, outcome FROM attempts ORDER BY 1, 2")


async def test_an_attempt_that_committed_is_done_though_the_ledger_never_heard_of_its_end(books, engine, path):
    started = await begin(books)
    await commit(engine, started.begun[0])
    assert await recover(books, engine, Catalog((JOB,))) == 1
    assert tasks(path) == [("bronze", "TERMINATED", "SUCCESS", 1, 0), ("silver", "PENDING", None, 0, 0)]
    assert [key.task_key for key in (await books.next_run(JOB)).begun] == ["silver"]


async def test_an_attempt_of_which_nothing_stayed_may_run_again(books, engine, path):
    await begin(books)
    assert await recover(books, engine, Catalog((JOB,))) == 1
    assert tasks(path)[0][:4] == ("bronze", "PENDING", None, 1)
    assert attempts(path) == [("bronze", 1, "died")]
    assert [key.attempt for key in (await books.next_run(JOB)).begun] == [2]


async def test_the_last_task_of_a_run_ends_it_in_recovery_and_the_end_is_told_once(books, engine, path):
    one = job()
    started = await begin(books, one)
    await commit(engine, started.begun[0])
    await recover(books, engine, Catalog((one,)))
    await recover(books, engine, Catalog((one,)))
    assert looked_up(path, "SELECT state, result FROM runs") == [("TERMINATED", "SUCCESS")]
    assert looked_up(path, "SELECT count(*) FROM outbox WHERE payload LIKE '%run_finished%'") == [(1,)]


async def test_what_committed_is_believed_also_where_the_attempts_are_used_up(books, engine, path):
    retrying = job(bronze(max_retries=1))
    started = await begin(books, retrying)
    await books.conclude(retrying, started.begun[0], Failed("x"), go_on=True)
    await commit(engine, await books.begin(1, "bronze"))
    await recover(books, engine, Catalog((retrying,)))
    assert tasks(path) == [("bronze", "TERMINATED", "SUCCESS", 2, 0)]


async def test_what_committed_is_believed_also_at_the_death_that_would_be_one_too_many(books, engine, path):
    started = await begin(books)
    for _ in range(CRASHES_MAX - 1):
        await recover(books, engine, Catalog((JOB,)))
        started = await books.next_run(JOB)
    await commit(engine, started.begun[0])
    await recover(books, engine, Catalog((JOB,)))
    assert tasks(path)[0] == ("bronze", "TERMINATED", "SUCCESS", CRASHES_MAX, 0)


async def test_a_task_that_kills_the_process_again_and_again_is_given_up(books, engine, path):
    started = await begin(books)
    await commit(engine, started.begun[0])
    for _ in range(CRASHES_MAX + 1):
        await recover(books, engine, Catalog((JOB,)))
        await books.next_run(JOB)
    assert [(key, result) for key, _, result, _, _ in tasks(path)] == [("bronze", "SUCCESS"), ("silver", "FAILED")]
    assert looked_up(path, "SELECT result FROM runs") == [("FAILED",)]


async def test_a_file_that_kills_the_process_again_and_again_is_quarantined_and_its_task_goes_on(books, engine, path):
    await begin(books)
    for _ in range(DEATHS_MAX):
        await recover(books, engine, Catalog((JOB,)))
        begun = (await books.next_run(JOB)).begun
    assert looked_up(path, "SELECT state, reason FROM files") == [
        ("quarantined", "the process died while it was loaded, 3 times when it was alone")
    ]
    assert [key.task_key for key in begun] == ["bronze"]
    assert (await books.batch(JOB, begun[0])).load == ()


async def test_all_attempts_of_one_transaction_are_found(books, engine, path):
    started = await begin(books, size=10)
    assert started.together
    plans = [ScriptPlan(key, "shop", "SELECT 1", {}) for key in started.begun]
    assert all(isinstance(outcome, Committed) for outcome in await engine.execute_together(plans))
    assert await recover(books, engine, Catalog((JOB,))) == 2
    assert looked_up(path, "SELECT result FROM runs") == [("SUCCESS",)]


async def test_none_of_one_transaction_means_that_all_of_it_runs_again(books, engine, path):
    await begin(books, size=10)
    assert await recover(books, engine, Catalog((JOB,))) == 2
    assert [state for _, state, _, _, _ in tasks(path)] == ["PENDING", "PENDING"]
    assert [key.task_key for key in (await books.next_run(JOB)).begun] == ["bronze"]


async def test_a_run_whose_job_is_gone_is_recovered_too(books, engine, path):
    started = await begin(books)
    await commit(engine, started.begun[0])
    await recover(books, engine, Catalog())
    assert tasks(path)[0][2] == Result.SUCCESS.value


async def test_a_quiet_end_leaves_nothing_to_recover(books, engine, path):
    started = await begin(books, job())
    await books.conclude(job(), started.begun[0], Committed(Stats()), go_on=True)
    before = looked_up(path, "SELECT * FROM tasks")
    assert await recover(books, engine, Catalog((job(),))) == 0
    assert looked_up(path, "SELECT * FROM tasks") == before


async def test_tasks_that_the_warehouse_has_and_a_ledger_that_lost_its_last_commits_takes_for_new_are_done(
    books, engine, path
):
    started = await begin(books)
    first = started.begun[0]
    await commit(engine, first)
    after = await books.conclude(JOB, first, Committed(Stats()), go_on=True)
    await commit(engine, after.begun[0])
    await _forget_since_the_run_was_formed(books)
    assert await recover(books, engine, Catalog((JOB,))) == 2
    assert [(key, result) for key, _, result, _, _ in tasks(path)] == [("bronze", "SUCCESS"), ("silver", "SUCCESS")]
    assert looked_up(path, "SELECT result FROM runs") == [("SUCCESS",)]


async def test_attempts_are_numbered_without_a_gap_though_the_ledger_lost_those_before_the_one_that_committed(
    books, engine, path
):
    started = await begin(books)
    await commit(engine, started.begun[0])
    await commit(engine, AttemptKey(1, "silver", 3))
    assert await recover(books, engine, Catalog((JOB,))) == 2
    assert attempts(path) == [
        ("bronze", 1, "committed"),
        ("silver", 1, "died"),
        ("silver", 2, "died"),
        ("silver", 3, "committed"),
    ]
    assert invariants.broken(path, at_rest=False) == []


async def _forget_since_the_run_was_formed(books):
    def forget(ledger):
        for sql in (
            "UPDATE tasks SET state = 'PENDING', result = NULL, attempts = 0, started_at_s = NULL, ended_at_s = NULL",
            "DELETE FROM attempts",
            "UPDATE runs SET state = 'RUNNING', result = NULL, ended_at_s = NULL",
            "DELETE FROM outbox",
        ):
            ledger._db.execute(sql)

    await books._ledger.transact(forget)


async def test_a_new_ledger_hands_out_no_id_that_the_warehouse_has_seen(books, engine, path):
    await commit(engine, AttemptKey(41, "bronze", 1))
    await recover(books, engine, Catalog((JOB,)))
    assert await books.request_run(JOB, request_id="x", parameters={}) == 42
