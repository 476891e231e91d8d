"""The first rows of a SELECT, as JSON can say them.

What a script selects last is what the tasks behind it can ask for, so its values travel: through the commit row, the
ledger, and `{{tasks.t.output...}}` into text. A number that JSON would round is therefore text, and so is a time.

DuckDB hands out TIMESTAMP WITH TIME ZONE only where a library for time zones is installed; such columns are asked for
in UTC.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import duckdb

from landingd.edge.engine.selects import up_to_its_end
from landingd.model import OUTPUT_BYTES_MAX, OUTPUT_ROWS_MAX, Output

_ROWS_AT_A_TIME = 1000
_ZONED = "TIMESTAMP WITH TIME ZONE"
Parameters = Mapping[str, Any] | Sequence[Any]
Row = dict[str, Any]


def output_of(cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, parameters: Parameters) -> Output:
    """Carry out a SELECT to its end; what is kept of its rows."""
    rows = first_rows(cursor, statement, parameters, rows_max=OUTPUT_ROWS_MAX + 1)
    kept: list[Row] = []
    n_bytes = 0
    for row in rows[:OUTPUT_ROWS_MAX]:
        n_bytes += len(json.dumps(row).encode()) + 2
        if n_bytes > OUTPUT_BYTES_MAX:
            break
        kept.append(row)
    if rows and not kept:
        text = f"the first row is larger than {OUTPUT_BYTES_MAX >> 10} KiB and is not kept"
        return Output(text=text, rows_cut=True)
    return Output(values=kept[0] if kept else {}, rows=tuple(kept), rows_cut=len(kept) < len(rows))


def first_rows(
    cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, parameters: Parameters, *, rows_max: int
) -> list[Row]:
    """Carry out a SELECT to its end, since an error may come with its last row; its first rows, JSON-ready."""
    names, zoned = _start(cursor, statement, parameters)
    kept: list[Row] = []
    while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
        kept += [_row(names, zoned, row) for row in rows[: rows_max - len(kept)]]
    return kept


def all_rows(cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, parameters: Parameters) -> list[Row]:
    """Carry out a SELECT; all of its rows, with Python's values."""
    names, fetched = _start(cursor, statement, parameters)
    return [dict(zip(names, map(_python, fetched, row), strict=True)) for row in cursor.fetchall()]


def _start(
    cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, parameters: Parameters
) -> tuple[list[str], list[str]]:
    """Begin a SELECT: its columns' names, each another one, and for each what has been done to be able to fetch it."""
    cursor.execute(statement, parameters)
    names = _names(column[0] for column in cursor.description or ())
    types = [str(column[1]) for column in cursor.description or ()]
    fetched = ["" if _ZONED not in kind else "utc" if kind == _ZONED else "json" for kind in types]
    if any(fetched):
        # Nothing of it was fetched, so it is as if it had not begun.
        cursor.execute(_without_zones(statement.query, fetched), parameters)
    return names, fetched


def _without_zones(select: str, fetched: Sequence[str]) -> str:
    how = {"": "c{n}", "utc": "timezone('UTC', c{n})", "json": "CAST(to_json(c{n}) AS VARCHAR)"}
    columns = ", ".join(how[each].format(n=n) for n, each in enumerate(fetched))
    named = ", ".join(f"c{n}" for n in range(len(fetched)))
    return f"SELECT {columns} FROM (\n{up_to_its_end(select)}\n) AS t ({named})"


def _names(given: Any) -> list[str]:
    """As DuckDB names the columns of a table: a second `n` is `n_1`."""
    names: list[str] = []
    for name in given:
        free, number = str(name), 0
        while free in names:
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return names


def _row(names: Sequence[str], fetched: Sequence[str], row: Sequence[Any]) -> Row:
    return {name: json_ready(_python(how, value)) for name, how, value in zip(names, fetched, row, strict=True)}


def _python(how: str, value: Any) -> Any:
    if value is None or not how:
        return value
    return json.loads(value) if how == "json" else value.replace(tzinfo=UTC)


def json_ready(value: Any) -> Any:
    """A value that JSON has: numbers that it would round, dates and times as text (ISO 8601)."""
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(json_ready(key)): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, bytes):
        return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02X}" for b in value)
    return str(value)
