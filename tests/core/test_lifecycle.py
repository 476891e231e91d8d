from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landingd.core import lifecycle
from landingd.core.lifecycle import CRASHES_MAX, Decision, RetryPolicy, TaskStatus, after_attempt, conclude
from landingd.model import Committed, Failed, Interrupted, Place, Result, Stats, Task, TaskState, TimedOut

NO_RETRIES = RetryPolicy(max_retries=0, min_retry_interval_s=0.0)
COMMITTED = Committed(Stats())
RUNNING = TaskStatus("t", (), TaskState.RUNNING)


def after(outcome, *, failures=0, crashes=0, policy=NO_RETRIES, started_s=100.0, now_s=101.0):
    status = replace(RUNNING, failures=failures, crashes=crashes)
    return after_attempt(outcome, status=status, policy=policy, started_s=started_s, now_s=now_s)


# --- one attempt ------------------------------------------------------------------------------------------


def test_a_commit_is_a_success_whatever_went_before():
    assert after(COMMITTED, failures=7, crashes=2) == Decision(TaskState.TERMINATED, Result.SUCCESS)


@pytest.mark.parametrize(
    ("failures", "max_retries", "permanent", "expected"),
    [
        (0, 0, False, TaskState.TERMINATED),
        (0, 1, False, TaskState.WAITING_FOR_RETRY),
        (1, 1, False, TaskState.TERMINATED),
        (1, 2, False, TaskState.WAITING_FOR_RETRY),
        (10_000, -1, False, TaskState.WAITING_FOR_RETRY),
        (0, 5, True, TaskState.TERMINATED),
        (0, -1, True, TaskState.TERMINATED),
    ],
)
def test_a_failure_is_tried_again_while_retries_are_left_and_it_can_help(failures, max_retries, permanent, expected):
    decision = after(Failed("disk full", permanent=permanent), failures=failures, policy=RetryPolicy(max_retries, 0.0))
    assert decision.state is expected
    assert decision.failures == failures + 1
    assert decision.error == "disk full"
    assert decision.result is (Result.FAILED if expected is TaskState.TERMINATED else None)


@pytest.mark.parametrize(
    ("now_s", "retry_at_s"),
    [(101.0, 130.0), (129.0, 130.0), (500.0, 500.0)],
    ids=["at once", "just before it is over", "long after it is over"],
)
def test_the_retry_interval_counts_from_the_attempts_start_and_never_lies_in_the_past(now_s, retry_at_s):
    decision = after(Failed("x"), policy=RetryPolicy(1, 30.0), started_s=100.0, now_s=now_s)
    assert decision.retry_at_s == retry_at_s


def test_a_timeout_is_not_tried_again_and_says_how_long_it_had():
    decision = after(TimedOut(after_s=60.0), policy=RetryPolicy(-1, 0.0))
    assert (decision.state, decision.result) == (TaskState.TERMINATED, Result.TIMEDOUT)
    assert "60 s" in decision.error


def test_a_stop_costs_neither_a_retry_nor_a_wait():
    decision = after(Interrupted(crashed=False), failures=2, policy=RetryPolicy(2, 30.0))
    assert (decision.state, decision.failures, decision.retry_at_s) == (TaskState.PENDING, 2, None)


def test_a_task_during_which_the_process_dies_again_and_again_is_failed():
    crashes, states = 0, []
    for _ in range(CRASHES_MAX):
        decision = after(Interrupted(crashed=True), failures=1, crashes=crashes)
        crashes = decision.crashes
        states.append(decision.state)
    assert states == [TaskState.PENDING] * (CRASHES_MAX - 1) + [TaskState.TERMINATED]
    assert (decision.result, decision.failures) == (Result.FAILED, 1)


@pytest.mark.parametrize("outcome", [Failed("x"), Interrupted(crashed=False)])
def test_crashes_are_counted_in_a_row(outcome):
    assert after(outcome, crashes=CRASHES_MAX - 1, policy=RetryPolicy(1, 0.0)).crashes == 0


def test_a_tasks_policy_is_its_own():
    task = Task("t", Place("job.yml", 1), max_retries=3, min_retry_interval_s=1.5)
    assert lifecycle.retry_policy(task) == RetryPolicy(3, 1.5)


# --- a whole run ------------------------------------------------------------------------------------------

OUTCOMES = [
    COMMITTED,
    Failed("x"),
    Failed("x", permanent=True),
    TimedOut(1.0),
    Interrupted(crashed=False),
    Interrupted(crashed=True),
]


@st.composite
def dags(draw):
    """Tasks in any order, each with some of those numbered lower above it."""
    count = draw(st.integers(1, 7))
    tasks = [
        TaskStatus(f"t{n}", tuple(f"t{m}" for m in range(n) if draw(st.booleans())), TaskState.PENDING)
        for n in range(count)
    ]
    return draw(st.permutations(tasks))


