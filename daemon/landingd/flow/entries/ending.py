"""Break a run or a loop off, and take up a run that has ended: cancel, time limit, and repair."""

import contextlib
from collections.abc import Callable

from landingd.core import references, selecting
from landingd.edge.ledger import Ledger, RunRow, TaskRow
from landingd.errors import NotFoundError, RefusedError
from landingd.flow import telling
from landingd.flow.entries import finishing, following
from landingd.flow.entries.admitting import task_entries
from landingd.flow.entries.concluding import Concluded
from landingd.model import AttemptKey, Job, RepairRequest, Result, RunState, TaskState, loop_of

JobOf = Callable[[str], Job | None]
"""The job of that name as it is today."""
CANCELED_AT_ONCE = 20
"""Runs in one transaction: thousands of them must not hold up arriving files, nor be synced one by one."""
ENDED = frozenset({RunState.TERMINATED, RunState.SKIPPED})


def cancel(
    ledger: Ledger, job: Job | None, run_id: int, now_s: float, *, why: str, ending: Result = Result.CANCELED
) -> bool:
    """End a run as soon as what runs of it is broken off; true if something runs (Databricks: `runs/cancel`).

    Tasks that have not begun end as CANCELED, and nothing more of it begins. Raises NotFoundError, and RefusedError for
    a run that has ended.
    """
    run = _run(ledger, run_id)
    if run.state in ENDED:
        raise RefusedError(f"run {run_id} has ended already: {run.result.value if run.result else run.state.value}")
    if run.state is RunState.RUNNING:
        ledger.terminate_run(run_id, ending, error=why)
    open_ = ledger.open_tasks(run_id)
    waiting = [task for task in open_ if task.state is not TaskState.RUNNING]
    ledger.end_tasks(run_id, [task.task_key for task in waiting], Result.CANCELED, error=why, now_s=now_s)
    for task in waiting:
        if task.parent is None:
            following.tell_left_out(ledger, run_id, task, Result.CANCELED, now_s)
    if run.state is RunState.QUEUED:
        finishing.end_run(ledger, job, run_id, ending, error=why, now_s=now_s)
        return False
    _end_loops(ledger, job, run_id, open_, now_s)
    finishing.end_if_over(ledger, job, run_id, now_s)
    return ledger.has_open_tasks(run_id)


def break_off(
    ledger: Ledger, job_of: JobOf, run_id: int, now_s: float, *, why: str, ending: Result = Result.CANCELED
) -> list[int]:
    """Cancel a run, and those that its tasks wait for; returns those of them of which something runs still."""
    run = ledger.run(run_id)
    job = job_of(run.job) if run else None
    running = [run_id] if cancel(ledger, job, run_id, now_s, why=why, ending=ending) else []
    for child in ledger.open_children(run_id):
        running += break_off(ledger, job_of, child, now_s, why="the run that waited for it was canceled")
    return running


def break_off_some(
    ledger: Ledger, job_of: JobOf, run_ids: list[int], now_s: float
) -> tuple[list[int], list[int], list[int]]:
    """Cancel the first of these runs, as far as they have not ended.

    Returns them, those of which something runs still, and the runs that are left for other transactions.
    """
    canceled: list[int] = []
    running: list[int] = []
    for run_id in run_ids[:CANCELED_AT_ONCE]:
        with contextlib.suppress(RefusedError):  # it has ended meanwhile
            running += break_off(ledger, job_of, run_id, now_s, why="canceled on request")
            canceled.append(run_id)
    return canceled, running, run_ids[CANCELED_AT_ONCE:]


def _end_loops(ledger: Ledger, job: Job | None, run_id: int, tasks: list[TaskRow], now_s: float) -> None:
    """Loops none of whose iterations is under way."""
    for task in tasks:
        is_loop = task.state is TaskState.RUNNING and task.concurrency is not None
        if is_loop and not ledger.has_open_iterations(run_id, task.task_key):
            following.end_loop(ledger, job, run_id, task.task_key, now_s, over=True)


def time_out_loop(
    ledger: Ledger, job: Job | None, key: AttemptKey, now_s: float, *, job_of: JobOf
) -> tuple[Concluded | None, list[int]]:
    """End a loop whose time is over as soon as what runs of it is broken off; None: this attempt of it has ended.

    Iterations that wait end as CANCELED, and none begins any more. Runs that iterations wait for are canceled; returns
    those of them of which something runs still.
    """
    run, loop = _run(ledger, key.run_id), ledger.task(key.run_id, key.task_key)
    is_under_way = loop is not None and loop.state is TaskState.RUNNING and loop.concurrency is not None
    if run.state is not RunState.RUNNING or loop is None or not is_under_way or loop.attempts != key.attempt:
        return None, []
    ledger.break_off_loop(key.run_id, key.task_key, why=following.LOOP_IS_LATE, now_s=now_s)
    running: list[int] = []
    for child in ledger.open_children(key.run_id, of_loop=key.task_key):
        running += break_off(ledger, job_of, child, now_s, why="the loop that waited for it timed out")
    if ledger.has_open_iterations(key.run_id, key.task_key):
        return Concluded(), running
    ready = following.end_loop(ledger, job, key.run_id, key.task_key, now_s, over=False)
    begun = following.begin(ledger, job, key.run_id, ready, now_s)
    result = None if begun else finishing.end_if_over(ledger, job, key.run_id, now_s)
    return Concluded(begun, ledger.retry_at_s(key.run_id, key.task_key), result, key.task_key), running


def repair(
    ledger: Ledger, run_id: int, job_of: Callable[[str], Job], now_s: float, request: RepairRequest
) -> tuple[str, ...]:
    """Queue tasks and iterations of a finished run again, by the job's definition of today; returns them.

    Raises NotFoundError, and RefusedError where the run is active, there is nothing to repair, or another repair came
    first (Databricks: `runs/repair`, `latest_repair_id`).
    """
    run = _run(ledger, run_id)
    if run.state is not RunState.TERMINATED:
        raise RefusedError(f"run {run_id} is {run.state.value}: only a finished run can be repaired")
    if request.latest_repair_id is not None and request.latest_repair_id != run.repairs:
        raise RefusedError(
            f"the latest repair of run {run_id} is {run.repairs}, not {request.latest_repair_id}",
            hint=f"somebody else repaired it; `landingd show {run_id}` says how it stands",
        )
    job = job_of(run.job)
    declared = {parameter.name for parameter in job.parameters}
    kept = {name: value for name, value in run.parameters.items() if name in declared}
    parameters = references.choose_parameters(job, kept | dict(request.parameters))
    entries = task_entries(job, run.only)
    here = {entry.task_key for entry in entries}
    ledger.keep_results(run_id)
    ledger.drop_tasks(run_id, [t.task_key for t in ledger.tasks(run_id) if t.task_key not in here])
    ledger.set_tasks(run_id, entries)
    known = [selecting.RepairTask(t.task_key, t.depends_on, t.result) for t in ledger.tasks(run_id)]
    again = selecting.to_repair(known, request, ledger.iterations(run_id))
    for task_key in (*selecting.whole(known, again), *filter(loop_of, again)):
        ledger.forget_results(run_id, task_key)
    ledger.repair_run(run_id, again, now_s=now_s, parameters=parameters, given=request.parameters)
    ledger.count_blockers(run_id)
    telling.tell_run(ledger, run_id, "queued", now_s)
    return again


def _run(ledger: Ledger, run_id: int) -> RunRow:
    run = ledger.run(run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
    return run
