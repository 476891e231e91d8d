"""What a job file says: jobs, tasks, triggers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landingd.model.states import Cleanup, OnChange, OnDelete, OnDuplicate, OnViolation, SchemaEvolution


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
    marker: str | None = None
    """A file beside it that says "complete": its name, where `{name}` stands for the data file's name."""
    manifest: str | None = None
    """A glob: files beside it whose names match list the data files that are complete."""
    incomplete_after_s: float = 300.0
    """A file whose end is missing is waited for this long after its last change, then quarantined."""
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    on_change: OnChange = OnChange.REPLACE
    on_delete: OnDelete = OnDelete.KEEP
    cleanup: Cleanup = Cleanup.KEEP
    cleanup_after_s: float = 0.0
    """How long a loaded file stays where it is."""
    archive_retention_s: float = 0.0
    """How long an archived file is kept; 0: for ever."""


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
    """csv, json (an array of objects, or an object a line: told by content) or parquet."""
    pattern: str = "*"
    """Which of the run's files this task takes: a glob on the file's name."""
    delimiter: str | None = None
    """One character; None: found out from the header."""
    schema_hints: Mapping[str, str] = field(default_factory=dict[str, str])
    """Column name to SQL type (Auto Loader: `cloudFiles.schemaHints`); other columns are detected."""
    schema_is_whole: bool = False
    """Given as `schema`: these are all the columns, so SQL can be bound before the first file."""
    schema_evolution: SchemaEvolution = SchemaEvolution.ADD_NEW_COLUMNS
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    """A column's name in files to its name in the table."""
    encoding: str | None = None
    """utf-8, utf-16, latin-1 or windows-1252; None: found out from the bytes."""
    header: bool = True
    """False: the first line of a CSV file is a row; `schema` says the columns."""
    read_options: Mapping[str, str | bool | int] = field(default_factory=dict[str, str | bool | int])
    """Options of DuckDB's reader for the format, checked by name."""
    max_rejected_percent: float = 10.0
    """A file with a larger share of rejected rows is quarantined whole."""
    nulls: tuple[str, ...] = ("",)
    """Field texts that mean NULL."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be true of every row of a table (declarative pipelines: `CONSTRAINT name EXPECT (expect)`)."""

    name: str
    expect: str
    """A boolean SQL expression over the table's columns."""
    on_violation: OnViolation
    place: Place


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
    expectations: tuple[Expectation, ...] = ()
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
