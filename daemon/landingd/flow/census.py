"""Count: every file in the watched directories against the ledger, and on request every row against the tables.

It trusts nothing that intake remembers: the directories are listed and the ledger is read anew, both for reading only
and on threads of its own. What does not fit is looked at again for a few seconds, since files come and go meanwhile.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from landingd.core import census as count
from landingd.core import tailing, triggers
from landingd.core.census import Discrepancy, Doubt, Entry, Finding, Sight, Tailed, Tally
from landingd.edge import landing
from landingd.edge.ledger import views
from landingd.flow.intake import Intake
from landingd.flow.roots import Roots
from landingd.flow.rowcount import Query, differing_rows
from landingd.flow.scanning import watched_directories
from landingd.model import FileState, Hint, Job, Signature, path_of, shown

log = structlog.get_logger("landingd.census")
T = TypeVar("T")

WAITS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Between the looks at what does not fit."""
SCAN_PATIENCE_S = 60.0
"""A directory that is not listed by then is on a server that hangs; it is left out until that listing has ended."""
THREADS_MAX = 4
FIRST_AFTER_S = 5.0
REST_RATIO = 20.0
"""A census rests this many times as long as it took."""
NAMED_MAX = 1000
"""Discrepancies that are named; all are counted."""
LOGGED_MAX = 10
NO_DAEMON_HINT = "no daemon runs: the next one that starts looks at it"


@dataclass(frozen=True, slots=True)
class Listed:
    """A watched directory, or why it could not be listed."""

    files: Mapping[bytes, Signature]
    unreadable: tuple[bytes, ...] = ()
    trouble: str | None = None


@dataclass(slots=True)
class _Doubted:
    """A path that did not fit at the last look."""

    tally: Tally
    sight: Sight
    finding: Finding


@dataclass(slots=True)
class _Count:
    """One census under way."""

    jobs: tuple[Job, ...]
    listed: Mapping[str, Listed]
    excused: Mapping[bytes, str]
    """Directories that are not what they were, or cannot be read, and why: what is not seen there is not missing."""
    tallies: list[Tally] = field(default_factory=list[Tally])
    doubted: dict[tuple[str, bytes], _Doubted] = field(default_factory=dict[tuple[str, bytes], _Doubted])


