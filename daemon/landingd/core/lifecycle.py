"""What happens next: after an attempt, to the tasks behind it, and to the run.

The one function that every scheduler gets wrong is the one that executes a unit of work and decides what follows. Here
the deciding stands alone: values in, a Verdict out. The ledger applies it in the same transaction in which it read
the states, so no end of a run is lost when two tasks end at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from landingd.model import (
    Committed,
    Failed,
    Interrupted,
    Outcome,
    Result,
    RunState,
    Task,
    TaskState,
    TimedOut,
)

CRASHES_MAX = 3
"""A task during which the process died this often in a row is failed: it is likely to be what kills it."""

TASK_TRANSITIONS: dict[tuple[TaskState, str], TaskState] = {
    (TaskState.PENDING, "begin attempt"): TaskState.RUNNING,
    (TaskState.PENDING, "upstream failed"): TaskState.TERMINATED,
    (TaskState.RUNNING, "committed"): TaskState.TERMINATED,
    (TaskState.RUNNING, "failed, retries left"): TaskState.WAITING_FOR_RETRY,
    (TaskState.RUNNING, "failed for good or timed out"): TaskState.TERMINATED,
    (TaskState.RUNNING, "interrupted"): TaskState.PENDING,
    (TaskState.RUNNING, "batch split, or a part of it committed"): TaskState.PENDING,
    (TaskState.WAITING_FOR_RETRY, "begin attempt"): TaskState.RUNNING,
    (TaskState.TERMINATED, "repair"): TaskState.PENDING,
}
"""Every move a task can make. The diagram in daemon/README.md is drawn from this table."""

RUN_TRANSITIONS: dict[tuple[RunState, str], RunState] = {
    (RunState.QUEUED, "dispatch"): RunState.RUNNING,
    (RunState.RUNNING, "last task ended"): RunState.TERMINATED,
    (RunState.TERMINATED, "repair"): RunState.QUEUED,
}
"""Every move a run can make."""


TOGETHER_BYTES_MAX = 8 << 20
"""Up to this much data the commits of a run's tasks would cost more than their statements: they share one."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed attempt is tried again (Databricks: `max_retries`, `min_retry_interval_millis`)."""

    max_retries: int
    """-1: without end."""
    min_retry_interval_s: float
    """From the start of the failed attempt to the start of the next."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task of a run as the ledger has it."""

    task_key: str
    depends_on: tuple[str, ...]
    state: TaskState
    result: Result | None = None
    failures: int = 0
    """Failed attempts since the run was queued or last repaired."""
    crashes: int = 0
    """Deaths of the process during this task since its last other outcome."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a task stands after an attempt."""

    state: TaskState
    result: Result | None = None
    retry_at_s: float | None = None
    failures: int = 0
    crashes: int = 0
    error: str | None = None
    again: bool = False
    """With PENDING: its next attempt may begin at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that follows from one attempt's end."""

    task_key: str
    decision: Decision
    skipped: tuple[str, ...]
    """Tasks that can never run now: UPSTREAM_FAILED."""
    ready: tuple[str, ...]
    """Tasks whose attempts begin now."""
    run_result: Result | None
    """Set when this was the last task to end."""


def retry_policy(task: Task) -> RetryPolicy:
    """The task's own."""
    return RetryPolicy(task.max_retries, task.min_retry_interval_s)


def after_attempt(
    outcome: Outcome, *, status: TaskStatus, policy: RetryPolicy, started_s: float, now_s: float
) -> Decision:
    """Where the task stands after this outcome; `started_s` is when the attempt began."""
    match outcome:
        case Committed():
            return Decision(TaskState.TERMINATED, Result.SUCCESS)
        case TimedOut(after_s=after_s):
            # As in Databricks, a timeout is not retried unless retry_on_timeout says so.
            error = f"timed out after {after_s:g} s (timeout_seconds)"
            return Decision(TaskState.TERMINATED, Result.TIMEDOUT, failures=status.failures + 1, error=error)
        case Interrupted(crashed=crashed, why=why):
            if crashed:
                return _after_crash(status)
            # A stop is not the task's fault: it costs neither a retry nor a wait.
            return Decision(TaskState.PENDING, failures=status.failures, error=why)
        case Failed(error=error, permanent=permanent):
            return _after_failure(status, policy, error, permanent=permanent, started_s=started_s, now_s=now_s)
        case _:
            assert_never(outcome)


