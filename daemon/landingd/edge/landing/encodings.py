"""Which encoding a file is in, and a copy of it in UTF-8 for the reader.

UTF-8 is told by being valid, UTF-16 by its mark or by its zeros, Latin-1 and Windows-1252 by how the text reads
(`western`). Anything else is refused by its name: a wrong guess loads without an error, as wrong letters.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from landingd.edge.landing.unpacking import decompressed
from landingd.edge.landing.western import is_western, rival
from landingd.errors import LandingdError

CODECS = {"utf-8": "utf-8", "latin-1": "cp1252", "windows-1252": "cp1252"}
"""Declared names and what they are read with; UTF-16 depends on the file's byte order.

Latin-1 has only control characters where Windows-1252 has signs: nobody who says Latin-1 means those.
"""

_BLOCK_BYTES = 256 << 10
_LINE_BYTES_MAX = 1 << 20
_SAMPLE_BYTES = 64 << 10
_SAMPLE_LINE_BYTES = 4 << 10
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
_MIXED_SHARE_MIN = 0.25
"""Share of lines in UTF-8 among those above ASCII: fewer are accidents of an encoding of two bytes a character."""


class NotInEncodingError(LandingdError):
    """The bytes cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a file: `codec` is Python's name."""

    name: str
    codec: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """Why it is not decoded; words for the quarantine."""

    reason: str


