"""Carry out one attempt: work out what it is to do, let the engine or an actor do it, record what came of it.

The whole story of a task fits in three lines: begin (books), execute (engine), conclude (books). Whatever the outcome,
`conclude` says which attempts it began. How a run's attempts go on together is `flow.driving`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from landingd.core import loops, references
from landingd.core.references import RunContext, TaskContext
from landingd.edge.engine import Engine
from landingd.edge.ledger import RunRow
from landingd.errors import LandingdError, NotFoundError
from landingd.flow import contexts, subruns
from landingd.flow.acting import Actor
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Concluded, Started
from landingd.flow.outcomes import log_outcome
from landingd.flow.preparing import NoRoomForCopyError, Preparer
from landingd.model import (
    AttemptKey,
    Expanded,
    Failed,
    FileLoad,
    ForEach,
    IngestPlan,
    Interrupted,
    Job,
    Outcome,
    Plan,
    PythonCall,
    PythonPlan,
    RefreshMode,
    RunJob,
    ScriptPlan,
    SourceFile,
    TablePlan,
    Task,
)

log = structlog.get_logger("landingd.runner")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One execution: one value that passes through the steps."""

    key: AttemptKey
    run: RunRow
    catalog: Catalog
    job: Job
    task: Task
    in_run: RunContext
    in_task: TaskContext
    parameters: Mapping[str, str]
    """The task's own, resolved, and the job's."""
    cancel: asyncio.Event

    @property
    def bound(self) -> dict[str, str]:
        """What SQL may bind: the parameters, and what is known anyway."""
        taken = {name.casefold() for name in self.parameters}
        built_in = {"run_id": str(self.key.run_id), "job_name": self.job.name, "task_key": self.task.task_key}
        return {**self.parameters, **{name: value for name, value in built_in.items() if name not in taken}}


