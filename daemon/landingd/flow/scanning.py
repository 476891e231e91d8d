"""Scan the watched directories: which files have to be looked at, and which are not there any more.

Each root has its own time and thread: one whose server hangs holds up no other. What no scan has seen is gone only if
the scan could have seen it: everything on its way readable, on the mount on which it lay, and still absent when asked
for once more by name.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from landingd.core import roots as decide
from landingd.core import triggers
from landingd.core.roots import Sight, Standing
from landingd.edge import landing
from landingd.flow.looking import Memory
from landingd.flow.roots import Recorded, Root, Roots
from landingd.model import Job, Signature, shown

log = structlog.get_logger("landingd.intake")


@dataclass(frozen=True, slots=True)
class Place:
    """A root, or what is or was mounted somewhere below it."""

    directory: bytes
    mount: landing.Mount | None
    is_mount_point: bool
    standing: Standing


@dataclass(frozen=True, slots=True)
class Found:
    """What one scan of one root found. Paths are relative to the landing root."""

    root: Root
    on_disk: Mapping[bytes, Signature]
    unknown: tuple[bytes, ...]
    """To be looked at."""
    gone: tuple[tuple[str, bytes, Signature], ...]
    """`(job, path, signature)` of what was known and certainly is not there any more."""
    places: tuple[Place, ...]
    """The innermost first, the root itself last."""
    unreadable: tuple[bytes, ...]
    started_s: float
    took_s: float

    def lacks(self, path: bytes) -> bool:
        """Whether `path` would have been seen if it were there, and was not."""
        return self.root.covers(path) and path not in self.on_disk and _certain(path, self.places, self.unreadable)


_UNSETTLED = Standing(available=True, certain=False, because="something is being mounted or unmounted")


class Scanner:
    """Scans for jobs. `jobs` may be exchanged. Its methods run on the event loop, the scans on threads."""

    def __init__(self, jobs: Sequence[Job], roots: Roots, memory: Memory, *, on_done: Callable[[], None]) -> None:
        self._roots = roots
        self._memory = memory
        self._on_done = on_done
        self._running: dict[asyncio.Future[Found], Root] = {}
        self.jobs = tuple(jobs)

    @property
    def jobs(self) -> tuple[Job, ...]:
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self._roots.set_directories(watched_directories(jobs))

    def due_at_s(self) -> float:
        """When the next scan is due; infinity: not before one that is under way has ended."""
        return min((root.due_at_s for root in self._roots.roots if not root.scanning), default=float("inf"))

    def ask(self) -> None:
        """Scan every root as soon as possible, also those that are being scanned: the scan may have passed by."""
        for root in self._roots.roots:
            root.due_at_s = 0.0

    async def scan(self, now_s: float, *, patience_s: float | None) -> list[Found]:
        """Start the scans that are due, and return what has ended; `patience_s`: how long to wait for these."""
        started = [self._start(r, now_s) for r in self._roots.roots if not r.scanning and now_s >= r.due_at_s]
        if started:
            await asyncio.wait(started, timeout=patience_s)
        ended = {future: self._running.pop(future) for future in tuple(self._running) if future.done()}
        return [await self._end(root, future.result()) for future, root in ended.items()]

    def _start(self, root: Root, now_s: float) -> "asyncio.Future[Found]":
        root.scanning, root.scan_began_s, root.due_at_s = True, now_s, float("inf")
        landing_root, recorded = os.fsencode(self._roots.landing_root), dict(self._roots.recorded)
        scan = _Scan(root, landing_root, self._jobs, self._memory, recorded, now_s)
        future = asyncio.get_running_loop().run_in_executor(self._roots.threads, scan.run)
        self._running[future] = root
        future.add_done_callback(lambda _: self._on_done())
        return future

    async def _end(self, root: Root, found: Found) -> Found:
        root.scanning = False
        root.scanned_at_s, root.took_s, root.files = found.started_s, found.took_s, len(found.on_disk)
        if root.due_at_s == float("inf"):  # otherwise it was asked for meanwhile
            root.due_at_s = found.started_s + self._roots.rest_s(root)
        for folder in set(found.unreadable) - set(root.unreadable):
            log.warning("directory_unreadable", directory=shown(folder))
        root.unreadable = found.unreadable
        await self._settle(root, found)
        return found

    async def _settle(self, root: Root, found: Found) -> None:
        """How the root and what is mounted below it stand, and on what."""
        *below, itself = found.places
        trouble = [itself.standing.because] if itself.standing.because else []
        trouble += [f"{shown(p.directory)}: {p.standing.because}" for p in below if p.standing.because]
        self._roots.stands(root, itself.standing, tuple(trouble))
        in_order = [place for place in found.places if place.standing.certain and place.mount is not None]
        watched = {each.directory for each in self._roots.roots}
        keep = {p.directory: str(p.mount) for p in in_order if p.is_mount_point or p.directory in watched}
        over = [p.directory for p in in_order if p.directory not in keep]
        await self._roots.record(keep, over, now_s=found.started_s)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What was on disk, and what was not."""

    before: landing.Mounts
    after: landing.Mounts
    on_disk: Mapping[bytes, Signature]
    unreadable: tuple[bytes, ...]
    trouble: str | None
    """Why the root itself cannot be listed."""
    missing: tuple[tuple[str, bytes, Signature], ...]
    """What is known below the root and was not seen."""


