"""The process died or stopped while runs of every kind were under way: what the next one makes of them.

The ledger and the warehouse are real. A death is a dispatch that is canceled where it stands, or books that were
written up to a point and never further; a start is recovery and a dispatch of its own.
"""

import asyncio
import json
import textwrap
import time
from contextlib import asynccontextmanager

import pytest

import invariants
from bookkeeping import Clock, arrival, looked_up
from landingd.core import lifecycle
from landingd.edge.engine import EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.errors import RefusedError
from landingd.flow.books import Books
from landingd.flow.catalog import load_catalog
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.entries import Later
from landingd.flow.preparing import Preparer
from landingd.flow.recovery import recover
from landingd.flow.runner import Runner
from landingd.flow.subruns import WAITED_TOO_LONG
from landingd.model import (
    Canceled,
    Committed,
    Expanded,
    Failed,
    Interrupted,
    RepairRequest,
    Result,
    RunRequest,
    ScriptPlan,
    Stats,
    TriggerType,
)

DEADLINE_S = 20.0
MARK = (
    "CREATE TABLE IF NOT EXISTS gold.did (run VARCHAR, task VARCHAR); INSERT INTO gold.did VALUES ($run_id, $task_key)"
)
NOT_YET = "SELECT error('not yet')"
ENDLESS = "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"


