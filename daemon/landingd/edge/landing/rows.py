"""Go through a CSV file row by row, where a quote counts only at the start of a field.

Slow, and it holds the interpreter: only for files of which a quick look raised a question.
"""

import csv
import io
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TextIO

from landingd.edge.landing.facts import Reading
from landingd.edge.landing.unpacking import decompressed

if TYPE_CHECKING:
    from _csv import Reader

_CHUNK_BYTES = 256 << 10
_AROUND_BYTES = 32
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written; `escape` is what makes a quote within quotes a character."""

    delimiter: str
    quote: str = '"'
    escape: str = '"'

    def rows(self, lines: Iterator[str]) -> "Reader":
        """A reader over these lines."""
        csv.field_size_limit(sys.maxsize)
        doubled = self.escape == self.quote
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            doublequote=doubled,
            escapechar=None if doubled else self.escape,
        )


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The last record of a file that is not blank."""

    line: int
    """Where it begins."""
    fields: int
    is_open: bool
    """The file ends within quotes that it has opened."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A field of a record: `column` from 0."""

    line: int
    column: int
    text: str


def count_records(
    path: bytes, compression: str, delimiter: str, *, quote: str = '"', escape: str = '"', blank_rows: bool = False
) -> int:
    """The exact count, header included."""
    dialect = Dialect(delimiter, quote, escape)
    with _text(path, compression) as text:
        return sum(1 for row in dialect.rows(text) if row or blank_rows)


def count_objects(path: bytes, compression: str) -> int:
    """The count of a JSON file: elements of its array, or lines."""
    reading = Reading(frozenset({"json"}))
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        plain = stack.enter_context(closing(decompressed(raw, compression)))
        while chunk := plain.read(_CHUNK_BYTES):
            reading.feed(chunk)
    return reading.facts(is_text=True).records or 0


def last_record(path: bytes, compression: str, dialect: Dialect) -> LastRecord:
    """Where the last record begins, how many fields it has, and whether it has an end."""
    line, fields, before, sentinel = 1, 0, 0, "\0end"
    with _text(path, compression) as text:
        rows = dialect.rows(chain(text, ["\n", sentinel]))
        for row in rows:
            if row == [sentinel]:
                return LastRecord(line, fields, is_open=False)
            if row:
                line, fields = before + 1, len(row)
            before = rows.line_num
    return LastRecord(line, fields, is_open=True)


def first_cell_like(
    path: bytes,
    compression: str,
    dialect: Dialect,
    pattern: re.Pattern[str],
    *,
    holding: str,
    but_columns: Collection[int],
) -> Cell | None:
    """The first field that matches `pattern` as a whole, left and right blanks aside; `but_columns` are not looked at.

    `holding`: what every match holds. Rows are taken apart only if the bytes have anything like it.
    """
    if not _occurs(path, compression, re.compile(pattern.pattern.encode()), holding.encode()):
        return None
    before = 0
    with _text(path, compression) as text:
        rows = dialect.rows(text)
        for row in rows:
            for column, cell in enumerate(row):
                if holding in cell and column not in but_columns and pattern.fullmatch(cell.strip()):
                    return Cell(before + 1, column, cell.strip())
            before = rows.line_num
    return None


def tail(path: bytes, compression: str) -> bytes:
    """The last 64 KiB of the content."""
    last = b""
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        if compression == "none":
            raw.seek(0, io.SEEK_END)
            raw.seek(max(0, raw.tell() - _TAIL_BYTES))
            return raw.read()
        plain = stack.enter_context(closing(decompressed(raw, compression)))
        while chunk := plain.read(_CHUNK_BYTES):
            last = (last + chunk)[-_TAIL_BYTES:]
    return last


def _occurs(path: bytes, compression: str, pattern: re.Pattern[bytes], holding: bytes) -> bool:
    rest = b""
    anchor = re.compile(re.escape(holding))
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        plain = stack.enter_context(closing(decompressed(raw, compression)))
        while chunk := plain.read(_CHUNK_BYTES):
            chunk = rest + chunk
            for found in anchor.finditer(chunk):
                if pattern.search(chunk, max(0, found.start() - _AROUND_BYTES), found.end() + _AROUND_BYTES):
                    return True
            rest = chunk[-2 * _AROUND_BYTES :]
    return False


@contextmanager
def _text(path: bytes, compression: str) -> Iterator[TextIO]:
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        plain = stack.enter_context(closing(decompressed(raw, compression)))
        # A byte order mark is no start of a field.
        yield stack.enter_context(io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape", newline=""))
