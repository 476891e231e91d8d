"""What one pass over a file's content tells about it, at the price of looking at each byte a few times in C.

Format is not known yet when a file arrives, only which formats it is expected in. Where that leaves a choice, the
first byte decides: a file that is expected as JSON and begins like JSON is counted as JSON, any other as lines of CSV.
Whoever reads it by other rules than those finds another number, and has it counted again by `count_records`.
"""

import codecs
import re
from collections.abc import Set as AbstractSet

from landingd.edge.landing.jsontext import JsonArray, JsonLines
from landingd.edge.landing.records import Records
from landingd.model import Facts

CSV_ONLY = frozenset({"csv"})

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SCIENTIFIC = re.compile(rb"E\+")  # three times as fast as `in` for two bytes
_PARQUET = b"PAR1"
_PARQUET_BEGINS = re.compile(rb"PAR1[\x00-\x08\x0e-\x1f]?")
_PARQUET_SHORTEST = 12  # the mark at both ends, and the footer's length


class Reading:
    """Takes the decompressed content piece by piece."""

    def __init__(self, formats: AbstractSet[str] = CSV_ONLY) -> None:
        self._formats = formats
        self._size = 0
        self._first = b""
        """The first five bytes: Parquet begins with a mark."""
        self._last = b""
        """The last eight: of Parquet they are the footer's length and the mark again."""
        self._utf8 = _Utf8()
        self._counting: Records | JsonArray | JsonLines | None = None
        self._scientific = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if not piece:
            return
        if len(self._first) < 5:
            self._first = (self._first + piece[:5])[:5]
        before, self._last = self._last, piece[-8:] if len(piece) >= 8 else (self._last + piece)[-8:]
        self._size += len(piece)
        if self._is_parquet:
            return
        self._utf8.feed(piece)
        if not self._scientific:
            across = before.endswith(b"E") and piece.startswith(b"+")
            self._scientific = across or (b"+" in piece and _SCIENTIFIC.search(piece) is not None)
        if self._counting is None:
            self._counting = self._counting_for(piece)
        if self._counting is not None:
            self._counting.feed(piece)

    @property
    def _is_parquet(self) -> bool:
        # A column may be called PAR1 or PAR12; behind the mark of a Parquet file no text goes on.
        return _PARQUET_BEGINS.fullmatch(self._first) is not None

    def _counting_for(self, piece: bytes) -> Records | JsonArray | JsonLines | None:
        """By which rules to count; None: still blank."""
        if "json" not in self._formats:
            return Records()
        begins = piece.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1]
        if not begins:
            return None
        if begins == b"[":
            return JsonArray()
        return JsonLines() if begins == b"{" or "csv" not in self._formats else Records()

    def facts(self, *, is_text: bool) -> Facts:
        """What was found. `is_text`: the content is whole, and lines are what it is made of."""
        counting = self._counting
        if not is_text or self._is_parquet:
            return Facts()
        return Facts(
            records=0 if counting is None else counting.total(),
            utf8=self._utf8.is_valid(),
            line_ended=not self._last or self._last[-1:] in b"\r\n",
            quote_open=isinstance(counting, Records) and counting.within_quotes,
            scientific=self._scientific,
        )

    def cut(self) -> str | None:
        """Why the content's end is missing, as its own end marks tell."""
        if self._is_parquet:
            return self._parquet_cut()
        if isinstance(self._counting, JsonArray):
            return self._counting.cut()
        return None

    def _parquet_cut(self) -> str | None:
        if self._size < _PARQUET_SHORTEST or not self._last.endswith(_PARQUET):
            return "the Parquet file has no end: its footer is missing"
        footer_bytes = int.from_bytes(self._last[:4], "little")
        if footer_bytes == 0 or footer_bytes + _PARQUET_SHORTEST > self._size:
            return f"the Parquet file has no whole footer: it should take {footer_bytes} bytes of {self._size}"
        return None


class _Utf8:
    """Whether pieces are UTF-8 text. Pure ASCII is told at the speed of memory, the rest by decoding it."""

    def __init__(self) -> None:
        self._valid = True
        self._started = b""
        """The beginning of a character whose rest is in the next piece."""

    def feed(self, piece: bytes) -> None:
        if not self._valid:
            return
        if b"\0" in piece:
            self._valid = False  # allowed in UTF-8, and in no text: a hole that a crash left, or another encoding
        elif self._started or not piece.isascii():
            self._decode(self._started + piece if self._started else piece)

    def _decode(self, piece: bytes) -> None:
        try:
            _, used = codecs.utf_8_decode(piece, "strict", False)  # noqa: FBT003 -- positional only: not the last
        except UnicodeDecodeError:
            self._valid = False
        else:
            self._started = piece[used:]

    def is_valid(self) -> bool:
        return self._valid and not self._started
