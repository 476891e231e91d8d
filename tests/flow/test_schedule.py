"""Triggers that fire by the clock and by what other jobs did, on a real ledger; the clock is turned by hand."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from bookkeeping import Clock, UnkindLedger, arrival, bronze, looked_up, place
from landingd.edge.engine import EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread, views
from landingd.errors import EngineError, NotFoundError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.pausing import is_paused, let_through
from landingd.flow.schedule import Schedule
from landingd.model import (
    CompletionStatus,
    ConditionMode,
    Continuous,
    CronSyntax,
    FileArrival,
    Job,
    JobCompletion,
    Misfire,
    Periodic,
    Queue,
    Result,
    RunRequest,
    RunState,
    SqlCondition,
    TableUpdate,
    Trigger,
    TriggerType,
)
from landingd.model import Schedule as OnSchedule

START_S = datetime(2026, 3, 1, 1, 0, tzinfo=UTC).timestamp()
HOUR_S, DAY_S = 3600.0, 86400.0
AT_TWO = OnSchedule("0 0 2 * * ?", CronSyntax.QUARTZ)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


class Day:
    """A daemon's schedule and what it is about; it can die and come back."""

    def __init__(self, path):
        self.path = path
        self.clock = Clock(START_S)
        self.jobs = ()
        self.reads = {}
        self.woken = []
        self.queries = []
        self.answer = []
        self.start()

    def start(self):
        self.ledger = UnkindLedger(self.path)
        self.books = Books(self.ledger, self.clock)
        self.catalog = Catalog(self.jobs)
        self.schedule = Schedule(
            self.ledger,
            catalog=lambda: self.catalog,
            reads=lambda name: self.reads.get(name, ()),
            query=self.query,
            wake_job=self.woken.append,
            clock=self.clock,
        )

    def stop(self):
        self.ledger.close()

    def dies(self, *, for_s=0.0):
        self.stop()
        self.clock.pass_s(for_s)
        self.start()

    async def query(self, sql, limit):
        self.queries.append(sql)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer[:limit]

    async def has(self, *jobs):
        """These are the jobs from now on."""
        self.jobs = jobs
        self.catalog = Catalog(jobs)
        await self.schedule.look()

    async def after(self, seconds=0.0):
        self.clock.pass_s(seconds)
        await self.schedule.look()

    # -- what others do --

    async def run_of(self, name, result=Result.SUCCESS):
        """A run of a job from its beginning to its end."""

        def verbs(ledger):
            number = sum(1 for _ in ledger.open_runs()) + ledger._db.execute("SELECT count(*) FROM runs").fetchone()[0]
            request = RunRequest(TriggerType.ONE_TIME, f"request:{number}")
            run_id = ledger.add_run(name, request, parameters={}, file_ids=(), now_s=self.clock())
            ledger.start_run(run_id, now_s=self.clock())
            ledger.end_run(run_id, result, error=None, now_s=self.clock())
            return run_id

        return await self.ledger.transact(verbs)

    async def ends(self, result=Result.SUCCESS):
        """Every open run ends."""

        def verbs(ledger):
            for run in ledger.open_runs():
                ledger.start_run(run.run_id, now_s=self.clock())
                ledger.end_run(run.run_id, result, error=None, now_s=self.clock())

        await self.ledger.transact(verbs)

    async def changes(self, *tables):
        def verbs(ledger):
            for table in tables:
                ledger.bump_table(table, run_id=0, task_key="t", now_s=self.clock())

        await self.ledger.transact(verbs)

    # -- what came of it --

    def runs(self, name="daily"):
        return looked_up(
            self.path,
            "SELECT trigger_type, trigger_name, trigger_info ->> '$.time_s', state FROM runs "
            "WHERE job = ? AND trigger_name IS NOT NULL ORDER BY run_id",
            name,
        )

    def times(self, name="daily"):
        return [shown(time_s) for _, _, time_s, _ in self.runs(name)]

    def why(self, name="daily", trigger=0):
        """The newest entry of the trigger's history."""
        found = self.told(name)["triggers"][trigger]["history"]
        return (found[0]["outcome"], found[0]["description"]) if found else None

    def told(self, name="daily"):
        (job,) = (job for job in self.jobs if job.name == name)
        with closing(views.open_views(self.path)) as db:
            return views.triggers(db, name, job.triggers, job_paused=job.paused)


