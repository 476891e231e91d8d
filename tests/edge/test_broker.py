"""The link to real brokers: what arrives, and what happens when a broker dies, hangs, refuses or is replaced."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brokers import Mosquitto, certificates, free_port, observing
from landingd.edge.broker import Address, Incoming, Link, LinkLost, Message, Refused, connect, keep_connected, keeping
from landingd.edge.broker import link as linking
from landingd.edge.embedded_broker import embedded_broker
from landingd.errors import ConfigError

ONLINE = Message("landingd/n/status", b"online", retain=True)
OFFLINE = Message("landingd/n/status", b"offline", retain=True)
GOODBYE = Message("landingd/n/status", b"goodbye", retain=True)

RIGHT, WRONG = "hunter2", "hunter3"

MQTT_5 = b"\0\4MQTT\5"
MQTT_3_1_1 = b"\0\4MQTT\4"
"""How a client begins that speaks it."""


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    before = asyncio.all_tasks()
    yield
    gc.collect()
    await asyncio.sleep(0)  # a task that was cancelled last needs one more turn to end
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert not [task for task in left if task is not asyncio.current_task()]
    assert not reports


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture(params=["mosquitto", "embedded"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Address]:
    """Where a broker of either kind is."""
    if request.param == "mosquitto":
        with Mosquitto(tmp_path) as running:
            yield at(running.port)
        return
    pytest.importorskip("amqtt")
    port = free_port()
    async with embedded_broker("127.0.0.1", port):
        yield at(port, protocol="3.1.1")


def at(port: int, **more: Any) -> Address:
    return Address("127.0.0.1", port, **more)


def linked(address: Address, client_id: str = "test") -> Any:
    return connect(address, will=OFFLINE, client_id=client_id)


class Kept:
    """`keep_connected` as a task, and a signal for each thing that it does."""

    def __init__(self, address: Address, serve: Callable[[Link], Awaitable[None]] | None = None, **more: Any):
        self.states: asyncio.Queue[str] = asyncio.Queue()
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.ended: asyncio.Queue[None] = asyncio.Queue()
        self._serve = serve
        options = {"backoff_min_s": 0.01, "backoff_max_s": 0.05, "client_id": "test"} | more
        self.task = asyncio.create_task(
            keep_connected(
                address,
                will=OFFLINE,
                farewell=GOODBYE,
                serve=[self.serve],
                on_state=self.states.put_nowait,
                **options,
            )
        )

    async def serve(self, link: Link) -> None:
        await link.publish(ONLINE)
        self.links.put_nowait(link)
        try:
            await (self._serve(link) if self._serve else asyncio.Event().wait())
        finally:
            self.ended.put_nowait(None)

    async def state(self, start: str) -> str:
        """The next state that begins so; those before it are passed over."""
        while not (state := await self.states.get()).startswith(start):
            pass
        return state

    async def cancel(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def kept(*arguments: Any, **more: Any) -> AsyncIterator[Kept]:
    keeper = Kept(*arguments, **more)
    try:
        yield keeper
    finally:
        await keeper.cancel()


# --- publishing -------------------------------------------------------------------------------------------


async def test_a_message_that_was_published_is_with_the_subscribers(address: Address):
    async with observing(address.port) as observer, linked(address) as link:
        await link.publish(Message("a/b", b"\x00\xff"))
        await observer.saw("a/b", b"\x00\xff")


async def test_a_retained_message_is_there_for_who_comes_later_and_another_is_not(address: Address):
    async with linked(address) as link:
        await link.publish(Message("lost", b"1"))
        await link.publish(Message("kept", b"2", retain=True))
    async with observing(address.port) as observer:
        await observer.saw("kept", b"2")
    assert ("lost", b"1") not in observer.seen


async def test_many_messages_arrive_in_the_order_they_were_given(address: Address):
    messages = [Message("events", b"%d" % number) for number in range(300)]
    async with observing(address.port) as observer, linked(address) as link:
        assert await link.publish_all(messages) == len(messages)
        await observer.until(lambda seen: len(seen) >= len(messages))
    assert observer.seen == [(message.topic, message.payload) for message in messages]


async def test_publishing_nothing_is_published(mosquitto: Mosquitto):
    async with linked(at(mosquitto.port)) as link:
        assert await link.publish_all([]) == 0


async def test_a_broker_that_hangs_costs_a_publish_its_timeout_and_no_more(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 0.2)
    async with linked(at(mosquitto.port)) as link:
        mosquitto.hang()
        with pytest.raises(LinkLost, match="timed out"):
            await link.publish(ONLINE)
        with pytest.raises(LinkLost):
            await link.publish_all([ONLINE] * 50)


async def test_a_link_that_breaks_on_the_way_tells_how_far_it_came(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 0.5)
    async with linked(at(mosquitto.port)) as link, observing(mosquitto.port) as observer:

        async def break_it() -> None:
            await observer.until(lambda seen: len(seen) > 100)
            mosquitto.kill()

        breaking = asyncio.create_task(break_it())
        listening = asyncio.create_task(link.listen())
        messages = [Message("events", b"%d" % number) for number in range(100_000)]
        publishing = asyncio.create_task(link.publish_all(messages))
        await breaking
        with pytest.raises(LinkLost):
            await listening
        assert 0 < await publishing < len(messages)
        with pytest.raises(LinkLost):
            await link.publish_all(messages[:2])


@pytest.mark.parametrize("many", [False, True])
async def test_a_cancellation_in_the_moment_of_the_acknowledgement_is_not_forgotten(
    mosquitto: Mosquitto, *, many: bool
):
    async with linked(at(mosquitto.port)) as link:
        publishing = asyncio.create_task(link.publish_all([ONLINE]) if many else link.publish(ONLINE))
        paho = link._client._client
        tell = paho.on_publish

        def acknowledged(*arguments: Any) -> None:
            tell(*arguments)
            publishing.cancel()

        paho.on_publish = acknowledged
        with pytest.raises(asyncio.CancelledError):
            await publishing


# --- versions ---------------------------------------------------------------------------------------------


async def test_mqtt_5_is_spoken_where_the_broker_does(mosquitto: Mosquitto):
    async with linked(at(mosquitto.port)) as link:
        assert link.protocol == "5"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_version_that_is_asked_for_is_the_one_spoken(mosquitto: Mosquitto, protocol: str):
    async with linked(at(mosquitto.port, protocol=protocol)) as link:
        await link.publish(ONLINE)
        assert link.protocol == protocol


async def test_an_older_broker_is_spoken_to_in_its_version_and_asked_for_the_newer_one_once(
    monkeypatch: pytest.MonkeyPatch,
):
    pytest.importorskip("amqtt")
    dialled: list[str] = []
    dial = linking._dial

    async def recorded(address: Address, version: str, **more: Any) -> Link:
        dialled.append(version)
        return await dial(address, version, **more)

    monkeypatch.setattr(linking, "_dial", recorded)
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 1)  # this one does not even refuse the newer version
    port = free_port()
    async with embedded_broker("127.0.0.1", port), kept(at(port)) as keeper:
        for _ in range(3):
            assert await keeper.state("connected") == "connected with MQTT 3.1.1"
            cut(await keeper.links.get())
    assert dialled[:4] == ["5", "3.1.1", "3.1.1", "3.1.1"]


async def test_a_broker_that_is_replaced_by_a_newer_one_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("amqtt")
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 1)
    port = free_port()
    async with kept(at(port)) as keeper:
        async with embedded_broker("127.0.0.1", port):
            await keeper.state("connected with MQTT 3.1.1")
            users = Mosquitto(tmp_path, users={"nobody": "knows"})
        users.port = port
        with users:
            await keeper.state("refused")
            users.kill()
            open_to_all = Mosquitto(tmp_path)
            open_to_all.port = port
            with open_to_all:
                await keeper.state("connected with MQTT 5")


async def test_a_broker_that_refuses_the_newer_version_is_spoken_to_in_the_older_one_at_once():
    asked: list[bytes] = []

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.read(1000))[2:9])
        wrong_version, wrong_password = b"\x20\2\0\1", b"\x20\2\0\4"
        writer.write(wrong_version if asked[-1] == MQTT_5 else wrong_password)
        await writer.drain()
        writer.close()

    async with guests_of(guest) as port, asyncio.timeout(linking.ANSWER_TIMEOUT_S / 2):
        with pytest.raises(Refused, match="Bad user name or password"):
            async with linked(at(port)):
                pass
        with pytest.raises(Refused, match="Unsupported protocol version"):
            async with linked(at(port, protocol="5")):
                pass
    assert asked == [MQTT_5, MQTT_3_1_1, MQTT_5]


# --- a link that ends -------------------------------------------------------------------------------------


def cut(link: Link) -> None:
    """What a kill does: the connection is gone, and nobody has said goodbye."""
    sock = link._client._client.socket()
    assert isinstance(sock, socket.socket)
    sock.shutdown(socket.SHUT_RDWR)


async def test_the_will_is_published_when_the_connection_is_cut(address: Address):
    async with observing(address.port) as observer:
        async with linked(address) as link:
            await link.publish(ONLINE)
            cut(link)
            with pytest.raises(LinkLost):
                await link.listen()
        await observer.saw(OFFLINE.topic, OFFLINE.payload)
    async with observing(address.port) as later:
        await later.saw(OFFLINE.topic, OFFLINE.payload)


async def test_a_clean_end_says_farewell_after_the_last_words_and_leaves_the_will_unsent(address: Address):
    async def serve(link: Link) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await link.publish(Message("last", b"words"))

    async with observing(address.port) as observer:
        async with kept(address, serve) as keeper:
            await keeper.links.get()
        await observer.saw(GOODBYE.topic, GOODBYE.payload)
        async with linked(address, "another") as link:  # what the broker had before this, it has told
            await link.publish(Message("end", b""))
        await observer.saw("end", b"")
    assert [payload for _, payload in observer.seen] == [b"online", b"words", b"goodbye", b""]


async def test_a_failure_of_the_server_comes_out_and_the_broker_hears_that_we_are_gone(mosquitto: Mosquitto):
    async def serve(_link: Link) -> None:
        raise ZeroDivisionError

    async with observing(mosquitto.port) as observer:
        keeper = Kept(at(mosquitto.port), serve)
        with pytest.raises(ZeroDivisionError):
            await keeper.task
        await observer.saw(GOODBYE.topic, GOODBYE.payload)


async def test_a_cancellation_in_the_moment_of_a_loss_is_not_forgotten(mosquitto: Mosquitto):
    async def serve(_link: Link) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LinkLost("in the moment of the cancellation") from None

    keeper = Kept(at(mosquitto.port), serve)
    await keeper.links.get()
    keeper.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeper.task


async def test_a_server_that_has_finished_leaves_the_link_up(mosquitto: Mosquitto):
    async def serve(_link: Link) -> None:
        return

    got: asyncio.Queue[Incoming] = asyncio.Queue()
    async with kept(at(mosquitto.port), serve, takers={"c": got.put_nowait}) as keeper:
        await keeper.ended.get()
        async with linked(at(mosquitto.port), "another") as link:
            await link.publish(Message("c", b"still there"))
        assert (await got.get()).payload == b"still there"


async def test_a_stop_does_not_wait_for_a_broker_that_hangs(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping, "FAREWELL_TIMEOUT_S", 0.05)
    async with kept(at(mosquitto.port)) as keeper:
        await keeper.links.get()
        mosquitto.hang()


# --- a broker that goes and comes -------------------------------------------------------------------------


async def test_a_broker_that_dies_is_noticed_while_nothing_is_sent_and_served_again_when_it_is_back(
    mosquitto: Mosquitto,
):
    async with kept(at(mosquitto.port)) as keeper:
        await keeper.links.get()
        mosquitto.kill()
        await keeper.ended.get()
        assert (await keeper.state("lost")).startswith("lost: ")
        mosquitto.start()
        await keeper.links.get()
        async with observing(mosquitto.port) as observer:
            await observer.saw(ONLINE.topic, ONLINE.payload)


async def test_a_broker_that_dies_with_publishes_pending_is_noticed_at_once(mosquitto: Mosquitto):
    async def serve(link: Link) -> None:
        mosquitto.hang()
        publishing.set()
        await link.publish_all([ONLINE] * 100)

    publishing = asyncio.Event()
    async with kept(at(mosquitto.port), serve) as keeper, asyncio.timeout(linking.ANSWER_TIMEOUT_S / 2):
        await publishing.wait()
        mosquitto.kill()
        await keeper.state("lost")


async def test_an_orderly_stop_of_the_broker_is_a_loss_like_any_other(mosquitto: Mosquitto):
    async with kept(at(mosquitto.port)) as keeper:
        await keeper.links.get()
        mosquitto.stop()
        await keeper.state("lost")
        mosquitto.start()
        await keeper.state("connected")


async def test_a_broker_that_is_killed_again_and_again_under_load_is_found_again(mosquitto: Mosquitto):
    async def serve(link: Link) -> None:
        while True:
            await link.publish_all([Message("load", b"x" * 1000)] * 100)

    async with kept(at(mosquitto.port), serve) as keeper:
        for _ in range(5):
            await keeper.links.get()
            mosquitto.restart()
        await keeper.links.get()


async def test_a_broker_that_is_away_for_long_is_told_once(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    attempts: asyncio.Queue[None] = asyncio.Queue()
    dial = linking._dial

    async def counted(*arguments: Any, **more: Any) -> Link:
        attempts.put_nowait(None)
        return await dial(*arguments, **more)

    monkeypatch.setattr(linking, "_dial", counted)
    mosquitto.kill()
    async with kept(at(mosquitto.port)) as keeper:
        for _ in range(5):
            await attempts.get()
        assert await keeper.states.get() == "lost: Connection refused"
        assert keeper.states.empty()


async def test_the_pause_before_another_attempt_doubles_up_to_its_limit(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    mosquitto.kill()
    pauses: list[float] = []
    enough = asyncio.Event()

    def jitter(least: float, most: float) -> float:
        assert (least, most) == (0.5, 1)
        return 1.0

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 5:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(keeping.random, "uniform", jitter)
    monkeypatch.setattr(keeping, "asyncio", Replaced(asyncio, sleep=sleep))
    async with kept(at(mosquitto.port), backoff_min_s=1, backoff_max_s=6):
        await enough.wait()
    assert pauses == [1, 2, 4, 6, 6]


class Replaced:
    """A module with some of its names replaced, for one user of it only."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


