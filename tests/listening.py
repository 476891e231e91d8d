"""A subscriber in a thread of its own, so that a story can act and look in plain order while it hears."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self, TypeVar

import aiomqtt
import pytest

T = TypeVar("T")

RECONNECT_S = 0.02


class Heard(NamedTuple):
    """One message; `retained` if the broker kept it from before the subscription."""

    topic: str
    payload: dict[str, Any]
    retained: bool


class Subscriber:
    """Hears everything below the root, in order, and comes back by itself when the broker does.

    At QoS 0: the broker has written a message into our connection before it acknowledges it to the publisher, so even
    a broker that is killed then has told us, and nothing depends on what it would remember.
    """

    def __init__(self, port: int, topic: str = "landingd/#") -> None:
        self.heard: list[Heard] = []
        self._port = port
        self._topic = topic
        self._news = threading.Condition()
        self._subscriptions = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._listen()], daemon=True)
        self._ending = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self.until_subscribed(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()
        self._loop.close()

    # -- looking --

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The payloads of these events so far (of all, where none is named)."""
        with self._news:
            heard = [m.payload for m in self.heard if "event" in m.payload]
        return [payload for payload in heard if not kinds or payload["event"] in kinds]

    def retained(self) -> dict[str, dict[str, Any]]:
        """What the broker keeps, asked anew by a second client."""
        with Subscriber(self._port, self._topic) as late:
            late.until(lambda: any(m.retained and m.topic.endswith("/status") for m in late.heard))
            return {m.topic: m.payload for m in late.heard if m.retained}

    def until(self, predicate: Callable[[], T], timeout_s: float = 20.0) -> T:
        """Wait until what was heard makes this true."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while not (found := predicate()):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    last = "\n".join(map(str, self.heard[-20:]))
                    pytest.fail(f"waited {timeout_s:g} s in vain; heard last:\n{last}")
                self._news.wait(min(left_s, 0.5))
            return found

    @property
    def subscriptions(self) -> int:
        """How often it has subscribed."""
        return self._subscriptions

    def until_subscribed(self, times: int) -> None:
        self.until(lambda: self._subscriptions >= times)

    # -- hearing --

    async def _listen(self) -> None:
        ended = asyncio.create_task(self._ending.wait())
        while not ended.done():
            hearing = asyncio.create_task(self._connection())
            await asyncio.wait({hearing, ended}, return_when=asyncio.FIRST_COMPLETED)
            hearing.cancel()
            with suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await hearing
            await asyncio.wait({ended}, timeout=RECONNECT_S)

    async def _connection(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            await client.subscribe(self._topic, qos=0)
            self._note(None)
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                self._note(Heard(message.topic.value, json.loads(message.payload or b"{}"), message.retain))

    def _note(self, heard: Heard | None) -> None:
        with self._news:
            if heard is None:
                self._subscriptions += 1
            else:
                self.heard.append(heard)
            self._news.notify_all()
