"""Read, decide and record, in one hop.

With tasks side by side, reading the states in one ledger call and recording the verdict in the next loses the end of a
run: two tasks each see the other one still running. So every method here is one ledger transaction in which core
decides on what was just read.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from landingd.core import graph, lifecycle, news, triggers
from landingd.edge.ledger import Ledger, LedgerThread, Notice, RunRow, TaskRow
from landingd.errors import NotFoundError, RefusedError
from landingd.model import (
    Arrival,
    AttemptKey,
    Committed,
    Failed,
    FileRef,
    FileState,
    Interrupted,
    Job,
    Outcome,
    Result,
    RunState,
    Signature,
    Stats,
    Task,
    TaskState,
    TimedOut,
    TriggerType,
    shown,
)

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Started:
    """A run that goes on now: the attempts that were begun, and the tasks whose retry is due at a time."""

    run: RunRow
    begun: tuple[AttemptKey, ...]
    retries: tuple[tuple[str, float], ...] = ()
    together: bool = False
    """`begun` are all of the run's tasks, in an order in which they may run, to be tried in one transaction."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """What an attempt's end led to."""

    begun: tuple[AttemptKey, ...]
    retry_at_s: float | None
    run_result: Result | None


@dataclass(frozen=True, slots=True)
class ToLoad:
    """A file version for an ingest task, with the older versions whose rows it takes out."""

    file: FileRef
    replaces: tuple[int, ...]


class Books:
    """The ledger, with the decisions made where it is read."""

    def __init__(self, ledger: LedgerThread, clock: Clock = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self.on_news: Callable[[], None] = lambda: None
        """Called, on the event loop, when events may have been written."""

    async def _transact(self, verbs: Callable[[Ledger], T], *, durably: bool = False) -> T:
        """A transaction that may have written events."""
        result = await self._ledger.transact(verbs, durably=durably)
        self.on_news()
        return result

    # -- files --

    async def accept(self, arrivals: Sequence[Arrival]) -> list[triggers.Arrived]:
        """Enter complete files: new, changed, or a duplicate of what is known."""
        now_s = self._clock()
        return await self._transact(lambda ledger: [_accept(ledger, a, now_s) for a in arrivals])

    async def wait(self, waits: Sequence[tuple[str, bytes, Signature, str]]) -> None:
        """Files that are not complete: `(job, path, signature, reason)`."""
        now_s = self._clock()

        def record(ledger: Ledger) -> None:
            for job, path, signature, reason in waits:
                ledger.add_waiting(job, path, signature, reason=reason, now_s=now_s)

        await self._ledger.transact(record)

    async def forget(self, gone: Sequence[tuple[str, bytes]]) -> None:
        """Files that went away before they were complete: `(job, path)`."""

        def record(ledger: Ledger) -> None:
            for job, path in gone:
                ledger.forget_waiting(job, path)

        await self._ledger.transact(record)

    async def incomplete(self, jobs: Sequence[str]) -> list[tuple[str, bytes]]:
        """Files of these jobs that are waited for: `(job, path)`."""
        return await self._ledger.transact(lambda ledger: [(j, p) for j in jobs for p in ledger.incomplete(j)])

    async def known_signatures(self, job: str) -> dict[bytes, Signature]:
        """What stat said of each path when it was last hashed."""
        return await self._ledger.transact(
            lambda ledger: {path: known.signature for path, known in ledger.known_files(job).items()}
        )

    async def files_to_load(self, run_id: int, task_key: str) -> list[ToLoad]:
        """The run's versions that are still to be loaded, with those that each replaces in this task's table."""

        def read(ledger: Ledger) -> list[ToLoad]:
            files = ledger.files_to_load(run_id)
            return [ToLoad(f, tuple(ledger.replaced_by(f.file_id, task_key))) for f in files]

        return await self._ledger.transact(read)

    # -- runs --

    async def next_run(self, job: Job) -> Started | None:
        """Start the job's oldest queued run, or form one from the files that wait; None if there is nothing to do.

        Forming is the one commit that is synced to disk: from here on no id in it is ever given to anything else.
        """
        now_s = self._clock()
        return await self._transact(lambda ledger: _next_run(ledger, job, now_s), durably=True)

    async def has_work(self, job: Job) -> bool:
        """Whether next_run would find anything (ignoring the cool-down)."""
        return await self._ledger.transact(
            lambda ledger: (
                bool(ledger.pending_files(job.name, 1)) or any(run.job == job.name for run in ledger.open_runs())
            )
        )

    async def cooling_until_s(self, job: Job) -> float:
        """When the job's next file run may start (`min_time_between_triggers_seconds`)."""
        return await self._ledger.transact(
            lambda ledger: triggers.next_batch_at_s(job, ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL))
        )

    async def request_run(self, job: Job, *, request_id: str, parameters: Mapping[str, str]) -> int:
        """Queue a run that somebody asked for, with the files that wait; the same request gives the same run."""
        now_s = self._clock()

        def record(ledger: Ledger) -> int:
            key = triggers.request_key(request_id)
            known = ledger.find_run(job.name, key)
            if known is not None:
                return known
            run_id = _add_run(ledger, job, TriggerType.ONE_TIME, key, parameters=parameters, now_s=now_s)
            assert run_id is not None  # noqa: S101 -- the key was looked up in this transaction
            return run_id

        return await self._transact(record, durably=True)

    async def repair(self, run_id: int, job_of: Callable[[str], Job]) -> tuple[str, ...]:
        """Queue the failed and skipped tasks of a finished run again; returns them (Databricks: `runs/repair`)."""
        now_s = self._clock()
        return await self._transact(lambda ledger: _repair(ledger, run_id, job_of, now_s), durably=True)

    async def job_of(self, run_id: int) -> str:
        """The name of a run's job."""

        def read(ledger: Ledger) -> str:
            run = ledger.run(run_id)
            if run is None:
                raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
            return run.job

        return await self._ledger.transact(read)

    async def begin(self, run_id: int, task_key: str) -> AttemptKey:
        """Begin the attempt of a task whose retry is due."""
        now_s = self._clock()
        return await self._ledger.transact(lambda ledger: ledger.begin_attempt(run_id, task_key, now_s=now_s))

    async def conclude(
        self, job: Job | None, key: AttemptKey, outcome: Outcome, *, go_on: bool, ended_s: float | None = None
    ) -> Concluded:
        """Record how an attempt ended and everything that follows; begins what is ready unless `go_on` is false."""
        now_s = self._clock() if ended_s is None else ended_s
        return await self._transact(lambda ledger: _conclude(ledger, job, key, outcome, now_s, go_on=go_on))

    async def conclude_together(
        self, job: Job, outcomes: Sequence[tuple[AttemptKey, Outcome]], *, go_on: bool
    ) -> Concluded:
        """Record how the attempts of one transaction ended; begins what is ready where they were rolled back."""
        now_s = self._clock()

        def record(ledger: Ledger) -> Concluded:
            ended = [_conclude(ledger, job, key, outcome, now_s, go_on=False) for key, outcome in outcomes]
            result = ended[-1].run_result
            begun = _begin_ready(ledger, outcomes[0][0].run_id, now_s) if go_on and result is None else ()
            return Concluded(begun, None, result)

        return await self._transact(record)

    # -- recovery --

    async def recall(self, committed: Iterable[AttemptKey]) -> None:
        """Of these attempts, begin those of open tasks that the ledger does not know of: they are then dangling."""
        now_s = self._clock()

        def record(ledger: Ledger) -> None:
            for key in sorted(committed, key=lambda key: key.attempt):
                ledger.recall_attempt(key, now_s=now_s)

        await self._ledger.transact(record)

    async def dangling(self) -> list[tuple[RunRow, AttemptKey]]:
        """Attempts that were begun and never concluded."""

        def read(ledger: Ledger) -> list[tuple[RunRow, AttemptKey]]:
            return [
                (run, AttemptKey(run.run_id, task.task_key, task.attempts))
                for run in ledger.open_runs()
                for task in ledger.tasks(run.run_id)
                if task.state is TaskState.RUNNING
            ]

        return await self._ledger.transact(read)

    async def never_below(self, *, run_id: int, file_id: int) -> None:
        """Hand out no id that the warehouse has seen."""
        await self._ledger.transact(lambda ledger: ledger.never_below(run_id=run_id, file_id=file_id), durably=True)

    async def open_run_ids(self) -> list[int]:
        """Runs that have not ended."""
        return await self._ledger.transact(lambda ledger: [run.run_id for run in ledger.open_runs()])

    async def open_run_jobs(self) -> set[str]:
        """Jobs that have runs to finish."""
        return await self._ledger.transact(lambda ledger: {run.job for run in ledger.open_runs()})

    # -- news --

    async def untold(self, limit: int) -> list[tuple[int, str, str]]:
        """The oldest events that the broker has not acknowledged: `(seq, topic, payload)`."""
        return await self._ledger.transact(lambda ledger: ledger.untold(limit))

    async def told(self, seq_max: int) -> None:
        """The broker has them, up to this one."""
        await self._ledger.transact(lambda ledger: ledger.told(seq_max))

    async def trim_outbox(self, keep: int) -> int:
        """Drop the oldest events above `keep`; returns how many."""
        return await self._ledger.transact(lambda ledger: ledger.trim_outbox(keep))