# --- who may not ------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_as_a_refusal_and_the_right_one_is_let_in(tmp_path: Path):
    with Mosquitto(tmp_path, users={"me": RIGHT}) as running:
        async with kept(at(running.port, username="me", password=WRONG)) as keeper:
            assert await keeper.states.get() == "refused: Not authorized"
        async with linked(at(running.port, username="me", password=RIGHT)) as link:
            await link.publish(ONLINE)


def test_an_address_does_not_show_its_password():
    assert RIGHT not in repr(at(1, password=RIGHT))


# paho leaves a socket whose handshake has failed to the garbage collector, which closes it.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_a_broker_is_trusted_when_its_certificate_is_from_the_authority_named(tmp_path: Path):
    tls = certificates(tmp_path / "tls")
    with Mosquitto(tmp_path, tls=tls) as running:
        async with linked(at(running.port, tls=True, ca_file=tls / "ca.pem")) as link:
            await link.publish(ONLINE)
        with pytest.raises(LinkLost, match="certificate verify failed"):
            async with linked(at(running.port, tls=True)):
                pass
        with pytest.raises(LinkLost, match="certificate verify failed"):
            async with linked(Address("localhost", running.port, tls=True, ca_file=tls / "ca.pem")):
                pass


async def test_a_certificate_that_cannot_be_read_stops_the_start(tmp_path: Path):
    gone = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot be used for TLS"):
        await Kept(at(1, tls=True, ca_file=gone)).task


