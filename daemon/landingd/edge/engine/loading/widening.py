"""Tell a column that has changed its type from one with a few dirty cells."""

from collections.abc import Sequence

from landingd.edge.engine.loading.cells import (
    EXACT_INTEGERS_BELOW,
    INTEGERS,
    SIGNED,
    is_null,
    keeps_integers,
    text,
    value,
)
from landingd.edge.engine.loading.entering import FILE_OF_SOURCE, Column, columns_of
from landingd.edge.engine.loading.progress import Loading, TryAgainError, folded
from landingd.edge.engine.loading.reading import cells
from landingd.edge.engine.loading.table import drop_rejects
from landingd.edge.engine.sqltext import ident
from landingd.model import SchemaEvolution, SourceFile

_LADDER = (*SIGNED, "FLOAT", "DOUBLE", "DATE", "TIMESTAMP", "VARCHAR")


def find_wider_types(loading: Loading, files: Sequence[SourceFile]) -> None:
    """Raise TryAgainError where a column of these files, which have rejected rows, needs a wider type.

    It widens to text only where more cells than max_rejected_percent allows fit nothing less: until then they are dirt.
    """
    if loading.plan.ingest.schema_evolution is not SchemaEvolution.ADD_NEW_COLUMNS:
        return
    hinted = folded(loading.plan.ingest.schema_hints)
    read = cells(loading, files, careful=True)
    columns = [
        (column, _wider_than(loading, column))
        for column in columns_of(loading, read)
        if column.name.casefold() not in hinted and column.sql_type not in (None, "VARCHAR", "JSON")
    ]
    counts = [_misfits(loading, column, t) for column, wider in columns for t in (str(column.sql_type), *wider)]
    if not counts:
        return
    by_file = f"GROUP BY {FILE_OF_SOURCE}" if len(files) > 1 else ""
    rows = loading.cursor.execute(f"SELECT {', '.join(counts)}, count(*) FROM {read.relation} {by_file}").fetchall()
    drop_rejects(loading)
    needed: dict[str, str] = {}
    for *misfits, total in rows:
        left = iter(misfits)
        for column, wider in columns:
            now = next(left)
            found = _type_needed(loading, now, [(t, next(left)) for t in wider], total)
            before = needed.get(column.name.casefold())
            if found and (before is None or _LADDER.index(found) > _LADDER.index(before)):
                needed[column.name.casefold()] = found
    if needed:
        raise TryAgainError(widened=needed)


def _type_needed(loading: Loading, now: int, wider: Sequence[tuple[str, int]], rows: int) -> str | None:
    best, best_misfits = None, now
    for sql_type, misfits in wider:
        if misfits < best_misfits:
            best, best_misfits = sql_type, misfits
    if 100.0 * best_misfits > loading.plan.ingest.max_rejected_percent * rows:
        return "VARCHAR"
    return best


def _wider_than(loading: Loading, column: Column) -> list[str]:
    narrow = str(column.sql_type).upper()
    if narrow == "DATE":
        return ["TIMESTAMP"]
    if narrow == "FLOAT":
        return ["DOUBLE"]
    if narrow not in INTEGERS:
        return []
    bigger = list(SIGNED[SIGNED.index(narrow) + 1 :]) if narrow in SIGNED else ["HUGEINT"]
    return [*bigger, "DOUBLE"] if _fit_into_double(loading, column.name) else bigger


def _fit_into_double(loading: Loading, name: str) -> bool:
    """Whether the integers that the table holds would all come through: identifiers with 16 digits would not."""
    row = loading.cursor.execute(
        f"SELECT max(abs(CAST({ident(name)} AS HUGEINT))) < {EXACT_INTEGERS_BELOW} FROM {loading.table}"
    ).fetchone()
    return row is None or row[0] is not False


def _misfits(loading: Loading, column: Column, sql_type: str) -> str:
    fits = f"{value(column.cell, column.kind, sql_type, loading.plan.ingest.read_options)} IS NOT NULL"
    if sql_type == "DOUBLE" and str(column.sql_type).upper() in INTEGERS:
        fits = f"({fits} AND {keeps_integers(text(column.cell, column.kind))})"
    return f"count(*) FILTER (NOT {is_null(column.cell, column.kind)} AND NOT {fits})"
