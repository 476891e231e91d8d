"""Take in files: look where somebody says "look", decide whether a file is complete, and enter its version.

An event carries nothing but a path, so nothing is lost with it: the scan at start, on overflow and on a timer finds
what no event told of. What is remembered here (signatures, first sightings, deadlines) only spares work and may be
lost at any time; what counts is in the ledger.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from landingd.core import settle, triggers
from landingd.edge import landing
from landingd.flow.books import Books
from landingd.model import Arrival, Hint, Job, Signature, shown

log = structlog.get_logger("landingd.intake")
T = TypeVar("T")

LOOK_AT_ONCE_MAX = 500
"""Paths looked at in one go: the first of a burst are on their way while the rest are hashed."""
LARGE_BYTES = 16 << 20
"""A file from this size on is hashed beside the others, so that small ones need not wait for it."""


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """`quiet_floor_s`: silence that stands in for proof where writers cannot be seen."""

    root: Path
    scan_interval_s: float
    quiet_floor_s: float


@dataclass(slots=True)
class _Sighting:
    """A path that is being waited for."""

    signature: Signature
    unchanged_since_s: float
    seen_s: float
    until_s: float
    hint: Hint
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at one path. Exactly one of the outcomes below is set."""

    path: bytes
    hint: Hint
    matches: tuple[triggers.Matched, ...] = ()
    gone: bool = False
    wait: settle.Wait | None = None
    signature: Signature | None = None
    complete: settle.Complete | None = None
    print: landing.Fingerprint | None = None
    trouble: str | None = None
    looked_s: float = 0.0
    """When the look began."""


@dataclass(slots=True)
class _Memory:
    """What spares work: never needed to be right."""

    known: dict[str, dict[bytes, Signature]] = field(default_factory=dict[str, dict[bytes, Signature]])
    sightings: dict[bytes, _Sighting] = field(default_factory=dict[bytes, _Sighting])
    dirty: dict[bytes, Hint] = field(default_factory=dict[bytes, Hint])
    hashing: set[bytes] = field(default_factory=set[bytes])


