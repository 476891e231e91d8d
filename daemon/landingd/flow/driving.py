"""Drive a run from its first ready task to its last verdict: every attempt is a task of its own.

A run goes on while attempts are under way, while a retry waits for its time, and while it is another run's turn to
write the tables of the job.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from landingd.errors import LandingdError, NotFoundError
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Concluded, Started
from landingd.flow.runner import Runner
from landingd.model import AttemptKey, Job, Result, RunState, loop_of

log = structlog.get_logger("landingd.runner")

LOOK_EVERY_S = 30.0
"""Waits are cut into pieces: the wall clock may jump."""


class Driver:
    """Owns the runs that go on in this process."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._drives: dict[int, _Drive] = {}
        self._canceled: set[int] = set()
        """Runs that were started and canceled before anybody drove them."""
        runner.books.on_ended.append(self._ended)
        runner.books.on_cancel = self._cancel

    @property
    def run_ids(self) -> frozenset[int]:
        """Runs that go on."""
        return frozenset(self._drives)

    def stop(self) -> None:
        """Begin no attempt any more; those under way go on, and what waits is left where it is."""
        self._runner.stopping.set()
        for drive in self._drives.values():
            drive.rest_if_idle()

    async def drive(self, started: Started, catalog: Catalog) -> None:
        """Carry a started run to its end, or to where a stop leaves it."""
        run_id = started.run.run_id
        with structlog.contextvars.bound_contextvars(job=started.run.job, run_id=run_id):
            log.info("run_started", tasks=[key.task_key for key in started.begun])
            async with asyncio.TaskGroup() as attempts:
                drive = _Drive(self._runner, attempts, started, catalog, look_around=self._look_around)
                self._drives[run_id] = drive
                try:
                    await self._hear_early_cancel(drive, run_id)
                    await drive.go_on()
                finally:
                    del self._drives[run_id]
        self._look_around(started.run.job, run_id)

    def _ended(self, run_ids: Sequence[int]) -> None:
        for run_id in run_ids:
            if (drive := self._drives.get(run_id)) is not None:
                drive.over.set()

    def _cancel(self, run_id: int) -> None:
        if (drive := self._drives.get(run_id)) is not None:
            drive.break_off()
        else:
            self._canceled.add(run_id)

    async def _hear_early_cancel(self, drive: "_Drive", run_id: int) -> None:
        if run_id in self._canceled:
            self._canceled.discard(run_id)
            if (await self._runner.books.run(run_id)).state is RunState.TERMINATING:
                drive.break_off()

    def _look_around(self, job: str, run_id: int) -> None:
        """A task of this run has ended: other runs of its job may have waited for that."""
        for other, drive in list(self._drives.items()):
            if other != run_id and drive.job_name == job:
                drive.look()


