"""What follows from what, on a real ledger: random DAGs, in whatever order their attempts end."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landingd.core import lifecycle, runif
from landingd.edge.ledger import Ledger, _connect
from landingd.errors import RefusedError
from landingd.flow import contexts, entries
from landingd.model import (
    Canceled,
    Committed,
    Condition,
    ConditionOp,
    Expanded,
    Failed,
    ForEach,
    Interrupted,
    Job,
    Output,
    Place,
    Queue,
    RepairRequest,
    Result,
    RunIf,
    RunRequest,
    RunState,
    Stats,
    Task,
    TaskState,
    TimedOut,
    TriggerType,
)

HERE = Place("job.yml", 1)
GOOD = Committed(Stats())


@contextmanager
def a_ledger():
    """A real ledger in memory; each test call is one transaction."""
    connection = _connect(Path(":memory:"))
    connection.execute("BEGIN")
    try:
        yield Ledger(connection, keep_notices=True)
    finally:
        connection.close()


def script(key, *above, **more):
    # With a timeout a task is tried alone, and not with the whole run in one transaction.
    return Task(key, HERE, above, sql="SELECT 1", timeout_s=1.0, **more)


def loop(key, *above, concurrency=1):
    return Task(key, HERE, above, action=ForEach("[]", script("each"), concurrency))


def job_of(*tasks, **more):
    return Job("shop", HERE, tasks, **more)


class Run:
    """A run that is carried out as a test says."""

    def __init__(self, ledger, job, **request):
        self.ledger, self.job, self.now_s = ledger, job, 1000.0
        key = request.pop("key", "k")
        asked = RunRequest(TriggerType.ONE_TIME, key, **request)
        self.run_id = entries.admit(ledger, job, asked, self.now_s).run_id
        self.under_way = {}

    def start(self):
        started = entries.next_run(self.ledger, self.job, self.now_s)
        assert started.run.run_id == self.run_id
        self.take(started.begun)
        return self

    def take(self, keys):
        for key in keys:
            assert key.task_key not in self.under_way, "a task runs twice at a time"
            self.under_way[key.task_key] = key

    def end(self, task_key, outcome=GOOD):
        self.now_s += 1
        concluded = entries.conclude(
            self.ledger, self.job, self.under_way.pop(task_key), outcome, self.now_s, go_on=True
        )
        self.take(concluded.begun)
        if concluded.retry_at_s is not None:
            self.now_s = max(self.now_s, concluded.retry_at_s)
            self.take([self.ledger.begin_attempt(self.run_id, task_key, now_s=self.now_s)])
        return concluded

    def repair(self, **request):
        entries.repair(self.ledger, self.run_id, lambda _: self.job, self.now_s, RepairRequest(**request))
        return self.start()

    @property
    def state(self):
        return self.ledger.run(self.run_id).state

    @property
    def result(self):
        return self.ledger.run(self.run_id).result

    @property
    def results(self):
        return {task.task_key: task.result for task in self.ledger.tasks(self.run_id)}


# --- random DAGs ------------------------------------------------------------------------------------------


@st.composite
def dags(draw):
    """Tasks in any order; each has some of those numbered lower above it."""
    tasks = []
    ends = {}
    for n in range(draw(st.integers(1, 7))):
        key = f"t{n}"
        above = [f"t{m}" for m in range(n) if draw(st.booleans())]
        kind = draw(st.sampled_from(["script", "script", "condition", "loop"]))
        wanted = {a: draw(st.sampled_from(["true", "false"])) for a in above if ends[a][0] == "condition"}
        outcomes = {a: w for a, w in wanted.items() if draw(st.booleans())}
        action = None
        if kind == "condition":
            action, end = Condition(ConditionOp.EQUAL_TO, "a", "b"), draw(st.sampled_from(["true", "false", "failed"]))
        elif kind == "loop":
            action = ForEach("[]", script("each"), draw(st.integers(1, 3)))
            end = draw(st.lists(st.sampled_from(["good", "failed"]), max_size=4))
        else:
            end = draw(st.sampled_from(["good", "good", "failed", "timed out", "canceled"]))
        ends[key] = (kind, end)
        tasks.append(
            Task(
                key,
                HERE,
                tuple(above),
                outcomes=outcomes,
                run_if=draw(st.sampled_from(RunIf)),
                disabled=draw(st.integers(0, 9)) == 0,
                sql=None if action else "SELECT 1",
                timeout_s=1.0,
                action=action,
            )
        )
    return job_of(*draw(st.permutations(tasks)), strict=draw(st.booleans())), ends


def outcome_of(end):
    match end:
        case "true" | "false":
            return Committed(Stats(output=Output(condition=end)))
        case "good":
            return GOOD
        case "failed":
            return Failed("x")
        case "timed out":
            return TimedOut(1.0)
        case "canceled":
            return Canceled("the run of its job was canceled")
    return Expanded(tuple(range(len(end))))


def expected(job, ends):
    """The same by another way: from the top down, each task once."""
    results = {}
    while len(results) < len(job.tasks):
        for task in job.tasks:
            if task.task_key not in results and all(a in results for a in task.depends_on):
                seen = [
                    runif.Upstream(
                        results[a],
                        task.outcomes.get(a),
                        ends[a][1] if ends[a][0] == "condition" and ends[a][1] != "failed" else None,
                    )
                    for a in task.depends_on
                ]
                left_out = runif.leaves_out(task.run_if, seen, disabled=task.disabled)
                results[task.task_key] = left_out or result_of(ends[task.task_key][1])
    return results


def result_of(end):
    if isinstance(end, list):
        return Result.FAILED if "failed" in end else Result.SUCCESS
    assert isinstance(end, str)
    return {"failed": Result.FAILED, "timed out": Result.TIMEDOUT, "canceled": Result.CANCELED}.get(end, Result.SUCCESS)


def carry_out(run, ends, data, steps=500):
    """End what is under way in an order that `data` picks, with stops of the daemon in between."""
    for _ in range(steps):
        if not run.under_way:
            return
        key = data.draw(st.sampled_from(sorted(run.under_way)))
        if data.draw(st.integers(0, 7)) == 0:
            attempt = run.under_way.pop(key)
            entries.conclude(run.ledger, run.job, attempt, Interrupted(crashed=False), run.now_s, go_on=False)
            run.take(entries.begin_ready(run.ledger, run.job, run.run_id, run.now_s))
            continue
        loop_key, _, number = key.partition("[")
        end = ends[loop_key][1]
        run.end(key, outcome_of(end[int(number[:-1])]) if number else outcome_of(end))
    raise AssertionError("the run goes on for ever")


@given(dags(), st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_the_order_every_task_ends_once_as_its_definition_says_and_the_run_with_the_last(dag, data):
    job, ends = dag
    with a_ledger() as ledger:
        run = Run(ledger, job).start()
        carry_out(run, ends, data)
        assert run.results == expected(job, ends)
        statuses = [lifecycle.TaskStatus(t.task_key, t.depends_on, t.state, t.result) for t in ledger.tasks(run.run_id)]
        assert (run.state, run.result) == (RunState.TERMINATED, lifecycle.run_result(statuses, strict=job.strict))
        assert ledger.ended.count(run.run_id) == 1


@given(dags(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_cancel_at_any_moment_ends_the_run_once_what_runs_is_broken_off_and_begins_nothing_more(dag, data):
    job, ends = dag
    with a_ledger() as ledger:
        run = Run(ledger, job)
        if data.draw(st.booleans()):
            run.start()
            for _ in range(data.draw(st.integers(0, 6))):
                if run.under_way:
                    carry_out_one(run, ends, data)
        if run.state is RunState.TERMINATED:
            with pytest.raises(RefusedError):
                entries.cancel(ledger, job, run.run_id, run.now_s, why="by hand")
            return
        running = entries.cancel(ledger, job, run.run_id, run.now_s, why="by hand")
        assert running == bool(run.under_way)
        for key in sorted(run.under_way):
            assert run.state is RunState.TERMINATING
            assert run.end(key, Failed("interrupted")).begun == ()
        assert (run.state, run.result) == (RunState.TERMINATED, Result.CANCELED)
        assert ledger.run(run.run_id).error == "by hand"
        assert not ledger.has_open_tasks(run.run_id)


def carry_out_one(run, ends, data):
    key = data.draw(st.sampled_from(sorted(run.under_way)))
    loop_key, _, number = key.partition("[")
    end = ends[loop_key][1]
    run.end(key, outcome_of(end[int(number[:-1])]) if number else outcome_of(end))


@given(dags(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_repair_in_which_all_goes_well_leaves_nothing_failed_and_runs_nothing_that_had_gone_well_above(dag, data):
    job, ends = dag
    with a_ledger() as ledger:
        run = Run(ledger, job).start()
        carry_out(run, ends, data)
        before = {t.task_key: (t.result, t.attempts) for t in ledger.tasks(run.run_id)}
        if not any(result in lifecycle.BAD for result, _ in before.values()):
            with pytest.raises(RefusedError, match="nothing to repair"):
                run.repair()
            return
        well = {
            key: (kind, ["good"] * len(end) if isinstance(end, list) else "good" if kind == "script" else end)
            for key, (kind, end) in ends.items()
        }
        well = {key: (kind, "true" if end == "failed" else end) for key, (kind, end) in well.items()}
        run.repair()
        carry_out(run, well, data)
        assert run.state is RunState.TERMINATED
        for task in ledger.tasks(run.run_id):
            assert task.result is not Result.FAILED
            bad_above = before[task.task_key][0] in lifecycle.BAD | {Result.EXCLUDED}
            if not bad_above and not any(before[a][0] in lifecycle.BAD | {Result.EXCLUDED} for a in above(job, task)):
                assert (task.result, task.attempts) == before[task.task_key]


def above(job, task):
    found = set()
    open_ = list(task.depends_on)
    while open_:
        key = open_.pop()
        found.add(key)
        open_.extend(job.task(key).depends_on)
    return found


# --- loops ------------------------------------------------------------------------------------------------


def test_a_loop_runs_as_many_iterations_at_a_time_as_its_concurrency_says():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(loop("l", concurrency=2), script("after", "l"))).start()
        run.end("l", Expanded((10, 20, 30)))
        assert sorted(run.under_way) == ["l[0]", "l[1]"]
        run.end("l[1]")
        assert sorted(run.under_way) == ["l[0]", "l[2]"]
        run.end("l[0]")
        run.end("l[2]")
        assert sorted(run.under_way) == ["after"]
        run.end("after")
        assert run.result is Result.SUCCESS


def test_a_repair_of_a_loop_runs_only_the_iterations_that_failed():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(loop("l", concurrency=3), script("after", "l"))).start()
        run.end("l", Expanded((1, 2, 3)))
        for n, outcome in enumerate((GOOD, Failed("bad"), GOOD)):
            run.end(f"l[{n}]", outcome)
        assert run.results == {"l": Result.FAILED, "after": Result.UPSTREAM_FAILED}
        run.repair()
        run.end("l", Expanded((1, 2, 3)))
        assert sorted(run.under_way) == ["l[1]"]
        run.end("l[1]")
        run.end("after")
        assert run.result is Result.SUCCESS


def test_an_iteration_has_retries_of_its_own():
    each = script("each", max_retries=1)
    job = job_of(Task("l", HERE, action=ForEach("[]", each, 1)))
    with a_ledger() as ledger:
        run = Run(ledger, job).start()
        run.end("l", Expanded(("a",)))
        run.end("l[0]", Failed("once"))
        assert sorted(run.under_way) == ["l[0]"]
        run.end("l[0]")
        assert (run.result, ledger.task(run.run_id, "l[0]").attempts) == (Result.SUCCESS, 2)


def test_a_loop_over_nothing_is_a_success():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(loop("l"))).start()
        run.end("l", Expanded(()))
        assert run.result is Result.SUCCESS


# --- the queue --------------------------------------------------------------------------------------------


def admit(ledger, job, key, **request):
    return entries.admit(ledger, job, RunRequest(TriggerType.ONE_TIME, key, **request), 1000.0)


def test_a_key_is_accepted_once_and_gives_the_same_run():
    with a_ledger() as ledger:
        job = job_of(script("t"))
        first, again = admit(ledger, job, "k"), admit(ledger, job, "k", parameters={})
        assert (again.run_id, again.known, first.known) == (first.run_id, True, False)


def test_asked_for_again_a_run_that_has_ended_says_how():
    with a_ledger() as ledger:
        job = job_of(script("t"))
        run_id = admit(ledger, job, "k").run_id
        ledger.end_run(run_id, Result.FAILED, error="no", now_s=1001.0)
        again = admit(ledger, job, "k")
        assert (again.state, again.result) == (RunState.TERMINATED, Result.FAILED)


def test_without_a_queue_a_run_that_finds_no_room_is_skipped_and_told():
    with a_ledger() as ledger:
        job = job_of(script("t"), queue=Queue(enabled=False))
        admit(ledger, job, "1")
        skipped = admit(ledger, job, "2")
        assert (skipped.state, skipped.result) == (RunState.SKIPPED, Result.MAXIMUM_CONCURRENT_RUNS_REACHED)
        assert admit(ledger, job, "2") == type(skipped)(skipped.run_id, RunState.SKIPPED, skipped.result, known=True)
        assert any('"run_skipped"' in payload for _, _, payload in ledger.untold(10))


def test_a_full_queue_skips_but_not_what_is_bounded_by_itself():
    with a_ledger() as ledger:
        job = job_of(script("t"), queue=Queue(max_length=2))
        full = Result.MAX_JOB_QUEUE_SIZE_EXCEEDED
        assert [admit(ledger, job, str(n)).result for n in range(4)] == [None, None, full, full]
        entries.next_run(ledger, job, 1000.0)
        assert [admit(ledger, job, f"later {n}").result for n in range(2)] == [None, full]
        backfill = RunRequest(TriggerType.BACKFILL, "b", queue=True)
        assert entries.admit(ledger, job, backfill, 1000.0).state is RunState.QUEUED


def test_no_run_starts_where_none_may():
    with a_ledger() as ledger:
        assert admit(ledger, job_of(script("t"), max_concurrent_runs=0), "1").state is RunState.SKIPPED


def test_the_most_urgent_run_comes_first_and_then_the_oldest():
    with a_ledger() as ledger:
        job = job_of(script("t"), max_concurrent_runs=3)
        ids = [admit(ledger, job, str(n), priority=p).run_id for n, p in enumerate((0, 5, 5, 1))]
        started = [entries.next_run(ledger, job, 1000.0, driven=ids).run.run_id for _ in range(3)]
        assert started == [ids[1], ids[2], ids[3]]
        assert entries.next_run(ledger, job, 1000.0, driven=ids) is None


def test_two_runs_of_a_job_write_its_tables_one_after_the_other_and_the_rest_side_by_side():
    job = job_of(script("look"), script("make", "look", table="gold.t"), script("tell", "make"), max_concurrent_runs=2)
    with a_ledger() as ledger:
        older = Run(ledger, job, key="1").start()
        younger = Run(ledger, job, key="2")
        younger.take(entries.next_run(ledger, job, 1000.0, driven=[older.run_id]).begun)
        assert sorted(younger.under_way) == ["look"]
        younger.end("look")
        assert not younger.under_way
        older.end("look")
        younger.take(entries.begin_ready(ledger, job, younger.run_id, 1000.0))
        assert not younger.under_way
        older.end("make")
        younger.take(entries.begin_ready(ledger, job, younger.run_id, 1000.0))
        assert sorted(younger.under_way) == ["make"]


def test_a_partial_run_has_only_its_tasks_and_its_repair_too():
    job = job_of(script("a"), script("b", "a"), script("c", "b"))
    with a_ledger() as ledger:
        run = Run(ledger, job, only=("b+",)).start()
        assert sorted(run.under_way) == ["b"]
        run.end("b", Failed("x"))
        assert run.results == {"b": Result.FAILED, "c": Result.UPSTREAM_FAILED}
        run.repair()
        run.end("b")
        run.end("c")
        assert run.results == {"b": Result.SUCCESS, "c": Result.SUCCESS}


def test_a_repair_that_somebody_else_made_meanwhile_is_noticed():
    job = job_of(script("a"))
    with a_ledger() as ledger:
        run = Run(ledger, job).start()
        run.end("a", Failed("x"))
        run.repair(latest_repair_id=0)
        run.end("a", Failed("x"))
        with pytest.raises(RefusedError, match="latest repair of run 1 is 1, not 0"):
            run.repair(latest_repair_id=0)


def test_what_a_repair_changes_was_kept_before_also_of_tasks_that_the_job_has_no_more():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(script("a"), script("b", "a"), script("gone", "b", run_if=RunIf.ALL_FAILED))).start()
        run.end("a")
        assert entries.cancel(ledger, run.job, run.run_id, run.now_s, why="by hand")
        run.end("b", Canceled())
        run.job = job_of(script("a"), script("b", "a"), script("added", "b"))
        run.repair()
        kept = ledger._db.execute("SELECT repair, task_key, result FROM earlier_results ORDER BY task_key")
        assert [tuple(row) for row in kept] == [(0, "a", "SUCCESS"), (0, "b", "CANCELED"), (0, "gone", "CANCELED")]
        run.end("b")
        run.end("added")
        assert ledger.forget_runs([run.run_id], before_s=1e9) == [run.run_id]
        assert ledger._db.execute("SELECT count(*) FROM earlier_results").fetchone()[0] == 0


def test_that_rows_of_an_output_were_left_out_is_known_to_the_tasks_behind_it():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(script("cut"), script("whole"))).start()
        run.end("cut", Committed(Stats(output=Output(rows=({"n": 1},), rows_cut=True))))
        run.end("whole", Committed(Stats(output=Output(rows=({"n": 1},)))))
        rows = {task.task_key: task for task in ledger.tasks(run.run_id)}
        assert [contexts._upstream(rows[key]).rows_cut for key in ("cut", "whole")] == [True, False]
        assert rows["whole"].output == '{"rows": [{"n": 1}]}'


def test_a_task_of_a_canceled_run_that_committed_all_the_same_is_a_success():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(script("a"), script("b", "a"))).start()
        assert entries.cancel(ledger, run.job, run.run_id, run.now_s, why="by hand")
        run.end("a", GOOD)
        assert (run.result, run.results) == (Result.CANCELED, {"a": Result.SUCCESS, "b": Result.CANCELED})


def test_a_loop_of_a_stopped_daemon_goes_on_where_it_was():
    with a_ledger() as ledger:
        run = Run(ledger, job_of(loop("l", concurrency=2))).start()
        run.end("l", Expanded((1, 2, 3)))
        for key in list(run.under_way):
            attempt = run.under_way.pop(key)
            entries.conclude(ledger, run.job, attempt, Interrupted(crashed=False), run.now_s, go_on=False)
        assert ledger.task(run.run_id, "l").state is TaskState.RUNNING
        again = entries.next_run(ledger, run.job, run.now_s)
        assert [key.task_key for key in again.begun] == ["l[0]", "l[1]"]
