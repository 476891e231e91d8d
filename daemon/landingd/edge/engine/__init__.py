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
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, TypeVar

import duckdb

from landingd.edge.engine import selects
from landingd.edge.engine.commits import committed_stats, high_water, message
from landingd.edge.engine.lane import NO_CHECKS, EngineBrokenError, WriteLane
from landingd.edge.engine.loading import FileChecks
from landingd.edge.engine.remembered import read_definitions, table_columns
from landingd.edge.engine.sqltext import literal
from landingd.errors import AlreadyRunningError, EngineError, RefusedError
from landingd.model import AttemptKey, Committed, Failed, Interrupted, Outcome, Plan, Stats, TimedOut

__all__ = [
    "NO_CHECKS",
    "Engine",
    "EngineBrokenError",
    "EngineOptions",
    "FileChecks",
    "open_engine",
    "open_read_only",
    "write_query",
]

T = TypeVar("T")

INTERRUPT_EVERY_S = 0.05
"""An interrupt that lands between two statements is lost: it is repeated until the call returns."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to open the warehouse. `threads` 0 and `memory_limit` "" mean DuckDB's own choice."""

    warehouse: Path
    scratch: Path
    """A directory of our own: links to the files being read, query results, spilled data."""
    landing: Path
    archive: Path | None = None
    """Where loaded files are moved to: replays read them there."""
    threads: int = 0
    memory_limit: str = ""
    checkpoint_threshold: str = "1GB"


