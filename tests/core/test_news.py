import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import news
from landingd.model import ExpectationCount, FileLoad, Result, Stats, TaskState

RUN = {
    "job": "shop",
    "run_id": 7,
    "repair": 0,
    "queued_s": 1000.0,
    "started_s": 1000.5,
    "now_s": 1003.0,
    "trigger": "FILE_ARRIVAL",
    "parameters": {"month": "Oct"},
    "files": ["shop/a.csv"],
    "file_count": 1,
}
TASK = {
    "job": "shop",
    "run_id": 7,
    "repair": 0,
    "queued_s": 1000.0,
    "task_key": "bronze",
    "attempt": 1,
    "state": TaskState.TERMINATED,
    "result": Result.SUCCESS,
    "error": None,
    "stats": Stats(rows_in=3, rows_out=2, rows_rejected=1, how="load 1 file"),
    "started_s": 1000.5,
    "now_s": 1001.0,
}
FILE = {"job": "shop", "name": "shop/a.csv", "file_id": 5, "content_hash": "ab", "now_s": 1000.0}


def run_event(event="queued", **more):
    return news.run_event(event, **(RUN | more))


def task_event(**more):
    return news.task_event(**(TASK | more))


def file_event(event="landed", **more):
    return news.file_event(event, **(FILE | more))


def event_id(told):
    return told[1]["event_id"]


@given(st.lists(st.one_of(st.integers(), st.text(), st.none()), max_size=4))
def test_an_id_is_made_from_what_happened_and_not_drawn(what):
    assert news.event_id(*what) == news.event_id(*what)
    assert len(news.event_id(*what)) == 32


def test_neighbours_in_an_id_do_not_run_together():
    assert news.event_id("a", "bc") != news.event_id("ab", "c")


@pytest.mark.parametrize(
    ("told", "again"),
    [
        (run_event("finished", result=Result.SUCCESS), run_event("finished", result=Result.SUCCESS, now_s=9999.0)),
        (task_event(), task_event(now_s=9999.0, started_s=None)),
        (file_event(), file_event(now_s=9999.0)),
    ],
    ids=["run", "task", "file"],
)
def test_the_same_happening_told_later_has_the_same_id(told, again):
    assert event_id(told) == event_id(again)
    assert told[1]["time"] != again[1]["time"]


@pytest.mark.parametrize(
    "others",
    [
        [
            run_event(),
            run_event("started"),
            run_event("finished"),
            run_event(repair=1),
            run_event(run_id=8),
            run_event(job="other"),
            run_event(queued_s=2000.0),
        ],
        [
            task_event(),
            task_event(attempt=2),
            task_event(task_key="silver"),
            task_event(repair=1),
            task_event(run_id=8),
            task_event(job="other"),
            task_event(state=TaskState.WAITING_FOR_RETRY, result=None),
            task_event(result=Result.UPSTREAM_FAILED),
        ],
        [
            file_event(),
            file_event("loaded", task_key="bronze"),
            file_event("loaded", task_key="other"),
            file_event("duplicate", occurrence=1),
            file_event("duplicate", occurrence=2),
            file_event(content_hash="cd"),
            file_event(file_id=6),
            file_event(job="other"),
        ],
    ],
    ids=["run", "task", "file"],
)
def test_two_happenings_never_share_an_id(others):
    assert len({event_id(told) for told in others}) == len(others)


def test_topics_name_the_run_and_the_task():
    assert run_event()[0] == "jobs/shop/runs/7"
    assert task_event()[0] == "jobs/shop/runs/7/tasks/bronze"
    assert file_event()[0] == "files"


def test_the_end_of_a_run_says_how_long_it_took_and_how_long_it_waited():
    _, payload = run_event("finished", result=Result.FAILED, error="bronze: x", rows={"rows_in": 3})
    told = {key: payload[key] for key in ("result", "error", "duration_ms", "queue_ms", "rows_in", "ended_at")}
    assert told == {
        "result": "FAILED",
        "error": "bronze: x",
        "duration_ms": 2500.0,
        "queue_ms": 500.0,
        "rows_in": 3,
        "ended_at": "1970-01-01T00:16:43.000Z",
    }


def test_only_the_end_of_a_run_has_a_result():
    assert "result" not in run_event("queued")[1]
    assert "result" not in run_event("started")[1]


def test_a_run_names_a_bounded_number_of_files_and_counts_them_all():
    many = [f"{n}.csv" for n in range(5000)]
    _, payload = run_event(files=many, file_count=len(many))
    assert payload["files"] == many[: news.FILES_NAMED_MAX]
    assert payload["file_count"] == 5000


def test_an_attempt_that_will_be_tried_again_says_when():
    _, payload = task_event(
        state=TaskState.WAITING_FOR_RETRY, result=None, stats=None, error="disk full", retry_at_s=1030.0
    )
    told = (payload["event"], payload["retry_at"], payload["result"], payload["error"])
    assert told == ("task_will_retry", "1970-01-01T00:17:10.000Z", None, "disk full")
    assert "rows_in" not in payload


def test_a_task_that_ended_says_what_it_did():
    _, payload = task_event()
    told = {key: payload[key] for key in ("event", "rows_in", "rows_out", "rows_rejected", "how", "duration_ms")}
    assert told == {
        "event": "task_finished",
        "rows_in": 3,
        "rows_out": 2,
        "rows_rejected": 1,
        "how": "load 1 file",
        "duration_ms": 500.0,
    }


def test_a_task_that_never_began_has_no_duration():
    skipped = task_event(result=Result.UPSTREAM_FAILED, started_s=None, stats=None)
    assert skipped[1]["duration_ms"] is None


@pytest.mark.parametrize("told", [run_event("finished", result=Result.SUCCESS), task_event(), file_event()])
def test_payloads_are_json(told):
    assert json.loads(json.dumps(told[1])) == told[1]


def test_a_task_tells_how_its_rows_did_by_each_expectation_and_what_became_of_the_others():
    stats = Stats(
        files=(
            FileLoad(1, 5, 3, 1, 1, rows_rescued=2),
            FileLoad(2, 2, 0, 0, 2),
            FileLoad(3, quarantined="no header", rows_dropped=9),
        ),
        expectations=(ExpectationCount("named", "drop", 5, 3),),
    )
    payload = task_event(stats=stats)[1]
    assert (payload["rows_dropped"], payload["rows_rescued"]) == (3, 2)
    assert payload["expectations"] == [{"name": "named", "on_violation": "drop", "passed": 5, "failed": 3}]


def test_the_census_names_the_first_discrepancies_and_counts_all():
    counted = {"adds_up": False, "discrepancy_count": 30, "discrepancies": [{"file": str(n)} for n in range(30)]}
    told = news.census(counted)
    assert [one["file"] for one in told["discrepancies"]] == [str(n) for n in range(20)]
    assert (told["discrepancy_count"], len(counted["discrepancies"])) == (30, 30)
