"""What people and programs ask the ledger: JSON-ready answers, from a connection that can only read."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from landingd.errors import LandingdError
from landingd.model import utc

Answer = dict[str, Any]
_FILES = (
    "SELECT f.*, sum(l.rows_in) AS rows_in, sum(l.rows_loaded) AS rows_loaded, sum(l.rows_rejected) AS rows_rejected "
    "FROM files f LEFT JOIN loads l USING (file_id)"
)


class LedgerUnreadableError(LandingdError):
    """The ledger is there and cannot be read. Exit code 77 (EX_NOPERM)."""

    exit_code = 77


def open_views(path: Path) -> sqlite3.Connection:
    """The ledger, for reading only; works beside a running daemon. Raises LedgerUnreadableError."""
    try:
        return _open(path, "mode=ro")
    except sqlite3.OperationalError as error:
        # Who may only read cannot make the shared memory that a ledger with a log needs. After an orderly stop there
        # is no log, and nobody writes: then the file can be read as it lies.
        log = path.with_name(path.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            return _open(path, "immutable=1")
        raise LedgerUnreadableError(
            f"{path}: {error}", hint="the daemon did not stop in order; start it, or ask as the user that it runs as"
        ) from error


def _open(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{_escaped(path)}?{how}", uri=True, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        db.close()
        raise
    db.row_factory = sqlite3.Row
    return db


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


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
    listed = ",".join(str(r["file_id"]) for r in ids)
    files = db.execute(f"{_FILES} WHERE f.file_id IN ({listed}) GROUP BY f.file_id ORDER BY f.file_id")
    return _run(row) | {
        "tasks": [_task(task) | {"attempts": attempts.get(task["task_key"], [])} for task in tasks],
        "repair_history": [
            {"repair": r["repair"], "requested_at": utc(r["requested_at_s"]), "tasks": json.loads(r["tasks"])}
            for r in repairs
        ],
        "files": [file_answer(file) for file in files],
    }


def files(db: sqlite3.Connection, *, state: str | None, job: str | None, limit: int) -> list[Answer]:
    """File versions, the newest first."""
    rows = db.execute(
        f"{_FILES} WHERE (?1 IS NULL OR f.state = ?1) AND (?2 IS NULL OR f.job = ?2) GROUP BY f.file_id "
        "ORDER BY f.file_id DESC LIMIT ?3",
        (state, job, limit),
    )
    return [file_answer(row) for row in rows]


def versions(db: sqlite3.Connection, path: bytes) -> list[Answer]:
    """Every version of a path, oldest first, with what each task made of it; by its end where nothing has the whole."""
    chosen = db.execute("SELECT 1 FROM files WHERE path = ?1 LIMIT 1", (path,)).fetchone()
    # The slash is put before it here: SQLite's || makes text of blobs, and text never equals a blob.
    where = "f.path = ?1" if chosen else "substr(f.path, -length(?1)) = ?1"
    path = path if chosen else b"/" + path
    rows = db.execute(
        f"{_FILES} WHERE {where} GROUP BY f.file_id ORDER BY f.path, f.job, f.file_id", (path,)
    ).fetchall()
    found = []
    for row in rows:
        loads = db.execute("SELECT * FROM loads WHERE file_id = ? ORDER BY loaded_at_s", (row["file_id"],))
        found.append(
            file_answer(row)
            | {
                "loads": [
                    {
                        "task_key": load["task_key"],
                        "run_id": load["run_id"],
                        "attempt": load["attempt"],
                        "rows_in": load["rows_in"],
                        "rows_loaded": load["rows_loaded"],
                        "rows_rejected": load["rows_rejected"],
                        "loaded_at": utc(load["loaded_at_s"]),
                    }
                    for load in loads
                ]
            }
        )
    return found


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


def path_of(db: sqlite3.Connection, file_id: int) -> bytes:
    """The path of a version, as bytes."""
    return bytes(db.execute("SELECT path FROM files WHERE file_id = ?", (file_id,)).fetchone()["path"])


def outbox_size(db: sqlite3.Connection) -> int:
    """Events that the broker has not acknowledged."""
    return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])


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


def file_answer(row: sqlite3.Row) -> Answer:
    """One file version."""
    return {
        "file_id": row["file_id"],
        "job": row["job"],
        "file": row["name"],
        "state": row["state"],
        "reason": row["reason"],
        "evidence": row["evidence"],
        "content_hash": row["content_hash"],
        "size": row["size"],
        "duplicates": row["duplicates"],
        "rows_in": row["rows_in"],
        "rows_loaded": row["rows_loaded"],
        "rows_rejected": row["rows_rejected"],
        "run_id": row["run_id"],
        "seen_at": utc(row["seen_at_s"]),
        "complete_at": utc(row["complete_at_s"]),
        "loaded_at": utc(row["loaded_at_s"]),
    }
