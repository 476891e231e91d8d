"""Open file versions far enough to know how to read them, or say in words why they cannot be read.

A reader is handed UTF-8, with the table's column names in the file's order and a count of the records that does not
come from it. What is not UTF-8 (and Parquet that is packed) it gets as a copy in our scratch directory, which lives as
long as the attempt. Most files need one look at their first bytes: what the pass that hashed them found out (`Facts`)
says whether more has to be looked at.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Lock

from landingd.core import csvhead, misread
from landingd.core.csvhead import Header, Unreadable
from landingd.edge import landing
from landingd.edge.engine import FileChecks
from landingd.errors import LandingdError
from landingd.flow.filebooks import ToLoad
from landingd.flow.segments import SegmentGoneError, Segments
from landingd.model import Facts, FileAction, FileLoad, FileRef, Ingest, SourceFile, shown

UTF8 = landing.Encoding("utf-8", "utf-8")


class NoRoomForCopyError(LandingdError):
    """A file's copy for the reader cannot be written: no fault of the file, try again later."""


class UnfitError(LandingdError):
    """The file cannot be loaded, and this is why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the files are prepared for."""

    ingest: Ingest
    table: str
    columns: tuple[str, ...]
    """Those of the table; none if it is new and nobody has declared them."""

    @property
    def quote(self) -> str:
        """The character around fields that hold delimiters."""
        return str(self.ingest.read_options.get("quote", '"'))

    @property
    def escape(self) -> str:
        """What stands before a quote within quotes."""
        return str(self.ingest.read_options.get("escape", self.quote))


@dataclass(frozen=True, slots=True)
class Content:
    """What the reader will see of a version: the file itself, or a copy of it."""

    file_id: int
    path: bytes
    compression: str
    head: bytes
    facts: Facts
    is_head_all: bool
    copy: bytes | None = None

    def tail(self) -> bytes:
        """The end of it."""
        return self.head if self.is_head_all else landing.tail(self.path, self.compression)

    def last_line(self) -> bytes:
        """What stands behind the last line end."""
        tail = self.tail()
        return tail[max(tail.rfind(b"\n"), tail.rfind(b"\r")) + 1 :]


