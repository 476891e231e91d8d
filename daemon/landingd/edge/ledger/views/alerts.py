"""What waits to be told to people, and what the health of jobs is judged by."""

import json
import sqlite3
from typing import Any

from landingd.edge.ledger.views.opening import Answer
from landingd.model import utc

Backlog = tuple[int, int, float]
"""`(files, bytes, seconds that the oldest has waited)`."""
GoingRow = tuple[int, int, float, str | None, int]
"""`(run_id, repair, started_s, task_key, attempt)`; of a run: no task key, attempt 0."""


def alerts(db: sqlite3.Connection, *, limit: int = 1000) -> list[Answer]:
    """Alerts that could not be delivered yet, the oldest first. A destination waits as a whole."""
    rows = db.execute(
        "SELECT *, max(next_try_s) OVER (PARTITION BY channel, destination) AS due_s FROM alerts ORDER BY seq LIMIT ?",
        (limit,),
    )
    return [_alert(row) for row in rows]


def alert_count(db: sqlite3.Connection) -> int:
    """How many alerts wait."""
    return int(db.execute("SELECT count(*) FROM alerts").fetchone()[0])


def health(db: sqlite3.Connection, job: str) -> list[Answer]:
    """What is unhealthy about a job now, by its `health.rules`; empty: nothing."""
    rows = db.execute(
        "SELECT subject, since_s, told_at_s FROM health WHERE job = ? AND told_at_s > 0 ORDER BY since_s, subject",
        (job,),
    )
    return [
        {
            "metric": row["subject"].split()[0],
            "what": row["subject"],
            "since": utc(row["since_s"]),
            "told_at": utc(row["told_at_s"]),
        }
        for row in rows
    ]


# --- what health rules look at --------------------------------------------------------------------------------


def health_known(db: sqlite3.Connection) -> dict[str, dict[str, tuple[float, float]]]:
    """By job and subject `(since_s, told_at_s)`."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for row in db.execute("SELECT * FROM health"):
        found.setdefault(row["job"], {})[row["subject"]] = (row["since_s"], row["told_at_s"])
    return found


def going_on(db: sqlite3.Connection, job: str) -> list[GoingRow]:
    """The job's runs and attempts that are going on."""
    runs = db.execute(
        "SELECT run_id, repairs, coalesce(resumed_at_s, started_at_s) AS started_s FROM runs "
        "WHERE job = ? AND state IN ('QUEUED', 'RUNNING', 'TERMINATING') AND state <> 'QUEUED' "
        "AND started_at_s IS NOT NULL ORDER BY run_id",
        (job,),
    ).fetchall()
    found: list[GoingRow] = []
    for run in runs:
        found.append((run["run_id"], run["repairs"], run["started_s"], None, 0))
        tasks = db.execute(
            "SELECT task_key, attempts, started_at_s FROM tasks WHERE run_id = ? AND state = 'RUNNING' "
            "AND state <> 'TERMINATED' AND started_at_s IS NOT NULL",
            (run["run_id"],),
        )
        found += [(run["run_id"], run["repairs"], t["started_at_s"], t["task_key"], t["attempts"]) for t in tasks]
    return found


def backlog(db: sqlite3.Connection, job: str, *, now_s: float) -> Backlog:
    """The job's files that are complete and not loaded."""
    row = db.execute(
        "SELECT count(*) AS n, coalesce(sum(size), 0) AS n_bytes, min(coalesce(complete_at_s, seen_at_s)) AS oldest_s "
        "FROM files WHERE state = 'waiting' AND job = ? AND content_hash IS NOT NULL",
        (job,),
    ).fetchone()
    waited_s = 0.0 if row["oldest_s"] is None else max(0.0, now_s - row["oldest_s"])
    return row["n"], row["n_bytes"], waited_s


def last_success_s(db: sqlite3.Connection, job: str, *, after_s: float) -> float | None:
    """When the job's newest successful run ended, if that was after `after_s`."""
    row = db.execute(
        "SELECT ended_at_s FROM runs WHERE job = ? AND ended_at_s IS NOT NULL AND ended_at_s > ? "
        "AND result IN ('SUCCESS', 'SUCCESS_WITH_FAILURES') ORDER BY ended_at_s DESC LIMIT 1",
        (job, after_s),
    ).fetchone()
    return row["ended_at_s"] if row else None


def _alert(row: sqlite3.Row) -> Answer:
    payload: dict[str, Any] = json.loads(row["payload"])
    job, run, task = payload.get("job"), payload.get("run"), payload.get("task")
    return {
        "seq": row["seq"],
        "event_id": row["event_id"],
        "event_type": payload.get("event_type"),
        "job": job["name"] if job else None,
        "run_id": run["run_id"] if run else None,
        "task_key": task["task_key"] if task else None,
        "channel": row["channel"],
        "destination": row["destination"],
        "created_at": utc(row["created_at_s"]),
        "tries": row["tries"],
        "next_try_at": utc(row["due_s"]),
        "error": row["error"],
    }