class Runner:
    """Executes attempts. `stop` lets those under way finish and begins no new ones."""

    def __init__(
        self,
        books: Books,
        engine: Engine,
        preparer: Preparer,
        clock: Callable[[], float] = time.time,
        *,
        actor: Actor | None = None,
        landing_root: Path = Path(),
        wake: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.books = books
        self.clock = clock
        self.stopping = asyncio.Event()
        self._engine = engine
        self._preparer = preparer
        self._actor = actor
        self._root = landing_root
        self.wake = wake

    # -- a small run, whole --

    async def together(self, started: Started, catalog: Catalog, cancel: asyncio.Event) -> tuple[AttemptKey, ...]:
        """Try all of a small run in one transaction; returns the attempts that were begun because that failed."""
        job = catalog.job(started.run.job)
        plans: list[Plan] = []
        resolved: list[Mapping[str, str]] = []
        try:
            for key in started.begun:
                attempt = await self._work_out(started.run, catalog, key, cancel)
                plans.append(await self._plan(attempt))
                resolved.append(attempt.parameters)
            outcomes = await self._engine.execute_together(plans, checks=self._preparer.checks, cancel=cancel)
        except LandingdError as error:  # a reference without a value, no room for a copy
            outcomes = [Interrupted(crashed=False, why=f"{error}; each task is tried alone now")] * len(started.begun)
        finally:
            self._discard(plans)
        ended = list(zip(started.begun, outcomes, strict=True))
        concluded = await self.books.conclude_together(job, ended, go_on=not self.stopping.is_set(), resolved=resolved)
        for key, outcome in ended:
            with structlog.contextvars.bound_contextvars(task_key=key.task_key, attempt=key.attempt):
                log_outcome(outcome)
        if concluded.run_result is not None:
            log.info("run_finished", result=concluded.run_result.value)
        return concluded.begun

    # -- one attempt --

    async def attempt(
        self, run: RunRow, catalog: Catalog, key: AttemptKey, cancel: asyncio.Event
    ) -> tuple[Outcome, Mapping[str, str]]:
        """Carry out one attempt; whatever is wrong with its files or SQL is an outcome, not an exception.

        Returns the parameters that it ran with too.
        """
        resolved: Mapping[str, str] = {}
        try:
            attempt = await self._work_out(run, catalog, key, cancel)
            resolved = attempt.parameters
            return await self._carry_out(attempt), resolved
        except (NotFoundError, KeyError):
            return Failed(f"the task '{key.task_key}' is not in the job file any more", permanent=True), resolved
        except NoRoomForCopyError as error:
            return Failed(str(error)), resolved
        except LandingdError as error:
            return Failed(str(error), permanent=True), resolved

    async def _work_out(self, run: RunRow, catalog: Catalog, key: AttemptKey, cancel: asyncio.Event) -> _Attempt:
        job = catalog.job(run.job)
        task = job.task(key.task_key)
        if contexts.is_plain(job, task):
            in_run, in_task = contexts.plain(job, run, key)
        else:
            in_run, in_task = await contexts.gather(self.books, job, task, key, self._root)
        values = references.task_parameters(job, task, in_run, in_task)
        return _Attempt(key, run, catalog, job, task, in_run, in_task, values, cancel)

    async def _carry_out(self, attempt: _Attempt) -> Outcome:
        if attempt.task.action is not None and not isinstance(attempt.task.action, PythonCall):
            return await self._act(attempt)
        plan = await self._plan(attempt)
        try:
            return await self._engine.execute(
                plan, timeout_s=attempt.task.timeout_s, checks=self._preparer.checks, cancel=attempt.cancel
            )
        finally:
            self._discard([plan])

    async def _act(self, attempt: _Attempt) -> Outcome:
        """A task that is neither ingest nor SQL."""
        job, task, in_ = attempt.job, attempt.task, (attempt.in_run, attempt.in_task)
        assert task.action is not None  # noqa: S101 -- asked by the caller
        action = references.resolve_action(job, task.action, *in_)
        if isinstance(action, ForEach):
            return Expanded(loops.inputs(action.inputs))
        if isinstance(action, RunJob):
            return await subruns.run_job(
                self.books,
                attempt.catalog.job,
                action,
                attempt.key,
                parent=attempt.run,
                cancel=attempt.cancel,
                stopping=self.stopping,
                wake=self.wake,
                timeout_s=task.timeout_s,
            )
        if self._actor is None:
            return Failed("this process cannot run such a task", permanent=True)
        return await self._actor.act(
            task, action, job=job, key=attempt.key, parameters=attempt.parameters, contexts=in_, cancel=attempt.cancel
        )

    # -- plans --

    async def _plan(self, attempt: _Attempt) -> Plan:
        task, job, key = attempt.task, attempt.job, attempt.key
        if task.ingest is not None and task.table is not None:
            return await self._ingest_plan(job, task, key)
        values = attempt.bound
        if isinstance(task.action, PythonCall):
            files = attempt.in_run.files
            named = tuple(files() if callable(files) else files)
            given = contexts.task_values(attempt.in_task)
            return PythonPlan(key, job.name, task.action, values, given, named, compute=job.compute)
        assert task.sql is not None  # noqa: S101 -- the loader lets no task pass that is neither ingest nor SQL
        if task.table is None:
            return ScriptPlan(key, job.name, task.sql, values, compute=job.compute)
        table = task.table.casefold()
        chosen = attempt.catalog.refreshes[table]
        return TablePlan(
            key=key,
            job=job.name,
            table=task.table,
            select=task.sql.strip().rstrip(";"),
            mode=chosen.mode,
            reason=chosen.reason,
            upstream=chosen.upstream if chosen.mode is RefreshMode.APPEND else None,
            definition=attempt.catalog.definitions[table],
            parameters=values,
            expectations=task.expectations,
            compute=job.compute,
        )

    async def _ingest_plan(self, job: Job, task: Task, key: AttemptKey) -> IngestPlan:
        assert task.ingest is not None  # noqa: S101 -- asked by the caller
        assert task.table is not None  # noqa: S101 -- the same
        batch = await self.books.batch(job, key)
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
            compute=job.compute,
        )

    def _discard(self, plans: Sequence[Plan]) -> None:
        """Take away what was made for these plans' files."""
        for plan in plans:
            if isinstance(plan, IngestPlan):
                self._preparer.discard(plan.files)

    # -- verdicts --

    async def conclude(
        self, job: Job | None, key: AttemptKey, outcome: Outcome, resolved: Mapping[str, str]
    ) -> Concluded:
        """Record the outcome; returns what to do next."""
        concluded = await self.books.conclude(job, key, outcome, go_on=not self.stopping.is_set(), resolved=resolved)
        log_outcome(outcome)
        if concluded.run_result is not None:
            log.info("run_finished", result=concluded.run_result.value)
        return concluded
