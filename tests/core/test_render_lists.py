"""Lists for people: what waits, what fired, what was asked for; nothing of an answer is read as markup."""

from io import StringIO

import pytest
from rich.console import Console

from landingd.cli import printing, render, render_files, render_runs, render_triggers

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
    return said | {"is_over": False} | more


def told(triggers, files=None):
    return {"job": "shop", "paused": False, "paused_because": None, "triggers": triggers, "files": files}


def entry(outcome, why, at=AT, times=1, run_id=None):
    return {"outcome": outcome, "description": why, "run_id": run_id, "first_at": at, "last_at": at, "times": times}


def test_what_came_of_triggers_is_told_newest_first_with_the_reason(shown):
    old = entry("TRIGGERED", "at 2 o'clock", at="2026-11-20T02:00:00.000Z", run_id=12)
    new = entry("NOT_TRIGGERED", "no [new] files", times=17_231)
    answer = told([trigger("schedule", old, new)])
    render_triggers.triggers(answer)
    text = shown()
    assert text.index("NOT_TRIGGERED") < text.index("2026-11-20 02:00:00")
    assert all(
        word in text for word in ("cron 0 2 * * *, UTC", "no [new] files", "17,231", "12", "2026-11-21 08:00:00")
    )


def test_a_pause_is_told_with_who_paused(shown):
    paused = trigger(paused=True, paused_because="the trigger is paused, on request", next_fire_time=None)
    failing = trigger("continuous", failures=3, retry_at="2999-11-21T08:00:00.000Z", next_fire_time=None)
    again = trigger("continuous-2", failures=1, retry_at=AT, next_fire_time=None)
    job = told([paused, failing, again])
    render_triggers.triggers(job)
    text = shown()
    assert "schedule: the trigger is paused, on request" in text
    assert "continuous: 3 failed runs in a row" in text
    assert "continuous-2: 1 failed run in a row" in text
    assert "not before 2999-11-21" in text
    assert "2026-11-21" not in text


def test_a_schedule_without_another_time_says_that_it_never_fires_again(shown):
    over = trigger(next_fire_time=None, is_over=True)
    render_triggers.triggers(told([over]))
    assert "never again" in shown()


def test_of_a_reason_with_several_lines_the_first_is_shown(shown):
    failed = entry("FAILED", "Catalog Error: no table\n\nLINE 1: SELECT 1 FROM x")
    answer = told([trigger("schedule", failed)])
    render_triggers.triggers(answer)
    text = shown()
    assert "Catalog Error: no table" in text
    assert "LINE 1" not in text


def test_files_that_start_no_run_are_told_with_the_reason(shown):
    open_ = {"file": "in/open.csv", "state": "waiting", "reason": "open for writing", "seen_at": AT}
    again = {"file": "in/again.csv", "state": "duplicate", "reason": "the same bytes as file 2", "seen_at": AT}
    files = {"incomplete": 2, "oldest_incomplete": open_, "last_not_taken": again}
    answer = told([trigger()], files=files)
    render_triggers.triggers(answer)
    text = " ".join(shown().split())
    assert "2 files are not complete yet; for" in text
    assert "in/open.csv: open for writing" in text
    assert (
        "last file that started no run, 2026-11-21 08:00:00: in/again.csv: duplicate: the same bytes as file 2" in text
    )
    render_triggers.triggers(answer | {"files": files | {"oldest_incomplete": None, "last_not_taken": None}})
    assert shown().count("landingd why") == 1


def test_a_job_without_triggers_says_what_starts_it(shown):
    render_triggers.triggers({"job": "shop", "paused": False, "paused_because": None, "triggers": []})
    assert "no triggers" in shown()


def test_alerts_that_wait_say_why(shown):
    one = {
        "seq": 1, "event_type": "jobs.on_failure", "job": "shop", "run_id": 7, "task_key": "gold", "channel": "email",
        "destination": "a@b.c", "created_at": AT, "tries": 3, "next_try_at": AT, "error": "[Errno 111] refused",
    }  # fmt: skip
    behind = one | {"seq": 2, "run_id": 8, "tries": 0, "error": None}
    render_triggers.alerts([one, behind, behind | {"seq": 3, "destination": "d@e.f"}])
    text = " ".join(shown().split())
    assert all(word in text for word in ("jobs.on_failure", "shop run 7 gold", "a@b.c", "[Errno", "111]"))
    assert text.count("comes after") == 1


def test_of_a_growing_file_each_generation_says_how_far_it_is_read(shown):
    one = {"generation": 1, "job": "stream", "state": "finished", "is_on_disk": False, "offset": 78_925}
    one |= {"segments": {"loaded": 2, "waiting": 1}, "rows_loaded": 2001, "began_at": AT}
    file = {"file": "in/a.log", "on_disk": True, "size": 5, "ignored": None, "jobs": ["stream"], "versions": []}
    render_files.why(file | {"tails": [one, one | {"generation": 2, "segments": {}}]})
    text = " ".join(shown().split())
    assert (
        "generation 1 for job stream: finished, read to byte 78,925 "
        "(segments: 2 loaded, 1 waiting; 2,001 rows loaded), since 2026-11-21 08:00:00" in text
    )
    assert "generation 2 for job stream" in text
    assert "not on disk any more" in text


