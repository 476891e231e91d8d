"""One connection to an MQTT broker: what goes out over it, what comes in, and how it ends.

The only module that knows aiomqtt. Above it there are values (`Message`, `Incoming`, `Address`), one `Link`, and one
kind of failure, `LinkLost`. Publishing is at QoS 1: a message is told of as published when the broker has
acknowledged it, and it can arrive twice. A broker acknowledges also what its access list then drops; nobody
can tell.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from landingd.edge.broker.values import Address, Incoming, LinkLost, Message, Refused, Taker
from landingd.errors import ConfigError

IN_FLIGHT_MAX = 20
"""Publishes that wait for their acknowledgement at a time: what Mosquitto takes from a client by default."""
INCOMING_MAX = 1000
"""Messages that may wait to be read; what comes beyond it is thrown away."""
ANSWER_TIMEOUT_S = 5.0
"""A broker that does not answer a request within this long is taken to be gone."""

UNSPECIFIED = 128
"""The reason that is given for a connection that ended without one."""
UNSUPPORTED_VERSION = 132
REFUSED_FROM = 128
"""MQTT's reason codes are failures from here on."""

VERSIONS = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}

log = structlog.stdlib.get_logger(__name__)


class _NotUnderstood(LinkLost):
    """The broker hangs up or stays silent where it should answer. Perhaps it cannot read this version of MQTT."""


class _VersionRefused(Refused, _NotUnderstood):
    """The broker says that it does not speak this version of MQTT."""


