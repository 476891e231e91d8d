"""Load CSV files into a bronze table, inside the attempt's transaction.

DuckDB's reader is fast and, asked to skip what it cannot parse, it may drop most of a file without a word. So rows
that do not parse go into its reject tables, are copied to `meta.rejected_rows`, and for every file the rows that were
counted before the load must equal the rows loaded plus the rows rejected; else the file's rows leave again.

Files are read through symbolic links named by file id, in a directory of our own: a file's name is bytes, DuckDB
takes text and treats `*`, `?` and `[` as a pattern, and the link's name tells which file a row came from.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from landingd.edge.engine.remembered import Remembered
from landingd.edge.engine.sqltext import ident, literal, strings, struct, table_ident
from landingd.errors import EngineError
from landingd.model import FileLoad, Ingest, IngestPlan, SourceFile

SMALL_BYTES = 1 << 20
"""Files below this are read together in one statement, larger ones one by one."""
TYPE_SAMPLE_FILES = 50
TYPE_SAMPLE_ROWS = 100_000
FILE_FAULTS = (
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.IOException,
    duckdb.OutOfRangeException,
    duckdb.DataError,
)
"""What the reader raises for what stands in a file; anything else is not the file's fault."""
LINEAGE = {"_file_id": "BIGINT", "_row": "BIGINT"}


@dataclass(frozen=True, slots=True)
class FileChecks:
    """What the load asks about a file; answered by whoever knows the file system, on the write lane's thread."""

    recount: Callable[[SourceFile], int]
    """Count the records after the header again, slowly and exactly."""
    changed: Callable[[SourceFile], bool]
    """Whether the file is not the one that was hashed any more."""


@dataclass(slots=True)
class Loading:
    """One ingest in progress: what it was asked, and what came of each file so far."""

    cursor: duckdb.DuckDBPyConnection
    plan: IngestPlan
    reading: Path
    checks: "FileChecks"
    remembered: Remembered
    keep_rejects: bool = True
    """False: the first row that does not parse raises one of FILE_FAULTS. Clean files load faster so."""
    loads: dict[int, FileLoad] = field(default_factory=dict[int, FileLoad])
    already: set[int] = field(default_factory=set[int])
    """Versions that the table held before: an attempt whose commit was lost sight of."""

    @property
    def table(self) -> str:
        return table_ident(self.plan.table)

    @property
    def columns(self) -> dict[str, str]:
        """The table's columns and types; empty while there is no table."""
        return self.remembered.columns.get(self.plan.table.casefold(), {})

    @columns.setter
    def columns(self, columns: dict[str, str]) -> None:
        self.remembered.columns[self.plan.table.casefold()] = columns


def load(loading: Loading) -> None:
    """Make the table hold exactly the plan's files (of the paths that the plan speaks of)."""
    is_new = not loading.columns
    types = _prepare_table(loading)
    if not is_new:
        _recognise(loading)
    for batch in _batches([f for f in loading.plan.files if f.file_id not in loading.already]):
        _load_batch(loading, batch, types)
    # A new version that could not be loaded leaves the old one's rows where they are.
    take_out(loading.cursor, loading.plan.table, [old for f in _fresh(loading) for old in f.replaces])
    if is_new and not loading.plan.ingest.schema_hints and not _fresh(loading):
        # Only unusable files so far: their header must not become the table's.
        loading.cursor.execute(f"DROP TABLE {loading.table}").fetchall()
        loading.columns = {}


def culprits(loading: Loading, files: Sequence[SourceFile]) -> dict[int, str]:
    """Which of these files make the reader fail, and what it says: found by halving, outside any transaction."""
    if not files:
        return {}
    types = loading.columns
    try:
        for batch in _batches(files):
            relation = _relation(loading, batch, types | _types_of_new(loading, batch, types))
            loading.cursor.execute(f"SELECT count(COLUMNS(*)) FROM {relation}").fetchall()
    except FILE_FAULTS as error:
        if len(files) == 1:
            return {files[0].file_id: _first_line(error)}
        middle = len(files) // 2
        return culprits(loading, files[:middle]) | culprits(loading, files[middle:])
    finally:
        _drop_rejects(loading.cursor)
    return {}


# --- the table --------------------------------------------------------------------------------------------


