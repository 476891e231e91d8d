"""The warehouse: DuckDB behind one small interface.

Invariants, each of which was seen to break silently without the line that holds it:

* An attempt is one transaction: the data, its lineage and the row in `meta.commits`.
* One write lane. Concurrent writers stop DuckDB's checkpointer and can duplicate keys without an error.
* After an exception inside a transaction: ROLLBACK. COMMIT would answer OK and roll back.
* An exception *from* COMMIT says nothing about the outcome: the commit row does. So no interrupt during COMMIT.
* Nobody opens the database file beside DuckDB in this process: closing any descriptor would drop its lock.
* A statement's result is always fetched: `execute` only starts a SELECT.
"""

import asyncio
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import IO, TypeVar

import duckdb

from landingd.edge.engine import csvload, selects, tables
from landingd.edge.engine.sqltext import literal
from landingd.errors import AlreadyRunningError, EngineError, RefusedError
from landingd.model import (
    AttemptKey,
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
    TimedOut,
)

T = TypeVar("T")

INTERRUPT_EVERY_S = 0.05
"""An interrupt that lands between two statements is lost: it is repeated until the call returns."""

_PERMANENT = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.NotImplementedException,
    duckdb.PermissionException,
)


FileChecks = csvload.FileChecks
NO_CHECKS = FileChecks(recount=lambda file: file.rows_in or 0, changed=lambda _: False)
"""For plans that load no files."""


class EngineBrokenError(Exception):
    """DuckDB has invalidated the database (a failed checkpoint, a full disk): the process must start anew."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to open the warehouse. `threads` 0 and `memory_limit` "" mean DuckDB's own choice."""

    warehouse: Path
    scratch: Path
    """A directory of our own: links to the files being read, query results, spilled data."""
    landing: Path
    threads: int = 0
    memory_limit: str = ""
    checkpoint_threshold: str = "1GB"


