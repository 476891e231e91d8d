"""One look at one file: what stands there, and whether anybody writes to it."""

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from landingd.edge.landing.mounts import filesystem_type
from landingd.model import Lease, Signature

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


_LAYERED_FILESYSTEMS = frozenset({"overlay", "aufs", "unionfs"})
"""They know who writes through them, and not who writes to one of their layers."""


class NotAFile(StrEnum):
    """What stands at a path instead of a regular file: never loaded, and this is the reason to give."""

    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    SPECIAL = "device, pipe or socket"


def signature(path: bytes) -> Signature | NotAFile | None:
    """What stands at `path` now; None: nothing. Links are not followed. OSError: that cannot be told."""
    try:
        return signature_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def signature_of(status: os.stat_result) -> Signature | NotAFile:
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


def ignore_lease_signal() -> None:
    """To be called once, from the main thread, before the first `lease`.

    A process that opens a file for writing in the microseconds in which we hold the lease makes the kernel
    send us SIGIO, and SIGIO's default action is to kill.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def lease(path: bytes, *, heard: bool = True) -> Lease:
    """Whether any process has the file open for writing: tells by taking a read lease, given back at once.

    `heard`: an event of its writer came, so that this kernel knew of the writer at least by then. Readers do not
    matter. A memory mapping that can be written is a writer, also after its file is closed.
    """
    try:
        with opened(path) as fd:
            kind = filesystem_type(path, os.fstat(fd).st_dev)
            if writers_unseen(kind):
                return Lease.UNKNOWN
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # EAGAIN from open: another process holds a write lease (a file server does that for its clients).
        held = error.errno in (errno.EAGAIN, errno.EBUSY)
        return Lease.HELD if held else Lease.UNKNOWN
    return Lease.FREE if heard or kind not in _LAYERED_FILESYSTEMS else Lease.UNKNOWN


def writers_unseen(filesystem: str) -> bool:
    """Whether files on a file system of this type can have writers that the kernel does not know of."""
    return filesystem in _BLIND_FILESYSTEMS or filesystem.startswith("fuse")


@contextmanager
def opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _OPEN_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)
