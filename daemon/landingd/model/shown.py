"""Times and paths as people see them."""

import os
import re
from datetime import UTC, datetime


def utc(time_s: float | None) -> str | None:
    """Unix seconds as ISO-8601 in UTC with milliseconds."""
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(path: bytes) -> str:
    r"""A path as text that can go into JSON, MQTT, a terminal: bytes that are no printable text are `\xNN`.

    A backslash in the name is doubled, so that the text names one path only; `path_of` reads it back.
    """
    text = path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Above ASCII by its bytes: `\x85` alone is the byte, and not the character of that number.
    return "".join(chr(byte).encode("unicode_escape").decode("ascii") for byte in character.encode())


def path_of(text: str) -> bytes:
    """The path that `shown` shows as this text."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1]) or bytes.fromhex(found[1][1:].decode()), os.fsencode(text))


_ESCAPE = re.compile(rb"\\(\\|n|r|t|x[0-9a-f]{2})")
_ESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