@pytest.fixture
def day(path):
    day = Day(path)
    yield day
    day.stop()


def job(*on, name="daily", **more):
    """Triggers may be given whole; those that are not are named as the job file's reader would."""
    keys = {}
    triggers = []
    for one in on:
        trigger = one if isinstance(one, Trigger) else Trigger(one)
        number = keys[trigger.kind] = keys.get(trigger.kind, 0) + 1
        key = trigger.kind.value + (f"-{number}" if number > 1 else "")
        triggers.append(Trigger(trigger.on, key, trigger.paused, trigger.condition))
    return Job(name, place(), (bronze(),), triggers=tuple(triggers), **more)


def at_two(misfire=Misfire.RUN_ONCE):
    return OnSchedule(AT_TWO.expression, AT_TWO.syntax, misfire=misfire)


def shown(time_s):
    return datetime.fromtimestamp(time_s, UTC).strftime("%m-%d %H:%M")


def gate(mode=ConditionMode.QUERY_RETURNS_ROWS):
    return SqlCondition("SELECT 1", mode, place())


# --- time ---------------------------------------------------------------------------------------------------


async def test_a_schedule_that_is_new_does_not_fire_for_the_past_and_then_once_a_time(day):
    await day.has(job(AT_TWO))
    assert day.runs() == []
    await day.after(HOUR_S)
    await day.after()
    await day.after(60)
    assert day.runs() == [("PERIODIC", "schedule", START_S + HOUR_S, "QUEUED")]
    assert day.woken == ["daily"]
    await day.after(DAY_S)
    assert day.times() == ["03-01 02:00", "03-02 02:00"]


@pytest.mark.parametrize("minutes", [1, 7, 59, 61, 600])
async def test_a_daemon_that_keeps_dying_makes_one_run_for_each_time(day, minutes):
    await day.has(job(OnSchedule("0 0 * * * ?", CronSyntax.QUARTZ, misfire=Misfire.CATCH_UP)))
    for _ in range(3):
        day.dies(for_s=minutes * 60)
        await asyncio.gather(day.schedule.look(), day.schedule.look())
    await day.after(3 * minutes * 60)
    await day.after()
    hours = [time_s for _, _, time_s, _ in day.runs()]
    assert hours == [START_S + HOUR_S * n for n in range(1, 6 * minutes // 60 + 1)]


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        (Misfire.RUN_ONCE, ["03-04 02:00"]),
        (Misfire.SKIP, []),
        (Misfire.CATCH_UP, ["03-01 02:00", "03-02 02:00", "03-03 02:00", "03-04 02:00"]),
    ],
)
async def test_after_days_of_downtime_the_policy_says_what_runs(day, misfire, expected):
    await day.has(job(at_two(misfire)))
    day.dies(for_s=3 * DAY_S + 2 * HOUR_S)
    await day.after()
    assert day.times() == expected
    await day.after()
    await day.after(DAY_S - HOUR_S)
    assert day.times() == [*expected, "03-05 02:00"]


async def test_what_was_passed_over_is_told(day):
    await day.has(job(at_two(Misfire.SKIP)))
    day.dies(for_s=DAY_S)
    await day.after()
    outcome, description = day.why()
    assert outcome == "NOT_TRIGGERED"
    assert "2026-03-01T02:00:00.000Z passed while nobody looked (misfire: skip)" in description


async def test_a_clock_that_is_set_back_repeats_no_run_and_stops_none(day):
    hourly = OnSchedule("0 0 * * * ?", CronSyntax.QUARTZ)
    await day.has(job(hourly))
    await day.after(3 * DAY_S)  # the clock was wrong
    await day.after(-3 * DAY_S)
    for _ in range(80):
        await day.after(HOUR_S)
    times = [time_s for _, _, time_s, _ in day.runs()]
    assert len(times) == len(set(times)) == 80
    assert all(b - a == HOUR_S for a, b in pairwise(sorted(times)))


async def test_a_changed_schedule_starts_anew_and_does_not_fire_for_the_past(day):
    await day.has(job(AT_TWO))
    day.dies(for_s=5 * HOUR_S)
    await day.has(job(OnSchedule("0 30 2 * * ?", CronSyntax.QUARTZ)))
    assert day.times() == []
    await day.after(DAY_S)
    assert day.times() == ["03-02 02:30"]