def narrow(width, *, error="", started=AT):
    table = printing.table("run>", "job", "trigger", "started (UTC)", "error")
    table.add_row("1,234", "sales", "ONE_TIME", printing.at(started), error)
    out = StringIO()
    Console(file=out, width=width).print(printing.fitted(table, width, "trigger", "started (UTC)"))
    return out.getvalue().splitlines()


def test_of_a_table_that_does_not_fit_what_matters_least_is_left_out_and_no_name_is_cut_up():
    assert narrow(200)[0].split() == ["run", "job", "trigger", "started", "(UTC)", "error"]
    assert narrow(60, error="e" * 100)[0].split() == ["run", "job", "started", "(UTC)", "error"]
    lines = narrow(35, error="a b c d e f g h " * 5)
    assert lines[0].split() == ["run", "job", "error"]
    assert lines[1].startswith("1,234  sales  a b c")
    assert all(line.startswith(" " * 14) and len(line) <= 35 for line in lines[2:])


def test_a_column_that_holds_nothing_is_the_first_to_go():
    assert narrow(40, started=None)[0].split() == ["run", "job", "trigger", "error"]


def answer_of(*tasks, **more):
    run = {"run_id": 7, "job": "shop", "trigger": "ONE_TIME", "trigger_name": None, "state": "TERMINATED"}
    run |= {"result": "FAILED", "error": None, "parameters": {}, "only": None, "parent": None, "repairs": 0}
    run |= {"file_count": 0, "duration_ms": 5.0, "files": [], "repair_history": [], "tasks": list(tasks)}
    run |= {"rows": dict.fromkeys(("rows_in", "rows_loaded", "rows_rejected", "rows_dropped", "rows_rescued"), 0)}
    return run | {"timings": [{"step": "run started", "since_landed_ms": 0.0}]} | more


def task_of(key, *outcomes, error=None, **more):
    attempts = [
        {
            "attempt": number, "repair": 0, "outcome": outcome, "started_at": AT, "ended_at": AT, "duration_ms": 1.0,
            "worked_ms": None, "rows_in": None, "rows_out": None, "rows_rejected": None, "how": None,
        }
        for number, outcome in enumerate(outcomes, 1)
    ]  # fmt: skip
    task = {"task_key": key, "parent": None, "input": None, "state": "TERMINATED", "result": "FAILED", "output": None}
    task |= {"iterations": None, "retry_at": None, "run_if": "ALL_SUCCESS", "expectations": [], "depends_on": []}
    return task | {"attempts": attempts, "error": error} | more


def test_a_value_of_a_parameter_is_cut_and_a_run_without_steps_tells_none(shown):
    render_runs.run(answer_of(task_of("a"), parameters={"inputs": "7" * 5000}))
    text = shown()
    assert "inputs=777" in text
    assert len(text) < 600
    assert "run started" not in text


def test_inputs_and_values_are_shown_as_json(shown):
    inner = task_of("each[0]", "failed", parent="each", input={"m": None})
    loop = task_of("each", "expanded", iterations={"total": 1, "succeeded": 0, "failed": 1, "active": 0})
    after = task_of("b", "committed", output={"values": {"found": [True, "ü"]}})
    render_runs.run(answer_of(loop, inner, after))
    text = shown()
    assert 'input {"m": null}' in text
    assert 'found=[true, "ü"]' in text
    assert "1 iteration, 1 failed" in text


def test_of_a_task_that_was_tried_again_and_again_the_first_and_the_last_attempts_are_shown(shown):
    render_runs.run(answer_of(task_of("a", *["failed"] * 1000), task_of("b", *["failed"] * 7)))
    lines = shown().splitlines()
    assert sum(line.split()[-3:-2] == ["failed"] or " failed " in line for line in lines) < 15
    assert any("994 more" in line for line in lines)
    assert any(line.split()[:2] == ["1000", "FAILED"] for line in lines)
    assert sum("FAILED" in line for line in lines) == 3


def test_every_attempt_is_shown_on_request(shown):
    render_runs.run(answer_of(task_of("a", *["failed"] * 50)), every=True)
    text = shown()
    assert "more" not in text
    assert sum(" failed " in line and line.endswith("ms     ") for line in text.splitlines()) == 49


def test_what_several_tasks_say_is_said_once(shown):
    tasks = [task_of(f"t{n}", error="canceled on request") for n in range(12)]
    render_runs.run(answer_of(*tasks, task_of("a", error="no")))
    text = " ".join(shown().split())
    assert "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more: canceled on request" in text
    assert text.count("canceled on request") == 1
    assert "a: no" in text


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