class Link:
    """One connection to a broker. Once lost, it stays lost."""

    def __init__(self, client: aiomqtt.Client, *, protocol: str) -> None:
        self._client = client
        self.protocol = protocol

    async def publish(self, message: Message) -> None:
        """Return when the broker has acknowledged the message, or raise LinkLost."""
        properties = None
        if message.correlation is not None and self.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        with _as_link_lost():
            await self._client.publish(
                message.topic, message.payload, qos=1, retain=message.retain, properties=properties
            )

    async def publish_all(self, messages: Sequence[Message]) -> int:
        """Publish in this order, many at a time; return how many of the first are acknowledged.

        Like a write, it does what it can: fewer than all means that the link broke on the way, and LinkLost
        is raised only where none was acknowledged. What comes after the number may have arrived all the
        same.
        """
        acknowledged = 0
        window: deque[asyncio.Task[None]] = deque()
        try:
            for message in messages:
                window.append(asyncio.create_task(self.publish(message)))
                if len(window) == IN_FLIGHT_MAX:
                    await window.popleft()
                    acknowledged += 1
            while window:
                await window.popleft()
                acknowledged += 1
        except LinkLost:
            if not acknowledged:
                raise
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
        return acknowledged

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for messages. A topic that is refused is logged; the rest of the link is of use without it."""
        if not topics:
            return
        with _as_link_lost():
            granted = await self._client.subscribe([(topic, 1) for topic in topics])
        for topic, code in zip(topics, granted, strict=True):
            if _number(code) >= REFUSED_FROM:
                log.warning("broker_refused_subscription", topic=topic, reason=str(code))

    async def listen(self, takers: Mapping[str, Taker] | None = None) -> NoReturn:
        """Hand over each message that comes in to the takers of its topic, by topic filter, until the link breaks:
        it ends with LinkLost, at once.
        """
        with _as_link_lost():
            async for message in self._client.messages:
                for topics, take in (takers or {}).items():
                    if message.topic.matches(topics):
                        take(_incoming(message))
        raise LinkLost("the connection was closed")


@asynccontextmanager
async def connect(address: Address, *, will: Message, client_id: str) -> AsyncIterator[Link]:
    """Connect once. Leaving it says goodbye to the broker, which then keeps the `will` to itself.

    Nobody notices the loss of this link who does not `listen`; `keep_connected` does.
    """
    *earlier, last = VERSIONS if address.protocol == "auto" else [address.protocol]
    link = None
    for version in earlier:
        with contextlib.suppress(_NotUnderstood):
            link = await _dial(address, version, will=will, client_id=client_id)
    link = link or await _dial(address, last, will=will, client_id=client_id)
    try:
        yield link
    finally:
        await _hang_up(link)


# --- what aiomqtt needs -----------------------------------------------------------------------------------


def _incoming(message: aiomqtt.Message) -> Incoming:
    said = message.properties  # of MQTT 5; each of them is there only where the sender has given it
    return Incoming(
        message.topic.value,
        bytes(message.payload),
        bool(message.retain),
        getattr(said, "ResponseTopic", None),
        getattr(said, "CorrelationData", None),
    )


class _HungUp(aiomqtt.MqttError):
    pass


class _Client(aiomqtt.Client):
    """aiomqtt 2.5 with two holes closed; the names that this takes are private, and the tests notice a change.

    A broker that hangs up instead of answering is noticed at once and not after the timeout. Brokers that
    cannot read MQTT 5 do that, although the older standard tells them to answer. And a socket that was closed
    in the meantime is not watched any more: a broker that is killed in the middle of a publish left an
    exception in the event loop, or a watch on whatever was opened next.
    """

    reached = False
    """Whether there was somebody to connect to."""

    def _on_socket_open(self, *arguments: Any) -> None:
        self.reached = True
        super()._on_socket_open(*arguments)

    def _on_socket_register_write(self, _client: object, _userdata: object, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch_writable, sock)

    def _watch_writable(self, sock: Any) -> None:
        if sock.fileno() >= 0:  # it was closed before the loop came to this, and its number may be another's
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - as aiomqtt does: whatever it is, the link is gone
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_disconnect(self, *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(self._give_up_dialling)
        super()._on_disconnect(*arguments)

    def _give_up_dialling(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(_HungUp("the broker hung up without an answer"))
            self._connected.exception()  # or asyncio reports it where nobody waits any more


async def _dial(address: Address, version: str, *, will: Message, client_id: str) -> Link:
    """A new client for each attempt: one that is used again says too early that it is connected."""
    client = _Client(
        address.host,
        address.port,
        identifier=client_id,
        username=address.username or None,
        password=address.password or None,
        protocol=VERSIONS[version],
        will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
        keepalive=address.keepalive_s,
        timeout=ANSWER_TIMEOUT_S,
        max_inflight_messages=IN_FLIGHT_MAX,
        max_queued_incoming_messages=INCOMING_MAX,
        tls_context=tls_context(address),
    )
    client.pending_calls_threshold = IN_FLIGHT_MAX
    link = Link(client, protocol=version)
    dialling = asyncio.ensure_future(client.__aenter__())
    try:
        with _as_link_lost():
            await asyncio.shield(dialling)
    except asyncio.CancelledError:
        # The dialling is done by a thread, which cannot be stopped. Whatever it opens would outlive us, and
        # be answered by nobody, so it is waited for (the timeouts bound that) and closed.
        await _abandon(dialling, link)
        raise
    except UnicodeError as error:
        raise LinkLost(f"{address.host!r} cannot be a host name: {error}") from None
    except Refused:
        raise
    except LinkLost as lost:
        await _abandon(dialling, link)
        raise (_NotUnderstood(str(lost)) if client.reached else lost) from None
    return link


async def _abandon(dialling: asyncio.Task[_Client], link: Link) -> None:
    try:
        await dialling
    except (aiomqtt.MqttError, UnicodeError):
        # Where the broker has not answered, aiomqtt leaves the socket open and a task running on it.
        link._client._client.disconnect()  # noqa: SLF001 - there is no public way
    else:
        await _hang_up(link)


async def _hang_up(link: Link) -> None:
    client = link._client  # noqa: SLF001 - a Link cannot hang up, so that nobody above does
    with contextlib.suppress(aiomqtt.MqttError):
        await client.__aexit__(None, None, None)
    lost = client._disconnected  # noqa: SLF001 - asyncio reports an exception that nobody has looked at
    if lost.done() and not lost.cancelled():
        lost.exception()


def tls_context(address: Address) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        if address.cert_file:
            # Without a password at hand OpenSSL would ask for one, on the terminal, and wait.
            context.load_cert_chain(address.cert_file, address.key_file, password=lambda: "")
    except OSError as error:
        files = ", ".join(str(file) for file in (address.ca_file, address.cert_file, address.key_file) if file)
        raise ConfigError(f"{files}: cannot be used for TLS: {error}") from None
    return context


@contextmanager
def _as_link_lost() -> Iterator[None]:
    """Two kinds of failure instead of aiomqtt's many, with the reason in words; and no cancellation is lost.

    aiomqtt waits with `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes together with
    what was waited for: whoever was told to stop would go on, and a stop of the daemon would wait for it for ever.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    try:
        yield
        if task and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError
    except aiomqtt.MqttError as error:
        cause = error.__cause__ or error
        code = getattr(cause, "rc", None)
        kind: type[LinkLost] = LinkLost
        if isinstance(error, aiomqtt.exceptions.MqttConnectError):
            kind = Refused
        if _number(code) == UNSUPPORTED_VERSION:
            kind = _VersionRefused
        if _number(code) == UNSPECIFIED:
            raise kind("the connection broke") from None
        raise kind(str(cause).rpartition("] ")[2] or repr(cause)) from None


def _number(code: object) -> int:
    """A reason code of either kind that aiomqtt hands out: a plain number, or paho's object around one."""
    number = getattr(code, "value", code)
    return number if isinstance(number, int) else 0
