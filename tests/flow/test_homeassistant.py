"""Home Assistant, as far as a broker can tell: what it finds there when it comes up, whoever was there first."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from brokers import Mosquitto, Observer, observing
from landingd.edge.broker import Address, Message, connect, keep_connected
from landingd.flow import homeassistant
from landingd.flow.homeassistant import Discovery

PREFIX = "landingd/n"
CONFIG = "homeassistant/device/landingd_n/config"
OFFLINE = Message(f"{PREFIX}/status", b'{"state":"offline"}', retain=True)
ALL = frozenset({"run", "pause", "resume"})


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


def discovery(*jobs: str, allowed: frozenset[str] = ALL) -> Discovery:
    made = Discovery(discovery_prefix="homeassistant", prefix=PREFIX, node="n", version="0.1.0", allowed=allowed)
    made.set_jobs(jobs)
    return made


@asynccontextmanager
async def serving(discovery: Discovery, mosquitto: Mosquitto) -> AsyncIterator[None]:
    link = keep_connected(
        Address("127.0.0.1", mosquitto.port),
        client_id="daemon",
        will=OFFLINE,
        farewell=OFFLINE,
        serve=[discovery.serve],
        takers=discovery.takers,
        backoff_min_s=0.01,
        backoff_max_s=0.05,
        on_state=lambda _: None,
    )
    task = asyncio.create_task(link)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def described(observer: Observer, count: int) -> dict[str, Any]:
    """The components of the message of that number."""
    await observer.until(lambda seen: len(seen) >= count)
    components: dict[str, Any] = json.loads(observer.seen[count - 1][1])["cmps"]
    return components


def jobs_of(components: dict[str, Any]) -> set[str]:
    return {name.rpartition("_")[0] for name, one in components.items() if len(one) > 1}


def gone_of(components: dict[str, Any]) -> set[str]:
    return {name.rpartition("_")[0] for name, one in components.items() if set(one) == {"p"}}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that keeps nothing is not waited for."""
    monkeypatch.setattr(homeassistant, "RETAINED_WAIT_S", 0)


@pytest.mark.usefixtures("at_once")
async def test_the_daemon_is_described_for_who_comes_later(mosquitto: Mosquitto):
    async with observing(mosquitto.port, CONFIG) as observer, serving(discovery("shop", "press"), mosquitto):
        assert jobs_of(await described(observer, 1)) == {"shop", "press"}
    async with observing(mosquitto.port, CONFIG) as later:
        assert jobs_of(await described(later, 1)) == {"shop", "press"}


@pytest.mark.usefixtures("at_once")
async def test_it_is_described_again_when_home_assistant_comes_up(mosquitto: Mosquitto):
    async with observing(mosquitto.port, CONFIG) as observer, serving(discovery("shop"), mosquitto):
        await described(observer, 1)
        async with connect(Address("127.0.0.1", mosquitto.port), will=OFFLINE, client_id="ha") as link:
            for payload in (b"offline", b"online"):
                await link.publish(Message("homeassistant/status", payload))
        await described(observer, 2)
    assert observer.seen[0] == observer.seen[1]
    assert len(observer.seen) == 2


@pytest.mark.usefixtures("at_once")
async def test_it_is_described_again_to_a_broker_that_has_forgotten(mosquitto: Mosquitto):
    async with serving(discovery("shop"), mosquitto):
        for _ in range(2):
            async with observing(mosquitto.port, CONFIG) as observer:
                assert jobs_of(await described(observer, 1)) == {"shop"}
            mosquitto.restart()


@pytest.mark.usefixtures("at_once")
async def test_a_job_that_goes_is_taken_away_and_one_that_comes_back_is_there_again(mosquitto: Mosquitto):
    found = discovery("shop", "press")
    async with observing(mosquitto.port, CONFIG) as observer, serving(found, mosquitto):
        await described(observer, 1)
        found.set_jobs(["shop"])
        components = await described(observer, 2)
        assert (jobs_of(components), gone_of(components)) == ({"shop"}, {"press"})
        found.set_jobs(["shop", "press"])
        components = await described(observer, 3)
        assert (jobs_of(components), gone_of(components)) == ({"shop", "press"}, set())


async def test_a_job_that_went_while_no_daemon_ran_is_taken_away_by_the_next_one(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    async with observing(mosquitto.port, CONFIG) as observer:
        with monkeypatch.context() as first:
            first.setattr(homeassistant, "RETAINED_WAIT_S", 0)
            async with serving(discovery("shop", "press"), mosquitto):
                await described(observer, 1)
        # What the broker has kept is waited for, and it is there long before this.
        monkeypatch.setattr(homeassistant, "RETAINED_WAIT_S", 60)
        async with serving(discovery("shop", allowed=frozenset()), mosquitto):
            components = await described(observer, 2)
        assert (jobs_of(components), gone_of(components)) == ({"shop"}, {"shop", "press"})
        assert {name for name in components if len(components[name]) == 1 and "shop" in name} == {
            "shop_run",
            "shop_pause",
        }
        async with serving(discovery("shop", allowed=frozenset()), mosquitto):
            components = await described(observer, 3)
        assert (jobs_of(components), gone_of(components)) == ({"shop"}, set())


@pytest.mark.usefixtures("at_once")
async def test_what_comes_too_late_to_be_waited_for_is_taken_away_all_the_same(mosquitto: Mosquitto):
    async with observing(mosquitto.port, CONFIG) as observer, serving(discovery("shop"), mosquitto):
        await described(observer, 1)
        left = {"cmps": {"old_result": {"p": "sensor", "stat_t": "x"}}}
        async with connect(Address("127.0.0.1", mosquitto.port), will=OFFLINE, client_id="other") as link:
            await link.publish(Message(CONFIG, json.dumps(left).encode(), retain=True))
        components = await described(observer, 3)
    assert (jobs_of(components), gone_of(components)) == ({"shop"}, {"old"})
