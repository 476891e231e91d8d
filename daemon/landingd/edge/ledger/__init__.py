"""The ledger: one SQLite file, one thread, and verbs that carry exactly their data.

A verb that moves a state names the state it moves from, so that a decision applies only to what it was made on.
Transactions are opened by `flow.books`: read, decide and record are one hop to this thread.

Commits are not synced to the disk one by one. What must survive a power cut is made durable in two other ways: the
commit that forms a run is synced (`Ledger.durably`), so no id is ever handed out twice; and what a task did is in the
warehouse, in the same transaction as the data, from where recovery takes it.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from landingd.errors import LandingdError
from landingd.model import (
    Arrival,
    AttemptKey,
    FileLoad,
    FileRef,
    FileState,
    Result,
    RunState,
    Signature,
    Stats,
    TaskState,
    TriggerType,
    shown,
)

T = TypeVar("T")
SCHEMA_VERSION = 1
Row = sqlite3.Row
_KNOWN = "file_id, content_hash, state, size, mtime_ns, ctime_ns, inode, device"


class LedgerError(LandingdError):
    """The ledger file is not one that this version can use."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell: `topic` below `<root>/<node>/`, `payload` JSON-ready with its `event_id`."""

    topic: str
    payload: Mapping[str, Any]


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
class KnownFile:
    """The newest version of a path that the ledger knows."""

    file_id: int
    content_hash: str
    state: FileState
    signature: Signature


