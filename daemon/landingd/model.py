"""The nouns: what a job is, what a file version is, which states things are in.

Standard library only, no behaviour beyond reading a value. Everything else in the package knows this module.
Times are Unix seconds (`_s`, float) or nanoseconds (`_ns`, int); paths of data files are `bytes`, relative to the
landing root, because a file's name is bytes and need not be text.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any


class RunState(StrEnum):
    """Life-cycle of a run (Databricks: `life_cycle_state`)."""

    QUEUED = "QUEUED"
    """Entered by the ledger when it accepts a trigger key, left by dispatch. Dying here: dispatched after restart."""
    RUNNING = "RUNNING"
    """Entered by dispatch, left when the last task is concluded. Dying here: recovery resumes it."""
    TERMINATED = "TERMINATED"
    """Entered with the last task's verdict, left only by a repair (back to QUEUED)."""


class TaskState(StrEnum):
    """Life-cycle of a task within a run."""

    PENDING = "PENDING"
    """Entered with the run, by a repair, and by an orderly stop; left when the tasks it depends on allow it.
    Dying here: nothing was begun."""
    RUNNING = "RUNNING"
    """Entered when an attempt is begun, left by the attempt's verdict. Dying here: recovery asks the engine
    whether the attempt committed."""
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"
    """Entered by a failed attempt that may be tried again, left when the interval is over.
    Dying here: the interval is read from the ledger and waited for."""
    TERMINATED = "TERMINATED"
    """Entered with a result; left only by a repair (back to PENDING)."""


class Result(StrEnum):
    """How a run or a task ended (Databricks: `result_state`)."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"


class FileState(StrEnum):
    """Where a file version stands. A file on disk is in exactly one of these."""

    WAITING = "waiting"
    """Seen and not loaded yet: still being written, or complete and not in a table yet. `reason` says which."""
    LOADED = "loaded"
    """Its rows are in the tables of its ingest tasks."""
    DUPLICATE = "duplicate"
    """The same bytes under the same path again. (Kept as a count on the version that is loaded.)"""
    QUARANTINED = "quarantined"
    """It cannot be loaded; `reason` says why. None of its rows are in a table."""
    IGNORED = "ignored"
    """Never looked at: a temporary name, or no job's pattern matches. Not stored; found by a scan when asked."""
    REPLACED = "replaced"
    """A newer version of the same path took its place. Not on disk any more."""


class RefreshMode(StrEnum):
    """How a table is kept equal to its SELECT."""

    APPEND = "append"
    FULL = "full"


class TriggerType(StrEnum):
    """What started a run (Databricks: `trigger`)."""

    FILE_ARRIVAL = "FILE_ARRIVAL"
    ONE_TIME = "ONE_TIME"


# --- jobs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a job file something was said: `file` as the user would name it, `line` from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class FileArrival:
    """A file arrival trigger (Databricks: `trigger.file_arrival`); `path` is relative to the landing root."""

    path: str
    pattern: str = "*"
    exclude: tuple[str, ...] = ()
    recursive: bool = True
    wait_after_last_change_s: float = 0.0
    min_time_between_triggers_s: float = 0.0
    max_files_per_trigger: int = 1000


@dataclass(frozen=True, slots=True)
class Parameter:
    """A job parameter (Databricks: `parameters[]`); values are strings. With `choices` it is a dropdown."""

    name: str
    default: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingest:
    """How an ingest task reads files into its bronze table."""

    format: str = "csv"
    pattern: str = "*"
    """Which of the run's files this task takes: a glob on the file's name."""
    delimiter: str | None = None
    """One character; None: found out from the header."""
    schema_hints: Mapping[str, str] = field(default_factory=dict[str, str])
    """Column name to SQL type (Auto Loader: `cloudFiles.schemaHints`); other columns are detected."""
    schema_is_whole: bool = False
    """Given as `schema`: these are all the columns, so SQL can be bound before the first file."""
    schema_evolution: str = "add_new_columns"
    max_rejected_percent: float = 10.0
    """A file with a larger share of rejected rows is quarantined whole."""
    nulls: tuple[str, ...] = ("",)
    """Field texts that mean NULL."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a job. Exactly one of `ingest` and `sql` is set; `sql` without `table` is a script."""

    task_key: str
    place: Place
    depends_on: tuple[str, ...] = ()
    ingest: Ingest | None = None
    sql: str | None = None
    """The text of the SQL file."""
    sql_file: str | None = None
    """Its name, as the user would name it, for messages."""
    table: str | None = None
    """`schema.name`."""
    refresh: str = "auto"
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    max_retries: int = 0
    """-1: without end."""
    min_retry_interval_s: float = 0.0
    timeout_s: float = 0.0
    """Per attempt; 0: none."""
    depends_on_places: tuple[Place, ...] = ()
    """Where each of `depends_on` was said, for messages."""
    parameter_places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    """Where each of `parameters` was said, for messages."""


