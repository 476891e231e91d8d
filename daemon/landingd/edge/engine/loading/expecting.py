"""Hold the rows of files that have just entered their table to the table's expectations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from landingd.edge.engine import expectations
from landingd.edge.engine.loading.progress import Loading


def hold_to_expectations(loading: Loading) -> None:
    """Take out the rows that may not stay, and correct each file's account by them.

    Every file is judged by now: rows that break a rule are read well, so they do not count as rows that did not parse.
    """
    if not loading.plan.expectations:
        return
    fresh = {file.file_id: file for file in loading.fresh}

    def lines_of(file_id: int, rows: Sequence[int]) -> Mapping[int, int]:
        return loading.checks.lines(fresh[file_id], rows, _rejected_lines(loading, file_id))

    loading.expectations, removed = expectations.check_ingested(loading.cursor, loading.plan, list(fresh), lines_of)
    for file_id, lost in removed.items():
        load = loading.loads[file_id]
        loading.loads[file_id] = replace(
            load,
            rows_loaded=load.rows_loaded - lost.rows_quarantined - lost.rows_dropped,
            rows_rejected=load.rows_rejected + lost.rows_quarantined,
            rows_dropped=load.rows_dropped + lost.rows_dropped,
        )


def _rejected_lines(loading: Loading, file_id: int) -> list[int]:
    rows = loading.cursor.execute(
        "SELECT line FROM meta.rejected_rows WHERE table_name = $table AND file_id = $id "
        "AND error_type <> 'EXPECTATION' AND line IS NOT NULL",
        {"table": loading.plan.table, "id": file_id},
    ).fetchall()
    return [row[0] for row in rows]
