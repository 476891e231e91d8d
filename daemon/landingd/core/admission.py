"""Decide whether a run that is asked for may wait, start, or has to be skipped.

Databricks skips a run without a word where `max_concurrent_runs` are active and no queue is enabled. Here a skipped run
is a run: it has an id, a state and a reason, and is told.
"""

from dataclasses import dataclass

from landingd.model import Job, Result, RunRequest, TriggerType

_BOUNDED_BY_THEMSELVES = frozenset({TriggerType.BACKFILL, TriggerType.RUN_JOB_TASK, TriggerType.REPLAY})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run is skipped."""

    result: Result
    reason: str


def never_refused(job: Job, request: RunRequest) -> bool:
    """Whether the run may wait however many others do, so that nobody has to count them."""
    return bool(job.max_concurrent_runs and request.queue and request.trigger_type in _BOUNDED_BY_THEMSELVES)


def refusal(job: Job, request: RunRequest, *, active: int, queued: int) -> Refusal | None:
    """Why there is no room for this run, beside so many active and queued ones of its job; None: there is.

    Source: Jobs API 2.2, `max_concurrent_runs` and `queue`; `termination_details.code` MAX_JOB_QUEUE_SIZE_EXCEEDED.
    """
    if job.max_concurrent_runs == 0:
        return Refusal(Result.MAXIMUM_CONCURRENT_RUNS_REACHED, "max_concurrent_runs is 0: no run of this job starts")
    if active + queued < job.max_concurrent_runs:
        return None
    may_wait = job.queue.enabled if request.queue is None else request.queue
    if not may_wait:
        room = f"{active} of {job.max_concurrent_runs} runs are active" + (f" and {queued} queued" if queued else "")
        why = "the request was not to wait" if request.queue is False else "queue.enabled is false"
        what = f"{room}, and {why}"
        return Refusal(Result.MAXIMUM_CONCURRENT_RUNS_REACHED, what)
    if queued >= job.queue.max_length and request.trigger_type not in _BOUNDED_BY_THEMSELVES:
        what = f"{queued} runs wait already (queue.max_length)"
        return Refusal(Result.MAX_JOB_QUEUE_SIZE_EXCEEDED, what)
    return None
