"""The verbs about runs: accepted once, started, ended, repaired."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landingd.model import Result, RunRequest, RunState, TriggerType, loop_of

Row = sqlite3.Row
_OPEN = "state IN ('QUEUED', 'RUNNING', 'TERMINATING')"


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
    trigger: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    only: tuple[str, ...] = ()
    priority: int = 0
    parent: tuple[int, str] | None = None
    depth: int = 0
    has_files: bool = False
    ending: Result | None = None
    """Of a TERMINATING run: the result that it will have."""
    error: str | None = None
    resumed_at_s: float | None = None
    """When it was last started, first or by a repair."""


class RunVerbs:
    """What can happen to a run, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection
    ended: list[int]
    """Runs that were ended in this transaction."""

    def add_run(
        self,
        job: str,
        request: RunRequest,
        *,
        parameters: Mapping[str, str],
        file_ids: Sequence[int],
        now_s: float,
        priority: int = 0,
    ) -> int | None:
        """Accept a trigger key: a queued run with its files, each for what is wanted of it.

        None if the key was accepted before.
        """
        parent_id, parent_key = request.parent or (None, None)
        row = self._db.execute(
            "INSERT INTO runs (job, trigger_type, trigger_key, trigger_name, trigger_info, parameters, only_tasks, "
            "priority, parent_run_id, parent_task_key, depth, has_files, state, queued_at_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'QUEUED', ?) "
            "ON CONFLICT (job, trigger_key) DO NOTHING RETURNING run_id",
            (
                job,
                request.trigger_type.value,
                request.key,
                request.trigger,
                json.dumps(dict(request.info)),
                json.dumps(dict(parameters)),
                json.dumps(list(request.only)) if request.only else None,
                priority,
                parent_id,
                parent_key,
                request.depth,
                bool(file_ids),
                now_s,
            ),
        ).fetchone()
        if row is None:
            return None
        self._give_files(int(row["run_id"]), file_ids)
        return int(row["run_id"])

    def _give_files(self, run_id: int, file_ids: Sequence[int]) -> None:
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

    def skip_run(self, run_id: int, result: Result, *, error: str, now_s: float) -> None:
        """QUEUED -> SKIPPED: there was no room, and it may not wait."""
        self._db.execute(
            "UPDATE runs SET state = 'SKIPPED', result = ?, error = ?, ended_at_s = ? "
            "WHERE run_id = ? AND state = 'QUEUED'",
            (result.value, error, now_s, run_id),
        )
        self.ended.append(run_id)

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

    def open_runs(self, job: str | None = None) -> list[RunRow]:
        """Runs that have not ended, of all jobs or of one, oldest first."""
        of_job = "" if job is None else "AND job = ?"
        rows = self._db.execute(
            f"SELECT * FROM runs WHERE {_OPEN} {of_job} ORDER BY run_id", () if job is None else (job,)
        )
        return [_run(row) for row in rows]

    def active_runs(self, job: str) -> list[RunRow]:
        """Runs of a job that have begun and not ended, oldest first."""
        rows = self._db.execute(
            f"SELECT * FROM runs WHERE job = ? AND {_OPEN} AND state <> 'QUEUED' ORDER BY run_id", (job,)
        )
        return [_run(row) for row in rows]

    def open_children(self, run_id: int, *, of_loop: str | None = None) -> list[int]:
        """Runs that have not ended and that run_job tasks of this run, or iterations of this loop, have started."""
        rows = self._db.execute(
            f"SELECT run_id FROM runs WHERE parent_run_id = ?1 AND {_OPEN} AND (?2 IS NULL OR EXISTS (SELECT 1 "
            "FROM tasks WHERE tasks.run_id = ?1 AND task_key = parent_task_key AND parent = ?2))",
            (run_id, of_loop),
        )
        return [row["run_id"] for row in rows]

    def next_queued(self, job: str, *, without_files: bool, inner_only: bool) -> RunRow | None:
        """The most urgent of the runs that wait, and of these the oldest.

        `inner_only`: only those that a task of another run waits for.
        """
        row = self._db.execute(
            f"SELECT * FROM runs WHERE job = ? AND {_OPEN} AND state = 'QUEUED' AND (NOT ? OR NOT has_files) "
            f"AND (NOT ? OR depth > 0) ORDER BY priority DESC, run_id LIMIT 1",
            (job, without_files, inner_only),
        ).fetchone()
        return _run(row) if row else None

    def count_open(self, job: str) -> tuple[int, int]:
        """How many runs of a job are active, and how many wait."""
        row = self._db.execute(
            f"SELECT count(*) FILTER (WHERE state <> 'QUEUED') AS active, "
            f"count(*) FILTER (WHERE state = 'QUEUED') AS queued FROM runs WHERE job = ? AND {_OPEN}",
            (job,),
        ).fetchone()
        return row["active"], row["queued"]

    def has_open_file_run(self, job: str) -> bool:
        """Whether a run with files has not ended: the next one waits, or versions of a path could overtake."""
        row = self._db.execute(f"SELECT 1 FROM runs WHERE job = ? AND {_OPEN} AND has_files", (job,)).fetchone()
        return row is not None

    def last_run_start_s(self, job: str, trigger_type: TriggerType, trigger: str | None = None) -> float | None:
        """When the job's newest run of this kind of trigger, or of this one, was queued."""
        which = "job = ?1 AND trigger_type = ?2 AND (?3 IS NULL OR trigger_name = ?3)"
        row = self._db.execute(
            f"SELECT max(s) AS s FROM (SELECT max(queued_at_s) AS s FROM runs WHERE {_OPEN} AND {which} UNION ALL "
            f"SELECT * FROM (SELECT queued_at_s FROM runs WHERE ended_at_s IS NOT NULL AND {which} "
            f"ORDER BY run_id DESC LIMIT 1))",
            (job, trigger_type.value, trigger),
        ).fetchone()
        return row["s"] if row else None

    def start_run(self, run_id: int, *, now_s: float) -> None:
        """QUEUED -> RUNNING."""
        self._db.execute(
            "UPDATE runs SET state = 'RUNNING', started_at_s = coalesce(started_at_s, ?1), resumed_at_s = ?1 "
            "WHERE run_id = ?2 AND state = 'QUEUED'",
            (now_s, run_id),
        )
        self._db.execute(
            "UPDATE repairs SET started_at_s = ?1 WHERE run_id = ?2 AND started_at_s IS NULL", (now_s, run_id)
        )

    def terminate_run(self, run_id: int, ending: Result, *, error: str) -> None:
        """RUNNING -> TERMINATING: what runs is to be broken off."""
        self._db.execute(
            "UPDATE runs SET state = 'TERMINATING', ending = ?, error = ? WHERE run_id = ? AND state = 'RUNNING'",
            (ending.value, error, run_id),
        )

    def end_run(self, run_id: int, result: Result, *, error: str | None, now_s: float) -> None:
        """RUNNING, TERMINATING or QUEUED (canceled before it began) -> TERMINATED.

        Files that it did not get to load say so.
        """
        self._db.execute(
            f"UPDATE runs SET state = 'TERMINATED', result = ?1, error = ?2, ended_at_s = ?3, ending = NULL, "
            f"worked_s = worked_s + iif(state = 'QUEUED', 0, ?3 - coalesce(resumed_at_s, ?3)) "
            f"WHERE run_id = ?4 AND {_OPEN}",
            (result.value, error, now_s, run_id),
        )
        self._db.execute(
            "UPDATE repairs SET ended_at_s = ?, result = ? WHERE run_id = ? AND ended_at_s IS NULL",
            (now_s, result.value, run_id),
        )
        self.ended.append(run_id)
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

    def offer_again(self, run_id: int) -> None:
        """What a run that ends has not done with its files is wanted of the next one."""
        self._db.execute(
            "UPDATE files SET wanted = (SELECT action FROM run_files WHERE run_files.run_id = ?1 "
            "AND run_files.file_id = files.file_id) WHERE run_id = ?1 AND wanted IS NULL AND content_hash IS NOT NULL "
            "AND state = 'waiting' AND (leaving OR presence IN ('present', 'archived'))",
            (run_id,),
        )

    def repair_run(
        self,
        run_id: int,
        task_keys: Sequence[str],
        *,
        now_s: float,
        parameters: Mapping[str, str] | None = None,
        given: Mapping[str, str] | None = None,
    ) -> int:
        """TERMINATED -> QUEUED, the named tasks, and the loops of named iterations, -> PENDING.

        Returns the number of this repair. `parameters` take the place of the run's; `given`: those of them that were
        asked for now.
        """
        row = self._db.execute(
            "UPDATE runs SET state = 'QUEUED', result = NULL, error = NULL, ended_at_s = NULL, repairs = repairs + 1, "
            "parameters = json_patch(parameters, ?) WHERE run_id = ? AND state = 'TERMINATED' RETURNING repairs",
            (json.dumps(dict(parameters or {})), run_id),
        ).fetchone()
        self._db.executemany(
            "UPDATE tasks SET state = 'PENDING', result = NULL, error = NULL, output = NULL, failures = 0, "
            "concurrency = NULL, crashes = 0, retry_at_s = NULL, ended_at_s = NULL "
            "WHERE run_id = ? AND task_key = ? AND state IN ('TERMINATED', 'PENDING')",
            [(run_id, loop_of(key) or key) for key in task_keys],
        )
        self._db.execute(
            "INSERT INTO repairs (run_id, repair, requested_at_s, tasks, parameters) VALUES (?, ?, ?, ?, ?)",
            (
                run_id,
                row["repairs"],
                now_s,
                json.dumps(list(task_keys)),
                json.dumps(dict(given)) if given else None,
            ),
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
        trigger=row["trigger_name"],
        info=json.loads(row["trigger_info"]),
        only=tuple(json.loads(row["only_tasks"] or "[]")),
        priority=row["priority"],
        parent=(row["parent_run_id"], row["parent_task_key"]) if row["parent_run_id"] is not None else None,
        depth=row["depth"],
        has_files=bool(row["has_files"]),
        ending=Result(row["ending"]) if row["ending"] else None,
        error=row["error"],
        resumed_at_s=row["resumed_at_s"],
    )
