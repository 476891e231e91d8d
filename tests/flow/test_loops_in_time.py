"""A loop's time may be over at any moment: whatever its iterations do then, it ends once, and nothing of it begins."""

from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bookkeeping import place
from landingd.edge.ledger import Ledger, _connect
from landingd.flow import entries
from landingd.model import (
    Canceled,
    Committed,
    Expanded,
    Failed,
    ForEach,
    Interrupted,
    Job,
    RepairRequest,
    Result,
    RunRequest,
    RunState,
    Stats,
    Task,
    TaskState,
    TriggerType,
)

GOOD = Committed(Stats())
ENDS = [GOOD, GOOD, Failed("x"), Canceled(), Interrupted(crashed=False)]


def job_of(*, concurrency, tries, tries_of_one):
    one = Task("one", place(), sql="SELECT 1", timeout_s=1.0, max_retries=tries_of_one)
    each = Task(
        "each",
        place(),
        action=ForEach("[]", one, concurrency),
        timeout_s=5.0,
        max_retries=tries,
        retry_on_timeout=True,
    )
    return Job("shop", place(), (each, Task("after", place(), ("each",), sql="SELECT 1", timeout_s=1.0)))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_loop_whose_time_is_over_ends_with_what_runs_of_it_and_begins_nothing(data):
    draw = data.draw
    job = job_of(
        concurrency=draw(st.integers(1, 3)), tries=draw(st.integers(0, 1)), tries_of_one=draw(st.integers(0, 1))
    )
    with closing(_connect(Path(":memory:"))) as connection:
        connection.execute("BEGIN")
        ledger = Ledger(connection, keep_notices=False)
        entries.admit(ledger, job, RunRequest(TriggerType.ONE_TIME, "k"), 1000.0)
        (loop,) = entries.next_run(ledger, job, 1000.0).begun
        inputs = tuple(range(draw(st.integers(1, 5))))
        begun = entries.conclude(ledger, job, loop, Expanded(inputs), 1000.0, go_on=True)
        assert begun.late_at_s == 1005.0
        under_way = {key.task_key: key for key in begun.begun}
        for _ in range(draw(st.integers(0, 6))):
            if under_way:
                key = under_way.pop(draw(st.sampled_from(sorted(under_way))))
                follow = entries.conclude(ledger, job, key, draw(st.sampled_from(ENDS)), 1001.0, go_on=True)
                under_way |= {one.task_key: one for one in follow.begun}
        was_open = ledger.task(1, "each").state is TaskState.RUNNING
        follow, _ = entries.time_out_loop(ledger, job, loop, 1005.0, job_of=lambda _: job)
        assert (follow is not None) == was_open
        if follow is None:
            return
        done = {key for key, result in ledger.iteration_results(1, "each").items() if result is Result.SUCCESS}
        ended = [follow]
        for key in list(under_way.values()):
            assert ledger.task(1, "each").state is TaskState.RUNNING
            ended.append(entries.conclude(ledger, job, key, draw(st.sampled_from(ENDS)), 1006.0, go_on=True))
        assert [key.task_key for one in ended for key in one.begun if key.task_key != "after"] == []
        results = ledger.iteration_results(1, "each")
        assert set(results.values()) <= {Result.SUCCESS, Result.FAILED, Result.CANCELED}
        assert done <= {key for key, result in results.items() if result is Result.SUCCESS}
        after(ledger, job, results, ended)


def after(ledger, job, results, ended):
    """What the loop came to, and that it is told in the step that ended it."""
    stands = ledger.task(1, "each")
    if set(results.values()) == {Result.SUCCESS}:
        assert (stands.result, [key.task_key for key in ended[-1].begun]) == (Result.SUCCESS, ["after"])
    elif job.task("each").max_retries:
        assert (stands.state, stands.concurrency) == (TaskState.WAITING_FOR_RETRY, None)
        assert (ended[-1].retry_key, ended[-1].retry_at_s) == ("each", stands.retry_at_s)
    else:
        assert (stands.result, stands.error) == (Result.TIMEDOUT, "timed out after 5 s (timeout_seconds)")
        assert ledger.run(1).state is RunState.TERMINATED


def test_a_loop_that_ends_as_soon_as_it_is_worked_out_says_when_it_is_tried_again():
    """A repair named an iteration that its inputs ask for no more, and another one had failed."""
    job = job_of(concurrency=2, tries=1, tries_of_one=0)
    with closing(_connect(Path(":memory:"))) as connection:
        connection.execute("BEGIN")
        ledger = Ledger(connection, keep_notices=False)
        entries.admit(ledger, job, RunRequest(TriggerType.ONE_TIME, "k"), 1000.0)
        (loop,) = entries.next_run(ledger, job, 1000.0).begun
        for _ in range(2):  # the loop itself is tried twice
            begun = entries.conclude(ledger, job, loop, Expanded((1, 2)), 1000.0, go_on=True).begun
            ended = [entries.conclude(ledger, job, key, Failed("x"), 1001.0, go_on=True) for key in begun]
            if ended[-1].retry_key is not None and ended[-1].retry_at_s is not None:
                loop = ledger.begin_attempt(1, "each", now_s=1002.0)
        assert ledger.run(1).result is Result.FAILED
        entries.repair(ledger, 1, lambda _: job, 1003.0, RepairRequest(("each[1]",)))
        (loop,) = entries.next_run(ledger, job, 1003.0).begun
        follow = entries.conclude(ledger, job, loop, Expanded((1,)), 1004.0, go_on=True)
        assert ledger.task(1, "each").state is TaskState.WAITING_FOR_RETRY
        assert (follow.retry_key, follow.retry_at_s) == ("each", 1004.0)