# --- what the methods do, inside their transaction -----------------------------------------------------------


def _accept(ledger: Ledger, arrival: Arrival, now_s: float) -> triggers.Arrived:
    newest = ledger.newest(arrival.job, arrival.path)
    what = triggers.classify(arrival.content_hash, newest.content_hash if newest else None)
    if newest is not None and what is triggers.Arrived.DUPLICATE:
        old, new = newest.signature, arrival.signature
        came_again = (old.mtime_ns, old.inode, old.device) != (new.mtime_ns, new.inode, new.device)
        ledger.note_duplicate(newest.file_id, new, came_again=came_again)
        ledger.forget_waiting(arrival.job, arrival.path)
        if came_again:
            times = ledger.file(newest.file_id)["duplicates"]
            _tell_file(ledger, "duplicate", newest.file_id, now_s, occurrence=times)
        return what
    if newest is not None and newest.state is FileState.WAITING:
        ledger.replace(newest.file_id, reason="a newer version came before it was loaded")
    file_id = ledger.add_version(arrival)
    _tell_file(ledger, "landed", file_id, now_s, size=arrival.signature.size, evidence=arrival.evidence)
    if arrival.damage is not None:
        ledger.quarantine(file_id, reason=arrival.damage)
        _tell_file(ledger, "quarantined", file_id, now_s, reason=arrival.damage)
    return what


