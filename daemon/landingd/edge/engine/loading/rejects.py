"""Find the records of a batch that did not enter the table: where they stand, what is wrong with them, their text.

What the CSV reader cannot take apart it puts into reject tables, with line and text. Of a record that it takes apart,
and one of whose cells does not fit, it has forgotten both when we see the cells. So it reads the file once more, told
the types of the columns that do not fit, and rejects those records itself. Where it is too obliging for that ('1.7' is
an integer to it) it is made to reject every record, by one column too many, and a record's place among them tells its
own. With several threads it loses some of so many, so it is one thread then: slow, but only such files pay for it.
"""

from collections.abc import Sequence

from landingd.edge.engine.loading.cells import text
from landingd.edge.engine.loading.entering import FILE_OF_SOURCE, columns_of, unfit_columns
from landingd.edge.engine.loading.progress import Loading
from landingd.edge.engine.loading.reading import Cells, cells, csv_relation
from landingd.edge.engine.loading.table import drop_rejects
from landingd.edge.engine.sqltext import literal
from landingd.model import SchemaEvolution, SourceFile

_OF_READER = """
    SELECT CAST(parse_filename(s.file_path) AS BIGINT) AS file_id, e.line, e.column_name,
           CAST(e.error_type AS VARCHAR) AS error_type, e.error_message AS error, ltrim(e.csv_line, chr(10)) AS raw
    FROM {errors} e JOIN {scans} s USING (scan_id, file_id)
"""
_COLUMNS = "file_id, line, column_name, error_type, error, raw"


def find_rejects(loading: Loading, batch: Sequence[SourceFile]) -> dict[int, int]:
    """Fill the table `rejects` with the batch's rejected records, each once; returns how many each file has."""
    cursor = loading.cursor
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE rejects (file_id BIGINT, line BIGINT, column_name VARCHAR, error_type VARCHAR, "
        "error VARCHAR, raw VARCHAR)"
    ).fetchall()
    _take_over_the_readers(loading)
    if loading.plan.ingest.format == "csv":
        if loading.plan.ingest.schema_evolution is not SchemaEvolution.RESCUE:
            _add_unfit_csv(loading, batch)
    else:
        _add_unfit(loading, batch)
    rows = cursor.execute("SELECT file_id, count(*) FROM rejects GROUP BY 1").fetchall()
    return dict(rows)


def first_reject(loading: Loading, file: SourceFile) -> str:
    """The first of them, for people."""
    row = loading.cursor.execute(
        "SELECT line, error FROM rejects WHERE file_id = $id ORDER BY line LIMIT 1", {"id": file.file_id}
    ).fetchone()
    return f"line {row[0]}: {str(row[1]).splitlines()[0]}" if row else "unknown"


def keep_rejects(loading: Loading, bad: Sequence[int]) -> None:
    """Write down what was rejected of the files that stay."""
    loading.cursor.execute(
        f"""
        INSERT INTO meta.rejected_rows BY NAME
        SELECT $table AS table_name, {_COLUMNS} FROM rejects WHERE file_id NOT IN (SELECT unnest($bad))
        """,
        {"table": loading.plan.table, "bad": list(bad)},
    ).fetchall()


def _take_over_the_readers(loading: Loading) -> None:
    """Of a record with several faults the first is kept: one rejected row is one row here too."""
    if not _has_reader_rejects(loading):
        return
    found = _OF_READER.format(errors="reject_errors", scans="reject_scans")
    loading.cursor.execute(
        f"""
        INSERT INTO rejects
        SELECT file_id, line, arg_min(column_name, n), arg_min(error_type, n), arg_min(error, n), arg_min(raw, n)
        FROM (SELECT *, row_number() OVER () AS n FROM ({found})) GROUP BY file_id, line
        """
    ).fetchall()


def _has_reader_rejects(loading: Loading) -> bool:
    found = loading.cursor.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors' AND temporary")
    return found.fetchone() is not None


def _add_unfit(loading: Loading, batch: Sequence[SourceFile]) -> None:
    """Of JSON and Parquet: the record's line is its number in the file."""
    read = cells(loading, batch, careful=True, numbered=True)
    raw = "raw" if read.has_faults else _cells_as_json(loading, read)
    fault = "fault" if read.has_faults else "NULL"
    line = "line" if read.has_faults else "row_number() OVER (PARTITION BY file ORDER BY n)"
    bad, column, error = _what_is_wrong(loading, read)
    file = FILE_OF_SOURCE if len(batch) > 1 else str(batch[0].file_id)
    order = "" if read.has_faults else ", row_number() OVER () AS n"
    loading.cursor.execute(
        f"""
        INSERT INTO rejects
        SELECT file, place, CASE WHEN fault IS NULL THEN {column} END,
               CASE WHEN fault IS NULL THEN 'CAST' ELSE 'RECORD' END, coalesce(fault, {error}), raw
        FROM (
            SELECT *, {line} AS place
            FROM (SELECT * {"" if read.has_faults else f", {fault} AS fault, {raw} AS raw"},
                         {file} AS file {order} FROM {read.relation})
        )
        WHERE {"fault IS NOT NULL OR" if read.has_faults else ""} {bad}
        """
    ).fetchall()