@dataclass(frozen=True, slots=True)
class _Scan:
    """One scan of one root, on a thread: it reads, and changes nothing."""

    root: Root
    landing_root: bytes
    jobs: tuple[Job, ...]
    memory: Memory
    recorded: Mapping[bytes, Recorded]
    started_s: float

    def run(self) -> Found:
        begun_s = time.monotonic()
        listed = self._listed()
        places = tuple(self._place(directory, listed) for directory in self._directories(listed.after))
        certain = [one for one in listed.missing if _certain(one[1], places, listed.unreadable)]
        gone = tuple(one for one in certain if self._is_absent(one[1]))
        return Found(
            self.root,
            listed.on_disk,
            unknown=tuple(path for path, seen in listed.on_disk.items() if not self._is_known(path, seen)),
            # Unmounted since it was listed? The next scan will tell.
            gone=gone if landing.mount_table() is listed.after else (),
            places=places,
            unreadable=listed.unreadable,
            started_s=self.started_s,
            took_s=time.monotonic() - begun_s,
        )

    def _listed(self) -> _Listed:
        unreadable: list[bytes] = []
        prefix = self.root.directory + b"/" if self.root.directory else b""
        before = landing.mount_table()
        files = landing.scan(self.root.path, recursive=self.root.recursive, unreadable=unreadable)
        on_disk = {prefix + path: signature for path, signature in files}
        return _Listed(
            before,
            landing.mount_table(),
            on_disk,
            unreadable=tuple(prefix + folder for folder in unreadable if folder),
            trouble=(_why_not_listed(self._absolute(self.root.directory)) or "not readable")
            if b"" in unreadable
            else None,
            missing=tuple(self._missing(on_disk)),
        )

    def _missing(self, on_disk: Mapping[bytes, Signature]) -> Iterator[tuple[str, bytes, Signature]]:
        # The event loop goes on changing what is known; `dict` copies it in one step.
        for job, known in [(job, dict(known)) for job, known in dict(self.memory.known).items()]:
            for path in known.keys() - on_disk.keys():
                if self.root.covers(path):
                    yield job, path, known[path]

    def _directories(self, table: landing.Mounts) -> list[bytes]:
        """The root's, and those below it on which something is or was mounted, the innermost first."""
        below: set[bytes] = set()
        if self.root.recursive:
            real = os.path.realpath(self._absolute(self.root.directory))
            mounted = (self.root.directory + mount.point[len(real) :] for mount in table.below(real))
            below = {directory.lstrip(b"/") for directory in mounted}
            below |= {directory for directory in self.recorded if _within(directory, self.root.directory)}
        return [*sorted(below - {self.root.directory}, key=len, reverse=True), self.root.directory]

    def _place(self, directory: bytes, listed: _Listed) -> Place:
        """How one of the directories stands."""
        path = os.path.realpath(self._absolute(directory))
        mount = listed.after.of(path)
        place = Place(directory, mount, is_mount_point=mount is not None and mount.point == path, standing=_UNSETTLED)
        return place if listed.before.of(path) != mount else replace(place, standing=self._standing(place, listed))

    def _standing(self, place: Place, listed: _Listed) -> Standing:
        directory, trouble = place.directory, listed.trouble
        if trouble is None and directory != self.root.directory:
            trouble = _why_not_listed(self._absolute(directory))
        recorded = self.recorded.get(directory)
        current = str(place.mount) if place.mount else None
        if trouble is not None or recorded is None or recorded.mount == current:
            return decide.availability(Sight(trouble, recorded.mount if recorded else None, current))
        here = {path: seen for path, seen in listed.on_disk.items() if _within(path, directory)}
        misses = any(_within(path, directory) for _, path, _ in listed.missing)
        return decide.availability(
            Sight(
                None,
                recorded.mount,
                current,
                has_files=bool(here),
                knows_files=misses or any(self._versions(path) for path in here),
                recognised=any(self._recognises(path, seen, recorded.seen_s) for path, seen in here.items()),
            )
        )

    def _versions(self, path: bytes) -> list[Signature]:
        """What each job has seen of the path."""
        return [known[path] for known in dict(self.memory.known).values() if path in known]

    def _recognises(self, path: bytes, seen: Signature, last_s: float) -> bool:
        """Whether the file was there when the directory was last in order, and is as it was then."""
        # Known by its ctime, which nobody can set: a file that came later was written later.
        return any(
            (known.size, known.mtime_ns) == (seen.size, seen.mtime_ns) and known.ctime_ns <= last_s * 1e9
            for known in self._versions(path)
        )

    def _is_absent(self, path: bytes) -> bool:
        try:
            return landing.signature(self._absolute(path)) is None
        except OSError:
            return False

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self.landing_root, path) if path else self.landing_root

    def _is_known(self, path: bytes, signature: Signature) -> bool:
        """Whether every job that wants the path has seen just this."""
        known = self.memory.known
        if all(known.get(job.name, {}).get(path) == signature for job in self.jobs):
            return True  # the usual case, without a look at patterns
        matches, _ = triggers.matching(path, self.jobs)
        return all(known.get(match.job, {}).get(path) == signature for match in matches)


def _within(path: bytes, directory: bytes) -> bool:
    return not directory or path.startswith(directory + b"/")


def _certain(path: bytes, places: Sequence[Place], unreadable: Sequence[bytes]) -> bool:
    """Whether everything on the way to `path` could be seen, and is what it should be."""
    if any(_within(path, folder) for folder in unreadable):
        return False
    innermost = next((place for place in places if _within(path, place.directory)), None)
    return innermost is not None and innermost.standing.certain


def _why_not_listed(directory: bytes) -> str | None:
    try:
        there = stat.S_ISDIR(os.stat(directory).st_mode)  # noqa: PTH116 -- a path as bytes
    except OSError as error:
        return "missing" if isinstance(error, FileNotFoundError) else f"not readable: {error.strerror}"
    return None if there else "not a directory"


def watched_directories(jobs: Sequence[Job]) -> list[tuple[str, bool]]:
    """The directories to watch, below the landing root, and whether with their sub-directories."""
    wanted: dict[str, bool] = {}
    for job in jobs:
        for trigger in job.file_arrivals:
            directory = trigger.path.strip("/")
            directory = "" if directory == "." else directory
            wanted[directory] = wanted.get(directory, False) or trigger.recursive
    return sorted(wanted.items())
