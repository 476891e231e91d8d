"""Runs, their tasks and attempts; and what is counted over all."""

import json
import sqlite3

from landingd.edge.ledger.views.files import file_answers
from landingd.edge.ledger.views.opening import Answer
from landingd.model import utc


def counts(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """File versions by job and state."""
    found: dict[str, dict[str, int]] = {}
    for row in db.execute("SELECT job, state, count(*) AS n FROM files GROUP BY 1, 2"):
        found.setdefault(row["job"], {})[row["state"]] = row["n"]
    return found


def job_state(db: sqlite3.Connection, job: str) -> Answer:
    """Where a job stands: its last finished run, its active one, its backlog."""
    last = db.execute(
        "SELECT run_id, result, ended_at_s, error FROM runs WHERE job = ? AND state = 'TERMINATED' "
        "ORDER BY run_id DESC LIMIT 1",
        (job,),
    ).fetchone()
    active = db.execute(
        "SELECT run_id, state FROM runs WHERE job = ? AND state <> 'TERMINATED' ORDER BY run_id LIMIT 1",
        (job,),
    ).fetchone()
    backlog = db.execute(
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes, min(seen_at_s) AS oldest FROM files "
        "WHERE job = ? AND state = 'waiting'",
        (job,),
    ).fetchone()
    return {
        "job": job,
        "state": active["state"] if active else "IDLE",
        "active_run": active["run_id"] if active else None,
        "last_run": last["run_id"] if last else None,
        "last_result": last["result"] if last else None,
        "last_ended_at": utc(last["ended_at_s"]) if last else None,
        "last_error": last["error"] if last else None,
        "backlog_files": backlog["files"],
        "backlog_bytes": backlog["bytes"],
        "oldest_waiting_since": utc(backlog["oldest"]),
        "next_fire_time": None,
    }


def runs(db: sqlite3.Connection, *, job: str | None, limit: int) -> list[Answer]:
    """The newest runs first."""
    rows = db.execute(
        "SELECT r.*, (SELECT count(*) FROM run_files f WHERE f.run_id = r.run_id) AS file_count FROM runs r "
        "WHERE ?1 IS NULL OR job = ?1 ORDER BY run_id DESC LIMIT ?2",
        (job, limit),
    )
    return [_run(row) for row in rows]


def run(db: sqlite3.Connection, run_id: int) -> Answer | None:
    """A run with its tasks, attempts, repairs and files."""
    row = db.execute(
        "SELECT r.*, (SELECT count(*) FROM run_files f WHERE f.run_id = r.run_id) AS file_count FROM runs r "
        "WHERE run_id = ?",
        (run_id,),
    ).fetchone()
    if row is None:
        return None
    tasks = db.execute("SELECT * FROM tasks WHERE run_id = ? ORDER BY position", (run_id,))
    attempts: dict[str, list[Answer]] = {}
    for attempt in db.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY attempt", (run_id,)):
        attempts.setdefault(attempt["task_key"], []).append(_attempt(attempt))
    repairs = db.execute("SELECT * FROM repairs WHERE run_id = ? ORDER BY repair", (run_id,))
    ids = db.execute("SELECT file_id FROM run_files WHERE run_id = ? ORDER BY file_id LIMIT 1000", (run_id,))
    kept = _expectations(db, run_id)
    return _run(row) | {
        "tasks": [
            _task(task)
            | {"attempts": attempts.get(task["task_key"], []), "expectations": kept.get(task["task_key"], [])}
            for task in tasks
        ],
        "repair_history": [
            {"repair": r["repair"], "requested_at": utc(r["requested_at_s"]), "tasks": json.loads(r["tasks"])}
            for r in repairs
        ],
        "files": file_answers(db, [row["file_id"] for row in ids]),
        "rows": dict(_rows(db, run_id)),
    }


def _expectations(db: sqlite3.Connection, run_id: int) -> dict[str, list[Answer]]:
    """How the rows did by each expectation, by task; of attempts that were made in parts, added up."""
    found: dict[str, list[Answer]] = {}
    rows = db.execute(
        "SELECT task_key, name, on_violation, sum(passed) AS passed, sum(failed) AS failed FROM expectations "
        "WHERE run_id = ? GROUP BY task_key, name, on_violation ORDER BY task_key, name",
        (run_id,),
    )
    for row in rows:
        counted = {key: row[key] for key in ("name", "on_violation", "passed", "failed")}
        found.setdefault(row["task_key"], []).append(counted)
    return found


def _rows(db: sqlite3.Connection, run_id: int) -> sqlite3.Row:
    """What became of the rows of the files that the run loaded."""
    row: sqlite3.Row = db.execute(
        "SELECT coalesce(sum(rows_in), 0) AS rows_in, coalesce(sum(rows_loaded), 0) AS rows_loaded, "
        "coalesce(sum(rows_rejected), 0) AS rows_rejected, coalesce(sum(rows_dropped), 0) AS rows_dropped, "
        "coalesce(sum(rows_rescued), 0) AS rows_rescued FROM loads WHERE run_id = ?",
        (run_id,),
    ).fetchone()
    return row


def pending(db: sqlite3.Connection, job: str) -> Answer:
    """Complete files that no run has taken."""
    row = db.execute(
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM files "
        "WHERE job = ? AND state = 'waiting' AND run_id IS NULL AND content_hash IS NOT NULL",
        (job,),
    ).fetchone()
    return dict(row)


def newest_ids(db: sqlite3.Connection) -> str:
    """The newest run and the newest file, as one word."""
    row = db.execute(
        "SELECT (SELECT max(run_id) FROM runs) AS run, (SELECT max(file_id) FROM files) AS file"
    ).fetchone()
    return f"{row['run']}/{row['file']}"


def outbox_size(db: sqlite3.Connection) -> int:
    """Events that the broker has not acknowledged."""
    return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])


