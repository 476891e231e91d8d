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
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any, TypeVar

import duckdb

from landingd.edge.engine import asking
from landingd.edge.engine.asking import open_read_only, write_query
from landingd.edge.engine.attempts import INTERRUPT_EVERY_S, Attempts
from landingd.edge.engine.commits import committed_stats, high_water
from landingd.edge.engine.computing import SETTABLE, Usual
from landingd.edge.engine.faults import EngineBrokenError, message
from landingd.edge.engine.lane import NO_CHECKS, WriteLane
from landingd.edge.engine.loading import FileChecks
from landingd.edge.engine.remembered import read_definitions, table_columns
from landingd.edge.engine.sqltext import literal
from landingd.edge.engine.waiting import Waiting
from landingd.errors import AlreadyRunningError, EngineError
from landingd.model import AttemptKey, Outcome, Plan, Stats

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


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to open the warehouse. `threads` 0 and `memory_limit` "" mean DuckDB's own choice."""

    warehouse: Path
    scratch: Path
    """A directory of our own: links to the files being read, query results, spilled data."""
    landing: Path
    tails: Path | None = None
    """Copies of what was taken off growing files."""
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
        usual = Usual(options.threads, options.memory_limit)
        self._lane = WriteLane(root.cursor(), options.scratch, usual)
        waiting = Waiting(options.warehouse.with_suffix(".waiting"))
        self.waited = waiting.at_death
        """Attempts that waited for the write lane when the last process ended: they cannot have been what ended it."""
        self._attempts = Attempts(self._lane, waiting)
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="reader")

    # -- attempts --

    async def execute(
        self,
        plan: Plan,
        *,
        timeout_s: float = 0.0,
        checks: FileChecks = NO_CHECKS,
        cancel: asyncio.Event | None = None,
    ) -> Outcome:
        """Carry out one attempt in one transaction; never raises for what SQL, a file or a function can do wrong.

        `timeout_s` (0: none) counts from the moment the lane is free; of a Python task its call counts, without its
        wait for the lane. `checks` answers what an ingest asks about its files. When `cancel` is set the attempt ends
        as Canceled: before the lane is free nothing is begun, and a COMMIT is never broken off. Raises
        EngineBrokenError when the process has to start anew.
        """
        return await self._attempts.execute(plan, timeout_s=timeout_s, checks=checks, cancel=cancel)

    async def execute_together(
        self, plans: Sequence[Plan], *, checks: FileChecks = NO_CHECKS, cancel: asyncio.Event | None = None
    ) -> list[Outcome]:
        """Carry out several attempts of one run, in this order, in one transaction.

        Where any of them fails nothing of any stays, and all end as interrupted: each is to be tried alone. So do all
        where one of them is a Python task, of which only its statements can be rolled back.
        """
        return await self._attempts.execute_together(plans, checks=checks, cancel=cancel)

    def interrupt_all(self) -> None:
        """Let the running attempt end as Interrupted, and every later one too (the daemon stops)."""
        self._attempts.interrupt_all()

    async def checkpoint_if_idle(self) -> bool:
        """Fold the log into the database while nobody waits for the lane; true when done."""
        return await self._attempts.checkpoint_if_idle()

    async def forget_commits(self, before_run_id: int, keep: Collection[int] = ()) -> int:
        """Delete the commit rows of runs before this one (which stays), but those of the runs to keep; how many.

        The newest run's stay in any case, since ids are handed out above it. Raises EngineError.
        """
        return await self._attempts.on_lane(lambda lane: lane.forget_commits(before_run_id, keep))

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

    async def first_rows(self, sql: str, limit: int, *, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The first rows of one SELECT that only reads, JSON-ready (as task outputs are).

        Raises RefusedError for anything but one such SELECT, EngineError where it fails or takes longer (0: may take
        as long as it likes).
        """
        cursors: list[duckdb.DuckDBPyConnection] = []

        def read() -> list[dict[str, Any]]:
            with self._root.cursor() as cursor:
                cursors.append(cursor)
                return asking.first_rows(cursor, sql, limit)

        reading = asyncio.ensure_future(self._read(read))
        done, _ = await asyncio.wait({reading}, timeout=timeout_s or None)
        if done:
            return reading.result()
        while not done:
            for cursor in cursors:
                cursor.interrupt()
            done, _ = await asyncio.wait({reading}, timeout=INTERRUPT_EVERY_S)
        reading.exception()
        raise EngineError(f"took longer than {timeout_s:g} s", permanent=False)

    async def _with_cursor(self, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        def with_cursor() -> T:
            with self._root.cursor() as cursor:
                return read(cursor)

        return await self._read(with_cursor)

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def close(self) -> None:
        """Close the warehouse; blocks until running calls have ended."""
        self._attempts.close()
        self._readers.shutdown()
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
        _make(options.warehouse, config)
        root = duckdb.connect(options.warehouse, config=config)
    except duckdb.Error as error:
        lock.close()
        raise EngineError(f"{options.warehouse}: {message(error)}", permanent=True) from error
    root.execute(f"SET temp_directory = {literal(str(options.scratch / 'spill'))}").fetchall()
    root.execute(f"SET checkpoint_threshold = {literal(options.checkpoint_threshold)}").fetchall()
    readable = (options.landing, options.archive, options.tails, options.scratch)
    _lock_down(root, [each for each in readable if each is not None])
    schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    for statement in root.extract_statements(schema):
        root.execute(statement).fetchall()
    return Engine(root, options, lock)


def _make(warehouse: Path, config: Mapping[str, Any]) -> None:
    """Make the file where there is none, aside: DuckDB writes it in place, and one that is half made never opens."""
    if warehouse.exists():
        return
    aside = warehouse.with_suffix(".new")
    for left in (aside, aside.with_name(f"{aside.name}.wal")):
        left.unlink(missing_ok=True)
    duckdb.connect(aside, config=dict(config)).close()
    aside.rename(warehouse)


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
        f"allowed_configs = [{', '.join(map(literal, SETTABLE))}]",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}").fetchall()
