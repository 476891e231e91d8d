"""Who is told of what, by Databricks' rules; and what an alert holds."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import alerts, wording
from landingd.core.alerts import HealthFacts, Recipient, RunFacts, TaskFacts
from landingd.model import ForEach, HealthMetric, Job, Notifications, NotifyOn, Place, Result, Task

EMAIL, HOOK = "on-call@example.com", "ops"
EVERYTHING = dict.fromkeys(NotifyOn, (EMAIL,))
HOOKS = dict.fromkeys(NotifyOn, (HOOK,))
HERE = Place("job.yml", 1)


def told(event, *, settings=None, **circumstances):
    """Whether anybody hears of it where everybody wants to hear of everything."""
    notifications = Notifications(EVERYTHING, HOOKS, **(settings or {}))
    return [one.channel for one in alerts.recipients(notifications, event, **circumstances)]


BOTH, NOBODY = ["email", "webhook"], []


@pytest.mark.parametrize(
    ("event", "circumstances", "settings", "hears"),
    [
        (NotifyOn.START, {}, {}, BOTH),
        (NotifyOn.START, {"is_retry": True}, {}, BOTH),
        (NotifyOn.START, {"is_retry": True}, {"alert_on_last_attempt": True}, NOBODY),
        (NotifyOn.START, {}, {"alert_on_last_attempt": True}, BOTH),
        (NotifyOn.SUCCESS, {}, {"alert_on_last_attempt": True, "no_alert_for_skipped_runs": True}, BOTH),
        (NotifyOn.FAILURE, {}, {}, BOTH),
        (NotifyOn.FAILURE, {"will_retry": True}, {}, BOTH),
        (NotifyOn.FAILURE, {"will_retry": True}, {"alert_on_last_attempt": True}, NOBODY),
        (NotifyOn.FAILURE, {}, {"alert_on_last_attempt": True}, BOTH),
        (NotifyOn.FAILURE, {"skipped": True}, {}, BOTH),
        (NotifyOn.FAILURE, {"skipped": True}, {"no_alert_for_skipped_runs": True}, NOBODY),
        (NotifyOn.FAILURE, {"skipped": True}, {"no_alert_for_canceled_runs": True}, BOTH),
        (NotifyOn.FAILURE, {"canceled": True}, {}, BOTH),
        (NotifyOn.FAILURE, {"canceled": True}, {"no_alert_for_canceled_runs": True}, NOBODY),
        (NotifyOn.FAILURE, {"canceled": True}, {"no_alert_for_skipped_runs": True}, BOTH),
        (NotifyOn.DURATION_WARNING, {}, {"alert_on_last_attempt": True}, BOTH),
        (NotifyOn.STREAMING_BACKLOG, {}, {}, BOTH),
        (NotifyOn.NO_SUCCESS, {}, {}, BOTH),
    ],
)
def test_who_hears_follows_the_notification_settings(event, circumstances, settings, hears):
    assert told(event, settings=settings, **circumstances) == hears


def test_who_asked_for_another_event_hears_nothing():
    notifications = Notifications({NotifyOn.SUCCESS: (EMAIL,)})
    assert alerts.recipients(notifications, NotifyOn.FAILURE) == ()


def test_nobody_hears_without_notifications():
    assert alerts.recipients(None, NotifyOn.FAILURE) == ()
    assert alerts.recipients(Notifications(), NotifyOn.FAILURE) == ()


def test_who_is_named_twice_hears_once():
    notifications = Notifications({NotifyOn.FAILURE: (EMAIL, EMAIL)})
    assert alerts.recipients(notifications, NotifyOn.FAILURE) == (Recipient("email", EMAIL),)


def test_the_absence_of_success_is_told_to_on_failure_unless_it_has_recipients_of_its_own():
    only_failure = Notifications({NotifyOn.FAILURE: (EMAIL,)})
    both = Notifications({NotifyOn.FAILURE: (EMAIL,)}, {NotifyOn.NO_SUCCESS: (HOOK,)})
    assert alerts.recipients(only_failure, NotifyOn.NO_SUCCESS) == (Recipient("email", EMAIL),)
    assert alerts.recipients(both, NotifyOn.NO_SUCCESS) == (Recipient("webhook", HOOK),)


@given(
    event=st.sampled_from(NotifyOn),
    circumstances=st.fixed_dictionaries(
        {name: st.booleans() for name in ("skipped", "canceled", "will_retry", "is_retry")}
    ),
    settings=st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in ("no_alert_for_skipped_runs", "no_alert_for_canceled_runs", "alert_on_last_attempt")
        }
    ),
)
def test_a_setting_only_ever_silences(event, circumstances, settings):
    with_settings = told(event, settings=settings, **circumstances)
    assert with_settings in (told(event, **circumstances), NOBODY)
    if event not in {NotifyOn.FAILURE, NotifyOn.START}:
        assert with_settings == BOTH, "the settings are about failures, and starts of retries"


@pytest.mark.parametrize(
    ("result", "event"),
    [
        (Result.SUCCESS, NotifyOn.SUCCESS),
        (Result.SUCCESS_WITH_FAILURES, NotifyOn.SUCCESS),
        (Result.FAILED, NotifyOn.FAILURE),
        (Result.TIMEDOUT, NotifyOn.FAILURE),
        (Result.CANCELED, NotifyOn.FAILURE),
        (Result.MAXIMUM_CONCURRENT_RUNS_REACHED, NotifyOn.FAILURE),
        (Result.MAX_JOB_QUEUE_SIZE_EXCEEDED, NotifyOn.FAILURE),
        (Result.EXCLUDED, None),
        (Result.DISABLED, None),
        (Result.UPSTREAM_FAILED, None),
        (Result.UPSTREAM_CANCELED, None),
    ],
)
def test_every_result_is_a_success_a_failure_or_nothing(result, event):
    assert alerts.event_of(result) is event


# --- jobs -----------------------------------------------------------------------------------------------------


def task(key="silver", **more):
    return Task(key, HERE, **more)


def test_an_iteration_is_told_to_whoever_its_nested_task_names():
    nested = task("each", notifications=Notifications({NotifyOn.FAILURE: (EMAIL,)}))
    loop = task("loop", action=ForEach("[1, 2]", nested))
    job = Job("shop", HERE, (loop, task()))
    assert alerts.task_of(job, "loop") is loop
    assert alerts.task_of(job, "loop[1]") is nested
    assert alerts.task_of(job, "silver[1]") is None
    assert alerts.task_of(job, "gone") is None
    assert alerts.wanted(job) == {Recipient("email", EMAIL)}


def test_what_cannot_be_delivered_is_known_before_it_happens():
    job = Job(
        "shop",
        HERE,
        (task(notifications=Notifications(webhook={NotifyOn.START: ("nowhere",)})),),
        notifications=Notifications({NotifyOn.FAILURE: (EMAIL,)}, {NotifyOn.FAILURE: (HOOK,)}),
    )
    assert alerts.undeliverable(job, has_mail=True, destinations=[HOOK, "nowhere"]) == []
    assert alerts.undeliverable(job, has_mail=False, destinations=[HOOK]) == [
        "email_notifications needs a mail server: [alerts] smtp_host is empty",
        "webhook_notifications names 'nowhere', which is not in [alerts.destinations]",
    ]


def test_pauses_double_from_half_a_minute_to_half_an_hour():
    pauses = [alerts.pause_s(tries) for tries in range(1, 10)]
    assert pauses == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert alerts.pause_s(10_000) == 1800


# --- what an alert holds --------------------------------------------------------------------------------------

RUN = RunFacts(
    job="shop",
    run_id=17,
    repair=0,
    trigger="FILE_ARRIVAL",
    parameters={"month": "Oct"},
    queued_s=999.0,
    started_s=1000.0,
    ended_s=1003.2,
    result=Result.FAILED,
    error="silver: Catalog Error: no such column",
    files=("in/a.csv", "in/b.csv"),
    file_count=2,
    rows={"rows_in": 1204, "rows_loaded": 1190, "rows_rejected": 14, "rows_dropped": 0, "files_quarantined": 0},
    failed_tasks=("silver",),
)
TASK = TaskFacts("silver", 2, 3, failures=2, started_s=1001.0, error="boom", retry_at_s=1060.0, rows={"rows_in": 5})


def test_an_alert_of_a_failed_run_says_what_is_needed_to_repair_it():
    payload = alerts.alert(NotifyOn.FAILURE, job="shop", now_s=1003.2, run=RUN)
    assert payload["event_type"] == "jobs.on_failure"
    assert payload["job"] == {"name": "shop"}
    assert payload["run"]["run_id"] == 17
    assert payload["run"]["result"] == "FAILED"
    assert payload["run"]["duration_ms"] == 3200
    assert payload["run"]["queue_ms"] == 1000
    assert payload["files"] == {"count": 2, "names": ["in/a.csv", "in/b.csv"]}
    assert payload["rows"]["rows_rejected"] == 14
    assert payload["error"] == "silver: Catalog Error: no such column"
    assert payload["repair_command"] == "landingd repair 17"
    assert payload["show_command"] == "landingd show 17"


def test_an_attempt_that_will_be_tried_again_names_the_time_and_no_repair():
    payload = alerts.alert(NotifyOn.FAILURE, job="shop", now_s=1003.0, run=RUN, task=TASK)
    assert payload["task"] == {
        "task_key": "silver",
        "attempt": 2,
        "max_retries": 3,
        "failures": 2,
        "result": None,
        "started_at": "1970-01-01T00:16:41.000Z",
        "duration_ms": 2000,
    }
    assert payload["error"] == "boom"
    assert payload["next_retry_at"] == "1970-01-01T00:17:40.000Z"
    assert payload["repair_command"] is None


def test_a_skipped_run_has_nothing_to_repair():
    skipped = RunFacts("shop", 18, 0, "PERIODIC", {}, 5.0, None, result=Result.MAXIMUM_CONCURRENT_RUNS_REACHED)
    payload = alerts.alert(NotifyOn.FAILURE, job="shop", now_s=5.0, run=skipped)
    assert payload["repair_command"] is None
    assert "was skipped" in wording.subject(payload, node="box")


def test_a_success_with_failures_says_how_to_repair_them():
    well = replace(RUN, result=Result.SUCCESS_WITH_FAILURES)
    payload = alerts.alert(NotifyOn.SUCCESS, job="shop", now_s=1003.0, run=well)
    assert payload["repair_command"] == "landingd repair 17"
    assert "landingd repair 17" in wording.text(payload, node="box")
    of_task = alerts.alert(NotifyOn.SUCCESS, job="shop", now_s=1003.0, run=well, task=TASK)
    assert of_task["repair_command"] is None


def test_what_starts_has_not_taken_any_time_yet():
    payload = alerts.alert(NotifyOn.START, job="shop", now_s=1003.0, run=RUN)
    assert "took:" not in wording.text(payload, node="box")
    assert "took:" in wording.text(alerts.alert(NotifyOn.SUCCESS, job="shop", now_s=1003.0, run=RUN), node="box")


def test_the_same_happening_has_the_same_event_id_and_another_has_another():
    def event_id(event=NotifyOn.FAILURE, run=RUN, **more):
        return alerts.alert(event, job="shop", now_s=1003.0, run=run, **more)["event_id"]

    assert event_id() == event_id()
    health = HealthFacts("RUN_DURATION_SECONDS", 1.0, 2.0, 3.0, told="once")
    different = [event_id(), event_id(NotifyOn.SUCCESS), event_id(task=TASK), event_id(health=health)]
    assert len(set(different)) == len(different)


@given(
    error=st.text(max_size=20_000) | st.none(),
    parameters=st.dictionaries(st.text(max_size=50), st.text(max_size=3000), max_size=5),
    names=st.lists(st.text(max_size=2000), max_size=25),
)
def test_an_alert_is_json_of_bounded_size_and_can_always_be_put_into_words(error, parameters, names):
    run = RunFacts("shop", 1, 0, "ONE_TIME", parameters, 1.0, 2.0, 3.0, Result.FAILED, error, tuple(names), len(names))
    payload = alerts.alert(NotifyOn.FAILURE, job="shop", now_s=3.0, run=run)
    written = json.dumps(payload, ensure_ascii=False)
    most = alerts.ERROR_CHARS_MAX + alerts.VALUE_CHARS_MAX * (alerts.FILES_NAMED_MAX + 2 * len(parameters))
    assert len(written) < 6 * (most + 2000)
    subject, text = wording.subject(payload, node="box"), wording.text(payload, node="box")
    assert len(subject) <= wording.SUBJECT_CHARS_MAX
    assert len(subject.splitlines()) == 1
    assert "landingd repair 1" in text


# --- words ----------------------------------------------------------------------------------------------------


def test_a_mail_reads_like_something_to_act_on():
    payload = alerts.alert(NotifyOn.FAILURE, job="shop", now_s=1003.2, run=RUN)
    assert wording.subject(payload, node="box") == "[landingd box] shop: run 17 failed"
    assert wording.text(payload, node="box") == (
        "shop: run 17 failed.\n"
        "\n"
        "failed:      silver\n"
        "error:       silver: Catalog Error: no such column\n"
        "took:        3.2 s\n"
        "queued for:  1 s\n"
        "trigger:     FILE_ARRIVAL\n"
        "files:       2: in/a.csv, in/b.csv\n"
        "rows:        1,204 in, 1,190 loaded, 14 rejected\n"
        "parameters:  month=Oct\n"
        "time:        1970-01-01T00:16:43.200Z on box\n"
        "\n"
        "To run again what failed, and what comes after it:  landingd repair 17\n"
        "To see more:  landingd show 17\n"
    )


@pytest.mark.parametrize(
    ("event", "more", "subject"),
    [
        (NotifyOn.START, {"run": RUN}, "shop: run 17 has started"),
        (NotifyOn.START, {"run": RUN, "task": TASK}, "shop: task silver of run 17 has started"),
        (
            NotifyOn.FAILURE,
            {"run": RUN, "task": TASK},
            "shop: task silver of run 17 failed, and will be tried again",
        ),
        (
            NotifyOn.DURATION_WARNING,
            {
                "run": replace(RUN, ended_s=None),
                "health": HealthFacts("RUN_DURATION_SECONDS", 600, 615, 1.0, "x"),
            },
            "shop: run 17 takes longer than 10 min (so far 10 min 15 s)",
        ),
        (
            NotifyOn.DURATION_WARNING,
            {"run": RUN, "health": HealthFacts("RUN_DURATION_SECONDS", 600, 603, 1.0, "x")},
            "shop: run 17 took longer than 10 min (10 min 3 s)",
        ),
        (
            NotifyOn.STREAMING_BACKLOG,
            {"health": HealthFacts("STREAMING_BACKLOG_FILES", 1000, 1204.4, 1.0, "x")},
            "shop: 1,204 files wait, on average over 10 minutes (more than 1,000)",
        ),
        (
            NotifyOn.NO_SUCCESS,
            {"health": HealthFacts("NO_SUCCESS_WITHIN_SECONDS", 86400, 93600, 1.0, "x")},
            "shop: no run has succeeded for 1 d 2 h (longer than 1 d)",
        ),
    ],
)
def test_the_subject_says_what_happened(event, more, subject):
    payload = alerts.alert(event, job="shop", now_s=1003.2, **more)
    assert wording.subject(payload, node="box") == f"[landingd box] {subject}"


def test_everything_that_can_be_told_can_be_put_into_words():
    runs = [RunFacts("shop", 1, repair, "ONE_TIME", {}, 1.0, 2.0, 3.0, r) for r in [None, *Result] for repair in (0, 2)]
    healths = [None, *(HealthFacts(metric.value, 1.0, 2.0, 3.0, "x") for metric in HealthMetric)]
    for event, run, one, health in itertools.product(NotifyOn, runs, (None, TASK), healths):
        payload = alerts.alert(event, job="shop", now_s=9.0, run=run, task=one, health=health)
        assert wording.subject(payload, node="n")
        assert wording.text(payload, node="n").endswith("\n")
    assert "test" in wording.subject(alerts.trial(now_s=1.0), node="n")
    assert "landingd status" in wording.text(alerts.trial(now_s=1.0), node="n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.31, "310 ms"),
        (0.9999, "1 s"),
        (1.31, "1.3 s"),
        (9, "9 s"),
        (12.4, "12 s"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (11100, "3 h 5 min"),
    ],
)
def test_durations_are_for_people(seconds, words):
    assert wording.duration(seconds) == words
