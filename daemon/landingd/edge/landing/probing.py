"""Find out whether events come: leave a file of our own in a directory, and take it away again.

Only the answer to a file that really was written is worth something; what a file system promises by its type is not.
The name is hidden, so that nobody takes the file for a delivery, and told apart from all others by its prefix.
"""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

OUR_PREFIX = b".landingd-"
"""Names that start so are ours: neither scanned nor loaded nor reported."""

_PROBE = OUR_PREFIX + b"probe-"
_LEFT_BEHIND_S = 60.0


def probe_path(directory: Path) -> bytes:
    """A new name for a probe there. Known before it is written, so that its event can be waited for."""
    return os.path.join(os.fsencode(directory), _PROBE + secrets.token_hex(8).encode())


def leave_probe(path: bytes) -> None:
    """Create and close it. OSError: that is not allowed."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def remove_probe(path: bytes) -> None:
    """Take it away. If that is not allowed (any more) it stays, and is invisible to everybody but `ls -a`."""
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 -- a path as bytes


def remove_old_probes(directory: Path) -> None:
    """Take away what a process that was killed has left; younger ones may belong to another daemon."""
    with suppress(OSError), os.scandir(os.fsencode(directory)) as entries:
        for entry in entries:
            if entry.name.startswith(_PROBE) and time.time() - entry.stat().st_mtime > _LEFT_BEHIND_S:
                remove_probe(entry.path)


def is_ours(path: bytes) -> bool:
    """Whether the file at `path` is one of ours."""
    return path.rpartition(b"/")[2].startswith(OUR_PREFIX)
