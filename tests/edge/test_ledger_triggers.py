"""What the ledger keeps of triggers, as a real SQLite file."""

from contextlib import closing
from dataclasses import replace

import pytest

from landingd.edge.ledger import LedgerThread, TableVersion, TriggerRow, views
from landingd.edge.ledger.triggers import HISTORY_KEPT
from landingd.model import (
    Arrival,
    CompletionStatus,
    ConditionMode,
    Continuous,
    CronSyntax,
    Facts,
    FileArrival,
    JobCompletion,
    Misfire,
    Periodic,
    Place,
    Result,
    RunRequest,
    Schedule,
    Signature,
    SqlCondition,
    TableUpdate,
    Trigger,
    TriggerOutcome,
    TriggerType,
)

TRIGGERED, NOT, FAILED, SKIPPED = TriggerOutcome


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    thread = LedgerThread(path)
    yield thread
    thread.close()


def asked(path, *definitions, **more):
    with closing(views.open_views(path)) as db:
        return views.triggers(db, "shop", definitions, **more)


def history(path, name="schedule"):
    (found,) = asked(path, Trigger(Periodic(60), name), limit=5000)["triggers"]
    return [(one["outcome"], one["description"], one["run_id"], one["times"]) for one in found["history"]]


def begun(verbs, name="schedule", definition="d", now_s=10.0, **more):
    return verbs.begin_trigger("shop", name, definition, now_s=now_s, **{"state": {}, "next_fire_s": None, **more})


# --- what a trigger remembers -------------------------------------------------------------------------------


async def test_a_trigger_remembers_what_it_has_dealt_with(ledger):
    def verbs(v):
        assert begun(v, state={"a": 1}, next_fire_s=20.0) == v.trigger_row("shop", "schedule")
        v.move_trigger("shop", "schedule", last_fired_s=20.0, next_fire_s=30.0, state={"a": 2})
        return v.trigger_rows("shop")

    expected = TriggerRow("schedule", "d", since_s=10.0, last_fired_s=20.0, next_fire_s=30.0, state={"a": 2})
    assert await ledger.transact(verbs) == {"schedule": expected}


async def test_another_definition_starts_anew_but_stays_paused(ledger):
    def verbs(v):
        begun(v)
        v.move_trigger("shop", "schedule", last_fired_s=20.0, next_fire_s=30.0, state={"a": 2})
        v.set_backoff("shop", "schedule", failures=3, retry_at_s=40.0)
        v.set_paused("shop", "schedule", True)
        return begun(v, definition="e", now_s=50.0)

    assert await ledger.transact(verbs) == TriggerRow("schedule", "e", paused=True, since_s=50.0)


async def test_a_trigger_that_no_job_has_any_more_starts_anew_should_it_come_back_but_stays_paused(ledger):
    def verbs(v):
        begun(v)
        begun(v, "periodic")
        v.set_paused("shop", "periodic", True)
        v.forget_triggers([("shop", "schedule"), ("other", "periodic")])
        return v.trigger_rows("shop")

    rows = await ledger.transact(verbs)
    assert (rows["schedule"].definition, rows["periodic"].definition, rows["periodic"].paused) == ("d", "", True)


async def test_a_pause_outlives_the_process_and_may_come_before_the_trigger_is_known(path):
    for paused in (True, False, None):
        first = LedgerThread(path)
        await first.transact(lambda v, paused=paused: v.set_paused("shop", "", paused))
        first.close()
        second = LedgerThread(path)
        assert (await second.transact(lambda v: v.trigger_row("shop", ""))).paused is paused
        second.close()


# --- history ------------------------------------------------------------------------------------------------


async def test_the_same_answer_again_only_counts_up(ledger, path):
    def verbs(v):
        for now_s in (1.0, 2.0, 3.0):
            v.note_trigger("shop", "schedule", NOT, "waits", now_s=now_s)
        v.note_trigger("shop", "other", FAILED, "no such table", now_s=4.0)
        v.note_trigger("shop", "schedule", TRIGGERED, "due", now_s=5.0, run_id=7)
        v.note_trigger("shop", "schedule", TRIGGERED, "due", now_s=6.0, run_id=8)
        v.note_trigger("shop", "schedule", NOT, "waits", now_s=7.0)

    await ledger.transact(verbs)
    assert history(path) == [
        ("NOT_TRIGGERED", "waits", None, 1),
        ("TRIGGERED", "due", 8, 1),
        ("TRIGGERED", "due", 7, 1),
        ("NOT_TRIGGERED", "waits", None, 3),
    ]


