"""Look at one path: what stands there, whether it has arrived, and what is in it.

Everything here runs on worker threads and only reads; what is remembered of a path is changed by intake alone.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from landingd.core import settle, tailing, triggers
from landingd.edge import landing
from landingd.edge.landing import beside
from landingd.flow.vouching import Vouching
from landingd.model import Hint, Job, Signature

LARGE_BYTES = 16 << 20
"""A file from this size on is hashed beside the others, so that small ones need not wait for it."""


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """`quiet_floor_s`: silence that stands in for proof where writers cannot be seen."""

    root: Path
    scan_interval_s: float
    quiet_floor_s: float


@dataclass(slots=True)
class Sighting:
    """A path that is being waited for."""

    signature: Signature
    unchanged_since_s: float
    seen_s: float
    until_s: float
    hint: Hint
    reason: str = ""
    unfit: tuple[settle.Word, ...] | None = None
    """It was read and its content is not whole; what the producer had said of it then. It need not be read again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A version that was complete a moment ago."""

    signature: Signature
    content_hash: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at one path. Of `gone`, `wait`, `complete` and `trouble` at most one is set; none: nothing new."""

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
    unchanged_since_s: float = 0.0
    words: tuple[settle.Word, ...] = ()
    is_unfit: bool = False
    """With `wait`: it was read, and its content is not whole."""
    spoiled: str | None = None
    """With `print`: its content is not whole, and that was waited for."""
    reopened_gap_s: float = 0.0
    """Above 0: the version that was taken so long ago was none; its writer has opened the file again."""
    beside: tuple[bytes, ...] = ()
    """The path is a marker or manifest: these have to be looked at now."""
    is_tailed: bool = False
    """A job reads it while it grows: that is not intake's."""


@dataclass(slots=True)
class Memory:
    """What spares work: never needed to be right."""

    known: dict[str, dict[bytes, Signature]] = field(default_factory=dict[str, dict[bytes, Signature]])
    sightings: dict[bytes, Sighting] = field(default_factory=dict[bytes, Sighting])
    dirty: dict[bytes, Hint] = field(default_factory=dict[bytes, Hint])
    begun: dict[bytes, float] = field(default_factory=dict[bytes, float])
    """Files just created, and when to look at them if nothing better is heard; the earliest first."""
    taken: dict[bytes, Taken] = field(default_factory=dict[bytes, Taken])
    """For a few seconds, to notice who opens a file again; the oldest first."""
    gaps_s: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """The longest gap seen between two opens, by job and directory of the trigger."""
    hashing: set[bytes] = field(default_factory=set[bytes])


