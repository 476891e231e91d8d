"""Start runs: for each job the next one, as soon as it is idle.

A job has one run at a time (Databricks: `max_concurrent_runs` 1). Files that arrive meanwhile wait in the ledger, and
together they are its next run: under load the batches grow by themselves, and an idle job starts at once. `wake` says
"look", nothing else, so nothing is lost with it.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from landingd.errors import NotFoundError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Started
from landingd.flow.runner import Runner
from landingd.model import Job

log = structlog.get_logger("landingd.dispatch")


class Dispatch:
    """Owns which jobs run now. `catalog` may be exchanged between runs."""

    def __init__(
        self,
        books: Books,
        runner: Runner,
        catalog: Catalog,
        *,
        max_concurrent: int,
        on_change: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self._books = books
        self._runner = runner
        self._slots = max_concurrent
        self._on_change = on_change
        self._clock = clock
        self._active: set[str] = set()
        self._running: set[str] = set()
        """Of the active ones those with a run; the others are only being asked whether they have one."""
        self._wanted: set[str] = set()
        self._cooling: set[str] = set()
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = False

    def wake(self, job: str | None = None) -> None:
        """Look whether this job (None: any job) has something to run."""
        self._wanted.update([job] if job else [j.name for j in self.catalog.jobs])
        self._wake.set()

    def stop(self) -> None:
        """Start no run any more; `run` returns when those under way have ended."""
        self._stopping = True
        self._runner.stop()
        self._wake.set()

    @property
    def active(self) -> frozenset[str]:
        """Jobs that have a run under way."""
        return frozenset(self._running)

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
        while self._active or self._wanted:
            self._idle.clear()
            await self._idle.wait()

    async def _start_wanted(self, runs: asyncio.TaskGroup) -> None:
        # Whoever has waited longest comes first: a job that always has work must not keep the others from a slot.
        for name in sorted(self._wanted - self._active, key=lambda name: (self._turns.get(name, 0), name)):
            if self._stopping or len(self._active) >= self._slots:
                return
            self._wanted.discard(name)
            try:
                catalog = self.catalog  # the run keeps the jobs that it was formed from
                job = catalog.job(name)
            except NotFoundError:
                continue
            await self._start(runs, job, catalog)
        self._idle.set()

    async def _start(self, runs: asyncio.TaskGroup, job: Job, catalog: Catalog) -> None:
        self._active.add(job.name)
        started = await self._books.next_run(job)
        if started is None:
            self._active.discard(job.name)
            await self._look_again_after_cooldown(runs, job)
            return
        self._turn += 1
        self._turns[job.name] = self._turn
        self._running.add(job.name)
        self._on_change(job.name)
        runs.create_task(self._drive(started, catalog), name=f"run {started.run.run_id}")

    async def _drive(self, started: Started, catalog: Catalog) -> None:
        try:
            await self._runner.drive(started, catalog)
        finally:
            self._active.discard(started.run.job)
            self._running.discard(started.run.job)
            self._on_change(started.run.job)
        # Whatever came meanwhile is the next batch; another job may have waited for the slot.
        self.wake(started.run.job)

    async def _look_again_after_cooldown(self, runs: asyncio.TaskGroup, job: Job) -> None:
        if job.name in self._cooling or not any(trigger.min_time_between_triggers_s for trigger in job.file_arrivals):
            return
        wait_s = await self._books.cooling_until_s(job) - self._clock()
        if wait_s > 0 and await self._books.has_work(job):
            self._cooling.add(job.name)
            runs.create_task(self._wake_later(job.name, wait_s))

    async def _wake_later(self, job: str, wait_s: float) -> None:
        deadline_s = self._clock() + wait_s
        while not self._stopping and (left_s := deadline_s - self._clock()) > 0:  # noqa: ASYNC110 -- the clock may jump
            await asyncio.sleep(min(left_s, 1.0))
        self._cooling.discard(job)
        self.wake(job)
