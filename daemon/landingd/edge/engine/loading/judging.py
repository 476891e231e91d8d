"""Hold every file against its account: the records counted before the load are loaded or rejected, each once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from landingd.edge.engine.loading.progress import RESCUED, Loading, TryAgainError, folded
from landingd.edge.engine.loading.rejects import find_rejects, first_reject, keep_rejects
from landingd.edge.engine.loading.shapes import parquet_rows
from landingd.edge.engine.loading.table import drop_rejects
from landingd.edge.engine.loading.widening import find_wider_types
from landingd.model import FileLoad, SchemaEvolution, SourceFile


def judge_batch(loading: Loading, batch: Sequence[SourceFile], entered: Mapping[int, int], *, careful: bool) -> None:
    """Check the equation for each file, keep the rejected rows, and take bad files out again.

    Raises TryAgainError where a column has to widen first.
    """
    counted = {f.file_id: f.rows_in for f in batch}
    if loading.plan.ingest.format == "parquet" and None in counted.values():
        counted |= parquet_rows(loading, [f for f in batch if f.rows_in is None])
    is_clean = all(counted[f.file_id] == entered[f.file_id] for f in batch)
    rejected = find_rejects(loading, batch) if careful and not is_clean else {}
    if rejected:
        find_wider_types(loading, [f for f in batch if f.file_id in rejected])
    bad: list[int] = []
    for file in batch:
        counts = FileLoad(
            file.file_id, counted[file.file_id] or 0, entered[file.file_id], rejected.get(file.file_id, 0)
        )
        result = _judge(loading, file, counts, is_counted=counted[file.file_id] is not None)
        loading.loads[file.file_id] = result
        if not result.loaded:
            bad.append(file.file_id)
    if bad:
        loading.cursor.execute(
            f"DELETE FROM {loading.table} WHERE _file_id IN (SELECT unnest($ids))", {"ids": bad}
        ).fetchall()
    if rejected:
        keep_rejects(loading, bad)
    if careful:
        drop_rejects(loading)


def _judge(loading: Loading, file: SourceFile, counts: FileLoad, *, is_counted: bool) -> FileLoad:
    if loading.checks.changed(file):
        return FileLoad(file.file_id, gone="its content changed while it was being loaded")
    accounted = counts.rows_loaded + counts.rows_rejected
    rows_in = counts.rows_in
    if (not is_counted or rows_in != accounted) and loading.plan.ingest.format != "parquet":
        # The fast count takes every quote for a real one; a field like 5" pipe misleads it. Count again, exactly.
        rows_in = loading.checks.recount(file)
    result = replace(counts, rows_in=rows_in)
    if rows_in != accounted:
        return replace(
            result,
            quarantined=f"{rows_in} rows in the file, but {counts.rows_loaded} loaded and {counts.rows_rejected} "
            "rejected: the reader lost or made up rows",
        )
    limit = loading.plan.ingest.max_rejected_percent
    if counts.rows_rejected and 100.0 * counts.rows_rejected > limit * accounted:
        return replace(
            result,
            quarantined=f"{counts.rows_rejected} of {rows_in} rows did not parse, more than "
            f"max_rejected_percent = {limit:g}; first: {first_reject(loading, file)}",
        )
    return result


def count_rescued(loading: Loading) -> None:
    """Add to each file's account how many of its rows have something in `_rescued_data`."""
    if loading.plan.ingest.schema_evolution is not SchemaEvolution.RESCUE or not loading.fresh:
        return
    rows = loading.cursor.execute(
        f"SELECT _file_id, count(*) FROM {loading.table} "
        f"WHERE {RESCUED} IS NOT NULL AND _file_id IN (SELECT unnest($ids)) GROUP BY 1",
        {"ids": [f.file_id for f in loading.fresh]},
    ).fetchall()
    for file_id, rescued in rows:
        loading.loads[file_id] = replace(loading.loads[file_id], rows_rescued=rescued)


def leave_no_traces(loading: Loading) -> None:
    """A file that could not be loaded changes nothing: begin anew without it where it has.

    Its columns may have joined the table, or the rows that an earlier load left may have gone.
    """
    unusable = {f.file_id: loading.loads[f.file_id] for f in loading.plan.files if not loading.loads[f.file_id].loaded}
    tried = {file_id: load for file_id, load in unusable.items() if file_id in loading.shapes}
    if not tried:
        return
    brought = {name.casefold() for f in loading.fresh for name in loading.shapes[f.file_id].sources}
    declared = folded(loading.plan.ingest.schema_hints)
    orphans = {name.casefold() for name in loading.added} - brought - declared.keys()
    made_for_nothing = loading.made_table and not loading.fresh and not declared
    if orphans or made_for_nothing or loading.left & tried.keys():
        raise TryAgainError(settled=tried)