async def test_a_host_that_cannot_be_one_is_out_of_reach_like_any_other():
    with pytest.raises(LinkLost, match="cannot be a host name"):
        async with linked(Address("a" * 64 + ".example")):
            pass


# --- a broker that does not answer ------------------------------------------------------------------------


@asynccontextmanager
async def guests_of(
    guest: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(guest, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def mute_broker() -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """It takes connections and says nothing; the queue tells what its guests do."""
    guests: asyncio.Queue[str] = asyncio.Queue()

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        guests.put_nowait("came")
        while await reader.read(1000):
            pass
        guests.put_nowait("left")
        writer.close()

    async with guests_of(guest) as port:
        yield port, guests


async def test_an_attempt_that_gets_no_answer_leaves_no_connection_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 0.05)
    async with mute_broker() as (port, guests):
        with pytest.raises(LinkLost, match="timed out"):
            async with linked(at(port)):
                pass
        for _version in range(2):
            assert [await guests.get(), await guests.get()] == ["came", "left"]


async def test_a_stop_in_the_middle_of_connecting_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(linking, "ANSWER_TIMEOUT_S", 0.2)
    async with mute_broker() as (port, guests):
        keeper = Kept(at(port))
        assert await guests.get() == "came"
        await keeper.cancel()
        assert await guests.get() == "left"


async def test_a_broker_that_hangs_up_instead_of_answering_is_tried_with_the_older_version_at_once():
    asked: list[bytes] = []

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.read(1000))[2:9])
        writer.close()

    async with guests_of(guest) as port, asyncio.timeout(linking.ANSWER_TIMEOUT_S / 2):
        with pytest.raises(LinkLost, match="hung up without an answer"):
            async with linked(at(port)):
                pass
    assert asked == [MQTT_5, MQTT_3_1_1]