@dataclass(frozen=True, slots=True)
class Job:
    """A DAG of tasks and what starts it, as one job file says it."""

    name: str
    place: Place
    tasks: tuple[Task, ...]
    triggers: tuple[FileArrival, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: Path = Path()

    def task(self, task_key: str) -> Task:
        """The task of that key; KeyError where there is none."""
        for task in self.tasks:
            if task.task_key == task_key:
                return task
        raise KeyError(task_key)


# --- files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """What stat says of a file: as long as it stays the same, the content is taken to be the same."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Hint(StrEnum):
    """How a path came to be looked at. Only a hint: it sets the order of proof, never the truth."""

    MOVED = "moved into place"
    CLOSED = "closed by its writer"
    SCAN = "found by a scan"


class Lease(StrEnum):
    """What the kernel says about writers of a file (F_SETLEASE, F_RDLCK)."""

    FREE = "no process has it open for writing"
    HELD = "a process has it open for writing"
    UNKNOWN = "this file system or its permissions cannot tell"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file version that is complete: path and content, with the evidence that it is whole."""

    job: str
    path: bytes
    content_hash: str
    """SHA-256 of the file's bytes, hex."""
    signature: Signature
    evidence: str
    records: int | None
    """Records counted while hashing, header included, without a CSV reader; None where that is not possible."""
    seen_s: float
    """When it was first noticed."""
    complete_s: float
    damage: str | None = None
    """Why its compressed stream is not whole: such a version is quarantined at once."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file version that a task is to load."""

    file_id: int
    path: bytes
    content_hash: str
    signature: Signature
    records: int | None


# --- runs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Names one attempt for ever: attempts are numbered on through repairs."""

    run_id: int
    task_key: str
    attempt: int


# --- requests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer that lies in a file; the file is deleted once it is sent."""

    path: Path
    media_type: str


Parameters = dict[str, Any]
Handler = Callable[[Parameters], Awaitable[Any]]
"""Takes path, query and body parameters together; returns JSON-ready data or a FileAnswer; raises LandingdError."""


# --- as people see it --------------------------------------------------------------------------------------


def utc(time_s: float | None) -> str | None:
    """Unix seconds as ISO-8601 in UTC with milliseconds."""
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(path: bytes) -> str:
    r"""A path as text that can go into JSON, MQTT, a terminal: bytes that are no printable text are `\xNN`.

    A backslash in the name is doubled, so that the text names one path only; `path_of` reads it back.
    """
    text = path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Above ASCII by its bytes: `\x85` alone is the byte, and not the character of that number.
    return "".join(chr(byte).encode("unicode_escape").decode("ascii") for byte in character.encode())


def path_of(text: str) -> bytes:
    """The path that `shown` shows as this text."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1]) or bytes.fromhex(found[1][1:].decode()), os.fsencode(text))


_ESCAPE = re.compile(rb"\\(\\|n|r|t|x[0-9a-f]{2})")
_ESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


# --- what the engine is asked to do, and what came of it --------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file version, opened far enough to know how to read it."""

    file_id: int
    path: bytes
    """Absolute."""
    name: str
    """`shown(path relative to the landing root)`, for people."""
    content_hash: str
    columns: tuple[str, ...]
    """The header, in file order."""
    delimiter: str
    compression: str
    """none, gzip or zstd."""
    signature: Signature
    rows_in: int | None
    """Records after the header, counted independently of the load; None where counting was not possible."""
    replaces: tuple[int, ...] = ()
    """Older versions of the same path whose rows leave when this one's enter."""


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """Load these file versions into a bronze table; each takes out the rows of the versions that it replaces."""

    key: AttemptKey
    job: str
    table: str
    ingest: Ingest
    files: tuple[SourceFile, ...]
    unusable: tuple["FileLoad", ...] = ()
    """Versions that were found unusable before the load; they are part of the attempt's account."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """Make a table equal to its SELECT."""

    key: AttemptKey
    job: str
    table: str
    select: str
    mode: RefreshMode
    reason: str
    upstream: str | None
    """With APPEND: the one table whose rows are mapped."""
    definition: str
    """Hash of this SELECT and of every definition above it: another hash means that old rows are void."""
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScriptPlan:
    """Run these statements in one transaction."""

    key: AttemptKey
    job: str
    sql: str
    parameters: Mapping[str, str]


Plan = IngestPlan | TablePlan | ScriptPlan


@dataclass(frozen=True, slots=True)
class FileLoad:
    """What came of one file in an ingest: `rows_in = rows_loaded + rows_rejected`, or why it was not loaded."""

    file_id: int
    rows_in: int = 0
    rows_loaded: int = 0
    rows_rejected: int = 0
    quarantined: str | None = None
    """Why it can never be loaded."""
    gone: str | None = None
    """Why this version is not on disk any more: removed, or written over."""

    @property
    def loaded(self) -> bool:
        """Whether its rows are in the table."""
        return self.quarantined is None and self.gone is None


@dataclass(frozen=True, slots=True)
class Stats:
    """What an attempt did to its table."""

    rows_in: int | None = None
    """Of an ingest: records in the files."""
    rows_out: int = 0
    rows_rejected: int | None = None
    how: str = ""
    """For people: "append 3 files", "full"."""
    began_s: float = 0.0
    """When its statements began; an attempt ends with its commit."""
    worked_ms: float = 0.0
    """How long they took, without the wait for the write lane and without the commit."""
    files: tuple[FileLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """The attempt's transaction is durable."""

    stats: Stats


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing of the attempt stayed. `permanent`: trying the same again cannot help."""

    error: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt ran over its `timeout_seconds` and was interrupted; nothing of it stayed."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The attempt was broken off and nothing of it stayed: it is not the task's fault unless the process died."""

    crashed: bool
    """The process died during the attempt."""
    why: str = "interrupted by a stop of the daemon"


Outcome = Committed | Failed | TimedOut | Interrupted