def _prepare_table(loading: Loading) -> dict[str, str]:
    """Create the table or add the columns that these files bring; returns every column's type."""
    cursor, plan = loading.cursor, loading.plan
    types = loading.columns
    known = {name.casefold() for name in types}
    wanted: dict[str, str] = {}
    for batch in _batches(plan.files):
        for name, sql_type in _types_of_new(loading, batch, types | wanted).items():
            wanted.setdefault(name, sql_type)
    if not types:
        hints = {n: t for n, t in plan.ingest.schema_hints.items() if n.casefold() not in _folded(wanted)}
        wanted = wanted | hints
        columns = ", ".join(f"{ident(n)} {t}" for n, t in (wanted | LINEAGE).items())
        cursor.execute(f"CREATE TABLE {loading.table} ({columns})").fetchall()
        loading.columns = wanted | LINEAGE
        return wanted
    for name, sql_type in wanted.items():
        if name.casefold() not in known:
            cursor.execute(f"ALTER TABLE {loading.table} ADD COLUMN {ident(name)} {sql_type}").fetchall()
    if wanted:
        loading.columns = types | wanted
    return types | wanted


def _types_of_new(loading: Loading, batch: Sequence[SourceFile], types: dict[str, str]) -> dict[str, str]:
    """The types of the batch's columns that `types` lacks: as hinted, else as the reader detects them."""
    known = _folded(types)
    new = [name for name in batch[0].columns if name.casefold() not in known]
    if not new:
        return {}
    hints = {name.casefold(): sql_type for name, sql_type in loading.plan.ingest.schema_hints.items()}
    detected = {} if all(n.casefold() in hints for n in new) else _detect(loading, batch, new)
    return {name: hints.get(name.casefold()) or detected[name] for name in new}


def _detect(loading: Loading, batch: Sequence[SourceFile], new: Sequence[str]) -> dict[str, str]:
    """Ask DuckDB for the types of these columns, then take back the numbers that would lose leading zeros."""
    sample = batch[:TYPE_SAMPLE_FILES]
    options = _options(batch[0], loading.plan.ingest)
    paths = strings(tuple(_link(loading, f) for f in sample))
    source = f"read_csv({paths}, {options}, union_by_name=true, sample_size={TYPE_SAMPLE_ROWS}, ignore_errors=true)"
    rows = loading.cursor.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    # By position: the reader may clean a name (or find none) where the header's own text is what we go by.
    found = {name: row[1] for name, row in zip(batch[0].columns, rows, strict=False)}
    types = {name: found.get(name, "VARCHAR") for name in new}
    numbers = [n for n, t in types.items() if t in {"BIGINT", "DOUBLE", "INTEGER", "HUGEINT"}]
    if not numbers:
        return types
    text = _relation(loading, sample, dict.fromkeys(batch[0].columns, "VARCHAR"))
    # 08123 is a postcode, an account, a part: as a number it would come back as 8123.
    checks = ", ".join(f"coalesce(bool_or(regexp_matches({ident(n)}, '^[+-]?0[0-9]')), false)" for n in numbers)
    padded = loading.cursor.execute(f"SELECT {checks} FROM (SELECT * FROM {text} LIMIT {TYPE_SAMPLE_ROWS})").fetchone()
    if loading.keep_rejects:
        _drop_rejects(loading.cursor)
    return types | {n: "VARCHAR" for n, is_padded in zip(numbers, padded or (), strict=True) if is_padded}


def _folded(names: dict[str, str]) -> set[str]:
    return {name.casefold() for name in names}


# --- one statement ----------------------------------------------------------------------------------------