# --- what comes in ----------------------------------------------------------------------------------------


@asynccontextmanager
async def asking(port: int, protocol: str = "5") -> AsyncIterator[aiomqtt.Client]:
    """A client that is not ours."""
    async with aiomqtt.Client("127.0.0.1", port, protocol=linking.VERSIONS[protocol]) as client:
        yield client


def question(response_topic: str, correlation: bytes) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = response_topic
    properties.CorrelationData = correlation
    return properties


async def test_messages_come_in_beside_what_goes_out_each_to_the_taker_of_its_topic(address: Address):
    commands: asyncio.Queue[Incoming] = asyncio.Queue()
    others: asyncio.Queue[Incoming] = asyncio.Queue()
    takers = {"n/command/+": commands.put_nowait, "n/birth": others.put_nowait}
    async with kept(address, takers=takers) as keeper:
        await keeper.links.get()
        async with linked(address, "another") as link:
            await link.publish(Message("n/other", b"no"))
            await link.publish(Message("n/command/run/deeper", b"no"))
            await link.publish(Message("n/command/run", b"\xff"))
            await link.publish(Message("n/birth", b"online"))
        assert await commands.get() == Incoming("n/command/run", b"\xff")
        assert await others.get() == Incoming("n/birth", b"online")
    assert commands.empty()
    assert others.empty()


