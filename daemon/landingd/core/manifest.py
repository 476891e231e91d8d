"""A manifest is a producer's list of what it delivers; every producer writes it in a form of its own.

Four forms are read, told apart by what stands in them: the lines of sha256sum and its like (GNU's and BSD's), JSON,
a table with a header, and bare names. Whatever form it is, a manifest is read as a whole or not at all: one that is
cut off, or wrong in one line, says nothing, since nobody knows what else in it is wrong.

A path in a manifest is the producer's own; what counts here is the file's name. Where two of its paths end in the
same name, a file of that name has to fit one of them.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landingd.core.settle import ON_AN_EVENT, Wait, Word, is_written_after
from landingd.model import Signature

ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""By the number of hex digits."""

_NAME_KEYS = ("name", "file", "path", "filename", "file_name", "url")
_SIZE_KEYS = ("size", "bytes", "length", "size_bytes")
_CHECKSUM_KEYS = ("sha512", "sha256", "sha1", "md5", "checksum", "hash")
_LIST_KEYS = ("files", "entries")

_GNU_LINE = re.compile(r"(\\?)([0-9a-fA-F]+)(?: [ *]|\t+)(.+)")
_BSD_LINE = re.compile(r"(?:MD5|SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9a-fA-F]+)")


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says of one file."""

    size: int | None = None
    algorithm: str = ""
    checksum: str = ""
    """Lower-case hex; empty: not given."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files that it lists, by name."""

    files: Mapping[bytes, tuple[Listed, ...]]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It is no manifest that can be understood, or not yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Beside:
    """A manifest in the same directory as a file."""

    name: str
    """For people."""
    signature: Signature
    content: Manifest | Unreadable


def judge(name: bytes, file: Signature, manifests: Sequence[Beside]) -> Word | Wait:
    """What the manifests beside a file say of it; where several list it, the newest that fits counts."""
    listing = [
        (beside, listed)
        for beside in sorted(manifests, key=lambda beside: beside.signature.mtime_ns, reverse=True)
        if isinstance(beside.content, Manifest)
        for listed in beside.content.files.get(name, ())
    ]
    fitting = next(((b, listed) for b, listed in listing if listed.size in (None, file.size)), None)
    if fitting is not None:
        return _word(*fitting, file)
    if listing:
        said = listing[0][1].size
        return Wait(f"the manifest says {said:,} bytes, there are {file.size:,}", ON_AN_EVENT)
    damaged = next((b for b in manifests if isinstance(b.content, Unreadable)), None)
    if damaged is not None and isinstance(damaged.content, Unreadable):
        return Wait(f"manifest {damaged.name} {damaged.content.why}", ON_AN_EVENT)
    return Wait("no manifest lists it", ON_AN_EVENT)


def _word(beside: Beside, listed: Listed, file: Signature) -> Word:
    fits = [what for what in ("size" if listed.size is not None else "", listed.algorithm) if what]
    if fits:
        evidence = f"listed in {beside.name} with its {' and '.join(fits)}"
        return Word(evidence, algorithm=listed.algorithm, checksum=listed.checksum)
    # A name alone is a marker, and like a marker it speaks of what was there when it was written.
    return Word(f"listed in {beside.name}", is_final=is_written_after(beside.signature, file))


