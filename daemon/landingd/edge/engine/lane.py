"""The write lane: one attempt is one transaction, on one thread, with nothing left behind where it fails."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from landingd.edge.engine import csvload, tables
from landingd.edge.engine.commits import committed_stats, message
from landingd.edge.engine.csvload import FileChecks
from landingd.edge.engine.remembered import Remembered
from landingd.errors import EngineError
from landingd.model import (
    Committed,
    Failed,
    FileLoad,
    IngestPlan,
    Interrupted,
    Outcome,
    Plan,
    ScriptPlan,
    Stats,
    TablePlan,
)

_PERMANENT = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.NotImplementedException,
    duckdb.PermissionException,
)


class EngineBrokenError(Exception):
    """DuckDB has invalidated the database (a failed checkpoint, a full disk): the process must start anew."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try of a transaction."""

    plan: Plan
    checks: FileChecks
    remembered: Remembered
    now: datetime
    unreadable: Mapping[int, str] = field(default_factory=dict[int, str])
    """Files that made an earlier try fail, and why."""


class WriteLane:
    """Everything that writes. Its methods run on one thread; only `interrupt` may be called from another."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, scratch: Path) -> None:
        self._cursor = cursor
        self._scratch = scratch
        self._commit_gate = threading.Lock()
        self._interruptible = False
        self.remembered: Remembered | None = Remembered.read(cursor)

    def attempt(self, plan: Plan, checks: FileChecks) -> Outcome:
        """Carry out a plan; raises nothing but EngineBrokenError."""
        try:
            return self._without_unreadable_files(plan, checks)
        except duckdb.InterruptException:
            return Interrupted(crashed=False)
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except EngineError as error:
            return Failed(str(error), permanent=error.permanent)
        except duckdb.Error as error:
            return Failed(message(error), permanent=isinstance(error, _PERMANENT))

    def interrupt(self) -> None:
        """Interrupt the attempt, unless it is committing: what an interrupted COMMIT did nobody could tell."""
        with self._commit_gate:
            if self._interruptible:
                self._cursor.interrupt()

    def close(self) -> None:
        """Close the lane's connection."""
        self._cursor.close()

    def checkpoint(self) -> bool:
        """Fold the log into the database; false if a reader stands in the way, then the next idle moment will do."""
        try:
            self._cursor.execute("CHECKPOINT").fetchall()
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except duckdb.Error:
            return False
        return True

    # -- one transaction --

    def _without_unreadable_files(self, plan: Plan, checks: FileChecks) -> Outcome:
        """Run the transaction; where a file makes it fail, find that file and run it again without."""
        unreadable: dict[int, str] = {}
        while True:
            remembered = self.remembered or Remembered.read(self._cursor)
            now = datetime.now(UTC).replace(tzinfo=None)
            try:
                return self._transaction(_Attempt(plan, checks, remembered, now, unreadable))
            except csvload.FILE_FAULTS:
                more = self._culprits(plan, unreadable) if isinstance(plan, IngestPlan) else {}
                if not more:
                    raise
                unreadable |= more

    def _transaction(self, attempt: _Attempt) -> Outcome:
        # What is remembered changes with the data; until the commit is through it may be wrong.
        self.remembered = None
        self._cursor.execute("BEGIN").fetchall()
        self._interruptible = True
        try:
            stats = self._work(attempt)
            self._write_commit(attempt, stats)
        except BaseException:
            self._close_gate()
            with suppress(duckdb.Error):
                self._cursor.execute("ROLLBACK").fetchall()
            raise
        self._close_gate()
        try:
            self._cursor.execute("COMMIT").fetchall()
        except duckdb.Error as error:
            return self._after_unclear_commit(attempt, error)
        if not isinstance(attempt.plan, ScriptPlan):
            self.remembered = attempt.remembered
        return Committed(stats)

    def _close_gate(self) -> None:
        with self._commit_gate:
            self._interruptible = False

    def _work(self, attempt: _Attempt) -> Stats:
        match attempt.plan:
            case IngestPlan() as plan:
                return self._ingest(attempt, _without(plan, attempt.unreadable))
            case TablePlan() as plan:
                return tables.refresh(self._cursor, plan, attempt.remembered)
            case ScriptPlan() as plan:
                return tables.run_script(self._cursor, plan)

    def _ingest(self, attempt: _Attempt, plan: IngestPlan) -> Stats:
        with self._reading() as reading:
            loading = csvload.Loading(self._cursor, plan, reading, attempt.checks, attempt.remembered)
            csvload.load(loading)
            csvload.record_loads(loading, attempt.now)
        unreadable = [FileLoad(file_id, quarantined=reason) for file_id, reason in attempt.unreadable.items()]
        files = (*loading.loads.values(), *unreadable, *plan.unusable)
        kept = [f for f in files if f.loaded]
        return Stats(
            rows_in=sum(f.rows_in for f in kept),
            rows_out=sum(f.rows_loaded for f in kept),
            rows_rejected=sum(f.rows_rejected for f in kept),
            how=f"load {len(kept)} file{'' if len(kept) == 1 else 's'}",
            files=files,
        )

    def _culprits(self, plan: IngestPlan, unreadable: Mapping[int, str]) -> dict[int, str]:
        with self._reading() as reading:
            remembered = Remembered.read(self._cursor)
            loading = csvload.Loading(self._cursor, plan, reading, NO_CHECKS, remembered)
            self._interruptible = True
            try:
                return csvload.culprits(loading, _without(plan, unreadable).files)
            finally:
                self._close_gate()

    @contextmanager
    def _reading(self) -> Iterator[Path]:
        """An empty directory for the links of one ingest."""
        reading = self._scratch / "reading"
        reading.mkdir(parents=True, exist_ok=True)
        try:
            yield reading
        finally:
            for link in reading.iterdir():
                link.unlink()

    def _write_commit(self, attempt: _Attempt, stats: Stats) -> None:
        # No single commit covers the warehouse and the ledger. The transaction that changes the data also writes
        # this row; after a crash it is the truth, and the ledger is made to agree.
        plan = attempt.plan
        self._cursor.execute(
            "INSERT INTO meta.commits VALUES ($run_id, $task_key, $attempt, $job, $table, $stats, $at)",
            {
                "run_id": plan.key.run_id,
                "task_key": plan.key.task_key,
                "attempt": plan.key.attempt,
                "job": plan.job,
                "table": None if isinstance(plan, ScriptPlan) else plan.table,
                "stats": json.dumps(asdict(stats)),
                "at": attempt.now,
            },
        ).fetchall()

    def _after_unclear_commit(self, attempt: _Attempt, error: duckdb.Error) -> Outcome:
        if isinstance(error, duckdb.FatalException):
            raise EngineBrokenError(str(error)) from error
        with suppress(duckdb.Error):
            self._cursor.execute("ROLLBACK").fetchall()
        found = committed_stats(self._cursor, [attempt.plan.key])
        stats = found.get(attempt.plan.key)
        return Failed(message(error)) if stats is None else Committed(stats)


NO_CHECKS = FileChecks(recount=lambda file: file.rows_in or 0, changed=lambda _: False)
"""For plans that load no files."""


def _without(plan: IngestPlan, file_ids: Mapping[int, str]) -> IngestPlan:
    return replace(plan, files=tuple(f for f in plan.files if f.file_id not in file_ids)) if file_ids else plan