class Looking:
    """Looks at paths for jobs. `jobs` may be exchanged. Files that a job tails are left to the tailer."""

    def __init__(
        self, jobs: Sequence[Job], options: IntakeOptions, memory: Memory, clock: Callable[[], float] = time.time
    ) -> None:
        self.jobs = tuple(jobs)
        self._options = options
        self._root = os.fsencode(options.root)
        self._memory = memory
        self._clock = clock
        self._vouching = Vouching(self._root)

    def look_at_all(self, batch: Sequence[tuple[bytes, Hint]]) -> list[Seen]:
        """One look at each."""
        self._vouching.begin()
        return [self.look_at(path, hint) for path, hint in batch]

    def look_at(self, path: bytes, hint: Hint) -> Seen:
        """Look at one path and, if it is complete and not large, read it."""
        seen = self._look_at(path, hint)
        spoken_of = triggers.spoken_of(path, self.jobs)
        return seen if spoken_of is None else replace(seen, beside=self._beside(path, spoken_of))

    def _look_at(self, path: bytes, hint: Hint) -> Seen:
        wanted, _ = triggers.matching(path, self.jobs)
        matches = [match for match in wanted if not self.is_tailed(path, match)]
        if not matches:
            return Seen(path, hint, gone=True, is_tailed=bool(wanted))
        seen = self._look_for(path, hint, matches)
        return seen if len(matches) == len(wanted) else replace(seen, is_tailed=True)

    def is_tailed(self, path: bytes, match: triggers.Matched) -> bool:
        """Whether a job reads a path that it wants while it grows."""
        job = next((job for job in self.jobs if job.name == match.job), None)
        return job is not None and tailing.tailed_by(path, match.taken_by, job) is not None

    def _look_for(self, path: bytes, hint: Hint, matches: list[triggers.Matched]) -> Seen:
        absolute = self._absolute(path)
        try:
            signature = landing.signature(absolute)
            if not isinstance(signature, Signature):
                return Seen(path, hint, tuple(matches), gone=True)
            matches = [m for m in matches if self._memory.known.get(m.job, {}).get(path) != signature]
            if not matches:
                return Seen(path, hint)
            return self._decide(path, hint, signature, tuple(matches))
        except OSError as error:
            return Seen(path, hint, tuple(matches), trouble=error.strerror or str(error))

    def _decide(self, path: bytes, hint: Hint, signature: Signature, matches: tuple[triggers.Matched, ...]) -> Seen:
        now_s = self._clock()
        before = self._memory.sightings.get(path)
        if before is not None and before.signature != signature:
            before = None
        since_s = before.unchanged_since_s if before else now_s
        hint = settle.standing_hint(hint, before.hint if before else None)
        seen = Seen(path, hint, matches, signature=signature, looked_s=now_s, unchanged_since_s=since_s)
        words = self._vouching.words(path, signature, matches)
        if isinstance(words, settle.Wait):
            return replace(seen, wait=words)
        seen = replace(seen, words=words, reopened_gap_s=self._reopened_gap_s(path, signature, now_s))
        if before is not None and before.unfit == words and now_s < before.until_s:
            return replace(seen, wait=settle.Wait(before.reason, before.until_s), is_unfit=True)
        decision = self._settled(seen, signature)
        if isinstance(decision, settle.Wait):
            return replace(seen, wait=decision)
        complete = replace(seen, complete=decision)
        return complete if signature.size >= LARGE_BYTES else self.read(complete)

    def _settled(self, seen: Seen, signature: Signature) -> settle.Complete | settle.Wait:
        is_vouched = len(seen.words) == len(seen.matches) and all(word.is_final for word in seen.words)
        lease = landing.lease(self._absolute(seen.path), heard=seen.hint in {Hint.CLOSED, Hint.MOVED})
        gaps_s = [self._memory.gaps_s.get((m.job, m.trigger.path), 0.0) for m in seen.matches]
        return settle.decide(
            settle.Look(seen.hint, lease, signature, seen.unchanged_since_s, seen.words, is_vouched),
            now_s=seen.looked_s,
            wait_s=max(m.trigger.wait_after_last_change_s for m in seen.matches),
            quiet_floor_s=self._options.quiet_floor_s,
            reopened_quiet_s=settle.learned_quiet_s(max(*gaps_s, seen.reopened_gap_s)),
        )

    def _reopened_gap_s(self, path: bytes, signature: Signature, now_s: float) -> float:
        """How long ago a version was taken that this one begins with, in the same file; 0: none was."""
        old = self._memory.taken.get(path)
        if old is None or old.signature.size >= LARGE_BYTES:
            return 0.0
        gap_s = now_s - old.at_s
        if not settle.is_reopened(old.signature, signature, gap_s=gap_s):
            return 0.0
        return gap_s if beside.begins_with(self._absolute(path), old.signature.size, old.content_hash) else 0.0

    # -- content --

    def read(self, seen: Seen) -> Seen:
        """Hash a complete file, and see whether its content agrees that it is complete."""
        try:
            fingerprint = landing.fingerprint(self._absolute(seen.path), formats=self._formats(seen))
            if fingerprint.signature != seen.signature:
                return self._changed(seen)  # somebody wrote between the proof that nobody does and the reading
            unfit = fingerprint.cut or self._wrong_sum(seen, fingerprint)
        except landing.ChangedWhileReadingError:
            return self._changed(seen)
        except FileNotFoundError:
            return replace(seen, complete=None, gone=True)
        except OSError as error:
            return replace(seen, complete=None, trouble=error.strerror or str(error))
        if unfit is None:
            return replace(seen, print=fingerprint)
        return self._unfit(seen, fingerprint, unfit)

    def _changed(self, seen: Seen) -> Seen:
        return replace(seen, complete=None, wait=settle.Wait("changed while it was read", self._clock() + 0.05))

    def _formats(self, seen: Seen) -> frozenset[str]:
        """As what the file will be read; as CSV where no task of ours reads it."""
        wanted = {match.job for match in seen.matches}
        formats = (triggers.formats_wanted(seen.path, job) for job in self.jobs if job.name in wanted)
        return frozenset[str]().union(*formats) or frozenset({"csv"})

    def _unfit(self, seen: Seen, fingerprint: landing.Fingerprint, reason: str) -> Seen:
        patience_s = max(m.trigger.incomplete_after_s for m in seen.matches)
        wait = settle.unfit(
            reason,
            changed_s=settle.last_change_s(fingerprint.signature, seen.unchanged_since_s),
            incomplete_after_s=patience_s,
            now_s=self._clock(),
        )
        if wait is not None:
            return replace(seen, complete=None, wait=wait, is_unfit=True)
        return replace(seen, print=fingerprint, spoiled=f"{reason}; unchanged for {patience_s:g} s")

    def _wrong_sum(self, seen: Seen, fingerprint: landing.Fingerprint) -> str | None:
        """In what the content differs from what the producer's manifest says."""
        for word in seen.words:
            if word.algorithm == "sha256":
                found = fingerprint.content_hash
            elif word.algorithm:
                found = beside.checksum(self._absolute(seen.path), word.algorithm, fingerprint.signature)
            else:
                continue
            if found != word.checksum:
                return f"{word.algorithm} checksum {found[:16]}... differs from the manifest's {word.checksum[:16]}..."
        return None

    # -- markers and manifests --

    def _beside(self, path: bytes, spoken_of: bytes) -> tuple[bytes, ...]:
        """The files of which a marker or manifest speaks, as far as they are not known to be taken."""
        if spoken_of and not spoken_of.endswith(b"/"):
            return (spoken_of,) if spoken_of != path else ()
        try:
            names = beside.names_in(self._absolute(spoken_of))
        except OSError:
            return ()  # it cannot be listed now: the next scan says so
        self._vouching.tell_missing(path, names)
        known = tuple(self._memory.known.values())
        return tuple(
            each
            for each in (spoken_of + name for name in names)
            if (each in self._memory.sightings or not any(each in paths for paths in known))
            and triggers.spoken_of(each, self.jobs) is None
        )

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root, path)