async def test_a_job_that_was_away_does_not_fire_for_the_time_that_it_was_away(day):
    await day.has(job(AT_TWO))
    await day.has()
    await day.after(10 * DAY_S)
    await day.has(job(AT_TWO))
    assert day.times() == []
    await day.after(2 * DAY_S)
    assert day.times() == ["03-12 02:00"]


async def test_a_periodic_trigger_fires_every_so_often_from_when_it_was_seen(day):
    await day.has(job(Periodic(600.0)))
    for _ in range(40):
        await day.after(60)
    assert day.times() == ["03-01 01:10", "03-01 01:20", "03-01 01:30", "03-01 01:40"]


async def test_any_of_several_triggers_starts_a_run(day):
    await day.has(job(AT_TWO, Periodic(5400.0), TableUpdate(("silver.a",))))
    await day.after(2 * HOUR_S)
    await day.changes("silver.a")
    await day.after()
    assert [name for _, name, _, _ in day.runs()] == ["schedule", "periodic", "table_update"]


async def test_where_there_is_no_room_the_trigger_says_that_it_was_skipped(day):
    await day.has(job(Periodic(600.0), queue=Queue(enabled=False)))
    await day.after(600)
    await day.after(600)
    assert [state for _, _, _, state in day.runs()] == ["QUEUED", "SKIPPED"]
    outcome, description = day.why()
    assert outcome == "SKIPPED"
    assert "there was no room: MAXIMUM_CONCURRENT_RUNS_REACHED" in description


async def test_catching_up_with_more_than_a_thousand_times_says_which_were_left_out(day):
    every_minute = OnSchedule("0 * * * * ?", CronSyntax.QUARTZ, misfire=Misfire.CATCH_UP)
    await day.has(job(every_minute, queue=Queue(max_length=5000)))
    day.dies(for_s=DAY_S)
    for _ in range(45):
        await day.after()
    assert len(day.runs()) == 1000
    assert day.times()[-1] == "03-02 01:00"
    first = min(looked_up(day.path, "SELECT seq, description FROM trigger_history"))[1]
    assert first.startswith("scheduled for 2026-03-01T08:21:00.000Z; times between 2026-03-01T01:00:00.000Z and")


# --- pauses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [None, "schedule"])
async def test_a_pause_outlives_the_daemon_and_what_went_by_meanwhile_is_not_made_up(day, trigger):
    await day.has(job(AT_TWO))
    assert (await day.schedule.pause("daily", trigger, True))["paused_triggers"] == ["schedule"]
    day.dies(for_s=2 * DAY_S)
    await day.after()
    assert day.times() == []
    assert day.told()["triggers"][0]["next_fire_time"] is None
    assert day.why() == (
        "NOT_TRIGGERED",
        f"the {'trigger' if trigger else 'job'} is paused, on request: its times go by",
    )
    await day.after(2 * DAY_S)
    assert (await day.schedule.pause("daily", trigger, False))["paused_triggers"] == []
    await day.after()
    assert day.times() == []
    assert day.told()["triggers"][0]["next_fire_time"] == "2026-03-05T02:00:00.000Z"
    await day.after(DAY_S)
    assert day.times() == ["03-05 02:00"]


async def test_a_resume_on_request_stands_above_the_job_file(day):
    await day.has(job(AT_TWO, paused=True))
    await day.after(DAY_S)
    assert day.times() == []
    await day.schedule.pause("daily", None, False)
    await day.after(DAY_S)
    assert day.times() == ["03-02 02:00"]


async def test_resuming_a_job_says_which_of_its_triggers_are_still_paused(day):
    await day.has(job(AT_TWO, Trigger(Periodic(60), paused=True)))
    await day.schedule.pause("daily", "schedule", True)
    assert (await day.schedule.pause("daily", None, False))["paused_triggers"] == ["schedule", "periodic"]
    assert (await day.schedule.pause("daily", "periodic", False))["paused_triggers"] == ["schedule"]


async def test_times_that_a_job_file_paused_while_the_daemon_did_not_run_are_not_made_up(day):
    await day.has(job(at_two(Misfire.CATCH_UP), paused=True))
    day.dies(for_s=3 * DAY_S)
    await day.has(job(at_two(Misfire.CATCH_UP)))
    await day.after()
    assert day.times() == []
    await day.after(DAY_S)
    assert day.times() == ["03-04 02:00"]


