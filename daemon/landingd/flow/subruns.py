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
    ended, is_late = await _end_of(books, admitted.run_id, cancel, stopping, timeout_s)
    if ended is None:
        return Interrupted(crashed=False)
    if cancel.is_set():
        return Canceled(ended.error or "canceled")
    return TimedOut(timeout_s) if is_late else _outcome(ended)


async def _end_of(
    books: Books, run_id: int, cancel: asyncio.Event, stopping: asyncio.Event, timeout_s: float
) -> tuple[RunRow | None, bool]:
    """The run once it has ended, and whether that took too long; it is canceled with the one that waits for it.

    None: the daemon stops.
    """
    end = asyncio.create_task(books.ended(run_id))
    canceled, stopped = asyncio.create_task(cancel.wait()), asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait(
            {end, canceled, stopped}, timeout=timeout_s or None, return_when=asyncio.FIRST_COMPLETED
        )
        if (canceled.done() or not done) and not end.done():
            why = "the run that waited for it was canceled" if done else "the task that waited for it timed out"
            with contextlib.suppress(RefusedError):  # it has just ended by itself
                await books.cancel(run_id, why=why)
            await asyncio.wait({end, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return end.result() if end.done() else None, not done
    finally:
        for task in (end, canceled, stopped):
            task.cancel()
        await asyncio.gather(end, canceled, stopped, return_exceptions=True)


def _outcome(run: RunRow) -> Outcome:
    result = run.result or Result.FAILED
    if result in {Result.SUCCESS, Result.SUCCESS_WITH_FAILURES}:
        return Committed(Stats(how=f"run {run.run_id}", changed=False, output=Output(run_id=run.run_id)))
    error = f"run {run.run_id} of job '{run.job}' ended {result.value}: {run.error}"
    return Canceled(error) if result is Result.CANCELED else Failed(error)
