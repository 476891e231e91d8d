"""What is known of growing files between two looks, and what a look at one leads to in the ledger."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from landingd.core import tailing
from landingd.core.tailing import Change
from landingd.edge.ledger import Ledger
from landingd.errors import LandingdError
from landingd.flow import segments
from landingd.flow.segments import Look, Taking
from landingd.flow.telling import tell_file
from landingd.model import Ingest, Segment, Signature, Tail, TailState

T = TypeVar("T")
Key = tuple[str, bytes]
"""A job and a path below the landing root."""
How = tuple[Ingest, tuple[str, ...]]
"""How a job tails a path, and the keys of its ingest tasks that take it."""


class InThread(Protocol):
    """Makes a call on a worker thread."""

    async def __call__(self, call: Callable[[], T], /) -> T: ...


class OffsetMovedError(LandingdError):
    """Somebody else has entered segments of this file: there must be one tailer of a ledger."""


@dataclass(slots=True)
class Growing:
    """A generation that is not finished."""

    tail: Tail
    at: bytes
    """Where it lies, below the landing root."""
    ingest: Ingest
    taken_by: tuple[str, ...]
    last: tuple[Segment, str] | None = None
    """Its newest segment and the hash of that."""
    due_s: float = 0.0
    size: int = -1
    seen: Signature | None = None
    """What stat said when there was nothing to take."""
    grew_s: float = 0.0
    taken_s: float = 0.0
    open_since_s: float | None = None
    """Since when it has bytes that are no whole record."""
    gone_since_s: float | None = None
    is_last: bool = False
    has_writer: bool | None = None
    trouble: str | None = None
    waits: dict[str, int] = field(default_factory=dict[str, int])
    """Segments that are entered and not loaded, with their bytes."""

    @property
    def how(self) -> How:
        """How it is tailed."""
        return self.ingest, self.taken_by

    def taking(self, now_s: float, others: Collection[int], *, eagerly: bool = False) -> Taking:
        """How to read it now."""
        is_full = self.size - self.tail.offset >= segments.SEGMENT_BYTES_MAX
        gathered = is_full or now_s >= self.taken_s + tailing.gather_s(len(self.waits))
        stray = self.open_since_s is not None and now_s >= self.open_since_s + tailing.OPEN_RECORD_S
        rotated = self.tail.state is TailState.ROTATED
        return Taking(
            self.tail,
            self.at,
            self.ingest,
            self.taken_by,
            seen=None if stray else self.seen,
            last=self.last,
            may_take=eagerly or (gathered and sum(self.waits.values()) < tailing.BACKLOG_BYTES_MAX),
            takes_stray_quotes=stray,
            asks_for_writers=rotated and now_s >= self.grew_s + tailing.FINISHED_AFTER_S,
            is_last=self.is_last,
            others=others,
        )

    def note(self, look: Look, now_s: float) -> None:
        """Keep in mind what was seen, and when to look again."""
        self.has_writer = look.has_writer
        if look.signature is not None and look.signature.size != self.size:
            self.size, self.grew_s = look.signature.size, now_s
        has_nothing = look.change is Change.NONE or (look.piece is None and not look.more)
        self.seen = look.signature if has_nothing and look.change in {Change.NONE, Change.GROWN} else None
        was_tried = self.open_since_s is not None and now_s >= self.open_since_s + tailing.OPEN_RECORD_S
        if look.change is Change.GROWN and look.piece is None and not look.more:
            self.open_since_s = None if was_tried else self.open_since_s or now_s
        elif look.change is not Change.NONE:
            self.open_since_s = None
        self.gone_since_s = (self.gone_since_s or now_s) if look.change is Change.VANISHED else None
        self.due_s = now_s + self._pause_s(look, now_s)

    def _pause_s(self, look: Look, now_s: float) -> float:
        if look.change is Change.VANISHED:
            return min(max(now_s - (self.gone_since_s or now_s), tailing.LOOK_IDLE_S), 5.0)
        if look.piece is not None and look.more:
            return 0.0
        return tailing.look_again_s(now_s=now_s, grew_s=self.grew_s)


@dataclass(slots=True)
class Known:
    """Every generation that is known. Lost without harm: it is in the ledger."""

    open: dict[int, Growing] = field(default_factory=dict[int, Growing])
    at: dict[Key, int] = field(default_factory=dict[Key, int])
    """Which generation stands at a path, as far as is known."""
    finished: dict[int, Tail] = field(default_factory=dict[int, Tail])

    def tails(self, job: str | None = None) -> list[Tail]:
        """Those of a job, or all; the open ones first."""
        tails = [each.tail for each in self.open.values()] + list(self.finished.values())
        return [tail for tail in tails if job is None or tail.job == job]

    def add(self, tail: Tail, at: bytes, how: How, last: tuple[Segment, str] | None, *, now_s: float) -> None:
        """A generation is read from now on, there."""
        self.finished.pop(tail.tail_id, None)
        self.open[tail.tail_id] = Growing(tail, at, *how, last=last, grew_s=now_s)
        if tail.state is TailState.GROWING:
            self.at[tail.job, tail.path] = tail.tail_id

    def place(self, growing: Growing, tail: Tail, at: bytes) -> None:
        """What is known of a generation has changed."""
        growing.tail, growing.at = tail, at
        if tail.state is not TailState.GROWING:
            self.leave_path(tail.tail_id)
        if tail.state is TailState.FINISHED:
            del self.open[tail.tail_id]
            self.finished[tail.tail_id] = tail

    def leave_path(self, tail_id: int) -> None:
        """It does not stand at its path any more."""
        for key in [key for key, standing in self.at.items() if standing == tail_id]:
            del self.at[key]


@dataclass(frozen=True, slots=True)
class Followed:
    """What a look has led to."""

    tail: Tail
    at: bytes
    dropped: int | None = None
    """A generation that was none: the rest of this one lies there."""
    is_new_at_path: bool = False
    """What stands at the path now has to be found out."""
    lost: str | None = None
    """What was seen and never read, and why."""


def needs_entry(growing: Growing, look: Look, now_s: float) -> bool:
    """Whether a look leads to anything in the ledger."""
    if look.change is Change.VANISHED and look.found is None:
        return growing.gone_since_s is not None and now_s >= growing.gone_since_s + tailing.VANISHED_AFTER_S
    if look.trouble is not None:
        return False
    return look.piece is not None or look.change not in {Change.NONE, Change.GROWN} or growing.is_last


def follow(ledger: Ledger, growing: Growing, look: Look, known: Iterable[Tail], now_s: float) -> Followed:
    """Enter what a look has found, in the caller's transaction."""
    if look.change in {Change.NONE, Change.GROWN}:
        tail = growing.tail if look.piece is None else _enter(ledger, growing, look, now_s)
        if growing.is_last and not look.more:
            tail = replace(tail, state=TailState.FINISHED, changed_s=now_s)
            ledger.place_tail(tail)
        return Followed(tail, growing.at)
    return _elsewhere(ledger, growing, look, known, now_s)


