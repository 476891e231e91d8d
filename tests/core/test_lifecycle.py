from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import lifecycle
from landingd.core.backoff import pause_s as pause_s_of
from landingd.core.lifecycle import CRASHES_MAX, Decision, RetryPolicy, TaskStatus, after_attempt
from landingd.model import (
    Backoff,
    Canceled,
    Committed,
    Condition,
    ConditionOp,
    Expanded,
    Failed,
    Interrupted,
    Place,
    Result,
    RunIf,
    RunState,
    Stats,
    Task,
    TaskState,
    TimedOut,
)

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


def test_a_timeout_is_tried_again_where_retry_on_timeout_says_so():
    decision = after(TimedOut(after_s=60.0), policy=RetryPolicy(1, 0.0, on_timeout=True))
    assert (decision.state, decision.failures) == (TaskState.WAITING_FOR_RETRY, 1)
    last = after(TimedOut(after_s=60.0), failures=1, policy=RetryPolicy(1, 0.0, on_timeout=True))
    assert (last.state, last.result) == (TaskState.TERMINATED, Result.TIMEDOUT)


def test_what_is_broken_off_with_its_run_is_canceled_and_not_tried_again():
    decision = after(Canceled("by hand"), policy=RetryPolicy(-1, 0.0))
    assert (decision.state, decision.result, decision.error) == (TaskState.TERMINATED, Result.CANCELED, "by hand")


def test_a_loop_goes_on_with_its_iterations():
    assert after(Expanded((1, 2))).state is TaskState.RUNNING


def test_a_condition_is_never_tried_again():
    condition = Condition(ConditionOp.EQUAL_TO, "a", "b")
    assert lifecycle.retry_policy(Task("t", Place("job.yml", 1), action=condition, max_retries=5)) == RetryPolicy()


# --- backoff ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 2.0), (2, 6.0), (3, 18.0), (4, 50.0), (1000, 50.0)])
def test_pauses_grow_by_the_factor_up_to_the_longest(failures, pause_s):
    backoff = Backoff(initial_s=2.0, factor=3.0, max_s=50.0, jitter=0.0)
    assert pause_s_of(backoff, failures, "x") == pytest.approx(pause_s)


@given(
    st.builds(
        Backoff,
        initial_s=st.floats(0.001, 1e6),
        factor=st.floats(1.0, 1e6),
        max_s=st.floats(0.001, 1e9),
        jitter=st.floats(0.0, 1.0),
    ),
    st.integers(1, 10**9),
    st.text(max_size=5),
)
def test_a_pause_is_never_longer_than_the_longest_and_its_jitter_and_the_same_for_the_same_attempt(b, failures, seed):
    pause_s = pause_s_of(b, failures, seed)
    assert 0 < pause_s <= b.max_s * (1 + b.jitter) * (1 + 1e-9)
    assert pause_s == pause_s_of(b, failures, seed)


def test_jitter_differs_from_attempt_to_attempt():
    backoff = Backoff(initial_s=1.0, factor=1.0, jitter=0.5)
    pauses = [pause_s_of(backoff, 1, f"run {n}") for n in range(100)]
    assert len(set(pauses)) > 90
    assert 1.0 <= min(pauses) < 1.1
    assert 1.4 < max(pauses) <= 1.5


def test_a_backoff_counts_from_the_end_of_the_attempt_and_the_interval_from_its_start():
    policy = RetryPolicy(5, 30.0, backoff=Backoff(initial_s=10.0, factor=2.0, jitter=0.0))
    assert after(Failed("x"), policy=policy, started_s=100.0, now_s=101.0).retry_at_s == 130.0
    assert after(Failed("x"), failures=2, policy=policy, started_s=100.0, now_s=101.0).retry_at_s == 141.0


# --- the run ----------------------------------------------------------------------------------------------


def ended(**results):
    """A run of these tasks, in a chain."""
    keys = list(results)
    above = [()] + [(key,) for key in keys[:-1]]
    return [
        TaskStatus(key, upstream, TaskState.TERMINATED, results[key]) for key, upstream in zip(keys, above, strict=True)
    ]


