"""Read a CSV file's header: which columns, parted by what.

A reader that guesses the dialect from a sample can be turned by one odd row: a short line, and the whole file becomes
a single column with the right number of rows. The header is the one line whose meaning we know (names), so the
delimiter is taken from it, and from the names that the table already has.
"""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

DELIMITERS = (",", ";", "\t", "|")
RESERVED = frozenset({"_file_id", "_row", "_rescued_data"})
SAMPLE_ROWS = 20

_DATA = re.compile(
    r"""[-+]?\d[\d.,' ]*(?:[eE][-+]?\d+)?%?               # 1,204.50
    |\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d\d.*)?  # 2026-11-21 05:00
    |\d{1,2}:\d\d(?::\d\d.*)?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Header:
    """The names in file order and the character between them."""

    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why the file cannot be read as CSV with a header; words for the quarantine."""

    reason: str


def read(
    head: bytes, *, delimiter: str | None = None, known: Collection[str] = (), quote: str = '"', escape: str = '"'
) -> Header | Unreadable:
    """Read the header from the first bytes of a file.

    `head` is the decompressed beginning of the file, `delimiter` the declared one or None, `known` the columns that
    the table already has: of several readings the one that knows most of its names wins, then the one with most.
    """
    text = text_of(head)
    if isinstance(text, Unreadable):
        return text
    names = {name.casefold() for name in known}
    readings = [_reading(text, d, quote, escape) for d in ((delimiter,) if delimiter else DELIMITERS)]
    best = max(readings, key=lambda h: (sum(c.casefold() in names for c in h.columns), len(h.columns)))
    return _checked(best, names)


def read_headless(
    head: bytes, columns: Sequence[str], *, delimiter: str | None = None, quote: str = '"', escape: str = '"'
) -> Header | Unreadable:
    """Of a file without a header: these columns, if the first record has as many fields."""
    text = text_of(head)
    if isinstance(text, Unreadable):
        return text
    counts = {d: len(_reading(text, d, quote, escape).columns) for d in ((delimiter,) if delimiter else DELIMITERS)}
    for found, fields in counts.items():
        if fields == len(columns):
            return Header(tuple(columns), found)
    fields = max(counts.values())
    return Unreadable(f"the first line has {fields} fields, and the schema names {len(columns)} columns")


def renamed(header: Header, rename: Mapping[str, str]) -> Header | Unreadable:
    """The names that the table has for them."""
    if not rename:
        return header
    to = {old.casefold(): new for old, new in rename.items()}
    in_file = {name.casefold(): name for name in header.columns}
    for old, new in rename.items():
        if old.casefold() in in_file and new.casefold() in in_file and old.casefold() != new.casefold():
            return Unreadable(
                f"the header names both '{in_file[old.casefold()]}' and '{in_file[new.casefold()]}', "
                f"and '{old}' is to be renamed to '{new}'"
            )
    return Header(tuple(to.get(name.casefold(), name) for name in header.columns), header.delimiter)


def text_of(head: bytes) -> str | Unreadable:
    """The beginning as text, without the line that the end of the sample cuts."""
    if not head.strip():
        return Unreadable("the file is empty")
    if b"\0" in head[:4096]:
        return Unreadable("not a text file: it holds NUL bytes (a binary format, or UTF-16)")
    try:
        text = _whole_lines(head).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8: byte 0x{head[error.start]:02x} at offset {error.start}")
    return text if text.strip() else Unreadable("the file is empty")


def fields_of(
    text: str, delimiter: str, quote: str = '"', escape: str = '"', *, rows_max: int = SAMPLE_ROWS
) -> list[list[str]]:
    """The first records that are not blank, parted."""
    doubled = escape == quote
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote,
        doublequote=doubled,
        escapechar=None if doubled else escape,
    )
    found: list[list[str]] = []
    with suppress(csv.Error):  # a quote that is never closed, and more text behind it than a field may hold
        found.extend(islice((row for row in rows if row), rows_max))
    return found


def looks_like_data(cell: str) -> bool:
    """A number or a date, which no column is called."""
    return _DATA.fullmatch(cell.strip()) is not None


def _whole_lines(head: bytes) -> bytes:
    """Cut a character that the end of the sample split in two: stop at the last line that is whole."""
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    return head if end < 0 else head[: end + 1]


def _reading(text: str, delimiter: str, quote: str, escape: str) -> Header:
    rows = fields_of(text, delimiter, quote, escape, rows_max=1)
    return Header(tuple(name.strip() for name in rows[0]) if rows else (), delimiter)


def _checked(header: Header, known: Collection[str]) -> Header | Unreadable:
    if not header.columns:
        return Unreadable("the first line cannot be read as a CSV header")
    folded = [name.casefold() for name in header.columns]
    is_data = all(not name or looks_like_data(name) for name in folded) and any(folded)
    if is_data and not any(name in known for name in folded):
        return Unreadable(f"no header: the first line looks like data ({shortened(header.columns)})")
    seen: set[str] = set()
    for position, name in enumerate(header.columns, start=1):
        if not name:
            return Unreadable(f"the header has no name for column {position}")
        if name.casefold() in seen:
            return Unreadable(f"the header names column '{name}' twice")
        if name.casefold() in RESERVED:
            return Unreadable(f"the header uses the name '{name}', which landingd adds itself")
        seen.add(name.casefold())
    return header


def shortened(cells: Sequence[str], most: int = 60) -> str:
    """Some of a row, for a message."""
    text = ", ".join(cells)
    return text if len(text) <= most else text[: most - 3] + "..."
