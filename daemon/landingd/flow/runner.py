"""Drive one run from its first ready task to its last verdict.

The whole story of a task fits in three lines: begin (books), execute (engine), conclude (books). Whatever the outcome,
`conclude` says which attempts it began; when none is left, the run is over.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from landingd.core import csvhead, references
from landingd.edge import landing
from landingd.edge.engine import Engine, FileChecks
from landingd.errors import NotFoundError
from landingd.flow.books import Books, ToLoad
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Concluded, Started
from landingd.model import (
    AttemptKey,
    Committed,
    Failed,
    FileAction,
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
    shown,
)

log = structlog.get_logger("landingd.runner")


class Runner:
    """Executes runs. `stop` lets attempts finish and begins no new ones."""

    def __init__(
        self, books: Books, engine: Engine, landing_root: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._books = books
        self._engine = engine
        self._root = landing_root
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
        plans = [await self._plan(started, catalog, job, job.task(key.task_key), key) for key in started.begun]
        outcomes = await self._engine.execute_together(plans, checks=_CHECKS)
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
        plan = await self._plan(started, catalog, job, task, key)
        return await self._engine.execute(plan, timeout_s=task.timeout_s, checks=_CHECKS)

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
        known = self._engine.columns_of(task.table) or tuple(task.ingest.schema_hints)
        prepared = await asyncio.to_thread(self._prepare, batch.load, task, known)
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

    def _prepare(self, files: Sequence[ToLoad], task: Task, known: tuple[str, ...]) -> list[SourceFile | FileLoad]:
        return [self._prepare_one(f, task, known) for f in files]

    def _prepare_one(self, to_load: ToLoad, task: Task, known: tuple[str, ...]) -> SourceFile | FileLoad:
        """Open a file far enough to know how to read it, or say why it cannot be."""
        assert task.ingest is not None  # noqa: S101 -- asked by the caller
        file = to_load.file
        path = os.path.join(os.fsencode(self._root), file.path)
        try:
            peek = landing.peek(path)
            if peek.signature != file.signature and landing.fingerprint(path).content_hash != file.content_hash:
                return FileLoad(file.file_id, gone="its content changed before it could be loaded")
        except FileNotFoundError:
            return FileLoad(file.file_id, gone="it went away before it could be loaded")
        except landing.ChangedWhileReadingError:
            return FileLoad(file.file_id, gone="its content changed before it could be loaded")
        except OSError as error:
            return FileLoad(file.file_id, quarantined=f"cannot be read: {error.strerror}")
        header = csvhead.read(peek.head, delimiter=task.ingest.delimiter, known=known)
        if isinstance(header, csvhead.Unreadable):
            return FileLoad(file.file_id, quarantined=header.reason)
        return SourceFile(
            file_id=file.file_id,
            path=path,
            name=shown(file.path),
            content_hash=file.content_hash,
            columns=header.columns,
            delimiter=header.delimiter,
            compression=peek.compression,
            signature=peek.signature,
            rows_in=None if file.facts.records is None else file.facts.records - 1,
            replaces=to_load.replaces,
            reload=file.action is FileAction.RELOAD,
        )

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


def _recount(file: SourceFile) -> int:
    # In a file with one column a blank line is a row, whose value is NULL.
    one_column = len(file.columns) == 1
    return landing.count_records(file.path, file.compression, file.delimiter, blank_rows=one_column) - 1


def _changed(file: SourceFile) -> bool:
    """Whether the bytes under the path may be others than those that were hashed."""
    try:
        return landing.signature(file.path) != file.signature
    except OSError:
        return True


_CHECKS = FileChecks(recount=_recount, changed=_changed)


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
