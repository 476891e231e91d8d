"""What is decided and written in one ledger transaction: the entries of the books.

Every function here reads what it needs, asks core, and writes what follows. The transaction is its caller's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from landingd.core import graph, isolate, lifecycle, triggers
from landingd.edge.ledger import Ledger, RunRow, TaskRow
from landingd.errors import NotFoundError, RefusedError
from landingd.flow import arriving, telling
from landingd.model import (
    AttemptKey,
    Committed,
    Failed,
    FileAction,
    FileRef,
    Interrupted,
    Job,
    Outcome,
    Result,
    RunState,
    Task,
    TaskState,
    TimedOut,
    TriggerType,
)


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


def next_run(ledger: Ledger, job: Job, now_s: float) -> Started | None:
    """Start the job's oldest open run, or form one from the files that wait."""
    open_runs = [run for run in ledger.open_runs() if run.job == job.name]
    if open_runs:
        return _start(ledger, open_runs[0], job, now_s)
    cooling_s = triggers.next_batch_at_s(job, ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL))
    file_ids = ledger.pending_files(job.name, triggers.batch_limit(job)) if now_s >= cooling_s else []
    if not file_ids:
        return None
    key = triggers.files_key(ledger.turns(file_ids))
    defaults = {p.name: p.default for p in job.parameters}
    run_id = add_run(ledger, job, TriggerType.FILE_ARRIVAL, key, parameters=defaults, now_s=now_s, file_ids=file_ids)
    run = ledger.run(run_id) if run_id is not None else None
    return _start(ledger, run, job, now_s) if run else None


def add_run(
    ledger: Ledger,
    job: Job,
    trigger_type: TriggerType,
    key: str,
    *,
    parameters: Mapping[str, str],
    now_s: float,
    file_ids: Sequence[int] | None = None,
) -> int | None:
    """Queue a run, with these files or with those that wait; None where its key was accepted before."""
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
        telling.tell_run(ledger, run_id, "queued", now_s)
    return run_id


def _start(ledger: Ledger, run: RunRow, job: Job, now_s: float) -> Started:
    """Start a queued run, or take up one that was under way when the process stopped."""
    if run.state is RunState.QUEUED:
        ledger.start_run(run.run_id, now_s=now_s)
        telling.tell_run(ledger, run.run_id, "started", now_s)
    tasks = ledger.tasks(run.run_id)
    fresh = run.state is RunState.QUEUED and run.repairs == 0
    n_bytes = ledger.run_bytes(run.run_id)
    if fresh and lifecycle.may_commit_together(job.tasks, _statuses(tasks), n_bytes=n_bytes):
        keys = tuple(ledger.begin_attempt(run.run_id, key, now_s=now_s) for key in graph.order(job))
        return Started(run, keys, together=True)
    retries = tuple(
        (task.task_key, task.retry_at_s or now_s) for task in tasks if task.state is TaskState.WAITING_FOR_RETRY
    )
    return Started(run, begin_ready(ledger, run.run_id, now_s), retries)


def begin_ready(ledger: Ledger, run_id: int, now_s: float) -> tuple[AttemptKey, ...]:
    """Begin an attempt of every task that may run now."""
    ready = lifecycle.ready(_statuses(ledger.tasks(run_id)))
    return tuple(ledger.begin_attempt(run_id, key, now_s=now_s) for key in ready)


def repair(ledger: Ledger, run_id: int, job_of: Callable[[str], Job], now_s: float) -> tuple[str, ...]:
    """Queue what failed or was skipped in a finished run again, by the job's definition of today."""
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
    telling.tell_run(ledger, run_id, "queued", now_s)
    return again


def conclude(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, now_s: float, *, go_on: bool
) -> Concluded:
    """Record how an attempt ended, and everything that follows from it."""
    tasks = ledger.tasks(key.run_id)
    mine = next(t for t in tasks if t.task_key == key.task_key)
    if mine.state is not TaskState.RUNNING or mine.attempts != key.attempt:
        return Concluded((), None, None)  # concluded before: the same verdict is not applied twice
    decision = _decide(ledger, job, key, outcome, task=mine, now_s=now_s)
    _record_attempt(ledger, key, outcome, decision, now_s)
    if isinstance(outcome, Committed) and remaining(ledger, job, key):
        decision = lifecycle.Decision(TaskState.PENDING, again=True)
    verdict = lifecycle.conclude(_statuses(tasks), key.task_key, decision)
    _record_task(ledger, key, outcome, decision, task=mine, now_s=now_s)
    ledger.skip_tasks(key.run_id, verdict.skipped, now_s=now_s)
    telling.tell_skipped(ledger, key.run_id, verdict.skipped, tasks, now_s)
    begun: tuple[AttemptKey, ...] = ()
    if verdict.run_result is not None:
        _end_run(ledger, key.run_id, verdict.run_result, now_s)
    elif go_on:
        begun = tuple(ledger.begin_attempt(key.run_id, k, now_s=now_s) for k in verdict.ready)
    return Concluded(begun, decision.retry_at_s, verdict.run_result)


