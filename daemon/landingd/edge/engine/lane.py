"""The write lane: attempts in transactions, on one thread, with nothing left behind where one fails.

Mostly one attempt is one transaction. The attempts of a small run may share one: its commits would cost more than its
statements, and readers then see the layers move together.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from landingd.edge.engine import loading, statements, tables
from landingd.edge.engine.calls import Call
from landingd.edge.engine.commits import committed_stats, forget_commits, write_commits
from landingd.edge.engine.computing import Computing, Usual
from landingd.edge.engine.faults import PERMANENT, EngineBrokenError, message
from landingd.edge.engine.loading import FileChecks
from landingd.edge.engine.remembered import Remembered
from landingd.errors import EngineError
from landingd.model import (
    Failed,
    FileLoad,
    IngestPlan,
    Interrupted,
    Outcome,
    Plan,
    PythonPlan,
    ScriptPlan,
    SourceFile,
    Stats,
    TablePlan,
)


@dataclass(frozen=True, slots=True)
class _Try:
    """One try of a transaction."""

    plans: Sequence[Plan]
    checks: FileChecks
    remembered: Remembered
    now: datetime
    keep_rejects: bool
    call: Call | None
    """Of a Python task, which is alone in its transaction."""
    learnt: Mapping[str, "_Learnt"] = field(default_factory=dict[str, "_Learnt"])
    """What earlier tries showed, by table."""


@dataclass(slots=True)
class _Learnt:
    """What a try that was rolled back has shown of one table's files."""

    settled: dict[int, FileLoad] = field(default_factory=dict[int, FileLoad])
    """Files that cannot be loaded, and why."""
    widened: dict[str, str] = field(default_factory=dict[str, str])
    """Columns that need a wider type, and which."""