async def test_tables_that_changed_during_a_pause_start_a_run_after_it(day):
    await day.has(job(TableUpdate(("silver.a",))))
    await day.schedule.pause("daily", None, True)
    await day.changes("silver.a")
    await day.after()
    assert (day.runs(), day.why()) == ([], ("NOT_TRIGGERED", "the job is paused, on request"))
    await day.schedule.pause("daily", None, False)
    await day.after()
    assert len(day.runs()) == 1


async def test_files_ask_whether_their_trigger_is_paused(day):
    files = job(FileArrival("in"), FileArrival("other"), name="files")
    await day.has(files)
    await day.schedule.pause("files", "file_arrival-2", True)
    paused = await day.ledger.transact(lambda v: [is_paused(v, files, trigger) for trigger in files.triggers])
    assert paused == [False, True]
    assert day.woken == ["files"]


async def test_a_pause_stays_with_what_the_trigger_says_when_others_are_put_before_it_or_taken_away(day):
    at = [OnSchedule(f"0 0 {hour} * * ?", CronSyntax.QUARTZ) for hour in range(1, 5)]
    await day.has(job(at[1], at[2], at[3]))
    await day.schedule.pause("daily", "schedule-2", True)  # the one at three
    day.dies()
    await day.has(job(*at))
    paused = {one["says"][11:12]: one["paused"] for one in day.told()["triggers"]}
    assert paused == {"1": False, "2": False, "3": True, "4": False}
    assert [entry["description"] for entry in day.told()["triggers"][2]["history"]][-1] == "paused on request"
    await day.after(DAY_S)
    assert sorted(day.times()) == ["03-01 02:00", "03-01 04:00", "03-02 01:00"]
    await day.has(job(at[2], at[0]))
    assert [one["paused"] for one in day.told()["triggers"]] == [True, False]


async def test_a_pause_right_after_the_jobs_were_read_anew_is_of_the_trigger_that_has_the_name_now(day):
    at = [OnSchedule(f"0 0 {hour} * * ?", CronSyntax.QUARTZ) for hour in range(1, 4)]
    await day.has(job(at[1], at[2]))
    await day.schedule.pause("daily", "schedule-2", True)  # the one at three
    day.jobs = (job(*at),)
    day.catalog = Catalog(day.jobs)
    await day.schedule.pause("daily", "schedule-2", True)  # the one at two
    await day.schedule.look()
    assert [one["paused"] for one in day.told()["triggers"]] == [False, True, True]


async def test_what_a_trigger_waits_with_is_not_lost_when_another_is_put_before_it(day):
    waits = TableUpdate(("silver.a",), wait_after_last_change_s=60)
    await day.has(job(waits))
    await day.changes("silver.a")
    await day.after()
    await day.has(job(TableUpdate(("silver.b",)), waits))
    await day.after(60)
    assert [name for _, name, _, _ in day.runs()] == ["table_update-2"]


async def test_resuming_a_job_says_nothing_of_a_trigger_that_stays_paused(day):
    await day.has(job(AT_TWO, Periodic(60)))
    await day.schedule.pause("daily", "schedule", True)
    await day.schedule.pause("daily", None, True)
    await day.schedule.pause("daily", None, False)
    said = [[entry["description"] for entry in one["history"]] for one in day.told()["triggers"]]
    assert ["resumed on request, with its job" in each for each in said] == [False, True]


async def test_who_pauses_what_is_not_there_is_told_what_is(day):
    await day.has(job(AT_TWO))
    with pytest.raises(NotFoundError, match="no trigger 'shedule'") as refused:
        await day.schedule.pause("daily", "shedule", True)
    assert refused.value.hint == "did you mean 'schedule'?"
    with pytest.raises(NotFoundError, match="no job 'dayly'"):
        await day.schedule.pause("dayly", None, True)


# --- tables -------------------------------------------------------------------------------------------------


async def test_any_table_or_all_of_them(day):
    tables = ("silver.a", "silver.B")
    await day.changes("silver.a", "silver.b")
    await day.has(job(TableUpdate(tables), name="any"), job(TableUpdate(tables, all_of=True), name="all"))
    assert day.runs("any") == day.runs("all") == []  # what was there before counts for nothing
    await day.changes("silver.a")
    await day.after()
    await day.after()
    assert (len(day.runs("any")), len(day.runs("all"))) == (1, 0)
    assert day.why("all")[1].startswith("waits for silver.B: not updated since 2026-03-01T01:00")
    await day.changes("silver.b")
    await day.after()
    assert (len(day.runs("any")), len(day.runs("all"))) == (2, 1)
    assert day.why("all") == (
        "TRIGGERED",
        "updated: silver.a (version 2, by run 0), silver.B (version 2, by run 0)",
    )


