"""Where jobs stand: what of them runs, what waits, how the last run ended, when the next one starts."""

import sqlite3
from collections.abc import Collection

from landingd.edge.ledger.views.alerts import health
from landingd.edge.ledger.views.opening import Answer
from landingd.edge.ledger.views.runs import duration_ms
from landingd.model import utc


def job_state(
    db: sqlite3.Connection, job: str, *, paused: bool = False, paused_triggers: Collection[str] = ()
) -> Answer:
    """Where a job stands: its last finished run, its active ones, its queue, its backlog.

    `paused`, `paused_triggers`: what the job file says; a pause or resume on request stands above it.
    """
    open_runs = db.execute(
        "SELECT run_id, state, queued_at_s FROM runs WHERE job = ? AND state IN ('QUEUED', 'RUNNING', 'TERMINATING') "
        "ORDER BY run_id",
        (job,),
    ).fetchall()
    active = [run for run in open_runs if run["state"] != "QUEUED"]
    queued = [run for run in open_runs if run["state"] == "QUEUED"]
    first = next(iter(active or queued), None)
    is_paused = _paused(db, job, said=paused)
    return {
        "job": job,
        "state": first["state"] if first else "IDLE",
        "paused": is_paused,
        "active_run": first["run_id"] if first else None,
        "active_runs": [run["run_id"] for run in active],
        "queued_runs": len(queued),
        "oldest_queued_at": utc(queued[0]["queued_at_s"]) if queued else None,
        **_last(db, job),
        **_backlog(db, job),
        "unhealthy": health(db, job),
        "next_fire_time": None if is_paused else _next_fire_time(db, job, paused_triggers),
    }


def _last(db: sqlite3.Connection, job: str) -> Answer:
    last = db.execute(
        "SELECT * FROM runs WHERE job = ? AND ended_at_s IS NOT NULL AND state = 'TERMINATED' "
        "ORDER BY run_id DESC LIMIT 1",
        (job,),
    ).fetchone()
    well = db.execute(
        "SELECT ended_at_s FROM runs WHERE job = ? AND ended_at_s IS NOT NULL "
        "AND result IN ('SUCCESS', 'SUCCESS_WITH_FAILURES') ORDER BY ended_at_s DESC LIMIT 1",
        (job,),
    ).fetchone()
    return {
        "last_run": last["run_id"] if last else None,
        "last_result": last["result"] if last else None,
        "last_started_at": utc(last["started_at_s"]) if last else None,
        "last_ended_at": utc(last["ended_at_s"]) if last else None,
        "last_duration_ms": duration_ms(last) if last else None,
        "last_error": last["error"] if last else None,
        "last_rows": _rows_loaded(db, last["run_id"]) if last else None,
        "last_success_at": utc(well["ended_at_s"]) if well else None,
    }


def _rows_loaded(db: sqlite3.Connection, run_id: int) -> int:
    row = db.execute("SELECT coalesce(sum(rows_loaded), 0) FROM loads WHERE run_id = ?", (run_id,)).fetchone()
    return int(row[0])


def _backlog(db: sqlite3.Connection, job: str) -> Answer:
    backlog = db.execute(
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes, min(seen_at_s) AS oldest FROM files "
        "WHERE job = ? AND state = 'waiting'",
        (job,),
    ).fetchone()
    return {
        "backlog_files": backlog["files"],
        "backlog_bytes": backlog["bytes"],
        "oldest_waiting_since": utc(backlog["oldest"]),
    }


def _paused(db: sqlite3.Connection, job: str, *, said: bool) -> bool:
    row = db.execute("SELECT paused FROM triggers WHERE job = ? AND trigger_name = ''", (job,)).fetchone()
    return said if row is None or row["paused"] is None else bool(row["paused"])


def _next_fire_time(db: sqlite3.Connection, job: str, paused: Collection[str]) -> str | None:
    rows = db.execute("SELECT * FROM triggers WHERE job = ? AND trigger_name <> '' AND next_fire_s IS NOT NULL", (job,))
    times = [
        row["next_fire_s"]
        for row in rows
        if not (row["trigger_name"] in paused if row["paused"] is None else row["paused"])
    ]
    return utc(min(times, default=None))