def _decide(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, *, task: TaskRow, now_s: float
) -> lifecycle.Decision:
    """Where the task stands now. What a file may be to blame for is not held against the task."""
    return _isolated(ledger, job, key, outcome, task=task, now_s=now_s) or lifecycle.after_attempt(
        outcome,
        status=_status(task),
        policy=_policy(job, key.task_key),
        started_s=task.started_at_s or now_s,
        now_s=now_s,
    )


def _isolated(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, *, task: TaskRow, now_s: float
) -> lifecycle.Decision | None:
    """Split the batch, or quarantine the file that was alone in it; None: no file is suspected."""
    loading = [
        ref.file_id for ref in part(ledger, job, key.run_id, key.task_key) if ref.action is not FileAction.RETRACT
    ]
    found = isolate.suspicion(outcome, loading, max_retries=_policy(job, key.task_key).max_retries)
    if found is None:
        return None
    if isinstance(found, isolate.Split):
        ledger.split_part(key.run_id, found.later)
    else:
        times = ledger.blame(found.file_id)
        if found.chances is not None and times >= found.chances:
            why = f"{found.reason}, {times} time{'' if times == 1 else 's'} when it was alone"
            arriving.quarantine(ledger, key, found.file_id, why, now_s)
    return lifecycle.Decision(TaskState.PENDING, failures=task.failures, error=found.reason, again=True)


def part(ledger: Ledger, job: Job | None, run_id: int, task_key: str) -> list[FileRef]:
    """The versions that the task's next attempt has to do with: those of the first part that is not done."""
    task = _task(job, task_key)
    if task is None or task.ingest is None:
        return []
    open_ = [
        (ref, number)
        for ref, number, done in ledger.files_of_run(run_id, task_key)
        if not done and (ref.action is FileAction.RETRACT or triggers.takes(task.ingest, ref.path))
    ]
    first = min((number for _, number in open_), default=0)
    return [ref for ref, number in open_ if number == first]


def remaining(ledger: Ledger, job: Job | None, key: AttemptKey) -> bool:
    """Whether the run has parts left for the task, now that this attempt is recorded."""
    return ledger.is_split(key.run_id) and bool(part(ledger, job, key.run_id, key.task_key))


def _record_attempt(
    ledger: Ledger, key: AttemptKey, outcome: Outcome, decision: lifecycle.Decision, now_s: float
) -> None:
    stats = outcome.stats if isinstance(outcome, Committed) else None
    ledger.end_attempt(key, _outcome_word(outcome), stats=stats, error=decision.error, now_s=now_s)
    if stats is not None:
        arriving.record(ledger, key, stats, now_s)
        ledger.count_expectations(key, stats.expectations)


def _record_task(
    ledger: Ledger, key: AttemptKey, outcome: Outcome, decision: lifecycle.Decision, *, task: TaskRow, now_s: float
) -> None:
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
    if decision.state is not TaskState.PENDING:
        stats = outcome.stats if isinstance(outcome, Committed) else None
        telling.tell_task(ledger, key, decision, stats=stats, started_s=task.started_at_s, now_s=now_s)


def _end_run(ledger: Ledger, run_id: int, result: Result, now_s: float) -> None:
    tasks = ledger.tasks(run_id)
    error = next((f"{t.task_key}: {t.error}" for t in tasks if t.result in {Result.FAILED, Result.TIMEDOUT}), None)
    ledger.end_run(run_id, result, error=error, now_s=now_s)
    telling.tell_run(ledger, run_id, "finished", now_s, result=result, error=error)


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
    task = _task(job, task_key)
    return lifecycle.retry_policy(task) if task else lifecycle.RetryPolicy(0, 0.0)


def _task(job: Job | None, task_key: str) -> Task | None:
    return next((t for t in job.tasks if t.task_key == task_key), None) if job else None


def _status(task: TaskRow) -> lifecycle.TaskStatus:
    return lifecycle.TaskStatus(task.task_key, task.depends_on, task.state, task.result, task.failures, task.crashes)


def _statuses(tasks: Sequence[TaskRow]) -> list[lifecycle.TaskStatus]:
    return [_status(task) for task in tasks]