def _tell_file(ledger: Ledger, event: str, file_id: int, now_s: float, **more: object) -> None:
    row = ledger.file(file_id)
    topic, payload = news.file_event(
        event,
        job=row["job"],
        name=row["name"],
        file_id=file_id,
        content_hash=row["content_hash"],
        now_s=now_s,
        **more,
    )
    ledger.tell([Notice(topic, payload)])


def _next_run(ledger: Ledger, job: Job, now_s: float) -> Started | None:
    open_runs = [run for run in ledger.open_runs() if run.job == job.name]
    if open_runs:
        return _start(ledger, open_runs[0], job, now_s)
    cooling_s = triggers.next_batch_at_s(job, ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL))
    file_ids = ledger.pending_files(job.name, triggers.batch_limit(job)) if now_s >= cooling_s else []
    if not file_ids:
        return None
    key = triggers.files_key(file_ids)
    defaults = {p.name: p.default for p in job.parameters}
    run_id = _add_run(ledger, job, TriggerType.FILE_ARRIVAL, key, parameters=defaults, now_s=now_s, file_ids=file_ids)
    run = ledger.run(run_id) if run_id is not None else None
    return _start(ledger, run, job, now_s) if run else None


def _add_run(
    ledger: Ledger,
    job: Job,
    trigger_type: TriggerType,
    key: str,
    *,
    parameters: Mapping[str, str],
    now_s: float,
    file_ids: Sequence[int] | None = None,
) -> int | None:
    taken = ledger.pending_files(job.name, triggers.batch_limit(job)) if file_ids is None else file_ids
    run_id = ledger.add_run(
        job.name,
        trigger_type,
        key,
        parameters=parameters,
        tasks=[(task.task_key, task.depends_on) for task in job.tasks],
        file_ids=taken,
        now_s=now_s,
    )
    if run_id is not None:
        _tell_run(ledger, run_id, "queued", now_s)
    return run_id


