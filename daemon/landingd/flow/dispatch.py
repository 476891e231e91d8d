"""Start runs: for each job the next one, as soon as it is idle.

A job has `max_concurrent_runs` at a time, mostly one. Files that arrive meanwhile wait in the ledger, and together they
are its next run: under load the batches grow by themselves, and an idle job starts at once. What else asks for a run
waits in the ledger's queue. `wake` says "look", nothing else, so nothing is lost with it.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from landingd.errors import NotFoundError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.driving import Driver
from landingd.flow.entries import Later, Started

log = structlog.get_logger("landingd.dispatch")


class Dispatch:
    """Owns which jobs run now. `catalog` may be exchanged between runs."""

    def __init__(
        self,
        books: Books,
        driver: Driver,
        catalog: Catalog,
        *,
        max_concurrent: int,
        on_change: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self._books = books
        self._driver = driver
        self._slots = max_concurrent
        self._on_change = on_change
        self._clock = clock
        self._running: dict[int, str] = {}
        """Runs under way that hold a slot or not, with their jobs."""
        self._inner: set[int] = set()
        """Of these the ones that other runs wait for: they need no slot, or those might wait for ever."""
        self._wanted: set[str] = set()
        self._later: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._looking = False
        self._stopping = False

    def wake(self, job: str | None = None) -> None:
        """Look whether this job (None: any job) has something to run."""
        self._wanted.update([job] if job else [j.name for j in self.catalog.jobs])
        self._wake.set()

    def stop(self) -> None:
        """Start no run any more; `run` returns when those under way have ended."""
        self._stopping = True
        self._driver.stop()
        self._wake.set()

    @property
    def active(self) -> frozenset[str]:
        """Jobs that have a run under way."""
        return frozenset(self._running.values())

    async def run(self) -> None:
        """Start runs until `stop`; raises what the engine or the ledger raise: the process has to start anew."""
        self.wake()
        async with asyncio.TaskGroup() as runs:
            while not self._stopping:
                await self._wake.wait()
                self._wake.clear()
                await self._start_wanted(runs)

    async def drained(self) -> None:
        """Wait until nothing runs and nothing is wanted."""
        while self._running or self._wanted or self._looking:
            self._idle.clear()
            await self._idle.wait()

    async def _start_wanted(self, runs: asyncio.TaskGroup) -> None:
        self._looking = True
        try:
            for name in self._in_order():
                if self._stopping:
                    return
                await self._start_all(runs, name)
        finally:
            self._looking = False
            self._idle.set()

    def _in_order(self) -> list[str]:
        """The jobs to look at: the most urgent first, then whoever has waited longest.

        A job that always has work must not keep the others from a slot.
        """
        priority = {job.name: job.priority for job in self.catalog.jobs}
        return sorted(self._wanted, key=lambda n: (-priority.get(n, 0), self._turns.get(n, 0), n))

    async def _start_all(self, runs: asyncio.TaskGroup, name: str) -> None:
        """Start as many runs of a job as there is room for."""
        self._wanted.discard(name)
        try:
            catalog = self.catalog  # the run keeps the jobs that it was formed from
            job = catalog.job(name)
        except NotFoundError:
            return
        # Where there is no room the ledger is not asked: during a run every file that arrives wakes its job.
        while not self._stopping and list(self._running.values()).count(name) < job.max_concurrent_runs:
            free = len(self._running) - len(self._inner) < self._slots
            inner_only = not free
            if inner_only and not await self._books.has_inner_runs(name):
                self._wanted.add(name)  # looked at again when a run ends
                return
            found = await self._books.next_run(job, self._running.keys(), inner_only=inner_only)
            if isinstance(found, Later):
                self._look_later(runs, name, found.at_s)
            if not isinstance(found, Started):
                return
            self._begin(runs, found, catalog)

    def _begin(self, runs: asyncio.TaskGroup, started: Started, catalog: Catalog) -> None:
        run = started.run
        self._turn += 1
        self._turns[run.job] = self._turn
        self._running[run.run_id] = run.job
        if run.depth:
            self._inner.add(run.run_id)
        self._on_change(run.job)
        runs.create_task(self._drive(started, catalog), name=f"run {run.run_id}")

    async def _drive(self, started: Started, catalog: Catalog) -> None:
        run = started.run
        try:
            await self._driver.drive(started, catalog)
        finally:
            del self._running[run.run_id]
            self._inner.discard(run.run_id)
            self._on_change(run.job)
        # Whatever came meanwhile is the next batch; another job may have waited for the slot.
        self.wake(run.job)

    def _look_later(self, runs: asyncio.TaskGroup, job: str, at_s: float) -> None:
        """Files wait for a timer of their trigger, or a continuous job for the end of its pause."""
        if at_s < self._later.get(job, float("inf")):
            self._later[job] = at_s
            runs.create_task(self._wake_at(job, at_s))

    async def _wake_at(self, job: str, at_s: float) -> None:
        while not self._stopping and (left_s := at_s - self._clock()) > 0:  # noqa: ASYNC110 -- the clock may jump
            await asyncio.sleep(min(left_s, 1.0))
        if self._later.get(job) == at_s:
            del self._later[job]
        self.wake(job)
