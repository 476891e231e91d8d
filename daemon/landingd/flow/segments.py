"""Take segments off growing files, and give back what was taken: the reading half of tailing.

Everything here runs on worker threads. It reads the landing directory and the ledger, and writes copies of segments
into a folder of the daemon's own; what is known of a file is changed by the tailer alone.
"""

import errno
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from landingd.core import tailing
from landingd.core.tailing import Change
from landingd.edge import landing
from landingd.edge.landing import growing
from landingd.edge.ledger import SegmentVersion, views
from landingd.errors import LandingdError
from landingd.model import FileRef, Ingest, Lease, Segment, Signature, Tail

SEGMENT_BYTES_MAX = 8 << 20
LINE_BYTES_MAX = 64 << 20
"""A line that does not end within so many bytes is taken as it is: it is no line, and the reader will say so."""


class SegmentGoneError(LandingdError):
    """A segment's bytes are neither in its copy nor in the file that it was taken from.

    No other version will bring them, so this one is quarantined, where everybody sees it.
    """


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment that was taken: what enters the ledger, and the tail as it is afterwards."""

    tail: Tail
    start: int
    """Where the tail stood before."""
    version: SegmentVersion | None
    """None: nothing but a header."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a growing file."""

    change: Change
    signature: Signature | None = None
    """Of what stands at the place."""
    piece: Piece | None = None
    more: bool = False
    """There are whole lines behind the piece, or there may be."""
    found: tuple[bytes, Signature] | None = None
    """With TRUNCATED, REPLACED and VANISHED: where what was read of it lies now."""
    has_writer: bool | None = None
    """With NONE; None: that cannot be seen."""
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Taking:
    """How a file is to be read."""

    tail: Tail
    at: bytes
    """Where it lies, below the landing root."""
    ingest: Ingest
    taken_by: tuple[str, ...]
    seen: Signature | None = None
    """What stat said when there was nothing to take: as long as it says that, nothing has to be opened."""
    last: tuple[Segment, str] | None = None
    """Its newest segment and the hash of that."""
    may_take: bool = True
    """Not so soon after the last one."""
    takes_stray_quotes: bool = False
    asks_for_writers: bool = False
    is_last: bool = False
    """It is at its end: a last line without a line end is one, too."""
    others: Collection[int] = ()
    """Inodes of the other files that are tailed."""


