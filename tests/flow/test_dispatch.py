"""Which run goes when: first with runs that last as long as a test says, then all the way into a real warehouse."""

import asyncio
import os
import signal
import textwrap
import time

import pytest

from bookkeeping import arrival, bronze, job, looked_up, to_load
from landingd.edge import landing
from landingd.edge.engine import EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog, load_catalog
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.preparing import Preparer
from landingd.flow.runner import Runner
from landingd.model import Committed, FileArrival, FileLoad, Stats


class Stage:
    """A runner whose runs end when they are told to."""

    def __init__(self, books):
        self.books = books
        self.on_stage = asyncio.Queue()
        self.stopped = False

    async def drive(self, started, catalog):
        over = asyncio.Event()
        ids = [f.file.file_id for f in await to_load(self.books, started.run.run_id)]
        self.on_stage.put_nowait((started.run.job, len(ids), over))
        await over.wait()
        done = Committed(Stats(files=tuple(FileLoad(n) for n in ids)))
        await self.books.conclude(catalog.job(started.run.job), started.begun[0], done, go_on=True)

    async def next(self):
        return await self.on_stage.get()

    def stop(self):
        self.stopped = True


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def books(path):
    ledger = LedgerThread(path)
    yield Books(ledger)
    ledger.close()


@pytest.fixture
def stage(books):
    return Stage(books)


def jobs(*names, **arrival_):
    return Catalog(tuple(job(bronze(), name=name, arrival=FileArrival("in", **arrival_)) for name in names))


class dispatching:  # noqa: N801 -- it reads as a verb
    """Dispatch at work; stopped, and its end awaited, when the block is left."""

    def __init__(self, books, runner, catalog, *, slots=4, **more):
        self.dispatch = Dispatch(books, runner, catalog, max_concurrent=slots, **more)

    async def __aenter__(self):
        self._task = asyncio.create_task(self.dispatch.run())
        return self.dispatch

    async def __aexit__(self, *error):
        self.dispatch.stop()
        async with asyncio.timeout(20):
            await self._task


async def land(books, dispatch, name, *paths):
    await books.accept([arrival(path, name=name) for path in paths])
    if dispatch is not None:
        dispatch.wake(name)


# --- slots and batches ------------------------------------------------------------------------------------


async def test_what_waits_at_the_start_is_run_without_being_told(books, stage):
    await land(books, None, "a", b"1")
    async with dispatching(books, stage, jobs("a")) as dispatch:
        name, count, over = await stage.next()
        assert (name, count, dispatch.active) == ("a", 1, {"a"})
        over.set()
        await dispatch.drained()
        assert dispatch.active == frozenset()


async def test_a_job_has_one_run_at_a_time_and_what_comes_meanwhile_is_its_next(books, stage):
    async with dispatching(books, stage, jobs("a")) as dispatch:
        await land(books, dispatch, "a", b"1")
        _, first, over = await stage.next()
        for path in (b"2", b"3", b"4"):
            await land(books, dispatch, "a", path)
        await asyncio.sleep(0)
        assert stage.on_stage.empty()
        over.set()
        _, second, over = await stage.next()
        over.set()
        assert (first, second) == (1, 3)
        await dispatch.drained()
        assert stage.on_stage.empty()


async def test_jobs_run_side_by_side_up_to_the_number_of_slots(books, stage):
    for name in "abc":
        await land(books, None, name, b"1")
    async with dispatching(books, stage, jobs("a", "b", "c"), slots=2) as dispatch:
        first, second = await stage.next(), await stage.next()
        assert {first[0], second[0]} == {"a", "b"} == dispatch.active
        assert stage.on_stage.empty()
        first[2].set()
        third = await stage.next()
        assert third[0] == "c"
        second[2].set()
        third[2].set()


async def test_a_job_that_always_has_work_does_not_keep_the_others_from_the_slot(books, stage):
    await land(books, None, "a", b"1")
    async with dispatching(books, stage, jobs("a", "b"), slots=1) as dispatch:
        seen = []
        for n in range(4):
            name, _, over = await stage.next()
            seen.append(name)
            await land(books, dispatch, "a", b"more %d" % n)
            if n == 0:
                await land(books, dispatch, "b", b"1")
            over.set()
        (await stage.next())[2].set()
        assert seen[1] == "b", seen
        await dispatch.drained()


async def test_a_wake_for_nothing_starts_nothing(books, stage):
    async with dispatching(books, stage, jobs("a")) as dispatch:
        for _ in range(100):
            dispatch.wake("a")
            dispatch.wake("no such job")
        await dispatch.drained()
        assert stage.on_stage.empty()


