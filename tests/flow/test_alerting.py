"""Alerts from the ledger to a real mail server and a real HTTP server, through refusals, restarts and kills."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
import structlog

from bookkeeping import Clock, arrival, job, looked_up, table
from destinations import free_port, mail_server, web_server
from landingd.core.lifecycle import Decision
from landingd.edge.alerts import MailServer, Sender, SenderOptions
from landingd.edge.ledger import LedgerThread, views
from landingd.edge.ledger.alerts import QueuedAlert
from landingd.edge.ledger.tasks import TaskEntry
from landingd.edge.ledger.views.alerts import alert_count, alerts
from landingd.errors import NotFoundError
from landingd.flow import alerting
from landingd.flow.alerting import Alerting
from landingd.model import (
    FileLoad,
    ForEach,
    Notifications,
    NotifyOn,
    Result,
    RunRequest,
    Stats,
    TaskState,
    TriggerType,
)

ON_CALL, OPS = "on-call@example.com", "ops"
EVERYTHING = Notifications(dict.fromkeys(NotifyOn, (ON_CALL,)), dict.fromkeys(NotifyOn, (OPS,)))
TOKEN = "s3cr3t-T0ken-8f2k"  # noqa: S105 -- what must never be seen anywhere


@pytest.fixture
def ledger_file(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(ledger_file):
    ledger = LedgerThread(ledger_file)
    yield ledger
    ledger.close()


class Shop:
    """A job with two tasks, and what happens to its runs."""

    def __init__(self, ledger, **more):
        self.ledger = ledger
        self.job = job(table("silver", max_retries=1, **more.pop("silver", {})), table("gold", "silver"), **more)
        self.now_s = 1000.0

    async def happens(self, verbs):
        self.now_s += 1.0
        return await self.ledger.transact(verbs)

    async def run(self, key="one", parameters=None, file_ids=(), tasks=("silver", "gold")):
        def begun(ledger):
            request = RunRequest(TriggerType.ONE_TIME, key)
            run_id = ledger.add_run(
                "shop", request, parameters=parameters or {}, file_ids=file_ids, now_s=self.now_s - 1
            )
            ledger.set_tasks(run_id, [TaskEntry(one) for one in tasks])
            ledger.start_run(run_id, now_s=self.now_s)
            alerting.run_started(ledger, self.job, run_id, self.now_s)
            return run_id

        return await self.happens(begun)

    async def attempt(self, run_id, task_key="silver"):
        def began(ledger):
            key = ledger.begin_attempt(run_id, task_key, now_s=self.now_s)
            alerting.task_began(ledger, self.job, key, self.now_s)
            return key

        return await self.happens(began)

    async def ends(self, key, decision, outcome="failed", stats=None):
        def ended(ledger):
            ledger.end_attempt(key, outcome, stats=stats, error=decision.error, now_s=self.now_s)
            ledger.set_task(
                key.run_id,
                key.task_key,
                decision.state,
                result=decision.result,
                error=decision.error,
                failures=decision.failures,
                crashes=0,
                retry_at_s=decision.retry_at_s,
                now_s=self.now_s,
            )
            alerting.task_ended(ledger, self.job, key, decision, self.now_s)

        await self.happens(ended)

    async def run_ends(self, run_id, result, error=None):
        def ended(ledger):
            ledger.end_run(run_id, result, error=error, now_s=self.now_s)
            alerting.run_ended(ledger, self.job, run_id, self.now_s)

        await self.happens(ended)


def pending(ledger_file):
    with views.reading(ledger_file) as db:
        return alerts(db)


def events(ledger_file):
    """What waits for the web hook, in order, with the task that it is about."""
    return [
        (one["event_type"].removeprefix("jobs."), one["task_key"])
        for one in pending(ledger_file)
        if one["channel"] == "webhook"
    ]


FAILED = Decision(TaskState.TERMINATED, Result.FAILED, failures=1, error="boom")
RETRY = Decision(TaskState.WAITING_FOR_RETRY, retry_at_s=2000.0, failures=1, error="boom")
SUCCESS = Decision(TaskState.TERMINATED, Result.SUCCESS)
GOES_ON = Decision(TaskState.PENDING, again=True)


# --- what is queued -------------------------------------------------------------------------------------------


async def test_a_job_without_notifications_queues_nothing(ledger, ledger_file):
    shop = Shop(ledger)
    run_id = await shop.run()
    await shop.ends(await shop.attempt(run_id), FAILED)
    await shop.run_ends(run_id, Result.FAILED)
    await ledger.transact(lambda ledger: alerting.run_skipped(ledger, None, run_id, 1.0))
    assert pending(ledger_file) == []


async def test_a_run_is_told_when_it_starts_and_when_it_ends_and_not_for_each_retry(ledger, ledger_file):
    shop = Shop(ledger, notifications=EVERYTHING)
    run_id = await shop.run()
    await shop.ends(await shop.attempt(run_id), RETRY)
    await shop.ends(await shop.attempt(run_id), FAILED)
    await shop.run_ends(run_id, Result.FAILED, "silver: boom")
    assert events(ledger_file) == [("on_start", None), ("on_failure", None)]
    assert len(pending(ledger_file)) == 4, "by mail and by web hook"


@pytest.mark.parametrize(
    ("result", "settings", "event"),
    [
        (Result.SUCCESS, {}, "on_success"),
        (Result.SUCCESS_WITH_FAILURES, {}, "on_success"),
        (Result.TIMEDOUT, {}, "on_failure"),
        (Result.CANCELED, {}, "on_failure"),
        (Result.CANCELED, {"no_alert_for_canceled_runs": True}, None),
    ],
)
async def test_how_a_run_ends_is_a_success_or_a_failure(ledger, ledger_file, result, settings, event):
    shop = Shop(ledger, notifications=Notifications(webhook=EVERYTHING.webhook, **settings))
    run_id = await shop.run()
    await shop.run_ends(run_id, result)
    assert events(ledger_file)[1:] == ([(event, None)] if event else [])


@pytest.mark.parametrize("silent", [False, True])
async def test_a_skipped_run_is_a_failure_unless_it_is_silenced(ledger, ledger_file, silent):
    shop = Shop(ledger, notifications=Notifications(webhook=EVERYTHING.webhook, no_alert_for_skipped_runs=silent))
    run_id = await shop.run()
    await ledger.transact(lambda ledger: alerting.run_skipped(ledger, shop.job, run_id, 1.0))
    assert events(ledger_file)[1:] == ([] if silent else [("on_failure", None)])


@pytest.mark.parametrize(
    ("last_only", "told"),
    [
        (False, ["on_start", "on_failure", "on_start", "on_failure"]),
        (True, ["on_start", "on_failure"]),
    ],
)
async def test_a_task_is_told_for_each_attempt_or_only_for_the_last(ledger, ledger_file, last_only, told):
    notifications = Notifications(webhook=EVERYTHING.webhook, alert_on_last_attempt=last_only)
    shop = Shop(ledger, silver={"notifications": notifications})
    run_id = await shop.run()
    await shop.ends(await shop.attempt(run_id), RETRY)
    await shop.ends(await shop.attempt(run_id), FAILED)
    await shop.ends(await shop.attempt(run_id, "gold"), SUCCESS, "committed")
    assert events(ledger_file) == [(event, "silver") for event in told]


async def test_what_merely_goes_on_after_an_interruption_is_not_told(ledger, ledger_file):
    shop = Shop(ledger, silver={"notifications": EVERYTHING})
    run_id = await shop.run()
    await shop.ends(await shop.attempt(run_id), GOES_ON, "interrupted")
    await shop.ends(await shop.attempt(run_id), GOES_ON, "committed")
    await shop.ends(await shop.attempt(run_id), SUCCESS, "committed")
    assert events(ledger_file) == [("on_start", "silver"), ("on_success", "silver")]


async def test_a_repair_begins_anew(ledger, ledger_file):
    shop = Shop(ledger, silver={"notifications": Notifications(webhook=EVERYTHING.webhook, alert_on_last_attempt=True)})
    run_id = await shop.run()
    await shop.ends(await shop.attempt(run_id), FAILED)
    await shop.run_ends(run_id, Result.FAILED)
    await shop.happens(lambda ledger: ledger.repair_run(run_id, ["silver"], now_s=shop.now_s))
    await shop.ends(await shop.attempt(run_id), SUCCESS, "committed")
    assert [event for event, _ in events(ledger_file)] == ["on_start", "on_failure", "on_start", "on_success"]


async def test_an_iteration_is_told_as_its_nested_task_says(ledger, ledger_file):
    nested = table("each", notifications=EVERYTHING)
    shop = Shop(ledger, silver={"action": ForEach("[1]", nested)})
    run_id = await shop.run(tasks=("silver", "silver[0]"))
    await shop.ends(await shop.attempt(run_id, "silver[0]"), FAILED)
    assert events(ledger_file) == [("on_start", "silver[0]"), ("on_failure", "silver[0]")]


async def test_an_alert_holds_files_rows_error_and_what_to_do(ledger, ledger_file):
    shop = Shop(ledger, notifications=Notifications(webhook={NotifyOn.FAILURE: (OPS,)}))
    names = [f"in/{n}.csv".encode() for n in range(25)]
    file_ids = await shop.happens(lambda ledger: [ledger.add_version(arrival(name, str(name))) for name in names])
    run_id = await shop.run(parameters={"month": "Oct"}, file_ids=file_ids)
    key = await shop.attempt(run_id)
    load = FileLoad(file_ids[0], rows_in=10, rows_loaded=8, rows_rejected=1, rows_dropped=1)
    await shop.happens(lambda ledger: ledger.load(key, load, now_s=shop.now_s))
    await shop.ends(key, FAILED, stats=Stats(rows_in=10))
    await shop.run_ends(run_id, Result.FAILED, "silver: boom")
    with web_server() as server:
        async with delivering(ledger, hook=server):
            await asyncio.to_thread(server.arrived.wait, 10)
        (body,) = server.bodies
    assert body["files"] == {"count": 25, "names": [f"in/{n}.csv" for n in range(20)]}
    assert body["rows"]["rows_in"] == 10
    assert body["rows"]["rows_loaded"] == 8
    assert body["run"]["parameters"] == {"month": "Oct"}
    assert body["run"]["failed_tasks"] == ["silver"]
    assert body["error"] == "silver: boom"
    assert body["repair_command"] == f"landingd repair {run_id}"
    assert body["node"] == "box"


# --- delivery -------------------------------------------------------------------------------------------------


def sender(*, mailbox=None, hook=None, timeout_s=10.0, **more):
    mail = MailServer("127.0.0.1", "landingd@box", mailbox.port) if mailbox else None
    urls = {OPS: f"json://127.0.0.1:{hook.port}/{TOKEN}"} if hook else {}
    return Sender(SenderOptions(mail, urls | more, timeout_s))


@asynccontextmanager
async def delivering(ledger, *, clock=None, give_up_after_s=1e9, by=None, **to):
    """The loop at work; left like a process that is killed."""
    told = Alerting(
        ledger, by or sender(**to), node="box", give_up_after_s=give_up_after_s, clock=clock or Clock(5000.0)
    )
    running = asyncio.create_task(told.run())
    try:
        yield told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def queue(ledger, *whom, event="e1", now_s=1000.0, event_type="jobs.on_failure"):
    payload = {
        "event_id": event,
        "event_type": event_type,
        "time": "then",
        "job": {"name": "shop"},
        "run": None,
        "task": None,
        "health": {"metric": "NO_SUCCESS_WITHIN_SECONDS", "threshold": 60.0, "measured": 90.0, "since": "then"},
        "files": None,
        "rows": {},
        "error": None,
        "next_retry_at": None,
        "repair_command": None,
        "show_command": "landingd runs shop",
    }
    rows = [QueuedAlert("email" if "@" in one else "webhook", one, payload) for one in whom]
    await ledger.transact(lambda ledger: ledger.queue_alerts(rows, now_s=now_s))


def event_ids(server):
    return [body["event_id"] for body in server.bodies]


async def test_mail_and_web_hooks_arrive_and_nothing_is_left(ledger, ledger_file):
    shop = Shop(ledger, notifications=EVERYTHING)
    with mail_server() as mailbox, web_server() as server:
        async with delivering(ledger, mailbox=mailbox, hook=server) as told:
            run_id = await shop.run()
            await shop.ends(await shop.attempt(run_id), FAILED)
            await shop.run_ends(run_id, Result.FAILED, "silver: boom")
            told.wake()
            assert await told.flushed(10)
        assert [mail["Subject"] for mail in mailbox.mails] == [
            "[landingd box] shop: run 1 has started",
            "[landingd box] shop: run 1 failed",
        ]
        assert "landingd repair 1" in mailbox.mails[1].get_content()
        assert [body["event_type"] for body in server.bodies] == ["jobs.on_start", "jobs.on_failure"]
    assert pending(ledger_file) == []


async def test_the_same_event_is_queued_once_for_each_who_hears_of_it(ledger, ledger_file):
    await queue(ledger, ON_CALL, OPS)
    await queue(ledger, ON_CALL, OPS)
    assert [one["destination"] for one in pending(ledger_file)] == [ON_CALL, OPS]


async def test_a_destination_that_is_away_delays_no_other_and_loses_nothing(ledger, ledger_file):
    port, clock = free_port(), Clock(5000.0)
    with web_server() as well:
        both = sender(ops=f"json://127.0.0.1:{port}/{TOKEN}", other=f"json://127.0.0.1:{well.port}")
        for event in ("one", "two", "three"):
            await queue(ledger, OPS, "other", event=event)
        async with delivering(ledger, by=both, clock=clock) as told:
            assert await told.flushed(10)
            assert event_ids(well) == ["one", "two", "three"]
            waiting = pending(ledger_file)
            assert [(one["event_id"], one["tries"]) for one in waiting] == [("one", 1), ("two", 0), ("three", 0)]
            assert "refused" in waiting[0]["error"]
            await told.flushed(10)
            assert pending(ledger_file)[0]["tries"] == 1, "not before its pause is over"
            with web_server(port) as back:
                clock.pass_s(30)
                assert await told.flushed(10)
                assert event_ids(back) == ["one", "two", "three"], "in order"
    assert pending(ledger_file) == []


async def test_a_killed_daemon_delivers_after_its_restart(ledger_file):
    port, clock = free_port(), Clock(5000.0)
    address = sender(ops=f"json://127.0.0.1:{port}")
    before = LedgerThread(ledger_file)
    await queue(before, OPS)
    async with delivering(before, by=address, clock=clock) as told:
        assert await told.flushed(10)
    before.close()
    clock.pass_s(31)
    after = LedgerThread(ledger_file)
    with web_server(port) as server:
        async with delivering(after, by=address, clock=clock) as told:
            assert await told.flushed(10)
        assert event_ids(server) == ["e1"]
    after.close()
    assert pending(ledger_file) == []


async def test_a_kill_while_a_server_takes_its_time_delivers_again_under_the_same_id(ledger, ledger_file):
    with web_server() as server:
        server.hold = threading.Event()
        await queue(ledger, OPS)
        async with delivering(ledger, hook=server):
            assert await asyncio.to_thread(server.arrived.wait, 10)
        assert len(pending(ledger_file)) == 1
        server.hold.set()
        async with delivering(ledger, hook=server) as told:
            assert await told.flushed(10)
        assert event_ids(server) == ["e1", "e1"]


async def test_a_server_that_hangs_holds_up_neither_others_nor_the_stop(ledger, ledger_file):
    with web_server() as dead, web_server() as well, mail_server() as mailbox:
        dead.hold = threading.Event()
        by = sender(mailbox=mailbox, hook=well, dead=f"json://127.0.0.1:{dead.port}")
        await queue(ledger, "dead", OPS, ON_CALL)
        async with delivering(ledger, by=by) as told:
            assert await asyncio.to_thread(dead.arrived.wait, 10)
            assert await asyncio.to_thread(well.arrived.wait, 10)
            assert await asyncio.to_thread(mailbox.arrived.wait, 10)
            assert not await told.flushed(0.01)
            await told.stop()
    assert [one["destination"] for one in pending(ledger_file)] == ["dead"]


async def test_a_mail_server_that_is_away_is_asked_once_and_not_for_each_address(ledger, ledger_file):
    server = MailServer("127.0.0.1", "landingd@box", free_port())
    clock = Clock(5000.0)
    await queue(ledger, ON_CALL)
    async with delivering(ledger, by=Sender(SenderOptions(server)), clock=clock) as told:
        assert await told.flushed(10)
        await queue(ledger, ON_CALL, "other@example.com", event="e2", now_s=5000.0)
        await told.flushed(10)
        clock.pass_s(29)
        await told.flushed(10)
        tries = {(one["destination"], one["event_id"]): one["tries"] for one in pending(ledger_file)}
    assert tries == {(ON_CALL, "e1"): 1, (ON_CALL, "e2"): 0, ("other@example.com", "e2"): 1}


async def test_what_could_not_be_delivered_for_too_long_is_given_up_with_an_error(ledger, ledger_file):
    clock = Clock(5000.0)
    await queue(ledger, OPS, now_s=5000.0)
    by = sender(ops=f"json://127.0.0.1:{free_port()}/{TOKEN}")
    with structlog.testing.capture_logs() as logs:
        async with delivering(ledger, by=by, clock=clock, give_up_after_s=100.0) as told:
            for _ in range(3):
                assert await told.flushed(10)
                clock.pass_s(60)
    assert pending(ledger_file) == []
    assert [line["event"] for line in logs] == ["alert_not_delivered", "alert_not_delivered", "alert_given_up"]
    assert logs[-1]["log_level"] == "error"
    assert logs[-1]["tries"] == 3
    assert TOKEN not in str(logs)


async def test_an_alert_that_is_refused_for_good_does_not_stand_in_the_way(ledger, ledger_file):
    with web_server() as server, structlog.testing.capture_logs() as logs:
        server.status = 422
        await queue(ledger, OPS, event="one")
        async with delivering(ledger, hook=server) as told:
            assert await told.flushed(10)
            server.status = 200
            await queue(ledger, OPS, event="two")
            assert await told.flushed(10)
        assert event_ids(server) == ["one", "two"]
    assert pending(ledger_file) == []
    assert [line["event"] for line in logs] == ["alert_given_up", "alert_delivered"]


async def test_an_alert_that_fails_for_an_hour_lets_those_behind_it_go_first(ledger, ledger_file):
    clock = Clock(5000.0)
    with web_server() as server:
        server.status = 500
        await queue(ledger, OPS, event="one")
        async with delivering(ledger, hook=server, clock=clock, give_up_after_s=1e9) as told:
            for _ in range(8):
                assert await told.flushed(10)
                clock.pass_s(1800)
            server.status = 200
            await queue(ledger, OPS, event="two")
            assert await told.flushed(10)
        assert event_ids(server) == ["one"] * 8 + ["two", "one"]


async def test_an_alert_that_another_version_wrote_does_not_stand_in_the_way(ledger, ledger_file):
    with web_server() as server, structlog.testing.capture_logs() as logs:
        strange = {"event_id": "x", "event_type": "jobs.x", "job": None, "run": None, "task": None}
        row = [QueuedAlert("webhook", OPS, strange)]
        await ledger.transact(lambda ledger: ledger.queue_alerts(row, now_s=1.0))
        await queue(ledger, OPS)
        async with delivering(ledger, hook=server) as told:
            assert await told.flushed(10)
        assert event_ids(server) == ["e1"]
    assert [line["event"] for line in logs] == ["alert_given_up", "alert_delivered"]


async def test_an_outbox_that_nobody_empties_keeps_the_newest(ledger, ledger_file, monkeypatch):
    monkeypatch.setattr(alerting, "WAITING_MAX", 3)
    for number in range(5):
        await queue(ledger, "nowhere", event=str(number))
    with structlog.testing.capture_logs() as logs:
        async with delivering(ledger) as told:
            assert await told.flushed(10)
    assert [one["event_id"] for one in pending(ledger_file)] == ["2", "3", "4"]
    assert logs[0]["event"] == "alerts_given_up"
    assert logs[0]["count"] == 2


async def test_neither_the_ledger_nor_the_log_ever_holds_an_address(ledger, ledger_file):
    with web_server() as server, structlog.testing.capture_logs() as logs:
        server.status, server.answer = 403, TOKEN.encode()
        away = f"json://u:{TOKEN}@127.0.0.1:{free_port()}/{TOKEN}"
        await queue(ledger, OPS, "away")
        async with delivering(ledger, by=sender(hook=server, away=away)) as told:
            assert await told.flushed(10)
    stored = looked_up(ledger_file, "SELECT * FROM alerts")
    assert len(stored) == 2
    assert TOKEN.lower() not in str([*logs, *stored]).lower()
    assert len(logs) == 2


# --- asked ----------------------------------------------------------------------------------------------------


async def test_a_test_alert_is_sent_at_once_past_everything_that_waits(ledger, ledger_file):
    with mail_server() as mailbox, web_server() as server:
        told = Alerting(ledger, sender(mailbox=mailbox, hook=server), node="box", give_up_after_s=1.0)
        for destination, channel in ((OPS, "webhook"), (ON_CALL, "email")):
            answer = await told.test(destination)
            assert answer.pop("took_ms") > 0
            assert answer == {"destination": destination, "channel": channel, "delivered": True, "error": None}
        server.status = 404
        assert "404" in (await told.test(OPS))["error"]
        with pytest.raises(NotFoundError):
            await told.test("nobody")
        assert server.bodies[0]["event_type"] == "test"
        assert "test alert" in mailbox.mails[0]["Subject"]


async def test_a_stop_delivers_what_it_can_first(ledger, ledger_file):
    with web_server() as server:
        told = Alerting(ledger, sender(hook=server), node="box", give_up_after_s=1.0)
        running = asyncio.create_task(told.run())
        await queue(ledger, OPS)
        await told.stop(grace_s=10)
        await asyncio.wait_for(running, 10)
        assert event_ids(server) == ["e1"]
    with views.reading(ledger_file) as db:
        assert alert_count(db) == 0
