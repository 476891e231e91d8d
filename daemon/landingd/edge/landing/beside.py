"""What lies beside a file and speaks of it: markers, manifests, and the sums that these give.

Everything is read anew each time; who asks often remembers the answer by its signature.
"""

import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

from landingd.edge.landing.content import ChangedWhileReadingError
from landingd.edge.landing.look import opened, signature_of
from landingd.model import Signature, shown

MANIFEST_BYTES_MAX = 64 << 20
CHUNK_BYTES = 256 << 10


class TooLargeError(OSError):
    """No manifest is that large: it is some other file."""


def names_like(directory: bytes, glob: str) -> list[bytes]:
    """Names in a directory that match a glob; without a wildcard the one name, whether it exists or not."""
    if not any(character in glob for character in "*?["):
        return [glob.encode("utf-8", "surrogateescape")]
    return sorted(name for name in names_in(directory) if fnmatchcase(name.decode("utf-8", "surrogateescape"), glob))


def names_in(directory: bytes) -> list[bytes]:
    """Names of everything in a directory but its directories; a directory that is gone has none."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def whole(path: bytes) -> tuple[Signature, bytes]:
    """All of a small file, and what stat said of it. ChangedWhileReadingError, TooLargeError, OSError."""
    with opened(path) as fd:
        before = signature_of(os.fstat(fd))
        if isinstance(before, Signature) and before.size > MANIFEST_BYTES_MAX:
            raise TooLargeError(None, f"is larger than {MANIFEST_BYTES_MAX >> 20} MiB")
        content = b"".join(_chunks(fd)) if isinstance(before, Signature) else b""
        if not isinstance(before, Signature) or signature_of(os.fstat(fd)) != before:
            raise ChangedWhileReadingError(f"{shown(path)}: changed while it was read")
    return before, content


def checksum(path: bytes, algorithm: str, version: Signature) -> str:
    """A file's sum by another algorithm than ours, hex. ChangedWhileReadingError if it is not that version."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with opened(path) as fd:
        for chunk in _chunks(fd):
            digest.update(chunk)
        if signature_of(os.fstat(fd)) != version:
            raise ChangedWhileReadingError(f"{shown(path)}: changed while it was read")
    return digest.hexdigest()


def begins_with(path: bytes, size: int, content_hash: str) -> bool:
    """Whether the first `size` bytes of a file have this SHA-256."""
    digest = hashlib.sha256()
    left = size
    with opened(path) as fd:
        for chunk in _chunks(fd):
            digest.update(chunk[:left])
            left -= min(left, len(chunk))
            if left == 0:
                break
    return left == 0 and digest.hexdigest() == content_hash


def _chunks(fd: int) -> Iterator[bytes]:
    while chunk := os.read(fd, CHUNK_BYTES):
        yield chunk
