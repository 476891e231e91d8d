"""The verbs about the iterations of a loop: tasks of the run whose `parent` is the loop."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from landingd.model import Result


class LoopVerbs:
    """See Ledger."""

    _db: sqlite3.Connection

    def add_iterations(self, run_id: int, loop: str, inputs: Mapping[str, Any], *, concurrency: int) -> None:
        """Give a loop its iterations: key to input. Those that succeeded with the same input stay so (a repair).

        None is ever deleted: its attempts are numbered on.
        """
        self._db.execute(
            "UPDATE tasks SET state = 'TERMINATED', result = 'EXCLUDED', error = NULL "
            "WHERE run_id = ?1 AND parent = ?2 AND task_key NOT IN (SELECT value FROM json_each(?3))",
            (run_id, loop, json.dumps(list(inputs))),
        )
        done = "state = 'TERMINATED' AND result = 'SUCCESS' AND input = excluded.input"
        self._db.executemany(
            "INSERT INTO tasks (run_id, task_key, position, depends_on, parent, input, state, attempts) "
            "VALUES (?1, ?2, ?3, '[]', ?4, ?5, 'PENDING', coalesce((SELECT max(attempt) FROM attempts "
            "WHERE run_id = ?1 AND task_key = ?2), 0)) ON CONFLICT (run_id, task_key) DO UPDATE SET "
            f"state = iif({done}, state, 'PENDING'), result = iif({done}, result, NULL), "
            f"output = iif({done}, output, NULL), ended_at_s = iif({done}, ended_at_s, NULL), error = NULL, "
            "failures = 0, crashes = 0, retry_at_s = NULL, input = excluded.input",
            [
                (run_id, key, position, loop, json.dumps(value, sort_keys=True))
                for position, (key, value) in enumerate(inputs.items())
            ],
        )
        self._db.execute(
            "UPDATE tasks SET concurrency = ? WHERE run_id = ? AND task_key = ?", (concurrency, run_id, loop)
        )

    def next_iterations(self, run_id: int, loop: str) -> list[str]:
        """Iterations that may begin now: pending ones, as many as the loop's concurrency leaves room for."""
        rows = self._db.execute(
            "SELECT task_key FROM tasks WHERE run_id = ?1 AND parent = ?2 AND state = 'PENDING' ORDER BY position "
            "LIMIT max(0, (SELECT coalesce(concurrency, 1) FROM tasks WHERE run_id = ?1 AND task_key = ?2) - "
            "(SELECT count(*) FROM tasks WHERE run_id = ?1 AND parent = ?2 "
            "AND state IN ('RUNNING', 'WAITING_FOR_RETRY')))",
            (run_id, loop),
        )
        return [row["task_key"] for row in rows]

    def iteration_results(self, run_id: int, loop: str) -> dict[str, Result | None]:
        """How the iterations of a loop ended; None: not yet."""
        rows = self._db.execute(
            "SELECT task_key, result FROM tasks WHERE run_id = ? AND parent = ? ORDER BY position", (run_id, loop)
        )
        return {row["task_key"]: Result(row["result"]) if row["result"] else None for row in rows}

    def has_open_iterations(self, run_id: int, loop: str) -> bool:
        """Whether an iteration of the loop has not ended."""
        row = self._db.execute(
            "SELECT 1 FROM tasks WHERE run_id = ? AND parent = ? "
            "AND state IN ('PENDING', 'RUNNING', 'WAITING_FOR_RETRY')",
            (run_id, loop),
        ).fetchone()
        return row is not None

    def forget_results(self, run_id: int, loop: str) -> None:
        """Before the loop runs again from nothing: what its iterations came to does not count any more."""
        self._db.execute(
            "UPDATE tasks SET result = NULL, output = NULL WHERE run_id = ? AND parent = ? AND state = 'TERMINATED'",
            (run_id, loop),
        )
