"""A landing directory belongs to its producers: anything in it may change, grow or vanish under our eyes.

So every answer here is about one moment: a file's hash comes with the signature that it had before and
after, read from the same open descriptor, or not at all; a scan lists what it could not read, because a file
that was not seen is not a file that is gone. Paths are bytes, since a file's name is bytes. Nothing is
written here.

Everything is synchronous and meant for worker threads.
"""

import csv
import errno
import fcntl
import gzip
import hashlib
import io
import os
import re
import signal
import stat
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard

from landingd.errors import LandingdError
from landingd.model import Lease, Signature, shown

CHUNK_BYTES = 256 << 10  # no slower than 1 MiB, and counting holds the interpreter for a quarter of the time
HEAD_BYTES = 64 << 10
LARGE_BYTES = 8 << 20  # from here on a second thread is worth its start

# O_NONBLOCK: a file that was swapped for a pipe must not hang the thread, nor a foreign lease.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

# Their servers, or the process behind FUSE, know of writers that this kernel does not.
_BLIND_FILESYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "lustre",
        "glusterfs",
        "gpfs",
        "virtiofs",
        "vboxsf",
        "afs",
    }
)


class ChangedWhileReadingError(LandingdError):
    """The file changed while it was read: what was read is no version of it. Look again later."""


class NotAFile(StrEnum):
    """What stands at a path instead of a regular file: never loaded, and this is the reason to give."""

    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    SPECIAL = "device, pipe or socket"


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
    """Why the compressed stream is not whole; None: whole, or not compressed."""
    records: int | None
    """Lines that are not blank, header included; a newline between double quotes ends no line.

    A stray quote inside an unquoted field turns that rule around for the rest of the file: if this count
    disagrees with what a reader found, ask `count_records`. None: not text, or damaged.
    """


# --- one look ---------------------------------------------------------------------------------------------


def signature(path: bytes) -> Signature | NotAFile | None:
    """What stands at `path` now; None: nothing. Links are not followed. OSError: that cannot be told."""
    try:
        return _signature_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _signature_of(status: os.stat_result) -> Signature | NotAFile:
    if stat.S_ISLNK(status.st_mode):
        return NotAFile.SYMLINK
    if stat.S_ISDIR(status.st_mode):
        return NotAFile.DIRECTORY
    if not stat.S_ISREG(status.st_mode):
        return NotAFile.SPECIAL
    return Signature(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        device=status.st_dev,
    )


def make_directory(root: Path, below: str) -> None:
    """Create a directory below the landing root, with the root's permissions on every level that is new.

    The process's umask would leave out the group, and with it the producers for whom the directory is made.
    """
    mode = stat.S_IMODE(root.stat().st_mode)
    directory = root
    for name in Path(below).parts:
        directory /= name
        with suppress(FileExistsError):
            directory.mkdir()
            directory.chmod(mode)


