"""The words for where things stand and for what is to be done: every one a closed list."""

from enum import StrEnum


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
    """What started a run (Databricks: `trigger`)."""

    FILE_ARRIVAL = "FILE_ARRIVAL"
    ONE_TIME = "ONE_TIME"