class Ledger:
    """The verbs. Every method runs on the ledger's thread, inside a transaction that the caller opened."""

    def __init__(self, connection: sqlite3.Connection, *, keep_notices: bool) -> None:
        self._db = connection
        self._keep_notices = keep_notices

    # -- files --

    def known_files(self, job: str) -> dict[bytes, KnownFile]:
        """The newest complete version of each path of a job that has not given way."""
        rows = self._db.execute(
            f"SELECT path, {_KNOWN} FROM files WHERE job = ? AND state <> 'replaced' AND content_hash IS NOT NULL "
            "ORDER BY file_id",
            (job,),
        )
        return {row["path"]: _known(row) for row in rows}

    def newest(self, job: str, path: bytes) -> KnownFile | None:
        """The newest complete version of one path that has not given way."""
        row = self._db.execute(
            f"SELECT {_KNOWN} FROM files WHERE path = ? AND job = ? AND state <> 'replaced' "
            "AND content_hash IS NOT NULL ORDER BY file_id DESC LIMIT 1",
            (path, job),
        ).fetchone()
        return _known(row) if row else None

    def add_waiting(self, job: str, path: bytes, signature: Signature, *, reason: str, now_s: float) -> None:
        """A file is seen and not complete: one row per path, its reason kept current."""
        self._db.execute(
            "INSERT INTO files (job, path, name, state, reason, size, mtime_ns, ctime_ns, inode, device, seen_at_s) "
            "VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (job, path) WHERE state = 'waiting' DO UPDATE SET reason = excluded.reason "
            "WHERE content_hash IS NULL",
            (job, path, shown(path), reason, *_signature(signature), now_s),
        )

    def forget_waiting(self, job: str, path: bytes) -> None:
        """A file went away before it was complete."""
        self._db.execute(
            "DELETE FROM files WHERE job = ? AND path = ? AND state = 'waiting' AND content_hash IS NULL",
            (job, path),
        )

    def incomplete(self, job: str) -> list[bytes]:
        """Paths that are waited for."""
        rows = self._db.execute(
            "SELECT path FROM files WHERE job = ? AND state = 'waiting' AND content_hash IS NULL", (job,)
        )
        return [row["path"] for row in rows]

    def add_version(self, arrival: Arrival) -> int:
        """A complete version enters as waiting; the row of its own wait becomes it. Returns its file id."""
        values = (
            arrival.content_hash,
            arrival.evidence,
            arrival.records,
            *_signature(arrival.signature),
            arrival.complete_s,
        )
        row = self._db.execute(
            "UPDATE files SET content_hash = ?, evidence = ?, records = ?, size = ?, mtime_ns = ?, ctime_ns = ?, "
            "inode = ?, device = ?, complete_at_s = ?, reason = 'complete; waiting for a run' "
            "WHERE job = ? AND path = ? AND state = 'waiting' AND content_hash IS NULL RETURNING file_id",
            (*values, arrival.job, arrival.path),
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "INSERT INTO files (content_hash, evidence, records, size, mtime_ns, ctime_ns, inode, device, "
                "complete_at_s, reason, state, job, path, name, seen_at_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'complete; waiting for a run', 'waiting', ?, ?, ?, ?) "
                "RETURNING file_id",
                (*values, arrival.job, arrival.path, shown(arrival.path), arrival.seen_s),
            ).fetchone()
        return int(row["file_id"])

    def note_duplicate(self, file_id: int, signature: Signature, *, came_again: bool) -> None:
        """The same bytes again under the same path: remember what stat says now, so as not to hash them again."""
        self._db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?, duplicates = duplicates + ? "
            "WHERE file_id = ?",
            (*_signature(signature), int(came_again), file_id),
        )

    def replace(self, file_id: int, *, reason: str) -> None:
        """A version that was loaded or waiting gives way to a newer one."""
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = ? WHERE file_id = ? AND state IN ('waiting', 'loaded')",
            (reason, file_id),
        )

    def quarantine(self, file_id: int, *, reason: str) -> None:
        """A waiting version cannot be loaded."""
        self._db.execute(
            "UPDATE files SET state = 'quarantined', reason = ? WHERE file_id = ? AND state = 'waiting'",
            (reason, file_id),
        )

    def load(self, key: AttemptKey, load: FileLoad, *, now_s: float) -> list[int]:
        """A version's rows are in a task's table. Returns the older versions whose rows left it for that."""
        gone = self.replaced_by(load.file_id, key.task_key)
        self._db.executemany(
            "DELETE FROM loads WHERE file_id = ? AND task_key = ?",
            [(file_id, key.task_key) for file_id in gone],
        )
        self._db.execute(
            "INSERT OR REPLACE INTO loads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                load.file_id,
                key.task_key,
                key.run_id,
                key.attempt,
                load.rows_in,
                load.rows_loaded,
                load.rows_rejected,
                now_s,
            ),
        )
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = 'replaced by file ' || ?1 WHERE state = 'loaded' "
            "AND file_id < ?1 AND (job, path) = (SELECT job, path FROM files WHERE file_id = ?1)",
            (load.file_id,),
        )
        self._db.execute(
            "UPDATE files SET state = 'loaded', reason = '', loaded_at_s = ? WHERE file_id = ? AND state = 'waiting'",
            (now_s, load.file_id),
        )
        return gone

    def replaced_by(self, file_id: int, task_key: str) -> list[int]:
        """Older versions of the same path whose rows are in a task's table."""
        rows = self._db.execute(
            "SELECT l.file_id FROM files f "
            "JOIN files old ON old.path = f.path AND old.job = f.job AND old.file_id < f.file_id "
            "JOIN loads l ON l.file_id = old.file_id AND l.task_key = ? WHERE f.file_id = ?",
            (task_key, file_id),
        )
        return [row["file_id"] for row in rows]

    def file(self, file_id: int) -> Row:
        """One version."""
        row: Row = self._db.execute("SELECT * FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return row

    def pending_files(self, job: str, limit: int) -> list[int]:
        """Complete versions that no run has taken, oldest first."""
        rows = self._db.execute(
            "SELECT file_id FROM files WHERE job = ? AND state = 'waiting' AND run_id IS NULL "
            "AND content_hash IS NOT NULL ORDER BY file_id LIMIT ?",
            (job, limit),
        )
        return [row["file_id"] for row in rows]

    def file_counts(self, job: str) -> dict[str, int]:
        """How many versions of a job stand in each state."""
        rows = self._db.execute("SELECT state, count(*) AS n FROM files WHERE job = ? GROUP BY state", (job,))
        return {row["state"]: row["n"] for row in rows}

    # -- runs --

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
        """Accept a trigger key: a queued run with its tasks and files. None if the key was accepted before."""
        row = self._db.execute(
            "INSERT INTO runs (job, trigger_type, trigger_key, parameters, state, queued_at_s) "
            "VALUES (?, ?, ?, ?, 'QUEUED', ?) ON CONFLICT (job, trigger_key) DO NOTHING RETURNING run_id",
            (job, trigger_type.value, trigger_key, json.dumps(dict(parameters)), now_s),
        ).fetchone()
        if row is None:
            return None
        run_id = int(row["run_id"])
        self.set_tasks(run_id, tasks)
        self._db.executemany("INSERT INTO run_files VALUES (?, ?)", [(run_id, file_id) for file_id in file_ids])
        self._db.executemany(
            "UPDATE files SET run_id = ?, reason = 'in run ' || ? WHERE file_id = ?",
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
            "UPDATE files SET reason = 'run ' || ?1 || "
            "CASE WHEN ?2 = 'SUCCESS' THEN ' has seen it; no task of it loads files' "
            "ELSE ' ended ' || ?2 || ' before it was loaded; landingd repair ' || ?1 END "
            "WHERE run_id = ?1 AND state = 'waiting'",
            (run_id, result.value),
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
            "coalesce(sum(rows_rejected), 0) AS rows_rejected FROM loads WHERE run_id = ?",
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

    def files_to_load(self, run_id: int) -> list[FileRef]:
        """The run's versions that may be loaded: not replaced by a newer one, not quarantined."""
        rows = self._db.execute(
            "SELECT f.* FROM run_files r JOIN files f USING (file_id) "
            "WHERE r.run_id = ? AND f.state IN ('waiting', 'loaded') ORDER BY file_id",
            (run_id,),
        )
        return [
            FileRef(row["file_id"], row["path"], row["content_hash"], _signature_of(row), row["records"])
            for row in rows
        ]

    # -- tasks and attempts --

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

    # -- outbox --

    def tell(self, notices: Iterable[Notice]) -> None:
        """Queue notices; one that is queued already (the same event) stays as it is."""
        if not self._keep_notices:
            return
        self._db.executemany(
            "INSERT INTO outbox (event_id, topic, payload) VALUES (?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
            [(n.payload["event_id"], n.topic, json.dumps(n.payload, separators=(",", ":"))) for n in notices],
        )

    def untold(self, limit: int) -> list[tuple[int, str, str]]:
        """The oldest notices: `(seq, topic, payload)`."""
        rows = self._db.execute("SELECT seq, topic, payload FROM outbox ORDER BY seq LIMIT ?", (limit,))
        return [(row["seq"], row["topic"], row["payload"]) for row in rows]

    def told(self, seq_max: int) -> None:
        """The broker has acknowledged every notice up to this one."""
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (seq_max,))

    def trim_outbox(self, keep: int) -> int:
        """Drop the oldest notices above `keep`; returns how many were dropped."""
        cursor = self._db.execute("DELETE FROM outbox WHERE seq <= (SELECT max(seq) FROM outbox) - ?", (keep,))
        return cursor.rowcount

    def outbox_size(self) -> int:
        """How many notices wait for the broker."""
        return int(self._db.execute("SELECT count(*) AS n FROM outbox").fetchone()["n"])

    # -- ids --

    def never_below(self, *, run_id: int, file_id: int) -> None:
        """Ids that the warehouse has seen are never handed out again, whatever became of this file."""
        for table, least in (("runs", run_id), ("files", file_id)):
            self._db.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS "
                "(SELECT 1 FROM sqlite_sequence WHERE name = ?)",
                (table, table),
            )
            self._db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (least, table))