class Engine:
    """One open warehouse. Created by `open_engine`; all methods but `close` are for the event loop."""

    def __init__(self, root: duckdb.DuckDBPyConnection, options: EngineOptions, lock: IO[bytes]) -> None:
        self._root = root
        self._options = options
        self._lock_file = lock
        self._writer = root.cursor()
        self._lane = asyncio.Lock()
        self._lane_thread = ThreadPoolExecutor(1, thread_name_prefix="write-lane")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="reader")
        self._commit_gate = threading.Lock()
        self._interruptible = False
        self._stopping = False
        self._uncheckpointed = False

    # -- attempts --

    async def execute(self, plan: Plan, *, timeout_s: float = 0.0, checks: csvload.FileChecks = NO_CHECKS) -> Outcome:
        """Carry out one attempt in one transaction; never raises for what SQL or a file can do wrong.

        `timeout_s` (0: none) counts from the moment the lane is free. `checks` answers what an ingest asks about
        its files. Raises EngineBrokenError when the process has to start anew.
        """
        async with self._lane:
            if self._stopping:
                return Interrupted(crashed=False)
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._lane_thread, self._attempt, plan, checks)
            late = await self._interrupt_if_late(work, timeout_s)
            outcome = await work
        if isinstance(outcome, Interrupted) and late:
            return TimedOut(after_s=timeout_s)
        return outcome

    async def _interrupt_if_late(self, work: "asyncio.Future[Outcome]", timeout_s: float) -> bool:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        late = False
        while True:
            remaining_s = deadline_s - asyncio.get_running_loop().time() if timeout_s else None
            late = late or (remaining_s is not None and remaining_s <= 0)
            stop = late or self._stopping
            if stop:
                self._interrupt()
            wait_s = INTERRUPT_EVERY_S if stop else remaining_s
            done, _ = await asyncio.wait({work}, timeout=min(wait_s or 0.5, 0.5))
            if done:
                return late

    def interrupt_all(self) -> None:
        """Let the running attempt end as Interrupted, and every later one too (the daemon stops)."""
        self._stopping = True
        self._interrupt()

    def _interrupt(self) -> None:
        with self._commit_gate:
            if self._interruptible:
                self._writer.interrupt()

    def _attempt(self, plan: Plan, checks: csvload.FileChecks) -> Outcome:
        try:
            return self._attempt_without(plan, checks, {})
        except duckdb.InterruptException:
            return Interrupted(crashed=False)
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except EngineError as error:
            return Failed(str(error), permanent=error.permanent)
        except duckdb.Error as error:
            return Failed(_message(error), permanent=isinstance(error, _PERMANENT))

    def _attempt_without(self, plan: Plan, checks: csvload.FileChecks, bad: dict[int, str]) -> Outcome:
        """Run the transaction; if a file makes it fail, find that file and run it again without."""
        try:
            return self._transaction(plan, checks, bad)
        except csvload.FILE_FAULTS:
            if not isinstance(plan, IngestPlan):
                raise
            more = self._culprits(plan, bad)
            if not more:
                raise
            return self._attempt_without(plan, checks, bad | more)

    def _transaction(self, plan: Plan, checks: csvload.FileChecks, bad: dict[int, str]) -> Outcome:
        cursor = self._writer
        now = datetime.now(UTC).replace(tzinfo=None)
        cursor.execute("BEGIN").fetchall()
        self._interruptible = True
        try:
            stats = self._work(plan, checks, bad, now)
            self._write_commit(plan, stats, now)
        except BaseException:
            self._close_gate()
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK").fetchall()
            raise
        self._close_gate()
        try:
            cursor.execute("COMMIT").fetchall()
        except duckdb.Error as error:
            return self._after_unclear_commit(plan.key, error)
        finally:
            self._uncheckpointed = True
        return Committed(stats)

    def _close_gate(self) -> None:
        with self._commit_gate:
            self._interruptible = False

    def _work(self, plan: Plan, checks: csvload.FileChecks, bad: dict[int, str], now: datetime) -> Stats:
        match plan:
            case IngestPlan():
                return self._ingest(plan, checks, bad, now)
            case TablePlan():
                return tables.refresh(self._writer, plan)
            case ScriptPlan():
                return tables.run_script(self._writer, plan)

    def _ingest(self, plan: IngestPlan, checks: csvload.FileChecks, bad: dict[int, str], now: datetime) -> Stats:
        good = _without(plan, bad)
        with self._reading() as reading:
            loading = csvload.Loading(self._writer, good, reading, checks)
            csvload.load(loading)
            csvload.record_loads(loading, now)
        quarantined = [FileLoad(file_id, quarantined=reason) for file_id, reason in bad.items()]
        files = (*loading.loads.values(), *quarantined, *plan.unusable)
        kept = [f for f in files if f.loaded]
        return Stats(
            rows_in=sum(f.rows_in for f in kept),
            rows_out=sum(f.rows_loaded for f in kept),
            rows_rejected=sum(f.rows_rejected for f in kept),
            how=f"load {len(kept)} files",
            files=files,
        )

    def _culprits(self, plan: IngestPlan, bad: dict[int, str]) -> dict[int, str]:
        with self._reading() as reading:
            loading = csvload.Loading(self._writer, plan, reading, NO_CHECKS)
            self._interruptible = True
            try:
                return csvload.culprits(loading, _without(plan, bad).files)
            finally:
                self._close_gate()

    @contextmanager
    def _reading(self) -> Iterator[Path]:
        """An empty directory for the links of one ingest."""
        reading = self._options.scratch / "reading"
        reading.mkdir(parents=True, exist_ok=True)
        try:
            yield reading
        finally:
            for link in os.scandir(reading):
                Path(link.path).unlink()

    def _write_commit(self, plan: Plan, stats: Stats, now: datetime) -> None:
        # No single commit covers the warehouse and the ledger. The transaction that changes the data also writes
        # this row; after a crash it is the truth, and the ledger is made to agree.
        self._writer.execute(
            "INSERT INTO meta.commits VALUES ($run_id, $task_key, $attempt, $job, $table, $stats, $at)",
            {
                "run_id": plan.key.run_id,
                "task_key": plan.key.task_key,
                "attempt": plan.key.attempt,
                "job": plan.job,
                "table": None if isinstance(plan, ScriptPlan) else plan.table,
                "stats": json.dumps(asdict(stats)),
                "at": now,
            },
        ).fetchall()

    def _after_unclear_commit(self, key: AttemptKey, error: duckdb.Error) -> Outcome:
        if isinstance(error, duckdb.FatalException):
            raise EngineBrokenError(str(error)) from error
        with suppress(duckdb.Error):
            self._writer.execute("ROLLBACK").fetchall()
        committed = self._committed([key])
        return Committed(committed[key]) if key in committed else Failed(_message(error))

    # -- reading --

    async def committed(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, Stats]:
        """Which of these attempts are in the warehouse, and what they did."""
        return await self._read(lambda: self._committed(keys))

    def _committed(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, Stats]:
        if not keys:
            return {}
        with self._root.cursor() as cursor:
            rows = cursor.execute(
                "SELECT run_id, task_key, attempt, stats FROM meta.commits WHERE run_id IN (SELECT unnest($runs))",
                {"runs": sorted({key.run_id for key in keys})},
            ).fetchall()
        found = {AttemptKey(r[0], r[1], r[2]): _stats(r[3]) for r in rows}
        return {key: found[key] for key in keys if key in found}

    async def high_water(self) -> tuple[int, int]:
        """The highest run id and file id in the warehouse: the ledger must never hand these out again."""

        def read() -> tuple[int, int]:
            with self._root.cursor() as cursor:
                row = cursor.execute(
                    "SELECT (SELECT coalesce(max(run_id), 0) FROM meta.commits), "
                    "(SELECT coalesce(max(file_id), 0) FROM meta.loads)"
                ).fetchone()
            return (row[0], row[1]) if row else (0, 0)

        return await self._read(read)

    async def columns(self) -> dict[str, dict[str, str]]:
        """Every table's columns and types: `{"bronze.events": {"brand": "VARCHAR"}}`."""
        return await self._read(lambda: table_columns(self._root))

    async def definitions(self) -> dict[str, tuple[str, str]]:
        """What each refreshed table was made from: `(definition hash, refresh mode)`."""
        return await self._read(lambda: read_definitions(self._root))

    async def query(self, sql: str, format_: str, to: Path) -> None:
        """Write the result of one read-only SELECT to a file: csv, json (one array) or parquet.

        DuckDB writes the file itself: no row passes through Python. Raises RefusedError for anything but one
        SELECT that only reads, EngineError where it fails.
        """
        await self._read(lambda: write_query(self._root, sql, format_, to))

    async def checkpoint_if_idle(self) -> bool:
        """Fold the log into the database while nobody waits for the lane; true when done."""
        if not self._uncheckpointed or self._lane.locked() or self._stopping:
            return False
        async with self._lane:
            self._uncheckpointed = False
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._lane_thread, self._checkpoint)

    def _checkpoint(self) -> bool:
        try:
            self._writer.execute("CHECKPOINT").fetchall()
        except duckdb.FatalException as error:
            raise EngineBrokenError(str(error)) from error
        except duckdb.Error:
            return False  # a reader stands in the way; the next idle moment will do
        return True

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def close(self) -> None:
        """Close the warehouse; blocks until running calls have ended."""
        self._lane_thread.shutdown()
        self._readers.shutdown()
        self._writer.close()
        self._root.close()
        self._lock_file.close()


