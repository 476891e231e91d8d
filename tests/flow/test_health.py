"""Health rules over a real ledger: what is told, to whom, and what a restart remembers."""

import asyncio
import json

import pytest
import structlog

from bookkeeping import Clock, arrival, job, looked_up, table
from landingd.core import health as core_health
from landingd.core.health import Going, Seen
from landingd.core.lifecycle import Decision
from landingd.edge.ledger import LedgerThread, views
from landingd.edge.ledger.tasks import TaskEntry
from landingd.edge.ledger.views.alerts import alerts, health
from landingd.flow import alerting, unhealthy
from landingd.flow.health import Health
from landingd.model import (
    FileLoad,
    HealthMetric,
    HealthRule,
    Notifications,
    NotifyOn,
    Result,
    RunRequest,
    TaskState,
    TriggerType,
)

OPS = "ops"
EVERYTHING = Notifications(webhook=dict.fromkeys(NotifyOn, (OPS,)))
LONG = (HealthRule(HealthMetric.RUN_DURATION_SECONDS, 60.0),)
NO_SUCCESS = (HealthRule(HealthMetric.NO_SUCCESS_WITHIN_SECONDS, 3600.0),)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "ledger.sqlite")
    yield place
    place.ledger.close()


class Place:
    """A ledger, a clock, and what was told."""

    def __init__(self, ledger_file):
        self.ledger_file = ledger_file
        self.ledger = LedgerThread(ledger_file)
        self.clock = Clock(10_000.0)
        self.told = []

    def health(self, *jobs):
        return Health(self.ledger, self.ledger_file, lambda: jobs, told=self.told.append, clock=self.clock)

    async def run(self, key, *, tasks=("silver",), started=True, file_ids=()):
        def begun(ledger):
            request = RunRequest(TriggerType.ONE_TIME, key)
            run_id = ledger.add_run("shop", request, parameters={}, file_ids=file_ids, now_s=self.clock())
            ledger.set_tasks(run_id, [TaskEntry(one) for one in tasks])
            if started:
                ledger.start_run(run_id, now_s=self.clock())
            return run_id

        return await self.ledger.transact(begun)

    async def ends(self, run_id, result=Result.SUCCESS):
        await self.ledger.transact(lambda ledger: ledger.end_run(run_id, result, error=None, now_s=self.clock()))

    async def looks(self, health, *, for_s=0.0, every_s=5.0):
        """The steps of all looks over a while."""
        steps = [change.step.value for change in await health.look()]
        for _ in range(int(for_s / every_s)):
            self.clock.pass_s(every_s)
            steps += [change.step.value for change in await health.look()]
        return steps

    def alerts(self):
        with views.reading(self.ledger_file) as db:
            return [(one["event_type"], one["run_id"], one["task_key"]) for one in alerts(db)]

    def payloads(self):
        return [json.loads(text) for (text,) in looked_up(self.ledger_file, "SELECT payload FROM alerts ORDER BY seq")]

    def unhealthy(self):
        with views.reading(self.ledger_file) as db:
            return [one["what"] for one in health(db, "shop")]

    def events(self):
        return [json.loads(text)["event"] for (text,) in looked_up(self.ledger_file, "SELECT payload FROM outbox")]


async def test_a_job_without_rules_is_not_looked_at(place):
    place.ledger_file.unlink()  # it would be noticed
    assert await place.health(job(table("silver"))).look() == []


async def test_a_run_that_takes_too_long_is_told_once_while_it_goes_on_and_forgotten_at_its_end(place):
    shop = job(table("silver"), health=LONG, notifications=EVERYTHING)
    watching = place.health(shop)
    run_id = await place.run("one")
    await place.run("waits", started=False)
    with structlog.testing.capture_logs() as logs:
        assert await place.looks(watching, for_s=600) == ["tell"]
    assert place.alerts() == [("jobs.on_duration_warning_threshold_exceeded", run_id, None)]
    assert place.unhealthy() == [f"RUN_DURATION_SECONDS > 60, run {run_id}"]
    assert place.events() == ["job_unhealthy"]
    assert [(line["event"], line["log_level"]) for line in logs] == [("job_unhealthy", "warning")]
    assert place.told == ["shop"]
    await place.ends(run_id)
    assert await place.looks(watching, for_s=20) == ["forget"]
    assert place.unhealthy() == []
    assert place.events() == ["job_unhealthy"]


