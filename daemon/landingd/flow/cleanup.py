"""Archive and delete files after loading, and archived ones when their time is over. On a timer of its own.

Each file goes through: decided on (core), begun (ledger, synced), moved (archive, on a thread), recorded (ledger).
Whatever was begun and not recorded, in this life of the process or an earlier one, is gone on with first. A failure
is a note on the version and a later try; it changes nothing about the version's being loaded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from landingd.core import cleanup as decide
from landingd.core import triggers
from landingd.edge import landing
from landingd.edge.archive import Archive, CleanupError, CutShortError, OtherBytesError
from landingd.edge.ledger import Begun, Held, Ledger, LedgerThread
from landingd.errors import LandingdError
from landingd.flow.telling import tell_file
from landingd.model import Cleanup, FileArrival, FileRef, Job, Lease, shown

log = structlog.get_logger("landingd.cleanup")
T = TypeVar("T")

BATCH_MAX = 100
"""Files that share the syncs, and for which the ledger's thread is taken at a time."""
PAGES_MAX = 20
"""Batches without anything due that one round looks through: the next one goes on behind them."""
PAUSE_S = 0.1
"""Between two rounds, however often it is woken: files of short runs are cleaned up together."""
START = (float("-inf"), 0)


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """Where files lie and go, and how often that is looked after."""

    landing_root: Path
    archive_root: Path
    interval_s: float


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of a file that was begun."""

    begun: Begun
    archive_path: bytes | None = None
    """Where it lies in the archive; with `trouble`, where a copy lies nevertheless."""
    trouble: LandingdError | None = None
    is_back: bool = True
    """With `trouble`: the file lies at its path, or was never taken from there."""


class Cleaner:
    """Owns what happens to files after loading. All methods run on the event loop."""

    def __init__(
        self,
        ledger: LedgerThread,
        options: CleanupOptions,
        jobs: Callable[[], Sequence[Job]],
        *,
        on_news: Callable[[], None] = lambda: None,
        on_done: Callable[[str], None] = lambda _: None,
        on_lost: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._options = options
        self._jobs = jobs
        self._on_news = on_news
        self._on_done = on_done
        """Called with a job's name when files of its have been dealt with: runs may have waited for that."""
        self._on_lost = on_lost
        """Called when a file was not there as it should be: what is known of paths has to be found out anew."""
        self._clock = clock
        self._archive = Archive(
            options.landing_root,
            options.archive_root,
            is_written=lambda path: landing.lease(path) is Lease.HELD,
            stops=lambda: self._stopping,
        )
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}
        """How far the rows of a job have been looked through."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cleanup")
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something may be due: a run has ended."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing any more; a copy under way is given up."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Clean up until `stop`."""
        try:
            while not self._stopping:
                if not await self.round():
                    await self._rest(self._options.interval_s)
                await self._rest(PAUSE_S, anyway=True)
        finally:
            self._thread.shutdown()

    async def round(self) -> bool:
        """Go on with what was begun, then with what is due; whether anything was brought to its end."""
        now_s = self._clock()
        begun = await self._ledger.transact(lambda ledger: ledger.begun(now_s))
        done = await self._deal_with(begun) > 0
        for job in self._jobs():
            done = await self._clean(job) or done
            done = await self._expire(job) or done
        return done

    async def _rest(self, seconds: float, *, anyway: bool = False) -> None:
        if self._stopping:
            return
        if anyway:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    # -- from the landing directories --

    async def _clean(self, job: Job) -> bool:
        after_s = [t.cleanup_after_s for t in job.file_arrivals if t.cleanup is not Cleanup.KEEP]
        if not after_s:
            return False
        for _ in range(PAGES_MAX):
            if self._stopping:
                return False
            page, due = await self._ledger.transact(partial(self._look_for_due, job, min(after_s)))
            there = await self._in_thread(partial(self._standing, due))
            begun = await self._begin([file.path for file in there]) if there else []
            if begun:
                return await self._deal_with(begun) > 0
            if page < BATCH_MAX:
                return False
        return False

    def _standing(self, files: Sequence[FileRef]) -> list[FileRef]:
        return [file for file in files if self._archive.stands(file)]

    def _look_for_due(self, job: Job, after_s: float, ledger: Ledger) -> tuple[int, list[FileRef]]:
        now_s = self._clock()
        after = self._passed.get(("clean", job.name), START)
        rows = ledger.cleanable(job.name, before_s=now_s - after_s, after=after, now_s=now_s, limit=BATCH_MAX)
        self._pass("clean", job, [(since_s, file_id) for since_s, file_id, _ in rows])
        found = [self._due(ledger, path, now_s) for _, _, path in rows]
        return len(rows), [held[0].file for how, held in found if how is not Cleanup.KEEP]

    def _due(self, ledger: Ledger, path: bytes, now_s: float) -> tuple[Cleanup, list[Held]]:
        held = ledger.held_at(path)
        matches, _ = triggers.matching(path, self._jobs())
        wishes = {
            m.job: decide.Wish(m.trigger.cleanup, m.trigger.cleanup_after_s, frozenset(m.taken_by)) for m in matches
        }
        return decide.due([_version(one) for one in held], wishes, now_s), held

    async def _begin(self, paths: Sequence[bytes]) -> list[Begun]:
        """Decide once more, since the ledger has gone on, and write down what is going to be done."""
        now_s = self._clock()

        def begin(ledger: Ledger) -> list[Begun]:
            for path in paths:
                how, held = self._due(ledger, path, now_s)
                if how is not Cleanup.KEEP:
                    name = _archive_name(held) if how is Cleanup.ARCHIVE else None
                    ledger.begin_cleaning([one.file.file_id for one in held], how.value, name)
            wanted = set(paths)
            return [begun for begun in ledger.begun(now_s) if begun.file.path in wanted]

        return await self._ledger.transact(begin, durably=True)

    def _pass(self, what: str, job: Job, rows: Sequence[tuple[float, int]]) -> None:
        self._passed[what, job.name] = rows[-1] if len(rows) == BATCH_MAX else START

    # -- from the archive --

    async def _expire(self, job: Job) -> bool:
        kept_s = [t.archive_retention_s for t in job.file_arrivals if t.archive_retention_s > 0]
        if not kept_s or self._stopping:
            return False
        # Looked for without a sync first: mostly there is nothing.
        now_s, after = self._clock(), self._passed.get(("expire", job.name), START)
        rows = await self._ledger.transact(
            partial(_expirable, job.name, before_s=now_s - min(kept_s), after=after, now_s=now_s)
        )
        self._pass("expire", job, [(cleaned_s, file_id) for cleaned_s, file_id, _ in rows])
        if not rows:
            return False
        paths = {path for _, _, path in rows}

        def begin(ledger: Ledger) -> list[Begun]:
            for path in paths:
                ledger.begin_cleaning(self._over(ledger, path, now_s), "expire", None)
            return [begun for begun in ledger.begun(now_s) if begun.how == "expire" and begun.file.path in paths]

        return await self._deal_with(await self._ledger.transact(begin, durably=True)) > 0

    def _over(self, ledger: Ledger, path: bytes, now_s: float) -> list[int]:
        """The versions of a path whose archived copies nobody keeps any longer."""
        of: dict[bytes | None, list[Held]] = {}
        for one in ledger.held_in_archive(path):
            of.setdefault(one.archive_path, []).append(one)
        return [
            one.file.file_id
            for held in of.values()
            if decide.is_over([self._kept(one) for one in held], now_s)
            for one in held
        ]

    def _kept(self, held: Held) -> decide.Kept:
        trigger = self._trigger(held)
        retention_s = None if trigger is None else trigger.archive_retention_s
        return decide.Kept(held.cleaned_s or self._clock(), retention_s, busy=held.busy or held.cleaning)

    def _trigger(self, held: Held) -> FileArrival | None:
        matches, _ = triggers.matching(held.file.path, [job for job in self._jobs() if job.name == held.job])
        return matches[0].trigger if matches else None

    # -- doing it --

    async def _deal_with(self, begun: Sequence[Begun]) -> int:
        """Move what was begun and record what came of it; how many came to their end."""
        if not begun:
            return 0
        moved = await self._in_thread(partial(self._move, begun))
        now_s = self._clock()
        jobs = await self._ledger.transact(lambda ledger: {job for one in moved for job in _record(ledger, one, now_s)})
        self._on_news()
        for job in jobs:
            self._on_done(job)
        if self._on_lost is not None and any(isinstance(one.trouble, OtherBytesError) for one in moved):
            await self._on_lost()
        return sum(one.trouble is None for one in moved)

    def _move(self, begun: Sequence[Begun]) -> list[Moved]:
        """On the thread: all of them into the archive, synced; only then is anything deleted."""
        moved = [self._bring(one) for one in begun]
        moved = self._synced(moved)
        moved = [self._drop(one) if one.trouble is None else one for one in moved]
        return self._synced(moved)

    def _bring(self, begun: Begun) -> Moved:
        try:
            if self._stopping:
                raise CutShortError("the process stops")  # noqa: TRY301 -- as the archive itself says it
            match begun.how:
                case "archive":
                    assert begun.archive_path is not None  # noqa: S101 -- written with the intent
                    return Moved(begun, self._archive.bring(begun.file, decide.other_names(begun.archive_path)))
                case "delete":
                    self._archive.hide(begun.file)
            return Moved(begun, begun.archive_path)
        except (CleanupError, OtherBytesError, CutShortError) as error:
            return self._in_trouble(begun, error)

    def _drop(self, moved: Moved) -> Moved:
        try:
            if moved.begun.how == "expire":
                assert moved.archive_path is not None  # noqa: S101 -- that is what expires
                self._archive.expire(moved.archive_path)
            else:
                self._archive.drop(moved.begun.file)
        except CleanupError as error:
            return self._in_trouble(moved.begun, error)
        return moved

    def _synced(self, moved: list[Moved]) -> list[Moved]:
        try:
            self._archive.sync()
        except CleanupError as error:
            return [one if one.trouble else self._in_trouble(one.begun, error) for one in moved]
        return moved

    def _in_trouble(self, begun: Begun, error: LandingdError) -> Moved:
        left_alone = not isinstance(error, CleanupError)
        is_back = left_alone or (begun.how != "expire" and self._archive.is_back(begun.file))
        name = begun.archive_path
        kept = name if name is not None and self._archive.lies(begun.file, name) else None
        return Moved(begun, kept, error, is_back=is_back)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _record(ledger: Ledger, moved: Moved, now_s: float) -> list[str]:
    """What came of a file; returns the jobs whose versions of it may be used by runs again."""
    begun, trouble = moved.begun, moved.trouble
    if trouble is None:
        _record_end(ledger, moved, now_s)
    elif isinstance(trouble, CleanupError):
        failures = ledger.file(begun.file.file_id)["cleanup_failures"] + 1
        again_s = decide.retry_at_s(failures, now_s)
        for file_id in ledger.fail_cleaning(begun.file_ids, str(trouble), retry_at_s=again_s):
            row = ledger.file(file_id)
            occurrence = f"{row['duplicates']}.{row['cleanup_failures']}"
            tell_file(ledger, "cleanup_failed", file_id, now_s, error=str(trouble), occurrence=occurrence)
            log.warning("file_cleanup_failed", job=row["job"], file=row["name"], file_id=file_id, error=str(trouble))
    if trouble is not None:
        if not moved.is_back:
            return []
        ledger.call_off_cleaning(begun, moved.archive_path, now_s=now_s)
    return [ledger.file(file_id)["job"] for file_id in begun.file_ids]


