"""Runs, their tasks and attempts."""

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from landingd.edge.ledger.views.files import file_answers
from landingd.edge.ledger.views.opening import Answer
from landingd.model import utc

FILES_MAX = 1000
OUTPUT_ROWS_SHOWN = 10
"""Of the rows that a task left for those behind it."""
ERRORS_SHOWN = 3
"""Of a loop's iterations."""

_RUNS = "SELECT r.*, (SELECT count(*) FROM run_files f WHERE f.run_id = r.run_id) AS file_count FROM runs r"

_OPEN = "state IN ('QUEUED', 'RUNNING', 'TERMINATING')"
"""As the index says it."""
NEWEST = (
    "SELECT run_id FROM (SELECT run_id FROM runs WHERE job = ?1 AND ended_at_s IS NOT NULL "
    f"ORDER BY run_id DESC LIMIT ?2) UNION ALL SELECT run_id FROM runs WHERE job = ?1 AND {_OPEN}"
)
"""Among these are the newest ?2 runs of job ?1: written so that each half has an index of its own."""


def runs(db: sqlite3.Connection, *, job: str | None, limit: int) -> list[Answer]:
    """The newest runs first."""
    if job is None:
        rows = db.execute(f"{_RUNS} ORDER BY run_id DESC LIMIT ?", (limit,))
    else:
        rows = db.execute(f"{_RUNS} WHERE run_id IN ({NEWEST}) ORDER BY run_id DESC LIMIT ?2", (job, limit))
    return [run_answer(row) for row in rows]


def queued(db: sqlite3.Connection) -> list[Answer]:
    """Runs that wait for room, in the order in which they get it."""
    rows = db.execute(f"{_RUNS} WHERE {_OPEN} AND state = 'QUEUED' ORDER BY priority DESC, run_id")
    return [run_answer(row) for row in rows]


def under_way(db: sqlite3.Connection) -> list[Answer]:
    """Runs that have begun and not ended, oldest first."""
    rows = db.execute(f"{_RUNS} WHERE {_OPEN} AND state <> 'QUEUED' ORDER BY run_id")
    return [run_answer(row) for row in rows]


