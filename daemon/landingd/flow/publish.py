"""Say over MQTT what happens, so that nothing is lost while the broker is away.

Events lie in the ledger's outbox, written with the change that they tell of, and are deleted once the broker has
acknowledged them; order is kept. Retained topics say how things stand now: the newest wins, and after each reconnect
all of them are announced again. On one link the same state is not said twice: what changes a job's triggers and what
changes its runs are told of together, and mostly only one of the two is new.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from landingd.core import news
from landingd.edge.broker import Link, LinkLost, Message
from landingd.flow.books import Books

log = structlog.get_logger("landingd.publish")

EVENTS_AT_ONCE_MAX = 200

State = dict[str, Any]


class Publisher:
    """Owns what is still to be told. `changed` and `news` may be called at any time; they never wait."""

    def __init__(
        self,
        books: Books,
        *,
        prefix: str,
        daemon_state: Callable[[], Awaitable[State]],
        job_state: Callable[[str], Awaitable[State | None]],
        trigger_state: Callable[[str], Awaitable[State | None]],
        outbox_max_events: int,
    ) -> None:
        """`job_state` and `trigger_state` say how a job and its triggers stand; None: the job has just gone."""
        self._books = books
        self._prefix = prefix
        self._daemon_state = daemon_state
        self._of_job = {"state": job_state, "triggers": trigger_state}
        self._outbox_max_events = outbox_max_events
        self._jobs: set[str] = set()
        self._cleared: set[str] = set()
        self._stale: set[str] = set()
        self._said: dict[str, bytes] = {}
        self._status_stale = True
        self._status_aged = False
        self._census: State | None = None
        self._census_stale = False
        self._wake = asyncio.Event()
        self._flushed = asyncio.Event()
        self.link_state = "not connected yet"

    @property
    def will(self) -> Message:
        """What the broker says for us when we are gone."""
        return self._message("status", {"state": "offline"}, retain=True)

    def set_jobs(self, jobs: list[str]) -> None:
        """The jobs whose state is retained; that of a job that is no more is cleared with an empty message."""
        self._cleared = (self._cleared | self._jobs) - set(jobs)
        self._jobs = set(jobs)
        self.changed()
        self.changed(*jobs)

    def changed(self, *jobs: str) -> None:
        """The state of these jobs is to be told anew; with none named, that of the daemon."""
        self._stale.update(jobs)
        self._status_stale = self._status_stale or not jobs
        self._status_aged = True
        self._wake.set()

    def renew_status(self) -> None:
        """Tell the daemon's state anew if anything changed since; called now and then, not at each change."""
        if self._status_aged:
            self.changed()
            self._status_aged = False

    def census(self, counted: State) -> None:
        """A census was taken: the newest one is retained."""
        self._census, self._census_stale = news.census(counted), True
        self._wake.set()

    def news(self) -> None:
        """There may be events in the outbox."""
        self._flushed.clear()
        self._wake.set()

    async def serve(self, link: Link) -> None:
        """Tell everything, for as long as the link holds."""
        self._said.clear()
        self.changed()
        self.changed(*self._jobs)
        self._census_stale = self._census is not None
        while True:
            self._wake.clear()
            await self._tell_states(link)
            await self._tell_census(link)
            await self._tell_events(link)
            self._flushed.set()
            await self._wake.wait()

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until the outbox was empty, at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._flushed.wait()
        except TimeoutError:
            return False
        return True

    async def trim(self) -> None:
        """Keep the outbox within its bound; what is given up is said."""
        dropped = await self._books.trim_outbox(self._outbox_max_events)
        if dropped:
            log.error("events_given_up", count=dropped, outbox_max_events=self._outbox_max_events)

    async def _tell_states(self, link: Link) -> None:
        while self._stale or self._status_stale:
            stale, self._stale = self._stale, set()
            status_stale, self._status_stale = self._status_stale, False
            try:
                await self._say(link, [m for job in sorted(stale & self._jobs) for m in await self._states_of(job)])
                cleared = set(self._cleared)
                await self._say(link, [m for job in sorted(cleared) for m in self._nothing_of(job)])
                self._cleared -= cleared
                if status_stale:
                    await self._say(link, [self._message("status", await self._daemon_state(), retain=True)])
            except BaseException:
                self._stale |= stale
                self._status_stale = self._status_stale or status_stale
                raise

    async def _states_of(self, job: str) -> list[Message]:
        found = {name: await state(job) for name, state in self._of_job.items()}
        messages = [
            self._message(f"jobs/{job}/{name}", state, retain=True)
            for name, state in found.items()
            if state is not None
        ]
        return [message for message in messages if self._said.get(message.topic) != message.payload]

    def _nothing_of(self, job: str) -> list[Message]:
        return [Message(f"{self._prefix}/jobs/{job}/{name}", b"", retain=True) for name in self._of_job]

    async def _say(self, link: Link, messages: list[Message]) -> None:
        if await link.publish_all(messages) < len(messages):
            raise LinkLost("the link broke while states were told")
        self._said.update((message.topic, message.payload) for message in messages)

    async def _tell_census(self, link: Link) -> None:
        if self._census_stale and self._census is not None:
            self._census_stale = False  # where it does not get through, the next link is told again
            await link.publish_all([self._message("census", self._census, retain=True)])

    async def _tell_events(self, link: Link) -> None:
        while events := await self._books.untold(EVENTS_AT_ONCE_MAX):
            messages = [Message(f"{self._prefix}/{topic}", payload.encode()) for _, topic, payload in events]
            count = await link.publish_all(messages)
            if count:
                await self._books.told(events[count - 1][0])

    def _message(self, topic: str, payload: State, *, retain: bool) -> Message:
        return Message(f"{self._prefix}/{topic}", json.dumps(payload, separators=(",", ":")).encode(), retain)
