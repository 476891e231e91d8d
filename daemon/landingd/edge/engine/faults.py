"""What goes wrong in DuckDB, and what can be done about it."""

import duckdb

PERMANENT = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.NotImplementedException,
    duckdb.PermissionException,
)
"""Trying the same again cannot help."""


class EngineBrokenError(Exception):
    """DuckDB has invalidated the database (a failed checkpoint, a full disk): the process must start anew."""


def message(error: Exception) -> str:
    """What DuckDB says, without blank edges."""
    return str(error).strip() or type(error).__name__
