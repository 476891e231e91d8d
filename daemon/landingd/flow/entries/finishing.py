"""The end of a run: its result, what is told of it, and what a continuous job does next."""

from landingd.core import lifecycle
from landingd.edge.ledger import Ledger, TaskRow
from landingd.flow import alerting, telling
from landingd.flow.entries import continuing
from landingd.model import Job, Result, RunState


def end_if_over(ledger: Ledger, job: Job | None, run_id: int, now_s: float) -> Result | None:
    """End the run if every task of it has ended; returns its result."""
    if ledger.has_open_tasks(run_id):
        return None
    run = ledger.run(run_id)
    if run is None or run.state not in {RunState.RUNNING, RunState.TERMINATING}:
        return None
    tasks = ledger.tasks(run_id)
    result = run.ending or lifecycle.run_result([status(t) for t in tasks], strict=job is not None and job.strict)
    if run.ending is None:
        named = (t for t in tasks if t.result in {Result.FAILED, Result.TIMEDOUT, Result.CANCELED})
        error = next((f"{t.task_key}: {t.error}" for t in named), None)
    else:
        error = run.error
    end_run(ledger, job, run_id, result, error=error, now_s=now_s)
    return result


def end_run(ledger: Ledger, job: Job | None, run_id: int, result: Result, *, error: str | None, now_s: float) -> None:
    """The run has ended so."""
    continuing.after_run(ledger, job, run_id, result, now_s)
    ledger.end_run(run_id, result, error=error, now_s=now_s)
    telling.tell_run(ledger, run_id, "finished", now_s, result=result, error=error)
    alerting.run_ended(ledger, job, run_id, now_s)


def status(task: TaskRow) -> lifecycle.TaskStatus:
    """What core decides on."""
    return lifecycle.TaskStatus(task.task_key, task.depends_on, task.state, task.result, task.failures, task.crashes)