def ignore_lease_signal() -> None:
    """To be called once, from the main thread, before the first `lease`.

    A process that opens a file for writing in the microseconds in which we hold the lease makes the kernel
    send us SIGIO, and SIGIO's default action is to kill.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def lease(path: bytes) -> Lease:
    """Whether any process has the file open for writing: tells by taking a read lease, given back at once.

    Readers do not matter. A memory mapping that can be written is a writer, also after its file is closed.
    """
    try:
        with _opened(path) as fd:
            if _blind(os.fstat(fd).st_dev, path):
                return Lease.UNKNOWN
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # EAGAIN from open: another process holds a write lease (a file server does that for its clients).
        held = error.errno in (errno.EAGAIN, errno.EBUSY)
        return Lease.HELD if held else Lease.UNKNOWN
    return Lease.FREE


def _blind(device: int, path: bytes) -> bool:
    kind = _filesystem_types.get(device) or filesystem_type(path)
    return kind in _BLIND_FILESYSTEMS or kind.startswith("fuse")


_filesystem_types: dict[int, str] = {}


def filesystem_type(path: bytes) -> str:
    """The type of the file system that holds `path`, as /proc/self/mountinfo has it; empty: not known."""
    device = os.lstat(path).st_dev
    if device not in _filesystem_types:
        mountinfo = Path("/proc/self/mountinfo").read_bytes()
        _filesystem_types[device] = _mounted_type(mountinfo, os.path.realpath(path))
    return _filesystem_types[device]


def _mounted_type(mountinfo: bytes, path: bytes) -> str:
    # By the longest mount point and not by device number: btrfs shows stat another number than mountinfo.
    longest, kind = b"", b""
    for line in mountinfo.rstrip(b"\n").split(b"\n"):
        left, _, right = line.partition(b" - ")
        mount_point = _unescaped(left.split(b" ")[4])
        within = (path + b"/").startswith(mount_point.rstrip(b"/") + b"/")
        if within and len(mount_point) >= len(longest):  # of two at the same place, the later one is on top
            longest, kind = mount_point, right.split(b" ")[0]
    return kind.decode("ascii", "replace")


def _unescaped(mount_point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), mount_point)


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _OPEN_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)


# --- all files --------------------------------------------------------------------------------------------


def scan(directory: Path, *, recursive: bool, unreadable: list[bytes]) -> Iterator[tuple[bytes, Signature]]:
    """Every regular file in `directory` with its signature; paths are relative to it. Links are not followed.

    A subdirectory that vanishes meanwhile is not an error: its files are gone. One that cannot be read is
    added to `unreadable`, and so is `directory` itself, as b"", even if it is missing: whether its files are
    gone is then not known (think of a share that is not mounted), and nothing may be concluded from their
    absence.
    """
    prefix = os.fsencode(directory).rstrip(b"/") + b"/"
    pending = [prefix]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.extend([entry.path] if recursive else [])
                    elif isinstance(seen := signature(entry.path), Signature):
                        yield entry.path.removeprefix(prefix), seen
        except OSError as error:
            if folder == prefix or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                unreadable.append(folder.removeprefix(prefix))


# --- one pass over the bytes ------------------------------------------------------------------------------


def fingerprint(path: bytes) -> Fingerprint:
    """Hash, check and count. Raises ChangedWhileReadingError, and OSError where it cannot be read.

    A large file is hashed on a second thread while it is counted on this one: hashing lets go of the interpreter.
    """
    with _opened(path) as fd:
        before = _signature_of(os.fstat(fd))
        if not isinstance(before, Signature):
            raise ChangedWhileReadingError(f"{shown(path)}: is now a {before}")
        content = _Content(compression_of(os.pread(fd, 4, 0)))
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
        if _signature_of(os.fstat(fd)) != before:
            raise ChangedWhileReadingError(f"{shown(path)}: changed while it was read")
    damage = content.damage()
    return Fingerprint(
        content_hash=digest.hexdigest(),
        signature=before,
        head=bytes(content.head),
        compression=content.compression,
        damage=damage,
        # A NUL in the head: no text that these lines could be counted in (Parquet, an archive, UTF-16).
        records=None if damage or b"\0" in content.head else content.records.total(),
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


def compression_of(magic: bytes) -> str:
    """By the first four bytes: a suffix is what the producer meant, these are what was written."""
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if magic.startswith(b"\x28\xb5\x2f\xfd") else "none"


class _Content:
    """What the bytes on disk say once they are decompressed."""

    def __init__(self, compression: str) -> None:
        self.compression = compression
        self.head = bytearray()
        self.records = _Records()
        self._unpacking = None if compression == "none" else _Unpacking(compression)

    def feed(self, chunk: bytes) -> None:
        for piece in [chunk] if self._unpacking is None else self._unpacking.pieces(chunk):
            if len(self.head) < HEAD_BYTES:
                self.head += piece[: HEAD_BYTES - len(self.head)]
            self.records.feed(piece)

    def damage(self) -> str | None:
        return None if self._unpacking is None else self._unpacking.damage()


class _Frame(Protocol):
    """A gzip member or a zstd frame: a file may hold several in a row."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Unpacking:
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
        if self._failure is None and self._frame is not None:
            return f"{self._compression} stream ends early"
        return self._failure


# --- counting records -------------------------------------------------------------------------------------


