"""Whether a trigger is due: each kind by table, the timers and the policies as laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import cron, due, due_events
from landingd.core.due import Change, End, Fire, Hold, Memory
from landingd.model import (
    CompletionStatus,
    ConditionMode,
    Continuous,
    CronSyntax,
    FileArrival,
    JobCompletion,
    Misfire,
    Periodic,
    Place,
    Result,
    Schedule,
    SqlCondition,
    TableUpdate,
    Trigger,
    TriggerType,
)

A_B = ("silver.a", "silver.b")
AT_TWO = Schedule("0 0 2 * * ?", CronSyntax.QUARTZ)
DAY_S = 86400.0


def changes(**versions):
    """`a=(version, changed_at_s)`"""
    return {f"silver.{name}": Change(*found, run_id=7) for name, found in versions.items()}


def after_tables(now_s=1000.0, *, memory=None, found, **more):
    on = TableUpdate(A_B, **more)
    trigger = Trigger(on, "table_update")
    return due_events.table_update(trigger, on, memory or Memory(0.0), now_s, changes=found)


def after_jobs(ends, now_s=1000.0, *, memory=None, status=CompletionStatus.SUCCESS):
    on = JobCompletion(("x", "y"), status)
    return due_events.job_completion(Trigger(on, "job_completion"), on, memory or Memory(0.0), now_s, ends=ends)


def always(memory=None, now_s=1000.0, *, reads=(), found=None, is_open=False, **more):
    on = Continuous(**more)
    return due_events.continuous(
        Trigger(on, "continuous"),
        on,
        memory or Memory(0.0),
        now_s,
        reads=reads,
        changes=found or {},
        is_open=is_open,
    )


# --- names --------------------------------------------------------------------------------------------------

SAYINGS = st.lists(st.sampled_from("abcd"), max_size=6).map(lambda said: {f"t-{n}": one for n, one in enumerate(said)})


@pytest.mark.parametrize(
    ("known", "says", "found"),
    [
        ({"t": "a"}, {"t": "a"}, {}),
        ({"t": "a"}, {"t": "b"}, {}),
        ({"t": "a"}, {"t": "b", "t-2": "a"}, {"t": "t-2"}),
        ({"t": "a", "t-2": "b"}, {"t": "b", "t-2": "a"}, {"t-2": "t", "t": "t-2"}),
        ({"t": "a", "t-2": "a"}, {"t": "a", "t-2": "b"}, {}),
        ({"t": "", "t-2": "b"}, {"t": "b"}, {"t-2": "t"}),
    ],
)
def test_a_trigger_goes_by_what_it_says_where_its_name_says_something_else_now(known, says, found):
    assert due.renamed(known, says) == found


@given(SAYINGS, SAYINGS)
def test_each_trigger_that_is_said_again_keeps_its_memory_and_no_two_have_the_same(known, says):
    names = due.renamed(known, says)
    assert len(set(names.values())) == len(names)
    assert all(known[old] == says[new] and known.get(new) != says[new] for old, new in names.items())
    kept = set(names.values()) | {name for name, said in says.items() if known.get(name) == said}
    for one in "abcd":
        said = [name for name in says if says[name] == one]
        assert len(kept.intersection(said)) == min(len(said), list(known.values()).count(one))


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cool_s", "quiet_s", "last_run_s", "last_arrival_s", "expected_s"),
    [
        (0, 0, None, 100.0, 100.0),
        (0, 10, None, 100.0, 110.0),
        (60, 0, None, 100.0, 100.0),
        (60, 0, 90.0, 100.0, 150.0),
        (60, 10, 90.0, 100.0, 160.0),  # first the cool-down, then the quiet period
        (60, 10, 90.0, 155.0, 165.0),  # a file begins it anew
        (60, 10, 0.0, 100.0, 110.0),
        (0, 10, 105.0, 100.0, 110.0),  # without a cool-down the last run does not matter
    ],
)
def test_the_quiet_period_begins_when_the_cool_down_is_over(cool_s, quiet_s, last_run_s, last_arrival_s, expected_s):
    arrival = FileArrival("in", min_time_between_triggers_s=cool_s, wait_after_last_change_s=quiet_s)
    assert due.file_batch_due_s(arrival, last_run_s, last_arrival_s) == expected_s


@pytest.mark.parametrize(
    ("newest", "now_s", "expected"),
    [
        (None, 500.0, Hold()),
        (7, 500.0, Hold()),  # it was let through before
        (8, 105.0, Hold("waits for files to be quiet until 1970-01-01T00:01:50.000Z", 110.0)),
        (8, 110.0, Fire((), "", 110.0, {"let_through": 8})),
    ],
)
def test_a_condition_is_asked_for_files_that_it_has_not_let_through_once_they_are_due(newest, now_s, expected):
    on = FileArrival("in", wait_after_last_change_s=10)
    memory = Memory(0.0, state={"let_through": 7})
    assert due.files_wait(on, memory, now_s, newest=newest, arrived_s=100.0) == expected


def test_what_a_batch_waits_for_is_said():
    arrival = FileArrival("in", min_time_between_triggers_s=60, wait_after_last_change_s=10)
    said = [due.why_files_wait(arrival, 100.0, 170.0, now_s) for now_s in (159.0, 160.0)]
    until = "until 1970-01-01T00:02:50.000Z"
    assert said == [f"cools down {until}", f"waits for files to be quiet {until}"]


# --- time ---------------------------------------------------------------------------------------------------


def at_two(memory, now_s, **more):
    trigger = Trigger(Schedule("0 0 2 * * ?", CronSyntax.QUARTZ, **more), "schedule")
    return due.on_time(trigger, memory, now_s, ticks=due.ticks_of(trigger.on, memory.since_s))


def test_a_schedule_that_is_new_does_not_fire_for_the_past():
    assert at_two(Memory(since_s=DAY_S), DAY_S) == Hold(look_at_s=DAY_S + 7200)


def test_a_schedule_fires_with_a_key_of_its_own_for_each_time():
    fired = at_two(Memory(0.0), 7200.0)
    assert [r.key for r in fired.requests] == ["time:schedule:1970-01-01T02:00:00.000Z"]
    assert fired.requests[0].info == {"time_s": 7200.0}
    assert fired.requests[0].trigger_type is TriggerType.PERIODIC
    assert (fired.last_fired_s, fired.look_at_s) == (7200.0, 7200.0 + DAY_S)


def test_what_is_caught_up_with_comes_in_portions_and_in_order():
    memory, times = Memory(0.0), []
    for _ in range(3):
        fired = at_two(memory, 60 * DAY_S, misfire=Misfire.CATCH_UP)
        times += [request.info["time_s"] for request in fired.requests]
        memory = Memory(0.0, fired.last_fired_s)
    assert times == [7200.0 + day * DAY_S for day in range(60)]
    assert at_two(memory, 60 * DAY_S, misfire=Misfire.CATCH_UP) == Hold(look_at_s=60 * DAY_S + 7200)


def test_a_clock_that_is_set_back_asks_for_the_same_keys_again_and_does_not_stop_the_schedule():
    first = at_two(Memory(0.0), 10 * DAY_S)
    assert at_two(Memory(0.0, first.last_fired_s), 5 * DAY_S) == Hold("", 5 * DAY_S + 7200, 5 * DAY_S)
    again = at_two(Memory(0.0, 5 * DAY_S), 10 * DAY_S)
    assert again.requests == first.requests


def test_a_periodic_trigger_counts_from_when_it_was_first_seen():
    trigger = Trigger(Periodic(600.0), "periodic")
    ticks = due.ticks_of(trigger.on, 1000.0)
    assert due.on_time(trigger, Memory(1000.0), 1599.0, ticks=ticks) == Hold(look_at_s=1600.0)
    assert due.on_time(trigger, Memory(1000.0), 1600.0, ticks=ticks).requests[0].info == {"time_s": 1600.0}


def test_times_go_by_while_it_is_paused_and_until_it_is_seen_that_it_is_not():
    ticks = due.ticks_of(AT_TWO, 0.0)
    paused = due.passed_by(Memory(0.0), 3 * DAY_S, ticks=ticks, why="the job is paused")
    assert (paused.last_fired_s, paused.state) == (2 * DAY_S + 7200, {"paused": True})
    assert paused.why == "the job is paused: its times go by"
    resumed = due.passed_by(Memory(0.0, state={"paused": True, "run_id": 3}), 3 * DAY_S, ticks=ticks, why=None)
    assert (resumed.last_fired_s, resumed.state, resumed.why) == (2 * DAY_S + 7200, {"run_id": 3}, "")


@given(
    looks=st.lists(st.tuples(st.floats(-5000, 5000), st.booleans()), max_size=12),
    misfire=st.sampled_from(list(Misfire)),
)
def test_whatever_the_clock_does_and_however_often_it_is_looked_a_time_is_asked_for_by_one_key(looks, misfire):
    """Some looks are lost: the process dies before what was found is recorded, and it is found again."""
    trigger = Trigger(Schedule("0 */5 * * * ?", CronSyntax.QUARTZ, "Europe/Paris", misfire), "schedule")
    ticks = due.ticks_of(trigger.on, 0.0)
    now_s, memory = 1.7e9, Memory(1.7e9)
    for wait_s, is_lost in looks:
        now_s += wait_s
        found = due.on_time(trigger, memory, now_s, ticks=ticks)
        if isinstance(found, Fire):
            times_s = [request.info["time_s"] for request in found.requests]
            assert times_s == sorted(set(times_s))
            assert all(at_s <= now_s and ticks.next(at_s - 1) == at_s for at_s in times_s)
            keys = [f"time:schedule:{due.utc(at_s)}" for at_s in times_s]
            assert [request.key for request in found.requests] == keys
        if not is_lost and found.last_fired_s is not None:
            assert found.last_fired_s <= now_s < ticks.next(found.last_fired_s) or misfire is Misfire.CATCH_UP
            memory = Memory(1.7e9, found.last_fired_s)


# --- tables -------------------------------------------------------------------------------------------------


def test_any_table_is_enough_or_all_of_them_are_needed():
    found = changes(a=(3, 900.0), b=(5, 100.0))
    seen = Memory(0.0, state={"versions": {"silver.a": 2, "silver.b": 5}, "run_id": 12})
    fired = after_tables(memory=seen, found=found)
    assert fired.why == "updated: silver.a (version 3, by run 7)"
    assert fired.requests[0].info["table_update"] == {
        "updated_tables": ["silver.a"],
        "versions": {"silver.a": {"version": 3, "changed_at_s": 900.0}},
    }
    assert fired.state["versions"] == {"silver.a": 3, "silver.b": 5}
    assert after_tables(memory=seen, found=found, all_of=True) == Hold("waits for silver.b: not updated since run 12")


def test_no_update_is_said_to_be_none():
    seen = Memory(86400.0, state={"versions": {"silver.a": 2}})
    assert after_tables(memory=seen, found=changes(a=(2, 1.0))).why == (
        "waits for one of silver.a, silver.b: not updated since 1970-01-02T00:00:00.000Z"
    )


@pytest.mark.parametrize(
    ("now_s", "fires", "says"),
    [
        (1059.0, False, "cools down until"),
        (1061.0, False, "waits for tables to be quiet until"),
        (1069.9, False, "waits for tables to be quiet until"),
        (1070.0, True, "updated: silver.a"),
    ],
)
def test_both_timers_stand_one_behind_the_other(now_s, fires, says):
    last = Memory(0.0, 1000.0, state={"versions": {}})
    found = after_tables(
        now_s,
        memory=last,
        found=changes(a=(1, 1005.0)),
        min_time_between_triggers_s=60.0,
        wait_after_last_change_s=10.0,
    )
    assert isinstance(found, Fire) is fires
    assert says in found.why
    assert fires or found.look_at_s == 1070.0


def test_a_change_in_the_future_is_a_clock_that_was_set_back():
    assert isinstance(after_tables(1000.0, found=changes(a=(1, 9e9))), Fire)
    last = Memory(0.0, 9e9)
    held = after_tables(1000.0, memory=last, found=changes(a=(1, 5.0)), min_time_between_triggers_s=60.0)
    assert held.look_at_s == 1060.0


@given(bumps=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=40), all_of=st.booleans())
def test_an_update_is_counted_once_and_none_is_lost(bumps, all_of):
    versions, memory, keys = {"a": 0, "b": 0}, Memory(0.0), []
    owed = set()
    for now_s, (name, looks) in enumerate(bumps, 1):
        versions[name] += 1
        owed.add(name)
        for _ in range(looks):
            found = after_tables(
                float(now_s),
                memory=memory,
                all_of=all_of,
                found=changes(**{n: (v, 1.0) for n, v in versions.items() if v}),
            )
            assert isinstance(found, Fire) is (owed >= {"a", "b"} if all_of else bool(owed))
            if isinstance(found, Fire):
                keys.append(found.requests[0].key)
                memory, owed = Memory(0.0, found.last_fired_s, state=found.state), set()
    assert len(keys) == len(set(keys))


# --- other jobs ---------------------------------------------------------------------------------------------


def test_each_job_has_to_end_a_run():
    assert after_jobs({"x": End(3, 0, 10.0)}).why == (
        "waits for y: no run has succeeded since 1970-01-01T00:00:00.000Z"
    )
    fired = after_jobs({"x": End(3, 0, 10.0), "y": End(4, 1, 11.0)})
    assert fired.why == "ended: x (run 3), y (run 4)"
    assert fired.requests[0].info == {"job_completion": {"runs": {"x": 3, "y": 4}}}


def test_an_end_counts_once_and_a_repair_is_another_one():
    ends = {"x": End(3, 0, 10.0), "y": End(4, 0, 11.0)}
    fired = after_jobs(ends)
    memory = Memory(0.0, fired.last_fired_s, state={**fired.state, "run_id": 9})
    assert after_jobs(ends, memory=memory).why == "waits for x, y: no run has succeeded since run 9"
    again = after_jobs({"x": End(3, 1, 20.0), "y": End(6, 0, 21.0)}, memory=memory)
    assert isinstance(again, Fire)
    assert again.requests[0].key != fired.requests[0].key
    assert due_events.counted_from_s(memory, "x", 1000.0) == 10.0
    assert due_events.counted_from_s(memory, "z", 1000.0) == 0.0
    assert due_events.counted_from_s(memory, "x", 5.0) == 5.0  # the clock was set back


@pytest.mark.parametrize("result", list(Result))
def test_which_ends_count(result):
    counts = {status for status in CompletionStatus if result in due_events.results_that_count(status)}
    success, failed, done = CompletionStatus.SUCCESS, CompletionStatus.FAILED, CompletionStatus.DONE
    expected = {
        Result.SUCCESS: {success, done},
        Result.SUCCESS_WITH_FAILURES: {success, done},
        Result.FAILED: {failed, done},
        Result.TIMEDOUT: {failed, done},
        Result.CANCELED: {done},
    }
    assert counts == expected.get(result, set())


# --- continuous ---------------------------------------------------------------------------------------------


def test_a_job_that_reads_nothing_of_others_is_always_due_an_interval_apart():
    first = always(min_interval_s=5.0)
    assert first.why == "always on"
    memory = Memory(0.0, first.last_fired_s, state=first.state)
    assert always(memory, 1004.0, min_interval_s=5.0) == Hold(look_at_s=1005.0)
    second = always(memory, 1005.0, min_interval_s=5.0)
    assert second.requests[0].key != first.requests[0].key
    assert second.requests[0].trigger_type is TriggerType.CONTINUOUS


def test_a_job_that_reads_tables_waits_for_one_of_them():
    reads = {"silver.a", "silver.b"}
    fired = always(reads=reads, found=changes(a=(1, 5.0)))
    assert fired.why == "updated: silver.a"
    memory = Memory(0.0, fired.last_fired_s, state={**fired.state, "run_id": 2})
    held = always(memory, reads=reads, found=changes(a=(1, 5.0)))
    assert held == Hold("waits for one of silver.a, silver.b: not updated since run 2")


def test_it_has_one_run_at_a_time_and_backs_off_after_failures():
    assert always(is_open=True) == Hold()
    failing = Memory(0.0, 900.0, failures=2, retry_at_s=1010.0)
    assert always(failing).why == "backs off until 1970-01-01T00:16:50.000Z, after 2 failed runs in a row"
    again = always(failing, 1010.0, reads={"silver.a"})
    assert (again.why, again.requests[0].trigger_type) == (
        "again, after 2 failed runs in a row",
        TriggerType.CONTINUOUS_RESTART,
    )
    assert isinstance(always(failing, 1010.0, reads={"silver.a"}, retry=False), Hold)


@pytest.mark.parametrize(
    ("failures", "result", "ran_s", "expected"),
    [
        (0, Result.FAILED, 1.0, 1),
        (4, Result.TIMEDOUT, 1.0, 5),
        (4, Result.FAILED, 60.0, 1),  # it had been well for long
        (4, Result.SUCCESS, 0.1, 0),
        (4, Result.SUCCESS_WITH_FAILURES, 0.1, 0),
        (4, Result.CANCELED, 1.0, 4),
    ],
)
def test_a_success_or_a_long_run_ends_the_series_of_failures(failures, result, ran_s, expected):
    on = Continuous(reset_after_s=60.0)
    assert due_events.continuous_failures(on, failures, result=result, ran_s=ran_s) == expected


# --- conditions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "holds"), [([], False), ([{"n": 0}], True), ([{"n": None}], True)])
def test_rows_are_enough_whatever_is_in_them(rows, holds):
    assert due_events.sql_condition(ConditionMode.QUERY_RETURNS_ROWS, rows, {}).holds is holds


def test_the_first_value_always_counts_and_then_another_one():
    mode, state, held = ConditionMode.RESULT_VALUE_CHANGES, {}, []
    for rows in ([{"n": 1, "m": 2}], [{"n": 1, "m": 3}], [{"n": "1"}], [], [], [{"n": None}]):
        verdict = due_events.sql_condition(mode, rows, state)
        held.append(verdict.holds)
        if verdict.holds:
            state = {"condition_value": verdict.value}
    assert held == [True, False, True, True, False, True]


# --- words --------------------------------------------------------------------------------------------------


def test_a_trigger_that_says_something_else_is_another_one_and_a_pause_or_a_place_is_nothing_that_it_says():
    at_three = Schedule("0 0 3 * * ?", CronSyntax.QUARTZ)
    plain = Trigger(AT_TWO, "schedule")
    gate = SqlCondition("SELECT 1", ConditionMode.QUERY_RETURNS_ROWS, Place("job.yml", 1))
    others = [
        Trigger(at_three),
        Trigger(Schedule(AT_TWO.expression, AT_TWO.syntax, "Europe/Paris")),
        Trigger(AT_TWO, condition=gate),
        Trigger(Periodic(5)),
        Trigger(TableUpdate(A_B)),
        Trigger(JobCompletion(("x",))),
        Trigger(FileArrival("in")),
        Trigger(Continuous()),
        Trigger(Continuous(FileArrival("in"))),
    ]
    texts = [due.definition(trigger) for trigger in [plain, *others]]
    assert len(set(texts)) == len(texts)
    assert due.definition(Trigger(AT_TWO, "schedule-2", paused=True, place=Place("x", 9))) == texts[0]


def test_ticks_come_from_what_the_trigger_says():
    assert due.ticks_of(Periodic(5.0), 3.0) == cron.Every(3.0, 5.0)
    assert due.ticks_of(AT_TWO, 3.0).next(0.0) == 7200.0
