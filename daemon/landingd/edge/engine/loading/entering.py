"""Let a batch's rows enter the table: with their lineage, numbered in the order of the file."""

from collections.abc import Sequence
from dataclasses import dataclass

from landingd.edge.engine.loading.cells import is_null, strict_value, text, unfit, value
from landingd.edge.engine.loading.progress import RESCUED, SMALL_BYTES, Loading, folded
from landingd.edge.engine.loading.reading import Cells
from landingd.edge.engine.sqltext import ident, literal
from landingd.errors import EngineError
from landingd.model import SchemaEvolution, SourceFile


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the files that the table has too, or, without `sql_type`, one that it does not have."""

    name: str
    cell: str
    kind: str
    sql_type: str | None


def columns_of(loading: Loading, cells: Cells) -> list[Column]:
    """The batch's columns beside the table's."""
    known = folded(loading.columns)
    types = loading.columns
    return [
        Column(known.get(n.casefold(), n), f"c{i}", kind, types.get(known.get(n.casefold(), "")))
        for i, (n, kind) in enumerate(zip(cells.columns, cells.kinds, strict=True))
    ]


def enter(loading: Loading, batch: Sequence[SourceFile], cells: Cells, *, careful: bool) -> dict[int, int]:
    """Insert the rows that fit; returns how many of each file there are."""
    columns = columns_of(loading, cells)
    known = [c for c in columns if c.sql_type is not None]
    first = batch[0].file_id
    large = batch[0].signature.size >= SMALL_BYTES
    if large:
        lineage, source = f"{first}, 0", cells.relation
    elif len(batch) == 1:
        lineage, source = f"{first}, row_number() OVER ()", cells.relation
    else:
        lineage = "file, row_number() OVER (PARTITION BY file ORDER BY n)"
        source = f"(SELECT *, {FILE_OF_SOURCE} AS file, row_number() OVER () AS n FROM {cells.relation})"
    targets = [c.name for c in known]
    values = [_value(loading, c, careful=careful, few_rows=not large) for c in known]
    if loading.plan.ingest.schema_evolution is SchemaEvolution.RESCUE:
        targets.append(RESCUED)
        values.append(_rescued(loading, columns, careful=careful))
    into = ", ".join([*map(ident, targets), "_file_id", "_row"])
    where = _fitting(loading, columns, cells) if careful else ""
    inserted = loading.cursor.execute(
        f"INSERT INTO {loading.table} ({into}) SELECT {', '.join([*values, lineage])} FROM {source} {where}"
    ).fetchall()[0][0]
    if large:
        _number_rows(loading, first)
    return {first: inserted} if len(batch) == 1 else _entered(loading, batch)


FILE_OF_SOURCE = "CAST(parse_filename(source) AS BIGINT)"


def unfit_columns(loading: Loading, columns: Sequence[Column]) -> list[tuple[Column, str]]:
    """The columns that a cell may not fit, and the SQL that says whether it does not."""
    options = loading.plan.ingest.read_options
    found = [(c, unfit(c.cell, c.kind, c.sql_type, options)) for c in columns if c.sql_type is not None]
    return [(column, test) for column, test in found if test is not None]


def _value(loading: Loading, column: Column, *, careful: bool, few_rows: bool) -> str:
    sql_type, options = str(column.sql_type), loading.plan.ingest.read_options
    if careful:
        return value(column.cell, column.kind, sql_type, options)
    return strict_value(column.cell, sql_type, options, few_rows=few_rows)


def _fitting(loading: Loading, columns: Sequence[Column], cells: Cells) -> str:
    tests = ["fault IS NULL"] if cells.has_faults else []
    if loading.plan.ingest.schema_evolution is not SchemaEvolution.RESCUE:
        tests += [f"NOT {test}" for _, test in unfit_columns(loading, columns)]
    return f"WHERE {' AND '.join(tests)}" if tests else ""


def _rescued(loading: Loading, columns: Sequence[Column], *, careful: bool) -> str:
    """What has no place in the table, as JSON; NULL where all has."""
    tests = {c.name: test for c, test in unfit_columns(loading, columns)} if careful else {}
    pairs = []
    for column in columns:
        if column.sql_type is not None and column.name not in tests:
            continue
        saved = text(column.cell, column.kind)
        test = tests.get(column.name) or f"NOT {is_null(column.cell, column.kind)}"
        pairs.append(f"CASE WHEN {test} THEN {{'key': {literal(column.name)}, 'value': {saved}}} END")
    if not pairs:
        return "NULL"
    kept = f"list_filter([{', '.join(pairs)}], lambda pair: pair IS NOT NULL)"
    return f"CASE WHEN len({kept}) > 0 THEN to_json(map_from_entries({kept})) END"


def _number_rows(loading: Loading, file_id: int) -> None:
    """Number the rows that a large file has just brought, in the order of the file.

    A window over the reader would let one thread do the parsing: it took 1.6 times as long. DuckDB keeps the order of
    the file in the order of the rows, and new rows lie together, so their ids tell their places.
    """
    of_file = {"id": file_id}
    placed = loading.cursor.execute(
        f"SELECT min(rowid), max(rowid) - min(rowid) + 1 = count(*) FROM {loading.table} WHERE _file_id = $id", of_file
    ).fetchall()
    first, lie_together = placed[0]
    if first is None:
        return
    if not lie_together:
        raise EngineError("the rows of a new file do not lie together in its table", permanent=False)
    loading.cursor.execute(
        f"UPDATE {loading.table} SET _row = rowid - $first + 1 WHERE _file_id = $id", of_file | {"first": first}
    ).fetchall()


def _entered(loading: Loading, batch: Sequence[SourceFile]) -> dict[int, int]:
    counts = dict.fromkeys((f.file_id for f in batch), 0)
    rows = loading.cursor.execute(
        f"SELECT _file_id, count(*) FROM {loading.table} WHERE _file_id BETWEEN $first AND $last GROUP BY 1",
        {"first": min(counts), "last": max(counts)},
    ).fetchall()
    return counts | {file_id: n for file_id, n in rows if file_id in counts}
