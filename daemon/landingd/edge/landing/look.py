"""One look at one file: what stands there, and whether anybody writes to it."""

import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

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


def lease(path: bytes) -> Lease:
    """Whether any process has the file open for writing: tells by taking a read lease, given back at once.

    Readers do not matter. A memory mapping that can be written is a writer, also after its file is closed.
    """
    try:
        with opened(path) as fd:
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
def opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _OPEN_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)