async def test_what_the_broker_kept_from_before_is_told_from_what_somebody_says_now(address: Address):
    got: asyncio.Queue[Incoming] = asyncio.Queue()
    async with linked(address, "another") as link:
        await link.publish(Message("c", b"old", retain=True))
        async with kept(address, takers={"c": got.put_nowait}) as keeper:
            await keeper.links.get()
            assert await got.get() == Incoming("c", b"old", retained=True)
            await link.publish(Message("c", b"new"))
            assert await got.get() == Incoming("c", b"new")


async def test_a_question_of_mqtt_5_says_where_the_answer_is_waited_for_and_what_it_is_to_carry(mosquitto: Mosquitto):
    got: asyncio.Queue[Incoming] = asyncio.Queue()
    async with kept(at(mosquitto.port), takers={"c": got.put_nowait}) as keeper:
        link = await keeper.links.get()
        async with asking(mosquitto.port) as client:
            await client.subscribe("answers/me", qos=1)
            await client.publish("c", b"?", qos=1, properties=question("answers/me", b"\0\1"))
            asked = await got.get()
            assert asked == Incoming("c", b"?", response_topic="answers/me", correlation=b"\0\1")
            await link.publish(Message("answers/me", b"!", correlation=asked.correlation))
            answer = await anext(client.messages)
            assert (answer.payload, answer.properties.CorrelationData) == (b"!", b"\0\1")