def run(db: sqlite3.Connection, run_id: int) -> Answer | None:
    """A run with its tasks, attempts, repairs and files."""
    row = db.execute(f"{_RUNS} WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return None
    ids = db.execute(
        "SELECT file_id FROM run_files WHERE run_id = ? ORDER BY file_id LIMIT ?", (run_id, FILES_MAX)
    ).fetchall()
    return run_answer(row) | {
        "tasks": _tasks(db, run_id),
        "repair_history": _repairs(db, row),
        "files": file_answers(db, [row["file_id"] for row in ids]),
        "rows": dict(_rows(db, run_id)),
    }


def timings(db: sqlite3.Connection, run_id: int) -> list[Answer]:
    """When each step of a run was done: landed, complete, each task's statements, the last commit."""
    row = db.execute(
        "SELECT min(f.seen_at_s) AS seen, max(f.complete_at_s) AS complete, r.started_at_s AS started "
        "FROM runs r LEFT JOIN run_files rf USING (run_id) LEFT JOIN files f USING (file_id) WHERE r.run_id = ?",
        (run_id,),
    ).fetchone()
    steps = [("landed", row["seen"]), ("complete", row["complete"]), ("run started", row["started"])]
    attempts = db.execute(
        # What has no statements (a condition, a run of another job) is done when it ends.
        "SELECT task_key, coalesce(a.started_at_s + nullif(worked_ms, 0) / 1000, a.ended_at_s) AS done, a.ended_at_s "
        "FROM attempts a JOIN tasks t USING (run_id, task_key) "
        "WHERE run_id = ? AND outcome = 'committed' AND t.parent IS NULL ORDER BY done, a.started_at_s",
        (run_id,),
    ).fetchall()
    steps += [(attempt["task_key"], attempt["done"]) for attempt in attempts]
    steps.append(("committed", max((attempt["ended_at_s"] for attempt in attempts), default=None)))
    first = next((at for _, at in steps if at is not None), 0.0)
    return [{"step": step, "at": utc(at), "since_landed_ms": round(1000 * (at - first), 3)} for step, at in steps if at]


def duration_ms(row: sqlite3.Row) -> float | None:
    """How long an ended run has been at work, without the time between its end and its repair."""
    if row["ended_at_s"] is None or row["started_at_s"] is None:
        return None
    # Runs from before repairs were timed apart have no `resumed_at_s`.
    worked_s: float = row["worked_s"] if row["resumed_at_s"] else row["ended_at_s"] - row["started_at_s"]
    return round(1000 * worked_s, 3)


def run_answer(row: sqlite3.Row) -> Answer:
    """One run, JSON-ready; the row has `file_count` besides the columns of `runs`."""
    parent = row["parent_run_id"]
    started = row["started_at_s"]
    return {
        "run_id": row["run_id"],
        "job": row["job"],
        "trigger": row["trigger_type"],
        "trigger_name": row["trigger_name"],
        "trigger_info": json.loads(row["trigger_info"]),
        "parameters": json.loads(row["parameters"]),
        "only": _json(row["only_tasks"]),
        "priority": row["priority"],
        "parent": {"run_id": parent, "task_key": row["parent_task_key"]} if parent else None,
        "state": row["state"],
        "result": row["result"],
        "error": row["error"],
        "repairs": row["repairs"],
        "file_count": row["file_count"],
        "has_files": bool(row["has_files"]),
        "queued_at": utc(row["queued_at_s"]),
        "started_at": utc(started),
        "resumed_at": utc(row["resumed_at_s"]),
        "ended_at": utc(row["ended_at_s"]),
        "queued_ms": round(1000 * (started - row["queued_at_s"]), 3) if started else None,
        "duration_ms": duration_ms(row),
    }


def _tasks(db: sqlite3.Connection, run_id: int) -> list[Answer]:
    attempts: dict[str, list[Answer]] = {}
    for attempt in db.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY attempt", (run_id,)):
        attempts.setdefault(attempt["task_key"], []).append(_attempt(attempt))
    kept = _expectations(db, run_id)
    rows = db.execute("SELECT * FROM tasks WHERE run_id = ? ORDER BY position", (run_id,)).fetchall()
    loops: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        if row["parent"] is not None:
            loops.setdefault(row["parent"], []).append(row)
    return [
        _task(row)
        | {
            "iterations": _iterations(loops.get(row["task_key"], []), row["concurrency"]),
            "attempts": attempts.get(row["task_key"], []),
            "expectations": kept.get(row["task_key"], []),
        }
        for row in rows
    ]


def _iterations(rows: Sequence[sqlite3.Row], concurrency: int | None) -> Answer | None:
    """How a loop's iterations stand (Databricks: `for_each_stats`), with the commonest errors and how often each came.

    Those that the inputs of a repair no longer ask for are not among them.
    """
    rows = [row for row in rows if row["result"] != "EXCLUDED"]
    if not rows:
        return None
    ended = [row for row in rows if row["state"] == "TERMINATED"]
    failed = [row for row in ended if row["result"] in {"FAILED", "TIMEDOUT"}]
    return {
        "concurrency": concurrency,
        "total": len(rows),
        "active": sum(row["state"] == "RUNNING" for row in rows),
        "completed": len(ended),
        "succeeded": sum(row["result"] == "SUCCESS" for row in ended),
        "failed": len(failed),
        "errors": Counter(row["error"] for row in failed if row["error"]).most_common(ERRORS_SHOWN),
    }


def _repairs(db: sqlite3.Connection, run_row: sqlite3.Row) -> list[Answer]:
    """Repairs, oldest first (Databricks: `repair_history[]`); the newest one is also what the run is at."""
    found = []
    for row in db.execute(
        "SELECT * FROM repairs WHERE run_id = ? AND repair > 0 ORDER BY repair", (run_row["run_id"],)
    ):
        newest = row["repair"] == run_row["repairs"]
        found.append(
            {
                "repair": row["repair"],
                "requested_at": utc(row["requested_at_s"]),
                "started_at": utc(row["started_at_s"] or (run_row["resumed_at_s"] if newest else None)),
                "ended_at": utc(row["ended_at_s"] or (run_row["ended_at_s"] if newest else None)),
                "result": row["result"] or (run_row["result"] if newest else None),
                "tasks": json.loads(row["tasks"]),
                "parameters": _json(row["parameters"]),
            }
        )
    return found


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


def _task(row: sqlite3.Row) -> Answer:
    return {
        "task_key": row["task_key"],
        "depends_on": json.loads(row["depends_on"]),
        "run_if": row["run_if"],
        "disabled": bool(row["disabled"]),
        "parent": row["parent"],
        "input": _json(row["input"]),
        "state": row["state"],
        "result": row["result"],
        "error": row["error"],
        "output": _output(row["output"]),
        "started_at": utc(row["started_at_s"]),
        "ended_at": utc(row["ended_at_s"]),
        "retry_at": utc(row["retry_at_s"]),
    }


def _output(text: str | None) -> Any:
    """What the task left, with the first of its rows only."""
    output = _json(text)
    if not isinstance(output, dict) or not output.get("rows"):
        return output
    return output | {"rows": output["rows"][:OUTPUT_ROWS_SHOWN], "row_count": len(output["rows"])}


def _attempt(row: sqlite3.Row) -> Answer:
    ended = row["ended_at_s"]
    return {
        "attempt": row["attempt"],
        "repair": row["repair"],
        "outcome": row["outcome"],
        "error": row["error"],
        "parameters": _json(row["resolved"]),
        "started_at": utc(row["started_at_s"]),
        "ended_at": utc(ended),
        "duration_ms": round(1000 * (ended - row["started_at_s"]), 3) if ended else None,
        "rows_in": row["rows_in"],
        "rows_out": row["rows_out"],
        "rows_rejected": row["rows_rejected"],
        "worked_ms": row["worked_ms"],
        "how": row["how"],
    }


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