def open_engine(options: EngineOptions) -> Engine:
    """Open or create the warehouse and lock down what SQL may reach.

    Raises AlreadyRunningError where another process holds it, EngineError where the file cannot be opened.
    """
    options.warehouse.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(options.warehouse.with_suffix(".lock"))
    shutil.rmtree(options.scratch, ignore_errors=True)
    options.scratch.mkdir(parents=True)
    config: dict[str, str | bool | int | float | list[str]] = {"storage_compatibility_version": "v1.5.0"}
    if options.threads:
        config["threads"] = options.threads
    if options.memory_limit:
        config["memory_limit"] = options.memory_limit
    try:
        root = duckdb.connect(options.warehouse, config=config)
    except duckdb.Error as error:
        lock.close()
        raise EngineError(f"{options.warehouse}: {_message(error)}", permanent=True) from error
    root.execute(f"SET temp_directory = {literal(str(options.scratch / 'spill'))}").fetchall()
    root.execute(f"SET checkpoint_threshold = {literal(options.checkpoint_threshold)}").fetchall()
    _lock_down(root, [options.landing, options.scratch])
    schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    for statement in root.extract_statements(schema):
        root.execute(statement).fetchall()
    return Engine(root, options, lock)


def _lock(path: Path) -> IO[bytes]:
    """Hold a lock of our own beside DuckDB's: its own is lost when any descriptor of the database is closed."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise AlreadyRunningError(
            f"{path.with_suffix('.duckdb')} is in use by another landingd",
            hint="`landingd status` shows the daemon that runs; stop it first, or use another paths.state",
        ) from error
    return file


def _lock_down(connection: duckdb.DuckDBPyConnection, directories: list[Path]) -> None:
    """SQL may read the landing files and our scratch directory; nothing else on this machine, and no network."""
    allowed = "[" + ", ".join(literal(f"{directory}/") for directory in directories) + "]"
    for setting in (
        f"allowed_directories = {allowed}",
        "enable_external_access = false",
        "autoload_known_extensions = false",
        "autoinstall_known_extensions = false",
        "python_enable_replacements = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}").fetchall()


def table_columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Every layer table's columns, of any open connection."""
    with connection.cursor() as cursor:
        rows = cursor.execute(
            "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name IN ('bronze', 'silver', 'gold', 'meta') "
            "AND NOT internal ORDER BY 1, column_index"
        ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, sql_type in rows:
        found.setdefault(table, {})[column] = sql_type
    return found


def read_definitions(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, str]]:
    """See Engine.definitions."""
    with connection.cursor() as cursor:
        return {r[0]: (r[1], r[2]) for r in cursor.execute("FROM meta.tables").fetchall()}