async def test_updates_while_the_daemon_is_down_or_dies_are_one_run(day):
    await day.has(job(TableUpdate(("silver.a",))))
    await day.changes("silver.a")
    day.dies()
    await day.changes("silver.a")
    await asyncio.gather(day.schedule.look(), day.schedule.look())
    day.dies()
    await day.after()
    assert len(day.runs()) == 1


async def test_tables_cool_down_and_then_have_to_be_quiet(day):
    on = TableUpdate(("silver.a",), min_time_between_triggers_s=60, wait_after_last_change_s=10)
    await day.has(job(on))
    await day.changes("silver.a")
    await day.after(10)
    assert len(day.runs()) == 1
    await day.changes("silver.a")
    await day.after(59)
    assert day.why()[1].startswith("cools down until 2026-03-01T01:01:20.000Z")
    await day.after(5)
    assert day.why()[1].startswith("waits for tables to be quiet until 2026-03-01T01:01:20.000Z")
    await day.changes("silver.a")
    await day.after(9)
    assert len(day.runs()) == 1
    await day.after(1)
    assert len(day.runs()) == 2


# --- other jobs ---------------------------------------------------------------------------------------------


async def test_each_job_has_to_end_a_run_with_the_status(day):
    await day.run_of("x")  # before the trigger was there
    day.clock.pass_s(1)
    await day.has(job(JobCompletion(("x", "y"))))
    day.clock.pass_s(1)
    await day.run_of("x", Result.FAILED)
    await day.run_of("y")
    await day.after(1)
    assert day.runs() == []
    assert day.why()[1].startswith("waits for x: no run has succeeded since 2026-03-01T01:00:01")
    last = await day.run_of("x", Result.SUCCESS_WITH_FAILURES)
    await day.after(1)
    await day.after()
    assert len(day.runs()) == 1
    fired = day.told()["triggers"][0]["last_triggered"]
    assert fired["description"] == f"ended: x (run {last}), y (run {last - 1})"
    await day.run_of("x")
    await day.after(1)
    assert len(day.runs()) == 1


async def test_a_failure_can_be_what_is_waited_for(day):
    await day.has(job(JobCompletion(("x",), CompletionStatus.FAILED)))
    day.clock.pass_s(1)
    await day.run_of("x")
    await day.after()
    assert day.runs() == []
    await day.run_of("x", Result.TIMEDOUT)
    await day.after()
    assert [kind for kind, *_ in day.runs()] == ["JOB_COMPLETION"]


# --- continuous ---------------------------------------------------------------------------------------------


async def test_a_job_that_is_always_on_has_one_run_at_a_time(day):
    await day.has(job(Continuous(min_interval_s=5.0)))
    await day.after(1)
    await day.after(10)
    assert len(day.runs()) == 1
    await day.ends()
    await day.after()
    assert len(day.runs()) == 2
    await day.ends()
    await day.after(4)
    assert len(day.runs()) == 2
    await day.after(1)
    assert len(day.runs()) == 3


async def test_a_continuous_job_waits_for_the_tables_that_it_reads(day):
    day.reads = {"daily": {"silver.a"}}
    await day.has(job(Continuous()))
    assert day.runs() == []
    await day.changes("silver.a")
    await day.after()
    await day.changes("silver.a")  # while the run goes on
    await day.after()
    assert len(day.runs()) == 1
    await day.ends()
    await day.after()
    assert len(day.runs()) == 2
    await day.ends()
    await day.after(DAY_S)
    assert len(day.runs()) == 2
    assert day.why() == ("NOT_TRIGGERED", "waits for silver.a: not updated since run 2")


async def test_a_continuous_job_backs_off(day):
    await day.has(job(Continuous(min_interval_s=1.0)))
    await day.ends(Result.FAILED)
    await day.ledger.transact(lambda v: v.set_backoff("daily", "continuous", failures=2, retry_at_s=day.clock() + 100))
    await day.after(50)
    assert len(day.runs()) == 1
    assert day.why()[1] == "backs off until 2026-03-01T01:01:40.000Z, after 2 failed runs in a row"
    await day.after(50)
    assert [kind for kind, *_ in day.runs()] == ["CONTINUOUS", "CONTINUOUS_RESTART"]