@pytest.mark.parametrize(
    ("results", "expected", "strict"),
    [
        ({"a": Result.SUCCESS, "b": Result.SUCCESS}, Result.SUCCESS, Result.SUCCESS),
        ({"a": Result.SUCCESS, "b": Result.EXCLUDED}, Result.SUCCESS, Result.SUCCESS),
        ({"a": Result.SUCCESS, "b": Result.DISABLED}, Result.SUCCESS, Result.SUCCESS),
        ({"a": Result.FAILED, "b": Result.SUCCESS}, Result.SUCCESS_WITH_FAILURES, Result.FAILED),
        ({"a": Result.FAILED, "b": Result.EXCLUDED}, Result.SUCCESS_WITH_FAILURES, Result.FAILED),
        ({"a": Result.SUCCESS, "b": Result.FAILED}, Result.FAILED, Result.FAILED),
        ({"a": Result.FAILED, "b": Result.UPSTREAM_FAILED}, Result.FAILED, Result.FAILED),
        ({"a": Result.SUCCESS, "b": Result.TIMEDOUT}, Result.FAILED, Result.FAILED),
        ({"a": Result.CANCELED, "b": Result.UPSTREAM_CANCELED}, Result.CANCELED, Result.CANCELED),
        ({"a": Result.FAILED, "b": Result.CANCELED}, Result.FAILED, Result.FAILED),
    ],
)
def test_the_leaves_decide_unless_the_job_is_strict(results, expected, strict):
    assert lifecycle.run_result(ended(**results)) is expected
    assert lifecycle.run_result(ended(**results), strict=True) is strict


def test_a_loop_is_well_when_every_iteration_is_and_says_which_are_not():
    assert lifecycle.of_loop({}) == Committed(Stats())
    assert lifecycle.of_loop({"l[0]": Result.SUCCESS, "l[1]": Result.EXCLUDED}) == Committed(Stats())
    failed = lifecycle.of_loop({f"l[{n}]": Result.FAILED if n % 2 else Result.SUCCESS for n in range(20)})
    assert failed == Failed("10 of 20 iterations did not succeed: l[1], l[3], l[5], l[7], l[9], ...")
    canceled = lifecycle.of_loop({"l[0]": Result.CANCELED})
    assert canceled == Canceled("1 of 1 iterations did not succeed: l[0]")


def test_a_loop_whose_time_is_over_timed_out_unless_all_of_it_was_done_by_then():
    assert lifecycle.of_loop({"l[0]": Result.SUCCESS, "l[1]": Result.CANCELED}, late_s=5.0) == TimedOut(5.0)
    assert lifecycle.of_loop({"l[0]": Result.FAILED, "l[1]": Result.SUCCESS}, late_s=5.0) == TimedOut(5.0)
    assert lifecycle.of_loop({"l[0]": Result.SUCCESS}, late_s=5.0) == Committed(Stats())


@pytest.mark.parametrize(
    "change",
    [
        {"timeout_s": 1.0},
        {"disabled": True},
        {"run_if": RunIf.ALL_DONE},
        {"outcomes": {"a": "true"}},
        {"action": Condition(ConditionOp.EQUAL_TO, "a", "b")},
    ],
)
def test_only_tasks_that_simply_follow_each_other_share_a_transaction(change):
    tasks = [Task("a", Place("job.yml", 1), sql="SELECT 1"), Task("b", Place("job.yml", 2), ("a",), sql="SELECT 1")]
    statuses = [TaskStatus(t.task_key, t.depends_on, TaskState.PENDING) for t in tasks]
    assert lifecycle.may_commit_together(tasks, statuses, n_bytes=1)
    assert not lifecycle.may_commit_together(tasks, statuses, n_bytes=lifecycle.TOGETHER_BYTES_MAX + 1)
    assert not lifecycle.may_commit_together([tasks[0], replace(tasks[1], **change)], statuses, n_bytes=1)


def test_every_state_can_be_left_and_every_state_can_be_entered():
    assert {state for state, _ in lifecycle.TASK_TRANSITIONS} == set(TaskState)
    assert set(lifecycle.TASK_TRANSITIONS.values()) == set(TaskState)
    assert {*(s for s, _ in lifecycle.RUN_TRANSITIONS), *lifecycle.RUN_TRANSITIONS.values()} == set(RunState)
