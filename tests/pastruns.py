"""Runs as they were: written straight into a ledger, for tests of what is told of them."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from landingd.edge.ledger import LedgerThread

T0_S = 1_700_000_000.0


class PastRuns:
    """A ledger file with a past. Times are seconds after T0_S."""

    def __init__(self, path: Path) -> None:
        self.path = path
        LedgerThread(path).close()
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA foreign_keys = ON")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def run(
        self, job: str = "shop", result: str | None = "SUCCESS", *, at: float = 0.0, took: float = 10.0, **more: Any
    ) -> int:
        """A run that was queued at a time and began one second later; without a result it is under way."""
        ended = None if result is None else at + 1 + took
        row = {
            "job": job,
            "trigger_type": "FILE_ARRIVAL",
            "trigger_key": f"k{self._count('runs')}",
            "state": "RUNNING" if result is None else "TERMINATED",
            "result": result,
            "queued_at_s": T0_S + at,
            "started_at_s": T0_S + at + 1,
            "resumed_at_s": T0_S + at + 1,
            "ended_at_s": None if ended is None else T0_S + ended,
            "worked_s": 0.0 if ended is None else took,
        }
        return self._insert("runs", row | more)

    def task(
        self, run_id: int, key: str, result: str | None = "SUCCESS", after: Sequence[str] = (), **more: Any
    ) -> None:
        row = {
            "run_id": run_id,
            "task_key": key,
            "position": self._count("tasks"),
            "depends_on": json.dumps(list(after)),
            "state": "PENDING" if result is None else "TERMINATED",
            "result": result,
        }
        self._insert("tasks", row | more)

    def attempt(
        self,
        run_id: int,
        key: str,
        number: int,
        span: tuple[float, float | None],
        outcome: str | None = "committed",
        **more: Any,
    ) -> None:
        began, ended = span
        row = {
            "run_id": run_id,
            "task_key": key,
            "attempt": number,
            "started_at_s": T0_S + began,
            "ended_at_s": None if ended is None else T0_S + ended,
            "outcome": outcome,
        }
        self._insert("attempts", row | more)

    def repair(self, run_id: int, number: int, tasks: Sequence[str], at: float, **more: Any) -> None:
        row = {"run_id": run_id, "repair": number, "requested_at_s": T0_S + at, "tasks": json.dumps(list(tasks))}
        self._insert("repairs", row | more)

    def earlier(self, run_id: int, repair: int, key: str, result: str) -> None:
        """What a task had come to before the repair after this execution."""
        self._insert("earlier_results", {"run_id": run_id, "repair": repair, "task_key": key, "result": result})

    def put(self, table: str, **row: Any) -> int:
        """Any other row."""
        return self._insert(table, row)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, values).fetchall()

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        done = self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))
        return int(done.lastrowid or 0)

    def _count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