class Preparer:
    """Makes of file versions what the engine reads; `discard` takes the copies away when the attempt is over."""

    def __init__(
        self, root: Path, archive_root: Path | None, scratch: Path, *, segments: Segments | None = None
    ) -> None:
        """`segments`: those of growing files; None: no job tails."""
        self._segments = segments
        self._root = root
        self._archive_root = archive_root
        self._copies = scratch / "converted"
        self._numbers = count()
        self._orders: dict[SourceFile, list[Order]] = {}
        """How each file under way is read; as often as tasks take it."""
        self._lock = Lock()
        """Tasks side by side prepare on threads of their own."""
        self.checks = FileChecks(recount=self._recount, changed=_changed, lines=self._lines)

    def prepare(
        self, files: Iterable[ToLoad], ingest: Ingest, of_table: Sequence[str], *, table: str
    ) -> list[SourceFile | FileLoad]:
        """What to load, and what became of the files that cannot be. NoRoomForCopyError.

        `of_table`: the table's columns; none while there is no table.
        """
        columns = tuple(of_table) or (tuple(ingest.schema_hints) if ingest.schema_is_whole else ())
        order = Order(ingest, table, columns)
        prepared: list[SourceFile | FileLoad] = []
        try:
            prepared.extend(self._prepare(each, order) for each in files)
        except NoRoomForCopyError:
            # Room for those that come after, at least.
            self.discard(each for each in prepared if isinstance(each, SourceFile))
            raise
        return prepared

    def discard(self, files: Iterable[SourceFile]) -> None:
        """Take away what was made for these files."""
        for file in files:
            with self._lock:
                if orders := self._orders.get(file):
                    orders.pop()
                if not orders:
                    self._orders.pop(file, None)
            if file.readable is not None:
                _remove(file.readable)

    def _prepare(self, to_load: ToLoad, order: Order) -> SourceFile | FileLoad:
        file_id = to_load.file.file_id
        try:
            with ExitStack() as undo:
                source = self._source(to_load, order, undo)
                with self._lock:
                    self._orders.setdefault(source, []).append(order)
                undo.pop_all()
        except landing.ChangedWhileReadingError:
            return FileLoad(file_id, gone="its content changed before it could be loaded")
        except FileNotFoundError:
            return FileLoad(file_id, gone="it went away before it could be loaded")
        except (UnfitError, SegmentGoneError) as error:
            return FileLoad(file_id, quarantined=str(error))
        except landing.UNPACKING_ERRORS as error:
            return FileLoad(file_id, quarantined=f"cannot be unpacked: {error}")
        except OSError as error:
            return FileLoad(file_id, quarantined=f"cannot be read: {error.strerror}")
        return source

    def _source(self, to_load: ToLoad, order: Order, undo: ExitStack) -> SourceFile:
        """Raises UnfitError, ChangedWhileReadingError, OSError."""
        file = to_load.file
        path = self._path(file)
        peek = landing.peek(path)
        is_known = peek.signature == file.signature or file.facts.segment is not None  # that was checked by its hash
        if not is_known and landing.fingerprint(path).content_hash != file.content_hash:
            raise landing.ChangedWhileReadingError(shown(path))
        is_head_all = peek.compression == "none" and peek.signature.size <= len(peek.head)
        content = Content(file.file_id, path, peek.compression, peek.head, file.facts, is_head_all)
        source = SourceFile(
            file_id=file.file_id,
            path=path,
            name=shown(file.path),
            content_hash=file.content_hash,
            columns=(),
            delimiter="",
            compression=peek.compression,
            signature=peek.signature,
            rows_in=None,
            replaces=to_load.replaces,
            reload=file.action is FileAction.RELOAD,
        )
        _refuse_other_formats(content.head, order.ingest.format)
        if order.ingest.format == "parquet":
            return self._unpacked(source, content, undo)
        content = self._in_utf8(content, order.ingest, undo)
        if content.copy is not None:
            source = replace(source, readable=content.copy, compression=content.compression)
        if order.ingest.format == "json":
            return _json(source, content)
        return _csv(source, content, order)

    def _path(self, file: FileRef) -> bytes:
        if file.facts.segment is not None:
            if self._segments is None:
                raise SegmentGoneError("it is part of a growing file, and its copy is not kept here")
            try:
                return self._segments.path_of(file)
            except OSError as error:
                raise NoRoomForCopyError(f"a part of {shown(file.path)} cannot be copied: {error.strerror}") from error
        if file.archive_path is not None and self._archive_root is not None:
            return os.path.join(os.fsencode(self._archive_root), file.archive_path)
        return os.path.join(os.fsencode(self._root), file.path)

    # -- copies --

    def _in_utf8(self, content: Content, ingest: Ingest, undo: ExitStack) -> Content:
        """The content itself where it is UTF-8, else a copy that is."""
        if content.facts.utf8 is None and b"\0" not in content.head:
            # Entered before facts were kept, or hashed for another format.
            content = replace(content, facts=_facts(content.path, ingest.format))
        encoding = _encoding(content, ingest)
        has_mark = content.head.startswith(b"\xef\xbb\xbf")
        if encoding.codec == "utf-8" and not (has_mark and ingest.format == "json"):
            return content
        with self._new_copy(content.file_id, undo) as copy:
            try:
                landing.convert(content.path, content.compression, encoding.codec, copy)
            except landing.NotInEncodingError as error:
                raise UnfitError(f"it should be {encoding.name}, but {error}") from None
        made = landing.fingerprint(copy, formats=frozenset({ingest.format}))
        _refuse_other_formats(made.head, ingest.format)
        is_head_all = made.signature.size <= len(made.head)
        return Content(content.file_id, copy, "none", made.head, made.facts, is_head_all, copy)

    def _unpacked(self, source: SourceFile, content: Content, undo: ExitStack) -> SourceFile:
        """Parquet is read from its end."""
        if content.compression == "none":
            return source
        with self._new_copy(content.file_id, undo) as copy:
            landing.unpack(content.path, content.compression, copy)
        return replace(source, readable=copy, compression="none")

    @contextmanager
    def _new_copy(self, file_id: int, undo: ExitStack) -> Iterator[bytes]:
        """A name for a copy that is about to be written."""
        # Two tasks may want a copy of the same file at the same time.
        copy = os.fsencode(self._copies / f"{file_id}.{next(self._numbers)}")
        undo.callback(_remove, copy)
        try:
            self._copies.mkdir(parents=True, exist_ok=True)
            yield copy
        except FileNotFoundError:
            raise  # the landing file went away: the folder was there a moment ago
        except OSError as error:
            raise NoRoomForCopyError(f"cannot copy to {shown(copy)}: {error.strerror}") from error

    # -- what the load asks --

    def _lines(self, file: SourceFile, rows: Collection[int], rejected_lines: Collection[int]) -> Mapping[int, int]:
        """On which lines rows of a CSV file stand; other formats number their records."""
        if not file.columns:
            return {}
        order = self._orders[file][-1]
        return landing.lines_of(
            file.readable or file.path,
            file.compression,
            file.delimiter,
            rows,
            rejected_lines,
            header=order.ingest.header,
            quote=order.quote,
            escape=order.escape,
        )

    def _recount(self, file: SourceFile) -> int:
        path = file.readable or file.path
        if not file.columns:
            return landing.count_objects(path, file.compression)
        order = self._orders[file][-1]
        # In a file with one column a blank line is a row, whose value is NULL.
        counted = landing.count_records(
            path,
            file.compression,
            file.delimiter,
            quote=order.quote,
            escape=order.escape,
            blank_rows=len(file.columns) == 1,
        )
        return counted - order.ingest.header


