"""The verbs about runs, their tasks and attempts."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landingd.model import AttemptKey, ExpectationCount, Result, RunState, Stats, TaskState, TriggerType

Row = sqlite3.Row


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, as stored."""

    run_id: int
    job: str
    trigger_type: TriggerType
    parameters: Mapping[str, str]
    state: RunState
    result: Result | None
    repairs: int
    queued_at_s: float
    started_at_s: float | None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task of a run, as stored."""

    task_key: str
    depends_on: tuple[str, ...]
    state: TaskState
    result: Result | None
    attempts: int
    failures: int
    crashes: int
    started_at_s: float | None
    retry_at_s: float | None
    error: str | None


class RunVerbs:
    """What can happen to a run or a task, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection

    def add_run(
        self,
        job: str,
        trigger_type: TriggerType,
        trigger_key: str,
        *,
        parameters: Mapping[str, str],
        tasks: Sequence[tuple[str, tuple[str, ...]]],
        file_ids: Sequence[int],
        now_s: float,
    ) -> int | None:
        """Accept a trigger key: a queued run with its tasks and files, each for what is wanted of it.

        None if the key was accepted before.
        """
        row = self._db.execute(
            "INSERT INTO runs (job, trigger_type, trigger_key, parameters, state, queued_at_s) "
            "VALUES (?, ?, ?, ?, 'QUEUED', ?) ON CONFLICT (job, trigger_key) DO NOTHING RETURNING run_id",
            (job, trigger_type.value, trigger_key, json.dumps(dict(parameters)), now_s),
        ).fetchone()
        if row is None:
            return None
        run_id = int(row["run_id"])
        self.set_tasks(run_id, tasks)
        self._db.executemany(
            "INSERT INTO run_files (run_id, file_id, action) SELECT ?, file_id, coalesce(wanted, 'load') FROM files "
            "WHERE file_id = ?",
            [(run_id, file_id) for file_id in file_ids],
        )
        self._db.executemany(
            "UPDATE files SET run_id = ?, wanted = NULL, turns = turns + 1, "
            "reason = iif(state = 'waiting', 'in run ' || ?, reason) WHERE file_id = ?",
            [(run_id, run_id, file_id) for file_id in file_ids],
        )
        return run_id

    def set_tasks(self, run_id: int, tasks: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        """Give a run its tasks, or bring them up to the job's definition of today."""
        self._db.executemany(
            "INSERT INTO tasks (run_id, task_key, position, depends_on, state) VALUES (?, ?, ?, ?, 'PENDING') "
            "ON CONFLICT (run_id, task_key) DO UPDATE "
            "SET depends_on = excluded.depends_on, position = excluded.position",
            [(run_id, key, position, json.dumps(upstreams)) for position, (key, upstreams) in enumerate(tasks)],
        )

    def drop_tasks(self, run_id: int, task_keys: Sequence[str]) -> None:
        """Tasks that the job has no more."""
        self._db.executemany(
            "DELETE FROM tasks WHERE run_id = ? AND task_key = ?", [(run_id, key) for key in task_keys]
        )

    def find_run(self, job: str, trigger_key: str) -> int | None:
        """The run of a key that was accepted."""
        row = self._db.execute(
            "SELECT run_id FROM runs WHERE job = ? AND trigger_key = ?", (job, trigger_key)
        ).fetchone()
        return row["run_id"] if row else None

    def run(self, run_id: int) -> RunRow | None:
        """One run."""
        row = self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return _run(row) if row else None

    def open_runs(self) -> list[RunRow]:
        """Runs that have not ended, oldest first."""
        rows = self._db.execute("SELECT * FROM runs WHERE state <> 'TERMINATED' ORDER BY run_id")
        return [_run(row) for row in rows]

    def last_run_start_s(self, job: str, trigger_type: TriggerType) -> float | None:
        """When the job's newest run of this trigger was queued."""
        row = self._db.execute(
            "SELECT max(queued_at_s) AS s FROM runs WHERE job = ? AND trigger_type = ?",
            (job, trigger_type.value),
        ).fetchone()
        return row["s"] if row else None

    def start_run(self, run_id: int, *, now_s: float) -> None:
        """QUEUED -> RUNNING."""
        self._db.execute(
            "UPDATE runs SET state = 'RUNNING', started_at_s = coalesce(started_at_s, ?) "
            "WHERE run_id = ? AND state = 'QUEUED'",
            (now_s, run_id),
        )

    def end_run(self, run_id: int, result: Result, *, error: str | None, now_s: float) -> None:
        """RUNNING -> TERMINATED. Files that it did not get to load say so."""
        self._db.execute(
            "UPDATE runs SET state = 'TERMINATED', result = ?, error = ?, ended_at_s = ? "
            "WHERE run_id = ? AND state = 'RUNNING'",
            (result.value, error, now_s, run_id),
        )
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = 'a newer version came before it was loaded' "
            "WHERE run_id = ? AND state = 'waiting' AND wanted IS NULL AND NOT leaving AND presence = 'overwritten'",
            (run_id,),
        )
        self._db.execute(
            "UPDATE files SET reason = 'run ' || ?1 || "
            "CASE WHEN ?2 = 'SUCCESS' THEN ' has seen it; no task of it loads files' "
            "ELSE ' ended ' || ?2 || ' before it was loaded; landingd repair ' || ?1 END "
            "WHERE run_id = ?1 AND state = 'waiting' AND wanted IS NULL AND NOT leaving",
            (run_id, result.value),
        )
        self._db.execute(
            "UPDATE files SET state = 'retracted', leaving = 0, reason = 'removed before it was loaded' "
            "WHERE run_id = ?1 AND state = 'waiting' AND wanted IS NULL AND leaving "
            "AND NOT EXISTS (SELECT 1 FROM loads WHERE loads.file_id = files.file_id)",
            (run_id,),
        )

    def repair_run(self, run_id: int, task_keys: Sequence[str], *, now_s: float) -> int:
        """TERMINATED -> QUEUED, the named tasks -> PENDING. Returns the number of this repair."""
        row = self._db.execute(
            "UPDATE runs SET state = 'QUEUED', result = NULL, error = NULL, ended_at_s = NULL, repairs = repairs + 1 "
            "WHERE run_id = ? AND state = 'TERMINATED' RETURNING repairs",
            (run_id,),
        ).fetchone()
        self._db.executemany(
            "UPDATE tasks SET state = 'PENDING', result = NULL, error = NULL, failures = 0, crashes = 0, "
            "retry_at_s = NULL, ended_at_s = NULL "
            "WHERE run_id = ? AND task_key = ? AND state IN ('TERMINATED', 'PENDING')",
            [(run_id, key) for key in task_keys],
        )
        self._db.execute(
            "INSERT INTO repairs VALUES (?, ?, ?, ?)",
            (run_id, row["repairs"], now_s, json.dumps(list(task_keys))),
        )
        return int(row["repairs"])

    def run_rows(self, run_id: int) -> dict[str, int]:
        """Rows read, loaded and rejected by the run's ingest tasks, and files quarantined."""
        row = self._db.execute(
            "SELECT coalesce(sum(rows_in), 0) AS rows_in, coalesce(sum(rows_loaded), 0) AS rows_loaded, "
            "coalesce(sum(rows_rejected), 0) AS rows_rejected, coalesce(sum(rows_dropped), 0) AS rows_dropped, "
            "coalesce(sum(rows_rescued), 0) AS rows_rescued FROM loads WHERE run_id = ?",
            (run_id,),
        ).fetchone()
        bad = self._db.execute(
            "SELECT count(*) AS n FROM files WHERE run_id = ? AND state = 'quarantined'", (run_id,)
        ).fetchone()
        return {**dict(row), "files_quarantined": bad["n"]}

    def run_bytes(self, run_id: int) -> int:
        """How much data a run was given."""
        row = self._db.execute(
            "SELECT coalesce(sum(size), 0) AS n FROM run_files JOIN files USING (file_id) WHERE run_files.run_id = ?",
            (run_id,),
        ).fetchone()
        return int(row["n"])

    def run_file_ids(self, run_id: int) -> list[int]:
        """The versions that a run was given."""
        rows = self._db.execute("SELECT file_id FROM run_files WHERE run_id = ? ORDER BY file_id", (run_id,))
        return [row["file_id"] for row in rows]

    def tasks(self, run_id: int) -> list[TaskRow]:
        """The run's tasks, in the job file's order."""
        rows = self._db.execute("SELECT * FROM tasks WHERE run_id = ? ORDER BY position", (run_id,))
        return [_task(row) for row in rows]

    def begin_attempt(self, run_id: int, task_key: str, *, now_s: float) -> AttemptKey:
        """PENDING or WAITING_FOR_RETRY -> RUNNING."""
        row = self._db.execute(
            "UPDATE tasks SET state = 'RUNNING', attempts = attempts + 1, retry_at_s = NULL, started_at_s = ? "
            "WHERE run_id = ? AND task_key = ? AND state IN ('PENDING', 'WAITING_FOR_RETRY') RETURNING attempts",
            (now_s, run_id, task_key),
        ).fetchone()
        key = AttemptKey(run_id, task_key, row["attempts"])
        self._db.execute(
            "INSERT INTO attempts (run_id, task_key, attempt, started_at_s) VALUES (?, ?, ?, ?)",
            (key.run_id, key.task_key, key.attempt, now_s),
        )
        return key

    def recall_attempt(self, key: AttemptKey, *, now_s: float) -> None:
        """Begin an attempt of an open task that the warehouse has and this file knows nothing of.

        The end of an attempt before it, if there was one, is lost for good.
        """
        row = self._db.execute(
            "UPDATE tasks SET state = 'RUNNING', attempts = ?1, retry_at_s = NULL, started_at_s = ?2 WHERE run_id = ?3 "
            "AND task_key = ?4 AND attempts < ?1 AND state <> 'TERMINATED' RETURNING attempts",
            (key.attempt, now_s, key.run_id, key.task_key),
        ).fetchone()
        if row is None:
            return
        self._db.execute(
            "UPDATE attempts SET ended_at_s = ?, outcome = 'died', error = 'how it ended was lost with the ledger''s "
            "last commits' WHERE run_id = ? AND task_key = ? AND outcome IS NULL",
            (now_s, key.run_id, key.task_key),
        )
        self._db.execute(
            "INSERT INTO attempts (run_id, task_key, attempt, started_at_s) VALUES (?, ?, ?, ?)",
            (key.run_id, key.task_key, key.attempt, now_s),
        )

    def end_attempt(
        self, key: AttemptKey, outcome: str, *, stats: Stats | None, error: str | None, now_s: float
    ) -> None:
        """Write down how an attempt ended."""
        did = (
            (stats.rows_in, stats.rows_out, stats.rows_rejected, stats.worked_ms, stats.how, stats.began_s or None)
            if stats
            else (None,) * 6
        )
        self._db.execute(
            "UPDATE attempts SET ended_at_s = ?, outcome = ?, error = ?, rows_in = ?, rows_out = ?, rows_rejected = ?, "
            "worked_ms = ?, how = ?, started_at_s = coalesce(?, started_at_s) "
            "WHERE run_id = ? AND task_key = ? AND attempt = ?",
            (now_s, outcome, error, *did, key.run_id, key.task_key, key.attempt),
        )

    def count_expectations(self, key: AttemptKey, counts: Sequence[ExpectationCount]) -> None:
        """How the rows of a committed attempt did by each expectation of its table."""
        self._db.executemany(
            "INSERT OR REPLACE INTO expectations VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(key.run_id, key.task_key, key.attempt, c.name, c.on_violation, c.passed, c.failed) for c in counts],
        )

    def set_task(
        self,
        run_id: int,
        task_key: str,
        state: TaskState,
        *,
        result: Result | None,
        error: str | None,
        failures: int,
        crashes: int,
        retry_at_s: float | None,
        now_s: float,
    ) -> None:
        """RUNNING -> wherever the decision says."""
        self._db.execute(
            "UPDATE tasks SET state = ?, result = ?, error = ?, failures = ?, crashes = ?, retry_at_s = ?, "
            "ended_at_s = ? WHERE run_id = ? AND task_key = ? AND state = 'RUNNING'",
            (
                state.value,
                result.value if result else None,
                error,
                failures,
                crashes,
                retry_at_s,
                now_s if state is TaskState.TERMINATED else None,
                run_id,
                task_key,
            ),
        )

    def skip_tasks(self, run_id: int, task_keys: Sequence[str], *, now_s: float) -> None:
        """PENDING -> TERMINATED, UPSTREAM_FAILED."""
        self._db.executemany(
            "UPDATE tasks SET state = 'TERMINATED', result = 'UPSTREAM_FAILED', ended_at_s = ? "
            "WHERE run_id = ? AND task_key = ? AND state = 'PENDING'",
            [(now_s, run_id, key) for key in task_keys],
        )


def _run(row: Row) -> RunRow:
    return RunRow(
        run_id=row["run_id"],
        job=row["job"],
        trigger_type=TriggerType(row["trigger_type"]),
        parameters=json.loads(row["parameters"]),
        state=RunState(row["state"]),
        result=Result(row["result"]) if row["result"] else None,
        repairs=row["repairs"],
        queued_at_s=row["queued_at_s"],
        started_at_s=row["started_at_s"],
    )


def _task(row: Row) -> TaskRow:
    return TaskRow(
        task_key=row["task_key"],
        depends_on=tuple(json.loads(row["depends_on"])),
        state=TaskState(row["state"]),
        result=Result(row["result"]) if row["result"] else None,
        attempts=row["attempts"],
        failures=row["failures"],
        crashes=row["crashes"],
        started_at_s=row["started_at_s"],
        retry_at_s=row["retry_at_s"],
        error=row["error"],
    )
