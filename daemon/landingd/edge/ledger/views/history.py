"""The tasks of a job by its runs: the matrix that shows at a glance what fails, and since when."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landingd.edge.ledger.views.opening import Answer
from landingd.edge.ledger.views.runs import NEWEST, duration_ms
from landingd.model import utc

_RESULTS = {"committed": "SUCCESS", "timed out": "TIMEDOUT", "canceled": "CANCELED"}
"""What an attempt's outcome comes to; every other end is FAILED."""


@dataclass(slots=True)
class _Run:
    """A run with what happened in each of its executions: the original one is number 0."""

    row: sqlite3.Row
    repairs: dict[int, sqlite3.Row] = field(default_factory=dict[int, sqlite3.Row])
    tasks: dict[str, sqlite3.Row] = field(default_factory=dict[str, sqlite3.Row])
    attempts: dict[tuple[int, str], list[sqlite3.Row]] = field(default_factory=dict[tuple[int, str], list[sqlite3.Row]])
    earlier: dict[int, dict[str, str]] = field(default_factory=dict[int, dict[str, str]])
    """What each task had come to at the end of an execution that a repair came after."""

    @property
    def keys(self) -> list[str]:
        """Its tasks; at the end those that the job had no more when it was repaired."""
        return list(dict.fromkeys([*self.tasks, *(key for results in self.earlier.values() for key in results)]))


def matrix(db: sqlite3.Connection, job: str, limit: int) -> Answer:
    """Tasks by executions of the job's newest runs, oldest first; a repair is an execution of its own.

    A cell is the word that the task came to there, or where it stands, with the number of its attempts; None where it
    had no part. Iterations are left to their loop.
    """
    runs = _runs(db, job, limit)
    columns = [(run, repair) for run in runs for repair in range(run.row["repairs"] + 1)]
    keys = dict.fromkeys(key for run in reversed(runs) for key in run.keys)
    return {
        "job": job,
        "columns": [_column(run, repair) for run, repair in columns],
        "tasks": [{"task_key": key, "cells": [_cell(run, repair, key) for run, repair in columns]} for key in keys],
    }


def _runs(db: sqlite3.Connection, job: str, limit: int) -> list[_Run]:
    rows = db.execute(
        f"SELECT * FROM runs WHERE run_id IN ({NEWEST}) ORDER BY run_id DESC LIMIT ?2", (job, limit)
    ).fetchall()
    runs = {row["run_id"]: _Run(row) for row in reversed(rows)}
    for run_id, run in runs.items():
        for row in db.execute("SELECT * FROM repairs WHERE run_id = ?", (run_id,)):
            run.repairs[row["repair"]] = row
        tasks = db.execute("SELECT * FROM tasks WHERE run_id = ? AND parent IS NULL ORDER BY position", (run_id,))
        run.tasks = {row["task_key"]: row for row in tasks}
        for row in db.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY attempt", (run_id,)):
            run.attempts.setdefault((row["repair"], row["task_key"]), []).append(row)
        for row in db.execute("SELECT * FROM earlier_results WHERE run_id = ?", (run_id,)):
            run.earlier.setdefault(row["repair"], {})[row["task_key"]] = row["result"]
    return list(runs.values())


def _column(run: _Run, repair: int) -> Answer:
    row = run.row
    newest = repair == row["repairs"]
    own = run.repairs.get(repair)
    return {
        "run_id": row["run_id"],
        "repair": repair,
        "trigger": row["trigger_type"],
        "state": row["state"] if newest else "TERMINATED",
        "result": row["result"] if newest else _earlier_result(run, repair, own),
        "started_at": utc(own["started_at_s"] if own else row["started_at_s"]),
        "duration_ms": duration_ms(row) if newest and not row["repairs"] else _own_duration_ms(run, repair, own),
    }


