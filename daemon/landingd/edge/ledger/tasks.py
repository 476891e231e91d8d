"""The verbs about the tasks of a run and their attempts.

Each task counts how many of the tasks before it have not ended (`blockers`). The end of a task counts down those behind
it, so what follows from it is found without looking at the whole run, however many tasks it has. SQLite, which does
not know how long a run is, would rather go through all of it in two places: there the index is named.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from landingd.model import AttemptKey, ExpectationCount, Output, Result, RunIf, Stats, TaskState

Row = sqlite3.Row


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task that a run is given."""

    task_key: str
    depends_on: tuple[str, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict[str, str])
    run_if: RunIf = RunIf.ALL_SUCCESS
    disabled: bool = False


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
    run_if: RunIf = RunIf.ALL_SUCCESS
    disabled: bool = False
    parent: str | None = None
    """Of an iteration: its loop."""
    input: str | None = None
    """Of an iteration: JSON."""
    concurrency: int | None = None
    """Of a loop whose iterations have begun."""
    output: str | None = None
    """JSON."""


@dataclass(frozen=True, slots=True)
class UpstreamRow:
    """A task that another one depends on."""

    task_key: str
    state: TaskState
    result: Result | None
    wanted: str | None
    outcome: str | None


class TaskVerbs:
    """What can happen to a task or an attempt, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection

    # -- the tasks of a run --

    def set_tasks(self, run_id: int, tasks: Sequence[TaskEntry]) -> None:
        """Give a run its tasks, or bring them up to the job's definition of today."""
        self._db.executemany(
            "INSERT INTO tasks (run_id, task_key, position, depends_on, run_if, disabled, state, attempts) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'PENDING', coalesce((SELECT max(attempt) FROM attempts "
            "WHERE run_id = ?1 AND task_key = ?2), 0)) ON CONFLICT (run_id, task_key) DO UPDATE SET "
            "depends_on = excluded.depends_on, position = excluded.position, run_if = excluded.run_if, "
            "disabled = excluded.disabled",
            [
                (run_id, t.task_key, position, json.dumps(t.depends_on), t.run_if.value, t.disabled)
                for position, t in enumerate(tasks)
            ],
        )
        self._db.execute("DELETE FROM edges WHERE run_id = ?", (run_id,))
        self._db.executemany(
            "INSERT INTO edges (run_id, upstream, task_key, outcome) VALUES (?, ?, ?, ?)",
            [(run_id, above, t.task_key, t.outcomes.get(above)) for t in tasks for above in t.depends_on],
        )
        self.count_blockers(run_id)

    def count_blockers(self, run_id: int) -> None:
        """Count for each task anew how many of those before it have not ended."""
        self._db.execute(
            "UPDATE tasks SET blockers = coalesce(n, 0) FROM (SELECT below.task_key AS key, "
            "sum(above.task_key IS NOT NULL) AS n FROM tasks AS below "
            "LEFT JOIN edges ON edges.run_id = below.run_id AND edges.task_key = below.task_key "
            "LEFT JOIN tasks AS above ON above.run_id = edges.run_id AND above.task_key = edges.upstream "
            "AND above.state <> 'TERMINATED' WHERE below.run_id = ?1 GROUP BY below.task_key) "
            "WHERE tasks.run_id = ?1 AND tasks.task_key = key",
            (run_id,),
        )

    def keep_results(self, run_id: int) -> None:
        """Keep what each task of an ended run came to, before a repair changes that."""
        self._db.execute(
            "INSERT INTO earlier_results (run_id, repair, task_key, result) SELECT run_id, repairs, task_key, "
            "tasks.result FROM tasks JOIN runs USING (run_id) "
            "WHERE run_id = ? AND parent IS NULL AND tasks.result IS NOT NULL",
            (run_id,),
        )

    def drop_tasks(self, run_id: int, task_keys: Sequence[str]) -> None:
        """Tasks that the job has no more, with their iterations."""
        self._db.executemany(
            "DELETE FROM tasks WHERE run_id = ?1 AND (task_key = ?2 OR parent = ?2)",
            [(run_id, key) for key in task_keys],
        )

    def tasks(self, run_id: int) -> list[TaskRow]:
        """The run's tasks, in the job file's order; without iterations."""
        rows = self._db.execute("SELECT * FROM tasks WHERE run_id = ? AND parent IS NULL ORDER BY position", (run_id,))
        return [_task(row) for row in rows]

    def task(self, run_id: int, task_key: str) -> TaskRow | None:
        """One task or iteration."""
        row = self._db.execute("SELECT * FROM tasks WHERE run_id = ? AND task_key = ?", (run_id, task_key)).fetchone()
        return _task(row) if row else None

    def open_tasks(self, run_id: int) -> list[TaskRow]:
        """Tasks and iterations that have not ended."""
        rows = self._db.execute(
            "SELECT * FROM tasks WHERE run_id = ? AND state <> 'TERMINATED' ORDER BY position", (run_id,)
        )
        return [_task(row) for row in rows]

    def has_open_tasks(self, run_id: int) -> bool:
        """Whether any has not ended."""
        row = self._db.execute(
            "SELECT 1 FROM tasks INDEXED BY tasks_open WHERE run_id = ? AND state <> 'TERMINATED'", (run_id,)
        ).fetchone()
        return row is not None

    def unblocked(self, run_id: int) -> list[str]:
        """Pending tasks that wait for no other task; not iterations."""
        rows = self._db.execute(
            "SELECT task_key FROM tasks WHERE run_id = ? AND state <> 'TERMINATED' AND state = 'PENDING' "
            "AND blockers = 0 AND parent IS NULL ORDER BY position",
            (run_id,),
        )
        return [row["task_key"] for row in rows]

    def release(self, run_id: int, upstream: str) -> list[str]:
        """A task has ended: count down those behind it. Returns those of them that wait for no other any more."""
        rows = self._db.execute(
            "UPDATE tasks SET blockers = blockers - 1 WHERE run_id = ?1 AND task_key IN "
            "(SELECT task_key FROM edges WHERE run_id = ?1 AND upstream = ?2) "
            "RETURNING task_key, blockers, state, position",
            (run_id, upstream),
        ).fetchall()
        free = [row for row in rows if row["blockers"] == 0 and row["state"] == TaskState.PENDING.value]
        return [row["task_key"] for row in sorted(free, key=lambda row: row["position"])]

    def upstreams(self, run_id: int, task_key: str) -> list[UpstreamRow]:
        """How the tasks that this one depends on stand."""
        rows = self._db.execute(
            "SELECT t.task_key, t.state, t.result, e.outcome AS wanted, t.output ->> '$.condition' AS outcome "
            "FROM edges AS e INDEXED BY edges_down JOIN tasks AS t ON t.run_id = e.run_id AND t.task_key = e.upstream "
            "WHERE e.run_id = ? AND e.task_key = ?",
            (run_id, task_key),
        )
        return [
            UpstreamRow(
                row["task_key"],
                TaskState(row["state"]),
                Result(row["result"]) if row["result"] else None,
                row["wanted"],
                row["outcome"],
            )
            for row in rows
        ]

    def others_with(self, run_id: int, job: str, task_keys: Collection[str]) -> list[int]:
        """The other active runs of the job that have yet to end one of these tasks, oldest first."""
        rows = self._db.execute(
            "SELECT run_id FROM runs WHERE job = ?1 AND run_id <> ?2 "
            "AND state IN ('QUEUED', 'RUNNING', 'TERMINATING') AND state <> 'QUEUED' "
            "AND EXISTS (SELECT 1 FROM tasks WHERE tasks.run_id = runs.run_id AND tasks.state <> 'TERMINATED' "
            "AND tasks.task_key IN (SELECT value FROM json_each(?3))) ORDER BY run_id",
            (job, run_id, json.dumps(list(task_keys))),
        )
        return [row["run_id"] for row in rows]

    def has_begun(self, run_id: int, task_keys: Collection[str]) -> bool:
        """Whether the run has begun one of these tasks since it was queued or last repaired."""
        row = self._db.execute(
            "SELECT 1 FROM runs JOIN attempts USING (run_id) WHERE run_id = ?1 AND attempts.repair = runs.repairs "
            "AND task_key IN (SELECT value FROM json_each(?2)) LIMIT 1",
            (run_id, json.dumps(list(task_keys))),
        ).fetchone()
        return row is not None

    # -- attempts --

    def begin_attempt(self, run_id: int, task_key: str, *, now_s: float) -> AttemptKey:
        """PENDING or WAITING_FOR_RETRY -> RUNNING."""
        row = self._db.execute(
            "UPDATE tasks SET state = 'RUNNING', attempts = attempts + 1, retry_at_s = NULL, started_at_s = ? "
            "WHERE run_id = ? AND task_key = ? AND state IN ('PENDING', 'WAITING_FOR_RETRY') RETURNING attempts",
            (now_s, run_id, task_key),
        ).fetchone()
        key = AttemptKey(run_id, task_key, row["attempts"])
        self._note_attempt(key, now_s)
        return key

    def _note_attempt(self, key: AttemptKey, now_s: float) -> None:
        self._db.execute(
            "INSERT INTO attempts (run_id, task_key, attempt, repair, started_at_s) "
            "SELECT ?1, ?2, ?3, repairs, ?4 FROM runs WHERE run_id = ?1",
            (key.run_id, key.task_key, key.attempt, now_s),
        )

    def recall_attempt(self, key: AttemptKey, *, now_s: float) -> None:
        """Begin an attempt of an open task that the warehouse has and this file knows nothing of.

        How those before it ended, of which it does not know the end or anything, is lost for good.
        """
        row = self._db.execute(
            "UPDATE tasks SET state = 'RUNNING', attempts = ?1, retry_at_s = NULL, started_at_s = ?2 WHERE run_id = ?3 "
            "AND task_key = ?4 AND attempts < ?1 AND state <> 'TERMINATED' RETURNING attempts",
            (key.attempt, now_s, key.run_id, key.task_key),
        ).fetchone()
        if row is None:
            return
        known = self._db.execute(
            "SELECT coalesce(max(attempt), 0) AS n FROM attempts WHERE run_id = ? AND task_key = ?",
            (key.run_id, key.task_key),
        ).fetchone()["n"]
        for attempt in range(known + 1, key.attempt):
            self._note_attempt(AttemptKey(key.run_id, key.task_key, attempt), now_s)
        self._db.execute(
            "UPDATE attempts SET ended_at_s = ?, outcome = 'died', error = 'how it ended was lost with the ledger''s "
            "last commits' WHERE run_id = ? AND task_key = ? AND outcome IS NULL",
            (now_s, key.run_id, key.task_key),
        )
        self._note_attempt(key, now_s)

    def note_resolved(self, key: AttemptKey, parameters: Mapping[str, str]) -> None:
        """The parameters that an attempt runs with."""
        self._db.execute(
            "UPDATE attempts SET resolved = ? WHERE run_id = ? AND task_key = ? AND attempt = ?",
            (json.dumps(dict(parameters)), key.run_id, key.task_key, key.attempt),
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
        output: Output | None = None,
    ) -> None:
        """RUNNING -> wherever the decision says."""
        self._db.execute(
            "UPDATE tasks SET state = ?, result = ?, error = ?, failures = ?, crashes = ?, retry_at_s = ?, "
            "ended_at_s = ?, output = ? WHERE run_id = ? AND task_key = ? AND state = 'RUNNING'",
            (
                state.value,
                result.value if result else None,
                error,
                failures,
                crashes,
                retry_at_s,
                now_s if state is TaskState.TERMINATED else None,
                _as_json(output),
                run_id,
                task_key,
            ),
        )

    def end_tasks(
        self, run_id: int, task_keys: Sequence[str], result: Result, *, error: str | None = None, now_s: float
    ) -> None:
        """PENDING or WAITING_FOR_RETRY -> TERMINATED, without an attempt."""
        self._db.executemany(
            "UPDATE tasks SET state = 'TERMINATED', result = ?, error = ?, retry_at_s = NULL, ended_at_s = ? "
            "WHERE run_id = ? AND task_key = ? AND state IN ('PENDING', 'WAITING_FOR_RETRY')",
            [(result.value, error, now_s, run_id, key) for key in task_keys],
        )

    # -- what tasks leave for each other --

    def outputs(self, run_id: int, task_keys: Collection[str]) -> dict[str, TaskRow]:
        """Tasks with their outputs, by key."""
        rows = self._db.execute(
            "SELECT * FROM tasks WHERE run_id = ? AND task_key IN (SELECT value FROM json_each(?))",
            (run_id, json.dumps(list(task_keys))),
        )
        return {row["task_key"]: _task(row) for row in rows}


_OUTPUT_FIELDS = tuple(one.name for one in fields(Output))


def _as_json(output: Output | None) -> str | None:
    """Without what was left empty; None where that is all."""
    if output is None or output == Output():
        return None
    left = {name: getattr(output, name) for name in _OUTPUT_FIELDS}  # `asdict` would copy all that is in it
    return json.dumps({name: value for name, value in left.items() if value not in (None, False, "", (), {})})


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
        run_if=RunIf(row["run_if"]),
        disabled=bool(row["disabled"]),
        parent=row["parent"],
        input=row["input"],
        concurrency=row["concurrency"],
        output=row["output"],
    )