def cleanup_failing(db: sqlite3.Connection) -> int:
    """Versions whose files could not be archived or deleted so far."""
    row = db.execute(
        "SELECT count(*) FROM files WHERE cleanup_error IS NOT NULL "
        "AND (presence IN ('present', 'archived') OR cleaning IS NOT NULL)"
    ).fetchone()
    return int(row[0])


def timings(db: sqlite3.Connection, run_id: int) -> list[Answer]:
    """When each step of a run was done: landed, complete, each task's statements, the last commit."""
    row = db.execute(
        "SELECT min(f.seen_at_s) AS seen, max(f.complete_at_s) AS complete, r.started_at_s AS started "
        "FROM runs r LEFT JOIN run_files rf USING (run_id) LEFT JOIN files f USING (file_id) WHERE r.run_id = ?",
        (run_id,),
    ).fetchone()
    steps = [("landed", row["seen"]), ("complete", row["complete"]), ("run started", row["started"])]
    attempts = db.execute(
        "SELECT task_key, started_at_s + worked_ms / 1000 AS done, ended_at_s FROM attempts "
        "WHERE run_id = ? AND outcome = 'committed' ORDER BY started_at_s",
        (run_id,),
    ).fetchall()
    steps += [(attempt["task_key"], attempt["done"]) for attempt in attempts]
    steps.append(("committed", max((attempt["ended_at_s"] for attempt in attempts), default=None)))
    first = next((at for _, at in steps if at is not None), 0.0)
    return [{"step": step, "at": utc(at), "since_landed_ms": round(1000 * (at - first), 3)} for step, at in steps if at]


def _run(row: sqlite3.Row) -> Answer:
    ended, started = row["ended_at_s"], row["started_at_s"]
    return {
        "run_id": row["run_id"],
        "job": row["job"],
        "trigger": row["trigger_type"],
        "parameters": json.loads(row["parameters"]),
        "state": row["state"],
        "result": row["result"],
        "error": row["error"],
        "repairs": row["repairs"],
        "file_count": row["file_count"],
        "queued_at": utc(row["queued_at_s"]),
        "started_at": utc(started),
        "ended_at": utc(ended),
        "duration_ms": round(1000 * (ended - started), 3) if ended and started else None,
    }


def _task(row: sqlite3.Row) -> Answer:
    return {
        "task_key": row["task_key"],
        "depends_on": json.loads(row["depends_on"]),
        "state": row["state"],
        "result": row["result"],
        "error": row["error"],
        "started_at": utc(row["started_at_s"]),
        "ended_at": utc(row["ended_at_s"]),
        "retry_at": utc(row["retry_at_s"]),
    }


def _attempt(row: sqlite3.Row) -> Answer:
    ended = row["ended_at_s"]
    return {
        "attempt": row["attempt"],
        "outcome": row["outcome"],
        "error": row["error"],
        "started_at": utc(row["started_at_s"]),
        "ended_at": utc(ended),
        "duration_ms": round(1000 * (ended - row["started_at_s"]), 3) if ended else None,
        "rows_in": row["rows_in"],
        "rows_out": row["rows_out"],
        "rows_rejected": row["rows_rejected"],
        "worked_ms": row["worked_ms"],
        "how": row["how"],
    }
