"""What starts a run: the triggers of a job."""

from dataclasses import dataclass, field

from landingd.model.places import Place
from landingd.model.states import (
    Cleanup,
    CompletionStatus,
    ConditionMode,
    CronSyntax,
    Misfire,
    OnChange,
    OnDelete,
    OnDuplicate,
    TriggerKind,
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses between tries: `initial_s`, then `factor` times as long each time, at most `max_s`.

    Each is lengthened by up to `jitter` of itself (0.1: ten percent), so that many do not try at the same moment.
    """

    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class FileArrival:
    """A file arrival trigger (Databricks: `trigger.file_arrival`); `path` is relative to the landing root."""

    path: str
    pattern: str = "*"
    exclude: tuple[str, ...] = ()
    recursive: bool = True
    wait_after_last_change_s: float = 0.0
    """Quiet period: a run starts only when no file has come for so long; it begins when the cool-down is over."""
    min_time_between_triggers_s: float = 0.0
    """Cool-down: from the start of one run of this trigger to the start of the next."""
    max_files_per_trigger: int = 1000
    max_bytes_per_trigger: int = 0
    """Soft, as in Auto Loader: the file that passes it is still taken; 0: no limit."""
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
class Schedule:
    """A cron trigger (Databricks: `schedule`, with `quartz_cron_expression`; ours too: `cron`, five fields)."""

    expression: str
    syntax: CronSyntax
    timezone: str = "UTC"
    """IANA name (`timezone_id`)."""
    misfire: Misfire = Misfire.RUN_ONCE


@dataclass(frozen=True, slots=True)
class Periodic:
    """Every so often (Databricks: `trigger.periodic`), counted from when the trigger was first seen."""

    interval_s: float


@dataclass(frozen=True, slots=True)
class Continuous:
    """Always on (Databricks: `continuous`): the next run starts when the last one has ended and there is work."""

    source: FileArrival | None = None
    """Where files come from; None: work is that a table which the job reads and another job makes has changed, or,
    for a job that reads neither, always."""
    retry: bool = True
    """`task_retry_mode`: ON_FAILURE (a failed batch is tried again, without end) or NEVER."""
    backoff: Backoff = Backoff()
    """Between a failed run and the next."""
    reset_after_s: float = 60.0
    """A run that has been going on for so long without a failure ends the series of failures, as a success does."""
    min_interval_s: float = 1.0
    """Of a job that always has work: from the start of one run to the start of the next."""


@dataclass(frozen=True, slots=True)
class TableUpdate:
    """Tables have changed (Databricks: `trigger.table_update`); `tables` are `schema.name`."""

    tables: tuple[str, ...]
    all_of: bool = False
    """`condition`: ALL_UPDATED since the last run, or ANY_UPDATED."""
    wait_after_last_change_s: float = 0.0
    min_time_between_triggers_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobCompletion:
    """Other jobs have each ended a run since the last time (Databricks: `trigger.job_completion`)."""

    jobs: tuple[str, ...]
    if_status: CompletionStatus = CompletionStatus.SUCCESS


@dataclass(frozen=True, slots=True)
class SqlCondition:
    """Asked of the warehouse after the trigger; only if it holds a run starts (Databricks: `sql_condition`)."""

    sql: str
    mode: ConditionMode
    place: Place
    sql_file: str | None = None


On = FileArrival | Schedule | Periodic | Continuous | TableUpdate | JobCompletion


@dataclass(frozen=True, slots=True)
class Trigger:
    """One of the triggers of a job: any of them starts a run."""

    on: On
    key: str = ""
    """Its name within the job: its kind, with `-2`, `-3` where there are several of a kind."""
    paused: bool = False
    """`pause_status: PAUSED` in the job file; a pause or resume on request stands above it."""
    condition: SqlCondition | None = None
    place: Place = field(default=Place("", 0), compare=False)

    @property
    def kind(self) -> TriggerKind:
        """Its kind."""
        return _KINDS[type(self.on)]


_KINDS: dict[type, TriggerKind] = {
    FileArrival: TriggerKind.FILE_ARRIVAL,
    Schedule: TriggerKind.SCHEDULE,
    Periodic: TriggerKind.PERIODIC,
    Continuous: TriggerKind.CONTINUOUS,
    TableUpdate: TriggerKind.TABLE_UPDATE,
    JobCompletion: TriggerKind.JOB_COMPLETION,
}
