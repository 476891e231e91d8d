"""Carry an alert to a mail server or a web hook, whatever state those are in.

Every call may hang, so each runs on a thread of its own, a few at a time, and is given up after a while. A thread that
hangs even then is left alone: it ends with the process, and until it does its destination is not called again.

Addresses of web hooks hold their passwords. They are known here and nowhere else: what comes out names a destination by
its id, and every reason has been searched for parts of the address.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from landingd.edge.alerts.delivery import Alert, DeliveryError
from landingd.edge.alerts.hooks import Hooks, unreadable
from landingd.edge.alerts.mail import MailServer, send_mail

__all__ = ["Alert", "DeliveryError", "MailServer", "Sender", "SenderOptions", "unreadable"]

MAILS_AT_ONCE_MAX = 2
HOOKS_AT_ONCE_MAX = 4


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """Where alerts can go."""

    mail: MailServer | None = None
    destinations: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Apprise URLs by id; also `http(s)://`, which gets the JSON."""
    timeout_s: float = 20.0


class Sender:
    """Sends alerts, each on its own thread; belongs to one event loop."""

    def __init__(self, options: SenderOptions) -> None:
        self._options = options
        self._hooks = Hooks(options.destinations, options.timeout_s)
        self._slots = {
            "email": asyncio.Semaphore(MAILS_AT_ONCE_MAX),
            "webhook": asyncio.Semaphore(HOOKS_AT_ONCE_MAX),
        }
        self._calls: dict[tuple[str, str], asyncio.Future[None]] = {}

    def channel_of(self, destination: str) -> str | None:
        """How to reach an id or an address: "webhook", "email"; None: not at all."""
        if destination in self._options.destinations:
            return "webhook"
        return "email" if "@" in destination and self._options.mail is not None else None

    async def send(self, alert: Alert) -> None:
        """Deliver it. Raises DeliveryError, after `timeout_s` at the latest."""
        call = self._call(alert)
        lane = (alert.channel, alert.destination)
        async with self._slots[alert.channel]:
            if lane in self._calls:
                raise DeliveryError("an earlier call has not come back yet", retry=True)
            self._calls[lane] = sending = _on_a_thread(call)
            sending.add_done_callback(partial(self._has_come_back, lane))
            done, _ = await asyncio.wait([sending], timeout=self._options.timeout_s)
            if not done:
                why = f"no answer within {self._options.timeout_s:g} s"
                raise DeliveryError(why, retry=True, server=alert.channel == "email")
            sending.result()

    def _call(self, alert: Alert) -> Callable[[], None]:
        if alert.channel == "webhook":
            return partial(self._hooks.send, alert)
        if self._options.mail is None:
            raise DeliveryError("no mail server is configured ([alerts] smtp_host)", retry=True, server=True)
        return partial(send_mail, self._options.mail, alert, timeout_s=self._options.timeout_s)

    def _has_come_back(self, lane: tuple[str, str], sending: asyncio.Future[None]) -> None:
        del self._calls[lane]
        if not sending.cancelled():
            sending.exception()  # seen, even if nobody waits for it any more


def _on_a_thread(call: Callable[[], None]) -> asyncio.Future[None]:
    """A daemon thread, and not one of a pool: the interpreter waits for those when it ends."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as raised:  # noqa: BLE001 -- it is raised where the call is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="alert", daemon=True).start()
    return ended
