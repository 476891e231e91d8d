"""What is decided and written in one ledger transaction: the entries of the books.

Every function here reads what it needs, asks core, and writes what follows. The transaction is its caller's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from landingd.core import graph, lifecycle, news, triggers
from landingd.edge.ledger import Ledger, Notice, RunRow, TaskRow
from landingd.errors import NotFoundError, RefusedError
from landingd.model import (
    Arrival,
    AttemptKey,
    Committed,
    Failed,
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


def accept(ledger: Ledger, arrival: Arrival, now_s: float) -> triggers.Arrived:
    """Enter a complete file: new, changed, or a duplicate of what is known."""
    newest = ledger.newest(arrival.job, arrival.path)
    came_again = newest is not None and _delivered_again(newest.signature, arrival.signature)
    what = triggers.classify(
        arrival.content_hash,
        newest.content_hash if newest else None,
        quarantined=came_again and newest is not None and newest.state is FileState.QUARANTINED,
    )
    if newest is not None and what is triggers.Arrived.DUPLICATE:
        new = arrival.signature
        ledger.note_duplicate(newest.file_id, new, came_again=came_again)
        ledger.forget_waiting(arrival.job, arrival.path)
        if came_again:
            times = ledger.file(newest.file_id)["duplicates"]
            _tell_file(ledger, "duplicate", newest.file_id, now_s, occurrence=times)
        return what
    if newest is not None and newest.state is FileState.WAITING:
        ledger.replace(newest.file_id, reason="a newer version came before it was loaded")
    if newest is not None and newest.state is FileState.QUARANTINED:
        ledger.replace(newest.file_id, reason=f"delivered again; it was quarantined: {newest.reason}")
    file_id = ledger.add_version(arrival)
    _tell_file(ledger, "landed", file_id, now_s, size=arrival.signature.size, evidence=arrival.evidence)
    if arrival.damage is not None:
        ledger.quarantine(file_id, reason=arrival.damage)
        _tell_file(ledger, "quarantined", file_id, now_s, reason=arrival.damage)
    return what


def _delivered_again(old: Signature, new: Signature) -> bool:
    """Written or moved in anew, and not only given other permissions."""
    return (old.mtime_ns, old.inode, old.device) != (new.mtime_ns, new.inode, new.device)


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


def next_run(ledger: Ledger, job: Job, now_s: float) -> Started | None:
    """Start the job's oldest open run, or form one from the files that wait."""
    open_runs = [run for run in ledger.open_runs() if run.job == job.name]
    if open_runs:
        return _start(ledger, open_runs[0], job, now_s)
    cooling_s = triggers.next_batch_at_s(job, ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL))
    file_ids = ledger.pending_files(job.name, triggers.batch_limit(job)) if now_s >= cooling_s else []
    if not file_ids:
        return None
    key = triggers.files_key(file_ids)
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
    _tell_run(ledger, run_id, "queued", now_s)
    return again


def conclude(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, now_s: float, *, go_on: bool
) -> Concluded:
    """Record how an attempt ended, and everything that follows from it."""
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