def _cells_as_json(loading: Loading, read: Cells) -> str:
    members = [f"{literal(c.name)}, {text(c.cell, c.kind)}" for c in columns_of(loading, read)]
    return f"CAST(json_object({', '.join(members)}) AS VARCHAR)"


def _what_is_wrong(loading: Loading, read: Cells) -> tuple[str, str, str]:
    """As SQL: whether a cell does not fit, which column's is the first, and what to say of it."""
    tests = unfit_columns(loading, columns_of(loading, read))
    if loading.plan.ingest.schema_evolution is SchemaEvolution.RESCUE:
        tests = []
    if not tests:
        return "false", "NULL", "NULL"
    columns, errors = "CASE", "CASE"
    for column, test in tests:
        wanted = literal(f'" to {column.sql_type}')
        said = f"'Could not convert \"' || {text(column.cell, column.kind)} || {wanted}"
        columns += f" WHEN {test} THEN {literal(column.name)}"
        errors += f" WHEN {test} THEN {said}"
    return f"({' OR '.join(test for _, test in tests)})", f"{columns} END", f"{errors} END"


# --- CSV --------------------------------------------------------------------------------------------------


def _add_unfit_csv(loading: Loading, batch: Sequence[SourceFile]) -> None:
    drop_rejects(loading)  # what is read again is rejected again
    read = cells(loading, batch, careful=True)
    bad, column, error = _what_is_wrong(loading, read)
    file = FILE_OF_SOURCE if len(batch) > 1 else str(batch[0].file_id)
    loading.cursor.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE unfit AS
        SELECT file, place, column_name, error FROM (
            SELECT file, {bad} AS bad, {column} AS column_name, {error} AS error,
                   row_number() OVER (PARTITION BY file ORDER BY n) AS place
            FROM (SELECT *, {file} AS file, row_number() OVER () AS n FROM {read.relation})
        ) WHERE bad
        """
    ).fetchall()
    found = {row[0] for row in loading.cursor.execute("SELECT DISTINCT file FROM unfit").fetchall()}
    if found:
        _add_with_lines(loading, [f for f in batch if f.file_id in found])
    loading.cursor.execute("DROP TABLE unfit").fetchall()
    drop_rejects(loading)


def _add_with_lines(loading: Loading, files: Sequence[SourceFile]) -> None:
    """Add what is in `unfit`, with the line and the text of each."""
    columns = columns_of(loading, cells(loading, files, careful=True))
    found = {row[0] for row in loading.cursor.execute("SELECT DISTINCT column_name FROM unfit").fetchall()}
    narrow = {c.name: str(c.sql_type) if c.name in found else "VARCHAR" for c in columns}
    picked = ", ".join(f"count({c.cell})" for c in columns if c.name in found)
    names = ", ".join(c.cell for c in columns)
    if _read_lines(loading, files, narrow, f"SELECT {picked} FROM {{}} AS r({names})") and _are_the_unfit(loading):
        among = "row_number() OVER (PARTITION BY file ORDER BY place)"
    else:
        too_many = {f"c{n}": "VARCHAR" for n in range(len(columns) + 1)}
        _read_lines(loading, files, too_many, "SELECT count(*) FROM {}", more=", parallel=false")
        among = "place"
    loading.cursor.execute(
        f"""
        INSERT INTO rejects
        SELECT u.file, l.line, u.column_name, 'CAST', u.error, l.raw
        FROM (SELECT *, {among} AS n FROM unfit) AS u LEFT JOIN (
            SELECT *, row_number() OVER (PARTITION BY file_id ORDER BY line) AS n FROM lines
        ) AS l ON l.file_id = u.file AND l.n = u.n
        """
    ).fetchall()
    loading.cursor.execute("DROP TABLE lines").fetchall()


def _read_lines(
    loading: Loading, files: Sequence[SourceFile], types: dict[str, str], read: str, more: str = ""
) -> bool:
    """Fill the table `lines` with what the reader rejects of records that it could take apart; false if nothing."""
    rejects = f"store_rejects=true, rejects_table='line_errors', rejects_scan='line_scans'{more}"
    loading.cursor.execute(read.format(csv_relation(loading, files, types, rejects))).fetchall()
    found = _OF_READER.format(errors="line_errors", scans="line_scans")
    made = loading.cursor.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lines AS
        SELECT file_id, line, min(raw) AS raw FROM ({found}) ANTI JOIN rejects USING (file_id, line) GROUP BY 1, 2
        """
    ).fetchall()
    for table in ("line_errors", "line_scans"):
        loading.cursor.execute(f"DROP TABLE {table}").fetchall()
    return bool(made[0][0])


def _are_the_unfit(loading: Loading) -> bool:
    """Whether the reader has rejected as many records of each file as are unfit: it takes 1.7 for an integer."""
    differing = loading.cursor.execute(
        """
        SELECT count(*) FROM (SELECT file, count(*) AS n FROM unfit GROUP BY 1) AS u
        FULL JOIN (SELECT file_id, count(*) AS n FROM lines GROUP BY 1) AS l ON u.file = l.file_id
        WHERE u.n IS DISTINCT FROM l.n
        """
    ).fetchall()
    return bool(differing[0][0] == 0)
