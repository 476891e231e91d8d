"""Load files into a bronze table, inside the attempt's transaction.

DuckDB's readers are fast and, asked to skip what they cannot parse, may drop most of a file without a word. So a row
that does not parse is copied to `meta.rejected_rows`, and for every file the rows that were counted before the load
must equal the rows loaded plus the rows rejected; else the file's rows leave again.

The first try takes a CSV file for clean: any cell that does not fit ends it. Then the transaction is begun anew with
careful eyes: cells are read as text, each is held against its column's type, and what does not fit is rejected,
rescued, or shows that the column has to widen. JSON and Parquet are always read so.

What would have to be undone within the transaction (a column that only an unusable file brought, rows that left for a
reload that failed) is not undone: TryAgainError begins anew, knowing more.
"""

from collections.abc import Sequence

from landingd.edge.engine.loading.entering import enter
from landingd.edge.engine.loading.expecting import hold_to_expectations
from landingd.edge.engine.loading.judging import count_rescued, judge_batch, leave_no_traces
from landingd.edge.engine.loading.progress import FILE_FAULTS, FileChecks, Loading, TryAgainError
from landingd.edge.engine.loading.reading import batches, cells
from landingd.edge.engine.loading.shapes import read_shapes
from landingd.edge.engine.loading.table import drop_rejects, new_columns, prepare
from landingd.edge.engine.loading.versions import forget_earlier, recognise, record_loads, retract, take_out
from landingd.model import SourceFile

__all__ = ["FILE_FAULTS", "FileChecks", "Loading", "TryAgainError", "culprits", "load", "record_loads", "take_out"]

_REASON_CHARACTERS_MAX = 300


def load(loading: Loading) -> None:
    """Make the table hold exactly the plan's files (of the paths that the plan speaks of).

    Raises TryAgainError where the transaction has to be rolled back and begun anew.
    """
    retract(loading)
    if loading.columns:
        recognise(loading)
    else:
        loading.made_table = True
        forget_earlier(loading)
    read_shapes(loading, loading.to_load)
    prepare(loading)
    careful = loading.keep_rejects or loading.plan.ingest.format != "csv"
    if careful:
        drop_rejects(loading)  # of having looked at the files' shapes
    for batch in batches(loading, loading.to_load):
        entered = enter(loading, batch, cells(loading, batch, careful=careful), careful=careful)
        judge_batch(loading, batch, entered, careful=careful)
    leave_no_traces(loading)
    # A new version that could not be loaded leaves the old one's rows where they are.
    replaced = [old for f in loading.fresh for old in f.replaces]
    take_out(loading.cursor, loading.remembered, loading.plan.table, replaced)
    hold_to_expectations(loading)
    count_rescued(loading)


def culprits(loading: Loading, files: Sequence[SourceFile]) -> dict[int, str]:
    """Which of these files make a reader fail, and what it says: found by halving, outside any transaction."""
    if not files:
        return {}
    try:
        read_shapes(loading, files)
        new_columns(loading, files, loading.columns)
        for batch in batches(loading, files):
            relation = cells(loading, batch, careful=True).relation
            loading.cursor.execute(f"SELECT count(COLUMNS(*)) FROM {relation}").fetchall()
    except FILE_FAULTS as error:
        if len(files) == 1:
            return {files[0].file_id: _what_it_says(error)}
        middle = len(files) // 2
        return culprits(loading, files[:middle]) | culprits(loading, files[middle:])
    finally:
        drop_rejects(loading)
    return {}


def _what_it_says(error: Exception) -> str:
    """Of a CSV error the first line says only where; what is wrong stands below the line that it quotes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    says = lines[:1]
    if says and "CSV Error on Line" in says[0]:
        says += [line for line in lines[1:] if not line.startswith("Original Line")][:1]
    return "; ".join(line[:_REASON_CHARACTERS_MAX] for line in says) or type(error).__name__