def open_read_only(warehouse: Path) -> duckdb.DuckDBPyConnection:
    """The warehouse of a daemon that does not run, for reading; raises EngineError. Writes nothing at all."""
    try:
        return duckdb.connect(warehouse, read_only=True, config={"temp_directory": ""})
    except duckdb.Error as error:
        raise EngineError(
            f"{warehouse}: {_message(error).splitlines()[0]}",
            permanent=False,
            hint="a daemon starts or stops just now? Then try again" if warehouse.exists() else "nothing is loaded yet",
        ) from error


def write_query(connection: duckdb.DuckDBPyConnection, sql: str, format_: str, to: Path) -> None:
    """See Engine.query."""
    options = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY true", "parquet": "FORMAT parquet"}[format_]
    with connection.cursor() as cursor:
        text = _one_select(cursor, sql)
        # Data-modifying CTEs look like a SELECT; a read-only transaction refuses them.
        cursor.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        try:
            cursor.execute(f"COPY (\n{text}\n) TO {literal(str(to))} ({options})").fetchall()
        except duckdb.Error as error:
            raise EngineError(_message(error), permanent=True) from error
        finally:
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK").fetchall()


def _one_select(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    try:
        statements = selects.parse(cursor, sql)
    except EngineError as error:
        if error.hint is None:
            raise RefusedError("query takes one SELECT and nothing that writes", hint=error.what) from error
        raise
    if len(statements) != 1:
        raise RefusedError(f"query takes one SELECT, not {len(statements)} statements")
    return str(cursor.extract_statements(sql)[0].query).rstrip().rstrip(";")


def _without(plan: IngestPlan, bad: dict[int, str]) -> IngestPlan:
    if not bad:
        return plan
    return replace(plan, files=tuple(f for f in plan.files if f.file_id not in bad))


def _stats(text: str) -> Stats:
    fields = json.loads(text)
    return Stats(**(fields | {"files": tuple(FileLoad(**f) for f in fields["files"])}))


def _message(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
