"""What a job file says: jobs, tasks, triggers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from landingd.model.actions import Action, ForEach, loop_of
from landingd.model.alerts import HealthRule, Notifications
from landingd.model.places import Place
from landingd.model.states import OnViolation, RunIf, SchemaEvolution, ValueType, Widget
from landingd.model.triggers import Backoff, Continuous, FileArrival, Trigger


@dataclass(frozen=True, slots=True)
class Parameter:
    """A job parameter (Databricks: `parameters[]`, and notebook widgets); values are strings."""

    name: str
    default: str
    choices: tuple[str, ...] = ()
    widget: Widget = Widget.TEXT
    """dropdown: one of `choices`; combobox: `choices` are suggestions; multiselect: some, with commas between."""
    type: ValueType = ValueType.STRING
    required: bool = False
    """A run must give it a value that is not empty."""
    pattern: str | None = None
    """A regular expression that the whole value must match."""
    min: float | None = None
    max: float | None = None
    place: Place | None = field(default=None, compare=False)


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
    tail: bool = False
    """Its files keep growing: they are read by committed byte offset, in whole lines."""


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
    """One task of a job. Exactly one of `ingest`, `sql` and `action` is set; `sql` without `table` is a script."""

    task_key: str
    place: Place
    depends_on: tuple[str, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of `depends_on` the condition tasks with the outcome, "true" or "false", that lets this task run."""
    run_if: RunIf = RunIf.ALL_SUCCESS
    disabled: bool = False
    ingest: Ingest | None = None
    sql: str | None = None
    """The text of the SQL file."""
    sql_file: str | None = None
    """Its name, as the user would name it, for messages."""
    table: str | None = None
    """`schema.name`."""
    refresh: str = "auto"
    expectations: tuple[Expectation, ...] = ()
    action: Action | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    max_retries: int = 0
    """-1: without end."""
    min_retry_interval_s: float = 0.0
    retry_on_timeout: bool = False
    backoff: Backoff | None = None
    """Ours: pauses that grow with each failure; they start at `min_retry_interval_s` where that is longer."""
    timeout_s: float = 0.0
    """Per attempt; 0: none."""
    notifications: Notifications | None = None
    health: tuple[HealthRule, ...] = ()
    """RUN_DURATION_SECONDS only."""
    depends_on_places: tuple[Place, ...] = ()
    """Where each of `depends_on` was said, for messages."""
    parameter_places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    """Where each of `parameters` was said, for messages."""


@dataclass(frozen=True, slots=True)
class Queue:
    """`queue`: a run that finds `max_concurrent_runs` others waits, or, where it is not enabled, is skipped."""

    enabled: bool = True
    max_length: int = 1000
    """A longer queue skips runs; files wait all the same, and become one run."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Ours, the counterpart of a job cluster: DuckDB's settings while the job's tasks run."""

    threads: int = 0
    """0: as the daemon is configured."""
    memory_limit: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A DAG of tasks and what starts it, as one job file says it."""

    name: str
    place: Place
    tasks: tuple[Task, ...]
    triggers: tuple[Trigger, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: Path = Path()
    max_concurrent_runs: int = 1
    """0: no run starts at all."""
    queue: Queue = Queue()
    priority: int = 0
    """Ours: of several jobs that wait for a slot the one with the highest comes first."""
    timeout_s: float = 0.0
    """Of a run, without its time in the queue; 0: none."""
    strict: bool = False
    """Ours: a run with a failed task is FAILED, whatever its leaves did."""
    compute: Compute | None = None
    notifications: Notifications | None = None
    health: tuple[HealthRule, ...] = ()
    paused: bool = False
    """`pause_status: PAUSED` of the whole job."""
    file_arrivals: tuple[FileArrival, ...] = field(init=False, compare=False)
    """Where its files come from: its file arrival triggers, and the source of a continuous one."""
    table_tasks: frozenset[str] = field(init=False, compare=False, repr=False)
    """Keys of the tasks that make tables."""
    _tasks_by_key: Mapping[str, Task] = field(init=False, compare=False, repr=False)
    """Each attempt asks for its task several times, and there may be a thousand."""

    def __post_init__(self) -> None:
        sources = [t.on.source if isinstance(t.on, Continuous) else t.on for t in self.triggers]
        object.__setattr__(self, "file_arrivals", tuple(s for s in sources if isinstance(s, FileArrival)))
        object.__setattr__(self, "table_tasks", frozenset(t.task_key for t in self.tasks if t.table is not None))
        # Of tasks that share a key, which is a problem of the job file, the first one counts.
        object.__setattr__(self, "_tasks_by_key", {task.task_key: task for task in reversed(self.tasks)})

    @property
    def continuous(self) -> Continuous | None:
        """Its continuous trigger; such a job has no other one."""
        return next((t.on for t in self.triggers if isinstance(t.on, Continuous)), None)

    def task(self, task_key: str) -> Task:
        """The task, or iteration of a loop, of that key; KeyError where there is none."""
        loop_key = loop_of(task_key)
        if loop_key is None:
            return self._tasks_by_key[task_key]
        loop = self._tasks_by_key[loop_key]
        if not isinstance(loop.action, ForEach):
            raise KeyError(task_key)
        return replace(loop.action.task, task_key=task_key)

    def trigger(self, key: str) -> Trigger:
        """The trigger of that key; KeyError where there is none."""
        for trigger in self.triggers:
            if trigger.key == key:
                return trigger
        raise KeyError(key)