def _record_end(ledger: Ledger, moved: Moved, now_s: float) -> None:
    begun = moved.begun
    if begun.how == "expire":
        gone = ledger.end_expiry(begun)
    else:
        gone = ledger.end_cleaning(begun, moved.archive_path, now_s=now_s)
    for file_id in gone:
        row = ledger.file(file_id)
        told: dict[str, object] = {"occurrence": row["duplicates"]}
        if row["presence"] == "archived":
            told["archive"] = shown(row["archive_path"])
        else:
            told["from"] = "archive" if begun.how == "expire" else "landing"
        tell_file(ledger, row["presence"], file_id, now_s, **told)
        log.info("file_cleaned_up", what=row["presence"], job=row["job"], file=row["name"], file_id=file_id)


def _expirable(
    job: str, ledger: Ledger, *, before_s: float, after: tuple[float, int], now_s: float
) -> list[tuple[float, int, bytes]]:
    return ledger.expirable(job, before_s=before_s, after=after, now_s=now_s, limit=BATCH_MAX)


def _version(held: Held) -> decide.Version:
    return decide.Version(
        held.job,
        held.file.content_hash,
        held.state,
        held.loaded_s,
        busy=held.busy or held.cleaning or held.unsettled,
        lacking=held.lacking,
        retry_at_s=held.retry_at_s,
    )


def _archive_name(held: Sequence[Held]) -> bytes:
    """Of a file of several jobs there is one copy, under the name that it has with the first of them."""
    known = next((one.archive_path for one in held if one.archive_path is not None), None)
    first = held[0]
    return known or decide.archive_name(
        first.job,
        first.file.path,
        loaded_s=first.loaded_s or 0.0,
        file_id=first.file.file_id,
        content_hash=first.file.content_hash,
    )