class _Drive:
    """One run under way."""

    def __init__(
        self,
        runner: Runner,
        attempts: asyncio.TaskGroup,
        started: Started,
        catalog: Catalog,
        *,
        look_around: Callable[[str, int], None],
    ) -> None:
        self._runner = runner
        self._attempts = attempts
        self._started = started
        self._catalog = catalog
        self._look_around = look_around
        self._active = 0
        self.job_name = started.run.job
        self.cancel = asyncio.Event()
        self._loops: dict[str, asyncio.Event] = {}
        """The same for the iterations of one loop."""
        self.over = asyncio.Event()

    @property
    def _run_id(self) -> int:
        return self._started.run.run_id

    def _job(self) -> Job | None:
        try:
            return self._catalog.job(self.job_name)
        except NotFoundError:
            return None

    async def go_on(self) -> None:
        """Until the run is over, or the daemon stops."""
        begun = self._started.begun
        if self._started.together:
            begun = await self._runner.together(self._started, self._catalog, self.cancel)
        for key in begun:
            self._go(key)
        for task_key, at_s in self._started.retries:
            self._attempts.create_task(self._retry(task_key, at_s))
        for key, at_s in self._started.loops:
            self._attempts.create_task(self._end_loop_late(key, at_s))
        job = self._job()
        if job is not None and job.timeout_s and self._started.run.resumed_at_s is not None:
            self._attempts.create_task(self._end_late(job.timeout_s, self._started.run.resumed_at_s))
        if not (self._active or self.over.is_set()):
            await self._check()
        if self._started.held:
            self.look()  # what it waits for may have ended before this run could be told
        await self.over.wait()

    def rest_if_idle(self) -> None:
        """The daemon stops: what does not run is left for the next start."""
        if not self._active:
            self.over.set()

    def break_off(self) -> None:
        """What runs of it is to end."""
        for event in (self.cancel, *self._loops.values()):
            event.set()

    def look(self) -> None:
        """Something that this run may have waited for has ended: it may be its turn to write."""
        job = self._job()
        makes_tables = job is None or bool(job.table_tasks)
        if makes_tables and not (self.over.is_set() or self._runner.stopping.is_set()):
            self._attempts.create_task(self._begin_held())

    async def _begin_held(self) -> None:
        for key in await self._runner.books.begin_ready(self._job(), self._run_id):
            self._go(key)

    async def _check(self) -> None:
        """A run may have ended before it was driven: with its one transaction, or because nothing of it was left."""
        run = await self._runner.books.run(self._run_id)
        if run.result is not None:
            self.over.set()
        elif self._runner.stopping.is_set():
            self.rest_if_idle()

    def _go(self, key: AttemptKey) -> None:
        self._active += 1
        self._attempts.create_task(self._attempt(key), name=f"{self.job_name}/{key.run_id}/{key.task_key}")

    async def _attempt(self, key: AttemptKey) -> None:
        with structlog.contextvars.bound_contextvars(task_key=key.task_key, attempt=key.attempt):
            cancel = self._cancel_of(key.task_key)
            outcome, resolved = await self._runner.attempt(self._started.run, self._catalog, key, cancel)
            follow = await self._runner.conclude(self._job(), key, outcome, resolved)
        self._active -= 1
        if follow.late_at_s is not None:
            self._attempts.create_task(self._end_loop_late(key, follow.late_at_s))
        await self._follow(follow)

    def _cancel_of(self, task_key: str) -> asyncio.Event:
        """What breaks off an attempt of this task: the end of its run, of an iteration also that of its loop."""
        loop = loop_of(task_key)
        if loop is None:
            return self.cancel
        event = self._loops.setdefault(loop, asyncio.Event())
        if self.cancel.is_set():
            event.set()
        return event

    async def _follow(self, follow: Concluded) -> None:
        """Go on after the end of a task."""
        for begun in follow.begun:
            self._go(begun)
        self._look_around(self.job_name, self._run_id)
        if self._runner.stopping.is_set():
            self.rest_if_idle()
        elif follow.retry_at_s is not None and follow.retry_key is not None:
            await self._retry(follow.retry_key, follow.retry_at_s)

    async def _retry(self, task_key: str, at_s: float) -> None:
        """Wait until a retry is due, and begin it."""
        if await self._is_over_before(at_s):
            return
        key = await self._runner.books.begin(self._run_id, task_key)
        if key is not None:
            self._go(key)

    async def _end_late(self, timeout_s: float, since_s: float) -> None:
        """Break the run off when its time is over (Databricks: `timeout_seconds` of the job)."""
        if await self._is_over_before(since_s + timeout_s):
            return
        why = f"timed out after {timeout_s:g} s (timeout_seconds)"
        try:
            await self._runner.books.cancel(self._run_id, why=why, ending=Result.TIMEDOUT)
        except LandingdError:  # it has just ended by itself
            return

    async def _end_loop_late(self, key: AttemptKey, at_s: float) -> None:
        """Break a loop off when its time is over: its `timeout_seconds`."""
        if await self._is_over_before(at_s):
            return
        follow = await self._runner.books.time_out_loop(self._job(), key)
        if follow is not None:
            if (iterations := self._loops.pop(key.task_key, None)) is not None:
                iterations.set()
            await self._follow(follow)

    async def _is_over_before(self, at_s: float) -> bool:
        """Wait until this time; whether the run was over, canceled, or the daemon stopped before that."""
        ends = [asyncio.create_task(e.wait()) for e in (self.over, self.cancel, self._runner.stopping)]
        try:
            while (wait_s := at_s - self._runner.clock()) > 0:
                done, _ = await asyncio.wait(
                    ends, timeout=min(wait_s, LOOK_EVERY_S), return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return True
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        return self.over.is_set() or self._runner.stopping.is_set()