def _start(ledger: Ledger, run: RunRow, job: Job, now_s: float) -> Started:
    """Start a queued run, or take up one that was under way when the process stopped."""
    if run.state is RunState.QUEUED:
        ledger.start_run(run.run_id, now_s=now_s)
        _tell_run(ledger, run.run_id, "started", now_s)
    tasks = ledger.tasks(run.run_id)
    fresh = run.state is RunState.QUEUED and run.repairs == 0
    n_bytes = ledger.run_bytes(run.run_id)
    if fresh and lifecycle.may_commit_together(job.tasks, _statuses(tasks), n_bytes=n_bytes):
        keys = tuple(ledger.begin_attempt(run.run_id, key, now_s=now_s) for key in graph.order(job))
        return Started(run, keys, together=True)
    retries = tuple(
        (task.task_key, task.retry_at_s or now_s) for task in tasks if task.state is TaskState.WAITING_FOR_RETRY
    )
    return Started(run, _begin_ready(ledger, run.run_id, now_s), retries)


def _begin_ready(ledger: Ledger, run_id: int, now_s: float) -> tuple[AttemptKey, ...]:
    ready = lifecycle.ready(_statuses(ledger.tasks(run_id)))
    return tuple(ledger.begin_attempt(run_id, key, now_s=now_s) for key in ready)


