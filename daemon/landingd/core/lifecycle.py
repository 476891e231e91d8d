"""What happens next: to a task after an attempt, and to the run when its last task has ended.

The one function that every scheduler gets wrong is the one that executes a unit of work and decides what follows. Here
the deciding stands alone: values in, a Decision out. The ledger applies it in the same transaction in which it read
the states, so no end of a run is lost when two tasks end at once. Whether the tasks behind it run is `runif`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from landingd.core import backoff
from landingd.model import (
    Backoff,
    Canceled,
    Committed,
    Condition,
    Expanded,
    Failed,
    ForEach,
    Interrupted,
    Outcome,
    Result,
    RunIf,
    RunState,
    Stats,
    Task,
    TaskState,
    TimedOut,
)

CRASHES_MAX = 3
"""A task during which the process died this often in a row is failed: it is likely to be what kills it."""

TASK_TRANSITIONS: dict[tuple[TaskState, str], TaskState] = {
    (TaskState.PENDING, "begin attempt"): TaskState.RUNNING,
    (TaskState.PENDING, "run_if does not hold, or disabled"): TaskState.TERMINATED,
    (TaskState.PENDING, "canceled"): TaskState.TERMINATED,
    (TaskState.RUNNING, "committed"): TaskState.TERMINATED,
    (TaskState.RUNNING, "last iteration ended"): TaskState.TERMINATED,
    (TaskState.RUNNING, "failed, retries left"): TaskState.WAITING_FOR_RETRY,
    (TaskState.RUNNING, "failed for good, timed out or canceled"): TaskState.TERMINATED,
    (TaskState.RUNNING, "interrupted"): TaskState.PENDING,
    (TaskState.RUNNING, "batch split, or a part of it committed"): TaskState.PENDING,
    (TaskState.WAITING_FOR_RETRY, "begin attempt"): TaskState.RUNNING,
    (TaskState.WAITING_FOR_RETRY, "canceled"): TaskState.TERMINATED,
    (TaskState.TERMINATED, "repair"): TaskState.PENDING,
}
"""Every move a task can make. The diagram in daemon/README.md is drawn from this table."""

RUN_TRANSITIONS: dict[tuple[RunState, str], RunState] = {
    (RunState.QUEUED, "dispatch"): RunState.RUNNING,
    (RunState.QUEUED, "no room, in the transaction that accepts its key"): RunState.SKIPPED,
    (RunState.QUEUED, "canceled"): RunState.TERMINATED,
    (RunState.RUNNING, "last task ended"): RunState.TERMINATED,
    (RunState.RUNNING, "canceled, or its timeout is over"): RunState.TERMINATING,
    (RunState.TERMINATING, "last task broken off"): RunState.TERMINATED,
    (RunState.TERMINATED, "repair"): RunState.QUEUED,
}
"""Every move a run can make."""

BAD = frozenset({Result.FAILED, Result.TIMEDOUT, Result.CANCELED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED})
"""Results of a task that did not go well; what was left out counts as well."""

TOGETHER_BYTES_MAX = 8 << 20
"""Up to this much data the commits of a run's tasks would cost more than their statements: they share one."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed attempt is tried again (Databricks: `max_retries`, `min_retry_interval_millis`,
    `retry_on_timeout`).
    """

    max_retries: int = 0
    """-1: without end."""
    min_retry_interval_s: float = 0.0
    """From the start of the failed attempt to the start of the next."""
    on_timeout: bool = False
    backoff: Backoff | None = None
    """Counted from the end of the failed attempt."""


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


def retry_policy(task: Task) -> RetryPolicy:
    """The task's own. A condition is never tried again: it would be as true or false as before."""
    if isinstance(task.action, Condition):
        return RetryPolicy()
    return RetryPolicy(task.max_retries, task.min_retry_interval_s, task.retry_on_timeout, task.backoff)


