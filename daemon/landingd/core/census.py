"""Is any file missing? Hold what lies on the disk against what the books say, path by path, and add up.

`on disk = loaded + waiting + duplicate + quarantined + ignored`. Files land, change and leave while they are counted,
so what does not fit is a doubt and no finding: whoever counts looks again, and only what goes on not to fit is told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from landingd.model import FileState, Signature, utc

COUNTED = (FileState.LOADED, FileState.WAITING, FileState.DUPLICATE, FileState.QUARANTINED, FileState.IGNORED)
"""What a file on disk can be."""

LOOK_HINT = "`landingd why` tells what is known of it; if it stays so, the daemon's log says why"


class Doubt(StrEnum):
    """What does not add up."""

    UNACCOUNTED = "unaccounted"
    """A file on disk that the books do not know as it is."""
    MISSING = "missing"
    """The books say that it is on disk."""
    ROWS = "rows"
    """Rows of a file that are neither in a table nor rejected nor dropped, or are there twice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version that should be on disk, as the books have it."""

    file_id: int
    state: FileState
    is_complete: bool
    signature: Signature
    seen_s: float
    is_cleaned: bool = False
    """It is being archived or deleted just now: it may be gone already."""


@dataclass(frozen=True, slots=True)
class Tailed:
    """A file that is read while it grows, as the books have it."""

    offset: int
    """Bytes that have been entered, as segments."""
    waiting: int = 0
    """Segments that are not loaded."""
    waiting_since_s: float | None = None
    quarantined: int = 0
    quarantined_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """One path, as disk and books show it at one moment."""

    path: bytes
    on_disk: Signature | None
    entries: tuple[Entry, ...] = ()
    ignored: str | None = None
    """Why no trigger of the job takes it; None: one does."""
    at_work: bool = False
    """The daemon is looking at it or reading it just now."""
    tailed: Tailed | None = None
    """A job reads it while it grows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a path counts as: one of COUNTED, or a doubt with its reason; `counts` None: there is nothing there."""

    counts: FileState | None = None
    doubt: Doubt | None = None
    why: str = ""
    file_id: int | None = None
    waiting_since_s: float | None = None


def judge(sight: Sight, before: Sight | None = None) -> Finding:
    """What a path counts as. `before`: an earlier look at it, in which it was in doubt."""
    complete = [entry for entry in sight.entries if entry.is_complete]
    partial = next((entry for entry in sight.entries if not entry.is_complete), None)
    if len(complete) > 1:
        ids = ", ".join(str(entry.file_id) for entry in complete)
        return Finding(doubt=Doubt.UNACCOUNTED, why=f"versions {ids} are both on the books as lying there")
    if sight.on_disk is None:
        return _not_there(complete, partial)
    if sight.tailed is not None and sight.on_disk.size >= sight.tailed.offset:
        return _growing(sight.tailed, sight.on_disk.size)
    if complete and complete[0].signature == sight.on_disk:
        return _known(complete[0])
    return _unlike(sight, complete, partial, before)


def _unlike(sight: Sight, complete: Sequence[Entry], partial: Entry | None, before: Sight | None) -> Finding:
    """It stands there, and not as any version that is complete."""
    if sight.ignored is not None:
        return Finding(FileState.IGNORED)
    if partial is not None:
        return Finding(FileState.WAITING, file_id=partial.file_id, waiting_since_s=partial.seen_s)
    changes = before is not None and before.on_disk != sight.on_disk
    return Finding(FileState.WAITING) if sight.at_work or changes else _not_known(complete)


def _not_known(complete: Sequence[Entry]) -> Finding:
    if not complete:
        return Finding(doubt=Doubt.UNACCOUNTED, why="on disk, and not on the books")
    why = f"it is not as it was when version {complete[0].file_id} was taken in"
    return Finding(doubt=Doubt.UNACCOUNTED, why=why, file_id=complete[0].file_id)


def _growing(tailed: Tailed, size: int) -> Finding:
    """One file, whatever the number of its segments: it is loaded when all that stands in it is."""
    if size > tailed.offset or tailed.waiting:
        return Finding(FileState.WAITING, waiting_since_s=tailed.waiting_since_s)
    if tailed.quarantined:
        return Finding(FileState.QUARANTINED, file_id=tailed.quarantined_id)
    return Finding(FileState.LOADED)


def _known(entry: Entry) -> Finding:
    match entry.state:
        case FileState.WAITING:
            return Finding(FileState.WAITING, file_id=entry.file_id, waiting_since_s=entry.seen_s)
        case FileState.RETRACTED:
            return Finding(FileState.IGNORED, file_id=entry.file_id)  # unloaded on request
        case state:
            return Finding(state, file_id=entry.file_id)


def _not_there(complete: Sequence[Entry], partial: Entry | None) -> Finding:
    if complete and complete[0].is_cleaned:
        return Finding()
    if complete:
        entry = complete[0]
        return Finding(doubt=Doubt.MISSING, why=f"{entry.state.value}, and not on disk", file_id=entry.file_id)
    if partial is not None:
        return Finding(doubt=Doubt.MISSING, why="waited for, and not on disk", file_id=partial.file_id)
    return Finding()


# --- adding up ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """One directory that a job watches. `on_disk` is counted by the scan, the others one by one."""

    job: str
    directory: str
    on_disk: int = 0
    counts: dict[FileState, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    doubts: dict[Doubt, int] = field(default_factory=lambda: dict.fromkeys(Doubt, 0))
    oldest_waiting_s: float | None = None
    unavailable: str | None = None
    """Why nothing can be counted."""
    out_of_sight: int = 0
    """Files on the books whose directory, below this one, is not there or cannot be read."""

    def add(self, finding: Finding) -> None:
        """Count one path."""
        if finding.counts is not None:
            self.counts[finding.counts] += 1
        if finding.doubt is not None:
            self.doubts[finding.doubt] += 1
        if finding.waiting_since_s is not None:
            self.oldest_waiting_s = min(self.oldest_waiting_s or finding.waiting_since_s, finding.waiting_since_s)

    @property
    def adds_up(self) -> bool | None:
        """None: it cannot be counted."""
        if self.unavailable is not None:
            return None
        return self.on_disk == sum(self.counts.values()) and not any(self.doubts.values())

    def answer(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "job": self.job,
            "directory": self.directory,
            "on_disk": self.on_disk,
            **{state.value: self.counts[state] for state in COUNTED},
            **{doubt.value: self.doubts[doubt] for doubt in (Doubt.UNACCOUNTED, Doubt.MISSING)},
            "adds_up": self.adds_up,
            "oldest_waiting_since": utc(self.oldest_waiting_s),
            "unavailable": self.unavailable,
            "out_of_sight": self.out_of_sight,
        }


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that does not add up, for whoever has to find out why."""

    what: Doubt
    job: str
    file: str
    file_id: int | None
    why: str
    hint: str = LOOK_HINT

    def answer(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "what": self.what.value,
            "job": self.job,
            "file": self.file,
            "file_id": self.file_id,
            "why": self.why,
            "hint": self.hint,
        }


