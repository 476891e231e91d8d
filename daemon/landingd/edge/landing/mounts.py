"""Which file system a directory is on: what the kernel's table of mounts says of it.

A mount can go away and come back, or another one can take its place, and the directory's name stays the same. So an
answer here is never kept for longer than the table is.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from landingd.model import shown

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system. As text: "<type> <source> <mount point>"."""

    kind: str
    source: str
    """The device or share; with the directory in brackets where only that one is mounted (`findmnt` does so too)."""
    point: bytes

    def __str__(self) -> str:
        return f"{self.kind} {self.source} {shown(self.point)}"


class Mounts:
    """The table of mounts at one moment. Paths are absolute and without links (`os.path.realpath`)."""

    def __init__(self, table: bytes) -> None:
        self.table = table
        self._mounts = [_mount(line) for line in table.rstrip(b"\n").split(b"\n") if line]

    def of(self, path: bytes) -> Mount | None:
        """What `path` is on."""
        # By the longest mount point and not by device number: btrfs shows stat another number than this table.
        found: Mount | None = None
        for mount in self._mounts:
            # Of two at the same place, the later one is on top.
            if _within(path, mount.point) and (found is None or len(mount.point) >= len(found.point)):
                found = mount
        return found

    def below(self, path: bytes) -> Iterator[Mount]:
        """What is mounted further down."""
        on_top = {mount.point: mount for mount in self._mounts}
        return (mount for point, mount in on_top.items() if point != path and _within(point, path))


def mount_table() -> Mounts:
    """The table as it is now."""
    global _newest  # noqa: PLW0603 -- parsed once for each change, forgotten with it
    table = _TABLE.read_bytes()
    if table != _newest.table:
        _newest = Mounts(table)
        # The number of a device that is gone is given to the next one.
        _kinds.clear()
    return _newest


_newest = Mounts(b"")
_kinds: dict[int, str] = {}


def filesystem_type(path: bytes, device: int | None = None) -> str:
    """The type of the file system that holds `path`; empty: not known. `device`: its number, if it is known.

    Remembered for each device until `mount_table` sees another table: this is asked for every file.
    """
    device = os.lstat(path).st_dev if device is None else device
    if device not in _kinds:
        mount = mount_table().of(os.path.realpath(path))
        _kinds[device] = mount.kind if mount else ""
    return _kinds[device]


def _mount(line: bytes) -> Mount:
    left, _, right = line.partition(b" - ")
    fields, (kind, source, *_) = left.split(b" "), right.split(b" ")
    directory, point = _unescaped(fields[3]), _unescaped(fields[4])
    what = shown(_unescaped(source)) + (f"[{shown(directory)}]" if directory != b"/" else "")
    return Mount(kind.decode("ascii", "replace"), what, point)


def _within(path: bytes, directory: bytes) -> bool:
    return (path + b"/").startswith(directory.rstrip(b"/") + b"/")


def _unescaped(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), field)