def parse(content: bytes) -> Manifest | Unreadable:
    """Read a manifest of any form."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if not text.strip():
        return Unreadable("is empty")
    try:
        return _manifest(_entries(text))
    except _WrongError as wrong:
        return Unreadable(f"cannot be read: {wrong}")
    except (ValueError, RecursionError, csv.Error) as error:
        return Unreadable(f"cannot be read: {error}")


class _WrongError(Exception):
    """What is wrong with it, for people."""


Entry = tuple[str, Listed]


def _manifest(entries: Iterable[Entry]) -> Manifest:
    files: dict[bytes, tuple[Listed, ...]] = {}
    for path, listed in entries:
        name = path.rstrip("/").rpartition("/")[2].encode("utf-8", "surrogateescape")
        if not name:
            raise _WrongError(f"it lists {path!r}, which is no name of a file")
        files[name] = (*files.get(name, ()), listed)
    return Manifest(files)


def _entries(text: str) -> Iterable[Entry]:
    if text.lstrip()[0] in "[{":
        return _from_json(json.loads(text))
    numbered = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    lines = [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]
    if not lines:
        raise _WrongError("there is nothing but comments in it")
    first = lines[0][1]
    if _checksum_line(first) is not None:
        return [_checked_line(n, line) for n, line in lines]
    delimiter = next((one for one in "\t,;|" if _columns(first.split(one))), None)
    if delimiter is not None:
        return _from_table(text, delimiter)
    return [(line.strip(), Listed()) for _, line in lines]


# --- lines of sha256sum -------------------------------------------------------------------------------------


def _checked_line(number: int, line: str) -> Entry:
    entry = _checksum_line(line)
    if entry is None:
        raise _WrongError(f"line {number} is no checksum with a name")
    return entry


def _checksum_line(line: str) -> Entry | None:
    if found := _GNU_LINE.fullmatch(line):
        escaped, checksum, name = found.groups()
        name = _unescaped(name) if escaped else name
    elif found := _BSD_LINE.fullmatch(line):
        name, checksum = found.groups()
    else:
        return None
    algorithm = ALGORITHMS.get(len(checksum))
    return None if algorithm is None else (name, Listed(None, algorithm, checksum.lower()))


def _unescaped(name: str) -> str:
    """A line that begins with a backslash writes backslashes and line ends in the name as two characters."""
    return re.sub(r"\\([\\nr])", lambda two: {"\\": "\\", "n": "\n", "r": "\r"}[two[1]], name)


# --- tables and JSON ----------------------------------------------------------------------------------------


def _from_table(text: str, delimiter: str) -> Iterable[Entry]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    for row in rows:
        if not row or row[0].startswith("#"):
            continue
        if not header:
            header = [column.strip().lower() for column in row]
        elif len(row) != len(header):
            raise _WrongError(f"line {rows.line_num} has {len(row)} fields, the header has {len(header)}")
        else:
            yield _entry(dict(zip(header, row, strict=True)), f"line {rows.line_num}")


def _columns(header: Sequence[str]) -> bool:
    """Whether this is the first line of a table: a name beside something known to go with one."""
    columns = {column.strip().strip('"').lower() for column in header}
    return bool(columns & {*_NAME_KEYS}) and bool(columns & {*_SIZE_KEYS, *_CHECKSUM_KEYS})


def _from_json(value: Any) -> Iterable[Entry]:
    if isinstance(value, dict):
        inner = next((value[key] for key in _LIST_KEYS if key in value), None)
        value = [value] if inner is None else inner
    if not isinstance(value, list):
        raise _WrongError("it holds no list of files")
    for number, one in enumerate(value, 1):
        if isinstance(one, str):
            yield one, Listed()
        elif isinstance(one, dict):
            yield _entry({str(key).lower(): field for key, field in one.items()}, f"entry {number}")
        else:
            raise _WrongError(f"entry {number} is neither a name nor an object")


def _entry(fields: Mapping[str, object], where: str) -> Entry:
    name = next((fields[key] for key in _NAME_KEYS if fields.get(key)), None)
    if not isinstance(name, str):
        raise _WrongError(f"{where} names no file")
    size = next((fields[key] for key in _SIZE_KEYS if fields.get(key) not in (None, "")), None)
    key = next((key for key in _CHECKSUM_KEYS if fields.get(key)), "")
    algorithm, checksum = _checksum(fields[key], key, where) if key else ("", "")
    return name.strip(), Listed(_size(size, where), algorithm, checksum)


def _size(value: object, where: str) -> int | None:
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,18}", text):
        raise _WrongError(f"{where} gives {text!r} as a size")
    return int(text)


def _checksum(value: object, key: str, where: str) -> tuple[str, str]:
    """By its length, whatever it is called; `sha256:...` is understood too."""
    text = str(value).strip().rpartition(":")[2].lower()
    algorithm = ALGORITHMS.get(len(text)) if re.fullmatch("[0-9a-f]*", text) else None
    if algorithm is None or (key in ALGORITHMS.values() and key != algorithm):
        raise _WrongError(f"{where} gives {str(value)[:80]!r} as a {key}")
    return algorithm, text
