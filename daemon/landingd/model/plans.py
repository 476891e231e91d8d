"""What the engine is asked to do, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from landingd.model.actions import PythonCall
from landingd.model.files import Signature
from landingd.model.jobs import Compute, Expectation, Ingest
from landingd.model.states import RefreshMode


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Names one attempt for ever: attempts are numbered on through repairs."""

    run_id: int
    task_key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file version, opened far enough to know how to read it."""

    file_id: int
    path: bytes
    """Absolute: where the version lies."""
    name: str
    """`shown(path relative to the landing root)`, for people."""
    content_hash: str
    columns: tuple[str, ...]
    """The header, in file order, after `rename`; of a format that names its columns itself: empty."""
    delimiter: str
    compression: str
    """none, gzip or zstd; of `readable`."""
    signature: Signature
    """Of `path`, when it was found to hold this version."""
    rows_in: int | None
    """Records without the header, counted independently of the load; None where counting was not possible."""
    replaces: tuple[int, ...] = ()
    """Older versions of the same path whose rows leave when this one's enter."""
    readable: bytes | None = None
    """A converted copy for the reader (UTF-8, unpacked); None: the reader takes `path` as it is."""
    is_array: bool = False
    """Of JSON: one array of objects, and not an object a line."""
    reload: bool = False
    """Load it even if the table holds it: those rows leave."""


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
    retract: tuple[int, ...] = ()
    """Versions whose rows leave the table."""
    expectations: tuple[Expectation, ...] = ()
    compute: Compute | None = None


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
    expectations: tuple[Expectation, ...] = ()
    compute: Compute | None = None


@dataclass(frozen=True, slots=True)
class ScriptPlan:
    """Run these statements in one transaction; the rows of the last SELECT are the task's output."""

    key: AttemptKey
    job: str
    sql: str
    parameters: Mapping[str, str]
    compute: Compute | None = None


@dataclass(frozen=True, slots=True)
class PythonPlan:
    """Call a Python function with a context; what it does with the cursor is one transaction."""

    key: AttemptKey
    job: str
    call: PythonCall
    parameters: Mapping[str, str]
    task_values: Mapping[str, Mapping[str, Any]]
    """What the tasks before it have set, by task key."""
    files: tuple[str, ...]
    """Absolute paths of the run's files."""
    compute: Compute | None = None


Plan = IngestPlan | TablePlan | ScriptPlan | PythonPlan


@dataclass(frozen=True, slots=True)
class FileLoad:
    """What came of one file in an ingest, or why it was not loaded.

    `rows_in = rows_loaded + rows_rejected + rows_dropped`.
    """

    file_id: int
    rows_in: int = 0
    rows_loaded: int = 0
    rows_rejected: int = 0
    """Rows that did not parse or were quarantined by an expectation: they are in meta.rejected_rows."""
    rows_dropped: int = 0
    """Rows that an expectation dropped."""
    rows_rescued: int = 0
    """Of the loaded rows those with something in `_rescued_data`."""
    quarantined: str | None = None
    """Why it can never be loaded."""
    gone: str | None = None
    """Why this version is not on disk any more: removed, or written over."""
    retracted: bool = False
    """Its rows were taken out of the table."""

    @property
    def loaded(self) -> bool:
        """Whether its rows are in the table."""
        return self.quarantined is None and self.gone is None and not self.retracted


@dataclass(frozen=True, slots=True)
class ExpectationCount:
    """How the rows of one attempt did by one expectation."""

    name: str
    on_violation: str
    passed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Output:
    """What a task leaves for the tasks behind it, JSON-ready."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Task values (Databricks: `dbutils.jobs.taskValues`); of SQL: the first row of the last SELECT."""
    rows: tuple[Mapping[str, Any], ...] = ()
    """Of SQL: the first rows of the last SELECT, at most OUTPUT_ROWS_MAX rows and OUTPUT_BYTES_MAX as JSON."""
    rows_cut: bool = False
    """There were more rows: who asks for all of them must not take these for all."""
    condition: str | None = None
    """Of a condition task: "true" or "false"."""
    run_id: int | None = None
    """Of a run_job task: the run that it started."""
    text: str = ""
    """Of a script or notebook: the end of what it printed, or where its log is."""


OUTPUT_ROWS_MAX = 1000
OUTPUT_BYTES_MAX = 48 << 10


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
    """When its statements began, or its function or process; an attempt ends with its commit."""
    worked_ms: float = 0.0
    """How long they took, without the wait for the write lane (that of a function is part of it) and the commit."""
    files: tuple[FileLoad, ...] = ()
    expectations: tuple[ExpectationCount, ...] = ()
    changed: bool = True
    """Whether the task's table may hold other rows than before."""
    output: Output = Output()


@dataclass(frozen=True, slots=True)
class Committed:
    """The attempt's transaction is durable; of a task that writes no table: it has done its work."""

    stats: Stats


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing of the attempt stayed. `permanent`: trying the same again cannot help."""

    error: str
    permanent: bool = False
    isolate: bool = False
    """One of the files may be the cause, and which is not known (memory): try fewer at a time."""


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


@dataclass(frozen=True, slots=True)
class Canceled:
    """The attempt was broken off because its run is to end; nothing of it stayed."""

    why: str = "canceled"


@dataclass(frozen=True, slots=True)
class Expanded:
    """A loop's inputs are known: its iterations begin, and its end is theirs."""

    inputs: tuple[Any, ...]
    """JSON values, in order."""


Outcome = Committed | Failed | TimedOut | Interrupted | Canceled | Expanded
