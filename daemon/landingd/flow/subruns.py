"""Run another job as a task, and wait for it (Databricks: `run_job_task`)."""

import asyncio
import contextlib
from collections.abc import Callable

from landingd.core import references
from landingd.edge.ledger import RunRow
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.books import Books, JobOf
from landingd.model import (
    AttemptKey,
    Canceled,
    Committed,
    Failed,
    Interrupted,
    Outcome,
    Output,
    Result,
    RunJob,
    RunRequest,
    Stats,
    TimedOut,
    TriggerType,
)

DEPTH_MAX = 3
"""Databricks' limit: a job that runs a job that runs a job."""
WAITED_TOO_LONG = "the task that waited for it timed out"
"""Why a run was canceled. Its end alone tells so after a death between the cancel and the end of the task."""


async def run_job(
    books: Books,
    job_of: JobOf,
    action: RunJob,
    key: AttemptKey,
    *,
    parent: RunRow,
    cancel: asyncio.Event,
    stopping: asyncio.Event,
    wake: Callable[[str], None],
    timeout_s: float = 0.0,
) -> Outcome:
    """Start the run, or find the one that this attempt started before the process stopped, and wait for its end.

    After `timeout_s` (0: never) it is canceled.
    """
    if parent.depth + 1 > DEPTH_MAX:
        return Failed(f"run_job tasks are nested deeper than {DEPTH_MAX} levels", permanent=True)
    try:
        job = job_of(action.job)
        values = references.choose_parameters(job, dict(action.job_parameters))
    except (NotFoundError, RefusedError) as error:
        return Failed(str(error), permanent=True)
    failures = await books.failures(key.run_id, key.task_key)
    request = RunRequest(
        TriggerType.RUN_JOB_TASK,
        f"run_job:{key.run_id}:{key.task_key}:{parent.repairs}.{failures}",
        values,
        queue=True,
        priority=parent.priority,
        file_ids=None,
        parent=(key.run_id, key.task_key),
        depth=parent.depth + 1,
    )
    try:
        admitted = await books.admit(job, request)
    except RefusedError as error:  # this run is being broken off
        return Canceled(str(error))
    wake(job.name)
    ended = await _end_of(books, admitted.run_id, cancel, stopping, timeout_s)
    if ended is None:
        return Interrupted(crashed=False)
    return Canceled(ended.error or "canceled") if cancel.is_set() else _outcome(ended, timeout_s)


async def _end_of(
    books: Books, run_id: int, cancel: asyncio.Event, stopping: asyncio.Event, timeout_s: float
) -> RunRow | None:
    """The run once it has ended; None: the daemon stops.

    It is canceled with the one that waits for it, and where it takes too long.
    """
    end = asyncio.create_task(books.ended(run_id))
    canceled, stopped = asyncio.create_task(cancel.wait()), asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait(
            {end, canceled, stopped}, timeout=timeout_s or None, return_when=asyncio.FIRST_COMPLETED
        )
        if (canceled.done() or not done) and not end.done():
            why = "the run that waited for it was canceled" if done else WAITED_TOO_LONG
            with contextlib.suppress(RefusedError):  # it has just ended by itself
                await books.cancel(run_id, why=why)
            await asyncio.wait({end, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return end.result() if end.done() else None
    finally:
        for task in (end, canceled, stopped):
            task.cancel()
        await asyncio.gather(end, canceled, stopped, return_exceptions=True)


def _outcome(run: RunRow, timeout_s: float) -> Outcome:
    result = run.result or Result.FAILED
    if result is Result.CANCELED and run.error == WAITED_TOO_LONG:
        return TimedOut(timeout_s)
    if result in {Result.SUCCESS, Result.SUCCESS_WITH_FAILURES}:
        return Committed(Stats(how=f"run {run.run_id}", changed=False, output=Output(run_id=run.run_id)))
    error = f"run {run.run_id} of job '{run.job}' ended {result.value}: {run.error}"
    return Canceled(error) if result is Result.CANCELED else Failed(error)
