"""The parts of a run's batch: a batch is split to find the file that breaks the attempt."""

from landingd.core import isolate, lifecycle, triggers
from landingd.edge.ledger import Ledger, TaskRow
from landingd.flow import arriving
from landingd.model import AttemptKey, FileAction, FileRef, Job, Outcome, Task, TaskState


def part(ledger: Ledger, job: Job | None, run_id: int, task_key: str) -> list[FileRef]:
    """The versions that the task's next attempt has to do with: those of the first part that is not done."""
    task = task_of(job, task_key)
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
    task = task_of(job, key.task_key)
    if task is None or task.ingest is None or not ledger.is_split(key.run_id):
        return False
    return bool(part(ledger, job, key.run_id, key.task_key))


def isolated(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, *, task: TaskRow, now_s: float
) -> lifecycle.Decision | None:
    """Split the batch, or quarantine the file that was alone in it; None: no file is suspected."""
    loading = [
        ref.file_id for ref in part(ledger, job, key.run_id, key.task_key) if ref.action is not FileAction.RETRACT
    ]
    found = isolate.suspicion(outcome, loading, max_retries=policy(job, key.task_key).max_retries)
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


def policy(job: Job | None, task_key: str) -> lifecycle.RetryPolicy:
    """How often an attempt of the task is tried again."""
    task = task_of(job, task_key)
    return lifecycle.retry_policy(task) if task else lifecycle.RetryPolicy()


def task_of(job: Job | None, task_key: str) -> Task | None:
    """The definition of a task or an iteration; None where the job has it no more."""
    if job is None:
        return None
    try:
        return job.task(task_key)
    except KeyError:
        return None
