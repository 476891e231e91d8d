"""Backfills: what each was asked for, and how its runs stand."""

import json
import sqlite3

from landingd.edge.ledger.views.opening import Answer
from landingd.model import utc

FAILED_SHOWN = 100

_RUNS_OF = (
    "r.job = b.job AND r.trigger_key >= 'backfill:' || b.backfill_id || ':' "
    "AND r.trigger_key < 'backfill:' || b.backfill_id || ';'"
)
"""The character after ":" is ";"."""
_WELL = "('SUCCESS', 'SUCCESS_WITH_FAILURES')"


def backfill(db: sqlite3.Connection, backfill_id: str) -> Answer | None:
    """One backfill, with its runs counted by state or, where they have ended, result; the failed ones by value.

    `done`: every value has a run, and all have ended.
    """
    row = db.execute("SELECT * FROM backfills WHERE backfill_id = ?", (backfill_id,)).fetchone()
    if row is None:
        return None
    failed = db.execute(
        "SELECT r.run_id, r.trigger_key, coalesce(r.result, r.state) AS result, r.error "
        f"FROM backfills b JOIN runs r ON {_RUNS_OF} "
        f"WHERE b.backfill_id = ? AND r.ended_at_s IS NOT NULL AND r.result NOT IN {_WELL} "
        "ORDER BY r.run_id LIMIT ?",
        (backfill_id, FAILED_SHOWN),
    )
    return _answer(db, row) | {
        "failed": [
            {
                "value": run["trigger_key"].removeprefix(f"backfill:{backfill_id}:"),
                "run_id": run["run_id"],
                "result": run["result"],
                "error": run["error"],
            }
            for run in failed
        ]
    }


def backfills(db: sqlite3.Connection, *, limit: int) -> list[Answer]:
    """The newest backfills first."""
    rows = db.execute("SELECT * FROM backfills ORDER BY requested_at_s DESC, backfill_id LIMIT ?", (limit,)).fetchall()
    return [_answer(db, row) for row in rows]


def _answer(db: sqlite3.Connection, row: sqlite3.Row) -> Answer:
    counts = db.execute(
        "SELECT iif(r.ended_at_s IS NULL, r.state, r.result) AS word, count(*) AS n, "
        f"count(*) FILTER (WHERE r.ended_at_s IS NULL) AS open FROM backfills b JOIN runs r ON {_RUNS_OF} "
        "WHERE b.backfill_id = ? GROUP BY 1 ORDER BY 1",
        (row["backfill_id"],),
    ).fetchall()
    range_ = json.loads(row["range"])
    return {
        "backfill_id": row["backfill_id"],
        "job": row["job"],
        "parameter": row["parameter"],
        "from": range_["from"],
        "to": range_["to"],
        "step": range_["step"],
        "parameters": json.loads(row["parameters"]),
        "requested_at": utc(row["requested_at_s"]),
        "values": range_["count"],
        "admitted": range_["admitted"],
        "runs": {count["word"]: count["n"] for count in counts},
        "done": range_["admitted"] >= range_["count"] and not any(count["open"] for count in counts),
    }
