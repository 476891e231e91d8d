"""Which file versions a table holds: recognised, taken out, written down."""

from collections.abc import Sequence
from dataclasses import fields

import duckdb

from landingd.edge.engine.loading.progress import Loading
from landingd.edge.engine.remembered import Remembered
from landingd.edge.engine.sqltext import table_ident
from landingd.model import FileLoad

_COUNTS = ("rows_in", "rows_loaded", "rows_rejected", "rows_dropped", "rows_rescued")


def recognise(loading: Loading) -> None:
    """Leave out versions that the table holds already, in whichever batch they come; take out those to be reloaded."""
    newest = loading.remembered.newest_file.get(loading.plan.table.casefold(), 0)
    if all(f.file_id > newest for f in loading.plan.files):
        return
    rows = loading.cursor.execute(
        f"SELECT file_id, {', '.join(_COUNTS)} FROM meta.loads "
        "WHERE lower(table_name) = $table AND file_id IN (SELECT unnest($ids))",
        {"table": loading.plan.table.casefold(), "ids": [f.file_id for f in loading.plan.files]},
    ).fetchall()
    held = {row[0]: FileLoad(row[0], **dict(zip(_COUNTS, row[1:], strict=True))) for row in rows}
    loading.left = {f.file_id for f in loading.plan.files if f.reload and f.file_id in held}
    take_out(loading.cursor, loading.remembered, loading.plan.table, sorted(loading.left))
    loading.already = held.keys() - loading.left
    loading.loads.update({file_id: held[file_id] for file_id in loading.already})


def forget_earlier(loading: Loading) -> None:
    """There is no table: what is kept of an earlier one, which a script has dropped, speaks of rows that are gone."""
    name = loading.plan.table.casefold()
    if name not in loading.remembered.newest_file:
        return
    for meta in ("meta.loads", "meta.rejected_rows"):
        loading.cursor.execute(f"DELETE FROM {meta} WHERE lower(table_name) = $table", {"table": name}).fetchall()
    loading.remembered.voided(name)


def retract(loading: Loading) -> None:
    """Take out the versions that are to leave; one that was never here is as good as gone."""
    if loading.columns:
        take_out(loading.cursor, loading.remembered, loading.plan.table, loading.plan.retract)
    loading.loads.update({file_id: FileLoad(file_id, retracted=True) for file_id in loading.plan.retract})


def take_out(
    cursor: duckdb.DuckDBPyConnection, remembered: Remembered, table: str, file_ids: Sequence[int]
) -> list[int]:
    """Take the versions' rows out of the table, and everything that is kept of them; those that it held, in order."""
    if not file_ids:
        return []
    ids = {"ids": list(file_ids)}
    cursor.execute(f"DELETE FROM {table_ident(table)} WHERE _file_id IN (SELECT unnest($ids))", ids).fetchall()
    of_table = "WHERE lower(table_name) = $table AND file_id IN (SELECT unnest($ids))"
    named = ids | {"table": table.casefold()}
    cursor.execute(f"DELETE FROM meta.rejected_rows {of_table}", named).fetchall()
    held = cursor.execute(f"DELETE FROM meta.loads {of_table} RETURNING file_id", named).fetchall()
    left = sorted(row[0] for row in held)
    remembered.removed(table, left)
    return left


def record_loads(loading: Loading, committed_at: object) -> None:
    """Write down which versions the table holds now."""
    fresh = loading.fresh
    if not fresh:
        return
    loading.remembered.entered(loading.plan.table, [f.file_id for f in fresh])
    counts = [loading.loads[f.file_id] for f in fresh]
    names = [f.name for f in fields(FileLoad) if f.name in _COUNTS]
    loading.cursor.execute(
        f"""
        INSERT INTO meta.loads BY NAME
        SELECT $table AS table_name, unnest($ids) AS file_id, $job AS job, unnest($paths) AS path,
               unnest($hashes) AS content_hash, $run_id AS run_id, $at AS loaded_at,
               {", ".join(f"unnest(${name}) AS {name}" for name in names)}
        """,
        {
            "table": loading.plan.table,
            "job": loading.plan.job,
            "ids": [f.file_id for f in fresh],
            "paths": [f.name for f in fresh],
            "hashes": [f.content_hash for f in fresh],
            "run_id": loading.plan.key.run_id,
            "at": committed_at,
        }
        | {name: [getattr(c, name) for c in counts] for name in names},
    ).fetchall()