class LedgerThread:
    """The connection and the one thread that may use it. Without `keep_notices` nothing enters the outbox."""

    def __init__(self, path: Path, *, keep_notices: bool = True) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._db = self._thread.submit(_connect, path).result()
        self._ledger = Ledger(self._db, keep_notices=keep_notices)

    async def transact(self, verbs: Callable[[Ledger], T], *, durably: bool = False) -> T:
        """Run these verbs in one transaction and return what they return; nothing stays if they raise.

        `durably`: the commit is on the disk, with every one before it, when this returns.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, verbs, durably)

    def _transact(self, verbs: Callable[[Ledger], T], durably: bool) -> T:  # noqa: FBT001 -- executor call
        if durably:
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = verbs(self._ledger)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result
        finally:
            if durably:
                self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file; blocks until running calls have ended."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA busy_timeout = 10000")
    db.execute("PRAGMA foreign_keys = ON")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        db.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
    elif version != SCHEMA_VERSION:
        db.close()
        raise LedgerError(
            f"{path}: written by another version of landingd (ledger schema {version}, this one has {SCHEMA_VERSION})"
        )
    return db


def _signature(s: Signature) -> tuple[int, int, int, int, int]:
    return (s.size, s.mtime_ns, s.ctime_ns, _signed(s.inode), _signed(s.device))


def _signed(number: int) -> int:
    """SQLite's integers are signed; some file systems use all 64 bits of an inode number."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _signature_of(row: Row) -> Signature:
    mask = (1 << 64) - 1
    return Signature(row["size"], row["mtime_ns"], row["ctime_ns"], row["inode"] & mask, row["device"] & mask)


def _known(row: Row) -> KnownFile:
    return KnownFile(row["file_id"], row["content_hash"], FileState(row["state"]), _signature_of(row))


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
