"""Let Home Assistant find the daemon, and forget the jobs that are gone.

What is to be taken away is what was named before, perhaps by a daemon that has stopped since, with other jobs. The
broker remembers: the message is retained, and it is read back before it is replaced.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence

import structlog

from landingd.core import homeassistant
from landingd.edge.broker import Incoming, Link, Message, Taker

log = structlog.get_logger("landingd.homeassistant")

RETAINED_WAIT_S = 1.0
"""How long a first message waits for the one before it. A broker without one does not say so."""


class Discovery:
    """Describes the daemon to Home Assistant on each link (`serve`), and whenever that comes up."""

    def __init__(self, *, discovery_prefix: str, prefix: str, node: str, version: str, allowed: frozenset[str]) -> None:
        """`prefix`: of the daemon's topics; `allowed`: the verbs that may be asked for over MQTT."""
        self._topic = homeassistant.config_topic(discovery_prefix, prefix)
        self._births = homeassistant.birth_topics(discovery_prefix)
        self._prefix = prefix
        self._node = node
        self._version = version
        self._allowed = allowed
        self._jobs: tuple[str, ...] = ()
        self._before: dict[str, str] = {}
        self._known = asyncio.Event()
        self._stale = False
        self._wake = asyncio.Event()

    @property
    def takers(self) -> Mapping[str, Taker]:
        """What takes the messages that it has to hear, by topic."""
        return {self._topic: self._recall, **dict.fromkeys(self._births, self._greet)}

    def set_jobs(self, jobs: Sequence[str]) -> None:
        """The jobs that there are now."""
        self._jobs = tuple(jobs)
        self._renew()

    async def serve(self, link: Link) -> None:
        """Say it, and say it anew when something changes, for as long as the link holds."""
        self._renew()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETAINED_WAIT_S):
                await self._known.wait()
        while True:
            self._wake.clear()
            if self._stale:
                self._stale = False  # where it does not get through, the next link is told again
                await link.publish(self._message())
            await self._wake.wait()

    def _message(self) -> Message:
        described = homeassistant.device(
            self._prefix,
            node=self._node,
            version=self._version,
            jobs=self._jobs,
            allowed=self._allowed,
            before=self._before,
        )
        payload = json.dumps(described, separators=(",", ":")).encode()
        self._before |= homeassistant.named_in(payload)
        return Message(self._topic, payload, retain=True)

    def _recall(self, message: Incoming) -> None:
        """What stands there: left by the last daemon, or our own words."""
        new = homeassistant.named_in(message.payload)
        if not new.keys() <= self._before.keys():
            self._before |= new
            self._renew()
        self._known.set()

    def _greet(self, message: Incoming) -> None:
        if message.payload == homeassistant.ONLINE.encode() and not message.retained:
            log.info("home_assistant_came_up", topic=message.topic)
            self._renew()

    def _renew(self) -> None:
        self._stale = True
        self._wake.set()