def _changed(file: SourceFile) -> bool:
    """Whether the bytes under the path may be others than those that were hashed."""
    try:
        return landing.signature(file.path) != file.signature
    except OSError:
        return True


def _remove(copy: bytes) -> None:
    with suppress(OSError):  # what is left is cleared at the next start
        os.unlink(copy)  # noqa: PTH108 -- a path as bytes


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise UnfitError(reason)


def _refuse_other_formats(head: bytes, wanted: str) -> None:
    if not head:
        raise UnfitError("the file is empty")
    if not isinstance(landing.by_its_head(head), landing.Encoding) or head.startswith(b"\xef\xbb\xbf"):
        _refuse(misread.not_the_format(head, wanted))


def _facts(path: bytes, format_: str) -> Facts:
    return landing.fingerprint(path, formats=frozenset({format_})).facts


# --- encodings ----------------------------------------------------------------------------------------------


def _encoding(content: Content, ingest: Ingest) -> landing.Encoding:
    """What the content is to be decoded with. What the job declares is believed, except against certain proof."""
    declared, marked = ingest.encoding, landing.by_its_head(content.head)
    if isinstance(marked, landing.Foreign):
        raise UnfitError(marked.reason)
    is_utf16 = marked is not None and marked.name == "utf-16"
    if declared is not None and (declared == "utf-16") != is_utf16:
        found = "it is UTF-16" if is_utf16 else "it has neither the byte order mark nor the zeros of UTF-16"
        raise UnfitError(f"declared as {declared}, but {found}")
    if marked is not None and is_utf16:
        return marked
    if declared in ("latin-1", "windows-1252") and marked is None:
        is_plain = content.is_head_all and content.head.isascii()
        return UTF8 if is_plain else landing.Encoding(declared, landing.CODECS[declared])
    if content.facts.utf8:
        return UTF8
    found_out = landing.by_its_bytes(content.path, content.compression)
    if isinstance(found_out, landing.Foreign):
        raise UnfitError(found_out.reason)
    if declared is not None and found_out.codec != "utf-8":
        raise UnfitError(f"declared as {declared}, but its bytes are not: they read as {found_out.name}")
    return found_out


