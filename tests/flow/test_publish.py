"""What is told over a real broker: states that stay, events that wait, and what is said again on each link."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bookkeeping import Clock
from brokers import Mosquitto, Observer, observing
from landingd.core.news import event_id
from landingd.edge.broker import Address, Link, connect
from landingd.edge.ledger import LedgerThread, Notice
from landingd.flow.books import Books
from landingd.flow.publish import Publisher

PREFIX = "landingd/n"
Seen = list[tuple[str, bytes]]


class Told:
    """A publisher over a real ledger, and states that a test can turn."""

    def __init__(self, ledger: LedgerThread) -> None:
        self.ledger = ledger
        self.mark = 0
        self.states: dict[str, dict[str, Any] | None] = {"a": {"job": "a", "n": 0}, "b": {"job": "b", "n": 0}}
        self.triggers: dict[str, dict[str, Any] | None] = {"a": {"triggers": []}, "b": {"triggers": []}}
        self.publisher = Publisher(
            Books(ledger, Clock()),
            prefix=PREFIX,
            daemon_state=self._daemon,
            job_state=self._job,
            trigger_state=self._trigger,
            outbox_max_events=1000,
        )
        self.publisher.set_jobs(["a", "b"])

    async def _daemon(self) -> dict[str, Any]:
        return {"state": "online", "mark": self.mark}

    async def _job(self, job: str) -> dict[str, Any] | None:
        return self.states[job]

    async def _trigger(self, job: str) -> dict[str, Any] | None:
        return self.triggers[job]

    async def tell(self, word: str) -> None:
        """An event happens."""
        payload = {"event_id": event_id(word), "event": word}
        await self.ledger.transact(lambda ledger: ledger.tell([Notice("files", payload)]))
        self.publisher.news()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    ledger = LedgerThread(tmp_path / "ledger.sqlite", keep_notices=True)
    yield Told(ledger)
    ledger.close()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@asynccontextmanager
async def serving(told: Told, mosquitto: Mosquitto) -> AsyncIterator[Link]:
    address = Address("127.0.0.1", mosquitto.port)
    async with connect(address, will=told.publisher.will, client_id="daemon") as link:
        task = asyncio.create_task(told.publisher.serve(link))
        try:
            yield link
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def after(told: Told, observer: Observer) -> Seen:
    """What was seen of the jobs, once everything that was due has been told: the daemon's own state comes last."""
    told.mark += 1
    told.publisher.changed()
    await observer.saw(f"{PREFIX}/status", b'{"state":"online","mark":%d}' % told.mark)
    return [(topic.removeprefix(f"{PREFIX}/"), payload) for topic, payload in observer.seen if "/jobs/" in topic]


def topics(seen: Seen) -> list[str]:
    return [topic for topic, _ in seen]


async def test_each_job_has_its_state_and_its_triggers_kept_for_who_comes_later(told: Told, mosquitto: Mosquitto):
    async with observing(mosquitto.port) as observer, serving(told, mosquitto):
        await after(told, observer)
    async with observing(mosquitto.port) as later:
        await later.saw(f"{PREFIX}/jobs/a/state", b'{"job":"a","n":0}')
        await later.saw(f"{PREFIX}/jobs/b/triggers", b'{"triggers":[]}')
        await later.saw(f"{PREFIX}/status", b'{"state":"online","mark":1}')


async def test_all_of_it_is_told_again_on_each_link(told: Told, mosquitto: Mosquitto):
    for _ in range(2):
        async with observing(mosquitto.port) as observer, serving(told, mosquitto):
            seen = topics(await after(told, observer))
        assert set(seen) == {"jobs/a/state", "jobs/a/triggers", "jobs/b/state", "jobs/b/triggers"}
        mosquitto.restart()  # it has forgotten everything


async def test_on_one_link_only_what_is_new_is_told(told: Told, mosquitto: Mosquitto):
    async with observing(mosquitto.port) as observer, serving(told, mosquitto):
        before = len(await after(told, observer))
        told.publisher.changed("a", "b")
        told.triggers["a"] = {"triggers": [{"trigger": "schedule"}]}
        told.states["b"] = {"job": "b", "n": 1}
        told.publisher.changed("a", "b")
        seen = await after(told, observer)
    new = [(topic, json.loads(payload)) for topic, payload in seen[before:]]
    assert new == [("jobs/a/triggers", told.triggers["a"]), ("jobs/b/state", told.states["b"])]


async def test_a_job_that_is_gone_leaves_nothing_behind_and_may_come_back(told: Told, mosquitto: Mosquitto):
    async with observing(mosquitto.port) as observer, serving(told, mosquitto):
        await after(told, observer)
        told.publisher.set_jobs(["b"])
        seen = await after(told, observer)
        assert [(t, p) for t, p in seen if not p] == [("jobs/a/state", b""), ("jobs/a/triggers", b"")]
        async with observing(mosquitto.port) as later:
            await later.saw(f"{PREFIX}/status", b'{"state":"online","mark":2}')
        assert not [topic for topic, _ in later.seen if "/jobs/a/" in topic]
        told.publisher.set_jobs(["a", "b"])
        assert (await after(told, observer))[-2:] == [
            ("jobs/a/state", b'{"job":"a","n":0}'),
            ("jobs/a/triggers", b'{"triggers":[]}'),
        ]


async def test_a_job_that_goes_while_it_is_asked_about_is_passed_over(told: Told, mosquitto: Mosquitto):
    told.states["a"] = told.triggers["a"] = None
    async with observing(mosquitto.port) as observer, serving(told, mosquitto):
        assert not [topic for topic in topics(await after(told, observer)) if "/a/" in topic]


async def test_events_wait_for_a_link_and_are_told_in_order_and_once(told: Told, mosquitto: Mosquitto):
    words = [f"e{number:03}" for number in range(450)]  # more than are sent at a time
    for word in words:
        await told.tell(word)
    for _ in range(2):
        async with observing(mosquitto.port, f"{PREFIX}/files") as observer, serving(told, mosquitto):
            await told.tell("last" + str(len(words)))
            await observer.until(lambda seen: b"last" in seen[-1][1] if seen else False)
            assert await told.publisher.flushed(60)
        heard = [json.loads(payload)["event"] for _, payload in observer.seen]
        assert heard == [*words, "last" + str(len(words))]
        words = []
