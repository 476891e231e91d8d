"""What the write lane need not ask the warehouse again.

Asking DuckDB's catalog costs more than loading a small file. The lane is the only writer, so what it has read or
written it may remember: changed together with the data inside a transaction, read anew where statements that people
wrote have changed a table's shape, and forgotten whenever a transaction does not commit.
"""

from dataclasses import dataclass, field
from typing import Self

import duckdb


@dataclass(slots=True)
class Remembered:
    """Tables are keyed by their name in lower case."""

    columns: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Each table's columns and their types."""
    newest_file: dict[str, int] = field(default_factory=dict[str, int])
    """The highest file id that each table has ever held: a higher one is new to it."""
    made_by: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """What each refreshed table was made from: definition hash and refresh mode."""

    @classmethod
    def read(cls, cursor: duckdb.DuckDBPyConnection) -> Self:
        """Ask the warehouse."""
        newest = cursor.execute("SELECT lower(table_name), max(file_id) FROM meta.loads GROUP BY 1").fetchall()
        return cls(
            columns={table.casefold(): columns for table, columns in table_columns(cursor).items()},
            newest_file=dict(newest),
            made_by={table.casefold(): made for table, made in read_definitions(cursor).items()},
        )

    def renew(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Ask again, inside the transaction: tables may have other columns now, be gone, or be new."""
        now = self.read(cursor)
        self.columns, self.newest_file, self.made_by = now.columns, now.newest_file, now.made_by


def table_columns(cursor: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Every layer table's columns and types: `{"bronze.events": {"brand": "VARCHAR"}}`."""
    rows = cursor.execute(
        "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name IN ('bronze', 'silver', 'gold', 'meta') "
        "AND NOT internal ORDER BY 1, column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, sql_type in rows:
        found.setdefault(table, {})[column] = sql_type
    return found


def read_definitions(cursor: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, str]]:
    """What each refreshed table was made from: `(definition hash, refresh mode)`."""
    return {row[0]: (row[1], row[2]) for row in cursor.execute("FROM meta.tables").fetchall()}
