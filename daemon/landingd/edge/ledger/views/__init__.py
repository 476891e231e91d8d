"""What people and programs ask the ledger: JSON-ready answers, from a connection that can only read."""

from landingd.edge.ledger.views.alerts import alert_count, alerts, health
from landingd.edge.ledger.views.backfills import backfill, backfills
from landingd.edge.ledger.views.census import (
    Standing,
    loaded_nowhere,
    loads_of,
    recorded_mounts,
    standing,
    uneven_loads,
)
from landingd.edge.ledger.views.counts import cleanup_failing, counts, newest_ids, outbox_size, pending
from landingd.edge.ledger.views.files import (
    asked_versions,
    file_answers,
    files,
    files_given,
    ids_at,
    ids_of,
    path_of,
    paths_named,
    requested_runs,
    versions,
)
from landingd.edge.ledger.views.history import matrix, runs_below, runs_to_keep
from landingd.edge.ledger.views.jobs import job_state
from landingd.edge.ledger.views.opening import (
    Answer,
    Connection,
    LedgerUnreadableError,
    one_moment,
    open_views,
    reading,
)
from landingd.edge.ledger.views.runs import queued, run, runs, timings, under_way
from landingd.edge.ledger.views.tails import TailStanding, tail, tails_at, tails_standing
from landingd.edge.ledger.views.triggers import triggers

__all__ = [
    "Answer",
    "Connection",
    "LedgerUnreadableError",
    "Standing",
    "TailStanding",
    "alert_count",
    "alerts",
    "asked_versions",
    "backfill",
    "backfills",
    "cleanup_failing",
    "counts",
    "file_answers",
    "files",
    "files_given",
    "health",
    "ids_at",
    "ids_of",
    "job_state",
    "loaded_nowhere",
    "loads_of",
    "matrix",
    "newest_ids",
    "one_moment",
    "open_views",
    "outbox_size",
    "path_of",
    "paths_named",
    "pending",
    "queued",
    "reading",
    "recorded_mounts",
    "requested_runs",
    "run",
    "runs",
    "runs_below",
    "runs_to_keep",
    "standing",
    "tail",
    "tails_at",
    "tails_standing",
    "timings",
    "triggers",
    "under_way",
    "uneven_loads",
    "versions",
]