class Engine:
    """One open warehouse. Created by `open_engine`; all methods but `close` are for the event loop."""

    def __init__(self, root: duckdb.DuckDBPyConnection, options: EngineOptions, lock: IO[bytes]) -> None:
        self._root = root
        self._options = options
        self._lock_file = lock
        self._lane = WriteLane(root.cursor(), options.scratch)
        self._lane_free = asyncio.Lock()
        self._lane_thread = ThreadPoolExecutor(1, thread_name_prefix="write-lane")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="reader")
        self._stopping = False
        self._uncheckpointed = False

    # -- attempts --

    async def execute(self, plan: Plan, *, timeout_s: float = 0.0, checks: FileChecks = NO_CHECKS) -> Outcome:
        """Carry out one attempt in one transaction; never raises for what SQL or a file can do wrong.

        `timeout_s` (0: none) counts from the moment the lane is free. `checks` answers what an ingest asks about
        its files. Raises EngineBrokenError when the process has to start anew.
        """
        done, late = await self._execute([plan], timeout_s, checks)
        if isinstance(done, Interrupted) and late:
            return TimedOut(after_s=timeout_s)
        return Committed(done[0]) if isinstance(done, Sequence) else done

    async def execute_together(self, plans: Sequence[Plan], *, checks: FileChecks = NO_CHECKS) -> list[Outcome]:
        """Carry out several attempts of one run, in this order, in one transaction.

        Where any of them fails nothing of any stays, and all end as interrupted: each is to be tried alone.
        """
        done, _ = await self._execute(plans, 0.0, checks)
        if isinstance(done, Sequence):
            return [Committed(stats) for stats in done]
        if isinstance(done, Interrupted):
            return [done] * len(plans)
        why = "rolled back with the other tasks of the run, each is tried alone now"
        cause = f": {done.error}" if isinstance(done, Failed) else ""
        return [Interrupted(crashed=False, why=why + cause)] * len(plans)

    async def _execute(
        self, plans: Sequence[Plan], timeout_s: float, checks: FileChecks
    ) -> tuple[Sequence[Stats] | Outcome, bool]:
        async with self._lane_free:
            if self._stopping:
                return Interrupted(crashed=False), False
            self._uncheckpointed = True
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._lane_thread, self._lane.attempt, plans, checks)
            late = await self._interrupt_if_late(work, timeout_s)
            return await work, late

    async def _interrupt_if_late(self, work: "asyncio.Future[Sequence[Stats] | Outcome]", timeout_s: float) -> bool:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        late = False
        while True:
            remaining_s = deadline_s - asyncio.get_running_loop().time() if timeout_s else None
            late = late or (remaining_s is not None and remaining_s <= 0)
            stop = late or self._stopping
            if stop:
                self._lane.interrupt()
            wait_s = INTERRUPT_EVERY_S if stop else remaining_s
            done, _ = await asyncio.wait({work}, timeout=min(wait_s or 0.5, 0.5))
            if done:
                return late

    def interrupt_all(self) -> None:
        """Let the running attempt end as Interrupted, and every later one too (the daemon stops)."""
        self._stopping = True
        self._lane.interrupt()

    # -- reading --

    async def committed(self, run_ids: Collection[int]) -> dict[AttemptKey, Stats]:
        """The attempts of these runs that are in the warehouse, and what they did."""
        return await self._with_cursor(lambda cursor: committed_stats(cursor, run_ids))

    async def high_water(self) -> tuple[int, int]:
        """The highest run id and file id in the warehouse: the ledger must never hand these out again."""
        return await self._with_cursor(high_water)

    async def columns(self) -> dict[str, dict[str, str]]:
        """Every table's columns and types: `{"bronze.events": {"brand": "VARCHAR"}}`."""
        return await self._with_cursor(table_columns)

    def columns_of(self, table: str) -> tuple[str, ...]:
        """A table's column names at the last commit; none while there is no such table."""
        return self._lane.known_columns.get(table.casefold(), ())

    async def definitions(self) -> dict[str, tuple[str, str]]:
        """What each refreshed table was made from: `(definition hash, refresh mode)`."""
        return await self._with_cursor(read_definitions)

    async def query(self, sql: str, format_: str, to: Path) -> None:
        """Write the result of one read-only SELECT to a file: csv, json (one array) or parquet.

        DuckDB writes the file itself: no row passes through Python. Raises RefusedError for anything but one
        SELECT that only reads, EngineError where it fails.
        """
        await self._read(lambda: write_query(self._root, sql, format_, to))

    async def checkpoint_if_idle(self) -> bool:
        """Fold the log into the database while nobody waits for the lane; true when done."""
        if not self._uncheckpointed or self._lane_free.locked() or self._stopping:
            return False
        async with self._lane_free:
            self._uncheckpointed = False
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._lane_thread, self._lane.checkpoint)

    async def _with_cursor(self, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        def with_cursor() -> T:
            with self._root.cursor() as cursor:
                return read(cursor)

        return await self._read(with_cursor)

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def close(self) -> None:
        """Close the warehouse; blocks until running calls have ended."""
        self._lane_thread.shutdown()
        self._readers.shutdown()
        self._lane.close()
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
        raise EngineError(f"{options.warehouse}: {message(error)}", permanent=True) from error
    root.execute(f"SET temp_directory = {literal(str(options.scratch / 'spill'))}").fetchall()
    root.execute(f"SET checkpoint_threshold = {literal(options.checkpoint_threshold)}").fetchall()
    _lock_down(root, [each for each in (options.landing, options.archive, options.scratch) if each is not None])
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


def open_read_only(warehouse: Path) -> duckdb.DuckDBPyConnection:
    """The warehouse of a daemon that does not run, for reading; raises EngineError. Writes nothing at all."""
    try:
        return duckdb.connect(warehouse, read_only=True, config={"temp_directory": ""})
    except duckdb.Error as error:
        raise EngineError(
            f"{warehouse}: {message(error).splitlines()[0]}",
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
            cursor.execute(f"COPY ({text}\n) TO {literal(str(to))} ({options})").fetchall()
        except duckdb.Error as error:
            raise EngineError(message(error), permanent=True) from error
        finally:
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK").fetchall()


def _one_select(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    try:
        statements = selects.parse(cursor, sql)
    except EngineError as error:
        if error.hint is None:
            raise RefusedError("query takes one SELECT and nothing that writes") from error
        raise
    if len(statements) != 1:
        raise RefusedError(f"query takes one SELECT, not {len(statements)} statements")
    return str(cursor.extract_statements(sql)[0].query).rstrip().rstrip(";")