class WriteLane:
    """Everything that writes. Its methods run on one thread; only `interrupt` may be called from another."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, scratch: Path, usual: Usual) -> None:
        self._cursor = cursor
        self._computing = Computing(cursor, usual)
        self._scratch = scratch
        self._commit_gate = threading.Lock()
        self._interruptible = False
        remembered = Remembered.read(cursor)
        self.remembered: Remembered | None = remembered
        self.known_columns: dict[str, tuple[str, ...]] = {}
        """Every table's column names at the last commit, for readers on other threads."""
        self._publish_columns(remembered)
        self._dirty: set[str] = set()
        """Tables whose files have had rows that do not parse: for them the reader keeps rejects from the start."""

    def attempt(self, plans: Sequence[Plan], checks: FileChecks, call: Call | None = None) -> Sequence[Stats] | Outcome:
        """Carry out the plans, all of one job, in one transaction: what each did, or why nothing of them stayed.

        Raises nothing but EngineBrokenError.
        """
        try:
            with self._computing.of(plans[0].compute):
                return self._without_unreadable_files(plans, checks, call)
        except duckdb.InterruptException:
            return Interrupted(crashed=False)
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except EngineError as error:
            return Failed(str(error), permanent=error.permanent)
        except duckdb.OutOfMemoryException as error:
            # One of the files may hold a value that is larger than all memory; the others need not suffer from it.
            reads_files = any(isinstance(plan, IngestPlan) and plan.files for plan in plans)
            return Failed(message(error), isolate=reads_files)
        except duckdb.Error as error:
            return Failed(message(error), permanent=isinstance(error, PERMANENT))

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

    def forget_commits(self, before_run_id: int, keep: Collection[int]) -> int:
        """Delete the commit rows of old runs; how many."""
        try:
            return forget_commits(self._cursor, before_run_id=before_run_id, keep=keep)
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except duckdb.Error as error:
            raise EngineError(message(error), permanent=False) from error

    # -- one transaction --

    def _without_unreadable_files(
        self, plans: Sequence[Plan], checks: FileChecks, call: Call | None
    ) -> Sequence[Stats] | Outcome:
        """Run the transaction; where it has to begin anew, again, knowing what the last try has shown."""
        learnt: dict[str, _Learnt] = {plan.table: _Learnt() for plan in plans if isinstance(plan, IngestPlan)}
        nobody_blamed = False
        while True:
            if self.remembered is None:
                self.remembered = Remembered.read(self._cursor)
            remembered = self.remembered.copy()
            now = datetime.now(UTC).replace(tzinfo=None)
            keep_rejects = not self._dirty.isdisjoint(learnt)
            try:
                return self._transaction(_Try(plans, checks, remembered, now, keep_rejects, call, learnt))
            except _TableTryAgainError as again:
                learnt[again.table].settled |= again.cause.settled
                learnt[again.table].widened |= again.cause.widened
            except loading.FILE_FAULTS:
                if learnt and not keep_rejects:
                    self._dirty |= learnt.keys()
                elif not self._learn_culprits(plans, learnt, checks):
                    # All can be read now: a folder was away for a moment, or a disk. Twice is no moment.
                    if nobody_blamed:
                        raise
                    nobody_blamed = True

    def _transaction(self, attempt: _Try) -> Sequence[Stats] | Outcome:
        # What is remembered changes with the data, in a copy; until the transaction has ended, well or not, either may
        # be wrong, and where its end is not clear both are given up.
        before, self.remembered = self.remembered, None
        self._cursor.execute("BEGIN").fetchall()
        self._interruptible = True
        try:
            stats = [self._timed_work(attempt, plan) for plan in attempt.plans]
            # No single commit covers the warehouse and the ledger. The transaction that changes the data also writes
            # these rows; after a crash they are the truth, and the ledger is made to agree.
            write_commits(self._cursor, attempt.plans, stats, attempt.now)
        except BaseException:
            self._close_gate()
            with suppress(duckdb.Error):
                self._cursor.execute("ROLLBACK").fetchall()
                self.remembered = before
            raise
        self._close_gate()
        try:
            self._cursor.execute("COMMIT").fetchall()
        except duckdb.Error as error:
            return self._after_unclear_commit(attempt, error)
        self.remembered = attempt.remembered
        self._publish_columns(attempt.remembered)
        return stats

    def _publish_columns(self, remembered: Remembered) -> None:
        self.known_columns = {table: tuple(columns) for table, columns in remembered.columns.items()}

    def _close_gate(self) -> None:
        with self._commit_gate:
            self._interruptible = False

    def _timed_work(self, attempt: _Try, plan: Plan) -> Stats:
        began_s, start_s = time.time(), time.perf_counter()
        stats = self._work(attempt, plan)
        if isinstance(plan, PythonPlan):  # it began before it asked for the lane
            return stats
        return replace(stats, began_s=began_s, worked_ms=round(1000 * (time.perf_counter() - start_s), 3))

    def _work(self, attempt: _Try, plan: Plan) -> Stats:
        match plan:
            case IngestPlan():
                return self._ingest(attempt, plan)
            case TablePlan():
                return tables.refresh(self._cursor, plan, attempt.remembered)
            case ScriptPlan():
                return statements.run_script(self._cursor, plan, attempt.remembered)
            case PythonPlan():
                assert attempt.call is not None  # noqa: S101 -- begun by the engine
                return attempt.call.finish(self._cursor, attempt.remembered)

    def _ingest(self, attempt: _Try, plan: IngestPlan) -> Stats:
        learnt = attempt.learnt[plan.table]
        with self._reading() as reading:
            ingest = loading.Loading(
                self._cursor,
                _without(plan, learnt.settled),
                reading,
                attempt.checks,
                attempt.remembered,
                attempt.keep_rejects,
                learnt.widened,
            )
            try:
                loading.load(ingest)
            except loading.TryAgainError as again:
                raise _TableTryAgainError(plan.table, again) from again
            loading.record_loads(ingest, attempt.now)
        mine = {f.file_id for f in plan.files}
        settled = [load for file_id, load in learnt.settled.items() if file_id in mine]
        stats = _account((*ingest.loads.values(), *settled, *plan.unusable))
        changed = bool(ingest.fresh or ingest.left or plan.retract)
        return replace(stats, expectations=ingest.expectations, changed=changed)

    def _learn_culprits(self, plans: Sequence[Plan], learnt: Mapping[str, _Learnt], checks: FileChecks) -> bool:
        """Find the files that make a reader fail, or did and were changed since; false if there are none."""
        found = False
        remembered = (self.remembered or Remembered.read(self._cursor)).copy()
        self._interruptible = True
        try:
            for plan in plans:
                if isinstance(plan, IngestPlan):
                    with self._reading() as reading:
                        ingest = loading.Loading(self._cursor, plan, reading, NO_CHECKS, remembered)
                        files = _without(plan, learnt[plan.table].settled).files
                        reasons = loading.culprits(ingest, files)
                    blamed = {f.file_id: load for f in files if (load := _blamed(f, reasons.get(f.file_id), checks))}
                    learnt[plan.table].settled |= blamed
                    found = found or bool(blamed)
        finally:
            self._close_gate()
        return found

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

    def _after_unclear_commit(self, attempt: _Try, error: duckdb.Error) -> Sequence[Stats] | Outcome:
        if isinstance(error, duckdb.FatalException):
            raise EngineBrokenError(str(error)) from error
        with suppress(duckdb.Error):
            self._cursor.execute("ROLLBACK").fetchall()
        keys = [plan.key for plan in attempt.plans]
        found = committed_stats(self._cursor, {key.run_id for key in keys})
        return [found[key] for key in keys] if found.keys() >= set(keys) else Failed(message(error))


def _blamed(file: SourceFile, why: str | None, checks: FileChecks) -> FileLoad | None:
    """What to say of a file after a reader failed, on this one if `why` is given; None: nothing.

    One that went away and came again is read well by now, and yet it was the cause.
    """
    if checks.changed(file):
        return FileLoad(file.file_id, gone="it went away or changed while it was being loaded")
    return FileLoad(file.file_id, quarantined=why) if why is not None else None


NO_CHECKS = FileChecks(recount=lambda file: file.rows_in or 0, changed=lambda _: False)
"""For plans that load no files."""


class _TableTryAgainError(Exception):
    """A load has to begin anew, and so has all of its transaction."""

    def __init__(self, table: str, cause: loading.TryAgainError) -> None:
        super().__init__(table)
        self.table = table
        self.cause = cause


def _without(plan: IngestPlan, file_ids: Mapping[int, FileLoad]) -> IngestPlan:
    return replace(plan, files=tuple(f for f in plan.files if f.file_id not in file_ids)) if file_ids else plan


def _account(files: tuple[FileLoad, ...]) -> Stats:
    kept = [f for f in files if f.loaded]
    retracted = [f for f in files if f.retracted]
    others = len(files) - len(kept) - len(retracted)
    return Stats(
        rows_in=sum(f.rows_in for f in kept),
        rows_out=sum(f.rows_loaded for f in kept),
        rows_rejected=sum(f.rows_rejected for f in kept),
        how=f"load {len(kept)} file{'' if len(kept) == 1 else 's'}"
        + (f", retract {len(retracted)}" if retracted else "")
        + (f", {others} unusable" if others else ""),
        files=files,
    )
