"""Find the lines on which loaded rows begin.

A reader numbers the rows that it has loaded. Between them lie the header, blank lines and the rows that it rejected,
and a quoted field may run over several lines, so a row's line is found only by walking the file from its start.
"""

import io
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing

from landingd.edge.landing.rows import Dialect
from landingd.edge.landing.unpacking import decompressed


def lines_of(
    path: bytes,
    compression: str,
    delimiter: str,
    rows: Collection[int],
    rejected_lines: Collection[int],
    *,
    header: bool = True,
    encoding: str = "utf-8",
    quote: str = '"',
    escape: str = '"',
) -> dict[int, int]:
    """The physical line, from 1, on which each of these rows begins; rows that the file does not have are left out.

    `rows` are numbers among the loaded rows, from 1. `rejected_lines` are numbers as DuckDB gives them: records from 1,
    the header and blank lines among them, however many lines each takes. Reads no further than the last row.
    """
    wanted = set(rows)
    rejected = set(rejected_lines)
    found: dict[int, int] = {}
    last = max(wanted, default=0)
    row = -1 if header else 0
    for record, line in _records(path, compression, Dialect(delimiter, quote, escape), encoding):
        if row >= last:
            break
        if record in rejected and row >= 0:
            continue
        row += 1
        if row in wanted:
            found[row] = line
    return found


def _records(path: bytes, compression: str, dialect: Dialect, encoding: str) -> Iterator[tuple[int, int]]:
    """Number and first line of each record that is a row or the header."""
    codec = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding  # a BOM is no start of a field
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        plain = stack.enter_context(closing(decompressed(raw, compression)))
        text = stack.enter_context(io.TextIOWrapper(plain, codec, errors="surrogateescape", newline=""))
        reader = dialect.rows(text)
        fields = 0
        line = 1
        for record, values in enumerate(reader, 1):
            fields = fields or len(values)
            # With one column a blank line is a row whose only field is empty.
            if values or fields == 1:
                yield record, line
            line = reader.line_num + 1