def _batches(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Files that one statement can read: the same header and dialect, and only small ones together."""
    groups: dict[tuple[object, ...], list[SourceFile]] = {}
    for file in files:
        alone = file.file_id if file.signature.size >= SMALL_BYTES else 0
        groups.setdefault((file.columns, file.delimiter, file.compression, alone), []).append(file)
    return list(groups.values())


def _link(loading: Loading, file: SourceFile) -> str:
    link = loading.reading / str(file.file_id)
    if not os.path.lexists(link):
        os.symlink(file.path, os.fsencode(link))  # noqa: PTH211 -- its target is bytes
    return str(link)


def _options(file: SourceFile, ingest: Ingest) -> str:
    return (
        f"header=true, delim={literal(file.delimiter)}, quote='\"', escape='\"', "
        f"nullstr={strings(ingest.nulls)}, compression={literal(file.compression)}, hive_partitioning=false"
    )


def _relation(loading: Loading, batch: Sequence[SourceFile], types: dict[str, str]) -> str:
    by_fold = {name.casefold(): sql_type for name, sql_type in types.items()}
    columns = struct({name: by_fold[name.casefold()] for name in batch[0].columns})
    paths = strings(tuple(_link(loading, f) for f in batch))
    options = _options(batch[0], loading.plan.ingest)
    rejects = "store_rejects=true" if loading.keep_rejects else "store_rejects=false"
    return f"read_csv({paths}, {options}, auto_detect=false, columns={columns}, filename='_source', {rejects})"


def _load_batch(loading: Loading, batch: Sequence[SourceFile], types: dict[str, str]) -> None:
    names = ", ".join(ident(name) for name in batch[0].columns)
    relation = _relation(loading, batch, types)
    first = batch[0]
    is_large = first.signature.size >= SMALL_BYTES
    if is_large:
        lineage, source = f"{first.file_id} AS _file_id, 0 AS _row", relation
    elif len(batch) == 1:
        lineage, source = f"{first.file_id} AS _file_id, row_number() OVER () AS _row", relation
    else:
        lineage = "_file AS _file_id, row_number() OVER (PARTITION BY _file ORDER BY _n) AS _row"
        numbered = "CAST(parse_filename(_source) AS BIGINT) AS _file, row_number() OVER () AS _n"
        source = f"(SELECT *, {numbered} FROM {relation})"
    inserted = loading.cursor.execute(
        f"INSERT INTO {loading.table} BY NAME SELECT {names}, {lineage} FROM {source}"
    ).fetchall()[0][0]
    if is_large:
        _number_rows(loading, first.file_id)
    _judge_batch(loading, batch, inserted)


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


def _judge_batch(loading: Loading, batch: Sequence[SourceFile], inserted: int) -> None:
    """Check the equation for each file, keep the rejected rows, and take bad files out again."""
    loaded = {batch[0].file_id: inserted} if len(batch) == 1 else _loaded_rows(loading, batch)
    clean = all(f.rows_in == loaded[f.file_id] for f in batch)
    rejected = {} if clean or not loading.keep_rejects else _rejected_rows(loading)
    bad: list[int] = []
    for file in batch:
        result = _judge(loading, file, loaded[file.file_id], rejected.get(file.file_id, 0))
        loading.loads[file.file_id] = result
        if not result.loaded:
            bad.append(file.file_id)
    if bad:
        loading.cursor.execute(
            f"DELETE FROM {loading.table} WHERE _file_id IN (SELECT unnest($ids))", {"ids": bad}
        ).fetchall()
    if loading.keep_rejects:
        if not clean:
            _keep_rejects(loading, bad)
        _drop_rejects(loading.cursor)


def _judge(loading: Loading, file: SourceFile, rows_loaded: int, rows_rejected: int) -> FileLoad:
    if loading.checks.changed(file):
        return FileLoad(file.file_id, gone="its content changed while it was being loaded")
    rows_in = file.rows_in
    if rows_in != rows_loaded + rows_rejected:
        # The fast count takes every quote for a real one; a field like 5" pipe misleads it. Count again, exactly.
        rows_in = loading.checks.recount(file)
    result = FileLoad(file.file_id, rows_in or 0, rows_loaded, rows_rejected)
    if rows_in != rows_loaded + rows_rejected:
        return replace(
            result,
            quarantined=f"{rows_in} rows in the file, but {rows_loaded} loaded and {rows_rejected} rejected: "
            "the reader lost or made up rows",
        )
    limit = loading.plan.ingest.max_rejected_percent
    if rows_rejected and 100.0 * rows_rejected > limit * (rows_loaded + rows_rejected):
        return replace(
            result,
            quarantined=f"{rows_rejected} of {rows_in} rows did not parse, more than max_rejected_percent = {limit:g}"
            f"; first: {_first_reject(loading, file)}",
        )
    return result


def _loaded_rows(loading: Loading, batch: Sequence[SourceFile]) -> dict[int, int]:
    counts = dict.fromkeys((f.file_id for f in batch), 0)
    rows = loading.cursor.execute(
        f"SELECT _file_id, count(*) FROM {loading.table} WHERE _file_id BETWEEN $first AND $last GROUP BY 1",
        {"first": min(counts), "last": max(counts)},
    ).fetchall()
    return counts | {file_id: n for file_id, n in rows if file_id in counts}


# --- rejected rows ----------------------------------------------------------------------------------------

_REJECTS = """
    SELECT CAST(parse_filename(s.file_path) AS BIGINT) AS file_id, e.line, e.column_name,
           CAST(e.error_type AS VARCHAR) AS error_type, e.error_message, e.csv_line
    FROM reject_errors e JOIN reject_scans s USING (scan_id, file_id)
"""


def _rejected_rows(loading: Loading) -> dict[int, int]:
    rows = loading.cursor.execute(f"SELECT file_id, count(DISTINCT line) FROM ({_REJECTS}) GROUP BY 1").fetchall()
    return dict(rows)


def _first_reject(loading: Loading, file: SourceFile) -> str:
    row = loading.cursor.execute(
        f"SELECT line, error_message FROM ({_REJECTS}) WHERE file_id = $id ORDER BY line LIMIT 1",
        {"id": file.file_id},
    ).fetchone()
    return f"line {row[0]}: {str(row[1]).splitlines()[0]}" if row else "unknown"


def _keep_rejects(loading: Loading, bad: list[int]) -> None:
    """Of a row with several faults the first is kept: one rejected row is one row here too."""
    loading.cursor.execute(
        f"""
        INSERT INTO meta.rejected_rows
        SELECT $table, file_id, line, arg_min(column_name, n), arg_min(error_type, n), arg_min(error_message, n),
               arg_min(csv_line, n)
        FROM (SELECT *, row_number() OVER () AS n FROM ({_REJECTS}))
        WHERE file_id NOT IN (SELECT unnest($bad))
        GROUP BY file_id, line
        """,
        {"table": loading.plan.table, "bad": bad},
    ).fetchall()


def _drop_rejects(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute("DROP TABLE IF EXISTS reject_errors").fetchall()
    cursor.execute("DROP TABLE IF EXISTS reject_scans").fetchall()


# --- versions ---------------------------------------------------------------------------------------------


def _recognise(loading: Loading) -> None:
    """Leave out versions that the table holds already: they need not be loaded again, in whichever batch they come."""
    newest = loading.remembered.newest_file.get(loading.plan.table.casefold(), 0)
    if all(f.file_id > newest for f in loading.plan.files):
        return
    rows = loading.cursor.execute(
        "SELECT file_id, rows_in, rows_loaded, rows_rejected FROM meta.loads "
        "WHERE table_name = $table AND file_id IN (SELECT unnest($ids))",
        {"table": loading.plan.table, "ids": [f.file_id for f in loading.plan.files]},
    ).fetchall()
    loading.loads.update({row[0]: FileLoad(*row) for row in rows})
    loading.already.update(row[0] for row in rows)


def _fresh(loading: Loading) -> list[SourceFile]:
    """Files whose rows entered the table in this attempt."""
    return [f for f in loading.plan.files if f.file_id not in loading.already and loading.loads[f.file_id].loaded]


def take_out(cursor: duckdb.DuckDBPyConnection, table: str, file_ids: Sequence[int]) -> None:
    if not file_ids:
        return
    ids = {"ids": list(file_ids)}
    cursor.execute(f"DELETE FROM {table_ident(table)} WHERE _file_id IN (SELECT unnest($ids))", ids).fetchall()
    for meta in ("meta.loads", "meta.rejected_rows"):
        cursor.execute(
            f"DELETE FROM {meta} WHERE table_name = $table AND file_id IN (SELECT unnest($ids))",
            ids | {"table": table},
        ).fetchall()


def record_loads(loading: Loading, committed_at: object) -> None:
    """Write down which versions the table holds now."""
    fresh = _fresh(loading)
    if not fresh:
        return
    table, newest = loading.plan.table.casefold(), loading.remembered.newest_file
    newest[table] = max(newest.get(table, 0), *(f.file_id for f in fresh))
    counts = [loading.loads[f.file_id] for f in fresh]
    loading.cursor.execute(
        """
        INSERT INTO meta.loads
        SELECT $table, unnest($ids), $job, unnest($paths), unnest($hashes), unnest($rows_in), unnest($rows_loaded),
               unnest($rows_rejected), $run_id, $at
        """,
        {
            "table": loading.plan.table,
            "job": loading.plan.job,
            "ids": [f.file_id for f in fresh],
            "paths": [f.name for f in fresh],
            "hashes": [f.content_hash for f in fresh],
            "rows_in": [c.rows_in for c in counts],
            "rows_loaded": [c.rows_loaded for c in counts],
            "rows_rejected": [c.rows_rejected for c in counts],
            "run_id": loading.plan.key.run_id,
            "at": committed_at,
        },
    ).fetchall()


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
