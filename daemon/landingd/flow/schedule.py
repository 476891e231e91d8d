"""Start runs by the clock and by what other jobs did, and ask the conditions of triggers.

Everything that must not be lost is in the ledger: what each trigger has dealt with, and the keys of the runs. So this
loop may look as often as it likes, and whatever wakes it says "look", nothing else. It sleeps half a minute at most and
reads the wall clock anew each time: clocks are set, and machines are suspended.

A condition is asked in a task of its own, so that a slow query holds up no other trigger.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from landingd.edge.ledger import Ledger, LedgerThread
from landingd.errors import LandingdError, NotFoundError, did_you_mean
from landingd.flow import evaluating
from landingd.flow.catalog import Catalog
from landingd.flow.evaluating import Ask, Looked
from landingd.flow.pausing import is_paused
from landingd.model import Job, Trigger, TriggerOutcome

log = structlog.get_logger("landingd.schedule")

SLEEP_MAX_S = 30.0
PAUSE_RATIO = 4.0
"""After each round it pauses so many times as long as the round took: with a handful of triggers some milliseconds."""
CONDITION_ROWS = 1
"""What a condition depends on is in the first row."""

Key = tuple[str, str]
"""The names of a job and of its trigger."""
Query = Callable[[str, int], Awaitable[Sequence[Mapping[str, Any]]]]
"""The first rows of a SELECT, so many of them at most; raises LandingdError."""


class Schedule:
    """All triggers but those of files, of which it asks the conditions.

    `reads`: by job the tables that it reads and other jobs make.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        *,
        catalog: Callable[[], Catalog],
        reads: Callable[[str], Collection[str]],
        query: Query,
        wake_job: Callable[[str], None],
        on_news: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._reads = reads
        self._query = query
        self._wake_job = wake_job
        self._on_news = on_news
        self._clock = clock
        self._known: Catalog | None = None
        self._look_at_s: dict[Key, float] = {}
        self._held_s: dict[Key, float] = {}
        """Until when what happens elsewhere is no reason to look: their condition failed."""
        self._looked_s = 0.0
        self._asking: set[Key] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something has happened: a run has ended, the jobs were read anew."""
        self._wake.set()

    def arrived(self, job: str) -> None:
        """Files of this job wait for a run: a condition may have to be asked for them."""
        try:
            gated = [t.key for t in self._catalog().job(job).triggers if t.condition is not None]
        except NotFoundError:
            return
        for key in gated:
            self._held_s.pop((job, key), None)
        if gated:
            self.wake()

    def stop(self) -> None:
        """Start no run any more; `run` returns."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Start runs until `stop`; raises what the ledger raises: the process has to start anew."""
        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()
            while not self._stopping:
                self._wake.clear()
                began_s = time.monotonic()
                for ask in await self._round():
                    task = group.create_task(self._ask(ask), name=f"condition of {ask.job}")
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                # However often it is woken, and however many triggers there are, the ledger is for others too.
                await asyncio.sleep(PAUSE_RATIO * (time.monotonic() - began_s))
                await self._sleep()
            for task in tasks:
                task.cancel()

    async def look(self) -> None:
        """One round, with the conditions that it comes to."""
        for ask in await self._round():
            await self._ask(ask)

    async def pause(self, job: str, trigger: str | None, paused: bool) -> dict[str, Any]:  # noqa: FBT001 -- said by its caller
        """Pause or resume a trigger, or the whole job; what of the job is still paused is in the answer.

        It stands above the job file and outlives the daemon. Runs that are under way go on. Raises NotFoundError.
        """
        catalog = self._catalog()
        found = catalog.job(job)
        triggers = found.triggers if trigger is None else (_trigger(found, trigger),)
        now_s = self._clock()

        def record(ledger: Ledger) -> list[str]:
            if catalog is not self._known:
                evaluating.begin(ledger, catalog.jobs)
            # What was due before belongs to the time before: it fires before a pause, and goes by before a resume.
            for each in found.triggers:
                self._looked(ledger, found, each, now_s, may_fire=paused)
            ledger.set_paused(job, trigger or "", paused)
            for each in triggers:
                what = f"{'paused' if paused else 'resumed'} on request" + ("" if trigger else ", with its job")
                if paused or not is_paused(ledger, found, each):
                    ledger.note_trigger(job, each.key, TriggerOutcome.NOT_TRIGGERED, what, now_s=now_s)
            for each in found.triggers:
                self._looked(ledger, found, each, now_s, may_fire=False)
            return [each.key for each in found.triggers if is_paused(ledger, found, each)]

        still = await self._ledger.transact(record, durably=True)
        log.info("paused" if paused else "resumed", job=job, trigger=trigger)
        self._known = None
        self.wake()
        self._wake_job(job)
        self._on_news()
        return {"job": job, "trigger": trigger, "paused": paused, "paused_triggers": still}

    # -- a round --

    async def _round(self) -> list[Ask]:
        """Look at what is due, at what may have been waited for, and after a reload at everything."""
        catalog, now_s = self._catalog(), self._clock()
        anew = catalog is not self._known
        triggers = [(job, trigger) for job in catalog.jobs for trigger in job.triggers]
        if anew:
            await self._ledger.transact(lambda ledger: evaluating.begin(ledger, catalog.jobs))
            self._known = catalog
        if anew or now_s < self._looked_s:  # a clock that was set back: what is due when is worked out anew
            self._look_at_s.clear()
            self._held_s.clear()
            wanted = [one for one in triggers if (one[0].name, one[1].key) not in self._asking]
        else:
            wanted = [one for one in triggers if self._is_wanted(*one, now_s)]
        self._looked_s = now_s
        return await self._look_at(wanted, now_s) if wanted else []

    def _is_wanted(self, job: Job, trigger: Trigger, now_s: float) -> bool:
        key = (job.name, trigger.key)
        if key in self._asking or now_s < self._held_s.get(key, now_s):
            return False
        return evaluating.depends_on_others(trigger) or now_s >= self._look_at_s.get(key, math.inf)

    async def _look_at(self, wanted: Sequence[tuple[Job, Trigger]], now_s: float) -> list[Ask]:
        def look(ledger: Ledger) -> list[Looked]:
            return [self._looked(ledger, job, trigger, now_s, may_fire=False) for job, trigger in wanted]

        asks: list[Ask] = []
        for (job, trigger), looked in zip(wanted, await self._ledger.transact(look), strict=True):
            # What is to outlive a power cut is synced; few looks come so far, and this one decides anew.
            last = await self._fire(job, trigger) if looked.is_due else looked
            self._remember(job, trigger, last)
            if last.ask is not None:
                self._asking.add((job.name, trigger.key))
                asks.append(last.ask)
        return asks

    async def _fire(self, job: Job, trigger: Trigger) -> Looked:
        now_s = self._clock()
        return await self._ledger.transact(lambda ledger: self._looked(ledger, job, trigger, now_s), durably=True)

    def _looked(self, ledger: Ledger, job: Job, trigger: Trigger, now_s: float, *, may_fire: bool = True) -> Looked:
        return evaluating.look(ledger, job, trigger, now_s, reads=self._reads(job.name), may_fire=may_fire)

    def _remember(self, job: Job, trigger: Trigger, looked: Looked) -> None:
        key = (job.name, trigger.key)
        self._look_at_s.pop(key, None)
        if looked.look_at_s is not None:
            self._look_at_s[key] = looked.look_at_s
        if looked.fired:
            log.info("trigger_fired", job=job.name, trigger=trigger.key)
            self._on_news()
            self._wake_job(job.name)

    async def _ask(self, ask: Ask) -> None:
        """Ask a condition, and fire its trigger if it holds."""
        key = (ask.job, ask.trigger)
        try:
            answer = await self._answer(ask)
            try:
                job = self._catalog().job(ask.job)
                trigger = job.trigger(ask.trigger)
            except (NotFoundError, KeyError):
                return  # the jobs were read anew meanwhile
            now_s = self._clock()
            looked = await self._ledger.transact(
                lambda ledger: evaluating.answered(ledger, job, trigger, ask, answer, now_s=now_s), durably=True
            )
            self._remember(job, trigger, looked)
            if looked.look_at_s is not None and evaluating.depends_on_others(trigger):
                self._held_s[key] = looked.look_at_s
        finally:
            self._asking.discard(key)
            self.wake()

    async def _answer(self, ask: Ask) -> Sequence[Mapping[str, Any]] | str:
        try:
            return await self._query(ask.condition.sql, CONDITION_ROWS)
        except LandingdError as error:
            log.warning("condition_failed", job=ask.job, trigger=ask.trigger, error=error.what)
            return error.what

    async def _sleep(self) -> None:
        """Until something is due or happens, and not for long."""
        due_s = min((at_s for key, at_s in self._look_at_s.items() if key not in self._asking), default=math.inf)
        wait_s = min(max(due_s - self._clock(), 0.0), SLEEP_MAX_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()


def _trigger(job: Job, key: str) -> Trigger:
    try:
        return job.trigger(key)
    except KeyError:
        keys = [trigger.key for trigger in job.triggers]
        hint = did_you_mean(key, keys) or (f"its triggers: {', '.join(keys)}" if keys else "it has no trigger")
        raise NotFoundError(f"job '{job.name}' has no trigger '{key}'", hint=hint) from None