class House:
    """Jobs, books and a warehouse in which processes come and go."""

    def __init__(self, folder, clock):
        self.folder = folder
        self.path = folder / "ledger.sqlite"
        self.clock = clock
        self.ledger = LedgerThread(self.path)
        self.engine = open_engine(EngineOptions(folder / "w.duckdb", folder / "scratch", folder / "in", threads=1))
        self.books = Books(self.ledger, clock)
        self.catalog = None

    def close(self):
        self.engine.close()
        self.ledger.close()

    async def define(self, **files):
        """Job files by their names; `mark.sql` and `endless.sql` are there for each."""
        for name, text in files.items():
            job = self.folder / "jobs" / name
            job.mkdir(parents=True, exist_ok=True)
            (job / "job.yml").write_text(textwrap.dedent(text))
            (job / "mark.sql").write_text(MARK)
            (job / "endless.sql").write_text(ENDLESS)
        await self.reload()

    async def write(self, job, name, sql):
        (self.folder / "jobs" / job / name).write_text(sql)
        await self.reload()

    async def reload(self):
        self.catalog = load_catalog(self.folder / "jobs", await self.engine.columns())
        self.books.definition = self.catalog.job

    def job(self, name):
        return self.catalog.job(name)

    async def ask(self, name, **parameters):
        key = f"asked:{time.monotonic_ns()}"
        request = RunRequest(TriggerType.ONE_TIME, key, parameters, queue=True)
        return (await self.books.admit(self.job(name), request)).run_id

    async def start(self, name):
        """Take up the next run of a job, as dispatch would, and go no further."""
        return await self.books.next_run(self.job(name))

    async def conclude(self, key, outcome, job, *, go_on=True):
        return await self.books.conclude(self.job(job), key, outcome, go_on=go_on)

    async def commit(self, key, job):
        """What the attempt did reaches the warehouse, and then the process dies."""
        values = {"run_id": str(key.run_id), "task_key": key.task_key}
        assert isinstance(await self.engine.execute(ScriptPlan(key, job, MARK, values)), Committed)

    async def restart(self):
        """What a start does before anything else."""
        self.books = Books(self.ledger, self.clock)
        self.books.definition = self.catalog.job
        return await recover(self.books, self.engine, self.catalog)

    def driver(self):
        return Driver(Runner(self.books, self.engine, Preparer(self.folder / "in", None, self.folder), self.clock))

    @asynccontextmanager
    async def alive(self):
        """A dispatch at work, that dies where it stands at the end of the block."""
        driver = self.driver()
        dispatch = Dispatch(self.books, driver, self.catalog, max_concurrent=8, clock=self.clock)
        driver._runner.wake = dispatch.wake
        working = asyncio.create_task(dispatch.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield dispatch
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def live_until_all_is_done(self):
        """A start as any other, until nothing is open."""
        await self.restart()
        async with self.alive():
            await self.until(lambda: not self.rows("SELECT 1 FROM runs WHERE ended_at_s IS NULL"))
        assert invariants.broken(self.path, at_rest=True) == []

    async def until(self, predicate):
        async with asyncio.timeout(DEADLINE_S):
            while not predicate():  # noqa: ASYNC110 -- what a process has done is seen in its ledger
                await asyncio.sleep(0.005)

    def rows(self, sql, *values):
        return looked_up(self.path, sql, *values)

    def tasks(self, run_id):
        sql = "SELECT task_key, result FROM tasks WHERE run_id = ? ORDER BY parent IS NOT NULL, position"
        return dict(self.rows(sql, run_id))

    def runs(self):
        return dict(self.rows("SELECT run_id, result FROM runs ORDER BY run_id"))

    def did(self):
        """Which tasks have left their rows, in the warehouse."""
        with self.engine._root.cursor() as cursor:
            return cursor.execute("SELECT CAST(run AS INTEGER), task FROM gold.did ORDER BY ALL").fetchall()


@pytest.fixture
def clock():
    return time.time


@pytest.fixture
def house(tmp_path, clock):
    house = House(tmp_path, clock)
    yield house
    house.close()


# --- loops --------------------------------------------------------------------------------------------------------

LOOP = """
    name: shop
    tasks:
      - task_key: each
        for_each_task:
          inputs: [1, 2, 3, 4]
          concurrency: 2
          task: {task_key: one, sql: mark.sql, max_retries: 1, min_retry_interval_millis: 3600000}
      - {task_key: after, depends_on: [{task_key: each}], sql: mark.sql}
    """
EACH = [(1, "after"), (1, "each[0]"), (1, "each[1]"), (1, "each[2]"), (1, "each[3]")]


async def expanded(house):
    """A loop whose first two iterations have begun."""
    await house.define(shop=LOOP)
    await house.ask("shop")
    started = await house.start("shop")
    follow = await house.conclude(started.begun[0], Expanded((1, 2, 3, 4)), "shop")
    assert [key.task_key for key in follow.begun] == ["each[0]", "each[1]"]
    return follow.begun


async def test_a_loop_goes_on_with_the_iterations_that_have_left_nothing_and_does_none_twice(house):
    first, _ = await expanded(house)
    await house.commit(first, "shop")
    await house.live_until_all_is_done()
    assert house.did() == EACH
    ended = house.rows("SELECT task_key, outcome FROM attempts WHERE task_key <> 'after' ORDER BY task_key, attempt")
    assert ended == [
        ("each", "committed"),
        ("each[0]", "committed"),
        ("each[1]", "died"),
        ("each[1]", "committed"),
        ("each[2]", "committed"),
        ("each[3]", "committed"),
    ]


async def test_a_loop_whose_iterations_all_committed_before_the_death_is_not_gone_through_again(house):
    begun = list(await expanded(house))
    while begun:
        key = begun.pop(0)
        await house.commit(key, "shop")
        if key.task_key in {"each[0]", "each[1]"}:
            begun += (await house.conclude(key, Committed(Stats()), "shop")).begun
    assert await house.restart() == 2
    assert house.tasks(1)["each"] == "SUCCESS"
    await house.live_until_all_is_done()
    assert house.did() == EACH


async def test_an_iteration_that_waits_for_its_retry_waits_on_and_takes_a_place_in_the_loop(house):
    first, second = await expanded(house)
    await house.conclude(first, Failed("not now"), "shop")
    await house.restart()
    started = await house.start("shop")
    assert [key for key, _ in started.retries] == ["each[0]"]
    assert [key.task_key for key in started.begun] == ["each[1]"]
    assert started.begun[0].attempt == second.attempt + 1
    assert invariants.broken(house.path, at_rest=False) == []


async def test_a_death_as_the_loop_itself_is_worked_out_begins_the_loop_anew(house):
    await house.define(shop=LOOP)
    await house.ask("shop")
    await house.start("shop")
    await house.live_until_all_is_done()
    assert house.did() == EACH
    assert house.rows("SELECT outcome FROM attempts WHERE task_key = 'each' ORDER BY attempt") == [
        ("interrupted",),
        ("committed",),
    ]


async def test_a_death_in_the_repair_of_a_loop_leaves_the_iterations_that_had_succeeded(house):
    await expanded(house)
    await house.write("shop", "mark.sql", MARK + "; SELECT CASE WHEN $task_key = 'each[2]' THEN error('x') END")
    await house.restart()
    async with house.alive():
        await house.until(lambda: house.rows("SELECT 1 FROM tasks WHERE state = 'WAITING_FOR_RETRY'"))
    await house.write("shop", "mark.sql", MARK)
    await house.restart()
    await house.books.cancel(1)
    assert await house.books.repair(1, house.job) == ("each", "after")
    started = await house.start("shop")
    follow = await house.conclude(started.begun[0], Expanded((1, 2, 3, 4)), "shop")
    assert [key.task_key for key in follow.begun] == ["each[2]"]
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS"}
    assert house.did() == EACH


# --- runs of other jobs -------------------------------------------------------------------------------------------

PARENT = """
    name: parent
    tasks:
      - {task_key: call, run_job_task: {job_name: child}}
      - {task_key: after, depends_on: [{task_key: call}], sql: mark.sql}
    """
CHILD = """
    name: child
    tasks:
      - {task_key: a, sql: mark.sql}
      - {task_key: b, depends_on: [{task_key: a}], sql: b.sql, max_retries: 1, min_retry_interval_millis: 3600000}
    """


async def a_parent_and_its_child(house):
    """A run that waits for another one, which waits for a retry that comes in an hour; then the process dies."""
    await house.define(child=CHILD.replace("b.sql", "mark.sql"), parent=PARENT)
    (house.folder / "jobs/child/b.sql").write_text(NOT_YET)
    await house.define(child=CHILD)
    await house.ask("parent")
    async with house.alive():
        await house.until(lambda: house.rows("SELECT 1 FROM tasks WHERE state = 'WAITING_FOR_RETRY'"))
    await house.write("child", "b.sql", MARK)


async def test_a_run_that_waits_for_another_finds_it_after_a_death_and_starts_no_second_one(house):
    await a_parent_and_its_child(house)
    await house.restart()
    async with house.alive():
        await house.until(lambda: house.rows("SELECT 1 FROM attempts WHERE task_key = 'call' AND attempt = 2"))
    assert house.rows("SELECT run_id, parent_run_id, depth FROM runs") == [(1, None, 0), (2, 1, 1)]
    await house.books.cancel(2)
    await house.books.repair(2, house.job, RepairRequest())
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS", 2: "SUCCESS"}
    assert house.did() == [(1, "after"), (2, "a"), (2, "b")]
    assert house.rows("SELECT output ->> '$.run_id' FROM tasks WHERE task_key = 'call'") == [(2,)]


async def test_a_run_that_ended_while_nobody_waited_for_it_is_found_with_its_end(house):
    await a_parent_and_its_child(house)
    await house.restart()
    started = await house.start("child")
    assert started.retries[0][0] == "b"
    key = await house.books.begin(2, "b")
    await house.conclude(key, Committed(Stats()), "child")
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS", 2: "SUCCESS"}


async def test_a_run_that_a_canceled_one_had_started_is_canceled_with_it_whenever_the_process_dies(house):
    await a_parent_and_its_child(house)
    await house.restart()
    await house.books.cancel(1)
    await house.live_until_all_is_done()
    assert house.runs() == {1: "CANCELED", 2: "CANCELED"}
    assert house.did() == [(2, "a")]


async def test_a_repair_of_a_run_that_waits_for_another_starts_a_run_anew(house):
    await a_parent_and_its_child(house)
    await house.restart()
    await house.books.cancel(1)
    await house.live_until_all_is_done()
    assert await house.books.repair(1, house.job) == ("call", "after")
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS", 2: "CANCELED", 3: "SUCCESS"}
    assert house.rows("SELECT depth, parent_run_id FROM runs WHERE run_id = 3") == [(1, 1)]


async def test_a_task_that_waits_too_long_for_a_run_times_out_and_the_run_is_canceled(house):
    await a_parent_and_its_child(house)
    await house.define(parent=PARENT.replace("run_job_task:", "timeout_seconds: 0.2, run_job_task:"))
    await house.live_until_all_is_done()
    assert house.runs() == {1: "FAILED", 2: "CANCELED"}
    assert house.tasks(1) == {"call": "TIMEDOUT", "after": "UPSTREAM_FAILED"}
    assert house.rows("SELECT error FROM runs WHERE run_id = 2") == [(WAITED_TOO_LONG,)]


async def test_a_task_that_has_waited_too_long_has_timed_out_though_the_process_died_before_it_ended(house):
    """Its run is canceled already, and a task that may be tried again after a timeout is."""
    await a_parent_and_its_child(house)
    late = "timeout_seconds: 60, retry_on_timeout: true, max_retries: 1, run_job_task:"
    await house.define(parent=PARENT.replace("run_job_task:", late))
    await house.restart()
    await house.books.cancel(2, why=WAITED_TOO_LONG)
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS", 2: "CANCELED", 3: "SUCCESS"}
    outcomes = house.rows("SELECT outcome FROM attempts WHERE task_key = 'call' ORDER BY attempt")
    assert outcomes == [("interrupted",), ("timed out",), ("committed",)]


async def test_a_run_that_is_being_broken_off_starts_no_other_one(house):
    """Between the cancel and the moment in which the task hears of it."""
    await a_parent_and_its_child(house)
    request = RunRequest(TriggerType.RUN_JOB_TASK, "late", parent=(1, "call"), depth=1)
    await house.books.cancel(1)
    with pytest.raises(RefusedError, match="is being broken off"):
        await house.books.admit(house.job("child"), request)


# --- retries ------------------------------------------------------------------------------------------------------

RETRYING = """
    name: shop
    tasks:
      - {task_key: a, sql: mark.sql, timeout_seconds: 60, max_retries: 2, min_retry_interval_millis: 5000}
    """


class OnAClock:
    """The time is the test's."""

    @pytest.fixture
    def clock(self):
        return Clock()


class TestRetries(OnAClock):
    @pytest.mark.parametrize(("away_s", "due"), [(1.0, False), (5.0, True), (9999.0, True)])
    async def test_a_retry_is_due_when_it_was_due_however_long_nobody_was_there(self, house, clock, away_s, due):
        await house.define(shop=RETRYING)
        await house.ask("shop")
        await house.conclude((await house.start("shop")).begun[0], Failed("x"), "shop")
        clock.pass_s(away_s)
        assert await house.restart() == 0
        started = await house.start("shop")
        assert started.begun == ()
        ((task_key, at_s),) = started.retries
        assert (task_key, at_s <= clock()) == ("a", due)
        if due:
            driving = asyncio.create_task(house.driver().drive(started, house.catalog))
            await asyncio.wait_for(driving, DEADLINE_S)
            assert house.runs() == {1: "SUCCESS"}

    async def test_deaths_and_stops_use_up_no_retries(self, house):
        await house.define(shop=RETRYING)
        await house.ask("shop")
        started = await house.start("shop")
        for _ in range(lifecycle.CRASHES_MAX - 1):
            await house.restart()
            started = await house.start("shop")
        await house.conclude(started.begun[0], Interrupted(crashed=False), "shop", go_on=False)
        assert house.rows("SELECT failures, attempts FROM tasks") == [(0, lifecycle.CRASHES_MAX)]


# --- what was being broken off ------------------------------------------------------------------------------------


async def test_a_run_that_was_being_broken_off_when_the_process_died_ends_canceled_and_begins_nothing(house):
    await house.define(
        shop="""
        name: shop
        tasks:
          - {task_key: a, sql: mark.sql, timeout_seconds: 60}
          - {task_key: b, sql: mark.sql, timeout_seconds: 60}
          - {task_key: c, depends_on: [{task_key: a}], sql: mark.sql}
        """
    )
    await house.ask("shop")
    first, _ = (await house.start("shop")).begun
    await house.books.cancel(1)
    await house.commit(first, "shop")
    assert await house.restart() == 2
    assert house.rows("SELECT state, result FROM runs") == [("TERMINATED", "CANCELED")]
    assert house.tasks(1) == {"a": "SUCCESS", "b": "CANCELED", "c": "CANCELED"}
    await house.live_until_all_is_done()
    assert house.did() == [(1, "a")]


async def test_a_loop_that_was_being_broken_off_when_the_process_died_ends_with_its_iterations(house):
    await expanded(house)
    await house.books.cancel(1)
    assert house.rows("SELECT state FROM runs") == [("TERMINATING",)]
    assert await house.restart() == 2
    assert house.runs() == {1: "CANCELED"}
    assert set(house.tasks(1).values()) == {"CANCELED"}
    await house.live_until_all_is_done()


async def test_a_timeout_of_the_job_counts_on_over_a_death(house):
    await house.define(
        shop="""
        name: shop
        timeout_seconds: 1
        tasks: [{task_key: a, sql: endless.sql, table: gold.a}]
        """
    )
    await house.ask("shop")
    await house.start("shop")
    await house.live_until_all_is_done()
    assert house.runs() == {1: "TIMEDOUT"}


@pytest.mark.parametrize("retrying", [False, True])
async def test_a_cancel_that_comes_as_the_run_is_taken_up_is_heard(house, retrying):
    """The ledger has the run started, and nobody drives it yet."""
    await house.define(shop=RETRYING.replace("sql: mark.sql", "sql: endless.sql, table: gold.a"))
    await house.ask("shop")
    if retrying:
        await house.conclude((await house.start("shop")).begun[0], Failed("x"), "shop", go_on=False)
        await house.restart()
    driver = house.driver()
    started = await house.start("shop")
    await house.books.cancel(1)
    async with asyncio.timeout(DEADLINE_S):
        await driver.drive(started, house.catalog)
    assert house.runs() == {1: "CANCELED"}


async def test_a_stop_that_comes_as_a_run_with_a_retry_is_taken_up_ends_its_drive(house):
    await house.define(shop=RETRYING.replace("5000", "3600000"))
    await house.ask("shop")
    await house.conclude((await house.start("shop")).begun[0], Failed("x"), "shop", go_on=False)
    await house.restart()
    driver = house.driver()
    started = await house.start("shop")
    driver.stop()
    async with asyncio.timeout(DEADLINE_S):
        await driver.drive(started, house.catalog)
    assert house.rows("SELECT state FROM tasks") == [("WAITING_FOR_RETRY",)]


# --- runs that wait for older ones --------------------------------------------------------------------------------

WRITERS = """
    name: shop
    max_concurrent_runs: 2
    parameters: [{name: month, default: Oct}]
    tasks:
      - {task_key: read, sql: mark.sql, timeout_seconds: 60}
      - {task_key: first, depends_on: [{task_key: read}], sql: first.sql, table: silver.first}
      - {task_key: second, depends_on: [{task_key: first}], sql: second.sql, table: gold.second}
    """


async def two_runs(house):
    """Two runs at a time, the younger of which waits for the tables of the older."""
    folder = house.folder / "jobs/shop"
    folder.mkdir(parents=True)
    (folder / "first.sql").write_text("SELECT $month AS month")
    (folder / "second.sql").write_text("SELECT $month AS month, month AS read FROM silver.first")
    await house.define(shop=WRITERS)
    await house.ask("shop", month="Oct")
    await house.ask("shop", month="Nov")
    older = await house.start("shop")
    younger = await house.books.next_run(house.job("shop"), [1])
    follow = await house.conclude(older.begun[0], Committed(Stats()), "shop")
    assert [key.task_key for key in follow.begun] == ["first"]
    follow = await house.conclude(younger.begun[0], Committed(Stats()), "shop")
    assert follow.begun == ()


async def test_of_two_runs_the_younger_still_waits_for_the_tables_of_the_older_after_a_death(house):
    await two_runs(house)
    await house.live_until_all_is_done()
    assert house.runs() == {1: "SUCCESS", 2: "SUCCESS"}
    order = (
        "SELECT run_id, task_key FROM attempts WHERE outcome = 'committed' AND task_key <> 'read' ORDER BY ended_at_s"
    )
    assert house.rows(order) == [(1, "first"), (1, "second"), (2, "first"), (2, "second")]
    with house.engine._root.cursor() as cursor:
        assert cursor.execute("SELECT month, read FROM gold.second").fetchall() == [("Nov", "Nov")]


async def test_a_younger_run_goes_on_when_the_older_one_is_canceled_after_a_death(house):
    await two_runs(house)
    await house.restart()
    await house.books.cancel(1)
    await house.live_until_all_is_done()
    assert house.runs() == {1: "CANCELED", 2: "SUCCESS"}


# --- continuous jobs ----------------------------------------------------------------------------------------------

CONTINUOUS = """
    name: shop
    continuous:
      backoff: {initial_seconds: 10, factor: 2, jitter: 0}
      path: in
    tasks: [{task_key: bronze, ingest: {}, table: bronze.t, timeout_seconds: 60}]
    """


class TestContinuous(OnAClock):
    async def land(self, house, name):
        await house.books.accept([arrival(name)])

    async def test_the_pause_after_failed_batches_grows_on_over_a_death(self, house, clock):
        await house.define(shop=CONTINUOUS)
        await self.land(house, b"in/a.csv")
        for pause_s in (10.0, 20.0, 40.0):
            started = await house.start("shop")
            await house.conclude(started.begun[0], Failed("x", permanent=True), "shop")
            await house.restart()
            later = await house.start("shop")
            assert isinstance(later, Later)
            assert later.at_s == pytest.approx(clock() + pause_s)
            clock.pass_s(pause_s)
        kinds = "SELECT trigger_type FROM runs ORDER BY run_id"
        assert house.rows(kinds) == [("CONTINUOUS",), ("CONTINUOUS_RESTART",), ("CONTINUOUS_RESTART",)]

    async def test_a_death_during_a_batch_is_no_failed_batch(self, house):
        await house.define(shop=CONTINUOUS)
        await self.land(house, b"in/a.csv")
        await house.start("shop")
        await house.restart()
        started = await house.start("shop")
        assert started.run.run_id == 1
        assert [key.attempt for key in started.begun] == [2]
        assert house.rows("SELECT coalesce(sum(failures), 0) FROM triggers") == [(0,)]

    async def test_a_batch_that_was_canceled_says_nothing_about_the_next(self, house):
        await house.define(shop=CONTINUOUS)
        await self.land(house, b"in/a.csv")
        started = await house.start("shop")
        await house.books.cancel(1)
        await house.conclude(started.begun[0], Canceled(), "shop")
        assert house.rows("SELECT coalesce(sum(failures), 0) FROM triggers") == [(0,)]
        assert json.loads(house.rows("SELECT json_group_array(result) FROM runs")[0][0]) == [Result.CANCELED]
