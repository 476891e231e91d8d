"""Tell whether a path that is to be tailed holds a new file, or one that is known: renamed, linked, or copied.

A log that was rotated turns up under another name, and where the pattern takes that name it must not be read again. By
its inode it is known at once; a copy (made before the log is cut to nothing) is known by its beginning and by the
newest segment, which stands in it where it stood in the log.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from landingd.core import tailing
from landingd.edge.landing import growing
from landingd.edge.ledger import Ledger, LedgerThread
from landingd.flow.growing import How, InThread, Key, Known
from landingd.flow.segments import Segments
from landingd.model import Segment, Signature, Tail, TailState, shown

log = structlog.get_logger("landingd.tailing")

LOOK_AGAIN_S = 0.2


class Newcomers:
    """Paths that are to be examined. All methods run on the event loop."""

    def __init__(
        self,
        ledger: LedgerThread,
        segments: Segments,
        known: Known,
        how: Callable[[str, bytes], How | None],
        in_thread: InThread,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`how`: how a job tails a path; None: it does not."""
        self._ledger = ledger
        self._segments = segments
        self._known = known
        self._how = how
        self._in_thread = in_thread
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._examined: dict[Key, Signature] = {}
        """Files that are known to be no new ones."""

    def notice(self, key: Key) -> None:
        """Something stands at a path where no file is known to be tailed."""
        self._due.setdefault(key, 0.0)

    def forget(self) -> None:
        """What was examined has to be examined anew."""
        self._examined.clear()

    def due_at_s(self) -> float:
        """When `examine` has something to do."""
        return min(self._due.values(), default=float("inf"))

    async def examine(self, now_s: float) -> bool:
        """Look at what is due; whether anything is to be read now."""
        begun = False
        for key in [key for key, due_s in self._due.items() if due_s <= now_s]:
            del self._due[key]
            how = self._how(*key)
            if how is None or key in self._known.at:
                continue
            try:
                seen = await self._in_thread(partial(self._segments.first_of, key[1]))
            except OSError as error:
                log.warning("tail_trouble", job=key[0], file=shown(key[1]), why=error.strerror)
                continue
            if seen is not None and self._examined.get(key) != seen[0]:
                begun |= await self._recognise(key, how, *seen)
        return begun

    async def _recognise(self, key: Key, how: How, signature: Signature, first: bytes) -> bool:
        job, path = key
        alike = [tail for tail in self._known.tails(job) if _begins_like(tail, signature, first)]
        for tail in sorted(alike, key=lambda t: t.tail_id not in self._known.open):
            if tail.inode == signature.inode and signature.size >= tail.offset:
                return await self._is_known(key, how, tail, signature)
        folder = path.rpartition(b"/")[0]
        for tail in alike:
            if tail.path.rpartition(b"/")[0] != folder or not tail.offset:
                continue
            last = await self._ledger.transact(partial(_last_segment, tail))
            if last is None:
                continue
            if signature.size < tail.offset:
                if self._clock() - signature.mtime_ns / 1e9 < tailing.COPYING_S:
                    self._due[key] = self._clock() + LOOK_AGAIN_S
                    return False
            elif await self._in_thread(partial(self._segments.is_copy, tail, last, path)):
                await self._note_copy(key, tail, signature)
                return False
        await self._begin(key, how, signature)
        return True

    async def _is_known(self, key: Key, how: How, tail: Tail, signature: Signature) -> bool:
        """The file itself, under this name. Whether there is anything to read."""
        job, path = key
        open_ = self._known.open.get(tail.tail_id)
        if open_ is not None:
            there = await self._in_thread(partial(self._segments.signature, open_.at))
            is_linked = there is not None and there.inode == tail.inode
        else:
            is_linked = tail.path != path and signature.size == tail.offset
        if is_linked:
            self._examined[key] = signature
            return False
        state = TailState.GROWING if tail.path == path else TailState.ROTATED
        tail = replace(tail, state=state, device=signature.device, changed_s=self._clock())
        last = await self._ledger.transact(partial(_place, tail))
        self._known.leave_path(tail.tail_id)
        self._known.add(tail, path, how if open_ is None else open_.how, last, now_s=self._clock())
        if state is TailState.ROTATED:
            self.notice((job, tail.path))  # who wrote there meanwhile was taken for this one
        log.info("tail_found", job=job, file=shown(tail.path), at=shown(path), state=state.value)
        return True

    async def _note_copy(self, key: Key, of: Tail, signature: Signature) -> None:
        """Kept like a finished generation, so that it is counted, and not examined again."""
        job, path = key
        now_s = self._clock()

        def record(ledger: Ledger) -> Tail:
            begun = ledger.begin_tail(job, path, signature, now_s=now_s)
            tail = replace(begun, offset=signature.size, head=of.head, head_bytes=of.head_bytes, changed_s=now_s)
            ledger.advance_tail(tail, start=0)
            tail = replace(tail, state=TailState.FINISHED)
            ledger.place_tail(tail)
            return tail

        tail = await self._ledger.transact(record)
        self._known.finished[tail.tail_id] = tail
        self._examined[key] = signature
        log.info("tail_copied", job=job, file=shown(of.path), to=shown(path))

    async def _begin(self, key: Key, how: How, signature: Signature) -> None:
        job, path = key
        before = [tail for tail in self._known.tails(job) if tail.header is not None]
        before = [tail for tail in before if tail.path == path or tail.inode == signature.inode]
        header = max(before, key=lambda t: (t.inode == signature.inode, t.tail_id)).header if before else None
        now_s = self._clock()

        def record(ledger: Ledger) -> Tail:
            ledger.forget_waiting(job, path)
            return ledger.begin_tail(job, path, signature, header=header, now_s=now_s)

        self._known.add(await self._ledger.transact(record), path, how, None, now_s=now_s)
        log.info("tail_begun", job=job, file=shown(path))


def _begins_like(tail: Tail, signature: Signature, first: bytes) -> bool:
    """Whether a file begins like a generation of which something was read."""
    if tail.inode == signature.inode and tail.head_bytes == 0:
        return True
    size = tail.head_bytes
    return 0 < size <= len(first) and growing.head_of(first, size) == tail.head


def _last_segment(tail: Tail, ledger: Ledger) -> tuple[Segment, str] | None:
    return ledger.last_segment(tail)


def _place(tail: Tail, ledger: Ledger) -> tuple[Segment, str] | None:
    ledger.place_tail(tail)
    return ledger.last_segment(tail)
