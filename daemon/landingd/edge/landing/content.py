"""What is in a file: its hash, its beginning, its records, from one open descriptor."""

import hashlib
import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from landingd.edge.landing.facts import CSV_ONLY, Reading
from landingd.edge.landing.look import opened, signature_of
from landingd.edge.landing.unpacking import Unpacking, compression_of
from landingd.errors import LandingdError
from landingd.model import Facts, Signature, shown

CHUNK_BYTES = 256 << 10  # no slower than 1 MiB, and counting holds the interpreter for a quarter of the time
HEAD_BYTES = 64 << 10
LARGE_BYTES = 8 << 20  # from here on a second thread is worth its start


class ChangedWhileReadingError(LandingdError):
    """The file changed while it was read: what was read is no version of it. Look again later."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One version of a file, as one pass over its bytes shows it."""

    content_hash: str
    """SHA-256 of the bytes on disk, hex."""
    signature: Signature
    head: bytes
    """The first 64 KiB of content, decompressed."""
    compression: str
    """`none`, `gzip` or `zstd`: by the first bytes, whatever the name says."""
    damage: str | None
    """Why the compressed stream was altered, so that it can never be read."""
    cut: str | None
    """Why its end is missing: it may still come, or was lost on the way."""
    facts: Facts

    @property
    def records(self) -> int | None:
        """Of CSV the lines that are not blank, header included; a newline between double quotes ends no line.

        A stray quote inside an unquoted field turns that rule around for the rest of the file: if this count
        disagrees with what a reader found, ask `count_records`. None: not text, damaged or cut.
        """
        return self.facts.records


def fingerprint(path: bytes, *, formats: AbstractSet[str] = CSV_ONLY) -> Fingerprint:
    """Hash, check and count. Raises ChangedWhileReadingError, and OSError where it cannot be read.

    `formats`: those in which somebody will want to read it; it decides by which rules records are counted.
    A large file is hashed on a second thread while it is counted on this one: hashing lets go of the interpreter.
    """
    with opened(path) as fd:
        before = signature_of(os.fstat(fd))
        if not isinstance(before, Signature):
            raise ChangedWhileReadingError(f"{shown(path)}: is now a {before}")
        content = Content(compression_of(os.pread(fd, 4, 0)), formats)
        if before.size < LARGE_BYTES:
            digest = hashlib.sha256()
            for chunk in _chunks(fd):
                digest.update(chunk)
                content.feed(chunk)
        else:
            with ThreadPoolExecutor(1) as beside:
                hashing = beside.submit(_digest, fd)
                for chunk in _chunks(fd):
                    content.feed(chunk)
            digest = hashing.result()
        if signature_of(os.fstat(fd)) != before:
            raise ChangedWhileReadingError(f"{shown(path)}: changed while it was read")
    damage, cut = content.damage(), content.cut()
    return Fingerprint(
        content_hash=digest.hexdigest(),
        signature=before,
        head=bytes(content.head),
        compression=content.compression,
        damage=damage,
        cut=cut,
        # A NUL in the head: no text that lines could be counted in (an archive, UTF-16).
        facts=content.reading.facts(is_text=not damage and not cut and b"\0" not in content.head),
    )


def _chunks(fd: int) -> Iterator[bytes]:
    """The file from its start, whatever else reads the descriptor."""
    offset = 0
    while chunk := os.pread(fd, CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


def _digest(fd: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    for chunk in _chunks(fd):
        digest.update(chunk)
    return digest


@dataclass(frozen=True, slots=True)
class Peek:
    """The beginning of a file, and what it was when it was looked at."""

    signature: Signature
    head: bytes
    """The first 64 KiB of content, decompressed."""
    compression: str


def peek(path: bytes) -> Peek:
    """Read the beginning only. Raises ChangedWhileReadingError where no regular file stands there, and OSError."""
    with opened(path) as fd:
        found = signature_of(os.fstat(fd))
        if not isinstance(found, Signature):
            raise ChangedWhileReadingError(f"{shown(path)}: is now a {found}")
        compression = compression_of(os.pread(fd, 4, 0))
        unpacking = None if compression == "none" else Unpacking(compression)
        head = bytearray()
        while len(head) < HEAD_BYTES and (chunk := os.read(fd, HEAD_BYTES)):
            for piece in (chunk,) if unpacking is None else unpacking.pieces(chunk):
                head += piece[: HEAD_BYTES - len(head)]
                if len(head) == HEAD_BYTES:
                    break  # the rest of a small chunk may be gigabytes
    return Peek(found, bytes(head), compression)


class Content:
    """What the bytes on disk say once they are decompressed."""

    def __init__(self, compression: str, formats: AbstractSet[str] = CSV_ONLY) -> None:
        self.compression = compression
        self.head = bytearray()
        self.reading = Reading(formats)
        self._unpacking = None if compression == "none" else Unpacking(compression)

    def feed(self, chunk: bytes) -> None:
        for piece in [chunk] if self._unpacking is None else self._unpacking.pieces(chunk):
            if len(self.head) < HEAD_BYTES:
                self.head += piece[: HEAD_BYTES - len(self.head)]
            self.reading.feed(piece)

    def damage(self) -> str | None:
        return None if self._unpacking is None else self._unpacking.damage()

    def cut(self) -> str | None:
        """Of a stream that is cut, its content's end is missing too: the first reason is the one to give."""
        if self.damage() is not None:
            return None
        return (self._unpacking and self._unpacking.cut()) or self.reading.cut()
