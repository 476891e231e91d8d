"""The nouns: what a job is, what a file version is, which states things are in.

Standard library only, no behaviour beyond reading a value. Everything else in the package knows this module.
Times are Unix seconds (`_s`, float) or nanoseconds (`_ns`, int); paths of data files are `bytes`, relative to the
landing root, because a file's name is bytes and need not be text.
"""

from landingd.model.files import Arrival, Facts, FileRef, Hint, Lease, Signature
from landingd.model.jobs import Expectation, FileArrival, Ingest, Job, Parameter, Place, Task
from landingd.model.plans import (
    AttemptKey,
    Committed,
    ExpectationCount,
    Failed,
    FileLoad,
    IngestPlan,
    Interrupted,
    Outcome,
    Plan,
    ScriptPlan,
    SourceFile,
    Stats,
    TablePlan,
    TimedOut,
)
from landingd.model.requests import FileAnswer, Handler, Parameters
from landingd.model.shown import path_of, shown, utc
from landingd.model.states import (
    Cleanup,
    FileAction,
    FileState,
    OnChange,
    OnDelete,
    OnDuplicate,
    OnViolation,
    Presence,
    RefreshMode,
    Result,
    RunState,
    SchemaEvolution,
    TaskState,
    TriggerType,
)

__all__ = [
    "Arrival",
    "AttemptKey",
    "Cleanup",
    "Committed",
    "Expectation",
    "ExpectationCount",
    "Facts",
    "Failed",
    "FileAction",
    "FileAnswer",
    "FileArrival",
    "FileLoad",
    "FileRef",
    "FileState",
    "Handler",
    "Hint",
    "Ingest",
    "IngestPlan",
    "Interrupted",
    "Job",
    "Lease",
    "OnChange",
    "OnDelete",
    "OnDuplicate",
    "OnViolation",
    "Outcome",
    "Parameter",
    "Parameters",
    "Place",
    "Plan",
    "Presence",
    "RefreshMode",
    "Result",
    "RunState",
    "SchemaEvolution",
    "ScriptPlan",
    "Signature",
    "SourceFile",
    "Stats",
    "TablePlan",
    "Task",
    "TaskState",
    "TimedOut",
    "TriggerType",
    "path_of",
    "shown",
    "utc",
]
