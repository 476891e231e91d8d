"""What follows from the end of a task: the tasks behind it begin, or are left out, and so on down to the run's end."""

from collections import deque
from collections.abc import Iterable, Sequence

from landingd.core import lifecycle, queueing, runif
from landingd.edge.ledger import Ledger, TaskRow
from landingd.flow import alerting, telling
from landingd.flow.entries import finishing, parts
from landingd.flow.outcomes import outcome_word
from landingd.model import AttemptKey, Job, Result, TaskState

LOOP_IS_LATE = "the time of its loop was over"


def begin_ready(ledger: Ledger, job: Job | None, run_id: int, now_s: float) -> tuple[AttemptKey, ...]:
    """Begin an attempt of every task and iteration that may run now; ends the run where there is none left."""
    ready = follow(ledger, run_id, ledger.unblocked(run_id), now_s)
    for task in ledger.open_tasks(run_id):
        if task.state is TaskState.RUNNING and task.concurrency is not None:
            ready += ledger.next_iterations(run_id, task.task_key)
    begun = begin(ledger, job, run_id, ready, now_s)
    if not begun:
        finishing.end_if_over(ledger, job, run_id, now_s)
    return begun


def begin(
    ledger: Ledger, job: Job | None, run_id: int, task_keys: Sequence[str], now_s: float
) -> tuple[AttemptKey, ...]:
    """Begin attempts of these tasks, but of those that make tables only when it is the run's turn to write.

    Otherwise two runs with other parameters would read each other's tables half way.
    """
    if job is not None and not job.table_tasks.isdisjoint(task_keys) and must_wait(ledger, job, run_id):
        task_keys = [key for key in task_keys if key not in job.table_tasks]
    begun = tuple(ledger.begin_attempt(run_id, key, now_s=now_s) for key in task_keys)
    for key in begun:
        alerting.task_began(ledger, job, key, now_s)
    return begun


def must_wait(ledger: Ledger, job: Job, run_id: int) -> bool:
    """Whether it is another run's turn to write the job's tables: this one's table tasks may not begin."""
    others = ledger.others_with(run_id, job.name, job.table_tasks) if job.table_tasks else []
    if not others:
        return False
    mine, *theirs = (queueing.Writer(one, ledger.has_begun(one, job.table_tasks)) for one in (run_id, *others))
    return not queueing.may_write(mine, theirs)


def follow(ledger: Ledger, run_id: int, task_keys: Iterable[str], now_s: float) -> list[str]:
    """Of tasks that wait for no other any more, those that run; the others are left out, and so on down."""
    ready: list[str] = []
    open_ = deque(task_keys)
    while open_:
        key = open_.popleft()
        task = ledger.task(run_id, key)
        assert task is not None  # noqa: S101 -- read in this transaction
        left_out = runif.leaves_out(task.run_if, _upstreams(ledger, run_id, key), disabled=task.disabled)
        if left_out is None:
            ready.append(key)
            continue
        ledger.end_tasks(run_id, [key], left_out, now_s=now_s)
        tell_left_out(ledger, run_id, task, left_out, now_s)
        open_.extend(ledger.release(run_id, key))
    return ready


def _upstreams(ledger: Ledger, run_id: int, task_key: str) -> list[runif.Upstream]:
    rows = ledger.upstreams(run_id, task_key)
    return [runif.Upstream(row.result or Result.UPSTREAM_FAILED, row.wanted, row.outcome) for row in rows]


def after_end(ledger: Ledger, job: Job | None, run_id: int, task: TaskRow, now_s: float, *, over: bool) -> list[str]:
    """A task or an iteration has ended: which others may begin. `over`: the run is being broken off, none may."""
    if task.parent is not None:
        ready = [] if over else ledger.next_iterations(run_id, task.parent)
        if ledger.has_open_iterations(run_id, task.parent):
            return ready
        return end_loop(ledger, job, run_id, task.parent, now_s, over=over)
    free = ledger.release(run_id, task.task_key)
    return [] if over else follow(ledger, run_id, free, now_s)


def end_loop(ledger: Ledger, job: Job | None, run_id: int, loop_key: str, now_s: float, *, over: bool) -> list[str]:
    """The last iteration of a loop has ended, and with it the loop, unless it is tried again."""
    loop = ledger.task(run_id, loop_key)
    assert loop is not None  # noqa: S101 -- its iterations name it
    started_s = loop.started_at_s or now_s
    ended = {key: result or Result.FAILED for key, result in ledger.iteration_results(run_id, loop_key).items()}
    late_s = (limit_s(job, loop_key) or now_s - started_s) if ledger.is_late(run_id, loop_key) else None
    outcome = lifecycle.of_loop(ended, late_s=late_s)
    policy = lifecycle.RetryPolicy() if over else parts.policy(job, loop_key)
    seed = f"{run_id}/{loop_key}"
    decision = lifecycle.after_attempt(
        outcome, status=finishing.status(loop), policy=policy, started_s=started_s, now_s=now_s, seed=seed
    )
    key = AttemptKey(run_id, loop_key, loop.attempts)
    ledger.end_attempt(key, outcome_word(outcome), stats=None, error=decision.error, now_s=now_s)
    ledger.set_task(
        run_id,
        loop_key,
        decision.state,
        result=decision.result,
        error=decision.error,
        failures=decision.failures,
        crashes=decision.crashes,
        retry_at_s=decision.retry_at_s,
        now_s=now_s,
    )
    telling.tell_task(ledger, key, decision, now_s=now_s, started_s=loop.started_at_s)
    alerting.task_ended(ledger, job, key, decision, now_s)
    if decision.result is None:
        ledger.fold_loop(run_id, loop_key)
        return []
    return after_end(ledger, job, run_id, loop, now_s, over=over)


def limit_s(job: Job | None, loop_key: str) -> float:
    """How long an attempt of a loop may take, with all its iterations; 0: as long as it likes."""
    task = parts.task_of(job, loop_key)
    return task.timeout_s if task else 0.0


def late_at_s(job: Job | None, loop: TaskRow) -> float | None:
    """When the time of a loop that is under way is over; None: never."""
    limit = limit_s(job, loop.task_key)
    return loop.started_at_s + limit if limit and loop.started_at_s is not None else None


def tell_left_out(ledger: Ledger, run_id: int, task: TaskRow, result: Result, now_s: float) -> None:
    """Say that a task ended without an attempt."""
    decision = lifecycle.Decision(TaskState.TERMINATED, result)
    telling.tell_task(ledger, AttemptKey(run_id, task.task_key, task.attempts), decision, now_s=now_s)
