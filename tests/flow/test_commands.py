"""Commands over real brokers: asked by clients that are not ours, answered whatever becomes of the link."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from structlog.testing import capture_logs

from brokers import Mosquitto, free_port, observing
from landingd.core.commands import ROUTES
from landingd.edge.broker import Address, Incoming, Message, connect, keep_connected
from landingd.edge.embedded_broker import embedded_broker
from landingd.errors import NotFoundError, RefusedError
from landingd.flow import commands as carrying
from landingd.flow.commands import Commands

PREFIX = "landingd/n"
OFFLINE = Message(f"{PREFIX}/status", b"offline", retain=True)
VERBS = frozenset({"run", "repair", "cancel", "pause", "resume"})


class Desk:
    """Answers requests as the daemon would, for two jobs; keeps what it was asked."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.at_once = self.at_once_most = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.news = asyncio.Event()

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Awaitable[Any]]]:
        return {route: self._handler(route) for route in ROUTES}

    def _handler(self, route: str) -> Callable[[dict[str, Any]], Awaitable[Any]]:
        async def handle(asked: dict[str, Any]) -> Any:
            self.asked.append((route, asked))
            self.at_once += 1
            self.at_once_most = max(self.at_once_most, self.at_once)
            self.news.set()
            try:
                await self.hold.wait()
                await asyncio.sleep(0)
                return self._answer(route, asked)
            finally:
                self.at_once -= 1

        return handle

    def _answer(self, route: str, asked: dict[str, Any]) -> Any:
        if asked.get("job") == "unknown":
            raise NotFoundError("no job 'unknown'", hint="landingd status names the jobs")
        if asked.get("job") == "broken":
            raise ZeroDivisionError
        if asked.get("run_id") == 13:
            raise RefusedError("run 13 is still active")
        if route == "POST /v1/runs":
            key = (asked["job"], asked.get("request_id", f"own-{len(self.asked)}"))
            return {"run_id": self.runs.setdefault(key, len(self.runs) + 1), "job": asked["job"]}
        return {"done": route, "number": len(self.asked)}

    async def until_asked(self, count: int) -> None:
        while len(self.asked) < count:
            self.news.clear()
            await self.news.wait()


class Served:
    """Commands on a link that is kept."""

    def __init__(self, desk: Desk, address: Address, allowed: frozenset[str]) -> None:
        self.commands = Commands(desk.handlers(), prefix=PREFIX, allowed=allowed)
        self.states: asyncio.Queue[str] = asyncio.Queue()
        self.links: asyncio.Queue[None] = asyncio.Queue()
        link = keep_connected(
            address,
            client_id="daemon",
            will=OFFLINE,
            farewell=OFFLINE,
            serve=[self.commands.serve, self._served],
            takers={self.commands.topics: self.commands.take},
            backoff_min_s=0.01,
            backoff_max_s=0.05,
            on_state=self.states.put_nowait,
        )
        self.tasks = [asyncio.create_task(link), asyncio.create_task(self.commands.run())]

    async def _served(self, _link: Any) -> None:
        self.links.put_nowait(None)


@asynccontextmanager
async def serving(desk: Desk, address: Address, allowed: frozenset[str] = VERBS) -> AsyncIterator[Served]:
    served = Served(desk, address, allowed)
    try:
        await served.links.get()
        yield served
    finally:
        for task in served.tasks:
            task.cancel()
        for task in served.tasks:
            with suppress(asyncio.CancelledError):
                await task