def _earlier_result(run: _Run, repair: int, own: sqlite3.Row | None) -> str:
    """Of an execution that a repair came after: where the books do not say it, what its tasks came to."""
    if own is not None and own["result"]:
        return str(own["result"])
    cells = [_cell(run, repair, key) for key in run.keys]
    results = {cell["result"] for cell in cells if cell is not None}
    if results & {"FAILED", "TIMEDOUT", "UPSTREAM_FAILED"}:
        return "FAILED"
    return "CANCELED" if "CANCELED" in results else "SUCCESS"


def _own_duration_ms(run: _Run, repair: int, own: sqlite3.Row | None) -> float | None:
    """How long this execution of a repaired run took."""
    if own is not None and own["started_at_s"] and own["ended_at_s"]:
        return _ms(own["ended_at_s"] - own["started_at_s"])
    mine = [row for (number, _), rows in run.attempts.items() if number == repair for row in rows]
    if not mine or any(row["ended_at_s"] is None for row in mine):
        return None
    return _ms(max(row["ended_at_s"] for row in mine) - min(row["started_at_s"] for row in mine))


def _cell(run: _Run, repair: int, key: str) -> Answer | None:
    if repair and not _had_part(run.repairs, repair, key):
        return None
    attempts = run.attempts.get((repair, key), [])
    word = _word(run, repair, key, attempts)
    return word and word | {"attempts": len(attempts), "duration_ms": _took_ms(attempts)}


def _word(run: _Run, repair: int, key: str, attempts: Sequence[sqlite3.Row]) -> Answer | None:
    """What the task came to in this execution, or where it stands."""
    if repair in run.earlier:
        result = run.earlier[repair].get(key)
        return {"state": "TERMINATED", "result": result} if result else None
    task = run.tasks.get(key)
    if task is None:
        return None
    # Repairs of earlier versions have kept nothing: it is made out from the attempts.
    last = not any(_had_part(run.repairs, later, key) for later in range(repair + 1, run.row["repairs"] + 1))
    if last:
        return {"state": task["state"], "result": task["result"]}
    came_to = _came_to(run, repair, key, attempts[-1]["outcome"]) if attempts else "UPSTREAM_FAILED"
    return {"state": "TERMINATED", "result": came_to}


def _had_part(repairs: Mapping[int, sqlite3.Row], repair: int, key: str) -> bool:
    """Whether the repair ran the task again; of a loop whether it ran one of its iterations again."""
    if repair not in repairs:
        return False
    again: Sequence[Any] = json.loads(repairs[repair]["tasks"])
    return any(name == key or _of(name, key) for name in again)


def _came_to(run: _Run, repair: int, key: str, outcome: str) -> str:
    if outcome in _RESULTS:
        return _RESULTS[outcome]
    # What is left is a failure, or a loop that gave its work to iterations.
    iterations = [rows[-1] for (number, name), rows in run.attempts.items() if number == repair and _of(name, key)]
    well = bool(iterations) and all(row["outcome"] == "committed" for row in iterations)
    return "SUCCESS" if well else "FAILED"


def _of(name: str, loop: str) -> bool:
    return name.startswith(f"{loop}[")


def _took_ms(attempts: Sequence[sqlite3.Row]) -> float | None:
    ended = [row for row in attempts if row["ended_at_s"] is not None]
    return _ms(sum(row["ended_at_s"] - row["started_at_s"] for row in ended)) if ended else None


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


# --- what is not forgotten ----------------------------------------------------------------------------------------


def runs_to_keep(db: sqlite3.Connection) -> set[int]:
    """Runs that decisions look back at, however old: of each job the newest of each trigger and of each result."""
    rows = db.execute(
        "SELECT max(run_id) AS run_id FROM runs GROUP BY job, trigger_type, trigger_name "
        "UNION SELECT max(run_id) FROM runs GROUP BY job, state, result"
    )
    return {row["run_id"] for row in rows}


def runs_below(db: sqlite3.Connection, run_id: int) -> list[int]:
    """The runs with lower numbers."""
    return [row["run_id"] for row in db.execute("SELECT run_id FROM runs WHERE run_id < ? ORDER BY run_id", (run_id,))]