class _Records:
    """Counts records without a CSV reader, so that a reader's count has something to be held against.

    LF and CR LF end a line; in a file that has no LF at all, CR does.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._lines_by_cr: _Lines | None = _Lines()

    def feed(self, chunk: bytes) -> None:
        self._lines.feed(chunk)
        if self._lines_by_cr is None:
            return
        if b"\n" in chunk:
            self._lines_by_cr = None
        else:
            self._lines_by_cr.feed(chunk.replace(b"\r", b"\n"))

    def total(self) -> int:
        return (self._lines if self._lines_by_cr is None else self._lines_by_cr).total()


@dataclass(slots=True)
class _Lines:
    """Counts by operations on whole chunks: a loop over lines would hold the interpreter for seconds."""

    _ended: int = 0
    _inside: bool = False
    """Between an opening double quote and its closing one."""
    _last: bytes = b"\n"
    """The last byte that counts; at the start as after a line, so that a blank first line is blank."""

    def feed(self, chunk: bytes) -> None:
        if b"\r" in chunk:
            # Before a newline it is part of the line's end, and anywhere else it ends no line here.
            chunk = chunk.translate(None, b"\r")
        if not self._inside and b'"' not in chunk:
            self._count_unquoted(chunk)
        elif _BLANK_LINE.search(chunk):
            self._count_around_quotes(chunk)
        else:
            self._count_around_quotes_without_blank_lines(chunk)

    def total(self) -> int:
        return self._ended + (self._last != b"\n")

    def _count_unquoted(self, chunk: bytes) -> None:
        if self._last == b"\n":
            chunk = chunk.lstrip(b"\n")
        while _BLANK_LINE.search(chunk):
            chunk = chunk.replace(b"\n\n", b"\n")
        self._ended += chunk.count(b"\n")
        self._last = chunk[-1:] or self._last

    def _count_around_quotes(self, chunk: bytes) -> None:
        """What is quoted is cut out; the quote left in its place keeps its line from looking blank."""
        parts = chunk.split(b'"')
        if self._inside:
            self._last = b'"'
        self._count_unquoted(b'"'.join([b"", *parts[1::2]] if self._inside else parts[::2]))
        self._toggle(len(parts) - 1)

    def _count_around_quotes_without_blank_lines(self, chunk: bytes) -> None:
        """Without blank lines only quotes and newlines matter, and two quotes around no newline do not.

        Of a line with twenty quotes nothing is left to split.
        """
        if self._last == b"\n" and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        parts = chunk.translate(None, _NEITHER_QUOTE_NOR_NEWLINE).replace(b'""', b"").split(b'"')
        self._ended += sum(part.count(b"\n") for part in parts[self._inside :: 2])
        self._last = chunk[-1:] or self._last
        self._toggle(len(parts) - 1)

    def _toggle(self, quotes: int) -> None:
        self._inside ^= quotes % 2 == 1
        if self._inside:
            self._last = b'"'  # the line that is open holds at least this quote


_BLANK_LINE = re.compile(rb"\n\n")  # twice as fast as `in` for two bytes
_NEITHER_QUOTE_NOR_NEWLINE = bytes(byte for byte in range(256) if byte not in b'"\n')


def count_records(
    path: bytes, compression: str, delimiter: str, encoding: str = "utf-8", *, blank_rows: bool = False
) -> int:
    """The exact count, row by row, where a quote counts only at the start of a field.

    Slow, and it holds the interpreter: for files whose quick count disagrees with what was loaded.
    """
    csv.field_size_limit(sys.maxsize)
    codec = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding  # a BOM is no start of a field
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))  # noqa: PTH123 -- a bytes path
        plain = stack.enter_context(closing(_decompressed(raw, compression)))
        text = stack.enter_context(io.TextIOWrapper(plain, codec, errors="surrogateescape", newline=""))
        return sum(1 for row in csv.reader(text, delimiter=delimiter) if row or blank_rows)


def _decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    match compression:
        case "gzip":
            return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
        case "zstd":
            return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        case _:
            return raw


# --- enough to know how to read it ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peek:
    """The beginning of a file, and what it was when it was looked at."""

    signature: Signature
    head: bytes
    """The first 64 KiB of content, decompressed."""
    compression: str


def peek(path: bytes) -> Peek:
    """Read the beginning only. Raises ChangedWhileReadingError where no regular file stands there, and OSError."""
    with _opened(path) as fd:
        found = _signature_of(os.fstat(fd))
        if not isinstance(found, Signature):
            raise ChangedWhileReadingError(f"{shown(path)}: is now a {found}")
        content = _Content(compression_of(os.pread(fd, 4, 0)))
        while len(content.head) < HEAD_BYTES and (chunk := os.read(fd, HEAD_BYTES)):
            content.feed(chunk)
    return Peek(found, bytes(content.head), content.compression)
