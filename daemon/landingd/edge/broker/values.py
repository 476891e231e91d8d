"""What passes between the daemon and a broker, in words that no MQTT library has a say in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Message:
    """What is published, at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    """Tells whoever asked which question this answers (MQTT 5, section 3.3.2.3.6); older brokers cannot carry it."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What somebody else has published."""

    topic: str
    payload: bytes
    retained: bool = False
    """The broker has kept it from before the subscription: nobody says this now."""
    response_topic: str | None = None
    """Where its sender waits for an answer (MQTT 5, section 3.3.2.3.5)."""
    correlation: bytes | None = None
    """What the answer is to carry."""


Taker = Callable[[Incoming], None]
"""Takes a message, at once: whoever has more to do does it elsewhere."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is and how it is spoken to; `protocol` is "auto", "5" or "3.1.1"."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)
    protocol: str = "auto"
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30


class LinkLost(Exception):  # noqa: N818 - it is what happened to the link, and mostly nobody's error
    """The broker is out of reach or does not answer any more. Connect again later."""


class Refused(LinkLost):
    """The broker answers and does not let us in. Again later may help, and so may the operator."""
