"""The end of a file that grows: what stands behind an offset, read together with what tells whose file it is.

Name, inode, beginning and new bytes come from one open descriptor, so that a rotation in between cannot mix two files.
What is taken is copied to a file of our own before anything else happens, because the next moment may cut it away.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from landingd.edge.landing.content import Content
from landingd.edge.landing.look import opened, signature_of
from landingd.model import Facts, Signature

HEAD_BYTES_MAX = 1024
"""Of a file's beginning, to tell it from others."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What stands in a file from an offset on."""

    signature: Signature
    first: bytes
    """Its first bytes, at most HEAD_BYTES_MAX."""
    data: bytes


def stretch(path: bytes, start: int, limit_bytes: int) -> Stretch | None:
    """Read what stands behind `start`, at most so much of it; None: no regular file is there. OSError."""
    try:
        with opened(path) as fd:
            seen = signature_of(os.fstat(fd))
            if not isinstance(seen, Signature):
                return None
            return Stretch(seen, os.pread(fd, HEAD_BYTES_MAX, 0), _read(fd, start, min(limit_bytes, seen.size - start)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(fd: int, start: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := os.pread(fd, size, start)):
        pieces.append(piece)
        start += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def head_of(first: bytes, size: int) -> str:
    """SHA-256 of the first bytes of a file, of at most so many, hex."""
    return hashlib.sha256(first[:size]).hexdigest()


def segment_hash(tail: int, start: int, content: bytes) -> str:
    """SHA-256 of a segment as a reader is given it, hex; equal lines at two places are two versions."""
    digest = hashlib.sha256(b"segment %d %d\n" % (tail, start))
    digest.update(content)
    return digest.hexdigest()


def facts_of(content: bytes, format_: str) -> Facts:
    """What one pass over a segment finds, as over a file."""
    reading = Content("none", frozenset({format_}))
    reading.feed(content)
    return reading.reading.facts(is_text=b"\0" not in reading.head)


def beside(directory: bytes) -> dict[bytes, Signature]:
    """Every regular file in a directory, by name; a directory that is gone has none. OSError."""
    found: dict[bytes, Signature] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    seen = signature_of(entry.stat(follow_symlinks=False))
                    if isinstance(seen, Signature):
                        found[entry.name] = seen
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


# --- spool: files of our own ----------------------------------------------------------------------------------


def keep(folder: Path, name: str, content: bytes) -> None:
    """Copy a segment there. OSError where there is no room."""
    # Neither synced nor renamed: it is read by its hash, and what a crash leaves of it is rebuilt.
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def kept(folder: Path, name: str) -> bytes | None:
    """A segment's copy; None: there is none."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        return None


def names_kept(folder: Path) -> list[str]:
    """Of which segments there are copies."""
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def release(folder: Path, name: str) -> None:
    """Take a segment's copy away."""
    with suppress(OSError):  # what is left is released at the next start
        (folder / name).unlink(missing_ok=True)