class Asker:
    """A client that sends commands and hears the answers."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def send(
        self, verb: str, payload: Any, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self._client.publish(f"{PREFIX}/command/{verb}", body, qos=1, retain=retain, properties=properties)

    async def heard(self) -> aiomqtt.Message:
        return await anext(self._client.messages)

    async def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await self.heard()).payload)
        return answer

    async def ask(self, verb: str, payload: Any) -> dict[str, Any]:
        await self.send(verb, payload)
        return await self.answer()


@asynccontextmanager
async def asking(
    port: int, *topics: str, protocol: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V311
) -> AsyncIterator[Asker]:
    async with aiomqtt.Client("127.0.0.1", port, protocol=protocol) as client:
        for topic in topics or (f"{PREFIX}/response/+",):
            await client.subscribe(topic, qos=1)
        yield Asker(client)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(params=["mosquitto", "embedded"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Address]:
    if request.param == "mosquitto":
        with Mosquitto(tmp_path) as running:
            yield Address("127.0.0.1", running.port)
        return
    pytest.importorskip("amqtt")
    port = free_port()
    async with embedded_broker("127.0.0.1", port):
        yield Address("127.0.0.1", port, protocol="3.1.1")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Any:
    with Mosquitto(tmp_path) as running:
        yield running


def at(mosquitto: Mosquitto) -> Address:
    return Address("127.0.0.1", mosquitto.port)


# --- asking and being answered ------------------------------------------------------------------------------


async def test_a_command_is_carried_out_and_answered_with_its_transaction(desk: Desk, address: Address):
    async with serving(desk, address), asking(address.port) as asker:
        await asker.send("run", {"transaction": "t-1", "job": "sales", "parameters": {"month": "Oct"}})
        heard = await asker.heard()
    assert heard.topic.value == f"{PREFIX}/response/run"
    assert not heard.retain
    assert json.loads(heard.payload) == {"transaction": "t-1", "ok": True, "result": {"run_id": 1, "job": "sales"}}
    assert desk.asked == [("POST /v1/runs", {"job": "sales", "parameters": {"month": "Oct"}, "request_id": "mqtt:t-1"})]


async def test_an_answer_goes_to_the_response_topic_of_mqtt_5_too(desk: Desk, mosquitto: Mosquitto):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = "answers/me"
    properties.CorrelationData = b"\0c"
    topics = ("answers/me", f"{PREFIX}/response/+")
    async with (
        serving(desk, at(mosquitto)),
        asking(mosquitto.port, *topics, protocol=aiomqtt.ProtocolVersion.V5) as asker,
    ):
        await asker.send("pause", {"job": "sales", "transaction": 7}, properties=properties)
        heard = {message.topic.value: message for message in [await asker.heard(), await asker.heard()]}
    assert set(heard) == {"answers/me", f"{PREFIX}/response/pause"}
    assert heard["answers/me"].payload == heard[f"{PREFIX}/response/pause"].payload
    assert heard["answers/me"].properties.CorrelationData == b"\0c"
    assert json.loads(heard["answers/me"].payload)["transaction"] == 7


def answers(seen: list[tuple[str, bytes]]) -> list[str]:
    return [topic for topic, payload in seen if b'"ok":' in payload]


@pytest.mark.parametrize("topic", [f"{PREFIX}/status", f"{PREFIX}/command/run", "$CONTROL/x"])
async def test_an_answer_is_not_sent_where_it_would_pass_for_something_else(
    desk: Desk, mosquitto: Mosquitto, topic: str
):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = topic
    async with (
        serving(desk, at(mosquitto)),
        asking(mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5) as asker,
        observing(mosquitto.port) as observer,
    ):
        await asker.send("run", {"job": "sales"}, properties=properties)
        assert (await asker.answer())["ok"]
        assert (await asker.ask("run", {"job": "sales"}))["ok"]
        await observer.until(lambda seen: len(answers(seen)) == 2)
    assert answers(observer.seen) == [f"{PREFIX}/response/run"] * 2


async def test_the_response_topic_may_be_the_usual_one_and_is_answered_on_once(desk: Desk, mosquitto: Mosquitto):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = f"{PREFIX}/response/run"
    properties.CorrelationData = b"c"
    async with serving(desk, at(mosquitto)), asking(mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5) as asker:
        await asker.send("run", {"job": "sales", "transaction": 1}, properties=properties)
        first = await asker.heard()
        assert first.properties.CorrelationData == b"c"
        assert (await asker.ask("run", {"job": "sales", "transaction": 2}))["transaction"] == 2


# --- once ---------------------------------------------------------------------------------------------------


async def test_a_command_that_comes_twice_gives_the_same_run(desk: Desk, address: Address):
    async with serving(desk, address), asking(address.port) as asker:
        first = await asker.ask("run", {"transaction": 5, "job": "sales"})
        assert await asker.ask("run", {"transaction": 5, "job": "sales"}) == first
        assert (await asker.ask("run", {"transaction": 6, "job": "sales"}))["result"]["run_id"] == 2
    assert len(desk.runs) == 2


async def test_a_repair_that_comes_twice_is_carried_out_once(desk: Desk, mosquitto: Mosquitto):
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        desk.hold.clear()
        await asker.send("repair", {"transaction": "r", "run_id": 4})
        await asker.send("repair", {"transaction": "r", "run_id": 4})
        await desk.until_asked(1)
        desk.hold.set()
        assert await asker.answer() == await asker.answer()
        assert len(desk.asked) == 1
        await asker.ask("repair", {"transaction": "s", "run_id": 4})
        assert len(desk.asked) == 2


async def test_a_repair_that_was_refused_may_be_tried_again(desk: Desk, mosquitto: Mosquitto):
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        for _ in range(2):
            answer = await asker.ask("repair", {"transaction": "r", "run_id": 13})
            assert answer["error"] == {"what": "run 13 is still active", "hint": None, "code": "refused"}
    assert len(desk.asked) == 2


# --- refused ------------------------------------------------------------------------------------------------


async def test_a_verb_that_is_not_allowed_is_answered_and_logged_and_nothing_is_done(desk: Desk, address: Address):
    with capture_logs() as logged:
        async with serving(desk, address, frozenset({"pause"})), asking(address.port) as asker:
            answer = await asker.ask("run", {"transaction": 1, "job": "sales"})
    assert answer["transaction"] == 1
    assert answer["error"]["code"] == "not_allowed"
    assert desk.asked == []
    assert [line["verb"] for line in logged if line["event"] == "command_refused"] == ["run"]


async def test_a_message_that_cannot_be_read_is_answered_and_the_next_one_is_carried_out(desk: Desk, address: Address):
    async with serving(desk, address), asking(address.port) as asker:
        for payload in (b"", b"\xff", b"{", b"[1]", b"x" * (65 << 10), b'{"job": 1}', b"[" * 60_000):
            answer = await asker.ask("run", payload)
            assert (answer["ok"], answer["error"]["code"]) == (False, "bad_request")
        assert (await asker.ask("run", {"job": "sales"}))["ok"]


async def test_what_the_request_refuses_is_answered_with_its_words(desk: Desk, mosquitto: Mosquitto):
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        answer = await asker.ask("run", {"transaction": 1, "job": "unknown"})
    assert answer == {
        "transaction": 1,
        "ok": False,
        "error": {"what": "no job 'unknown'", "hint": "landingd status names the jobs", "code": "not_found"},
    }


async def test_a_fault_of_ours_is_logged_and_answered_without_its_traceback(desk: Desk, mosquitto: Mosquitto):
    with capture_logs() as logged:
        async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
            answer = await asker.ask("run", {"job": "broken"})
            assert (await asker.ask("run", {"job": "sales"}))["ok"]
    assert answer["error"]["code"] == "failed"
    assert "Zero" not in json.dumps(answer)
    assert [line["log_level"] for line in logged if line["event"] == "command_failed"] == ["error"]


async def test_a_retained_command_is_not_carried_out_however_often_the_link_comes_back(
    desk: Desk, mosquitto: Mosquitto
):
    async with asking(mosquitto.port) as asker:
        await asker.send("run", {"job": "sales", "transaction": "old"}, retain=True)
        with capture_logs() as logged:
            for _ in range(2):
                async with serving(desk, at(mosquitto)):
                    assert (await asker.ask("pause", {"job": "sales"}))["ok"]
    assert [route for route, _ in desk.asked] == ["POST /v1/jobs/{job}/pause"] * 2
    assert [line["verb"] for line in logged if line["event"] == "retained_command_ignored"] == ["run", "run"]


async def test_a_command_published_as_retained_while_the_daemon_listens_is_one_that_somebody_sends_now(
    desk: Desk, mosquitto: Mosquitto
):
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        await asker.send("run", {"job": "sales"}, retain=True)
        assert (await asker.answer())["ok"]


# --- many ---------------------------------------------------------------------------------------------------


async def test_many_are_carried_out_side_by_side_up_to_a_bound_and_all_are_answered(desk: Desk, mosquitto: Mosquitto):
    desk.hold.clear()
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        for number in range(100):
            await asker.send("run", {"job": f"job{number}", "transaction": number})
        await desk.until_asked(carrying.AT_ONCE_MAX)
        desk.hold.set()
        answers = [await asker.answer() for _ in range(100)]
    assert sorted(answer["transaction"] for answer in answers) == list(range(100))
    assert desk.at_once_most == carrying.AT_ONCE_MAX


async def test_commands_for_one_job_are_carried_out_in_the_order_they_came(desk: Desk, mosquitto: Mosquitto):
    async with serving(desk, at(mosquitto)), asking(mosquitto.port) as asker:
        for number in range(40):
            await asker.send("pause", {"job": "sales", "paused": number % 2 == 0, "transaction": number})
        answers = [await asker.answer() for _ in range(40)]
    assert [answer["transaction"] for answer in answers] == list(range(40))
    assert [route.rpartition("/")[2] for route, _ in desk.asked] == ["pause", "resume"] * 20
    assert desk.at_once_most == 1


async def test_more_than_can_wait_are_answered_as_too_many(
    desk: Desk, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(carrying, "WAITING_MAX", 5)
    desk.hold.clear()
    async with serving(desk, at(mosquitto)) as served, asking(mosquitto.port) as asker:
        for number in range(carrying.AT_ONCE_MAX):
            await asker.send("run", {"job": f"job{number}"})
        await desk.until_asked(carrying.AT_ONCE_MAX)
        for number in range(8):
            await asker.send("run", {"job": "late", "transaction": number})
        busy = [await asker.answer() for _ in range(3)]
        assert [(answer["transaction"], answer["error"]["code"]) for answer in busy] == [
            (number, "busy") for number in (5, 6, 7)
        ]
        desk.hold.set()
        answers = [await asker.answer() for _ in range(carrying.AT_ONCE_MAX + 5)]
        assert all(answer["ok"] for answer in answers)
        assert not served.commands._turns


# --- links that break ---------------------------------------------------------------------------------------


async def test_an_answer_that_finds_no_link_goes_over_the_next_one(desk: Desk, mosquitto: Mosquitto):
    served = Commands(desk.handlers(), prefix=PREFIX, allowed=VERBS)
    working = asyncio.create_task(served.run())
    served.take(Incoming(f"{PREFIX}/command/run", b'{"job": "sales", "transaction": "kept"}'))
    await served._answered.wait()
    async with asking(mosquitto.port) as asker, connect(at(mosquitto), will=OFFLINE, client_id="daemon") as link:
        serving = asyncio.create_task(served.serve(link))
        assert (await asker.answer())["transaction"] == "kept"
        for task in (serving, working):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_command_is_heard_again_after_the_broker_was_away(desk: Desk, mosquitto: Mosquitto):
    async with serving(desk, at(mosquitto)) as served:
        for number in range(3):
            async with asking(mosquitto.port) as asker:
                assert (await asker.ask("run", {"job": "sales", "transaction": number}))["result"][
                    "run_id"
                ] == number + 1
            mosquitto.restart()
            await served.links.get()


async def test_answers_that_nobody_takes_are_given_up_from_the_oldest(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(carrying, "ANSWERS_MAX", 3)
    taken = Commands(desk.handlers(), prefix=PREFIX, allowed=VERBS)
    with capture_logs() as logged:
        for number in range(5):
            taken.take(Incoming(f"{PREFIX}/command/none", b'{"transaction": %d}' % number))
    assert [json.loads(answer.payload)["transaction"] for answer in taken._answers] == [2, 3, 4]
    assert sum(line["event"] == "answer_given_up" for line in logged) == 2
