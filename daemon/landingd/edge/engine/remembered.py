"""What the write lane need not ask the warehouse again.

Asking DuckDB's catalog costs more than loading a small file. The lane is the only writer, so what it has read or
written it may remember: changed together with the data inside a transaction, read anew where statements that people
wrote have changed a table's shape, and dropped with the transaction where that is rolled back.

What a table that is refreshed by appending has to catch up with is found by comparing its list of file versions with
its upstream table's, both as long as all that was ever loaded. After one comparison only the changes count: whatever
writes `meta.loads` says so here (`entered`, `removed`, `voided`). It is never needed: where it is not known, the lists
are compared.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Self

import duckdb

CHANGES_MAX = 10_000
"""File versions that a table may be behind before its lists are compared again: remembering costs with each change."""


@dataclass(frozen=True, slots=True)
class Behind:
    """How far a table is behind the upstream table that it appends from, exactly.

    A version that was loaded anew since is both lost and gained.
    """

    upstream: str
    """In lower case."""
    gained: frozenset[int] = frozenset()
    """File versions to be added."""
    lost: frozenset[int] = frozenset()
    """File versions to be taken out."""

    def after_entered(self, file_ids: Collection[int]) -> Self:
        """The upstream table has loaded these; it did not hold them."""
        return replace(self, gained=self.gained.union(file_ids))

    def after_removed(self, file_ids: Collection[int]) -> Self:
        """The upstream table has lost these; it did hold them."""
        gone = frozenset(file_ids)
        return replace(self, gained=self.gained - gone, lost=self.lost | (gone - self.gained))


@dataclass(slots=True)
class Remembered:
    """Tables are keyed by their name in lower case."""

    columns: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Each table's columns and their types."""
    newest_file: dict[str, int] = field(default_factory=dict[str, int])
    """The highest file id that each table has ever held: a higher one is new to it."""
    made_by: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """What each refreshed table was made from: definition hash and refresh mode."""
    behind: dict[str, Behind] = field(default_factory=dict[str, Behind])
    """Of tables that are refreshed by appending, what they have to catch up with; no entry: it is not known."""

    @classmethod
    def read(cls, cursor: duckdb.DuckDBPyConnection) -> Self:
        """Ask the warehouse."""
        newest = cursor.execute("SELECT lower(table_name), max(file_id) FROM meta.loads GROUP BY 1").fetchall()
        return cls(
            columns={table.casefold(): columns for table, columns in table_columns(cursor).items()},
            newest_file=dict(newest),
            made_by={table.casefold(): made for table, made in read_definitions(cursor).items()},
        )

    def copy(self) -> Self:
        """One that a transaction may change; what is in the dictionaries is replaced and never altered."""
        return replace(
            self,
            columns=self.columns.copy(),
            newest_file=self.newest_file.copy(),
            made_by=self.made_by.copy(),
            behind=self.behind.copy(),
        )

    def renew(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Ask again, inside the transaction: whatever was remembered may be wrong now."""
        now = self.read(cursor)
        self.columns, self.newest_file, self.made_by = now.columns, now.newest_file, now.made_by
        self.behind = {}

    def renew_columns(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Ask again, inside the transaction: tables may have other columns now, be gone, or be new."""
        self.columns = {table.casefold(): columns for table, columns in table_columns(cursor).items()}

    # -- which file versions a table holds --

    def entered(self, table: str, file_ids: Collection[int]) -> None:
        """These are in `meta.loads` now, and were not."""
        name = table.casefold()
        self.newest_file[name] = max([self.newest_file.get(name, 0), *file_ids])
        self.behind.pop(name, None)
        self._pass_on({n: b.after_entered(file_ids) for n, b in self.behind.items() if b.upstream == name})

    def removed(self, table: str, file_ids: Collection[int]) -> None:
        """These were in `meta.loads`, and are not."""
        name = table.casefold()
        self.behind.pop(name, None)
        self._pass_on({n: b.after_removed(file_ids) for n, b in self.behind.items() if b.upstream == name})

    def voided(self, table: str) -> None:
        """What `meta.loads` says of the table begins anew."""
        name = table.casefold()
        self.behind = {n: b for n, b in self.behind.items() if name not in (n, b.upstream)}

    def caught_up(self, table: str, upstream: str) -> None:
        """The table holds what its upstream table holds."""
        name, above = table.casefold(), upstream.casefold()
        self.newest_file[name] = max(self.newest_file.get(name, 0), self.newest_file.get(above, 0))
        self.behind[name] = Behind(above)

    def _pass_on(self, followers: dict[str, Behind]) -> None:
        for name, behind in followers.items():
            if len(behind.gained) + len(behind.lost) > CHANGES_MAX:
                del self.behind[name]
            else:
                self.behind[name] = behind


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