async def test_a_continuous_job_that_may_not_run_asks_for_none(day):
    await day.has(job(Continuous(), max_concurrent_runs=0))
    await day.after(100)
    assert day.runs() == []


# --- conditions ---------------------------------------------------------------------------------------------


async def test_a_condition_is_asked_after_the_trigger_and_lets_the_run_start(day):
    await day.has(job(Trigger(AT_TWO, condition=gate())))
    await day.after(60)
    assert day.queries == []
    await day.after(HOUR_S)
    assert (len(day.queries), day.runs()) == (1, [])
    assert day.why() == ("NOT_TRIGGERED", "the condition's query returned no rows")
    day.answer = [{"n": 1}]
    await day.after(60)  # the time has gone by
    assert (len(day.queries), day.runs()) == (1, [])
    await day.after(DAY_S)
    assert day.times() == ["03-02 02:00"]
    assert day.why()[1] == "scheduled for 2026-03-02T02:00:00.000Z; the condition's query returned rows"


async def test_a_condition_is_asked_of_the_warehouse(day, tmp_path):
    warehouse = open_engine(EngineOptions(tmp_path / "w.duckdb", tmp_path / "scratch", tmp_path / "landing"))
    day.schedule._query = warehouse.first_rows
    condition = SqlCondition("SELECT 1 WHERE 1 = 2", ConditionMode.QUERY_RETURNS_ROWS, place())
    missing = SqlCondition("SELECT * FROM gold.nothing", ConditionMode.QUERY_RETURNS_ROWS, place())
    try:
        await day.has(job(*(Trigger(AT_TWO, condition=each) for each in (gate(), condition, missing))))
        await day.after(HOUR_S)
    finally:
        warehouse.close()
    assert [name for _, name, _, _ in day.runs()] == ["schedule"]
    assert day.why(trigger=1)[0] == "NOT_TRIGGERED"
    assert day.why(trigger=2)[0] == "FAILED"
    assert "Table with name nothing does not exist" in day.why(trigger=2)[1]


async def test_a_value_counts_when_it_is_another_one_and_is_remembered_by_the_next_daemon(day):
    await day.has(job(Trigger(Periodic(60), condition=gate(ConditionMode.RESULT_VALUE_CHANGES))))
    seen = []
    for value in (1, 1, 2, 2, 1):
        day.answer = [{"n": value}]
        day.dies()
        await day.after(60)
        seen.append(len(day.runs()))
    assert seen == [1, 1, 2, 2, 3]


async def test_a_condition_that_fails_says_so(day):
    await day.has(
        job(Trigger(AT_TWO, condition=gate())), job(Trigger(TableUpdate(("a.b",)), condition=gate()), name="t")
    )
    day.answer = EngineError("Table with name orders does not exist!", permanent=True)
    await day.changes("a.b")
    await day.after(HOUR_S)
    await day.after(1)
    assert day.why("daily") == day.why("t")
    assert day.why() == ("FAILED", "the condition could not be asked: Table with name orders does not exist!")
    assert len(day.queries) == 2
    day.answer = [{"n": 1}]
    await day.after(60)  # a time goes by; what a table holds does not
    assert (len(day.runs("daily")), len(day.runs("t"))) == (0, 1)


async def test_an_update_that_the_condition_did_not_let_through_is_dealt_with(day):
    await day.has(job(Trigger(TableUpdate(("a.b",)), condition=gate())))
    await day.changes("a.b")
    await day.after()
    day.answer = [{"n": 1}]
    await day.after()
    assert (len(day.queries), day.runs()) == (1, [])
    await day.changes("a.b")
    await day.after()
    assert len(day.runs()) == 1


async def test_what_changes_while_a_condition_is_asked_is_not_lost(day):
    on = Trigger(TableUpdate(("a.b",)), condition=gate())
    await day.has(job(on))
    await day.changes("a.b")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(sql, limit):
        day.queries.append(sql)
        asked.set()
        await go_on.wait()
        return [] if len(day.queries) == 1 else [{"n": 1}]

    day.schedule._query = slow
    look = asyncio.create_task(day.schedule.look())
    await asked.wait()
    await day.schedule.look()  # it is asked once
    await day.changes("a.b")
    go_on.set()
    await look
    await day.after()
    assert (len(day.queries), len(day.runs())) == (2, 1)


