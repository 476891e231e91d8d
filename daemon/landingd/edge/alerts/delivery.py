"""What is to be delivered, and how a delivery fails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from landingd.errors import LandingdError

WHY_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert for one recipient."""

    channel: str
    """email or webhook."""
    destination: str
    """An address, or the id of a destination."""
    subject: str
    text: str
    payload: Mapping[str, Any]
    """What programs get; with `event_id`, the same however often it is sent."""


class DeliveryError(LandingdError):
    """An alert was not taken.

    `retry`: another try may help. `server`: nothing else on the channel would have been taken either.
    """

    def __init__(self, what: str, *, retry: bool, server: bool = False) -> None:
        super().__init__(what)
        self.retry = retry
        self.server = server


def without_secrets(text: str, *secrets: str) -> str:
    """One line of bounded length, with every part of these URLs and passwords blacked out."""
    parts = {part for secret in secrets for part in _parts(secret)}
    for part in sorted(parts, key=len, reverse=True):
        # A short part may be inside any word: only where it stands alone is it what it was taken from.
        found = re.escape(part) if len(part) > 3 else rf"(?<!\w){re.escape(part)}(?!\w)"
        text = re.sub(found, "***", text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    return text if len(text) <= WHY_CHARS_MAX else text[: WHY_CHARS_MAX - 1] + "…"


def _parts(secret: str) -> set[str]:
    """A URL's parts, as written and decoded, whole and in pieces; its scheme is no secret."""
    scheme, found, rest = secret.partition("://")
    secret = rest if found else scheme
    pieces = {secret, *re.split(r"[/?&=@:#,;]+", secret)}
    return {form for piece in pieces for form in (piece, unquote(piece), unquote_plus(piece)) if form}
