"""Record how an attempt ended, and everything that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from landingd.core import lifecycle
from landingd.edge.ledger import Ledger, RunRow, TaskRow
from landingd.flow import alerting, arriving, telling
from landingd.flow.entries import finishing, following, parts
from landingd.flow.outcomes import outcome_word
from landingd.model import (
    AttemptKey,
    Canceled,
    Committed,
    Expanded,
    ForEach,
    Job,
    Outcome,
    Result,
    RunState,
    TaskState,
    iteration_key,
)


@dataclass(frozen=True, slots=True)
class Concluded:
    """What an attempt's end led to."""

    begun: tuple[AttemptKey, ...] = ()
    retry_at_s: float | None = None
    run_result: Result | None = None
    retry_key: str | None = None
    """What is tried again then: the task itself, or the loop whose last iteration it was."""
    late_at_s: float | None = None
    """Of a loop whose iterations have begun: when its time is over."""


def conclude(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, now_s: float, *, go_on: bool
) -> Concluded:
    """Record how an attempt ended, and everything that follows from it."""
    mine, run = ledger.task(key.run_id, key.task_key), ledger.run(key.run_id)
    if run is None or mine is None or mine.state is not TaskState.RUNNING or mine.attempts != key.attempt:
        return Concluded()  # concluded before: the same verdict is not applied twice
    over = run.state is RunState.TERMINATING
    if over and not isinstance(outcome, Committed):
        outcome = Canceled(run.error or "canceled")
    elif mine.parent is not None and not isinstance(outcome, Committed) and ledger.is_late(key.run_id, mine.parent):
        outcome = Canceled(following.LOOP_IS_LATE)
    decision = _decide(ledger, job, key, outcome, task=mine, now_s=now_s)
    _record_attempt(ledger, key, outcome, decision, job=job, now_s=now_s)
    if isinstance(outcome, Committed) and parts.remaining(ledger, job, key) and not over:
        decision = lifecycle.Decision(TaskState.PENDING, again=True)
    _record_task(ledger, run, outcome, decision, task=mine, now_s=now_s)
    alerting.task_ended(ledger, job, key, decision, now_s)
    ready = _following(ledger, job, run, mine, outcome=outcome, decision=decision, now_s=now_s)
    begun = following.begin(ledger, job, key.run_id, ready, now_s) if go_on and not over else ()
    result = None if begun else finishing.end_if_over(ledger, job, key.run_id, now_s)
    if decision.state is TaskState.RUNNING:
        again_s, late_s = ledger.retry_at_s(key.run_id, key.task_key), following.late_at_s(job, mine)
        return Concluded(begun, again_s, result, key.task_key, late_s)
    if mine.parent is not None and decision.state is TaskState.TERMINATED:
        return Concluded(begun, ledger.retry_at_s(key.run_id, mine.parent), result, mine.parent)
    return Concluded(begun, decision.retry_at_s, result, key.task_key)


def _following(
    ledger: Ledger,
    job: Job | None,
    run: RunRow,
    task: TaskRow,
    *,
    outcome: Outcome,
    decision: lifecycle.Decision,
    now_s: float,
) -> list[str]:
    """Which tasks may begin now that this one stands as decided."""
    over = run.state is RunState.TERMINATING
    if isinstance(outcome, Expanded) and not over:
        return _expand(ledger, job, run.run_id, task, inputs=outcome.inputs, now_s=now_s)
    if decision.state is TaskState.TERMINATED:
        return following.after_end(ledger, job, run.run_id, task, now_s, over=over)
    return [task.task_key] if decision.again else []


def _expand(
    ledger: Ledger, job: Job | None, run_id: int, task: TaskRow, *, inputs: Sequence[Any], now_s: float
) -> list[str]:
    """The iterations of a loop begin; without any it has ended."""
    definition = parts.task_of(job, task.task_key)
    loop = definition.action if definition else None
    by_key = {iteration_key(task.task_key, n): value for n, value in enumerate(inputs)}
    concurrency = loop.concurrency if isinstance(loop, ForEach) else 1
    ledger.add_iterations(run_id, task.task_key, by_key, concurrency=concurrency)
    if ledger.has_open_iterations(run_id, task.task_key):
        return ledger.next_iterations(run_id, task.task_key)
    return following.end_loop(ledger, job, run_id, task.task_key, now_s, over=False)


def _decide(
    ledger: Ledger, job: Job | None, key: AttemptKey, outcome: Outcome, *, task: TaskRow, now_s: float
) -> lifecycle.Decision:
    """Where the task stands now. What a file may be to blame for is not held against the task."""
    return parts.isolated(ledger, job, key, outcome, task=task, now_s=now_s) or lifecycle.after_attempt(
        outcome,
        status=finishing.status(task),
        policy=parts.policy(job, key.task_key),
        started_s=task.started_at_s or now_s,
        now_s=now_s,
        seed=f"{key.run_id}/{key.task_key}",
    )


def _record_attempt(
    ledger: Ledger,
    key: AttemptKey,
    outcome: Outcome,
    decision: lifecycle.Decision,
    *,
    job: Job | None,
    now_s: float,
) -> None:
    if isinstance(outcome, Expanded):
        return  # it ends with its iterations
    stats = outcome.stats if isinstance(outcome, Committed) else None
    ledger.end_attempt(key, outcome_word(outcome), stats=stats, error=decision.error, now_s=now_s)
    if stats is not None:
        arriving.record(ledger, key, stats, now_s)
        ledger.count_expectations(key, stats.expectations)
        task = parts.task_of(job, key.task_key)
        if task is not None and task.table is not None and stats.changed:
            ledger.bump_table(task.table, run_id=key.run_id, task_key=key.task_key, now_s=now_s)


def _record_task(
    ledger: Ledger, run: RunRow, outcome: Outcome, decision: lifecycle.Decision, *, task: TaskRow, now_s: float
) -> None:
    key = AttemptKey(run.run_id, task.task_key, task.attempts)
    stats = outcome.stats if isinstance(outcome, Committed) else None
    ledger.set_task(
        key.run_id,
        key.task_key,
        decision.state,
        result=decision.result,
        error=decision.error,
        failures=decision.failures,
        crashes=decision.crashes,
        retry_at_s=decision.retry_at_s,
        now_s=now_s,
        output=stats.output if stats else None,
    )
    if decision.state not in {TaskState.PENDING, TaskState.RUNNING}:
        telling.tell_task(ledger, key, decision, stats=stats, started_s=task.started_at_s, now_s=now_s, run=run)
