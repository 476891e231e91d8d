"""Lists for people: what waits, what fired, what was asked for; nothing of an answer is read as markup."""

from io import StringIO

import pytest
from rich.console import Console

from landingd.cli import printing, render, render_runs, render_triggers

AT = "2026-11-21T08:00:00.000Z"


@pytest.fixture
def shown(monkeypatch):
    """What was printed, on a terminal of 100 columns."""
    out = StringIO()
    monkeypatch.setattr(printing, "console", lambda: Console(file=out, width=100, highlight=False))
    return out.getvalue


def trigger(name="schedule", *history, **more):
    said = {"trigger": name, "kind": "schedule", "says": "cron 0 2 * * *, UTC", "paused": False, "paused_because": None}
    said |= {"next_fire_time": AT, "failures": 0, "retry_at": None, "last_triggered": None, "history": list(history)}
    return said | more


def entry(outcome, why, at=AT, times=1, run_id=None):
    return {"outcome": outcome, "description": why, "run_id": run_id, "first_at": at, "last_at": at, "times": times}


def test_what_came_of_triggers_is_told_newest_first_with_the_reason(shown):
    old = entry("TRIGGERED", "at 2 o'clock", at="2026-11-20T02:00:00.000Z", run_id=12)
    new = entry("NOT_TRIGGERED", "no [new] files", times=17_231)
    answer = {"job": "shop", "paused": False, "paused_because": None, "triggers": [trigger("schedule", old, new)]}
    render_triggers.triggers(answer)
    text = shown()
    assert text.index("NOT_TRIGGERED") < text.index("2026-11-20 02:00:00")
    assert all(
        word in text for word in ("cron 0 2 * * *, UTC", "no [new] files", "17,231", "12", "2026-11-21 08:00:00")
    )


def test_a_pause_is_told_with_who_paused(shown):
    paused = trigger(paused=True, paused_because="the trigger is paused, on request", next_fire_time=None)
    failing = trigger("continuous", failures=3, retry_at=AT, next_fire_time=None)
    job = {"job": "shop", "paused": False, "paused_because": None, "triggers": [paused, failing]}
    render_triggers.triggers(job)
    text = shown()
    assert "schedule: the trigger is paused, on request" in text
    assert "continuous: 3 failed runs in a row" in text
    assert "not before 2026-11-21" in text


def test_a_job_without_triggers_says_what_starts_it(shown):
    render_triggers.triggers({"job": "shop", "paused": False, "paused_because": None, "triggers": []})
    assert "no triggers" in shown()


def test_alerts_that_wait_say_why(shown):
    render_triggers.alerts(
        [
            {
                "event_type": "jobs.on_failure", "job": "shop", "run_id": 7, "task_key": "gold", "destination": "a@b.c",
                "created_at": AT, "tries": 3, "next_try_at": AT, "error": "[Errno 111] Connection refused",
            }
        ]
    )  # fmt: skip
    text = " ".join(shown().split())
    assert all(word in text for word in ("jobs.on_failure", "shop run 7 gold", "a@b.c", "[Errno 111]"))


def test_nothing_waits(shown):
    render_triggers.alerts([])
    render_runs.queue([])
    assert shown() == "nothing waits to be sent\nnothing waits\n"


def test_of_a_long_backfill_the_first_and_the_last_value_are_shown(shown):
    runs = [{"value": str(n), "run_id": None, "state": None, "result": None, "known": n < 3} for n in range(100)]
    render_triggers.backfill(
        {"backfill_id": "b", "job": "shop", "parameter": "n", "dry_run": True, "repaired": [], "runs": runs}
    )
    lines = shown().splitlines()
    assert lines[0] == "backfill b of shop: n would be 100 runs, 3 of them asked for before"
    assert [line.strip() for line in lines[-2:]] == ["… 80 more", "99"]


def test_a_backfill_with_failures_says_how_to_go_on(shown):
    render_triggers.backfill_state(
        {
            "backfill_id": "b", "job": "shop", "parameter": "day", "from": "2026-10-01", "to": "2026-10-31",
            "step": "1d", "parameters": {"x": "1"}, "runs": {"SUCCESS": 30, "FAILED": 1},
            "failed": [{"value": "2026-10-07", "run_id": 8, "result": "FAILED", "error": "no\nmore"}],
        }
    )  # fmt: skip
    text = shown()
    assert "30 SUCCESS, 1 FAILED" in text
    assert "2026-10-07 (run 8)" in text
    again = (
        "landingd backfill shop --param day --from 2026-10-01 --to 2026-10-31 --every 1d -p x=1 --id b --rerun-failed"
    )
    assert again in text


def test_a_job_shows_whether_it_is_paused_and_when_it_runs_next(shown):
    job = {"job": "shop", "triggers": ["schedule"], "paused": True, "state": "IDLE", "queued_runs": 2, "last_run": 5}
    render.jobs([job | {"last_result": "FAILED", "last_ended_at": AT, "next_fire_time": None}])
    assert all(word in shown() for word in ("paused", "idle", "FAILED", "2026-11-21 08:00:00"))


@pytest.mark.parametrize(
    ("took_ms", "text"),
    [
        (None, ""), (0.4, "0.4 ms"), (999.0, "999.0 ms"), (1500.0, "1.50 s"), (61_000.0, "61.0 s"),
        (200_000.0, "3 min 20 s"), (7_500_000.0, "2 h 05 min"), (400_000_000.0, "4 d 15 h"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_the_units_that_matter(took_ms, text):
    assert printing.took(took_ms) == text
