"""Recognise files that a reader would take without an error, and take wrongly.

A CSV reader makes rows of anything that has lines: of a web page that says "please log in", of the pointer that stands
for a large file, of half a row. What gives them away is in the first bytes, in the header, or in the last line, and
each gets a reason that names what was found. Nothing here is certain where a producer means what it looks like; where
a job says more (`delimiter`, `schema`, a type for a column), that is believed.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence

from landingd.core import csvhead
from landingd.core.csvhead import Header

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document (.xls, .doc): save it as CSV"),
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "an RTF document: save it as plain text"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh91AY&SY", "compressed with bzip2: gzip and zstd are read"),
    (b"\xfd7zXZ\0", "compressed with xz: gzip and zstd are read"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: gzip and zstd are read"),
    (b"PARE", "a Parquet file with an encrypted footer"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1\0\0", "an Arrow file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs.github.com/spec/", "a Git-LFS pointer: the file itself was not fetched (git lfs pull)"),
)
_ZIPPED = (
    (b"xl/", "an Excel workbook (.xlsx): save it as CSV"),
    (b"word/", "a Word document (.docx)"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods): save it as CSV"),
    (b"[Content_Types].xml", "an Office document: save it as CSV"),
)
_MARKUP = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(\?xml|!doctype html|html|head|body|table|script|div|style|meta)\b",
    re.IGNORECASE | re.DOTALL,
)
_PARQUET = re.compile(rb"PAR1(?:[\x00-\x08\x0e-\x1f]|$)")
"""A column may be called PAR1 too."""
_JSON = re.compile(rb'\s*(?:\{\s*(?:"|\}\s*$)|\[\s*(?:[{"\[\]]|-?\d|true|false|null))')
_SQL = re.compile(rb"\s*(?:--.*\n\s*)*(?:INSERT INTO|CREATE TABLE)\s", re.IGNORECASE)

OTHER_DELIMITERS = (*csvhead.DELIMITERS, ":", "^", "~", "\x1f", "\x01")
_SHOWN = {"\t": "a tab", "\x1f": "0x1F", "\x01": "0x01"}

MANGLED = re.compile(r"-?\d(?:[.,]\d{1,5})?E\+(?:1[1-9]|[2-9]\d)")
"""A long number as a spreadsheet shows it: six digits are left of it, the others are gone."""
_KEEPS_EXPONENTS = re.compile(r"\s*(DOUBLE|FLOAT|REAL|DECIMAL|NUMERIC)", re.IGNORECASE)


# --- what it is ---------------------------------------------------------------------------------------------


def not_the_format(head: bytes, wanted: str) -> str | None:
    """Why this beginning is no file in the wanted format: csv, json or parquet."""
    found = _what_it_is(head)
    if found == wanted or not head.strip():
        return None
    if wanted == "parquet" and found == "csv":
        return "not Parquet: it is text"
    return f"not {_CALLED[wanted]}: {_FORMATS.get(found, found)}"


_CALLED = {"csv": "CSV", "json": "JSON", "parquet": "Parquet"}
_FORMATS = {
    "csv": "it begins with neither { nor [",
    "json": "it is JSON (`format: json` reads it)",
    "parquet": "it is a Parquet file (`format: parquet` reads it)",
}


def _what_it_is(head: bytes) -> str:
    """`csv`, `json`, `parquet`, or words for what is none of them."""
    if _PARQUET.match(head):
        return "parquet"
    if words := _by_magic(head):
        return f"it is {words}"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if markup := _MARKUP.match(text):
        is_xml = markup[1].lower() == b"?xml" and b"<html" not in text[:1024].lower()
        return "it is XML" if is_xml else f"it is an HTML page{_titled(text)}"
    if _SQL.match(text):
        return "it is a file of SQL statements"
    return "json" if _JSON.match(text) else "csv"


def _by_magic(head: bytes) -> str | None:
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return next((words for mark, words in _ZIPPED if mark in head), "a ZIP archive: unpack it")
    return "a tar archive: unpack it" if head[257:262] == b"ustar" else None


def _titled(text: bytes) -> str:
    """What the page calls itself: mostly it says why there is a page and not the file."""
    title = re.search(rb"<title[^>]*>(.{1,200}?)</title>", text, re.IGNORECASE | re.DOTALL)
    words = " ".join(title[1].decode("utf-8", "replace").split()) if title else ""
    return f" titled '{csvhead.shortened([words])}'" if words else ""


# --- the header ---------------------------------------------------------------------------------------------


def wrong_delimiter(text: str, header: Header, *, declared: bool, quote: str = '"', escape: str = '"') -> str | None:
    """Why the lines are parted by something else than what the header was parted by."""
    if any(len(row) > 1 for row in csvhead.fields_of(text, header.delimiter, quote, escape, rows_max=2)[1:]):
        return None  # nearly always
    rows = csvhead.fields_of(text, header.delimiter, quote, escape)[1:]
    if any(len(row) > 1 for row in rows):
        return None
    if len(header.columns) > 1:
        return _rows_differ(text, header, quote, escape) if rows else None
    for other in OTHER_DELIMITERS:
        counts = {len(row) for row in csvhead.fields_of(text, other, quote, escape)}
        if other != header.delimiter and rows and len(counts) == 1 and (parts := counts.pop()) > 1:
            said = f"the delimiter {_shown(header.delimiter)}, as declared," if declared else "no usual delimiter"
            return (
                f"wrong delimiter: {said} parts its lines, but {_shown(other)} parts every one into {parts} fields. "
                f"Declare it with `delimiter`"
            )
    return None


def _rows_differ(text: str, header: Header, quote: str, escape: str) -> str | None:
    """The header is parted, and no row is: are they by another one?"""
    columns = len(header.columns)
    for other in OTHER_DELIMITERS:
        counts = {len(row) for row in csvhead.fields_of(text, other, quote, escape)[1:]}
        if other != header.delimiter and counts == {columns}:
            return (
                f"wrong delimiter: the header is parted by {_shown(header.delimiter)} "
                f"and the rows are parted by {_shown(other)}"
            )
    return None


def _shown(delimiter: str) -> str:
    return _SHOWN.get(delimiter, f"'{delimiter}'")


def strange_header(columns: Sequence[str], table: str, of_table: Collection[str]) -> str | None:
    """Why the first line cannot be the header of a file for this table: it has none of its columns."""
    known = {name.casefold() for name in of_table} - csvhead.RESERVED
    if not known or any(name.casefold() in known for name in columns):
        return None
    cells = csvhead.shortened(columns)
    if any(csvhead.looks_like_data(name) for name in columns):
        return f"no header: the first line looks like data ({cells}), and {table} knows none of it as a column"
    return f"none of its columns is known to {table}: {cells}. Was the header renamed (`rename`), or is there none?"


# --- rows ---------------------------------------------------------------------------------------------------


def may_be_torn(last_line: str, columns: int, delimiter: str, quote: str = '"') -> bool | None:
    """Whether a last line without a line end is half a record; None: its quotes have to be looked at from the start."""
    if quote in last_line:
        return None
    return last_line.count(delimiter) + 1 < columns


def torn(*, line: int, fields: int, columns: int, is_open: bool) -> str:
    """The reason for a file whose last record is not whole."""
    if is_open:
        return f"torn: the quotes that open in the record at line {line} are never closed"
    return f"torn: its last line, line {line}, has {fields} of {columns} fields and no line end"


def keeping_exponents(columns: Sequence[str], hints: Mapping[str, str]) -> frozenset[int]:
    """Places of the columns that were declared to hold numbers that can be large."""
    kinds = {name.casefold(): kind for name, kind in hints.items()}
    return frozenset(
        place for place, name in enumerate(columns) if _KEEPS_EXPONENTS.match(kinds.get(name.casefold(), ""))
    )


def mangled(column: str, line: int, text: str) -> str:
    """The reason for a file that has been through a spreadsheet."""
    return (
        f"column '{column}' holds {text} in line {line}: a spreadsheet has rounded a long number. "
        "Export it anew with the column as text; if it is a measurement, declare it DOUBLE in schema_hints"
    )


# --- JSON ---------------------------------------------------------------------------------------------------


def not_json_rows(head: bytes, *, is_whole: bool) -> str | None:
    """Why the file is neither an array of objects nor an object a line. `is_whole`: `head` is all of it."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        first = text[1:].lstrip()[:1]
        return None if first in (b"", b"{", b"]") else "the JSON array does not hold objects: no columns to be named"
    line, ended, _ = text.partition(b"\n")
    if not ended and not is_whole:
        return None
    try:
        first_value = json.loads(line)
    except (ValueError, RecursionError):
        several = line.strip() == b"{" or (is_whole and _is_one_object(text))
        return "one object over several lines: write an object a line, or an array of objects" if several else None
    return None if isinstance(first_value, dict) else "its first line holds no JSON object"


def torn_json_line(last_line: bytes) -> str | None:
    """Why a last line without a line end is half an object."""
    try:
        json.loads(last_line)
    except (ValueError, RecursionError):
        return "torn: its last line is no whole JSON object, and has no line end"
    return None


def _is_one_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