def _repair(ledger: Ledger, run_id: int, job_of: Callable[[str], Job], now_s: float) -> tuple[str, ...]:
    run = ledger.run(run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
    if run.state is not RunState.TERMINATED:
        raise RefusedError(f"run {run_id} is {run.state.value}: only a finished run can be repaired")
    job = job_of(run.job)
    here = {task.task_key for task in job.tasks}
    tasks = ledger.tasks(run_id)
    ledger.drop_tasks(run_id, [t.task_key for t in tasks if t.task_key not in here])
    ledger.set_tasks(run_id, [(task.task_key, task.depends_on) for task in job.tasks])
    again = tuple(t.task_key for t in ledger.tasks(run_id) if t.result is not Result.SUCCESS)
    if not again:
        raise RefusedError(f"every task of run {run_id} succeeded: there is nothing to repair")
    ledger.repair_run(run_id, again, now_s=now_s)
    _tell_run(ledger, run_id, "queued", now_s)
    return again


def _conclude(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, now_s: float, *, go_on: bool
) -> Concluded:
    tasks = ledger.tasks(key.run_id)
    mine = next(t for t in tasks if t.task_key == key.task_key)
    if mine.state is not TaskState.RUNNING or mine.attempts != key.attempt:
        return Concluded((), None, None)  # concluded before: the same verdict is not applied twice
    decision = lifecycle.after_attempt(
        outcome,
        status=_status(mine),
        policy=_policy(job, key.task_key),
        started_s=mine.started_at_s or now_s,
        now_s=now_s,
    )
    verdict = lifecycle.conclude(_statuses(tasks), key.task_key, decision)
    _record_attempt(ledger, key, outcome, verdict.decision, task=mine, now_s=now_s)
    ledger.skip_tasks(key.run_id, verdict.skipped, now_s=now_s)
    _tell_skipped(ledger, key.run_id, verdict.skipped, tasks, now_s)
    begun: tuple[AttemptKey, ...] = ()
    if verdict.run_result is not None:
        _end_run(ledger, key.run_id, verdict.run_result, now_s)
    elif go_on:
        begun = tuple(ledger.begin_attempt(key.run_id, k, now_s=now_s) for k in verdict.ready)
    return Concluded(begun, decision.retry_at_s, verdict.run_result)


def _record_attempt(
    ledger: Ledger,
    key: AttemptKey,
    outcome: Outcome,
    decision: lifecycle.Decision,
    *,
    task: TaskRow,
    now_s: float,
) -> None:
    stats = outcome.stats if isinstance(outcome, Committed) else None
    ledger.end_attempt(key, _outcome_word(outcome), stats=stats, error=decision.error, now_s=now_s)
    ledger.set_task(
        key.run_id,
        key.task_key,
        decision.state,
        result=decision.result,
        error=decision.error,
        failures=decision.failures,
        crashes=decision.crashes,
        retry_at_s=decision.retry_at_s,
        now_s=now_s,
    )
    if stats is not None:
        _record_files(ledger, key, stats, now_s)
    if decision.state is not TaskState.PENDING:
        _tell_task(ledger, key, decision, stats=stats, started_s=task.started_at_s, now_s=now_s)


def _record_files(ledger: Ledger, key: AttemptKey, stats: Stats, now_s: float) -> None:
    for load in stats.files:
        if load.quarantined is not None:
            ledger.quarantine(load.file_id, reason=load.quarantined)
            _tell_file(ledger, "quarantined", load.file_id, now_s, run_id=key.run_id, reason=load.quarantined)
        elif load.gone is not None:
            ledger.replace(load.file_id, reason=load.gone)
        else:
            gone = ledger.load(key, load, now_s=now_s)
            counts = {
                "rows_in": load.rows_in,
                "rows_loaded": load.rows_loaded,
                "rows_rejected": load.rows_rejected,
            }
            _tell_file(ledger, "loaded", load.file_id, now_s, run_id=key.run_id, task_key=key.task_key, **counts)
            for old in gone:
                _tell_file(ledger, "replaced", old, now_s, run_id=key.run_id, task_key=key.task_key, by=load.file_id)


def _end_run(ledger: Ledger, run_id: int, result: Result, now_s: float) -> None:
    tasks = ledger.tasks(run_id)
    error = next((f"{t.task_key}: {t.error}" for t in tasks if t.result in {Result.FAILED, Result.TIMEDOUT}), None)
    ledger.end_run(run_id, result, error=error, now_s=now_s)
    _tell_run(ledger, run_id, "finished", now_s, result=result, error=error)


def _tell_run(
    ledger: Ledger,
    run_id: int,
    event: str,
    now_s: float,
    *,
    result: Result | None = None,
    error: str | None = None,
) -> None:
    run = ledger.run(run_id)
    assert run is not None  # noqa: S101 -- written or read in this transaction
    file_ids = ledger.run_file_ids(run_id)
    topic, payload = news.run_event(
        event,
        job=run.job,
        run_id=run_id,
        repair=run.repairs,
        queued_s=run.queued_at_s,
        started_s=run.started_at_s,
        now_s=now_s,
        trigger=run.trigger_type.value,
        parameters=run.parameters,
        files=[shown(ledger.file(i)["path"]) for i in file_ids[: news.FILES_NAMED_MAX]],
        file_count=len(file_ids),
        result=result,
        error=error,
        rows=ledger.run_rows(run_id) if event == "finished" else None,
    )
    ledger.tell([Notice(topic, payload)])


def _tell_task(
    ledger: Ledger,
    key: AttemptKey,
    decision: lifecycle.Decision,
    *,
    now_s: float,
    stats: Stats | None = None,
    started_s: float | None = None,
) -> None:
    run = ledger.run(key.run_id)
    assert run is not None  # noqa: S101 -- its task was read in this transaction
    topic, payload = news.task_event(
        job=run.job,
        run_id=run.run_id,
        repair=run.repairs,
        queued_s=run.queued_at_s,
        task_key=key.task_key,
        attempt=key.attempt,
        state=decision.state,
        result=decision.result,
        error=decision.error,
        stats=stats,
        started_s=started_s,
        now_s=now_s,
        retry_at_s=decision.retry_at_s,
    )
    ledger.tell([Notice(topic, payload)])


def _tell_skipped(ledger: Ledger, run_id: int, skipped: Sequence[str], tasks: Sequence[TaskRow], now_s: float) -> None:
    for task in tasks:
        if task.task_key in skipped:
            decision = lifecycle.Decision(TaskState.TERMINATED, Result.UPSTREAM_FAILED)
            key = AttemptKey(run_id, task.task_key, task.attempts)
            _tell_task(ledger, key, decision, now_s=now_s)


def _outcome_word(outcome: Outcome) -> str:
    match outcome:
        case Committed():
            return "committed"
        case Failed():
            return "failed"
        case TimedOut():
            return "timed out"
        case Interrupted(crashed=crashed):
            return "died" if crashed else "interrupted"


def _policy(job: Job | None, task_key: str) -> lifecycle.RetryPolicy:
    task: Task | None = next((t for t in job.tasks if t.task_key == task_key), None) if job else None
    return lifecycle.retry_policy(task) if task else lifecycle.RetryPolicy(0, 0.0)


def _status(task: TaskRow) -> lifecycle.TaskStatus:
    return lifecycle.TaskStatus(task.task_key, task.depends_on, task.state, task.result, task.failures, task.crashes)


def _statuses(tasks: Sequence[TaskRow]) -> list[lifecycle.TaskStatus]:
    return [_status(task) for task in tasks]
