"""File versions: what is seen of a file, and what is known of a version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from landingd.model.states import FileAction, OnChange, OnDuplicate


@dataclass(frozen=True, slots=True)
class Signature:
    """What stat says of a file: as long as it stays the same, the content is taken to be the same."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int = field(compare=False)
    """Not compared: a share that is mounted again usually has another number."""


class Hint(StrEnum):
    """How a path came to be looked at. Only a hint: it sets the order of proof, never the truth."""

    MOVED = "moved into place"
    CLOSED = "closed by its writer"
    CREATED = "created"
    """Its writer has just begun: no hurry, and no proof of anything."""
    SCAN = "found by a scan"


class Lease(StrEnum):
    """What the kernel says about writers of a file (F_SETLEASE, F_RDLCK)."""

    FREE = "no process has it open for writing"
    HELD = "a process has it open for writing"
    UNKNOWN = "this file system or its permissions cannot tell"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of whole lines of a file that keeps growing: a version of its own."""

    tail: int
    """Which generation of which path: `Tail.tail_id`."""
    start: int
    """Bytes before it in the file."""
    end: int


class TailState(StrEnum):
    """Where a generation of a growing file stands."""

    GROWING = "growing"
    """It stands at its path, as far as is known."""
    ROTATED = "rotated"
    """It lies beside its path under another name, and is read to its end."""
    FINISHED = "finished"
    """Everything of it was entered, or is lost. Left if the file grows nevertheless."""


@dataclass(frozen=True, slots=True)
class Tail:
    """One generation of a file that keeps growing: from a rotation or truncation of the path to the next."""

    tail_id: int
    job: str
    path: bytes
    """Below the landing root, where it was when it began."""
    device: int
    inode: int
    """0: the file is not on disk any more."""
    head: str = ""
    """SHA-256 of its first `head_bytes` bytes, hex: tells it from another file with the same inode."""
    head_bytes: int = 0
    header: bytes | None = None
    """Of CSV the header line with its line end. While `offset` is 0: that of the generation before it."""
    offset: int = 0
    """Bytes that have been entered, or were nothing to enter; whole lines only."""
    state: TailState = TailState.GROWING
    changed_s: float = 0.0
    """When `offset` or `state` last changed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the one pass over a version's bytes found besides their hash; kept for whoever loads it."""

    records: int | None = None
    """Records counted without a CSV reader, header included; None where that is not possible."""
    utf8: bool | None = None
    """Whether the whole content is UTF-8; None: not text, or damaged."""
    line_ended: bool = True
    """Whether the last line ends with a line end."""
    quote_open: bool = False
    """Whether the content ends within double quotes, as far as the quick count can tell."""
    scientific: bool = False
    """Whether something like 4.4E+18 stands in it, as spreadsheets write long identifiers."""
    segment: Segment | None = None
    """Of a growing file: which stretch of it this version is."""

    def __post_init__(self) -> None:
        given: Any = self.segment
        if isinstance(given, Mapping):  # as it comes out of the ledger's JSON
            object.__setattr__(self, "segment", Segment(**given))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file version that is complete: path and content, with the evidence that it is whole."""

    job: str
    path: bytes
    content_hash: str
    """SHA-256 of the file's bytes, hex."""
    signature: Signature
    evidence: str
    seen_s: float
    """When it was first noticed."""
    complete_s: float
    facts: Facts = Facts()
    damage: str | None = None
    """Why it can never be read, or why its end is missing (and was waited for): it is quarantined at once."""
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    on_change: OnChange = OnChange.REPLACE
    taken_by: tuple[str, ...] = ()
    """Keys of the ingest tasks that take it."""
    head: bytes = b""
    """Of a packed file where growing ones are read: how its content begins. It may be one of them, rotated away."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file version that a run has to do with."""

    file_id: int
    path: bytes
    """Below the landing root."""
    content_hash: str
    signature: Signature
    facts: Facts = Facts()
    archive_path: bytes | None = None
    """Below the archive root, where it lies there."""
    action: FileAction = FileAction.LOAD
