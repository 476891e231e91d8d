"""A watched directory's events may not come, and the directory itself may not be there: decide what is to be relied on.

That an event of our own making comes proves that the kernel tells what is done through it. It proves nothing about a
share that other machines write to, which is why the type of the file system can only take confidence away, never give
it. And an empty directory where a full one was is, more often than not, a mount that is missing: that a file was
deleted is concluded only where its directory certainly is the one in which it lay.
"""

from dataclasses import dataclass
from enum import StrEnum

POLL_REST = 5.0
"""A directory rests this many times as long as its last poll took, so that a large one cannot wear everybody out."""

_LAYERED = frozenset({"overlay", "aufs", "unionfs"})
_LOCAL = frozenset(
    (
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "ntfs3",
        "ramfs",
        "tmpfs",
        "vfat",
        "xfs",
        "zfs",
    )
)


class Listening(StrEnum):
    """How files in a directory are noticed."""

    INOTIFY = "inotify"
    """By the kernel's events, at once."""
    POLL = "poll"
    """By listing the directory again and again, and by whatever events come nevertheless."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How files in a directory are noticed, and why not otherwise."""

    listening: Listening
    why: str


def decide_mode(
    filesystem: str, *, written_elsewhere: bool, probe_heard: bool | None, watch_trouble: str | None
) -> Mode:
    """Whether the events of a directory are to be relied on.

    `written_elsewhere`: this kind of file system is written to by others than this kernel. `probe_heard`: whether the
    event of a file of our own came; None: none could be written. `watch_trouble`: why there is no watch.
    """
    kind = filesystem or "an unknown file system"
    doubt = watch_trouble or _doubt(filesystem, kind, written_elsewhere=written_elsewhere, probe_heard=probe_heard)
    if doubt is not None:
        return Mode(Listening.POLL, doubt)
    heard = "the event of a test file came" if probe_heard else "a local file system; no test file was written"
    return Mode(Listening.INOTIFY, f"{kind}: {heard}")


def _doubt(filesystem: str, kind: str, *, written_elsewhere: bool, probe_heard: bool | None) -> str | None:
    if probe_heard is False:
        return f"{kind}: the event of a test file did not come"
    if written_elsewhere:
        return f"{kind}: what others write to it raises no event here"
    if filesystem in _LAYERED:
        return f"{kind}: what is written to a layer of it raises no event here"
    if probe_heard is None and filesystem not in _LOCAL:
        return f"{kind}: no test file was written"
    return None


def rest_s(mode: Mode, *, took_s: float, poll_interval_s: float, scan_interval_s: float) -> float:
    """How long after a scan that took so long the next one is due."""
    if mode.listening is Listening.INOTIFY:
        return scan_interval_s
    # Not for longer than between scans: a poll that was slow since its server hung says nothing about the next one.
    return max(poll_interval_s, min(POLL_REST * took_s, max(scan_interval_s, took_s)))


def latency_s(mode: Mode, *, took_s: float, poll_interval_s: float, scan_interval_s: float, quiet_s: float) -> float:
    """The longest that a file waits to be taken in. `quiet_s`: silence that is asked for as nothing else proves it
    complete; it is counted from the poll that sees the file first, and ends with a look of its own.
    """
    if mode.listening is Listening.INOTIFY:
        return quiet_s
    rest = rest_s(mode, took_s=took_s, poll_interval_s=poll_interval_s, scan_interval_s=scan_interval_s)
    return rest + took_s + quiet_s


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be concluded from a directory as it is now."""

    available: bool
    """False: it is not the directory that it should be."""
    certain: bool
    """A file that is not in it is gone."""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a directory, and what is known of it. Mounts as text, "<type> <source> <mount point>"."""

    trouble: str | None
    """Why it cannot be listed."""
    recorded: str | None
    """The mount that it was on when it was last in order; None: never seen."""
    current: str | None
    has_files: bool = False
    knows_files: bool = False
    """There are files on the books that should be in it."""
    recognised: bool = False
    """One of those that lay in it on the recorded mount is in it now, unchanged."""


def availability(sight: Sight) -> Standing:
    """Whether this is the directory that was watched all along."""
    if sight.trouble is not None:
        return Standing(available=False, certain=False, because=sight.trouble)
    if sight.recorded in (None, sight.current) or not sight.knows_files or sight.recognised:
        return Standing(available=True, certain=True)
    moved = f"was on {sight.recorded}, is now on {sight.current or 'an unknown mount'}"
    if not sight.has_files:
        return Standing(available=False, certain=False, because=moved)
    # Often a producer that goes on writing into the empty mount point: its file is as good as any other, but says
    # nothing about those that are out of sight.
    return Standing(available=True, certain=False, because=f"{moved}, where none of the known files is")