# --- CSV ----------------------------------------------------------------------------------------------------


def _csv(source: SourceFile, content: Content, order: Order) -> SourceFile:
    header = _header(content.head, order)
    dialect = landing.Dialect(header.delimiter, order.quote, order.escape)
    if not content.facts.line_ended or content.facts.quote_open:
        _refuse_if_torn(content, dialect, len(header.columns))
    if content.facts.scientific:
        _refuse_if_mangled(content, dialect, header.columns, order.ingest)
    records = content.facts.records
    if (order.quote, order.escape) != ('"', '"'):
        # The quick count knows no other quote.
        blank_rows = len(header.columns) == 1
        records = landing.count_records(
            content.path,
            content.compression,
            header.delimiter,
            quote=order.quote,
            escape=order.escape,
            blank_rows=blank_rows,
        )
    rows_in = None if records is None else records - order.ingest.header
    return replace(source, columns=header.columns, delimiter=header.delimiter, rows_in=rows_in)


def _header(head: bytes, order: Order) -> Header:
    """The names that the table has for the file's columns, in the file's order."""
    ingest = order.ingest
    delimiter, quote, escape = ingest.delimiter, order.quote, order.escape
    if not ingest.header:
        columns = tuple(ingest.schema_hints)
        return _readable(csvhead.read_headless(head, columns, delimiter=delimiter, quote=quote, escape=escape))
    known = (*order.columns, *ingest.rename, *ingest.schema_hints)
    header = _readable(csvhead.read(head, delimiter=delimiter, known=known, quote=quote, escape=escape))
    text = csvhead.text_of(head)
    assert isinstance(text, str)  # noqa: S101 -- or there were no header
    _refuse(misread.wrong_delimiter(text, header, declared=delimiter is not None, quote=quote, escape=escape))
    header = _readable(csvhead.renamed(header, ingest.rename))
    _refuse(misread.strange_header(header.columns, order.table, order.columns))
    return header


def _readable(answer: Header | Unreadable) -> Header:
    if isinstance(answer, Unreadable):
        raise UnfitError(answer.reason)
    return answer


def _refuse_if_torn(content: Content, dialect: landing.Dialect, columns: int) -> None:
    if not content.facts.quote_open:
        last_line = content.last_line().decode("utf-8", "replace")
        if misread.may_be_torn(last_line, columns, dialect.delimiter, dialect.quote) is False:
            return
    last = landing.last_record(content.path, content.compression, dialect)
    is_short = not content.facts.line_ended and last.fields < columns
    if last.is_open or is_short:
        _refuse(misread.torn(line=last.line, fields=last.fields, columns=columns, is_open=last.is_open))


def _refuse_if_mangled(content: Content, dialect: landing.Dialect, columns: Sequence[str], ingest: Ingest) -> None:
    right = misread.keeping_exponents(columns, ingest.schema_hints)
    cell = landing.first_cell_like(
        content.path, content.compression, dialect, misread.MANGLED, holding="E+", but_columns=right
    )
    if cell is not None:
        column = columns[cell.column] if cell.column < len(columns) else str(cell.column + 1)
        raise UnfitError(misread.mangled(column, cell.line, cell.text))


# --- JSON ---------------------------------------------------------------------------------------------------


def _json(source: SourceFile, content: Content) -> SourceFile:
    _refuse(misread.not_json_rows(content.head, is_whole=content.is_head_all))
    is_array = content.head.lstrip().startswith(b"[")
    if not is_array and not content.facts.line_ended:
        line = content.last_line()
        if content.is_head_all or len(line) < len(content.tail()):
            _refuse(misread.torn_json_line(line))
    return replace(source, is_array=is_array, rows_in=content.facts.records)
