"""History on a real ledger: what goes, in which order, and that the warehouse is asked last."""

import asyncio
from functools import partial

import pytest

from bookkeeping import Clock
from landingd.edge.ledger import LedgerThread
from landingd.flow import history
from landingd.flow.history import Forgotten, History
from pastruns import T0_S, PastRuns

DAY_S = 86400.0


class Warehouse:
    """Remembers what it was asked to forget."""

    def __init__(self):
        self.asked = []
        self.was_asked = asyncio.Event()

    async def forget_commits(self, before_run_id, keep):
        self.asked.append((before_run_id, sorted(keep)))
        self.was_asked.set()
        return 7


class Desk:
    def __init__(self, path, *, days=60.0):
        self.past = PastRuns(path)
        self.ledger = LedgerThread(path)
        self.warehouse = Warehouse()
        self.clock = Clock(T0_S + 1000 * DAY_S)
        make = partial(History, self.ledger, path, self.warehouse.forget_commits, clock=self.clock)
        self.history = make(retention_s=days * DAY_S)

    def run(self, days_ago=500, **more):
        return self.past.run(at=(1000 - days_ago) * DAY_S, **more)

    def runs(self):
        return [row[0] for row in self.past.rows("SELECT run_id FROM runs ORDER BY 1")]

    def close(self):
        self.past.close()
        self.ledger.close()


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.sqlite")
    yield desk
    desk.close()


async def test_old_runs_go_and_the_warehouse_forgets_them_too(desk):
    old = [desk.run(), desk.run()]
    waits = desk.run(result="FAILED")
    newest = desk.run(days_ago=100)
    young = desk.run(days_ago=10, result="FAILED")
    desk.past.put(
        "files", job="shop", path=b"a", name="a", content_hash="a", state="waiting", size=1, mtime_ns=1, ctime_ns=1,
        inode=1, device=1, seen_at_s=T0_S, run_id=waits,
    )  # fmt: skip
    assert await desk.history.forget() == Forgotten(runs=2, commits=7)
    assert desk.runs() == [waits, newest, young]
    assert desk.warehouse.asked == [(old[-1] + 1, [])]


async def test_runs_that_are_kept_between_those_that_go_keep_their_commits(desk):
    desk.run()
    open_ = desk.run(result=None)
    last = desk.run()
    desk.run(days_ago=1)
    await desk.history.forget()
    assert desk.warehouse.asked == [(last + 1, [open_])]


async def test_there_is_nothing_to_forget_and_nobody_is_asked(desk):
    desk.run(days_ago=59)
    desk.run(days_ago=58)
    assert await desk.history.forget() == Forgotten()
    assert desk.warehouse.asked == []


async def test_a_retention_of_zero_keeps_everything_for_ever(tmp_path):
    desk = Desk(tmp_path / "ledger.sqlite", days=0)
    runs = [desk.run(), desk.run()]
    async with asyncio.timeout(5):
        await desk.history.run()
    assert desk.runs() == runs
    desk.close()


async def test_many_runs_go_a_few_at_a_time_so_that_nothing_else_waits(desk, monkeypatch):
    monkeypatch.setattr(history, "RUNS_AT_A_TIME", 10)
    for _ in range(95):
        desk.run()
    desk.run(days_ago=1)
    done = asyncio.create_task(desk.history.forget())
    left = []
    while not done.done():
        left.append(await desk.ledger.transact(lambda ledger: len(ledger.runs_after(0, before_s=1e12, limit=1000))))
    assert (await done).runs == 95
    assert len(set(left)) > 3, "others have their turn in between"


async def test_it_forgets_at_the_start_and_says_so_once_a_day(desk):
    desk.run()
    desk.run(days_ago=1)
    running = asyncio.create_task(desk.history.run())
    async with asyncio.timeout(5):
        await desk.warehouse.was_asked.wait()
    running.cancel()
    assert await asyncio.gather(running, return_exceptions=True)
    assert desk.runs() == [2]
