"""Refresh a table from its SELECT, inside the attempt's transaction."""

from collections.abc import Mapping
from dataclasses import replace

import duckdb

from landingd.edge.engine import expectations, loading, statements
from landingd.edge.engine.expectations import Filled, Removed
from landingd.edge.engine.remembered import Behind, Remembered
from landingd.edge.engine.selects import filtered_by_file, up_to_its_end
from landingd.edge.engine.sqltext import table_ident
from landingd.model import OnViolation, RefreshMode, Stats, TablePlan


def refresh(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, remembered: Remembered) -> Stats:
    """Make the table equal to its SELECT; the way is the plan's, unless the table's definition has changed."""
    made_by = (plan.definition, plan.mode.value)
    stands = remembered.made_by.get(plan.table.casefold()) == made_by
    if not stands:
        # Also where it was appended to until now and is recomputed from here on.
        _forget_loads(cursor, plan, remembered)
        expectations.forget_quarantined(cursor, plan.table)
        cursor.execute(
            "INSERT OR REPLACE INTO meta.tables VALUES ($table, $definition, $refresh)",
            {"table": plan.table, "definition": plan.definition, "refresh": plan.mode.value},
        ).fetchall()
        remembered.made_by[plan.table.casefold()] = made_by
    if plan.mode is RefreshMode.APPEND and stands and plan.table.casefold() in remembered.columns:
        return _append(cursor, plan, remembered)
    return _rebuild(cursor, plan, remembered)


def _select_parameters(cursor: duckdb.DuckDBPyConnection, plan: TablePlan) -> dict[str, str]:
    return statements.bound(cursor.extract_statements(plan.select)[0].named_parameters, plan.parameters)


def _rebuild(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, remembered: Remembered) -> Stats:
    """Recompute the table from its whole SELECT.

    Replacing the table is one statement, takes on new columns by itself, and was measured faster than deleting and
    inserting; readers keep the table they started with.
    """
    select = plan.select
    if plan.mode is RefreshMode.APPEND:
        _forget_loads(cursor, plan, remembered)
        select = filtered_by_file(cursor, select, file_ids=None)
    made = _make(cursor, plan, select, _select_parameters(cursor, plan))
    if plan.mode is RefreshMode.APPEND:
        _copy_loads(cursor, plan, None, made.removed)
        remembered.caught_up(plan.table, str(plan.upstream))
        # Others may append from this one, so its columns have to be known to them.
        remembered.columns[plan.table.casefold()] = _columns(cursor, f"FROM {table_ident(plan.table)}")
    return _stats(plan, made, how="full")


def _make(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, select: str, parameters: Mapping[str, str]) -> Filled:
    """Put the table that the SELECT makes in the place of the one that is there."""
    made = f"CREATE OR REPLACE TABLE {table_ident(plan.table)} AS"
    if _quarantines(plan):
        expectations.forget_quarantined(cursor, plan.table)
    if not expectations.remove_rows(plan.expectations):
        rows_out = cursor.execute(f"{made} {select}", parameters).fetchall()[0][0]
        return Filled(rows_out, expectations.check_standing(cursor, plan) if plan.expectations else ())
    select = up_to_its_end(select)
    cursor.execute(f"{made} (\n{select}\n) WITH NO DATA", parameters).fetchall()
    return expectations.fill(cursor, plan, select, parameters)


def _append(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, remembered: Remembered) -> Stats:
    """Add the rows of file versions that the upstream table gained, take out those of versions that it lost."""
    upstream = str(plan.upstream)
    behind = remembered.behind.get(plan.table.casefold())
    if behind is None or behind.upstream != upstream.casefold():
        behind = compare(cursor, plan.table, upstream)
    gained, lost = sorted(behind.gained), sorted(behind.lost)
    if loading.take_out(cursor, remembered, plan.table, lost) != lost:
        return _rebuild(cursor, plan, remembered)  # for the same reason as below
    added = Filled(0, expectations.no_rows(plan.expectations))
    if gained:
        select = filtered_by_file(cursor, plan.select, file_ids=gained)
        if not _fits(cursor, plan, select, remembered):
            return _rebuild(cursor, plan, remembered)
        added = _add(cursor, plan, select)
        if _copy_loads(cursor, plan, gained, added.removed) != len(gained):
            # The lists are not what was remembered of them: somebody else has written to meta.loads.
            return _rebuild(cursor, plan, remembered)
        remembered.entered(plan.table, gained)
    remembered.caught_up(plan.table, upstream)
    how = f"append {_files(len(gained))}" + (f", remove {len(lost)}" if lost else "")
    return replace(_stats(plan, added, how), changed=bool(gained or lost))


