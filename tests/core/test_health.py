"""What health rules find, and that it is told once and not at each look."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import health
from landingd.core.health import BACKLOG_WINDOW_S, Going, Known, Sample, Seen, Step
from landingd.model import ForEach, HealthMetric, HealthRule, Job, Place, Task

HERE = Place("job.yml", 1)
FILES = HealthMetric.STREAMING_BACKLOG_FILES


def job(*rules, tasks=None):
    return Job("shop", HERE, tasks or (Task("bronze", HERE),), health=tuple(HealthRule(*rule) for rule in rules))


class Watcher:
    """Looks at a job as the daemon does, and remembers what it is told to remember."""

    def __init__(self, of):
        self.job = of
        self.known = {}
        self.samples = ()

    def look(self, now_s, *, backlog=None, **seen):
        if backlog is not None:
            self.samples = health.sampled(self.samples, Sample(now_s, (float(backlog), 0.0, 0.0)))
        changes = health.decide(self.job, Seen(samples=self.samples, **seen), self.known, now_s)
        for change in changes:
            if change.step is Step.TELL:
                self.known[change.subject] = Known(change.since_s, now_s)
            elif change.step is Step.WATCH or (
                change.step is Step.RECOVERED and change.metric is HealthMetric.NO_SUCCESS_WITHIN_SECONDS
            ):
                self.known[change.subject] = Known(change.since_s, 0.0)
            else:
                del self.known[change.subject]
        return [change.step.value for change in changes]


# --- durations ------------------------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_told_once_while_it_goes_on():
    watcher = Watcher(job((HealthMetric.RUN_DURATION_SECONDS, 60.0)))
    run = Going(7, 0, 100.0)
    assert watcher.look(160.0, going=(run,)) == []
    assert watcher.look(161.0, going=(run,)) == ["tell"]
    assert watcher.look(500.0, going=(run,)) == []
    assert watcher.look(505.0) == ["forget"]
    assert watcher.look(510.0) == []


def test_a_repair_and_another_run_are_told_for_themselves():
    watcher = Watcher(job((HealthMetric.RUN_DURATION_SECONDS, 60.0)))
    assert watcher.look(200.0, going=(Going(7, 0, 100.0),)) == ["tell"]
    assert sorted(watcher.look(400.0, going=(Going(7, 1, 300.0), Going(8, 0, 390.0)))) == ["forget", "tell"]


def test_a_task_has_its_own_rule_and_an_attempt_its_own_time():
    rule = (HealthRule(HealthMetric.RUN_DURATION_SECONDS, 10.0),)
    watcher = Watcher(Job("shop", HERE, (Task("slow", HERE, health=rule), Task("other", HERE))))
    others = (Going(7, 0, 0.0), Going(7, 0, 0.0, "other", 1))
    assert watcher.look(20.0, going=(*others, Going(7, 0, 5.0, "slow", 1))) == ["tell"]
    assert watcher.look(25.0, going=(*others, Going(7, 0, 24.0, "slow", 2))) == ["forget"]
    assert watcher.look(40.0, going=(*others, Going(7, 0, 24.0, "slow", 2))) == ["tell"]


def test_the_iterations_of_a_loop_are_judged_by_the_rule_of_the_task_that_it_repeats():
    rule = (HealthRule(HealthMetric.RUN_DURATION_SECONDS, 10.0),)
    loop = Task("loop", HERE, action=ForEach("[1]", Task("each", HERE, health=rule)))
    watcher = Watcher(Job("shop", HERE, (loop,)))
    assert health.is_watched(watcher.job)
    going = (Going(7, 0, 0.0, "loop", 1), Going(7, 0, 0.0, "loop[0]", 1), Going(7, 0, 9.0, "loop[1]", 1))
    assert watcher.look(15.0, going=going) == ["tell"]


# --- backlog --------------------------------------------------------------------------------------------------


def test_a_backlog_is_told_when_its_mean_over_ten_minutes_is_too_large_and_every_half_hour():
    watcher = Watcher(job((FILES, 100.0)))
    told_at = [t for t in range(0, 7200, 5) if watcher.look(1000.0 + t, backlog=150) == ["tell"]]
    assert told_at[0] == pytest.approx(400, abs=5), "150 for 400 s is 100 over 600 s"
    assert [later - before for before, later in itertools.pairwise(told_at)] == [1800, 1800, 1800]


def test_a_heap_that_is_gone_in_a_minute_is_no_backlog():
    watcher = Watcher(job((FILES, 100.0)))
    steps = [watcher.look(1000.0 + t, backlog=900 if t < 60 else 0) for t in range(0, 1200, 5)]
    assert not any(steps)


def test_a_backlog_that_shrinks_has_recovered_when_the_mean_has():
    watcher = Watcher(job((FILES, 100.0)))
    for t in range(0, 1000, 5):
        watcher.look(1000.0 + t, backlog=200)
    recovered_at = next(t for t in range(0, 1000, 5) if watcher.look(2000.0 + t, backlog=0) == ["recovered"])
    assert recovered_at == pytest.approx(300, abs=5)
    assert watcher.known == {}


def test_a_restart_is_not_taken_for_a_recovery():
    before = Watcher(job((FILES, 100.0)))
    for t in range(0, 1000, 5):
        before.look(1000.0 + t, backlog=150)
    after = Watcher(before.job)
    after.known = dict(before.known)
    assert not any(after.look(2000.0 + t, backlog=150) for t in range(0, 700, 5))
    assert len(after.known) == 1


@given(values=st.lists(st.integers(0, 1000), min_size=1, max_size=200), step_s=st.floats(0.5, 100.0))
def test_a_mean_lies_between_nothing_and_the_most_that_was_seen(values, step_s):
    samples = ()
    for at, value in enumerate(values):
        samples = health.sampled(samples, Sample(at * step_s, (float(value), 0.0, 0.0)))
    now_s = len(values) * step_s
    assert 0.0 <= health.mean(samples, FILES, now_s) <= max(values) + 1e-6
    assert len(samples) <= BACKLOG_WINDOW_S / step_s + 3


@given(value=st.integers(0, 1000), step_s=st.floats(1.0, 60.0))
def test_the_mean_of_what_does_not_change_is_what_it_is(value, step_s):
    samples = ()
    for at in range(int(1300 / step_s)):
        samples = health.sampled(samples, Sample(at * step_s, (float(value), 0.0, 0.0)))
    assert health.mean(samples, FILES, samples[-1].at_s) == pytest.approx(value)


# --- absence --------------------------------------------------------------------------------------------------


NO_SUCCESS = (HealthMetric.NO_SUCCESS_WITHIN_SECONDS, 3600.0)


def test_the_absence_of_success_is_counted_from_the_last_one_and_told_once_a_day():
    watcher = Watcher(job(NO_SUCCESS))
    looks = range(0, 200_000, 100)
    told_at = [t for t in looks if "tell" in watcher.look(1_000_000.0 + t, last_success_s=1_000_000.0)]
    assert told_at == [3700, 3700 + 86400, 3700 + 2 * 86400]


def test_without_any_success_it_is_counted_from_when_the_rule_was_first_seen():
    watcher = Watcher(job(NO_SUCCESS))
    assert watcher.look(1000.0) == ["watch"]
    assert watcher.look(4600.0) == []
    assert watcher.look(4601.0) == ["tell"]


def test_a_success_ends_it_and_the_next_absence_is_told_anew():
    watcher = Watcher(job(NO_SUCCESS))
    assert watcher.look(10_000.0, last_success_s=1.0) == ["tell"]
    assert watcher.look(10_100.0, last_success_s=10_050.0) == ["recovered"]
    assert watcher.look(10_200.0, last_success_s=10_050.0) == []
    assert watcher.look(13_651.0, last_success_s=10_050.0) == ["tell"]


def test_a_success_that_history_has_dropped_still_counts():
    watcher = Watcher(job(NO_SUCCESS))
    assert watcher.look(1000.0, last_success_s=900.0) == ["watch"]
    assert watcher.look(4400.0) == []
    assert watcher.look(4501.0) == ["tell"]


# --- rules ----------------------------------------------------------------------------------------------------


def test_what_was_found_by_a_rule_that_is_gone_is_forgotten():
    watcher = Watcher(job(NO_SUCCESS))
    watcher.look(10_000.0, last_success_s=1.0)
    watcher.job = job()
    assert watcher.look(10_005.0) == ["forget"]
    assert watcher.known == {}


def test_another_threshold_is_another_rule():
    watcher = Watcher(job((HealthMetric.RUN_DURATION_SECONDS, 60.0), (HealthMetric.RUN_DURATION_SECONDS, 120.0)))
    run = Going(7, 0, 0.0)
    assert watcher.look(61.0, going=(run,)) == ["tell"]
    assert watcher.look(121.0, going=(run,)) == ["tell"]


SOME_RUNS = given(
    lengths=st.lists(st.floats(0.0, 300.0), min_size=1, max_size=6),
    every_s=st.floats(1.0, 20.0),
    value=st.floats(1.0, 200.0),
)
"""How long each takes, how often one looks, and the limit, in seconds."""


@SOME_RUNS
def test_however_often_one_looks_no_run_is_told_more_than_once_and_nothing_is_left(lengths, every_s, value):
    watcher = Watcher(job((HealthMetric.RUN_DURATION_SECONDS, value)))
    steps = []
    for look in range(int(400 / every_s) + 2):
        now_s = look * every_s
        steps += watcher.look(now_s, going=tuple(Going(i, 0, 0.0) for i, end_s in enumerate(lengths) if now_s < end_s))
    assert steps.count("tell") == steps.count("forget") <= len(lengths)
    assert watcher.known == {}


@SOME_RUNS
def test_with_a_look_at_its_end_every_run_that_took_too_long_is_told_once(lengths, every_s, value):
    watcher = Watcher(job((HealthMetric.RUN_DURATION_SECONDS, value)))
    ends = [(end_s, Going(i, 0, 0.0)) for i, end_s in sorted(enumerate(lengths), key=lambda one: one[1])]
    told, now_s = 0, 0.0
    while ends:
        now_s += every_s
        while ends and ends[0][0] <= now_s:
            end_s, run = ends.pop(0)
            for change in health.too_long(watcher.job, run, watcher.known, end_s):
                watcher.known[change.subject] = Known(change.since_s, end_s)
                told += 1
        told += watcher.look(now_s, going=tuple(run for _, run in ends)).count("tell")
    assert told == sum(length > value for length in lengths)


def test_at_its_end_an_attempt_is_judged_by_its_tasks_rules_and_a_run_by_the_jobs():
    rule = (HealthRule(HealthMetric.RUN_DURATION_SECONDS, 10.0),)
    loop = Task("loop", HERE, action=ForEach("[1]", Task("each", HERE, health=rule)))
    of = Job("shop", HERE, (Task("slow", HERE, health=rule), Task("other", HERE), loop), health=rule)

    def judged(going):
        return [change.about for change in health.too_long(of, going, {}, 20.0)]

    late = [Going(7, 0, 5.0), Going(7, 0, 5.0, "slow", 1), Going(7, 0, 5.0, "loop[3]", 1)]
    in_time = [Going(7, 0, 15.0), Going(7, 0, 15.0, "slow", 1)]
    without_rule = [Going(7, 0, 5.0, "other", 1), Going(7, 0, 5.0, "loop", 1), Going(7, 0, 5.0, "gone", 1)]
    assert [judged(going) for going in late] == [[going] for going in late]
    assert [judged(going) for going in (*in_time, *without_rule)] == [[]] * 5


def test_the_event_names_what_it_is_about():
    rule = job((HealthMetric.RUN_DURATION_SECONDS, 60.0))
    (change,) = health.decide(rule, Seen(going=(Going(7, 0, 0.0),)), {}, 61.5)
    topic, payload = health.event("shop", change, 61.5)
    assert topic == "jobs/shop/health"
    assert payload | {"event_id": ""} == {
        "event_id": "",
        "event": "job_unhealthy",
        "time": "1970-01-01T00:01:01.500Z",
        "job": "shop",
        "what": "RUN_DURATION_SECONDS > 60, run 7",
        "metric": "RUN_DURATION_SECONDS",
        "threshold": 60.0,
        "measured": 61.5,
        "since": "1970-01-01T00:01:00.000Z",
        "run_id": 7,
        "task_key": None,
    }