def by_its_head(head: bytes) -> Encoding | Foreign | None:
    """What byte order marks and zeros say; None: they say nothing, one byte is one character or part of UTF-8."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return _wide(codec)
    if b"\0" not in head:
        return None
    wide = _by_zeros(head[:4096])
    return Foreign("not a text file: it holds NUL bytes") if wide is None else _wide(wide)


def _wide(codec: str) -> Encoding | Foreign:
    if codec.startswith("utf-32"):
        return Foreign(f"it is in {codec.upper()}, which is not read: write it as UTF-8")
    return Encoding(codec[:6], codec)


def _by_zeros(sample: bytes) -> str | None:
    """Text of mostly Latin letters has a zero in every second byte of UTF-16, and none in the others."""
    sample = sample[: len(sample) & ~3]
    zeros = [sample[place::4].count(0) for place in range(4)]
    most = len(sample) // 4 * 0.1
    if min(zeros[1:]) > most and not zeros[0]:
        return "utf-32-le"
    if min(zeros[:3]) > most and not zeros[3]:
        return "utf-32-be"
    for codec, full, empty in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if zeros[full] + zeros[full + 2] > 2 * most and not zeros[empty] + zeros[empty + 2]:
            return codec
    return None


def by_its_bytes(path: bytes, compression: str) -> Encoding | Foreign:
    """What all of a file's bytes say, where the head's marks say nothing."""
    seen = _Seen()
    with ExitStack() as stack:
        for block in _blocks(_plain(stack, path, compression)):
            seen.take(block)
    return seen.verdict()


def convert(path: bytes, compression: str, codec: str, target: bytes) -> None:
    """Write the content in UTF-8, unpacked, without a byte order mark. NotInEncodingError; OSError: no room."""
    decoder = codecs.getincrementaldecoder(codec)("strict")
    lines = 1
    with ExitStack() as stack:
        copy = stack.enter_context(open(target, "wb"))  # noqa: PTH123 -- a bytes path
        plain = _plain(stack, path, compression)
        is_first = True
        while True:
            block = plain.read(_BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                lines += error.object[: error.start].decode(codec, "ignore").count("\n")
                raise NotInEncodingError(_undecodable(error, lines)) from None
            lines += text.count("\n")
            copy.write(text.removeprefix("\ufeff").encode() if is_first else text.encode())
            is_first = is_first and not text
            if not block:
                return


def _undecodable(error: UnicodeDecodeError, line: int) -> str:
    if error.end == len(error.object) and "truncated" in error.reason:
        return f"its last character, in line {line}, is cut in two"
    return f"byte 0x{error.object[error.start]:02x} in line {line} stands for no character there"


def unpack(path: bytes, compression: str, target: bytes) -> None:
    """Write the content unpacked, for a reader that has to jump to and fro in it."""
    with ExitStack() as stack:
        copy = stack.enter_context(open(target, "wb"))  # noqa: PTH123 -- a bytes path
        plain = _plain(stack, path, compression)
        while block := plain.read(_BLOCK_BYTES):
            copy.write(block)


def _plain(stack: ExitStack, path: bytes, compression: str) -> BinaryIO:
    raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123, SIM115 -- a bytes path; the stack closes it
    return stack.enter_context(closing(decompressed(raw, compression)))


def _blocks(plain: BinaryIO) -> Iterator[bytes]:
    """Pieces that end where a line ends, so that no character is cut; of endless lines, anywhere."""
    rest = b""
    while chunk := plain.read(_BLOCK_BYTES):
        rest += chunk
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if end or len(rest) > _LINE_BYTES_MAX:
            end = end or len(rest)
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


class _Seen:
    """What was seen so far in a file whose bytes are not all UTF-8."""

    def __init__(self) -> None:
        self._lines = 1
        self._nul_line: int | None = None
        self._utf8_line: int | None = None
        """The first line in UTF-8 with a character above ASCII."""
        self._other_line: int | None = None
        """The first line that is not UTF-8."""
        self._utf8_lines = 0
        self._other_lines = 0
        self._between: set[int] = set()
        """Which bytes from 0x80 to 0x9f occur: signs in Windows-1252, controls in Latin-1."""
        self._sample = bytearray()
        """Lines that are not UTF-8."""

    def take(self, block: bytes) -> None:
        if self._nul_line is None and b"\0" in block:
            self._nul_line = self._line_of(block, block.index(b"\0"))
        if not block.isascii():
            self._between.update(block.translate(None, _NOT_BETWEEN))
            self._find_lines(block)
            if len(self._sample) < _SAMPLE_BYTES:
                self._take_sample(block)
        self._lines += _line_ends(block)

    def _find_lines(self, block: bytes) -> None:
        if self._other_line is None:
            try:
                block.decode("utf-8")
            except UnicodeDecodeError as error:
                self._other_line = self._line_of(block, error.start)
        # From the first place where it can be: the search for the whole is ten times as slow.
        if (
            self._utf8_line is None
            and (near := _UTF8_PAIR.search(block))
            and (found := _UTF8_RUN.search(block, max(0, near.start() - 1)))
        ):
            self._utf8_line = self._line_of(block, found.start())

    def _take_sample(self, block: bytes) -> None:
        for found in _LINE_ABOVE_ASCII.finditer(block):
            try:
                found[0].decode("utf-8")
                self._utf8_lines += 1
            except UnicodeDecodeError as error:
                self._other_lines += 1
                start = max(0, error.start - _SAMPLE_LINE_BYTES // 2)
                self._sample += found[0][start : start + _SAMPLE_LINE_BYTES] + b"\n"
            if len(self._sample) >= _SAMPLE_BYTES:
                return

    def _line_of(self, block: bytes, place: int) -> int:
        return self._lines + _line_ends(block[:place])

    def verdict(self) -> Encoding | Foreign:
        if self._nul_line is not None:
            return Foreign(f"not a text file: there are NUL bytes in line {self._nul_line}")
        if self._other_line is None:
            return Encoding("utf-8", "utf-8")
        sample = bytes(self._sample)
        western = is_western(_UTF8_RUN.sub(b"e", sample))
        share = self._utf8_lines / max(1, self._utf8_lines + self._other_lines)
        if self._utf8_line is not None and (western or share >= _MIXED_SHARE_MIN):
            return Foreign(
                f"a mixture of encodings: UTF-8 in line {self._utf8_line}, not UTF-8 in line {self._other_line}"
            )
        if not western:
            return Foreign(_named(sample, self._other_line))
        return Encoding("windows-1252", "cp1252") if self._between else Encoding("latin-1", "latin-1")


def _line_ends(block: bytes) -> int:
    return block.count(b"\n") or block.count(b"\r")


_NOT_BETWEEN = bytes(byte for byte in range(256) if not 0x80 <= byte <= 0x9F)
_LINE_ABOVE_ASCII = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")

# Characters in UTF-8 that Western text in one byte does not make by accident: a closing quote or a dash behind an
# accented letter does look like UTF-8 (the last two bytes of a German Fuss in guillemets do).
_UTF8_RUN = re.compile(
    rb"(?<![\x80-\xff])(?:\xc3[\x80-\x84\x86-\x90\x95-\x9a\x9c-\xaa\xac-\xba\xbc-\xbf]"
    rb"|[\xc2\xc4\xc5\xce-\xd1][\x80-\x84\x86-\x90\x95\x98-\x9a\x9c-\xaa\xac-\xba\xbc-\xbf]"
    rb"|\xe2[\x80-\x8b][\x80-\xbf]|(?:[\xe3-\xed][\x80-\xbf]{2}){2,})+(?![\x80-\xff])"
)
_UTF8_PAIR = re.compile(rb"[\xc2-\xc5\xce-\xd1\xe2-\xed][\x80-\xbf]")


def _named(sample: bytes, line: int) -> str:
    name = "EBCDIC" if _is_ebcdic(sample) else rival(sample) or _guessed(sample)
    looks = f"it looks like {name}" if name else "which one it is cannot be told"
    return (
        f"line {line} is not UTF-8, and it does not read as Western European text (Latin-1, Windows-1252): {looks}. "
        "Write it as UTF-8; if it is Western text all the same, say so with read_options: {encoding: windows-1252}"
    )


def _is_ebcdic(sample: bytes) -> bool:
    """Letters above 0x80, digits above 0xf0, and hardly anything that ASCII could print."""
    text = sample.replace(b"\n", b"").decode("cp500", "replace")
    plain = sum(c.isascii() and (c.isalnum() or c in " ,;.-+:/") for c in text)
    return bool(text) and plain >= 0.85 * len(text) and sum(byte >= 0x80 for byte in sample) > 0.5 * len(text)


def _guessed(sample: bytes) -> str | None:
    """By statistics: good at what is written with two bytes a character, so asked last."""
    from charset_normalizer import from_fp  # noqa: PLC0415 -- a few files in a thousand need it

    best = from_fp(BytesIO(sample)).best()
    return None if best is None else _NAMES.get(best.encoding, best.encoding)


_NAMES = {
    "cp932": "Shift-JIS",
    "shift_jis": "Shift-JIS",
    "euc_jis_2004": "EUC-JP",
    "euc_jp": "EUC-JP",
    "gb18030": "GB18030 (Chinese)",
    "gbk": "GB18030 (Chinese)",
    "gb2312": "GB18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "big5hkscs": "Big5 (Chinese)",
    "cp950": "Big5 (Chinese)",
    "cp949": "EUC-KR (Korean)",
    "euc_kr": "EUC-KR (Korean)",
}
