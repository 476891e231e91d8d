"""Tell systemd how the daemon is doing, so that it notices a hang and an operator reads an honest status.

Outside of systemd there is nobody to tell, and every call does nothing. A socket that cannot be reached is
reported once, when the daemon starts; after that a lost message is worth less than the work that it would
interrupt.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

import structlog

SEND_TIMEOUT_S = 1.0
"""A service manager that does not read may hold up the event loop this long, and no longer."""

log = structlog.stdlib.get_logger(__name__)


class Notify:
    """The notification socket of one process (sd_notify(3)), looked up when it is made."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environ)
        try:
            self._send()
        except OSError as error:
            log.warning("notify_socket_unusable", address=environ.get("NOTIFY_SOCKET"), error=str(error))
            self._address = None

    def ready(self, status: str) -> None:
        """The daemon is up, or done with reloading."""
        self._tell("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        self._tell(f"STATUS={_one_line(text)}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. Before systemd 253 nobody waits for it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def watchdog(self) -> None:
        """The event loop turns and the work goes on. To be sent from the loop itself: a thread would lie."""
        self._tell("WATCHDOG=1")

    def watchdog_interval_s(self) -> float | None:
        """How often `watchdog` is to be called: half the time after which we would be killed. None: never."""
        return self._watchdog_s

    def _tell(self, *lines: str) -> None:
        with contextlib.suppress(OSError):
            self._send(*lines)

    def _send(self, *lines: str) -> None:
        """Without lines this only shows whether the socket is there."""
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(SEND_TIMEOUT_S)
            sock.connect(self._address)
            if lines:
                sock.send("\n".join(lines).encode())


def _address(named: str) -> str | None:
    if not named:
        return None
    return "\0" + named[1:] if named.startswith("@") else named


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """WATCHDOG_PID says whom the deadline is for: a child inherits the variable and not the duty."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2 / 1e6 if usec.isdecimal() and int(usec) > 0 else None


def _one_line(text: str) -> str:
    """Each line of a message is an assignment, so a file's name with a line break in it could say READY=1."""
    return " ".join(text.split())