async def test_a_trigger_that_is_paused_while_its_condition_is_asked_does_not_fire(day):
    await day.has(job(Trigger(AT_TWO, condition=gate())))

    async def pausing(sql, limit):
        await day.schedule.pause("daily", None, True)
        return [{"n": 1}]

    day.schedule._query = pausing
    await day.after(HOUR_S)
    assert day.runs() == []


async def test_files_wait_until_the_condition_of_their_trigger_holds(day):
    files = job(Trigger(FileArrival("in"), condition=gate()), name="files")

    async def let():
        return await day.ledger.transact(lambda v: let_through(v, files, files.triggers[0]))

    await day.has(files)
    assert (await let(), day.queries) == (0, [])
    await day.books.accept([arrival(b"in/a.csv", "a", name="files")])
    day.schedule.arrived("files")
    await day.after()
    await day.after(1)
    assert (await let(), len(day.queries)) == (0, 1)
    assert day.why("files") == ("NOT_TRIGGERED", "the condition's query returned no rows")
    day.answer = [{"n": 1}]
    await day.after(60)  # it is asked again while they wait
    assert (await let(), day.woken) == (1, ["files"])
    day.answer = []
    await day.books.accept([arrival(b"in/b.csv", "b", name="files")])
    day.schedule.arrived("files")
    await day.after()
    assert (await let(), len(day.queries)) == (1, 3)
    day.answer = [{"n": 1}]
    await day.books.accept([arrival(b"in/c.csv", "c", name="files")])
    day.schedule.arrived("files")
    await day.after()
    assert await let() == 3


async def test_a_trigger_without_a_condition_lets_every_file_through(day):
    files = job(FileArrival("in"), name="files")
    await day.has(files)
    await day.books.accept([arrival(b"in/a.csv", "a", name="files")])
    day.schedule.arrived("files")
    day.schedule.arrived("nobody")
    await day.after()
    assert await day.ledger.transact(lambda v: let_through(v, files, files.triggers[0])) is None
    assert day.runs("files") == []


# --- the loop -----------------------------------------------------------------------------------------------


async def running(schedule, until):
    """The loop at work until something has happened."""
    task = asyncio.create_task(schedule.run())
    try:
        async with asyncio.timeout(20):
            while not until():  # noqa: ASYNC110 -- each turn moves the clock on
                await asyncio.sleep(0)
    finally:
        schedule.stop()
        async with asyncio.timeout(20):
            await task


async def test_the_loop_looks_when_it_is_woken_and_when_the_jobs_are_others(day):
    day.jobs = (job(AT_TWO),)
    day.catalog = Catalog(day.jobs)

    def turn():
        day.clock.pass_s(600)
        day.schedule.wake()
        return len(day.woken) >= 2

    await running(day.schedule, turn)
    assert len(day.runs()) >= 2
    assert {state for *_, state in day.runs()} == {RunState.QUEUED.value}


async def test_a_loop_that_is_stopped_does_not_wait_for_a_condition(day):
    day.jobs = (job(Trigger(Periodic(60), condition=gate())),)
    day.catalog = Catalog(day.jobs)
    asked = asyncio.Event()

    async def never(sql, limit):
        asked.set()
        await asyncio.Event().wait()

    day.schedule._query = never

    def turn():
        day.clock.pass_s(60)
        day.schedule.wake()
        return asked.is_set()

    await running(day.schedule, turn)
    assert day.runs() == []


async def test_with_the_real_clock_a_job_runs_every_second(path):
    ledger = LedgerThread(path)
    woken = asyncio.Event()
    catalog = Catalog((job(OnSchedule("* * * * * ?", CronSyntax.QUARTZ)),))
    schedule = Schedule(
        ledger,
        catalog=lambda: catalog,
        reads=lambda _: (),
        query=None,
        wake_job=lambda _: woken.set(),
    )
    task = asyncio.create_task(schedule.run())
    async with asyncio.timeout(20):
        await woken.wait()
    schedule.stop()
    await task
    ledger.close()
    ((time_s,),) = looked_up(path, "SELECT trigger_info ->> '$.time_s' FROM runs")
    assert time_s == int(time_s)
