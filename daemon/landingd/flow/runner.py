"""Drive one run from its first ready task to its last verdict.

The whole story of a task fits in three lines: begin (books), execute (engine), conclude (books). Whatever the outcome,
`conclude` says which attempts it began; when none is left, the run is over.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from landingd.core import references
from landingd.edge.engine import Engine
from landingd.errors import NotFoundError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Concluded, Started
from landingd.flow.preparing import NoRoomForCopyError, Preparer
from landingd.model import (
    AttemptKey,
    Committed,
    Failed,
    FileLoad,
    IngestPlan,
    Interrupted,
    Job,
    Outcome,
    Plan,
    RefreshMode,
    ScriptPlan,
    SourceFile,
    TablePlan,
    Task,
    TimedOut,
)

log = structlog.get_logger("landingd.runner")


class Runner:
    """Executes runs. `stop` lets attempts finish and begins no new ones."""

    def __init__(
        self, books: Books, engine: Engine, preparer: Preparer, clock: Callable[[], float] = time.time
    ) -> None:
        self._books = books
        self._engine = engine
        self._preparer = preparer
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no attempt any more; those under way go on."""
        self._stopping.set()

    async def drive(self, started: Started, catalog: Catalog) -> None:
        """Carry a started run to its end, or to where a stop leaves it."""
        with structlog.contextvars.bound_contextvars(job=started.run.job, run_id=started.run.run_id):
            log.info("run_started", tasks=[key.task_key for key in started.begun])
            async with asyncio.TaskGroup() as attempts:
                drive = _Drive(self, attempts, started, catalog)
                begun = await self._together(started, catalog) if started.together else started.begun
                for key in begun:
                    drive.go(key)
                for task_key, at_s in started.retries:
                    attempts.create_task(drive.retry(task_key, at_s))

    async def _together(self, started: Started, catalog: Catalog) -> tuple[AttemptKey, ...]:
        """Try all of a small run in one transaction; returns the attempts that were begun because that failed."""
        job = catalog.job(started.run.job)
        plans: list[Plan] = []
        try:
            for key in started.begun:
                plans.append(await self._plan(started, catalog, job, job.task(key.task_key), key))  # noqa: PERF401 -- those that were made are discarded
            outcomes = await self._engine.execute_together(plans, checks=self._preparer.checks)
        except NoRoomForCopyError as error:
            outcomes = [Interrupted(crashed=False, why=f"{error}; each task is tried alone now")] * len(started.begun)
        finally:
            self._discard(plans)
        ended = list(zip(started.begun, outcomes, strict=True))
        go_on = not self._stopping.is_set()
        concluded = await self._books.conclude_together(job, ended, go_on=go_on)
        for key, outcome in ended:
            with structlog.contextvars.bound_contextvars(task_key=key.task_key, attempt=key.attempt):
                _log_outcome(outcome)
        if concluded.run_result is not None:
            log.info("run_finished", result=concluded.run_result.value)
        return concluded.begun

    # -- one attempt --

    async def attempt(self, started: Started, catalog: Catalog, key: AttemptKey) -> Outcome:
        """Carry out one attempt; whatever is wrong with its files or SQL is an outcome, not an exception."""
        try:
            job = catalog.job(started.run.job)
            task = job.task(key.task_key)
        except (NotFoundError, KeyError):
            return Failed(f"the task '{key.task_key}' is not in the job file any more", permanent=True)
        try:
            plan = await self._plan(started, catalog, job, task, key)
        except NoRoomForCopyError as error:
            return Failed(str(error))
        try:
            return await self._engine.execute(plan, timeout_s=task.timeout_s, checks=self._preparer.checks)
        finally:
            self._discard([plan])

    async def _plan(self, started: Started, catalog: Catalog, job: Job, task: Task, key: AttemptKey) -> Plan:
        context = {
            "job.name": job.name,
            "job.run_id": str(key.run_id),
            "job.trigger.type": started.run.trigger_type.value,
            "task.name": task.task_key,
        }
        values = references.task_parameters(started.run.parameters, task, context=context)
        taken = {name.casefold() for name in values}
        built_in = {"run_id": str(key.run_id), "job_name": job.name, "task_key": task.task_key}
        values |= {name: value for name, value in built_in.items() if name not in taken}
        if task.ingest is not None and task.table is not None:
            return await self._ingest_plan(job, task, key)
        assert task.sql is not None  # noqa: S101 -- the loader lets no task pass that is neither ingest nor SQL
        if task.table is None:
            return ScriptPlan(key, job.name, task.sql, values)
        table = task.table.casefold()
        chosen = catalog.refreshes[table]
        return TablePlan(
            key=key,
            job=job.name,
            table=task.table,
            select=task.sql.strip().rstrip(";"),
            mode=chosen.mode,
            reason=chosen.reason,
            upstream=chosen.upstream if chosen.mode is RefreshMode.APPEND else None,
            definition=catalog.definitions[table],
            parameters=values,
            expectations=task.expectations,
        )

    async def _ingest_plan(self, job: Job, task: Task, key: AttemptKey) -> IngestPlan:
        assert task.ingest is not None  # noqa: S101 -- asked by the caller
        assert task.table is not None  # noqa: S101 -- the same
        batch = await self._books.batch(job, key)
        of_table = self._engine.columns_of(task.table)
        prepared = await asyncio.to_thread(self._preparer.prepare, batch.load, task.ingest, of_table, table=task.table)
        return IngestPlan(
            key=key,
            job=job.name,
            table=task.table,
            ingest=task.ingest,
            files=tuple(p for p in prepared if isinstance(p, SourceFile)),
            unusable=tuple(p for p in prepared if isinstance(p, FileLoad)),
            retract=batch.retract,
            expectations=task.expectations,
        )

    def _discard(self, plans: Sequence[Plan]) -> None:
        """Take away what was made for these plans' files."""
        for plan in plans:
            if isinstance(plan, IngestPlan):
                self._preparer.discard(plan.files)

    # -- verdicts --

    async def conclude(self, catalog: Catalog, key: AttemptKey, outcome: Outcome, job_name: str) -> Concluded:
        """Record the outcome; returns what to do next."""
        job = next((j for j in catalog.jobs if j.name == job_name), None)
        concluded = await self._books.conclude(job, key, outcome, go_on=not self._stopping.is_set())
        _log_outcome(outcome)
        if concluded.run_result is not None:
            log.info("run_finished", result=concluded.run_result.value)
        return concluded

    async def begin_retry(self, run_id: int, task_key: str, at_s: float) -> AttemptKey | None:
        """Wait until a retry is due and begin it; None if the daemon stops first."""
        while (wait_s := at_s - self._clock()) > 0:
            try:
                async with asyncio.timeout(min(wait_s, 30.0)):
                    await self._stopping.wait()
            except TimeoutError:
                continue
            break
        if self._stopping.is_set():
            return None
        return await self._books.begin(run_id, task_key)