class Run:
    """A run as the ledger would keep it; every change has to be a move of the table."""

    def __init__(self, tasks):
        self.tasks = {task.task_key: task for task in tasks}
        self.results = []

    @property
    def statuses(self):
        return list(self.tasks.values())

    def keys(self, *states):
        return [task.task_key for task in self.statuses if task.state in states]

    def move(self, key, event, to, **changes):
        assert lifecycle.TASK_TRANSITIONS[self.tasks[key].state, event] is to
        self.tasks[key] = replace(self.tasks[key], state=to, **changes)

    def begin(self, keys):
        for key in keys:
            self.move(key, "begin attempt", TaskState.RUNNING)

    def end_attempt(self, key, outcome, policy):
        decision = after_attempt(outcome, status=self.tasks[key], policy=policy, started_s=0.0, now_s=1.0)
        verdict = conclude(self.statuses, key, decision)
        self.move(
            key,
            event_of(outcome, decision),
            decision.state,
            result=decision.result,
            failures=decision.failures,
            crashes=decision.crashes,
        )
        for skipped in verdict.skipped:
            self.move(skipped, "upstream failed", TaskState.TERMINATED, result=Result.UPSTREAM_FAILED)
        self.begin(verdict.ready)
        if verdict.run_result is not None:
            self.results.append(verdict.run_result)

    def above(self, key):
        direct = self.tasks[key].depends_on
        return set(direct).union(*(self.above(upstream) for upstream in direct))


def event_of(outcome, decision):
    match decision.state:
        case TaskState.WAITING_FOR_RETRY:
            return "failed, retries left"
        case TaskState.PENDING:
            return "interrupted"
        case TaskState.TERMINATED if isinstance(outcome, Committed):
            return "committed"
        case TaskState.TERMINATED:
            return "failed for good or timed out"


def carried_out(tasks, data):
    """The run after outcomes in an order that `data` picks, with a fresh start whenever nothing is under way."""
    run = Run(tasks)
    run.begin(lifecycle.ready(run.statuses))
    policies = {key: RetryPolicy(data.draw(st.integers(-1, 2)), 0.0) for key in run.tasks}
    for step in range(200):
        assert run.results == ([] if run.keys(*set(TaskState) - {TaskState.TERMINATED}) else run.results[:1])
        busy = run.keys(TaskState.RUNNING, TaskState.WAITING_FOR_RETRY)
        if not busy:
            ready = lifecycle.ready(run.statuses)
            if not ready:
                return run
            run.begin(ready)
            continue
        key = data.draw(st.sampled_from(busy))
        if run.tasks[key].state is TaskState.WAITING_FOR_RETRY:
            run.begin([key])
        outcome = data.draw(st.sampled_from(OUTCOMES)) if step < 30 else COMMITTED
        run.end_attempt(key, outcome, policies[key])
    raise AssertionError("the run goes on for ever")


@given(dags(), st.data())
@settings(max_examples=80)
def test_whatever_the_order_of_outcomes_a_run_ends_once_and_skips_what_is_below_a_failure_and_nothing_else(tasks, data):
    run = carried_out(tasks, data)
    assert len(run.results) == 1
    assert run.keys(TaskState.TERMINATED) == list(run.tasks)
    for key, task in run.tasks.items():
        lost = any(run.tasks[upstream].result is not Result.SUCCESS for upstream in run.above(key))
        assert (task.result is Result.UPSTREAM_FAILED) == lost
    all_good = all(task.result is Result.SUCCESS for task in run.statuses)
    assert run.results == [Result.SUCCESS if all_good else Result.FAILED] == [lifecycle.run_result(run.statuses)]


@given(dags(), st.data())
@settings(max_examples=40)
def test_no_task_begins_before_every_task_above_it_has_succeeded(tasks, data):
    states = [TaskState.PENDING, TaskState.TERMINATED]
    statuses = [
        replace(t, state=data.draw(st.sampled_from(states)), result=data.draw(st.sampled_from([Result.SUCCESS, None])))
        for t in tasks
    ]
    done = {s.task_key for s in statuses if (s.state, s.result) == (TaskState.TERMINATED, Result.SUCCESS)}
    expected = {s.task_key for s in statuses if s.state is TaskState.PENDING and done.issuperset(s.depends_on)}
    assert set(lifecycle.ready(statuses)) == expected


@given(st.permutations(range(5)))
def test_a_failure_is_carried_down_a_whole_chain_in_whatever_order_its_tasks_are_listed(order):
    chain = [TaskStatus(f"t{n}", (f"t{n - 1}",) if n else (), TaskState.PENDING) for n in range(5)]
    chain[0] = replace(chain[0], state=TaskState.RUNNING)
    verdict = conclude([chain[n] for n in order], "t0", after(Failed("x")))
    assert set(verdict.skipped) == {"t1", "t2", "t3", "t4"}
    assert verdict.run_result is Result.FAILED


def test_an_interrupted_task_is_not_begun_by_its_own_verdict():
    verdict = conclude([RUNNING], "t", after(Interrupted(crashed=False)))
    assert (verdict.ready, verdict.run_result) == ((), None)


def test_a_run_in_which_only_a_task_with_others_below_it_failed_is_a_success_with_failures():
    statuses = [
        TaskStatus("above", (), TaskState.TERMINATED, Result.FAILED),
        TaskStatus("below", ("above",), TaskState.TERMINATED, Result.SUCCESS),
    ]
    assert lifecycle.run_result(statuses) is Result.SUCCESS_WITH_FAILURES


def test_every_state_can_be_left_and_every_state_can_be_entered():
    assert {state for state, _ in lifecycle.TASK_TRANSITIONS} == set(TaskState)
    assert set(lifecycle.TASK_TRANSITIONS.values()) == set(TaskState)
