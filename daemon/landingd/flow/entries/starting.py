"""Choose what a job runs next: what was under way, what waits in the queue, or what its files ask for."""

from collections.abc import Collection
from dataclasses import dataclass

from landingd.core import graph, lifecycle
from landingd.edge.ledger import Ledger, RunRow
from landingd.flow import alerting, telling
from landingd.flow.entries import batches, following
from landingd.flow.entries.admitting import admit
from landingd.flow.entries.finishing import status
from landingd.model import AttemptKey, Job, RunRequest, RunState, TaskState


@dataclass(frozen=True, slots=True)
class Started:
    """A run that goes on now: the attempts that were begun, and the tasks whose retry is due at a time."""

    run: RunRow
    begun: tuple[AttemptKey, ...]
    retries: tuple[tuple[str, float], ...] = ()
    together: bool = False
    """`begun` are all of the run's tasks, in an order in which they may run, to be tried in one transaction."""
    held: bool = False
    """It is another run's turn to write the job's tables."""
    loops: tuple[tuple[AttemptKey, float], ...] = ()
    """Loops under way that have a time limit, each with when that is over."""


@dataclass(frozen=True, slots=True)
class Later:
    """Files wait, and a run for them may not start before this time."""

    at_s: float


def next_run(
    ledger: Ledger, job: Job, now_s: float, driven: Collection[int] = (), *, inner_only: bool = False
) -> Started | Later | None:
    """Take up a run that was under way when the process stopped, start one that waits, or form one from files.

    `driven`: runs of the job that go on already. `inner_only`: no slot is free, so only what a task of another run
    waits for. None: there is nothing to do, or no room.
    """
    active = ledger.active_runs(job.name)
    for run in active:
        if run.run_id not in driven:
            return _start(ledger, run, job, now_s)
    if len(active) >= job.max_concurrent_runs:
        return None
    # Runs with files are one at a time: versions of a path must not overtake each other.
    files_busy = any(run.has_files for run in active)
    queued = ledger.next_queued(job.name, without_files=files_busy, inner_only=inner_only)
    if queued is not None:
        return _start(ledger, queued, job, now_s)
    if inner_only or files_busy:
        return None
    return _form(ledger, job, now_s)


def _form(ledger: Ledger, job: Job, now_s: float) -> Started | Later | None:
    batch = batches.due(ledger, job, now_s)
    if not isinstance(batch, batches.Batch):
        return None if batch is None else Later(batch)
    request = RunRequest(
        batch.trigger_type,
        batches.key_of(ledger, job, batch, now_s),
        trigger=batch.trigger,
        info={"file_arrival": {"location": batch.location}},
        file_ids=batch.file_ids,
    )
    admitted = admit(ledger, job, request, now_s)
    batches.note(ledger, job, batch, admitted.run_id, now_s)
    run = ledger.run(admitted.run_id)
    return _start(ledger, run, job, now_s) if run and run.state is RunState.QUEUED else None


def _start(ledger: Ledger, run: RunRow, job: Job, now_s: float) -> Started:
    """Start a queued run, or take up one that was under way when the process stopped."""
    if run.state is RunState.QUEUED:
        ledger.start_run(run.run_id, now_s=now_s)
        telling.tell_run(ledger, run.run_id, "started", now_s)
        alerting.run_started(ledger, job, run.run_id, now_s)
    if run.state is RunState.QUEUED and run.repairs == 0 and _may_share(ledger, run, job):
        keys = following.begin(ledger, job, run.run_id, graph.order(job), now_s)
        return Started(_again(ledger, run), keys, together=True)
    open_ = ledger.open_tasks(run.run_id)
    waiting = [task for task in open_ if task.state is TaskState.WAITING_FOR_RETRY]
    under_way = [task for task in open_ if task.state is TaskState.RUNNING and task.concurrency is not None]
    ends = [(AttemptKey(run.run_id, one.task_key, one.attempts), following.late_at_s(job, one)) for one in under_way]
    return Started(
        _again(ledger, run),
        following.begin_ready(ledger, job, run.run_id, now_s),
        tuple((task.task_key, task.retry_at_s or now_s) for task in waiting),
        held=following.must_wait(ledger, job, run.run_id),
        loops=tuple((key, at_s) for key, at_s in ends if at_s is not None),
    )


def _may_share(ledger: Ledger, run: RunRow, job: Job) -> bool:
    """Whether all tasks of a run that starts may be tried in one transaction."""
    statuses = [status(task) for task in ledger.tasks(run.run_id)]
    n_bytes = ledger.run_bytes(run.run_id)
    together = lifecycle.may_commit_together(job.tasks, statuses, n_bytes=n_bytes)
    return together and not following.must_wait(ledger, job, run.run_id)


def _again(ledger: Ledger, run: RunRow) -> RunRow:
    """The run as it is now that it has started."""
    return ledger.run(run.run_id) or run