def _enter(ledger: Ledger, growing: Growing, look: Look, now_s: float) -> Tail:
    piece = look.piece
    assert piece is not None  # noqa: S101 -- asked by the caller
    tail = replace(piece.tail, changed_s=now_s)
    if not ledger.advance_tail(tail, start=piece.start):
        raise OffsetMovedError(f"{tail.path!r} stood at byte {piece.start}, and does not any more")
    if piece.version is not None:
        is_first = growing.last is None
        keeps_older = not (is_first and ledger.was_whole(tail))
        file_id = ledger.add_segment(tail, piece.version, keeps_older=keeps_older, now_s=now_s)
        size = piece.version.signature.size
        tell_file(ledger, "landed", file_id, now_s, size=size, evidence=piece.version.evidence)
    return tail


def _elsewhere(ledger: Ledger, growing: Growing, look: Look, known: Iterable[Tail], now_s: float) -> Followed:
    """The place does not hold the tail any more: what was read of it lies elsewhere, or nowhere."""
    tail, found = growing.tail, look.found
    leaves = tail.state is TailState.GROWING and look.change is not Change.VANISHED
    if found is None:
        tail = replace(tail, state=TailState.FINISHED, changed_s=now_s)
        ledger.place_tail(tail)
        unread = growing.size - tail.offset
        why = f"{look.change.value}: {unread} bytes behind byte {tail.offset} cannot be read any more"
        return Followed(tail, growing.at, is_new_at_path=leaves, lost=why if unread > 0 else None)
    at, seen = found
    stays = at == growing.at
    state = tail.state if stays else TailState.ROTATED
    tail = replace(tail, state=state, inode=seen.inode, device=seen.device, changed_s=now_s)
    ledger.place_tail(tail)
    copies = [t for t in known if t.inode == seen.inode and t.tail_id != tail.tail_id and t.job == tail.job]
    dropped = next((t.tail_id for t in copies if ledger.last_segment(t) is None), None)
    if dropped is not None:
        ledger.drop_tail(dropped)
    return Followed(tail, at, dropped, is_new_at_path=leaves and not stays)