def report(
    tallies: Sequence[Tally], discrepancies: Sequence[Discrepancy], *, now_s: float, named_max: int
) -> dict[str, Any]:
    """The census, JSON-ready; at most so many discrepancies are named, all are counted."""
    totals = {state.value: sum(t.counts[state] for t in tallies) for state in COUNTED}
    return {
        "time": utc(now_s),
        "adds_up": not discrepancies and all(tally.adds_up is not False for tally in tallies),
        "roots": [tally.answer() for tally in tallies],
        "totals": {"on_disk": sum(t.on_disk for t in tallies), **totals},
        "discrepancy_count": len(discrepancies),
        "discrepancies": [one.answer() for one in discrepancies[:named_max]],
    }


# --- whose root a path is in ------------------------------------------------------------------------------------


def innermost(directories: Mapping[bytes, bool]) -> Callable[[bytes], bytes | None]:
    """Tells in which of a job's watched directories a path is; in the innermost, so that none counts twice.

    `directories`: whether each is watched with its sub-directories.
    """

    def find(path: bytes) -> bytes | None:
        parent = path.rpartition(b"/")[0]
        if parent in directories:
            return parent
        while parent:
            parent = parent.rpartition(b"/")[0]
            if directories.get(parent, False):
                return parent
        return None

    return find


# --- rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableRows:
    """One table of an ingest task: what the ledger, the warehouse's own list and the table itself say."""

    table: str
    ledger: Mapping[int, tuple[int, int, int]]
    """`{file_id: (rows_in, rows_loaded, rows_rejected)}`."""
    listed: Mapping[int, tuple[int, int, int]]
    held: Mapping[int, int]
    """Rows with this `_file_id`."""


def rows_differing(rows: TableRows) -> dict[int, str]:
    """The versions about which the three do not agree, and how."""
    found: dict[int, str] = {}
    for file_id in sorted(rows.ledger.keys() | rows.listed.keys() | rows.held.keys()):
        listed, ledger, held = rows.listed.get(file_id), rows.ledger.get(file_id), rows.held.get(file_id, 0)
        if listed is None:
            whose = f"{held:,} rows are in {rows.table}" if held else "the ledger says that it is loaded"
            found[file_id] = f"{whose}, and meta.loads does not list it"
        elif listed[1] != held:
            found[file_id] = f"meta.loads says {listed[1]:,} rows, {rows.table} holds {held:,}"
        elif ledger is None:
            found[file_id] = f"{rows.table} holds {held:,} rows, and the ledger does not know that"
        elif ledger != listed:
            found[file_id] = f"the ledger says {_counts(ledger)}, meta.loads {_counts(listed)}"
    return found


def _counts(rows: tuple[int, int, int]) -> str:
    return f"{rows[0]:,} rows in, {rows[1]:,} loaded, {rows[2]:,} rejected"
