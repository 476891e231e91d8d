"""Compressed streams: told by their first bytes, and checked to be whole."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import zstandard

UNPACKING_ERRORS = (EOFError, zlib.error, zstandard.ZstdError)
"""What `decompressed` raises for a stream that is not whole."""


def compression_of(magic: bytes) -> str:
    """By the first four bytes: a suffix is what the producer meant, these are what was written."""
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if magic.startswith(b"\x28\xb5\x2f\xfd") else "none"


class _Frame(Protocol):
    """A gzip member or a zstd frame: a file may hold several in a row."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Unpacking:
    """Decompresses piece by piece and notices a stream that is cut off or altered.

    The reader that loads the file does not: it takes a truncated zstd stream for a short file and does not
    check gzip's CRC.
    """

    # A few bytes can stand for very many zeros (zstd: 32,000 times as many), so the step is small enough for
    # its result to fit into memory whatever it is.
    STEP_BYTES = 4 << 10

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self._frame: _Frame | None = None
        self._failure: str | None = None

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), self.STEP_BYTES):
            if self._failure is None:
                yield from self._step(chunk[start : start + self.STEP_BYTES])

    def _step(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            if self._frame is None:
                packed = packed.lstrip(b"\0")  # gzip allows padding with zeros after a member
                if not packed:
                    return
                self._frame = self._new_frame()
            try:
                yield self._frame.decompress(packed)
            except (zlib.error, zstandard.ZstdError) as error:
                self._failure = f"{self._compression} stream is damaged: {error}"
                return
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None

    def _new_frame(self) -> _Frame:
        if self._compression == "gzip":
            return zlib.decompressobj(wbits=31)
        return cast("_Frame", zstandard.ZstdDecompressor().decompressobj())

    def damage(self) -> str | None:
        """Why the stream was altered: it can never be unpacked."""
        return self._failure

    def cut(self) -> str | None:
        """Why its end is missing: the rest may still come."""
        is_open = self._failure is None and self._frame is not None
        return f"the {self._compression} stream ends early" if is_open else None


def decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    match compression:
        case "gzip":
            return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
        case "zstd":
            return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        case _:
            return raw