async def test_an_older_link_takes_questions_of_mqtt_5_and_answers_without_what_it_cannot_carry(mosquitto: Mosquitto):
    got: asyncio.Queue[Incoming] = asyncio.Queue()
    async with kept(at(mosquitto.port, protocol="3.1.1"), takers={"c": got.put_nowait}) as keeper:
        link = await keeper.links.get()
        async with asking(mosquitto.port) as client, observing(mosquitto.port, "a") as observer:
            await client.publish("c", b"?", qos=1, properties=question("a", b"7"))
            assert await got.get() == Incoming("c", b"?")
            await link.publish(Message("a", b"!", correlation=b"7"))
            await observer.saw("a", b"!")


async def test_topics_are_subscribed_to_again_on_each_link(mosquitto: Mosquitto):
    got: asyncio.Queue[Incoming] = asyncio.Queue()
    async with kept(at(mosquitto.port), takers={"c": got.put_nowait}) as keeper:
        for word in (b"1", b"2"):
            await keeper.links.get()
            async with linked(at(mosquitto.port), "another") as link:
                await link.publish(Message("c", word))
            assert (await got.get()).payload == word
            mosquitto.restart()


async def test_several_servers_share_a_link_and_end_with_it(mosquitto: Mosquitto):
    ended: asyncio.Queue[str] = asyncio.Queue()

    def server(name: str) -> Callable[[Link], Any]:
        async def serve(link: Link) -> None:
            await link.publish(Message(name, b"here"))
            try:
                await asyncio.Event().wait()
            finally:
                ended.put_nowait(name)

        return serve

    async with observing(mosquitto.port) as observer:
        keeping_up = keep_connected(
            at(mosquitto.port),
            client_id="test",
            will=OFFLINE,
            farewell=GOODBYE,
            serve=[server("one"), server("two")],
            backoff_min_s=0.01,
            backoff_max_s=0.05,
            on_state=lambda _: None,
        )
        task = asyncio.create_task(keeping_up)
        await observer.saw("one", b"here")
        await observer.saw("two", b"here")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await observer.saw(GOODBYE.topic, GOODBYE.payload)
    assert {ended.get_nowait(), ended.get_nowait()} == {"one", "two"}


async def test_a_failure_in_taking_a_message_is_no_loss_of_the_link(mosquitto: Mosquitto):
    keeper = Kept(at(mosquitto.port), takers={"c": lambda message: message.payload.decode()})
    await keeper.links.get()
    async with linked(at(mosquitto.port), "another") as link:
        await link.publish(Message("c", b"\xff"))
    with pytest.raises(UnicodeDecodeError):
        await keeper.task


# --- the embedded broker ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104 - that it is refused is the claim
async def test_the_embedded_broker_does_not_listen_to_the_network(host: str):
    with pytest.raises(ConfigError, match="no loopback address"):
        async with embedded_broker(host, free_port()):
            pass


async def test_a_port_that_is_taken_is_told_with_a_way_out(mosquitto: Mosquitto):
    pytest.importorskip("amqtt")
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*in use") as caught:
        async with embedded_broker("127.0.0.1", mosquitto.port):
            pass
    assert "broker.embedded = false" in (caught.value.hint or "")


async def test_without_its_package_the_embedded_broker_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        async with embedded_broker("127.0.0.1", free_port()):
            pass
    assert "landingd[broker]" in (caught.value.hint or "")


async def test_the_embedded_broker_can_listen_on_ipv6_too():
    pytest.importorskip("amqtt")
    port = free_port()
    async with embedded_broker("::1", port), linked(Address("::1", port, protocol="3.1.1")) as link:
        await link.publish(ONLINE)
