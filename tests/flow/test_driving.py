"""Runs that are driven side by side, with attempts that end when a test says so and as it says."""

import asyncio
from contextlib import asynccontextmanager

import pytest

import invariants
from bookkeeping import looked_up, place
from landingd.edge.ledger import LedgerThread
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.runner import Runner
from landingd.model import (
    Canceled,
    Committed,
    Expanded,
    Failed,
    ForEach,
    Interrupted,
    Job,
    RepairRequest,
    RunIf,
    RunRequest,
    Stats,
    Task,
    TriggerType,
)

DEADLINE_S = 20.0
GOOD = Committed(Stats())


class Stage(Runner):
    """Attempts wait on stage until they are ended, or canceled."""

    def __init__(self, books):
        super().__init__(books, None, None)
        self.on = {}

    async def attempt(self, _run, _catalog, key, cancel):
        end = asyncio.get_running_loop().create_future()
        self.on[key.run_id, key.task_key] = end
        canceled = asyncio.create_task(cancel.wait())
        try:
            await asyncio.wait({end, canceled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            canceled.cancel()
            await asyncio.wait({canceled})
            self.on.pop((key.run_id, key.task_key))
        return (end.result() if end.done() else Canceled()), {}


class Play:
    """One job, its books, and what is on stage."""

    def __init__(self, folder, *tasks, **more):
        self.path = folder / "ledger.sqlite"
        self.ledger = LedgerThread(self.path)
        self.books = Books(self.ledger)
        self.job = Job("shop", place(), tasks, **more)
        self.catalog = Catalog((self.job,))
        self.books.definition = self.catalog.job
        self.stage = Stage(self.books)

    @asynccontextmanager
    async def going(self):
        self.dispatch = Dispatch(self.books, Driver(self.stage), self.catalog, max_concurrent=8)
        working = asyncio.create_task(self.dispatch.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def ask(self, key):
        run_id = (await self.books.admit(self.job, RunRequest(TriggerType.ONE_TIME, key))).run_id
        self.dispatch.wake("shop")
        return run_id

    async def repair(self, run_id, *tasks):
        await self.books.repair(run_id, self.catalog.job, RepairRequest(tasks))
        self.dispatch.wake("shop")

    async def end(self, run_id, task_key, outcome=GOOD):
        await self.until(lambda: (run_id, task_key) in self.stage.on)
        self.stage.on[run_id, task_key].set_result(outcome)

    async def recover(self):
        """What a start does first with attempts that a death has left."""
        for run, key in await self.books.dangling():
            await self.books.conclude(self.catalog.job(run.job), key, Interrupted(crashed=True), go_on=False)

    async def until(self, predicate):
        while not predicate():  # noqa: ASYNC110 -- what is on stage, and what the ledger says, is seen by looking
            await asyncio.sleep(0.002)

    async def until_ended(self, run_id, result):
        assert (await self.books.ended(run_id)).result == result

    def tasks(self, run_id):
        return dict(looked_up(self.path, "SELECT task_key, result FROM tasks WHERE run_id = ?", run_id))


@pytest.fixture
def play(tmp_path):
    opened = []

    def open_(*tasks, **more):
        opened.append(Play(tmp_path, *tasks, **more))
        return opened[0]

    yield open_
    opened[0].ledger.close()
    assert invariants.broken(opened[0].path, at_rest=False) == []


def script(key, *above, **more):
    # With a timeout a task is tried alone, and not with the whole run in one transaction.
    return Task(key, place(), above, sql="SELECT 1", timeout_s=600.0, **more)


# --- whose turn it is to write ------------------------------------------------------------------------------------


async def test_a_repaired_run_writes_when_a_younger_one_that_was_under_way_has_written(play):
    silver, gold = script("silver", table="silver.t"), script("gold", "silver", table="gold.t")
    shop = play(silver, gold, script("tell", "gold"), max_concurrent_runs=2)
    async with shop.going():
        older = await shop.ask("older")
        await shop.end(older, "silver", Failed("x", permanent=True))
        await shop.until_ended(older, "FAILED")
        younger = await shop.ask("younger")
        await shop.until(lambda: (younger, "silver") in shop.stage.on)
        await shop.repair(older)
        await shop.until(lambda: older in shop.dispatch._driver.run_ids)
        await shop.end(younger, "silver")
        await shop.until(lambda: (younger, "gold") in shop.stage.on)
        assert (older, "silver") not in shop.stage.on
        await shop.end(younger, "gold")
        await shop.end(older, "silver")  # begins though nothing else of the younger run ends
        await shop.end(older, "gold")
        await shop.end(older, "tell")
        await shop.until_ended(older, "SUCCESS")
        await shop.end(younger, "tell")
        await shop.until_ended(younger, "SUCCESS")


async def test_a_run_begins_to_write_though_the_run_before_it_had_written_before_this_one_was_driven(play):
    shop = play(script("silver", table="silver.t"), max_concurrent_runs=2)
    for key in ("older", "younger"):
        await shop.books.admit(shop.job, RunRequest(TriggerType.ONE_TIME, key))
    older = await shop.books.next_run(shop.job)
    younger = await shop.books.next_run(shop.job, driven=[1])
    assert (younger.begun, younger.held) == ((), True)
    await shop.books.conclude(shop.job, older.begun[0], GOOD, go_on=True)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as work:
        work.create_task(Driver(shop.stage).drive(younger, shop.catalog))
        await shop.end(2, "silver")
    assert shop.tasks(2) == {"silver": "SUCCESS"}


# --- a loop whose time is over ------------------------------------------------------------------------------------


def loop(timeout_s, **more):
    return Task("each", place(), action=ForEach("[]", script("one"), 2), timeout_s=timeout_s, **more)


async def test_a_loop_whose_time_is_over_breaks_off_what_runs_and_begins_no_more_of_it(play):
    shop = play(loop(0.2), script("after", "each"))
    async with shop.going():
        run = await shop.ask("one")
        await shop.end(run, "each", Expanded((1, 2, 3, 4)))
        await shop.end(run, "each[0]")
        await shop.until_ended(run, "FAILED")
    assert shop.tasks(run) == {
        "after": "UPSTREAM_FAILED",
        "each": "TIMEDOUT",
        "each[0]": "SUCCESS",
        "each[1]": "CANCELED",
        "each[2]": "CANCELED",
        "each[3]": "CANCELED",
    }
    errors = looked_up(shop.path, "SELECT task_key, error, attempts FROM tasks WHERE task_key IN ('each', 'each[3]')")
    assert errors == [
        ("each", "timed out after 0.2 s (timeout_seconds)", 1),
        ("each[3]", "the time of its loop was over", 0),
    ]


async def test_a_loop_that_is_tried_again_after_its_time_keeps_what_was_done(play):
    shop = play(loop(0.2, max_retries=1, retry_on_timeout=True))
    async with shop.going():
        run = await shop.ask("one")
        await shop.end(run, "each", Expanded((1, 2)))
        await shop.end(run, "each[1]")
        await shop.until(lambda: looked_up(shop.path, "SELECT 1 FROM tasks WHERE task_key = 'each' AND failures = 1"))
        await shop.end(run, "each", Expanded((1, 2)))
        await shop.end(run, "each[0]")
        await shop.until_ended(run, "SUCCESS")
    assert looked_up(shop.path, "SELECT task_key, attempt, outcome FROM attempts ORDER BY 1, 2") == [
        ("each", 1, "timed out"),
        ("each", 2, "committed"),
        ("each[0]", 1, "canceled"),
        ("each[0]", 2, "committed"),
        ("each[1]", 1, "committed"),
    ]


async def test_a_loop_is_tried_again_where_it_may_be_and_a_cancel_still_reaches_its_iterations(play):
    shop = play(loop(600.0, max_retries=1))
    async with shop.going():
        run = await shop.ask("one")
        await shop.end(run, "each", Expanded((1, 2)))
        await shop.end(run, "each[0]", Failed("x"))
        await shop.end(run, "each[1]")
        await shop.end(run, "each", Expanded((1, 2)))
        await shop.until(lambda: (run, "each[0]") in shop.stage.on)
        assert (run, "each[1]") not in shop.stage.on
        await shop.books.cancel(run)
        await shop.until_ended(run, "CANCELED")
    assert shop.tasks(run) == {"each": "CANCELED", "each[0]": "CANCELED", "each[1]": "SUCCESS"}


async def test_the_time_of_a_loop_goes_on_while_the_daemon_is_away(play):
    shop = play(loop(0.3), script("after", "each", run_if=RunIf.ALL_DONE))
    async with shop.going():
        run = await shop.ask("one")
        await shop.end(run, "each", Expanded((1, 2, 3)))
        await shop.end(run, "each[0]")
        await shop.until(lambda: (run, "each[2]") in shop.stage.on)
    await shop.recover()
    async with shop.going():
        await shop.end(run, "after")
        await shop.until_ended(run, "SUCCESS_WITH_FAILURES")
    assert shop.tasks(run)["each"] == "TIMEDOUT"


async def test_what_an_iteration_asks_for_is_asked_for_anew_when_its_loop_is_tried_again(play):
    shop = play(loop(600.0, max_retries=1))
    async with shop.going():
        run = await shop.ask("one")
        await shop.end(run, "each", Expanded((1,)))
        await shop.until(lambda: (run, "each[0]") in shop.stage.on)
        first = await shop.books.failures(run, "each[0]")
        await shop.end(run, "each[0]", Failed("x"))
        await shop.end(run, "each", Expanded((1,)))
        await shop.until(lambda: (run, "each[0]") in shop.stage.on)
        assert await shop.books.failures(run, "each[0]") != first
        await shop.end(run, "each[0]")
        await shop.until_ended(run, "SUCCESS")
