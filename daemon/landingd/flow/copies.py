"""Keep the copies of segments for as long as somebody may ask for their bytes, and no longer."""

from collections.abc import Iterable, Sequence
from functools import partial

from landingd.edge.ledger import Ledger, LedgerThread
from landingd.flow.growing import InThread, Known
from landingd.flow.segments import Segments

LOOK_EVERY_S = 0.3
KEPT_LOOK_S = 60.0
"""Between looks at those that do not wait: of segments that are quarantined, or that a failed run has left."""


class Copies:
    """What is copied, and of which generation it is. All methods run on the event loop."""

    def __init__(self, ledger: LedgerThread, segments: Segments, known: Known, in_thread: InThread) -> None:
        self._ledger = ledger
        self._segments = segments
        self._known = known
        self._in_thread = in_thread
        self._waiting: dict[str, int] = {}
        self._kept: set[str] = set()
        self._kept_s = self._due_s = 0.0

    def due_at_s(self) -> float:
        """When `release` may have something to do."""
        return self._due_s if self._waiting else (self._kept_s if self._kept else float("inf"))

    async def find(self) -> None:
        """Copies that an earlier process has left."""
        found = await self._in_thread(self._segments.copies)
        self._waiting = dict.fromkeys(found, 0) | self._waiting
        self._due_s = 0.0

    def add(self, content_hash: str, tail_id: int) -> None:
        """A segment was copied and entered."""
        self._waiting[content_hash] = tail_id

    async def release(self, now_s: float) -> None:
        """Take away what nobody will ask for any more."""
        if self._waiting and now_s >= self._due_s:
            self._due_s = now_s + LOOK_EVERY_S
            needed = await self._needed(self._waiting)
            for one in [one for one in self._waiting if not needed.get(one)]:
                growing = self._known.open.get(self._waiting.pop(one))
                if growing is not None:
                    growing.waits.pop(one, None)
            self._kept |= {one for one, waits in needed.items() if not waits}
        if self._kept and now_s >= self._kept_s:
            self._kept_s = now_s + KEPT_LOOK_S
            self._kept &= (await self._needed(self._kept)).keys()

    async def _needed(self, content_hashes: Iterable[str]) -> dict[str, bool]:
        asked = tuple(content_hashes)
        needed = await self._ledger.transact(partial(_needed, asked))
        over = [one for one in asked if one not in needed]
        if over:
            await self._in_thread(partial(self._segments.release, over))
        return needed


def _needed(content_hashes: Sequence[str], ledger: Ledger) -> dict[str, bool]:
    return ledger.segments_needed(content_hashes)
