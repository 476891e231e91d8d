"""Questions: one SELECT that only reads, over a cursor of its own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from landingd.edge.engine import outputs, selects
from landingd.edge.engine.faults import PERMANENT, message
from landingd.edge.engine.sqltext import literal
from landingd.errors import AlreadyRunningError, EngineError, RefusedError

T = TypeVar("T")


def open_read_only(warehouse: Path) -> duckdb.DuckDBPyConnection:
    """The warehouse of a daemon that does not run, for reading. Writes nothing at all.

    Raises AlreadyRunningError where one has just started, or has not stopped yet, and EngineError for anything else.
    """
    try:
        return duckdb.connect(warehouse, read_only=True, config={"temp_directory": ""})
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            again = "a daemon starts or stops just now: try again"
            raise AlreadyRunningError(f"{warehouse} is in use by another process", hint=again) from error
        hint = None if warehouse.exists() else "nothing is loaded yet"
        raise EngineError(f"{warehouse}: {message(error).splitlines()[0]}", permanent=False, hint=hint) from error


def write_query(connection: duckdb.DuckDBPyConnection, sql: str, format_: str, to: Path) -> None:
    """See Engine.query."""
    options = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY true", "parquet": "FORMAT parquet"}[format_]
    with connection.cursor() as cursor:
        text = selects.up_to_its_end(_one_select(cursor, sql).query)
        _read_only(cursor, lambda: cursor.execute(f"COPY ({text}\n) TO {literal(str(to))} ({options})").fetchall())


def first_rows(cursor: duckdb.DuckDBPyConnection, sql: str, rows_max: int) -> list[outputs.Row]:
    """See Engine.first_rows."""
    statement = _one_select(cursor, sql)
    return _read_only(cursor, lambda: outputs.first_rows(cursor, statement, {}, rows_max=rows_max))


def _read_only(cursor: duckdb.DuckDBPyConnection, read: Callable[[], T]) -> T:
    # Data-modifying CTEs look like a SELECT; a read-only transaction refuses them.
    cursor.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        return read()
    except duckdb.Error as error:
        raise EngineError(message(error), permanent=isinstance(error, PERMANENT)) from error
    finally:
        with suppress(duckdb.Error):
            cursor.execute("ROLLBACK").fetchall()


def _one_select(cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    try:
        statements = selects.parse(cursor, sql)
    except EngineError as error:
        if error.hint is None:
            raise RefusedError("query takes one SELECT and nothing that writes") from error
        raise
    if len(statements) != 1:
        raise RefusedError(f"query takes one SELECT, not {len(statements)} statements")
    return cursor.extract_statements(sql)[0]
