"""Read a CSV file's header: which columns, parted by what.

A reader that guesses the dialect from a sample can be turned by one odd row: a short line, and the whole file becomes
a single column with the right number of rows. The header is the one line whose meaning we know (names), so the
delimiter is taken from it, and from the names that the table already has.
"""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass

DELIMITERS = (",", ";", "\t", "|")
RESERVED = frozenset({"_file_id", "_row"})


@dataclass(frozen=True, slots=True)
class Header:
    """The names in file order and the character between them."""

    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why the file cannot be read as CSV with a header; words for the quarantine."""

    reason: str


def read(head: bytes, *, delimiter: str | None = None, known: Collection[str] = ()) -> Header | Unreadable:
    """Read the header from the first bytes of a file.

    `head` is the decompressed beginning of the file, `delimiter` the declared one or None, `known` the columns that
    the table already has: of several readings the one that knows most of its names wins, then the one with most.
    """
    if not head.strip():
        return Unreadable("the file is empty")
    if b"\0" in head[:4096]:
        return Unreadable("not a text file: it holds NUL bytes (a binary format, or UTF-16)")
    try:
        text = _whole_lines(head).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8: byte 0x{head[error.start]:02x} at offset {error.start}")
    if not text.strip():
        return Unreadable("the file is empty")
    names = {name.casefold() for name in known}
    readings = [_reading(text, d) for d in ((delimiter,) if delimiter else DELIMITERS)]
    best = max(readings, key=lambda h: (sum(c.casefold() in names for c in h.columns), len(h.columns)))
    return _checked(best)


def _whole_lines(head: bytes) -> bytes:
    """Cut a character that the end of the sample split in two: stop at the last line that is whole."""
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    return head if end < 0 else head[: end + 1]


def _reading(text: str, delimiter: str) -> Header:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        first = next((row for row in rows if row), [])
    except csv.Error:
        first = []  # a quote that is never closed, and more text behind it than a field may hold
    return Header(tuple(name.strip() for name in first), delimiter)


def _checked(header: Header) -> Header | Unreadable:
    if not header.columns:
        return Unreadable("the first line cannot be read as a CSV header")
    seen: set[str] = set()
    for position, name in enumerate(header.columns, start=1):
        folded = name.casefold()
        if not name:
            return Unreadable(f"the header has no name for column {position}")
        if folded in seen:
            return Unreadable(f"the header names column '{name}' twice")
        if folded in RESERVED:
            return Unreadable(f"the header uses the name '{name}', which landingd adds itself")
        seen.add(folded)
    return header