async def test_no_wake_is_lost_however_it_falls(books, stage, path):
    async with dispatching(books, stage, jobs("a")) as dispatch:

        async def end_every_run():
            while True:
                (await stage.next())[2].set()

        ending = asyncio.create_task(end_every_run())
        for n in range(60):
            await land(books, dispatch, "a", b"%d" % n)
            for _ in range(n % 7):
                await asyncio.sleep(0)
        await dispatch.drained()
        ending.cancel()
        await asyncio.wait({ending})
    assert looked_up(path, "SELECT state, count(*) FROM files GROUP BY 1") == [("loaded", 60)]


async def test_files_that_wait_for_the_cooldown_are_run_when_it_is_over_without_another_event(books, stage):
    async with dispatching(books, stage, jobs("a", min_time_between_triggers_s=0.3)) as dispatch:
        await land(books, dispatch, "a", b"1")
        (await stage.next())[2].set()
        began_s = time.monotonic()
        for n in range(2, 20):
            await land(books, dispatch, "a", b"%d" % n)
        _, count, over = await stage.next()
        over.set()
        assert count == 18
        assert time.monotonic() - began_s > 0.1
        assert len([task for task in asyncio.all_tasks() if "_wake_later" in repr(task)]) <= 1


async def test_a_stop_starts_nothing_more_and_lets_what_runs_come_to_its_end(books, stage, path):
    await land(books, None, "a", b"1")
    await land(books, None, "b", b"1")
    async with dispatching(books, stage, jobs("a", "b"), slots=1) as dispatch:
        _, _, over = await stage.next()
        dispatch.stop()
        assert stage.stopped
        assert dispatch.active == {"a"}
        over.set()
    assert looked_up(path, "SELECT job, state FROM files ORDER BY 1") == [("a", "loaded"), ("b", "waiting")]


async def test_jobs_can_be_exchanged_between_runs(books, stage):
    async with dispatching(books, stage, jobs("a")) as dispatch:
        dispatch.catalog = jobs("b")
        await land(books, dispatch, "a", b"1")
        await land(books, dispatch, "b", b"1")
        name, _, over = await stage.next()
        over.set()
        await dispatch.drained()
        assert (name, stage.on_stage.empty()) == ("b", True)


async def test_a_run_that_breaks_brings_dispatch_down(books):
    class Broken:
        async def drive(self, *_):
            raise RuntimeError("the engine is broken")

        def stop(self):
            pass

    await land(books, None, "a", b"1")
    with pytest.raises(ExceptionGroup) as broken:
        await Dispatch(books, Broken(), jobs("a"), max_concurrent=1).run()
    assert broken.group_contains(RuntimeError, match="broken")


async def test_whoever_listens_is_told_when_a_job_starts_and_ends(books, stage):
    heard = []
    await land(books, None, "a", b"1")
    async with dispatching(books, stage, jobs("a"), on_change=heard.append) as dispatch:
        _, _, over = await stage.next()
        assert heard == ["a"]
        over.set()
        await dispatch.drained()
    assert heard == ["a", "a"]


# --- all the way ------------------------------------------------------------------------------------------


@pytest.fixture
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


JOB = """
    name: shop
    trigger: {file_arrival: {path: in, incomplete_after_seconds: 0}}
    tasks:
      - task_key: bronze
        ingest: {format: csv, schema_hints: {brand: VARCHAR, price: BIGINT}}
        table: bronze.events
      - task_key: silver
        depends_on: [{task_key: bronze}]
        sql: silver.sql
        table: silver.events
      - task_key: gold
        depends_on: [{task_key: silver}]
        sql: gold.sql
        table: gold.brands
"""


class Shop:
    """Bronze, silver and gold of one job, from files in a directory."""

    def __init__(self, folder, books, engine):
        self.folder, self.books, self.engine = folder, books, engine
        (folder / "landing" / "in").mkdir(parents=True)
        (folder / "pipelines" / "shop").mkdir(parents=True)
        self.define(silver="SELECT brand, price FROM bronze.events WHERE brand IS NOT NULL")

    def define(
        self, *, silver, job_file=JOB, gold="SELECT brand, sum(price) AS total FROM silver.events GROUP BY brand"
    ):
        folder = self.folder / "pipelines" / "shop"
        (folder / "job.yml").write_text(textwrap.dedent(job_file))
        (folder / "silver.sql").write_text(silver)
        (folder / "gold.sql").write_text(gold)

    def write(self, name, *rows):
        (self.folder / "landing" / "in" / name).write_text("\n".join(["brand,price", *rows]) + "\n")

    async def run(self):
        """Take in what is there and run until nothing is left to do."""
        catalog = load_catalog(self.folder / "pipelines", await self.engine.columns())
        options = IntakeOptions(self.folder / "landing", 3600.0, 0.0)
        await Intake(self.books, catalog.jobs, options, on_arrived=lambda _: None).once()
        runner = Driver(
            Runner(self.books, self.engine, Preparer(self.folder / "landing", None, self.folder / "scratch"))
        )
        async with dispatching(self.books, runner, catalog) as dispatch:
            dispatch.wake()
            await dispatch.drained()

    def gold(self, sql="SELECT brand, total FROM gold.brands ORDER BY 1"):
        with self.engine._root.cursor() as cursor:
            return cursor.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path, books, _lease_signal_ignored):
    options = EngineOptions(tmp_path / "w.duckdb", tmp_path / "scratch", tmp_path / "landing", threads=1)
    engine = open_engine(options)
    yield Shop(tmp_path, books, engine)
    engine.close()