async def test_the_history_of_a_trigger_is_bounded(ledger, path):
    def verbs(v):
        v.note_trigger("shop", "other", NOT, "waits", now_s=1.0)
        for number in range(HISTORY_KEPT + 5):
            v.note_trigger("shop", "schedule", TRIGGERED, "due", now_s=1.0, run_id=number)

    await ledger.transact(verbs)
    found = history(path)
    assert (len(found), found[0][2], found[-1][2]) == (HISTORY_KEPT, HISTORY_KEPT + 4, 5)
    assert len(history(path, "other")) == 1


# --- tables and runs ----------------------------------------------------------------------------------------


async def test_a_table_counts_its_changes_whatever_its_name_is_written_like(ledger):
    def verbs(v):
        v.bump_table("silver.Events", run_id=1, task_key="a", now_s=1.0)
        v.bump_table("silver.events", run_id=2, task_key="b", now_s=2.0)
        return v.table_versions(["SILVER.EVENTS", "gold.none"])

    assert await ledger.transact(verbs) == {"silver.events": TableVersion(2, 2.0, 2, "b")}


async def test_the_last_end_of_a_job_is_of_a_run_that_counts(ledger):
    def verbs(v):
        for key, result, ended_s in (("a", Result.SUCCESS, 5.0), ("b", Result.FAILED, 6.0)):
            run_id = v.add_run("shop", RunRequest(TriggerType.ONE_TIME, key), parameters={}, file_ids=(), now_s=1.0)
            v.start_run(run_id, now_s=2.0)
            v.end_run(run_id, result, error=None, now_s=ended_s)
        skipped = v.add_run("shop", RunRequest(TriggerType.ONE_TIME, "c"), parameters={}, file_ids=(), now_s=7.0)
        v.skip_run(skipped, Result.MAXIMUM_CONCURRENT_RUNS_REACHED, error="no room", now_s=7.0)
        ok = v.last_end("shop", {Result.SUCCESS}, 0.0)
        either = v.last_end("shop", set(Result), 0.0)
        return ok.run_id, either.run_id, v.last_end("shop", {Result.SUCCESS}, 5.5), v.last_end("x", set(Result), 0)

    assert await ledger.transact(verbs) == (1, 2, None, None)


async def test_a_file_last_changed_as_long_before_it_was_complete_as_it_had_to_be_quiet(ledger):
    signature = Signature(10, 1, 2, 3, 4)
    complete = Arrival("shop", b"in/a.csv", "a", signature, "moved into place", 100.0, 130.0, Facts(records=3))

    def newest_s(v, settled_s=10.0):
        return v.newest_arrival_s("shop", settled_s=settled_s)

    def verbs(v):
        found = [newest_s(v), v.newest_pending("shop")]
        file_id = v.add_version(complete)
        found += [newest_s(v), newest_s(v, 0.0), v.newest_pending("shop") == file_id]
        v.add_waiting("shop", b"in/b.csv", signature, reason="being written", now_s=125.0)
        return [*found, newest_s(v), v.newest_pending("shop") == file_id]

    assert await ledger.transact(verbs) == [None, None, 120.0, 130.0, True, 125.0, True]


# --- the answer ---------------------------------------------------------------------------------------------


async def test_the_answer_tells_what_each_trigger_says_and_said_last(ledger, path):
    def verbs(v):
        begun(v, next_fire_s=100.0)
        v.note_trigger("shop", "schedule", TRIGGERED, "scheduled for ...", now_s=5.0, run_id=7)
        v.note_trigger("shop", "schedule", NOT, "the condition's query returned no rows", now_s=6.0)

    await ledger.transact(verbs)
    on = Schedule("0 0 2 * * ?", CronSyntax.QUARTZ, "Europe/Paris")
    answer = asked(path, Trigger(on, "schedule"), Trigger(Periodic(5400), "periodic"))
    first, second = answer["triggers"]
    assert answer["paused"] is False
    assert first["says"] == "quartz 0 0 2 * * ?, Europe/Paris, misfire: run_once"
    assert first["next_fire_time"] == "1970-01-01T00:01:40.000Z"
    assert first["last_triggered"] == {
        "timestamp": "1970-01-01T00:00:05.000Z",
        "description": "scheduled for ...",
        "run_id": 7,
    }
    assert first["last_not_triggered"]["description"] == "the condition's query returned no rows"
    assert first["last_failed"] is None
    assert (second["since"], second["history"], second["next_fire_time"]) == (None, [], None)


