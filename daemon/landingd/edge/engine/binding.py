"""Bind SQL against tables that need not exist yet, in a database in memory: nothing is written anywhere."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import duckdb

from landingd.edge.engine import faults, selects, statements
from landingd.edge.engine.sqltext import ident, table_ident
from landingd.errors import EngineError

_MISSING_COLUMN = re.compile(r"column .* not found|not have a column|not found in FROM", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bound:
    """What binding one SQL text came to: fine, `error` (at `line` of the text), or `missing` tables."""

    error: str | None = None
    hint: str | None = None
    line: int = 0
    missing: tuple[str, ...] = ()


class Binding:
    """A DuckDB in memory that holds the tables' shapes and no rows."""

    def __init__(self, existing: Mapping[str, Mapping[str, str]]) -> None:
        self._db = duckdb.connect(":memory:", config={"threads": 1})
        for layer in ("bronze", "silver", "gold", "meta"):
            self._db.execute(f"CREATE SCHEMA {layer}").fetchall()
        self._shapes: dict[str, Mapping[str, str]] = {}
        self._unknown: set[str] = set()
        """Tables of which nothing is known."""
        self._partial: set[str] = set()
        """Tables of which some columns are known."""
        self._parsed: dict[str, str] = {}
        """What DuckDB's parser says of texts that were read ahead."""
        for table, columns in existing.items():
            self._create(table, columns)
        self._db.execute("SET enable_external_access = false").fetchall()
        self._db.execute("PRAGMA disable_optimizer").fetchall()  # what is bound only is never carried out
        self.functions, self.fickle = self._functions()
        """Those that look at one row and say the same for the same arguments; those that look at one row and need not.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def _functions(self) -> tuple[frozenset[str], frozenset[str]]:
        rows = self._db.execute(
            "SELECT lower(function_name), "
            "bool_and(function_type = 'scalar' AND coalesce(stability, 'CONSISTENT') = 'CONSISTENT'), "
            "bool_or(function_type = 'scalar' AND stability <> 'CONSISTENT') FROM duckdb_functions() GROUP BY 1"
        ).fetchall()
        consistent = frozenset(name for name, is_consistent, _ in rows if is_consistent)
        fickle = frozenset(name for name, _, is_fickle in rows if is_fickle)
        # Parsed as functions, though the list of functions does not have them: they look at one row only.
        return consistent | {"coalesce", "unnest", "try", "struct_pack", "row", "list_value"}, fickle

    def _create(self, table: str, columns: Mapping[str, str]) -> None:
        listed = ", ".join(f"{ident(name)} {sql_type}" for name, sql_type in columns.items())
        self._db.execute(f"CREATE OR REPLACE TABLE {table_ident(table)} ({listed})").fetchall()
        self._shapes[table.casefold()] = columns

    def add_raw_table(self, table: str, hints: Mapping[str, str], *, whole: bool) -> None:
        """A bronze table that a job will make: as it is, with the hinted columns that it lacks.

        `whole`: the hints are all its columns; else, before the first file, it may turn out to have others too.
        """
        # Asked of DuckDB, the name of a missing table that ends in .json or .csv would be taken for a file's.
        columns = self._shapes.get(table.casefold(), {})
        known = {name.casefold() for name in columns}
        added = {name: sql_type for name, sql_type in hints.items() if name.casefold() not in known}
        if not columns and not hints:
            self._unknown.add(table.casefold())
            return
        if not columns and not whole:
            self._partial.add(table.casefold())
        self._create(table, {**columns, **added, "_file_id": "BIGINT", "_row": "BIGINT"})

    def add_unknown_table(self, table: str) -> None:
        """A table that a task creates as it goes: what it looks like is known once it is there."""
        if table.casefold() not in self._shapes:
            self._unknown.add(table.casefold())

    def read_ahead(self, texts: Collection[str]) -> None:
        """Have all these texts parsed at once; `parse` then has its answers."""
        self._parsed |= selects.serialized(self._db, texts)

    def parse(self, sql: str) -> selects.Tree:
        """The tree of the one SELECT in a text; raises EngineError where it holds anything else."""
        answer = self._parsed.get(sql)
        statements = selects.parse(self._db, sql) if answer is None else selects.trees(sql, answer)
        if len(statements) != 1:
            raise EngineError(f"must be one SELECT, found {len(statements)} statements", permanent=True)
        return statements[0]

    def parse_expression(self, text: str) -> selects.Tree:
        """The tree of the one expression in a text; raises EngineError where it holds anything else."""
        # On lines of its own: what an expression in brackets can be, and nothing that would close them.
        statements = selects.parse(self._db, f"SELECT (\n{text}\n)")
        node = statements[0]["node"]
        found = node.get("select_list", [])
        bare = selects.parse(self._db, "SELECT 1")[0]["node"]
        if len(statements) != 1 or len(found) != 1 or node | {"select_list": []} != bare | {"select_list": []}:
            raise EngineError("is not one expression", permanent=True)
        return dict(found[0])

    def bind_expression(self, table: str, text: str) -> Bound:
        """Bind something that is to be true of a table's rows."""
        name = ident(table.partition(".")[2])
        rows = f"(SELECT * FROM {table_ident(table)}) AS {name}"
        # No aggregate and no window function may stand in a WHERE clause.
        for sql in (f"SELECT (\n{text}\n) FROM {rows}", f"SELECT 1 FROM {rows} WHERE (\n{text}\n)"):
            bound = replace(self._bound(sql, ())[0], line=0)
            if bound.error is not None or bound.missing:
                return bound
        sql_type = str(self._db.execute(f"DESCRIBE SELECT (\n{text}\n) FROM {rows}").fetchall()[0][1])
        return Bound() if sql_type == "BOOLEAN" else Bound(error=f"is {sql_type}, not true or false")

    def bind_table(self, table: str, sql: str, parameters: Iterable[str], *, tracked: bool) -> Bound:
        """Bind a table's SELECT, and remember the table's columns for those that read it.

        `tracked`: its rows will carry `_file_id`, whether the SELECT names it or not.
        """
        # It binds as EXPLAIN does, and says the columns too.
        bound, columns = self._bound(sql, parameters, how="DESCRIBE")
        if bound.error is not None or bound.missing:
            self._unknown.add(table.casefold())
            return bound
        times = Counter(str(c[0]).casefold() for c in columns)
        twice = {str(c[0]) for c in columns if times[str(c[0]).casefold()] > 1}
        if twice:
            return Bound(error=f"the SELECT names a column twice: {', '.join(sorted(twice))}")
        shape = {c[0]: "INTEGER" if c[1] == '"NULL"' else c[1] for c in columns}
        has_file_id = "_file_id" in {name.casefold() for name in shape}
        self._create(table, shape | ({"_file_id": "BIGINT"} if tracked and not has_file_id else {}))
        return bound

    def bind_script(self, sql: str, parameters: Iterable[str], *, creates: Collection[str] = ()) -> Bound:
        """Bind each statement of a script, in a transaction that is rolled back. `creates`: tables, in lower case.

        Those that create or alter something are carried out, without rows and with NULL for each parameter, so that
        each sees what those before it create. The others are only planned: without rows they may be long at work too
        (`range`). What only the values are to blame for (a constraint, a cast, `error()`) is no fault of the script.
        """
        self._db.execute("BEGIN").fetchall()
        try:
            for statement in self._db.extract_statements(sql):
                statements.check(statement)
                missing = set(statement.named_parameters) - set(parameters)
                if missing:
                    return _undeclared(missing)
                only = "" if statements.may_reshape(statement) else "EXPLAIN "
                values = dict.fromkeys(statement.named_parameters)
                self._db.execute(f"{only}{_statement(statement.query)}", values).fetchall()
        except EngineError as error:
            return Bound(error=error.what, hint=error.hint)
        except duckdb.Error as error:
            return self._explained(error, sql, creates) if isinstance(error, faults.PERMANENT) else Bound()
        finally:
            self._db.execute("ROLLBACK").fetchall()
        return Bound()

    def _bound(self, sql: str, parameters: Iterable[str], *, how: str = "EXPLAIN") -> tuple[Bound, list[Any]]:
        """Bind one SELECT by explaining or describing it; what DuckDB says of it then."""
        try:
            statement = self._db.extract_statements(f"{how} {_statement(sql)}")[0]
            missing = set(statement.named_parameters) - set(parameters)
            if missing:
                return _undeclared(missing), []
            return Bound(), self._db.execute(statement, dict.fromkeys(statement.named_parameters)).fetchall()
        except duckdb.Error as error:
            return self._explained(error, sql), []

    def _explained(self, error: duckdb.Error, sql: str, creates: Collection[str] = ()) -> Bound:
        text = str(error)
        in_doubt = self._unknown | (self._partial if _MISSING_COLUMN.search(text) else set())
        if isinstance(error, duckdb.ParserException):
            in_doubt = set()  # whatever the tables look like
        unknown = tuple(sorted(table for table in in_doubt - set(creates) if _names(sql, table)))
        if unknown:
            return Bound(missing=unknown)
        lines = [line for line in text.splitlines() if line.strip()]
        found = re.search(r"^LINE (\d+):", text, re.MULTILINE)
        candidates = next((line for line in lines if "andidate" in line or "Did you mean" in line), None)
        hint = candidates if candidates != lines[0] else None
        return Bound(error=lines[0], hint=hint, line=int(found.group(1)) if found else 0)


def _names(sql: str, table: str) -> bool:
    """Whether the text names the table anywhere (DuckDB lists a SELECT's tables only, and scripts hold more)."""
    return re.search(rf"\b{re.escape(table)}\b", sql.casefold().replace('"', "")) is not None


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";")


def _undeclared(names: set[str]) -> Bound:
    listed = ", ".join(f"${name}" for name in sorted(names))
    return Bound(error=f"binds {listed}, which no parameter of the job or the task is called")
