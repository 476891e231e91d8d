"""Read files that keep growing: look at each a few times a second, and enter what was added as segments.

A segment is a version like any other from the moment that it is entered, so runs, tables and quarantine have nothing
to learn. What is remembered here may be lost at any time: offsets are in the ledger, moved in the transaction that
enters the segment.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from landingd.core import tailing, triggers
from landingd.edge import landing
from landingd.edge.landing import growing as growing_files
from landingd.edge.ledger import Ledger, LedgerThread
from landingd.flow.copies import Copies
from landingd.flow.growing import Followed, Growing, How, Known, follow, needs_entry
from landingd.flow.newcomers import Newcomers
from landingd.flow.segments import Look, Segments
from landingd.model import Job, Segment, Tail, TailState, shown

log = structlog.get_logger("landingd.tailing")
T = TypeVar("T")

HOUSEKEEPING_S = 600.0


class Tailer:
    """Owns what is known of growing files. All methods run on the event loop."""

    def __init__(
        self,
        ledger: LedgerThread,
        jobs: Sequence[Job],
        segments: Segments,
        *,
        root: Path,
        on_arrived: Callable[[str], None] = lambda _: None,
        on_news: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`root`: the landing root. `on_arrived` is called with a job's name, `on_news` when events were written."""
        self._ledger = ledger
        self._jobs = {job.name: job for job in jobs if tailing.has_tails(job)}
        self._segments = segments
        self._root = root
        self._on_arrived = on_arrived
        self._on_news = on_news
        self._clock = clock
        self._known = Known()
        self._newcomers = Newcomers(ledger, segments, self._known, self._how, self._in_thread, clock=clock)
        self._copies = Copies(ledger, segments, self._known, self._in_thread)
        self._housekeeping_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tailing")
        self._wake = asyncio.Event()
        self._loaded = self._stopping = False

    # -- said from outside --

    def hint(self, path: bytes) -> None:
        """Somebody says "look at this (absolute) path"."""
        prefix = os.fsencode(self._root) + b"/"
        if self._jobs and path.startswith(prefix):
            self.notice(path.removeprefix(prefix))

    def notice(self, path: bytes) -> None:
        """A path, below the landing root, may have to be tailed, or has changed."""
        for match in triggers.matching(path, tuple(self._jobs.values()))[0]:
            if tailing.tailed_by(path, match.taken_by, self._jobs[match.job]) is None:
                continue
            known = self._known.open.get(self._known.at.get((match.job, path), 0))
            if known is None:
                self._newcomers.notice((match.job, path))
            else:
                known.due_s = min(known.due_s, known.taken_s + tailing.gather_s(len(known.waits)))
            self._wake.set()

    async def set_jobs(self, jobs: Sequence[Job]) -> None:
        """Other jobs: which paths are tailed is found out anew."""
        self._jobs = {job.name: job for job in jobs if tailing.has_tails(job)}
        self._loaded = False
        self._wake.set()

    def stop(self) -> None:
        """Enter nothing any more."""
        self._stopping = True
        self._wake.set()

    def tailed(self) -> int:
        """How many files are being tailed."""
        return len(self._known.open)

    # -- the loop --

    async def run(self) -> None:
        """Tail until `stop`."""
        while not self._stopping:
            await self.look()
            await self._sleep_until_due()
        self._thread.shutdown()

    async def once(self) -> None:
        """Enter every whole line that stands in the jobs' directories now, and return."""
        await self._load()
        for trigger in [trigger for job in self._jobs.values() for trigger in job.file_arrivals]:
            for path in await self._in_thread(partial(self._listed, trigger.path, recursive=trigger.recursive)):
                self.notice(path)
        while await self.look(eagerly=True):
            pass
        self._thread.shutdown()

    async def look(self, *, eagerly: bool = False) -> bool:
        """One round: examine new paths, look at what is due, enter what has come. Whether anything was entered.

        `eagerly`: look at everything, and do not wait for more lines.
        """
        if not self._loaded:
            await self._load()
        now_s = self._clock()
        examined = await self._newcomers.examine(now_s)
        due = [each for each in self._known.open.values() if each.due_s <= now_s or eagerly]
        others = {each.tail.inode for each in self._known.open.values()}
        takings = [each.taking(now_s, others, eagerly=eagerly) for each in due]
        looks = await self._in_thread(lambda: [self._segments.look(each) for each in takings]) if takings else []
        entered = await self._follow(list(zip(due, looks, strict=True)), now_s)
        await self._copies.release(now_s)
        if now_s >= self._housekeeping_s:
            self._housekeeping_s = now_s + HOUSEKEEPING_S
            await self._find_lost(now_s)
        return examined or entered

    async def _sleep_until_due(self) -> None:
        due_s = min((each.due_s for each in self._known.open.values()), default=float("inf"))
        due_s = min(due_s, self._newcomers.due_at_s(), self._copies.due_at_s())
        wait_s = due_s - self._clock()
        if wait_s > 0 and self._loaded and not self._stopping:
            try:
                async with asyncio.timeout(wait_s if wait_s < float("inf") else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    # -- what the ledger knows --

    async def _load(self) -> None:
        self._loaded = True
        known, jobs = self._known, tuple(self._jobs)
        known.open.clear()
        known.at.clear()
        known.finished.clear()
        self._newcomers.forget()

        def read(ledger: Ledger) -> list[tuple[Tail, tuple[Segment, str] | None]]:
            found = [tail for job in jobs for tail in ledger.tails(job)]
            return [(t, None if t.state is TailState.FINISHED else ledger.last_segment(t)) for t in found]

        for tail, last in await self._ledger.transact(read):
            how = self._how(tail.job, tail.path)
            if tail.state is TailState.FINISHED:
                known.finished[tail.tail_id] = tail
            elif how is not None:
                known.add(tail, tail.path, how, last, now_s=self._clock())
        await self._copies.find()

    def _how(self, job_name: str, path: bytes) -> How | None:
        """How a job tails a path; None: not, or not any more."""
        job = self._jobs.get(job_name)
        for match in triggers.matching(path, (job,))[0] if job is not None else ():
            ingest = tailing.tailed_by(path, match.taken_by, self._jobs[job_name])
            if ingest is not None:
                return ingest, match.taken_by
        return None

    # -- what was seen --

    async def _follow(self, seen: Sequence[tuple[Growing, Look]], now_s: float) -> bool:
        for growing, look in seen:
            growing.note(look, now_s)
            _say_trouble(growing, look)
        changed = [(growing, look) for growing, look in seen if needs_entry(growing, look, now_s)]
        if changed:
            known = self._known.tails()
            followed = await self._ledger.transact(
                lambda ledger: [follow(ledger, growing, look, known, now_s) for growing, look in changed]
            )
            self._on_news()
            for (growing, look), came in zip(changed, followed, strict=True):
                self._apply(growing, look, came, now_s)
            for job in {g.tail.job for g, look in changed if look.piece is not None and look.piece.version is not None}:
                self._on_arrived(job)
        for growing, _ in seen:
            rested_s = now_s - growing.grew_s
            if tailing.is_over(growing.tail.state, rested_s=rested_s, has_writer=growing.has_writer):
                growing.is_last = True
        return bool(changed)

    def _apply(self, growing: Growing, look: Look, came: Followed, now_s: float) -> None:
        """Keep in mind what was entered."""
        tail = came.tail
        self._known.place(growing, tail, came.at)
        if look.piece is not None:
            growing.taken_s = now_s
            if (version := look.piece.version) is not None:
                growing.last = (version.segment, version.content_hash)
                growing.waits[version.content_hash] = version.signature.size
                self._copies.add(version.content_hash, tail.tail_id)
        elif tail.state is not TailState.FINISHED:
            growing.due_s, growing.seen = 0.0, None
        if came.dropped is not None:
            self._known.finished.pop(came.dropped, None)
        if came.lost is not None:
            log.warning("tail_lost", job=tail.job, file=shown(tail.path), why=came.lost)
        if tail.state is TailState.FINISHED:
            log.info("tail_finished", job=tail.job, file=shown(tail.path), offset=tail.offset)
        if came.is_new_at_path:
            self._newcomers.notice((tail.job, tail.path))

    # -- what is gone --

    async def _find_lost(self, now_s: float) -> None:
        """Finished generations that are not on disk any more, in directories where growing files are seen."""
        folders = {_folder(g.at) for g in self._known.open.values() if g.gone_since_s is None and g.size >= 0}
        for folder in folders:
            tails = [tail for tail in self._known.finished.values() if _folder(tail.path) == folder]
            if not tails:
                continue
            try:
                here = await self._in_thread(
                    partial(growing_files.beside, os.path.join(os.fsencode(self._root), folder))
                )
            except OSError:
                continue
            inodes = {signature.inode for signature in here.values()}
            lost = [tail for tail in tails if tail.inode not in inodes]
            await self._ledger.transact(partial(_lose, lost, now_s))
            for tail in lost:
                del self._known.finished[tail.tail_id]

    def _listed(self, directory: str, *, recursive: bool) -> list[bytes]:
        below = directory.strip("/")
        prefix = os.fsencode(below) + b"/" if below not in {"", "."} else b""
        found = landing.scan(self._root / below, recursive=recursive, unreadable=[])
        return [prefix + path for path, _ in found]

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _lose(tails: Sequence[Tail], now_s: float, ledger: Ledger) -> None:
    for tail in tails:
        ledger.lose_tail(tail, now_s=now_s)


def _say_trouble(growing: Growing, look: Look) -> None:
    if look.trouble is not None and look.trouble != growing.trouble:
        log.warning("tail_trouble", job=growing.tail.job, file=shown(growing.at), why=look.trouble)
    growing.trouble = look.trouble
