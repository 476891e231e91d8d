"""The words for where things stand and for what is to be done: every one a closed list."""

from enum import StrEnum


class RunState(StrEnum):
    """Life-cycle of a run (Databricks: `life_cycle_state`)."""

    QUEUED = "QUEUED"
    """Entered by the ledger when it accepts a trigger key, left by dispatch. Dying here: dispatched after restart."""
    RUNNING = "RUNNING"
    """Entered by dispatch, left when the last task is concluded. Dying here: recovery resumes it."""
    TERMINATING = "TERMINATING"
    """Entered by a cancel or the job's timeout while tasks run, left when the last of them has been broken off.
    Dying here: recovery concludes them, and the run ends."""
    TERMINATED = "TERMINATED"
    """Entered with the last task's verdict, left only by a repair (back to QUEUED)."""
    SKIPPED = "SKIPPED"
    """Entered instead of QUEUED where there was no room and no queue; never left."""


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
    CANCELED = "CANCELED"
    EXCLUDED = "EXCLUDED"
    """Of a task: its `run_if`, or the outcome of a condition, left it out."""
    DISABLED = "DISABLED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    UPSTREAM_CANCELED = "UPSTREAM_CANCELED"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    """Of a run: every leaf is well, and some other task failed."""
    MAXIMUM_CONCURRENT_RUNS_REACHED = "MAXIMUM_CONCURRENT_RUNS_REACHED"
    """Of a skipped run."""
    MAX_JOB_QUEUE_SIZE_EXCEEDED = "MAX_JOB_QUEUE_SIZE_EXCEEDED"
    """Of a skipped run (Databricks: `termination_details.code`)."""


class FileState(StrEnum):
    """Where a file version stands. A file on disk is in exactly one of these."""

    WAITING = "waiting"
    """Seen and not loaded yet: still being written, or complete and not in a table yet. `reason` says which."""
    LOADED = "loaded"
    """Its rows are in the tables of its ingest tasks."""
    DUPLICATE = "duplicate"
    """The same bytes as a version that is loaded, under another path: skipped. Left when that version leaves: then
    this one is loaded in its place. (The same bytes under the same path are a count on the version that is loaded.)"""
    QUARANTINED = "quarantined"
    """It cannot be loaded; `reason` says why. None of its rows are in a table."""
    IGNORED = "ignored"
    """Never looked at: a temporary name, or no job's pattern matches. Not stored; found by a scan when asked.
    An unloaded file that is still on disk counts here too."""
    REPLACED = "replaced"
    """A newer version of the same path took its place. Not on disk any more, except in the archive."""
    RETRACTED = "retracted"
    """Its rows were taken out of every table, because it was removed (`on_delete: retract`) or unloaded on request.
    Left by a replay, or when the file comes again."""


class Presence(StrEnum):
    """What became of a version's bytes at its path."""

    PRESENT = "present"
    REMOVED = "removed"
    """Somebody else took the file away."""
    OVERWRITTEN = "overwritten"
    """Other bytes stand at the path."""
    ARCHIVED = "archived"
    """Moved to the archive after loading (`cleanup: archive`); it can be replayed from there."""
    DELETED = "deleted"
    """Deleted after loading (`cleanup: delete`), or from the archive when its retention was over."""


class OnDuplicate(StrEnum):
    """The same bytes again: leave them, or load them like any other file."""

    SKIP = "skip"
    LOAD = "load"


class OnChange(StrEnum):
    """Other bytes under a path that is loaded: the new version's rows replace the old one's, join them, or are
    refused (the new version is quarantined).
    """

    REPLACE = "replace"
    APPEND = "append"
    REJECT = "reject"


class OnDelete(StrEnum):
    """A loaded file is removed by somebody else: its rows stay, or leave every table."""

    KEEP = "keep"
    RETRACT = "retract"


class Cleanup(StrEnum):
    """What becomes of a file after loading (Auto Loader: `cloudFiles.cleanSource`)."""

    KEEP = "keep"
    ARCHIVE = "archive"
    DELETE = "delete"


class SchemaEvolution(StrEnum):
    """What a file's new columns, and cells that do not fit, lead to (Auto Loader: `schemaEvolutionMode`)."""

    ADD_NEW_COLUMNS = "add_new_columns"
    """New columns join the table; detected types widen where a file needs it; rows that do not parse are rejected."""
    RESCUE = "rescue"
    """The table's columns stay as they are: new columns and cells that do not fit go to `_rescued_data` as JSON."""
    FAIL = "fail"
    """A file with a new column is quarantined."""
    NONE = "none"
    """New columns are left out."""


class OnViolation(StrEnum):
    """What an expectation does with a row for which it is not true (NULL is not true)."""

    WARN = "warn"
    DROP = "drop"
    QUARANTINE = "quarantine"
    FAIL = "fail"


class FileAction(StrEnum):
    """What a run is to do with a file version."""

    LOAD = "load"
    """Load it; where a table holds it already, leave it."""
    RELOAD = "reload"
    """Load it anew: the rows that tables hold of it leave when the new ones enter (a replay)."""
    RETRACT = "retract"
    """Take its rows out."""