class Segments:
    """Segments of the files below a landing root, and their copies in a folder of ours."""

    def __init__(self, root: Path, spool: Path, tail_of: Callable[[int], Tail | None] = lambda _: None) -> None:
        """`tail_of`: what the ledger knows of a generation; for segments whose copies are gone."""
        self._root = os.fsencode(root)
        self._spool = spool
        self._tail_of = tail_of
        self._rebuilding = Lock()

    # -- taking --

    def look(self, taking: Taking) -> Look:
        """See what became of a file, and copy its next segment. Anything but room for copies is in the answer."""
        tail = taking.tail
        try:
            seen = landing.signature(self._absolute(taking.at))
            if not isinstance(seen, Signature):
                return Look(Change.VANISHED, found=self._find(taking, Change.VANISHED))
            if seen == taking.seen and not taking.is_last:
                return Look(Change.NONE, seen, has_writer=self._has_writer(taking))
            if seen.inode == tail.inode and seen.size > tail.offset and not taking.may_take:
                return Look(Change.GROWN, seen, more=True)
            return self._look(taking)
        except OSError as error:
            return Look(Change.NONE, trouble=error.strerror or str(error))

    def _look(self, taking: Taking) -> Look:
        tail, limit_bytes = taking.tail, SEGMENT_BYTES_MAX
        while True:
            stretch = growing.stretch(self._absolute(taking.at), tail.offset, limit_bytes)
            if stretch is None:
                return Look(Change.VANISHED, found=self._find(taking, Change.VANISHED))
            change = tailing.change(tail, _seen(tail, stretch))
            if change in {Change.TRUNCATED, Change.REPLACED}:
                return Look(change, stretch.signature, found=self._find(taking, change))
            if change is Change.NONE:
                return Look(change, stretch.signature, has_writer=self._has_writer(taking))
            is_all = tail.offset + len(stretch.data) >= stretch.signature.size
            is_endless = not is_all and limit_bytes >= LINE_BYTES_MAX
            cut = tailing.cut(
                tail,
                stretch.data,
                taking.ingest,
                is_last=(taking.is_last and is_all) or is_endless,
                takes_stray_quotes=taking.takes_stray_quotes or is_endless,
            )
            if cut.end > 0 or is_all:
                return self._taken(taking, stretch, cut, is_all=is_all)
            limit_bytes *= 2

    def _taken(self, taking: Taking, stretch: growing.Stretch, cut: tailing.Cut, *, is_all: bool) -> Look:
        tail, seen = taking.tail, stretch.signature
        if cut.end == 0:
            return Look(Change.GROWN, seen)
        start, end = tail.offset + cut.skip, tail.offset + cut.end
        head_bytes = min(len(stretch.first), end)
        moved = replace(
            tail,
            offset=end,
            header=cut.header,
            head=growing.head_of(stretch.first, head_bytes),
            head_bytes=head_bytes,
        )
        lines = stretch.data[cut.skip : cut.end]
        version = self._version(taking, moved, seen, start, lines) if lines else None
        return Look(Change.GROWN, seen, Piece(moved, tail.offset, version), more=not is_all)

    def _version(self, taking: Taking, tail: Tail, seen: Signature, start: int, lines: bytes) -> SegmentVersion:
        content = (tail.header or b"") + lines
        name = growing.segment_hash(tail.tail_id, start, content)
        growing.keep(self._spool, name, content)
        segment = Segment(tail.tail_id, start, start + len(lines))
        return SegmentVersion(
            segment=segment,
            content_hash=name,
            signature=replace(seen, size=len(lines)),
            facts=replace(growing.facts_of(content, taking.ingest.format), segment=segment),
            evidence=f"whole lines of a growing file, bytes {segment.start:,} to {segment.end:,}",
            taken_by=taking.taken_by,
        )

    def _has_writer(self, taking: Taking) -> bool | None:
        if not taking.asks_for_writers:
            return None
        lease = landing.lease(self._absolute(taking.at), heard=True)
        return None if lease is Lease.UNKNOWN else lease is Lease.HELD

    # -- finding what lies elsewhere --

    def _find(self, taking: Taking, change: Change) -> tuple[bytes, Signature] | None:
        """Where what was read of a tail lies now: in the file itself under another name, else in a copy."""
        tail = taking.tail
        folder, slash, _ = taking.at.rpartition(b"/")
        files = {folder + slash + name: seen for name, seen in growing.beside(self._absolute(folder)).items()}
        if change is not Change.TRUNCATED:
            for path, seen in files.items():
                if seen.inode == tail.inode and path != taking.at and self._may_be(tail, path):
                    return path, seen
        if taking.last is None:
            return None
        # What stands at the path now comes first: it may be a longer copy that somebody has put there.
        candidates = sorted(files.items(), key=lambda one: (one[0] != taking.at, -one[1].mtime_ns))
        for path, seen in candidates:
            is_other = seen.inode != tail.inode and seen.inode not in taking.others
            if is_other and self.is_copy(tail, taking.last, path):
                return path, seen
        return None

    def _may_be(self, tail: Tail, path: bytes) -> bool:
        try:
            stretch = growing.stretch(self._absolute(path), 0, 0)
        except OSError:
            return False
        return stretch is not None and tailing.may_be(tail, _seen(tail, stretch))

    def is_copy(self, tail: Tail, last: tuple[Segment, str], path: bytes) -> bool:
        """Whether a file holds what was read of a tail: it begins alike, and the newest segment stands in it."""
        segment, content_hash = last
        if not self._may_be(tail, path):
            return False
        try:
            return self._cut_out(tail, segment, path, content_hash) is not None
        except OSError:
            return False

    def first_of(self, path: bytes) -> tuple[Signature, bytes] | None:
        """What stands at a path, and its first bytes; None: no regular file. OSError."""
        stretch = growing.stretch(self._absolute(path), 0, 0)
        return None if stretch is None else (stretch.signature, stretch.first)

    def signature(self, path: bytes) -> Signature | None:
        """What stands at a path now. OSError."""
        seen = landing.signature(self._absolute(path))
        return seen if isinstance(seen, Signature) else None

    # -- giving back --

    def path_of(self, file: FileRef) -> bytes:
        """A file that holds a segment, header and all, whoever has cut away the lines meanwhile.

        SegmentGoneError; OSError where the landing directory or the folder of copies cannot be used.
        """
        segment = file.facts.segment
        assert segment is not None  # noqa: S101 -- asked by the caller
        with self._rebuilding:  # two tasks may want it at the same time
            content = growing.kept(self._spool, file.content_hash)
            if content is None or growing.segment_hash(segment.tail, segment.start, content) != file.content_hash:
                growing.keep(self._spool, file.content_hash, self._rebuilt(segment, file.content_hash))
        return os.fsencode(self._spool / file.content_hash)

    def _rebuilt(self, segment: Segment, content_hash: str) -> bytes:
        tail = self._tail_of(segment.tail)
        if tail is not None:
            folder, slash, _ = tail.path.rpartition(b"/")
            beside = [folder + slash + name for name in sorted(growing.beside(self._absolute(folder)))]
            if not beside:  # unmounted, perhaps: then it will be back
                raise OSError(errno.ENOENT, "its directory is empty or missing")
            for path in sorted(beside, key=lambda one: one != tail.path):
                content = self._cut_out(tail, segment, path, content_hash)
                if content is not None:
                    return content
        raise SegmentGoneError(
            f"bytes {segment.start:,} to {segment.end:,} of the file were cut away before they could be loaded, "
            "and their copy was lost"
        )

    def _cut_out(self, tail: Tail, segment: Segment, path: bytes, content_hash: str) -> bytes | None:
        """The segment out of this file, if it is the one."""
        stretch = growing.stretch(self._absolute(path), segment.start, segment.end - segment.start)
        if stretch is None or len(stretch.data) != segment.end - segment.start:
            return None
        content = (tail.header or b"") + stretch.data
        return content if growing.segment_hash(segment.tail, segment.start, content) == content_hash else None

    # -- copies --

    def copies(self) -> list[str]:
        """The hashes of segments of which there are copies."""
        return growing.names_kept(self._spool)

    def release(self, content_hashes: Collection[str]) -> None:
        """Take the copies of these segments away."""
        for name in content_hashes:
            growing.release(self._spool, name)

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root, path) if path else self._root


def _seen(tail: Tail, stretch: growing.Stretch) -> tailing.Seen:
    alike = len(stretch.first) >= tail.head_bytes and growing.head_of(stretch.first, tail.head_bytes) == tail.head
    return tailing.Seen(stretch.signature.inode, stretch.signature.size, alike or tail.head_bytes == 0)


def tail_in(ledger_file: Path, tail_id: int) -> Tail | None:
    """A generation, as the ledger knows it."""
    with views.reading(ledger_file) as db:
        return views.tail(db, tail_id)