async def test_a_task_that_takes_too_long_is_told_to_whom_the_task_names(place):
    shop = job(table("silver", health=LONG, notifications=EVERYTHING), table("gold"))
    run_id = await place.run("one", tasks=("silver", "gold"))
    for key in ("silver", "gold"):
        await place.ledger.transact(lambda ledger, key=key: ledger.begin_attempt(run_id, key, now_s=place.clock()))
    assert await place.looks(place.health(shop), for_s=100) == ["tell"]
    assert place.alerts() == [("jobs.on_duration_warning_threshold_exceeded", run_id, "silver")]
    (payload,) = place.payloads()
    assert payload["health"]["metric"] == "RUN_DURATION_SECONDS"
    assert payload["task"]["attempt"] == 1
    assert payload["run"]["run_id"] == run_id


async def test_what_takes_too_long_and_ends_between_two_looks_is_told_at_its_end(place):
    shop = job(table("silver", health=LONG, notifications=EVERYTHING), health=LONG, notifications=EVERYTHING)
    watching = place.health(shop)
    run_id = await place.run("one")
    key = await place.ledger.transact(lambda ledger: ledger.begin_attempt(run_id, "silver", now_s=place.clock()))
    await place.looks(watching)
    place.clock.pass_s(61.0)

    def ends(ledger):
        done = Decision(TaskState.TERMINATED, Result.SUCCESS)
        alerting.task_ended(ledger, shop, key, done, place.clock())
        ledger.end_run(run_id, Result.SUCCESS, error=None, now_s=place.clock())
        alerting.run_ended(ledger, shop, run_id, place.clock())

    await place.ledger.transact(ends)
    late = "jobs.on_duration_warning_threshold_exceeded"
    assert [alert for alert in place.alerts() if alert[0] == late] == [(late, run_id, "silver"), (late, run_id, None)]
    assert place.events() == ["job_unhealthy", "job_unhealthy"]
    assert await place.looks(watching, for_s=20) == ["forget", "forget"]


async def test_what_a_look_has_told_is_not_told_again_at_the_end(place):
    shop = job(table("silver"), health=LONG, notifications=EVERYTHING)
    run_id = await place.run("one")
    assert await place.looks(place.health(shop), for_s=100) == ["tell"]
    await place.ledger.transact(lambda ledger: alerting.run_ended(ledger, shop, ended(ledger, run_id, place), 10_200.0))
    assert place.events() == ["job_unhealthy"]


async def test_a_look_that_is_written_down_after_the_end_tells_nothing_twice(place):
    shop = job(table("silver"), health=LONG, notifications=EVERYTHING)
    run_id = await place.run("one")
    place.clock.pass_s(61.0)
    seen = Seen((Going(run_id, 0, 10_000.0),))
    changes = core_health.decide(shop, seen, {}, place.clock())  # while it goes on

    def ends_first(ledger):
        alerting.run_ended(ledger, shop, ended(ledger, run_id, place), place.clock())
        unhealthy.record(ledger, shop, changes, place.clock())

    await place.ledger.transact(ends_first)
    assert [change.step.value for change in changes] == ["tell"]
    assert place.events() == ["job_unhealthy"]


def ended(ledger, run_id, place):
    ledger.end_run(run_id, Result.SUCCESS, error=None, now_s=place.clock())
    return run_id


async def test_a_restart_tells_nothing_again(place):
    shop = job(table("silver"), health=LONG, notifications=EVERYTHING)
    await place.run("one")
    place.clock.pass_s(100)
    assert await place.looks(place.health(shop)) == ["tell"]
    assert await place.looks(place.health(shop), for_s=100) == []