async def test_files_become_gold_and_a_correction_is_carried_through_all_layers(shop):
    shop.write("a.csv", "acme,1", "zeta,2", ",99")
    shop.write("b.csv", "acme,10")
    await shop.run()
    assert shop.gold() == [("acme", 11), ("zeta", 2)]
    shop.write("a.csv", "acme,5")
    await shop.run()
    assert shop.gold() == [("acme", 15)]
    assert shop.gold("SELECT count(*) FROM bronze.events") == [(2,)]


async def test_a_layer_that_fails_leaves_those_above_it_and_a_repair_goes_on_from_there(shop, path):
    shop.write("a.csv", "acme,1")
    shop.define(silver="SELECT brand, error('not today')::INTEGER AS price FROM bronze.events")
    await shop.run()
    assert looked_up(path, "SELECT task_key, result FROM tasks ORDER BY position") == [
        ("bronze", "SUCCESS"),
        ("silver", "FAILED"),
        ("gold", "UPSTREAM_FAILED"),
    ]
    assert looked_up(path, "SELECT state FROM files") == [("loaded",)]
    shop.define(silver="SELECT brand, price FROM bronze.events")
    catalog = load_catalog(shop.folder / "pipelines", await shop.engine.columns())
    assert await shop.books.repair(1, catalog.job) == ("silver", "gold")
    await shop.run()
    assert shop.gold() == [("acme", 1)]


async def test_a_failure_is_tried_again_as_often_as_the_job_says(shop, path):
    retrying = JOB.replace("sql: silver.sql", "sql: silver.sql\n        max_retries: 2\n        timeout_seconds: 30")
    shop.define(silver="SELECT error('x')::VARCHAR AS brand, 1 AS price FROM bronze.events", job_file=retrying)
    shop.write("a.csv", "acme,1")
    await shop.run()
    assert looked_up(path, "SELECT outcome FROM attempts WHERE task_key = 'silver'") == [("failed",)] * 3


async def test_a_file_that_was_taken_away_before_its_run_leaves_the_others_alone(shop, path):
    shop.write("a.csv", "acme,1")
    shop.write("b.csv", "acme,10")
    catalog = load_catalog(shop.folder / "pipelines", {})
    options = IntakeOptions(shop.folder / "landing", 3600.0, 0.0)
    await Intake(shop.books, catalog.jobs, options, on_arrived=lambda _: None).once()
    os.unlink(shop.folder / "landing" / "in" / "a.csv")  # noqa: PTH108 -- a producer's
    await shop.run()
    assert shop.gold() == [("acme", 10)]
    assert looked_up(path, "SELECT name, state FROM files ORDER BY 1") == [
        ("in/a.csv", "retracted"),
        ("in/b.csv", "loaded"),
    ]


async def test_bad_files_are_quarantined_with_their_reason_and_the_good_ones_reach_gold(shop, path):
    shop.write("good.csv", "acme,1")
    landing_ = shop.folder / "landing" / "in"
    (landing_ / "empty.csv").write_bytes(b"\n")
    (landing_ / "binary.csv").write_bytes(b"PAR1\0\0\0")
    (landing_ / "cut.csv").write_bytes(b"\x1f\x8b\x08\0\0\0")
    await shop.run()
    assert shop.gold() == [("acme", 1)]
    states = looked_up(path, "SELECT name, state, reason FROM files ORDER BY 1")
    assert [(name, state) for name, state, _ in states] == [
        ("in/binary.csv", "quarantined"),
        ("in/cut.csv", "quarantined"),
        ("in/empty.csv", "quarantined"),
        ("in/good.csv", "loaded"),
    ]
    assert all(reason for _, state, reason in states if state == "quarantined")