def _after_crash(status: TaskStatus) -> Decision:
    crashes = status.crashes + 1
    error = f"the process died during this attempt ({crashes} of {CRASHES_MAX})"
    if crashes >= CRASHES_MAX:
        return Decision(TaskState.TERMINATED, Result.FAILED, failures=status.failures, crashes=crashes, error=error)
    return Decision(TaskState.PENDING, failures=status.failures, crashes=crashes, error=error)


def _after_failure(
    status: TaskStatus, policy: RetryPolicy, error: str, *, permanent: bool, started_s: float, now_s: float
) -> Decision:
    failures = status.failures + 1
    may_retry = not permanent and (policy.max_retries < 0 or failures <= policy.max_retries)
    if not may_retry:
        return Decision(TaskState.TERMINATED, Result.FAILED, failures=failures, error=error)
    retry_at_s = max(now_s, started_s + policy.min_retry_interval_s)
    return Decision(TaskState.WAITING_FOR_RETRY, retry_at_s=retry_at_s, failures=failures, error=error)


def conclude(statuses: Sequence[TaskStatus], task_key: str, decision: Decision) -> Verdict:
    """What follows for the whole run when `task_key` stands as decided; `statuses` are the run's tasks before."""
    after = {s.task_key: (s.state, s.result) for s in statuses}
    after[task_key] = (decision.state, decision.result)
    skipped = _skipped(statuses, after)
    after.update(dict.fromkeys(skipped, (TaskState.TERMINATED, Result.UPSTREAM_FAILED)))
    ready = tuple(s.task_key for s in statuses if _is_ready(s, after) and (s.task_key != task_key or decision.again))
    return Verdict(task_key, decision, skipped, ready, _run_result(statuses, after))


def ready(statuses: Sequence[TaskStatus]) -> tuple[str, ...]:
    """The tasks that may begin now, when a run starts or is resumed."""
    after = {s.task_key: (s.state, s.result) for s in statuses}
    return tuple(s.task_key for s in statuses if _is_ready(s, after))


def may_commit_together(tasks: Sequence[Task], statuses: Sequence[TaskStatus], *, n_bytes: int) -> bool:
    """Whether a run's tasks may share one transaction.

    Only a small run that has just begun: where anything goes wrong nothing of it stays, and each task is tried alone.
    A task with a timeout is on its own, or it would answer for the time of others.
    """
    fresh = all(s.state is TaskState.PENDING and s.failures == s.crashes == 0 for s in statuses)
    known = {task.task_key for task in tasks} == {s.task_key for s in statuses}
    return fresh and known and len(tasks) > 1 and n_bytes <= TOGETHER_BYTES_MAX and not any(t.timeout_s for t in tasks)


def run_result(statuses: Sequence[TaskStatus]) -> Result | None:
    """The run's result, once every task has ended."""
    return _run_result(statuses, {s.task_key: (s.state, s.result) for s in statuses})


_States = dict[str, tuple[TaskState, Result | None]]


def _is_ready(status: TaskStatus, after: _States) -> bool:
    if after[status.task_key][0] is not TaskState.PENDING:
        return False
    return all(after[upstream] == (TaskState.TERMINATED, Result.SUCCESS) for upstream in status.depends_on)


def _skipped(statuses: Sequence[TaskStatus], after: _States) -> tuple[str, ...]:
    """Pending tasks below one that ended without success, transitively and in the run's order."""
    lost = {
        key for key, (state, result) in after.items() if state is TaskState.TERMINATED and result is not Result.SUCCESS
    }
    skipped: list[str] = []
    changed = True
    while changed:
        changed = False
        for status in statuses:
            pending = after[status.task_key][0] is TaskState.PENDING and status.task_key not in lost
            if pending and not lost.isdisjoint(status.depends_on):
                lost.add(status.task_key)
                skipped.append(status.task_key)
                changed = True
    return tuple(skipped)


def _run_result(statuses: Sequence[TaskStatus], after: _States) -> Result | None:
    """As in Databricks, the tasks that nothing depends on decide."""
    if any(state is not TaskState.TERMINATED for state, _ in after.values()):
        return None
    upstreams = {key for s in statuses for key in s.depends_on}
    leaves = [s.task_key for s in statuses if s.task_key not in upstreams]
    if any(after[key][1] is not Result.SUCCESS for key in leaves):
        return Result.FAILED
    every = all(result is Result.SUCCESS for _, result in after.values())
    return Result.SUCCESS if every else Result.SUCCESS_WITH_FAILURES
