"""The verbs about the iterations of a loop: tasks of the run whose `parent` is the loop."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from landingd.model import Result, loop_of


class LoopVerbs:
    """See Ledger."""

    _db: sqlite3.Connection

    def add_iterations(self, run_id: int, loop: str, inputs: Mapping[str, Any], *, concurrency: int) -> None:
        """Give a loop its iterations: key to input. Those that succeeded with the same input stay so (a repair).

        In a repair of some of them by name the others stay as they ended. None is ever deleted: its attempts are
        numbered on.
        """
        named = self._named_in_repair(run_id, loop)
        self._db.execute(
            "UPDATE tasks SET state = 'TERMINATED', result = 'EXCLUDED', error = NULL "
            "WHERE run_id = ?1 AND parent = ?2 AND task_key NOT IN (SELECT value FROM json_each(?3))",
            (run_id, loop, json.dumps(list(inputs))),
        )
        well = "result = 'SUCCESS'" if not named else "result <> 'EXCLUDED'"  # what was named has no result now
        done = f"state = 'TERMINATED' AND {well} AND input = excluded.input"
        self._db.executemany(
            "INSERT INTO tasks (run_id, task_key, position, depends_on, parent, input, state, attempts) "
            "VALUES (?1, ?2, ?3, '[]', ?4, ?5, 'PENDING', coalesce((SELECT max(attempt) FROM attempts "
            "WHERE run_id = ?1 AND task_key = ?2), 0)) ON CONFLICT (run_id, task_key) DO UPDATE SET "
            f"state = iif({done}, state, 'PENDING'), result = iif({done}, result, NULL), "
            f"output = iif({done}, output, NULL), ended_at_s = iif({done}, ended_at_s, NULL), "
            f"error = iif({done}, error, NULL), "
            "failures = 0, crashes = 0, retry_at_s = NULL, input = excluded.input",
            [
                (run_id, key, position, loop, json.dumps(value, sort_keys=True))
                for position, (key, value) in enumerate(inputs.items())
            ],
        )
        self._db.execute(
            "UPDATE tasks SET concurrency = ? WHERE run_id = ? AND task_key = ?", (concurrency, run_id, loop)
        )

    def _named_in_repair(self, run_id: int, loop: str) -> bool:
        """Whether the run's last repair names iterations of the loop, and not the loop."""
        row = self._db.execute("SELECT tasks FROM repairs WHERE run_id = ? ORDER BY repair DESC LIMIT 1", (run_id,))
        tasks = json.loads(found["tasks"]) if (found := row.fetchone()) else []
        return loop not in tasks and any(loop_of(key) == loop for key in tasks)

    def iterations(self, run_id: int) -> dict[str, list[str]]:
        """The iterations of each loop, in order, but those that its inputs asked for no more."""
        rows = self._db.execute(
            "SELECT parent, task_key FROM tasks WHERE run_id = ? AND parent IS NOT NULL "
            "AND result IS NOT 'EXCLUDED' ORDER BY position",
            (run_id,),
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["parent"], []).append(row["task_key"])
        return found

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

    def break_off_loop(self, run_id: int, loop: str, *, why: str, now_s: float) -> None:
        """The loop's time is over: what waits of it does not begin any more, and what runs is to be broken off.

        Its open attempt says so until it ends.
        """
        self._db.execute(
            "UPDATE attempts SET error = ? WHERE run_id = ? AND task_key = ? AND outcome IS NULL", (why, run_id, loop)
        )
        self._db.execute(
            "UPDATE tasks SET state = 'TERMINATED', result = 'CANCELED', error = ?, retry_at_s = NULL, ended_at_s = ? "
            "WHERE run_id = ? AND parent = ? AND state IN ('PENDING', 'WAITING_FOR_RETRY')",
            (why, now_s, run_id, loop),
        )

    def is_late(self, run_id: int, loop: str) -> bool:
        """Whether a loop is being broken off because its time was over."""
        row = self._db.execute(
            "SELECT 1 FROM attempts WHERE run_id = ? AND task_key = ? AND outcome IS NULL AND error IS NOT NULL",
            (run_id, loop),
        ).fetchone()
        return row is not None

    def fold_loop(self, run_id: int, loop: str) -> None:
        """The loop waits to be tried again: none of its iterations is under way until then."""
        self._db.execute("UPDATE tasks SET concurrency = NULL WHERE run_id = ? AND task_key = ?", (run_id, loop))

    def retry_at_s(self, run_id: int, task_key: str) -> float | None:
        """When a task is tried again; None: it does not wait for that."""
        row = self._db.execute(
            "SELECT retry_at_s FROM tasks WHERE run_id = ? AND task_key = ?", (run_id, task_key)
        ).fetchone()
        return row["retry_at_s"] if row else None

    def forget_results(self, run_id: int, key: str) -> None:
        """Before a loop, or an iteration, runs again from nothing: what was come to does not count any more."""
        self._db.execute(
            "UPDATE tasks SET result = NULL, output = NULL, error = NULL WHERE run_id = ?1 AND state = 'TERMINATED' "
            "AND (parent = ?2 OR (task_key = ?2 AND parent IS NOT NULL))",
            (run_id, key),
        )
