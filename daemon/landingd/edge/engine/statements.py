"""Statements that people have written, inside the attempt's transaction: a script, or what a Python task asks for.

What may be carried out is a list of kinds, because a COMMIT in the middle would end the attempt's transaction half way
(measured), and a SET would change the daemon for everybody. A SELECT may write too, through a WITH.
"""

import re
from collections.abc import Mapping
from typing import Any

import duckdb

from landingd.edge.engine import outputs
from landingd.edge.engine.remembered import Remembered
from landingd.errors import EngineError
from landingd.model import Output, ScriptPlan, Stats

KINDS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE_INTO", "CREATE", "ALTER", "DROP"})
"""What a script may hold."""
_COUNTED = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE_INTO"})
_RESHAPING = frozenset({"CREATE", "ALTER", "DROP"})

_SAYS_NOTHING = (duckdb.token_type.comment, duckdb.token_type.string_const)
_NAMES_META = re.compile(r'\bmeta"?\s*\.', re.IGNORECASE)
_NAMES_BOOKS = re.compile(r"\b(meta|loads)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


def run_script(cursor: duckdb.DuckDBPyConnection, plan: ScriptPlan, remembered: Remembered) -> Stats:
    """Run the statements one by one; the rows of the last SELECT are the task's output.

    Raises EngineError for a kind that a script may not hold.
    """
    rows_out, changed, output = 0, False, Output()
    statements = cursor.extract_statements(plan.sql)
    selects = [n for n, statement in enumerate(statements) if statement.type.name == "SELECT"]
    for n, statement in enumerate(statements):
        check(statement)
        changed = changed or may_write(statement)
        values = bound(statement.named_parameters, plan.parameters)
        if n in selects[:-1]:
            outputs.first_rows(cursor, statement, values, rows_max=0)
        elif n in selects:
            output = outputs.output_of(cursor, statement, values)
        else:
            cursor.execute(statement, values).fetchall()
        if statement.type.name in _COUNTED:
            rows_out += max(cursor.rowcount, 0)
    if any(map(may_write_books, statements)):
        remembered.renew(cursor)
    elif any(map(may_reshape, statements)):
        remembered.renew_columns(cursor)
    return Stats(rows_out=rows_out, how="script", changed=changed, output=output)


def check(statement: duckdb.Statement) -> None:
    """Refuse what would break the attempt's transaction or landingd's own bookkeeping; raises EngineError."""
    kind = statement.type.name
    if kind not in KINDS:
        raise EngineError(
            f"a script may not hold a {kind.replace('_', ' ')} statement",
            permanent=True,
            hint="the attempt is one transaction, opened and committed by landingd",
        )
    if may_write(statement) and _NAMES_META.search(_without_texts(statement)):
        raise EngineError("a script may read the schema meta, not write to it", permanent=True)


def may_write(statement: duckdb.Statement) -> bool:
    """Whether the statement may change what is in the warehouse."""
    return statement.type.name != "SELECT" or _WRITES.search(_without_texts(statement)) is not None


def may_reshape(statement: duckdb.Statement) -> bool:
    """Whether tables may have other columns after it."""
    return statement.type.name in _RESHAPING


def may_write_books(statement: duckdb.Statement) -> bool:
    """Whether it could have written to landingd's own tables if `check` had a gap: it writes, and has their names."""
    writes = statement.type.name != "SELECT" or _WRITES.search(statement.query) is not None
    return writes and _NAMES_BOOKS.search(statement.query) is not None


def _without_texts(statement: duckdb.Statement) -> str:
    """As DuckDB takes it apart: a text may be 'x', one with escaped quotes, or between dollar signs."""
    query, tokens = statement.query.encode(), duckdb.tokenize(statement.query)
    ends = [*(offset for offset, _ in tokens[1:]), len(query)]
    parts = zip(tokens, ends, strict=True)
    return b" ".join(query[offset:end] for (offset, kind), end in parts if kind not in _SAYS_NOTHING).decode()


def bound(names: object, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Only the parameters that the statement names: DuckDB takes no others."""
    wanted = set(names) if isinstance(names, (list, set, tuple, frozenset, dict)) else set()
    return {name: value for name, value in parameters.items() if name in wanted}