def after_attempt(
    outcome: Outcome, *, status: TaskStatus, policy: RetryPolicy, started_s: float, now_s: float, seed: str = ""
) -> Decision:
    """Where the task stands after this outcome; `started_s` is when the attempt began.

    `seed` names the attempt: the jitter of its backoff is drawn from it, so that the same attempt waits the same time.
    """
    match outcome:
        case Committed():
            return Decision(TaskState.TERMINATED, Result.SUCCESS)
        case Expanded():
            return Decision(TaskState.RUNNING, failures=status.failures)
        case TimedOut(after_s=after_s):
            error = f"timed out after {after_s:g} s (timeout_seconds)"
            failure = _Failure(error, Result.TIMEDOUT, may_heal=policy.on_timeout)
        case Interrupted(crashed=crashed, why=why):
            if crashed:
                return _after_crash(status)
            # A stop is not the task's fault: it costs neither a retry nor a wait.
            return Decision(TaskState.PENDING, failures=status.failures, error=why)
        case Canceled(why=why):
            return Decision(TaskState.TERMINATED, Result.CANCELED, failures=status.failures, error=why)
        case Failed(error=error, permanent=permanent):
            failure = _Failure(error, Result.FAILED, may_heal=not permanent)
        case _:
            assert_never(outcome)
    return _after_failure(status, policy, failure, started_s=started_s, now_s=now_s, seed=seed)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str
    result: Result
    may_heal: bool
    """Whether trying the same again can help: SQL that does not bind will not bind the next time either."""


def _after_crash(status: TaskStatus) -> Decision:
    crashes = status.crashes + 1
    error = f"the process died during this attempt ({crashes} of {CRASHES_MAX})"
    if crashes >= CRASHES_MAX:
        return Decision(TaskState.TERMINATED, Result.FAILED, failures=status.failures, crashes=crashes, error=error)
    return Decision(TaskState.PENDING, failures=status.failures, crashes=crashes, error=error)


def _after_failure(
    status: TaskStatus, policy: RetryPolicy, failure: _Failure, *, started_s: float, now_s: float, seed: str
) -> Decision:
    failures = status.failures + 1
    may_retry = failure.may_heal and (policy.max_retries < 0 or failures <= policy.max_retries)
    if not may_retry:
        return Decision(TaskState.TERMINATED, failure.result, failures=failures, error=failure.error)
    retry_at_s = max(now_s + backoff.pause_s(policy.backoff, failures, seed), started_s + policy.min_retry_interval_s)
    return Decision(TaskState.WAITING_FOR_RETRY, retry_at_s=retry_at_s, failures=failures, error=failure.error)


def of_loop(results: Mapping[str, Result], *, late_s: float | None = None) -> Outcome:
    """What came of a loop whose iterations have all ended so: it went well, if all of them did.

    `late_s`: its time was over after so long, and what had not ended then was broken off.
    """
    bad = [key for key, result in results.items() if result in BAD]
    if not bad:
        return Committed(Stats())
    if late_s is not None:
        return TimedOut(late_s)
    canceled = all(results[key] in {Result.CANCELED, Result.UPSTREAM_CANCELED} for key in bad)
    named = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
    error = f"{len(bad)} of {len(results)} iterations did not succeed: {named}"
    return Canceled(error) if canceled else Failed(error)


def may_commit_together(tasks: Sequence[Task], statuses: Sequence[TaskStatus], *, n_bytes: int) -> bool:
    """Whether a run's tasks may share one transaction.

    Only a small run that has just begun and whose every task is the engine's and depends on the success of others:
    where anything goes wrong nothing of it stays, and each task is tried alone. A task with a timeout is on its own,
    or it would answer for the time of others.
    """
    fresh = all(s.state is TaskState.PENDING and s.failures == s.crashes == 0 for s in statuses)
    whole = {task.task_key for task in tasks} == {s.task_key for s in statuses}
    return fresh and whole and len(tasks) > 1 and n_bytes <= TOGETHER_BYTES_MAX and all(map(_may_share, tasks))


def _may_share(task: Task) -> bool:
    plain = task.action is None and not task.disabled and not task.outcomes
    return plain and task.run_if is RunIf.ALL_SUCCESS and not task.timeout_s


def is_loop(task: Task) -> bool:
    """Whether its end is that of its iterations."""
    return isinstance(task.action, ForEach)


def run_result(statuses: Sequence[TaskStatus], *, strict: bool = False) -> Result:
    """The result of a run whose tasks have all ended; iterations are not among them.

    As in Databricks the tasks that nothing depends on decide: where all of those went well and another task did not, it
    is SUCCESS_WITH_FAILURES. `strict` (ours) calls that FAILED.
    """
    upstreams = {key for s in statuses for key in s.depends_on}
    bad = [s for s in statuses if s.result in BAD]
    if not bad:
        return Result.SUCCESS
    if strict or any(s.task_key not in upstreams for s in bad):
        canceled = all(s.result in {Result.CANCELED, Result.UPSTREAM_CANCELED} for s in bad)
        return Result.CANCELED if canceled else Result.FAILED
    return Result.SUCCESS_WITH_FAILURES