class _Drive:
    """One run under way: every attempt is a task of its own."""

    def __init__(self, runner: Runner, attempts: asyncio.TaskGroup, started: Started, catalog: Catalog) -> None:
        self._runner = runner
        self._attempts = attempts
        self._started = started
        self._catalog = catalog

    def go(self, key: AttemptKey) -> None:
        self._attempts.create_task(self._attempt(key), name=f"{self._started.run.job}/{key.run_id}/{key.task_key}")

    async def _attempt(self, key: AttemptKey) -> None:
        with structlog.contextvars.bound_contextvars(task_key=key.task_key, attempt=key.attempt):
            outcome = await self._runner.attempt(self._started, self._catalog, key)
            follow = await self._runner.conclude(self._catalog, key, outcome, self._started.run.job)
        for begun in follow.begun:
            self.go(begun)
        if follow.retry_at_s is not None:
            await self.retry(key.task_key, follow.retry_at_s)

    async def retry(self, task_key: str, at_s: float) -> None:
        key = await self._runner.begin_retry(self._started.run.run_id, task_key, at_s)
        if key is not None:
            self.go(key)


def _log_outcome(outcome: Outcome) -> None:
    match outcome:
        case Committed(stats=stats):
            log.info(
                "task_committed",
                rows_in=stats.rows_in,
                rows_out=stats.rows_out,
                rows_rejected=stats.rows_rejected,
                how=stats.how,
            )
            for load in stats.files:
                if load.quarantined is not None:
                    log.warning("file_quarantined", file_id=load.file_id, reason=load.quarantined)
        case Failed(error=error):
            log.error("task_failed", error=error)
        case TimedOut(after_s=after_s):
            log.error("task_timed_out", after_s=after_s)
        case Interrupted(why=why):
            log.warning("task_interrupted", why=why)
