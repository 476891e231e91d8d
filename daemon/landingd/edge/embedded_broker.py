"""Have an MQTT broker where none is installed: for the demo, and for a developer's machine.

It lives in the daemon's own event loop, keeps nothing over a restart and lets everybody in. So it listens on
this machine alone, and it is no broker to rely on. It speaks MQTT 3.1.1 only, and to MQTT 5 it may not even
answer: whoever knows that the broker is this one should ask for 3.1.1 and save the wait.
"""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from landingd.errors import ConfigError

SHUTDOWN_TIMEOUT_S = 5.0


@asynccontextmanager
async def embedded_broker(host: str, port: int) -> AsyncIterator[None]:
    """Run the broker for as long as the block lasts; ConfigError where it cannot be started."""
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ConfigError(f"the embedded broker lets everybody in, and {host} is no loopback address")
    try:
        from amqtt.broker import Broker  # noqa: PLC0415 - an extra, and 80 ms
        from amqtt.contexts import BrokerConfig, ListenerConfig  # noqa: PLC0415
        from amqtt.errors import BrokerError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"the embedded broker needs a package that is not installed ({error.name})",
            hint="pip install 'landingd[broker]', or set broker.embedded = false",
        ) from None

    # It reports a client that tries MQTT 5 first, and a port that is taken, as errors with a traceback. The
    # first is how our own client finds out what it speaks, the second is told below.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    bind = f"{host}:{port}"
    broker = Broker(
        BrokerConfig(
            listeners={"default": ListenerConfig(bind=bind)},
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        )
    )
    try:
        await broker.start()
    except BrokerError as error:
        raise ConfigError(
            f"the embedded broker cannot listen on {bind}: {error.__cause__ or error}",
            hint="is there a broker already? Then set broker.embedded = false and use that one",
        ) from None
    try:
        yield
    finally:
        # Newer Pythons wait here for guests that stay.
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await broker.shutdown()
