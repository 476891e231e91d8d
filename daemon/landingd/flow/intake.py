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
from functools import partial
from typing import TypeVar

import structlog

from landingd.core import settle, tailing, triggers
from landingd.flow.books import Books
from landingd.flow.looking import IntakeOptions, Looking, Memory, Seen, Sighting, Taken
from landingd.flow.roots import RootOptions, Roots
from landingd.flow.scanning import Found, Scanner
from landingd.model import Arrival, Hint, Job, OnDelete, Signature, shown

log = structlog.get_logger("landingd.intake")
T = TypeVar("T")

LOOK_AT_ONCE_MAX = 500
"""Paths looked at in one go: the first of a burst are on their way while the rest are hashed."""
SCAN_PATIENCE_S = 0.05
"""A scan that takes longer goes on beside the arrivals of other directories."""
CREATED_LOOK_S = 0.25
"""Most producers have closed a file by then, and nothing was spent on its creation but an entry in a dict."""


class Intake:
    """Owns what is known of paths between an event and the ledger. All methods run on the event loop."""

    def __init__(
        self,
        books: Books,
        jobs: Sequence[Job],
        options: IntakeOptions,
        *,
        on_arrived: Callable[[str], None],
        on_tailed: Callable[[bytes], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        roots: Roots | None = None,
    ) -> None:
        """`on_tailed`: told of a path that a job reads while it grows, relative to the landing root."""
        self._books = books
        self._jobs = tuple(jobs)
        self._options = options
        self._root = os.fsencode(options.root)
        self._on_arrived = on_arrived
        self._on_tailed = on_tailed
        self._clock = clock
        self._memory = Memory()
        self._looking = Looking(jobs, options, self._memory, clock)
        listed = RootOptions(options.scan_interval_s, quiet_floor_s=options.quiet_floor_s)
        self._roots = roots or Roots(options.root, listed, clock=clock)
        self._scanner = Scanner(jobs, self._roots, self._memory, on_done=self.wake)
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="intake")
        self._stopping = False

    # -- said from outside --

    def hint(self, path: bytes, hint: Hint) -> None:
        """Somebody says "look at this (absolute) path"."""
        if not path.startswith(self._root + b"/"):
            return
        below, memory = path[len(self._root) + 1 :], self._memory
        if hint is Hint.CREATED:
            if not memory.begun:
                self._wake.set()  # for the others the loop sleeps no longer than for the first
            if below not in memory.dirty:
                memory.begun.setdefault(below, self._clock() + CREATED_LOOK_S)
            return
        memory.begun.pop(below, None)
        if hint is Hint.SCAN:
            memory.dirty.setdefault(below, hint)
        else:
            memory.dirty[below] = hint
        self._wake.set()

    def ask_scan(self) -> None:
        """Look everywhere, now."""
        self._scanner.ask()
        self._wake.set()

    def wake(self) -> None:
        """Something is due earlier than it was."""
        self._wake.set()

    async def set_jobs(self, jobs: Sequence[Job]) -> None:
        """Other jobs, other triggers: forget what spared work and look everywhere."""
        self._jobs = self._looking.jobs = self._scanner.jobs = tuple(jobs)
        for sighting in self._memory.sightings.values():
            sighting.unfit = None
        await self._remember()
        self.ask_scan()

    def stop(self) -> None:
        """Take in nothing any more."""
        self._stopping = True
        self._wake.set()

    def waiting(self) -> int:
        """How many paths are being waited for or hashed."""
        return len(self._memory.sightings) + len(self._memory.hashing)

    def has_in_hand(self, path: bytes) -> bool:
        """Whether a path is about to be looked at or is being read."""
        memory = self._memory
        return path in memory.hashing or path in memory.dirty or path in memory.begun

    # -- the loop --

    async def run(self) -> None:
        """Take in files until `stop`."""
        await self._remember()
        async with asyncio.TaskGroup() as hashing:
            while not self._stopping:
                await self._sleep_until_due()
                await self.look(hashing)
        self._threads.shutdown()
        self._roots.close()

    async def once(self) -> None:
        """Take in everything that is complete now, and return."""
        await self._remember()
        async with asyncio.TaskGroup() as hashing:
            await self.look(hashing, patience_s=None)
            while self._memory.dirty:
                await self.look(hashing)
        self._threads.shutdown()
        self._roots.close()

    async def look(self, hashing: asyncio.TaskGroup, *, patience_s: float | None = SCAN_PATIENCE_S) -> None:
        """One round: scan what is due, then look at what is dirty or due."""
        now_s = self._clock()
        for found in await self._scanner.scan(now_s, patience_s=patience_s):
            await self._compare(found)
        for batch in _parts(self._due(now_s), LOOK_AT_ONCE_MAX):
            seen = await self._in_thread(partial(self._looking.look_at_all, batch))
            await self._enter(seen, hashing)

    async def _sleep_until_due(self) -> None:
        sightings, begun = self._memory.sightings.values(), self._memory.begun.values()
        scan_s = self._scanner.due_at_s()
        due_s = min((s.until_s for s in sightings), default=scan_s)
        wait_s = min(due_s, next(iter(begun), due_s), scan_s) - self._clock()
        if wait_s > 0 and self._memory.dirty.keys() <= self._memory.hashing:
            try:
                async with asyncio.timeout(wait_s if wait_s < float("inf") else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    async def _remember(self) -> None:
        await self._roots.recall()
        for job in self._jobs:
            known = await self._books.known_signatures(job.name)
            if tailing.has_tails(job):
                # What the ledger has of these paths are stretches; whether they are gone is the tailer's to say.
                known = {path: seen for path, seen in known.items() if not tailing.is_tailed(path, job)}
            self._memory.known[job.name] = known

    # -- looking --

    async def _compare(self, found: Found) -> None:
        """What a scan found, against what is known."""
        memory = self._memory
        lost = [path for path in memory.sightings if found.lacks(path)]
        for path in (*found.unknown, *lost):
            if not self._is_resting(path, found.on_disk.get(path)):
                memory.dirty.setdefault(path, Hint.SCAN)
        waiting = await self._books.incomplete([job.name for job in self._jobs])
        await self._books.forget([(job, path) for job, path in waiting if found.lacks(path)])
        # What has arrived since the scan passed by is not what it missed.
        gone = [(job, path) for job, path, seen in found.gone if memory.known.get(job, {}).get(path) == seen]
        if not gone:
            return
        for job, path in gone:
            del memory.known[job][path]
        await self._books.removed(gone, self._on_delete)
        for name in {job for job, _ in gone}:
            self._on_arrived(name)

    def _is_resting(self, path: bytes, seen: Signature | None) -> bool:
        """Whether the file is only to be quiet for a while, and is: polls come more often than its next look."""
        before = self._memory.sightings.get(path)
        waits_for_silence = before is not None and before.until_s < settle.ON_AN_EVENT and before.unfit is None
        return waits_for_silence and before is not None and before.signature == seen

    def _on_delete(self, job: str, path: bytes) -> OnDelete:
        matches, _ = triggers.matching(path, [one for one in self._jobs if one.name == job])
        return matches[0].trigger.on_delete if matches else OnDelete.KEEP

    def _due(self, now_s: float) -> list[tuple[bytes, Hint]]:
        memory = self._memory
        due = {path: Hint.SCAN for path, s in memory.sightings.items() if s.until_s <= now_s}
        while memory.begun and memory.begun[first := next(iter(memory.begun))] <= now_s:
            due[first] = Hint.CREATED
            del memory.begun[first]
        due |= memory.dirty
        # A path that is being hashed is looked at again afterwards.
        memory.dirty = {path: hint for path, hint in due.items() if path in memory.hashing}
        return [(path, hint) for path, hint in due.items() if path not in memory.hashing]

    # -- entering --

    async def _enter(self, seen: Iterable[Seen], hashing: asyncio.TaskGroup) -> None:
        """Bring what was seen into the ledger, and keep in mind what is waited for."""
        arrivals: list[Arrival] = []
        waits: list[tuple[str, bytes, Signature, str]] = []
        gone: list[tuple[str, bytes]] = []
        for one in seen:
            self._learn(one)
            if one.is_tailed:
                self._on_tailed(one.path)
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
            self._keep_taken(arrival)
            log.info(
                "file_arrived",
                job=arrival.job,
                file=shown(arrival.path),
                what=what.value,
                evidence=arrival.evidence,
            )
        for job in {arrival.job for arrival in arrivals}:
            self._on_arrived(job)

    def _arrivals(self, one: Seen) -> list[Arrival]:
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
                facts=one.print.facts,
                seen_s=sighting.seen_s if sighting else one.looked_s or now_s,
                complete_s=now_s,
                damage=one.spoiled or one.print.damage,
                on_duplicate=match.trigger.on_duplicate,
                on_change=match.trigger.on_change,
                taken_by=match.taken_by,
                head=one.print.head if self._may_be_packed_log(one.path, match) else b"",
            )
            for match in one.matches
        ]

    def _may_be_packed_log(self, path: bytes, match: triggers.Matched) -> bool:
        job = next((job for job in self._jobs if job.name == match.job), None)
        return job is not None and tailing.may_be_packed_log(path, match.taken_by, job)

    def _keep_waiting(self, one: Seen) -> list[tuple[str, bytes, Signature, str]]:
        now_s = self._clock()
        reason = one.wait.reason if one.wait else f"cannot be looked at: {one.trouble}"
        until_s = one.wait.until_s if one.wait else now_s + self._options.scan_interval_s
        signature = one.signature or Signature(0, 0, 0, 0, 0)
        before = self._memory.sightings.get(one.path)
        unchanged = before is not None and before.signature == signature
        self._memory.sightings[one.path] = Sighting(
            signature=signature,
            unchanged_since_s=before.unchanged_since_s if before and unchanged else now_s,
            seen_s=before.seen_s if before else now_s,
            until_s=until_s,
            hint=one.hint,
            reason=reason,
            unfit=one.words if one.is_unfit else None,
        )
        if before is not None and before.reason == reason:
            return []
        log.info("file_waiting", file=shown(one.path), reason=reason)
        return [(match.job, one.path, signature, reason) for match in one.matches]

    # -- producers that open a file several times --

    def _keep_taken(self, arrival: Arrival) -> None:
        taken = self._memory.taken
        while taken and next(iter(taken.values())).at_s < arrival.complete_s - settle.REOPENED_WITHIN_S:
            del taken[next(iter(taken))]
        taken.pop(arrival.path, None)
        taken[arrival.path] = Taken(arrival.signature, arrival.content_hash, arrival.complete_s)

    def _learn(self, one: Seen) -> None:
        """What a look has shown besides: whom else to look at, and how producers work here."""
        for path in one.beside:
            self._memory.dirty.setdefault(path, Hint.SCAN)
        if one.reopened_gap_s <= 0 or self._memory.taken.pop(one.path, None) is None:
            return  # one lesson from one version, or the gap would grow while we wait
        for match in one.matches:
            key = (match.job, match.trigger.path)
            self._memory.gaps_s[key] = max(one.reopened_gap_s, self._memory.gaps_s.get(key, 0.0))
        log.warning("file_reopened", file=shown(one.path), gap_s=round(one.reopened_gap_s, 3))

    async def _hash_large(self, one: Seen, hashing: asyncio.TaskGroup) -> None:
        try:
            read = await self._in_thread(lambda: self._looking.read(one))
        finally:
            self._memory.hashing.discard(one.path)
        await self._enter([read], hashing)
        self._wake.set()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _parts(items: Sequence[tuple[bytes, Hint]], size: int) -> list[Sequence[tuple[bytes, Hint]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