class RefreshMode(StrEnum):
    """How a table is kept equal to its SELECT."""

    APPEND = "append"
    FULL = "full"


class TriggerType(StrEnum):
    """What started a run (Databricks: `trigger`; the last two are ours)."""

    PERIODIC = "PERIODIC"
    """A schedule or a periodic trigger."""
    ONE_TIME = "ONE_TIME"
    """Somebody asked for it."""
    RUN_JOB_TASK = "RUN_JOB_TASK"
    FILE_ARRIVAL = "FILE_ARRIVAL"
    CONTINUOUS = "CONTINUOUS"
    CONTINUOUS_RESTART = "CONTINUOUS_RESTART"
    """Of a continuous job: the run after one that failed."""
    TABLE = "TABLE"
    JOB_COMPLETION = "JOB_COMPLETION"
    BACKFILL = "BACKFILL"
    REPLAY = "REPLAY"


class TriggerKind(StrEnum):
    """The kinds of trigger, by their key in the job file."""

    FILE_ARRIVAL = "file_arrival"
    SCHEDULE = "schedule"
    PERIODIC = "periodic"
    CONTINUOUS = "continuous"
    TABLE_UPDATE = "table_update"
    JOB_COMPLETION = "job_completion"


class CronSyntax(StrEnum):
    """How a cron expression is written."""

    QUARTZ = "quartz"
    """sec min hour day-of-month month day-of-week [year]; Sunday is 1."""
    UNIX = "unix"
    """min hour day-of-month month day-of-week; Sunday is 0 or 7."""


class Misfire(StrEnum):
    """What becomes of times that passed while the daemon did not run or the trigger was held up."""

    RUN_ONCE = "run_once"
    """One run, for the latest of them."""
    SKIP = "skip"
    CATCH_UP = "catch_up"
    """A run for each, oldest first."""


class CompletionStatus(StrEnum):
    """Which ends of a run count (Databricks: `job_completion.if_status`)."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    DONE = "DONE"


class ConditionMode(StrEnum):
    """When a `sql_condition` holds (Databricks: `trigger_mode`)."""

    QUERY_RETURNS_ROWS = "QUERY_RETURNS_ROWS"
    RESULT_VALUE_CHANGES = "RESULT_VALUE_CHANGES"
    """The first value of the first row is another one than at the last evaluation that started a run."""


class TriggerOutcome(StrEnum):
    """What an evaluation of a trigger led to; the trigger's history is a list of these."""

    TRIGGERED = "TRIGGERED"
    NOT_TRIGGERED = "NOT_TRIGGERED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    """It fired, and there was no room for the run."""


class RunIf(StrEnum):
    """Which ends of the tasks before it let a task run (Databricks: `run_if`)."""

    ALL_SUCCESS = "ALL_SUCCESS"
    AT_LEAST_ONE_SUCCESS = "AT_LEAST_ONE_SUCCESS"
    NONE_FAILED = "NONE_FAILED"
    ALL_DONE = "ALL_DONE"
    AT_LEAST_ONE_FAILED = "AT_LEAST_ONE_FAILED"
    ALL_FAILED = "ALL_FAILED"


class ConditionOp(StrEnum):
    """Comparisons of a condition task (Databricks: `condition_task.op`)."""

    EQUAL_TO = "EQUAL_TO"
    NOT_EQUAL = "NOT_EQUAL"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_OR_EQUAL = "GREATER_THAN_OR_EQUAL"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_OR_EQUAL = "LESS_THAN_OR_EQUAL"


class Widget(StrEnum):
    """How a parameter is chosen (Databricks: notebook widgets)."""

    TEXT = "text"
    DROPDOWN = "dropdown"
    COMBOBOX = "combobox"
    MULTISELECT = "multiselect"


class ValueType(StrEnum):
    """What the text of a parameter must be."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"


class NotifyOn(StrEnum):
    """Events that people are told of (Databricks: `email_notifications` and `webhook_notifications`)."""

    START = "on_start"
    SUCCESS = "on_success"
    FAILURE = "on_failure"
    DURATION_WARNING = "on_duration_warning_threshold_exceeded"
    STREAMING_BACKLOG = "on_streaming_backlog_exceeded"
    NO_SUCCESS = "on_no_success"
    """Ours: nothing has succeeded for longer than `no_success_within_seconds`; told to `on_failure` where it is not
    given."""


class HealthMetric(StrEnum):
    """What a health rule measures (Databricks: `health.rules[].metric`; the last one is ours)."""

    RUN_DURATION_SECONDS = "RUN_DURATION_SECONDS"
    STREAMING_BACKLOG_FILES = "STREAMING_BACKLOG_FILES"
    STREAMING_BACKLOG_BYTES = "STREAMING_BACKLOG_BYTES"
    STREAMING_BACKLOG_SECONDS = "STREAMING_BACKLOG_SECONDS"
    NO_SUCCESS_WITHIN_SECONDS = "NO_SUCCESS_WITHIN_SECONDS"