class Census:
    """Takes a census of jobs, one at a time."""

    def __init__(
        self,
        *,
        landing_root: Path,
        ledger_file: Path,
        query: Query,
        intake: Intake | None = None,
        roots: Roots | None = None,
        has_in_hand: Callable[[bytes], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        """Without `intake` there is no daemon, and nothing will change between two looks.

        `has_in_hand`: whether intake is reading this file just now (a large one takes longer than our patience).
        """
        self._root = os.fsencode(landing_root)
        self._landing_root = landing_root
        self._ledger_file = ledger_file
        self._query = query
        self._intake = intake
        self._roots = roots
        self._at_work = has_in_hand
        self._clock = clock
        self._waits_s = waits_s if intake is not None else ()
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="census")
        self._hanging: dict[str, asyncio.Future[Listed]] = {}
        self._turn = asyncio.Lock()

    def close(self) -> None:
        """No more work; a thread that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, interval_s: float, jobs: Callable[[], Sequence[Job]], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        """Take a census every so often, until cancelled; what does not add up is an error in the log, once."""
        await asyncio.sleep(min(interval_s, FIRST_AFTER_S))
        said: object = []
        while True:
            begun_s = time.monotonic()
            answer = await self.take(jobs())
            tell(answer)
            if answer["discrepancies"] != said:
                said = answer["discrepancies"]
                _log(answer)
            await asyncio.sleep(max(interval_s, REST_RATIO * (time.monotonic() - begun_s)))

    async def take(self, jobs: Sequence[Job], *, rows: bool = False) -> dict[str, Any]:
        """The census of these jobs, JSON-ready; `rows`: also the rows of every table that files are loaded into."""
        async with self._turn:
            listed = await self._list(watched_directories(jobs))
            counted = await self._in_thread(partial(self._first_look, jobs, listed))
            await self._look_again(counted)
            discrepancies = _close(counted, NO_DAEMON_HINT if self._intake is None else count.LOOK_HINT)
            discrepancies += await self._in_thread(partial(self._uneven, jobs))
            if rows:
                discrepancies += await differing_rows(jobs, self._query, self._ledger_file, self._waits_s)
            return count.report(counted.tallies, discrepancies, now_s=self._clock(), named_max=NAMED_MAX)

    # -- the disk --

    async def _list(self, directories: Iterable[tuple[str, bool]]) -> dict[str, Listed]:
        loop = asyncio.get_running_loop()
        self._hanging = {directory: scan for directory, scan in self._hanging.items() if not scan.done()}
        scans = {
            directory: loop.run_in_executor(self._threads, partial(_listing, self._landing_root, directory, recursive))
            for directory, recursive in directories
            if directory not in self._hanging
        }
        if scans:
            await asyncio.wait(scans.values(), timeout=SCAN_PATIENCE_S)
        self._hanging |= {directory: scan for directory, scan in scans.items() if not scan.done()}
        listed = {directory: scan.result() for directory, scan in scans.items() if scan.done()}
        return listed | dict.fromkeys(self._hanging, Listed({}, trouble="it cannot be listed: no answer"))

    # -- looking --

    def _first_look(self, jobs: Sequence[Job], listed: Mapping[str, Listed]) -> _Count:
        with views.reading(self._ledger_file) as db:
            counted = _Count(tuple(jobs), listed, self._excused(db, listed))
            for job in jobs:
                self._count_job(counted, job, _by_path(views.standing(db, job.name)), _Tails(db, job))
        return counted

    def _count_job(
        self, counted: _Count, job: Job, standing: Mapping[bytes, tuple[views.Standing, ...]], tails: "_Tails"
    ) -> None:
        """Each path in the innermost of the job's directories."""
        watched = {os.fsencode(directory): recursive for directory, recursive in watched_directories([job])}
        find = count.innermost(watched)
        tallies = {one: Tally(job.name, shown(one) or ".") for one in watched}
        counted.tallies += tallies.values()
        for directory, tally in tallies.items():
            there = counted.listed[os.fsdecode(directory)]
            why, available = self._out_of_order().get(directory, ("", True))
            tally.unavailable = there.trouble if available else why
            if tally.unavailable is not None:
                continue
            for path, seen in there.files.items():
                if find(path) == directory:
                    tally.on_disk += 1
                    entries = _entries(standing.get(path, ()))
                    sight = Sight(path, seen, entries, tailed=tails.at(path, seen))
                    self._count_path(counted, tally, job, sight)
        for path, known in standing.items():
            directory_of = find(path)
            if directory_of is None:
                continue  # no trigger watches it any more
            if path not in counted.listed[os.fsdecode(directory_of)].files:
                self._count_path(counted, tallies[directory_of], job, Sight(path, None, _entries(known)))
        for directory, tally in tallies.items():
            if not tally.on_disk and tally.out_of_sight and tally.unavailable is None:
                tally.unavailable = next((why for one, why in counted.excused.items() if _overlap(one, directory)), "")

    def _count_path(self, counted: _Count, tally: Tally, job: Job, sight: Sight) -> None:
        finding = self._judged(sight, job)
        if finding.doubt is None:
            tally.add(finding)
        elif finding.doubt is Doubt.MISSING and (tally.unavailable or _within(sight.path, counted.excused)):
            tally.out_of_sight += 1
        else:
            counted.doubted[job.name, sight.path] = _Doubted(tally, sight, finding)

    def _judged(self, sight: Sight, job: Job, before: Sight | None = None) -> Finding:
        finding = count.judge(sight, before)
        if finding.doubt is not Doubt.UNACCOUNTED and finding.counts is not FileState.WAITING:
            return finding
        # Patterns are asked only where they can matter: of most files the books know enough.
        matches, reason = triggers.matching(sight.path, [job])
        at_work = self._at_work(sight.path)
        asked = replace(sight, ignored=None if matches else reason, at_work=at_work)
        return count.judge(asked, before)

    async def _look_again(self, counted: _Count) -> None:
        """Let intake look at what does not fit, and look again, until nobody is busy with it any more."""
        waits_s = list(self._waits_s)
        asked_s, until_s = self._clock(), time.monotonic() + SCAN_PATIENCE_S
        if self._intake is not None and any(one.finding.doubt is Doubt.MISSING for one in counted.doubted.values()):
            self._intake.ask_scan()  # that a file is gone, only a scan concludes
        while counted.doubted and waits_s:
            before = len(counted.doubted)
            self._hint(counted)
            await asyncio.sleep(waits_s[0])
            await self._in_thread(partial(self._second_look, counted))
            is_scanned = self._are_scanned_since(asked_s) or time.monotonic() > until_s
            if len(counted.doubted) == before and (is_scanned or len(waits_s) > 1):
                del waits_s[0]

    def _hint(self, counted: _Count) -> None:
        for (_, path), doubted in counted.doubted.items():
            if self._intake is not None and doubted.sight.on_disk is not None and not self._at_work(path):
                self._intake.hint(os.path.join(self._root, path), Hint.SCAN)

    def _are_scanned_since(self, asked_s: float) -> bool:
        roots = self._roots.roots if self._roots is not None else []
        return all((r.scanned_at_s or 0.0) >= asked_s for r in roots if r.standing.available)

    def _second_look(self, counted: _Count) -> None:
        jobs = {job.name: job for job in counted.jobs}
        with views.reading(self._ledger_file) as db:
            for (name, path), doubted in list(counted.doubted.items()):
                seen = self._seen(path)
                tailed = _Tails(db, jobs[name]).at(path, seen)
                sight = Sight(path, seen, _entries(views.standing(db, name, [path])), tailed=tailed)
                doubted.tally.on_disk += (sight.on_disk is not None) - (doubted.sight.on_disk is not None)
                finding = self._judged(sight, jobs[name], doubted.sight)
                doubted.sight, doubted.finding = sight, finding
                if finding.doubt is None:
                    doubted.tally.add(finding)
                    del counted.doubted[name, path]

    def _out_of_order(self) -> dict[bytes, tuple[str, bool]]:
        """Directories that are not what they should be: `(why, is it there at all)`."""
        roots = self._roots.roots if self._roots is not None else []
        return {r.directory: (r.standing.because, r.standing.available) for r in roots if r.standing.because}

    def _seen(self, path: bytes) -> Signature | None:
        try:
            seen = landing.signature(os.path.join(self._root, path))
        except OSError:
            return None
        return seen if isinstance(seen, Signature) else None

    def _excused(self, db: views.Connection, listed: Mapping[str, Listed]) -> dict[bytes, str]:
        """Where a file that is not seen may well be there."""
        excused = {one: why for one, (why, _) in self._out_of_order().items()}
        for directory, there in listed.items():
            prefix = os.fsencode(directory) + b"/" if directory else b""
            excused |= {prefix + folder: "it cannot be read" for folder in there.unreadable if folder}
        table = landing.mount_table()
        for name, (recorded, _) in views.recorded_mounts(db).items():
            directory_of = path_of(name)
            current = table.of(os.path.realpath(os.path.join(self._root, directory_of)))
            if str(current) != recorded:
                excused.setdefault(directory_of, f"was on {recorded}, is now on {current or 'an unknown mount'}")
        return excused

    # -- rows --

    def _uneven(self, jobs: Sequence[Job]) -> list[Discrepancy]:
        """Loaded versions whose rows do not add up by the ledger alone."""
        found: list[Discrepancy] = []
        with views.reading(self._ledger_file) as db:
            for job in jobs:
                found += [
                    Discrepancy(
                        Doubt.ROWS,
                        job.name,
                        load["name"],
                        load["file_id"],
                        f"{load['task_key']}: {load['rows_in']:,} rows in, but {load['rows_loaded']:,} loaded + "
                        f"{load['rows_rejected']:,} rejected + {load['rows_dropped']:,} dropped",
                    )
                    for load in views.uneven_loads(db, job.name)
                ]
                found += [
                    Discrepancy(Doubt.ROWS, job.name, file["name"], file["file_id"], "loaded, but by no task")
                    for file in views.loaded_nowhere(db, job.name)
                ]
        return found

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class _Tails:
    """The files that a job reads while they grow, as the ledger has them."""

    def __init__(self, db: views.Connection, job: Job) -> None:
        self._job = job if tailing.has_tails(job) else None
        found = views.tails_standing(db, job.name) if self._job is not None else []
        self._by_inode = {one.tail.inode: one for one in reversed(found)}

    def at(self, path: bytes, seen: Signature | None) -> Tailed | None:
        """What is entered of the file at a path, by whatever name it grew; None: it is not tailed, or not known yet."""
        one = self._by_inode.get(seen.inode) if seen is not None else None
        if one is None or self._job is None or not tailing.is_tailed(path, self._job):
            return None
        return Tailed(one.tail.offset, one.waiting, one.waiting_since_s, one.quarantined, one.quarantined_id)


def _listing(landing_root: Path, directory: str, recursive: bool) -> Listed:  # noqa: FBT001 -- executor call
    unreadable: list[bytes] = []
    prefix = os.fsencode(directory) + b"/" if directory else b""
    files = {
        prefix + path: seen
        for path, seen in landing.scan(landing_root / directory, recursive=recursive, unreadable=unreadable)
    }
    trouble = "it cannot be listed: missing, or not readable" if b"" in unreadable else None
    return Listed(files, tuple(folder for folder in unreadable if folder), trouble)


def _by_path(rows: Iterable[views.Standing]) -> dict[bytes, tuple[views.Standing, ...]]:
    # Left as plain tuples: the garbage collector, which holds up the event loop, does not follow those.
    found: dict[bytes, tuple[views.Standing, ...]] = {}
    for row in rows:
        found[row[1]] = (*found.get(row[1], ()), row)
    return found


def _entries(rows: Iterable[views.Standing]) -> tuple[Entry, ...]:
    return tuple(
        Entry(file_id, FileState(state), is_complete, Signature(*stat), seen_s, is_cleaned)
        for file_id, _, state, is_complete, is_cleaned, stat, seen_s in rows
    )


def _within(path: bytes, directories: Iterable[bytes]) -> bool:
    return any(not directory or path.startswith(directory + b"/") for directory in directories)


def _overlap(one: bytes, other: bytes) -> bool:
    return _within(one + b"/", [other]) or _within(other + b"/", [one])


def _close(counted: _Count, hint: str) -> list[Discrepancy]:
    """What is in doubt still does not add up."""
    found = []
    for (job, path), doubted in sorted(counted.doubted.items()):
        finding = doubted.finding
        doubted.tally.add(finding)
        assert finding.doubt is not None  # noqa: S101 -- what is settled is taken out
        found.append(Discrepancy(finding.doubt, job, shown(path), finding.file_id, finding.why, hint))
    return found


def _log(answer: Mapping[str, Any]) -> None:
    if answer["adds_up"]:
        log.info("census_adds_up", **answer["totals"])
        return
    log.error(
        "census_does_not_add_up",
        count=answer["discrepancy_count"],
        discrepancies=[f"{d['file']}: {d['why']}" for d in answer["discrepancies"][:LOGGED_MAX]],
    )