async def test_who_wants_no_alert_still_gets_the_event(place):
    await place.run("one")
    place.clock.pass_s(100)
    assert await place.looks(place.health(job(table("silver"), health=LONG))) == ["tell"]
    assert place.alerts() == []
    assert place.events() == ["job_unhealthy"]


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (HealthMetric.STREAMING_BACKLOG_FILES, 2.5),
        (HealthMetric.STREAMING_BACKLOG_BYTES, 25.0),
        (HealthMetric.STREAMING_BACKLOG_SECONDS, 100.0),
    ],
)
async def test_a_backlog_is_told_after_a_while_and_again_until_it_is_gone(place, metric, value):
    shop = job(table("silver"), health=(HealthRule(metric, value),), notifications=EVERYTHING)
    watching = place.health(shop)
    names = [b"in/a.csv", b"in/b.csv", b"in/c.csv"]
    file_ids = await place.ledger.transact(
        lambda ledger: [ledger.add_version(arrival(name, str(name), size=10)) for name in names]
    )
    assert await place.looks(watching, for_s=2500, every_s=20.0) == ["tell", "tell"]
    assert place.alerts() == [("jobs.on_streaming_backlog_exceeded", None, None)] * 2
    assert len(place.unhealthy()) == 1
    run_id = await place.run("one", file_ids=file_ids)
    key = await place.ledger.transact(lambda ledger: ledger.begin_attempt(run_id, "silver", now_s=place.clock()))
    for file_id in file_ids:
        load = FileLoad(file_id, rows_in=1, rows_loaded=1)
        await place.ledger.transact(lambda ledger, load=load: ledger.load(key, load, now_s=place.clock()))
    assert await place.looks(watching, for_s=1000, every_s=20.0) == ["recovered"]
    assert place.unhealthy() == []
    assert place.events()[-1] == "job_healthy_again"


async def test_the_absence_of_success_is_told_and_a_success_ends_it(place):
    shop = job(table("silver"), health=NO_SUCCESS, notifications=EVERYTHING)
    await place.ends(await place.run("one"))
    watching = place.health(shop)
    assert await place.looks(watching, for_s=3600, every_s=60.0) == ["watch"]
    await place.ends(await place.run("two"), Result.FAILED)
    assert await place.looks(watching, for_s=7200, every_s=60.0) == ["tell"]
    assert place.alerts() == [("jobs.on_no_success", None, None)]
    assert place.unhealthy() == ["NO_SUCCESS_WITHIN_SECONDS > 3600"]
    assert place.payloads()[0]["health"]["since"] == "1970-01-01T02:46:40.000Z"
    await place.ends(await place.run("three"), Result.SUCCESS_WITH_FAILURES)
    assert await place.looks(watching, for_s=60, every_s=60.0) == ["recovered"]
    assert place.unhealthy() == []
    assert await place.looks(watching, for_s=7200, every_s=60.0) == ["tell"]


async def test_a_rule_that_is_gone_takes_what_it_found_with_it(place):
    await place.run("one")
    place.clock.pass_s(100)
    rules = LONG + NO_SUCCESS
    assert sorted(await place.looks(place.health(job(table("silver"), health=rules)))) == ["tell", "watch"]
    assert await place.looks(place.health(job(table("silver"), health=NO_SUCCESS))) == ["forget"]
    assert place.unhealthy() == []


async def test_a_job_that_is_gone_or_has_no_rules_left_is_not_unhealthy(place):
    await place.run("one")
    place.clock.pass_s(100)
    await place.looks(place.health(job(table("silver"), health=LONG)))
    await place.looks(place.health(job(table("silver"))))
    assert place.unhealthy() == []


async def test_the_loop_looks_until_it_is_stopped(place):
    shop = job(table("silver"), health=LONG, notifications=EVERYTHING)
    await place.run("one")
    place.clock.pass_s(100)
    heard = asyncio.Event()
    watching = Health(place.ledger, place.ledger_file, lambda: [shop], told=lambda _: heard.set(), clock=place.clock)
    running = asyncio.create_task(watching.run(0.001))
    await asyncio.wait_for(heard.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(place.alerts()) == 1
