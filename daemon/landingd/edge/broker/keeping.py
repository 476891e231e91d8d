"""Keep one link to an MQTT broker for as long as the daemon lives, whatever the broker does.

A broker restarts, hangs, refuses a password, or speaks an older MQTT. None of that may stop a file from
being loaded, and none of it may go unnoticed for long: while nothing is sent, a dead link looks like a
quiet one. So whoever publishes runs beside a task that reads the link and fails the moment it breaks.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from landingd.edge.broker.link import Link, connect, tls_context
from landingd.edge.broker.values import Address, LinkLost, Message, Refused, Taker
from landingd.errors import ConfigError

FAREWELL_TIMEOUT_S = 2.0

Serve = Callable[[Link], Coroutine[Any, Any, None]]
"""What is done over a link for as long as it holds."""


async def keep_connected(
    address: Address,
    *,
    client_id: str,
    will: Message,
    farewell: Message,
    serve: Sequence[Serve],
    takers: Mapping[str, Taker] | None = None,
    backoff_min_s: float,
    backoff_max_s: float,
    on_state: Callable[[str], None],
) -> NoReturn:
    """Connect, run each of `serve` side by side, and connect again when the link is lost, until cancelled.

    The filters of `takers` are subscribed to on each link before anything is served; what comes in is handed to
    the taker of its filter. One of `serve` may return; the link stays. When cancelled, `serve` is cancelled first
    and then `farewell` is published. `on_state` is told each change in words: "connected with MQTT 5", "refused:
    Not authorized", "lost: Connection refused". What comes out of here is an error of `serve` or of a taker other
    than LinkLost, and a ConfigError at the start if a certificate cannot be used.
    """
    tls_context(address)
    loop = asyncio.get_running_loop()
    told, pause_s, dialled = "", 0.0, address
    while True:
        since_s = math.inf
        try:
            async with connect(dialled, will=will, client_id=client_id) as link:
                dialled = replace(address, protocol=link.protocol)
                since_s = loop.time()
                on_state(told := f"connected with MQTT {link.protocol}")
                await _converse(link, serve, takers or {}, farewell)
        except (LinkLost, ConfigError) as lost:
            if isinstance(lost, Refused):
                dialled = address  # it may be another broker by now, and speak another version
            told = _tell(on_state, told, f"{'refused' if isinstance(lost, Refused) else 'lost'}: {lost}")
        # A link that broke as soon as it stood (a twin with our client id, say) is no success.
        held = loop.time() - since_s > pause_s
        pause_s = backoff_min_s if held else min(max(pause_s * 2, backoff_min_s), backoff_max_s)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load, hides nothing


async def _converse(link: Link, serve: Sequence[Serve], takers: Mapping[str, Taker], farewell: Message) -> None:
    async def speak(one: Serve) -> None:
        await asyncio.wait({subscribing})
        subscribing.result()
        await one(link)

    # Not a TaskGroup: one that is cancelled while a task of it fails raises the failure, and the cancellation,
    # a stop of the daemon, is forgotten.
    subscribing = asyncio.create_task(link.subscribe(list(takers)))
    tasks = [asyncio.create_task(link.listen(takers)), subscribing]
    tasks += [asyncio.create_task(speak(one)) for one in serve]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        if not isinstance(failures[0], LinkLost):
            # The link is up, and hanging up is next, which tells the broker to forget the will.
            with contextlib.suppress(LinkLost, TimeoutError):
                async with asyncio.timeout(FAREWELL_TIMEOUT_S):
                    await link.publish(farewell)
    told = [each for each in failures if isinstance(each, Exception)]
    raise min(told, key=lambda failure: isinstance(failure, LinkLost))  # a fault in the code before a lost link


def _tell(on_state: Callable[[str], None], before: str, now: str) -> str:
    """A broker that is away for a night is one line in the log, not one for each attempt."""
    if now != before:
        on_state(now)
    return now