class Intake:
    """Owns what is known of paths between an event and the ledger. All methods run on the event loop."""

    def __init__(
        self,
        books: Books,
        jobs: Sequence[Job],
        options: IntakeOptions,
        *,
        on_arrived: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = books
        self._jobs = tuple(jobs)
        self._options = options
        self._root = os.fsencode(options.root)
        self._on_arrived = on_arrived
        self._clock = clock
        self._memory = _Memory()
        self._wake = asyncio.Event()
        self._scan_at_s = 0.0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="intake")
        self._stopping = False

    # -- said from outside --

    def hint(self, path: bytes, hint: Hint) -> None:
        """Somebody says "look at this (absolute) path"."""
        if path.startswith(self._root + b"/"):
            self._memory.dirty[path[len(self._root) + 1 :]] = hint
            self._wake.set()

    def ask_scan(self) -> None:
        """Look everywhere, now."""
        self._scan_at_s = 0.0
        self._wake.set()

    async def set_jobs(self, jobs: Sequence[Job]) -> None:
        """Other jobs, other triggers: forget what spared work and look everywhere."""
        self._jobs = tuple(jobs)
        await self._remember()
        self.ask_scan()

    def stop(self) -> None:
        """Take in nothing any more."""
        self._stopping = True
        self._wake.set()

    def waiting(self) -> int:
        """How many paths are being waited for or hashed."""
        return len(self._memory.sightings) + len(self._memory.hashing)

    # -- the loop --

    async def run(self) -> None:
        """Take in files until `stop`."""
        await self._remember()
        async with asyncio.TaskGroup() as hashing:
            while not self._stopping:
                await self._sleep_until_due()
                await self.look(hashing)
        self._threads.shutdown()

    async def once(self) -> None:
        """Take in everything that is complete now, and return."""
        await self._remember()
        async with asyncio.TaskGroup() as hashing:
            await self.look(hashing)
            while self._memory.dirty:
                await self.look(hashing)
        self._threads.shutdown()

    async def look(self, hashing: asyncio.TaskGroup) -> None:
        """One round: scan if it is time, then look at what is dirty or due."""
        now_s = self._clock()
        if now_s >= self._scan_at_s:
            self._scan_at_s = now_s + self._options.scan_interval_s
            await self._scan()
        for batch in _parts(self._due(now_s), LOOK_AT_ONCE_MAX):
            seen = await self._in_thread(partial(self._look_at_all, batch))
            await self._enter(seen, hashing)

    async def _sleep_until_due(self) -> None:
        due_s = min((s.until_s for s in self._memory.sightings.values()), default=self._scan_at_s)
        wait_s = min(due_s, self._scan_at_s) - self._clock()
        if wait_s > 0 and self._memory.dirty.keys() <= self._memory.hashing:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    async def _remember(self) -> None:
        for job in self._jobs:
            self._memory.known[job.name] = await self._books.known_signatures(job.name)

    # -- looking --

    async def _scan(self) -> None:
        on_disk, unknown = await self._in_thread(self._scan_all)
        for path in unknown:
            self._memory.dirty.setdefault(path, Hint.SCAN)
        lost = [path for path in self._memory.sightings if path not in on_disk]
        for path in lost:
            self._memory.dirty.setdefault(path, Hint.SCAN)
        waiting = await self._books.incomplete([job.name for job in self._jobs])
        await self._books.forget([(job, path) for job, path in waiting if path not in on_disk])

    def _scan_all(self) -> tuple[set[bytes], list[bytes]]:
        """Every file below the watched directories, and those to be looked at. (On a worker thread.)"""
        on_disk: set[bytes] = set()
        unknown: dict[bytes, None] = {}
        for directory, recursive in watched_directories(self._jobs):
            unreadable: list[bytes] = []
            prefix = directory.encode("utf-8", "surrogateescape") + b"/" if directory else b""
            for below, signature in landing.scan(
                self._options.root / directory, recursive=recursive, unreadable=unreadable
            ):
                path = prefix + below
                on_disk.add(path)
                if not self._is_known(path, signature):
                    unknown[path] = None
            for folder in unreadable:
                log.warning("directory_unreadable", directory=shown(prefix + folder))
        return on_disk, list(unknown)

    def _is_known(self, path: bytes, signature: Signature) -> bool:
        """Whether every job that wants the path has seen just this."""
        known = self._memory.known
        if all(known.get(job.name, {}).get(path) == signature for job in self._jobs):
            return True  # the usual case, without a look at patterns
        matches, _ = triggers.matching(path, self._jobs)
        return all(known.get(match.job, {}).get(path) == signature for match in matches)

    def _due(self, now_s: float) -> list[tuple[bytes, Hint]]:
        memory = self._memory
        due = {path: s.hint for path, s in memory.sightings.items() if s.until_s <= now_s}
        due |= memory.dirty
        # A path that is being hashed is looked at again afterwards.
        memory.dirty = {path: hint for path, hint in due.items() if path in memory.hashing}
        return [(path, hint) for path, hint in due.items() if path not in memory.hashing]

    def _look_at_all(self, batch: Sequence[tuple[bytes, Hint]]) -> list[_Seen]:
        return [self._look_at(path, hint) for path, hint in batch]

    def _look_at(self, path: bytes, hint: Hint) -> _Seen:
        """Look at one path and, if it is complete and not large, read it. (On a worker thread.)"""
        matches, _ = triggers.matching(path, self._jobs)
        if not matches:
            return _Seen(path, hint, gone=True)
        absolute = self._absolute(path)
        try:
            signature = landing.signature(absolute)
            if not isinstance(signature, Signature):
                return _Seen(path, hint, tuple(matches), gone=True)
            matches = [m for m in matches if self._memory.known.get(m.job, {}).get(path) != signature]
            if not matches:
                return _Seen(path, hint, gone=False)
            return self._decide(path, hint, signature, tuple(matches))
        except OSError as error:
            return _Seen(path, hint, tuple(matches), trouble=error.strerror or str(error))

    def _decide(self, path: bytes, hint: Hint, signature: Signature, matches: tuple[triggers.Matched, ...]) -> _Seen:
        now_s = self._clock()
        sighting = self._memory.sightings.get(path)
        same = sighting is not None and sighting.signature == signature
        since_s = sighting.unchanged_since_s if sighting is not None and same else now_s
        absolute = self._absolute(path)
        decision = settle.decide(
            settle.Look(hint, landing.lease(absolute), signature, since_s),
            now_s=now_s,
            wait_s=max(m.trigger.wait_after_last_change_s for m in matches),
            quiet_floor_s=self._options.quiet_floor_s,
        )
        if isinstance(decision, settle.Wait):
            return _Seen(path, hint, matches, wait=decision, signature=signature)
        complete = _Seen(path, hint, matches, signature=signature, complete=decision, looked_s=now_s)
        return complete if signature.size >= LARGE_BYTES else self._read(complete)

    def _read(self, seen: _Seen) -> _Seen:
        """Hash a complete file. (On a worker thread.)"""
        try:
            fingerprint = landing.fingerprint(self._absolute(seen.path))
        except landing.ChangedWhileReadingError:
            wait = settle.Wait("changed while it was read", self._clock() + 0.05)
            return _Seen(seen.path, seen.hint, seen.matches, wait=wait, signature=seen.signature)
        except FileNotFoundError:
            return _Seen(seen.path, seen.hint, seen.matches, gone=True)
        except OSError as error:
            return _Seen(seen.path, seen.hint, seen.matches, trouble=error.strerror or str(error))
        return replace(seen, print=fingerprint)

    # -- entering --

    async def _enter(self, seen: Iterable[_Seen], hashing: asyncio.TaskGroup) -> None:
        """Bring what was seen into the ledger, and keep in mind what is waited for."""
        arrivals: list[Arrival] = []
        waits: list[tuple[str, bytes, Signature, str]] = []
        gone: list[tuple[str, bytes]] = []
        for one in seen:
            if one.print is not None:
                arrivals += self._arrivals(one)
            elif one.complete is not None:
                self._memory.hashing.add(one.path)
                hashing.create_task(self._hash_large(one, hashing))
            elif one.wait is not None or one.trouble is not None:
                waits += self._keep_waiting(one)
            elif self._memory.sightings.pop(one.path, None) is not None and one.gone:
                gone += [(m.job, one.path) for m in one.matches]
        if waits:
            await self._books.wait(waits)
        if gone:
            await self._books.forget(gone)
        if arrivals:
            await self._accept(arrivals)

    async def _accept(self, arrivals: list[Arrival]) -> None:
        accepted = await self._books.accept(arrivals)
        for arrival, what in zip(arrivals, accepted, strict=True):
            self._memory.known.setdefault(arrival.job, {})[arrival.path] = arrival.signature
            self._memory.sightings.pop(arrival.path, None)
            log.info(
                "file_arrived",
                job=arrival.job,
                file=shown(arrival.path),
                what=what.value,
                evidence=arrival.evidence,
            )
        for job in {arrival.job for arrival in arrivals}:
            self._on_arrived(job)

    def _arrivals(self, one: _Seen) -> list[Arrival]:
        assert one.print is not None  # noqa: S101 -- asked by the caller
        assert one.complete is not None  # noqa: S101 -- only complete files are read
        now_s = self._clock()
        sighting = self._memory.sightings.get(one.path)
        return [
            Arrival(
                job=match.job,
                path=one.path,
                content_hash=one.print.content_hash,
                signature=one.print.signature,
                evidence=one.complete.evidence,
                records=one.print.records,
                seen_s=sighting.seen_s if sighting else one.looked_s or now_s,
                complete_s=now_s,
                damage=one.print.damage,
            )
            for match in one.matches
        ]

    def _keep_waiting(self, one: _Seen) -> list[tuple[str, bytes, Signature, str]]:
        now_s = self._clock()
        reason = one.wait.reason if one.wait else f"cannot be looked at: {one.trouble}"
        until_s = one.wait.until_s if one.wait else now_s + self._options.scan_interval_s
        signature = one.signature or Signature(0, 0, 0, 0, 0)
        before = self._memory.sightings.get(one.path)
        unchanged = before is not None and before.signature == signature
        self._memory.sightings[one.path] = _Sighting(
            signature=signature,
            unchanged_since_s=before.unchanged_since_s if before and unchanged else now_s,
            seen_s=before.seen_s if before else now_s,
            until_s=until_s,
            hint=one.hint,
            reason=reason,
        )
        if before is not None and before.reason == reason:
            return []
        log.info("file_waiting", file=shown(one.path), reason=reason)
        return [(match.job, one.path, signature, reason) for match in one.matches]

    async def _hash_large(self, one: _Seen, hashing: asyncio.TaskGroup) -> None:
        try:
            read = await self._in_thread(lambda: self._read(one))
        finally:
            self._memory.hashing.discard(one.path)
        await self._enter([read], hashing)
        self._wake.set()

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root, path)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def watched_directories(jobs: Sequence[Job]) -> list[tuple[str, bool]]:
    """The directories to watch, below the landing root, and whether with their sub-directories."""
    wanted: dict[str, bool] = {}
    for job in jobs:
        for trigger in job.triggers:
            directory = trigger.path.strip("/")
            directory = "" if directory == "." else directory
            wanted[directory] = wanted.get(directory, False) or trigger.recursive
    return sorted(wanted.items())


def _parts(items: Sequence[tuple[bytes, Hint]], size: int) -> list[Sequence[tuple[bytes, Hint]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
