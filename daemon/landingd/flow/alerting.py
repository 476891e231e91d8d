"""Tell people what they asked to be told: mail and web hooks.

Alerts are written into the ledger with the change that they tell of, and deleted when their destination has taken
them: a mail server that is down for a night delays them and nothing else, and a kill loses none. One that was taken
just before a kill is sent twice, under the same event id.

What goes to one destination is a lane: one at a time, in order, with pauses that grow while it does not answer. Lanes
know nothing of each other.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from landingd.core import alerts, wording
from landingd.core.lifecycle import Decision
from landingd.edge.alerts import Alert, DeliveryError, Sender
from landingd.edge.ledger import Ledger, LedgerThread
from landingd.edge.ledger.alerts import DueAlert, Lane
from landingd.errors import NotFoundError
from landingd.flow import unhealthy
from landingd.flow.tellable import attempt_facts, queue, run_facts
from landingd.model import AttemptKey, Job, NotifyOn, Result, TaskState

log = structlog.get_logger("landingd.alerts")

WAITING_MAX = 10_000
"""Alerts kept for a destination that does not answer; beyond it the oldest are given up."""
LOOK_S = 60.0
"""Without a wake the lanes are looked at this often, so that a clock that jumps does no harm."""


# --- in the transaction of what happens -----------------------------------------------------------------------


def run_started(ledger: Ledger, job: Job | None, run_id: int, now_s: float) -> None:
    """A run has begun, or has begun again for a repair."""
    if job is None or not job.notifications:
        return
    _tell_run(ledger, job, run_id, NotifyOn.START, now_s)


def run_ended(ledger: Ledger, job: Job | None, run_id: int, now_s: float) -> None:
    """A run has ended; its row says how."""
    if job is None:
        return
    unhealthy.run_ended(ledger, job, run_id, now_s)
    if not job.notifications:
        return
    result = Result(ledger.run_to_tell(run_id)["result"])
    event = alerts.event_of(result)
    if event is not None:
        _tell_run(ledger, job, run_id, event, now_s, canceled=result is Result.CANCELED)


def run_skipped(ledger: Ledger, job: Job | None, run_id: int, now_s: float) -> None:
    """A run found no room; its row says so."""
    if job is None or not job.notifications:
        return
    _tell_run(ledger, job, run_id, NotifyOn.FAILURE, now_s, skipped=True)


def task_began(ledger: Ledger, job: Job | None, key: AttemptKey, now_s: float) -> None:
    """An attempt has begun. Told of the first one and of retries, not of what merely goes on after an interruption."""
    task = alerts.task_of(job, key.task_key) if job else None
    if job is None or task is None or not task.notifications:
        return
    before = ledger.outcome_before(key)
    if before not in {None, "failed", "timed out"}:
        return
    heard_by = alerts.recipients(task.notifications, NotifyOn.START, is_retry=before is not None)
    if heard_by:
        facts = attempt_facts(ledger, task, key)
        payload = alerts.alert(NotifyOn.START, job=job.name, now_s=now_s, run=run_facts(ledger, key.run_id), task=facts)
        queue(ledger, heard_by, payload, now_s)


def task_ended(ledger: Ledger, job: Job | None, key: AttemptKey, decision: Decision, now_s: float) -> None:
    """An attempt has ended, and this follows for its task."""
    task = alerts.task_of(job, key.task_key) if job else None
    if job is None or task is None or decision.state is TaskState.PENDING:
        return
    unhealthy.attempt_ended(ledger, job, task, key, now_s)
    if not task.notifications:
        return
    will_retry = decision.state is TaskState.WAITING_FOR_RETRY
    event = NotifyOn.FAILURE if will_retry else alerts.event_of(decision.result) if decision.result else None
    if event is None:
        return
    canceled = decision.result is Result.CANCELED
    heard_by = alerts.recipients(task.notifications, event, canceled=canceled, will_retry=will_retry)
    if heard_by:
        facts = attempt_facts(ledger, task, key, decision)
        payload = alerts.alert(event, job=job.name, now_s=now_s, run=run_facts(ledger, key.run_id), task=facts)
        queue(ledger, heard_by, payload, now_s)


def _tell_run(
    ledger: Ledger,
    job: Job,
    run_id: int,
    event: NotifyOn,
    now_s: float,
    *,
    skipped: bool = False,
    canceled: bool = False,
) -> None:
    heard_by = alerts.recipients(job.notifications, event, skipped=skipped, canceled=canceled)
    if heard_by:
        queue(ledger, heard_by, alerts.alert(event, job=job.name, now_s=now_s, run=run_facts(ledger, run_id)), now_s)


# --- afterwards -----------------------------------------------------------------------------------------------


class Alerting:
    """Delivers what waits. `wake` may be called at any time; it never waits."""

    def __init__(
        self,
        ledger: LedgerThread,
        sender: Sender,
        *,
        node: str,
        give_up_after_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._node = node
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._lanes: dict[Lane, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to deliver."""
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Deliver, until `stop`; what is under way then is broken off, and done again after the next start."""
        try:
            while not self._stopping:
                self._wake.clear()
                wait_s = await self._start_lanes()
                if not self._lanes and not self._wake.is_set():
                    self._idle.set()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for lane in self._lanes.values():
                lane.cancel()
            await asyncio.gather(*self._lanes.values(), return_exceptions=True)

    async def stop(self, grace_s: float = 0.0) -> None:
        """End `run`, after what can be delivered within `grace_s`."""
        if grace_s > 0:
            await self.flushed(grace_s)
        self._stopping = True
        self._wake.set()

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until nothing is under way and nothing is due, at most so long; what waits for its next try is left."""
        self.wake()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def test(self, destination: str) -> dict[str, Any]:
        """Send a test alert now, past everything that waits; says whether it was taken. Raises NotFoundError."""
        channel = self._sender.channel_of(destination)
        if channel is None:
            raise NotFoundError(
                f"there is no destination {destination!r}",
                hint="name an id of [alerts.destinations], or an address while [alerts] smtp_host is set",
            )
        begun_s = time.monotonic()
        error: str | None = None
        try:
            await self._sender.send(self._worded(channel, destination, alerts.trial(now_s=self._clock())))
        except DeliveryError as raised:
            error = raised.what
        return {
            "destination": destination,
            "channel": channel,
            "delivered": error is None,
            "error": error,
            "took_ms": round(1000 * (time.monotonic() - begun_s), 1),
        }

    async def _start_lanes(self) -> float:
        """Begin on every lane that is due; returns how long there is nothing more to do."""
        dropped, lanes = await self._ledger.transact(
            lambda ledger: (ledger.trim_alerts(WAITING_MAX), ledger.alert_lanes())
        )
        if dropped:
            log.error("alerts_given_up", count=dropped, why=f"more than {WAITING_MAX} wait for one destination")
        now_s = self._clock()
        for lane, due_s in lanes.items():
            if due_s <= now_s and lane not in self._lanes:
                self._lanes[lane] = asyncio.create_task(self._deliver(lane), name=f"alerts to {lane[1]}")
                self._lanes[lane].add_done_callback(partial(self._lane_ended, lane))
        later = [due_s - now_s for due_s in lanes.values() if due_s > now_s]
        return min([LOOK_S, *later])

    def _lane_ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        del self._lanes[lane]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("alert_lane_broke", destination=lane[1], exc_info=error)
            return  # the next look begins it anew: at once, and it would go round and round
        self._wake.set()

    async def _deliver(self, lane: Lane) -> None:
        """Everything of one lane that is due."""
        while not self._stopping:
            due = await self._ledger.transact(
                lambda ledger: ledger.next_alert(lane, tries_in_front=alerts.TRIES_IN_FRONT, now_s=self._clock())
            )
            if due is None:
                return
            try:
                await self._sender.send(self._worded(*lane, dict(due.payload)))
            except DeliveryError as error:
                await self._failed(due, error)
            except (KeyError, TypeError, ValueError) as error:
                # Written by another version: it cannot be worded, and must not stand in the way of what can.
                await self._failed(due, DeliveryError(f"it cannot be read: {type(error).__name__}", retry=False))
            else:
                await self._drop(due)
                log.info("alert_delivered", **_about(due))

    async def _failed(self, due: DueAlert, error: DeliveryError) -> None:
        now_s = self._clock()
        if not error.retry or now_s - due.created_at_s >= self._give_up_after_s:
            await self._drop(due)
            log.error("alert_given_up", **_about(due), tries=due.tries + 1, error=error.what)
            return
        next_try_s = now_s + alerts.pause_s(due.tries + 1)
        channel = due.lane[0] if error.server else None
        await self._ledger.transact(
            lambda ledger: ledger.postpone_alert(due.seq, next_try_s=next_try_s, error=error.what, channel=channel)
        )
        log.warning(
            "alert_not_delivered", **_about(due), tries=due.tries + 1, error=error.what, again_s=next_try_s - now_s
        )

    async def _drop(self, due: DueAlert) -> None:
        await self._ledger.transact(lambda ledger: ledger.drop_alert(due.seq))

    def _worded(self, channel: str, destination: str, payload: alerts.Payload) -> Alert:
        payload = payload | {"node": self._node}
        subject, text = wording.subject(payload, node=self._node), wording.text(payload, node=self._node)
        return Alert(channel, destination, subject, text, payload)


def _about(due: DueAlert) -> dict[str, Any]:
    job, run, task = due.payload["job"], due.payload["run"], due.payload["task"]
    return {
        "destination": due.lane[1],
        "event_type": due.payload["event_type"],
        "job": job["name"] if job else None,
        "run_id": run["run_id"] if run else None,
        "task_key": task["task_key"] if task else None,
    }