def _add(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, select: str) -> Filled:
    """Insert the rows of these versions."""
    if plan.expectations:
        return expectations.fill(cursor, plan, select, {})
    return Filled(cursor.execute(f"INSERT INTO {table_ident(plan.table)} BY NAME {select}").fetchall()[0][0])


def _stats(plan: TablePlan, filled: Filled, how: str) -> Stats:
    rejected = filled.rows_quarantined if _quarantines(plan) else None
    return Stats(rows_out=filled.rows_out, rows_rejected=rejected, how=how, expectations=filled.counts)


def _quarantines(plan: TablePlan) -> bool:
    return any(e.on_violation is OnViolation.QUARANTINE for e in plan.expectations)


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _fits(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, select: str, remembered: Remembered) -> bool:
    """Whether the SELECT gives the table's columns still: its upstream table may have a new one, or a wider type.

    An INSERT would leave out the one, and round or refuse what only fits into the other.
    """
    upstream = remembered.columns.get(str(plan.upstream).casefold(), {})
    key = (plan.select, *upstream.items())
    given = _columns_given.get(key)
    if given is None:
        if len(_columns_given) >= _COLUMNS_GIVEN_MAX:
            _columns_given.clear()
        given = _columns_given[key] = _columns(cursor, select)
    return remembered.columns.get(plan.table.casefold()) == given


_columns_given: dict[tuple[object, ...], dict[str, str]] = {}
"""The columns of SELECTs, by their text and their upstream table's columns: they depend on nothing else, so they hold
whatever becomes of the transaction, and asking again for every small file would cost it 3 %."""
_COLUMNS_GIVEN_MAX = 1000


def _columns(cursor: duckdb.DuckDBPyConnection, select: str) -> dict[str, str]:
    return {row[0]: row[1] for row in cursor.execute(f"DESCRIBE {select}").fetchall()}


def compare(cursor: duckdb.DuckDBPyConnection, table: str, upstream: str) -> Behind:
    """How far the table is behind, by all that both have ever loaded."""
    loads = "SELECT file_id, loaded_at FROM meta.loads WHERE lower(table_name)"
    rows = cursor.execute(
        f"""
        SELECT above.file_id, own.file_id
        FROM ({loads} = $upstream) AS above FULL JOIN ({loads} = $table) AS own USING (file_id)
        WHERE above.loaded_at IS DISTINCT FROM own.loaded_at
        """,
        {"table": table.casefold(), "upstream": upstream.casefold()},
    ).fetchall()
    gained = frozenset(above for above, _ in rows if above is not None)
    return Behind(upstream.casefold(), gained, frozenset(own for _, own in rows if own is not None))


def _forget_loads(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, remembered: Remembered) -> None:
    named = {"table": plan.table.casefold()}
    cursor.execute("DELETE FROM meta.loads WHERE lower(table_name) = $table", named).fetchall()
    remembered.voided(plan.table)


def _copy_loads(
    cursor: duckdb.DuckDBPyConnection, plan: TablePlan, file_ids: list[int] | None, removed: Mapping[int, Removed]
) -> int:
    """Write down that the table now holds what its upstream holds: so many rows in, so many kept.

    Of these versions, or of all; answers how many there are.
    """
    only = "" if file_ids is None else "WHERE _file_id IN (SELECT unnest($ids))"
    of_these = "" if file_ids is None else "AND file_id IN (SELECT unnest($ids))"
    upstream = str(plan.upstream).casefold()
    names: dict[str, object] = {"table": plan.table, "upstream": upstream, "run_id": plan.key.run_id}
    names |= {} if file_ids is None else {"ids": file_ids}
    out, of_out = "0 AS rows_rejected, 0 AS rows_dropped", ""
    if removed:
        out = "coalesce(aside, 0) AS rows_rejected, coalesce(dropped, 0) AS rows_dropped"
        of_out = """LEFT JOIN (
            SELECT unnest($left_out) AS file_id, unnest($aside) AS aside, unnest($dropped) AS dropped
        ) USING (file_id)"""
        names |= {
            "left_out": list(removed),
            "aside": [lost.rows_quarantined for lost in removed.values()],
            "dropped": [lost.rows_dropped for lost in removed.values()],
        }
    copied = cursor.execute(
        f"""
        INSERT INTO meta.loads BY NAME
        SELECT $table AS table_name, file_id, job, path, content_hash, rows_loaded AS rows_in,
               coalesce(kept, 0) AS rows_loaded, {out}, $run_id AS run_id, loaded_at
        FROM meta.loads LEFT JOIN (
            SELECT _file_id AS file_id, count(*) AS kept FROM {table_ident(plan.table)} {only} GROUP BY 1
        ) USING (file_id)
        {of_out}
        WHERE lower(table_name) = $upstream {of_these}
        """,
        names,
    ).fetchall()
    return int(copied[0][0])
