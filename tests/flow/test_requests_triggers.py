"""What starts runs and what waits, over the requests of the control socket."""

import pytest

from bookkeeping import bronze, job, place
from landingd.edge.ledger import LedgerThread
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.catalog import Catalog
from landingd.flow.requests_triggers import TriggerRequests
from landingd.flow.viewing import View
from landingd.model import CronSyntax, Job, Periodic, Schedule, Trigger
from pastruns import T0_S, PastRuns

SHOP = job(bronze(), tags={"team": "sales"}, description="orders", max_concurrent_runs=1)


NIGHTLY = Job(
    "nightly",
    place(),
    (bronze(),),
    triggers=(
        Trigger(Schedule("0 2 * * *", CronSyntax.UNIX), "schedule"),
        Trigger(Periodic(3600.0), "periodic", paused=True),
    ),
)


class Desk:
    def __init__(self, path):
        self.past = PastRuns(path)
        self.ledger = LedgerThread(path)
        self.path = path
        self.asked = []
        self.requests = TriggerRequests(
            lambda: Catalog((SHOP, NIGHTLY)),
            View(path),
            slots=2,
            pause=self.pause,
            backfill=self.other,
            backfill_state=self.other,
            test_alert=self.other,
        )

    async def pause(self, name, trigger, paused):
        self.asked.append((name, trigger, paused))
        return {"job": name}

    async def other(self, asked):
        self.asked.append(asked)
        return {"asked": asked}

    def close(self):
        self.past.close()
        self.ledger.close()


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.sqlite")
    yield desk
    desk.close()


async def test_every_job_tells_what_starts_it_and_where_it_stands(desk):
    for name, at in (("schedule", 50), ("periodic", 20)):
        desk.past.put("triggers", job="nightly", trigger_name=name, since_s=0.0, next_fire_s=T0_S + at)
    nightly, shop = await desk.requests.jobs({})
    assert (nightly["job"], nightly["triggers"], nightly["state"]) == ("nightly", ["schedule", "periodic"], "IDLE")
    assert nightly["next_fire_time"] == "2023-11-14T22:14:10.000Z", "the other one is paused by the job file"
    assert (shop["description"], shop["tags"]) == ("orders", {"team": "sales"})


async def test_a_trigger_tells_why_it_did_not_fire(desk):
    for outcome, why in (("NOT_TRIGGERED", "no new files"), ("FAILED", "the condition does not bind")):
        desk.past.put(
            "trigger_history", job="nightly", trigger_name="schedule", outcome=outcome, description=why, first_s=T0_S,
            last_s=T0_S,
        )  # fmt: skip
    told = await desk.requests.triggers({"job": "nightly", "limit": "1"})
    schedule, periodic = told["triggers"]
    assert [entry["description"] for entry in schedule["history"]] == ["the condition does not bind"]
    assert (periodic["paused"], periodic["paused_because"]) == (True, "the trigger is paused, by the job file")
    with pytest.raises(NotFoundError):
        await desk.requests.triggers({"job": "nobody"})


async def test_pausing_names_a_job_that_is_there_and_one_of_its_triggers(desk):
    await desk.requests.set_paused({"job": "nightly"}, paused=True)
    await desk.requests.set_paused({"job": "nightly", "trigger": "schedule"}, paused=False)
    assert desk.asked == [("nightly", None, True), ("nightly", "schedule", False)]
    with pytest.raises(NotFoundError, match="'shedule'"):
        await desk.requests.set_paused({"job": "nightly", "trigger": "shedule"}, paused=True)
    with pytest.raises(NotFoundError):
        await desk.requests.set_paused({"job": "nightli"}, paused=True)


async def test_a_run_in_the_queue_says_what_it_waits_for(desk):
    waits = {"state": "QUEUED", "started_at_s": None, "resumed_at_s": None}
    going = desk.past.run(result=None)
    desk.past.run(result=None, **waits)
    desk.past.run(job="nightly", result=None, priority=1, **waits)
    desk.past.run(job="nightly", result=None, **waits)
    desk.past.run(job="gone", result=None, **waits)
    told = await desk.requests.queue({})
    assert [(run["run_id"], run["waits_for"]) for run in told] == [
        (3, "its turn"),
        (2, f"run {going} to end (max_concurrent_runs: 1)"),
        (4, "run 3, queued before it"),
        (5, "there is no job 'gone' any more"),
    ]


async def test_the_matrix_of_a_job_without_runs_is_empty_and_of_no_job_is_refused(desk):
    assert (await desk.requests.matrix({"job": "shop"}))["columns"] == []
    with pytest.raises(NotFoundError):
        await desk.requests.matrix({"job": "nobody"})
    desk.past.run()
    desk.past.run()
    assert len((await desk.requests.matrix({"job": "shop", "limit": "1"}))["columns"]) == 1


async def test_alerts_that_wait_are_listed_and_a_destination_can_be_tried(desk):
    desk.past.put(
        "alerts", event_id="e", channel="email", destination="a@b.c", payload="{}", created_at_s=T0_S, next_try_s=T0_S
    )
    assert [alert["destination"] for alert in await desk.requests.alerts({})] == ["a@b.c"]
    assert await desk.requests.test({"destination": "a@b.c"}) == {"asked": "a@b.c"}
    for asked in ({}, {"destination": ""}, {"destination": 7}):
        with pytest.raises(RefusedError, match="destination"):
            await desk.requests.test(asked)


async def test_a_limit_that_is_no_number_is_refused(desk):
    with pytest.raises(RefusedError, match="limit"):
        await desk.requests.alerts({"limit": "many"})