async def test_a_pause_on_request_stands_above_the_job_file(ledger, path):
    await ledger.transact(lambda v: begun(v, next_fire_s=100.0))
    trigger, paused = Trigger(Periodic(60), "schedule"), Trigger(Periodic(60), "schedule", paused=True)

    def said(definition, **more):
        (found,) = asked(path, definition, **more)["triggers"]
        assert found["paused"] is (found["paused_because"] is not None) is (found["next_fire_time"] is None)
        return found["paused_because"]

    assert said(trigger) is None
    assert said(paused) == "the trigger is paused, by the job file"
    assert said(trigger, job_paused=True) == "the job is paused, by the job file"
    await ledger.transact(lambda v: v.set_paused("shop", "", False))
    assert said(trigger, job_paused=True) is None
    await ledger.transact(lambda v: v.set_paused("shop", "schedule", True))
    assert said(trigger) == "the trigger is paused, on request"


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        (Trigger(Periodic(7200)), "every 2 hours"),
        (Trigger(Periodic(86400)), "every 1 day"),
        (Trigger(Periodic(90)), "every 90 s"),
        (Trigger(FileArrival("in", min_time_between_triggers_s=60)), "files in in, 1 minute between runs"),
        (Trigger(Continuous()), "always on"),
        (Trigger(Continuous(FileArrival("in"))), "always on, files in in"),
        (Trigger(TableUpdate(("a.b", "a.c"))), "after an update of any of a.b, a.c"),
        (Trigger(TableUpdate(("a.b",), wait_after_last_change_s=0.5)), "after an update of a.b, after 0.5 s of quiet"),
        (Trigger(JobCompletion(("x",), CompletionStatus.DONE)), "after x ended with DONE"),
        (
            Trigger(
                Schedule("@daily", CronSyntax.UNIX, misfire=Misfire.SKIP),
                condition=SqlCondition("SELECT 1", ConditionMode.QUERY_RETURNS_ROWS, Place("job.yml", 1)),
            ),
            "unix @daily, UTC, misfire: skip, if its condition holds (QUERY_RETURNS_ROWS)",
        ),
    ],
)
async def test_a_trigger_is_said_in_words(ledger, path, trigger, says):
    await ledger.transact(lambda _: None)
    assert asked(path, trigger)["triggers"][0]["says"] == says


async def test_files_that_start_no_run_are_told_beside_the_triggers_that_bring_them(path, ledger):
    signature = Signature(10, 1, 2, 3, 4)

    def verbs(v):
        for name, now_s in ((b"in/open.csv", 5.0), (b"in/later.csv", 6.0)):
            v.add_waiting("shop", name, signature, reason="open for writing", now_s=now_s)
        v.add_waiting("other", b"in/x.csv", signature, reason="open for writing", now_s=5.0)
        arrival = Arrival("shop", b"in/a.csv", "a", signature, "moved", 100.0, 130.0, Facts())
        first, again = v.add_version(arrival), v.add_version(replace(arrival, path=b"in/b.csv", content_hash="b"))
        v.be_duplicate(again, of=first, reason="the same bytes")

    await ledger.transact(verbs)
    files = asked(path, Trigger(FileArrival("in"), "file_arrival"))["files"]
    assert (files["incomplete"], files["oldest_incomplete"]["file"]) == (2, "in/open.csv")
    assert files["last_not_taken"] == {
        "file": "in/b.csv", "state": "duplicate", "reason": "the same bytes", "seen_at": "1970-01-01T00:01:40.000Z"
    }  # fmt: skip
    assert asked(path, Trigger(Periodic(60), "periodic"))["files"] is None


async def test_a_time_trigger_without_another_time_is_over_unless_it_is_paused(path, ledger):
    await ledger.transact(lambda v: (begun(v), begun(v, "schedule-2", next_fire_s=20.0)))
    on = Schedule("0 0 2 * * ? 2020", CronSyntax.QUARTZ)
    told = asked(path, Trigger(on, "schedule"), Trigger(on, "schedule-2"), Trigger(on, "schedule-3"))["triggers"]
    assert [one["is_over"] for one in told] == [True, False, False]
    (paused,) = asked(path, Trigger(on, "schedule", paused=True))["triggers"]
    assert not paused["is_over"]
