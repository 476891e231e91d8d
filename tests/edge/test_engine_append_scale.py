"""What a table that is refreshed by appending has to do is remembered, and is exactly what a full comparison finds."""

from dataclasses import replace

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.edge.engine import open_engine, remembered, tables
from landingd.edge.engine.remembered import CHANGES_MAX, Behind, Remembered
from landingd.model import Committed, Failed, RefreshMode
from warehouses import CHECKS, Warehouse

SELECT = "SELECT id FROM bronze.t"


@pytest.fixture
def comparisons(monkeypatch):
    """The tables whose lists were compared in full, in order."""
    compared = []

    def compare(cursor, table, upstream):
        compared.append(table)
        return comparing(cursor, table, upstream)

    comparing = tables.compare
    monkeypatch.setattr(tables, "compare", compare)
    return compared


# --- only the changes are looked at -----------------------------------------------------------------------


async def test_after_a_tables_first_refresh_its_lists_are_not_compared_again(warehouse, comparisons):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.load(warehouse.file(2), warehouse.file(3))
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 2 files"
    await warehouse.load(warehouse.file(4, replaces=(2,)), replace(warehouse.file(3), reload=True), retract=(1,))
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 2 files, remove 3"
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 0 files"
    assert comparisons == []
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM silver.t ORDER BY 1") == [(3,), (4,)]


async def test_a_new_process_compares_once(warehouse, options, comparisons):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.load(warehouse.file(2))
    warehouse.engine.close()
    again = Warehouse(open_engine(options), options)
    for n in (3, 4):
        await again.load(again.file(n))
        await again.refresh(SELECT, RefreshMode.APPEND)
    assert comparisons == ["silver.t"]
    assert await again.rows("SELECT DISTINCT _file_id FROM silver.t ORDER BY 1") == [(1,), (2,), (3,), (4,)]
    again.engine.close()


@pytest.mark.parametrize("together", [True, False])
async def test_an_attempt_that_fails_leaves_what_is_remembered_as_it_was(warehouse, comparisons, together):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    broken = warehouse.table("SELECT error('x') FROM silver.t", RefreshMode.FULL, table="gold.t")
    plans = [warehouse.ingest(warehouse.file(2)), warehouse.table(SELECT, RefreshMode.APPEND), broken]
    if together:
        await warehouse.engine.execute_together(plans, checks=CHECKS)
        assert await warehouse.rows("SELECT DISTINCT _file_id FROM silver.t") == [(1,)]
    outcomes = [await warehouse.engine.execute(plan, checks=CHECKS) for plan in plans]
    assert [type(outcome) for outcome in outcomes] == [Committed, Committed, Failed]
    assert outcomes[1].stats.how == "append 1 file"
    assert comparisons == []


async def test_a_commit_whose_end_is_not_clear_makes_the_lane_ask_anew(warehouse, comparisons):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    lane = warehouse.engine._lane
    lane._cursor = LosesItsCommit(lane._cursor)
    assert isinstance(await warehouse.engine.execute(warehouse.ingest(warehouse.file(2))), Failed)
    lane._cursor = lane._cursor.cursor
    assert lane.remembered is None
    await warehouse.load(warehouse.file(3))
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 1 file"
    assert comparisons == ["silver.t"]


class LosesItsCommit:
    """DuckDB's cursor, whose COMMIT ends with an error and is a ROLLBACK."""

    def __init__(self, cursor):
        self.cursor = cursor

    def execute(self, sql, *values):
        if sql == "COMMIT":
            self.cursor.execute("ROLLBACK")
            raise duckdb.TransactionException("lost")
        return self.cursor.execute(sql, *values)

    def __getattr__(self, name):
        return getattr(self.cursor, name)


async def test_a_table_that_is_too_far_behind_is_compared(warehouse, comparisons, monkeypatch):
    monkeypatch.setattr(remembered, "CHANGES_MAX", 3)
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.load(*(warehouse.file(n) for n in (2, 3, 4)))
    assert len(warehouse.engine._lane.remembered.behind["silver.t"].gained) == 3
    await warehouse.load(warehouse.file(5))
    assert "silver.t" not in warehouse.engine._lane.remembered.behind
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 4 files"
    assert comparisons == ["silver.t"]


async def test_what_is_appended_to_an_appended_table_passes_on_to_the_next(warehouse, comparisons):
    next_one = {"table": "silver.u", "upstream": "silver.t"}
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.refresh("SELECT id FROM silver.t", RefreshMode.APPEND, **next_one)
    await warehouse.load(warehouse.file(2), retract=(1,))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    stats = await warehouse.refresh("SELECT id FROM silver.t", RefreshMode.APPEND, **next_one)
    assert stats.how == "append 1 file, remove 1"
    assert comparisons == []
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM silver.u") == [(2,)]


async def test_a_table_below_one_that_was_made_anew_is_compared(warehouse, comparisons):
    next_one = {"table": "silver.u", "upstream": "silver.t"}
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    await warehouse.refresh("SELECT id FROM silver.t", RefreshMode.APPEND, **next_one)
    await warehouse.load(warehouse.file(2, b"id,brand,price\n3,new,9.5\n"))
    assert (await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)).how == "full"
    assert (await warehouse.refresh("SELECT id FROM silver.t", RefreshMode.APPEND, **next_one)).how == "append 1 file"
    assert comparisons == ["silver.u"]


async def test_what_is_retracted_and_was_never_there_is_no_change(warehouse):
    await warehouse.load(warehouse.file(2))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.load(warehouse.file(3, replaces=(1,)), retract=(1, 9))
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 1 file"


# --- scripts that meddle ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "compared"),
    [
        ("CREATE TABLE gold.x AS SELECT 1 AS a", []),
        ("SELECT count(*) FROM meta.loads", []),
        ("CREATE TABLE gold.x AS SELECT * FROM meta.loads", None),  # refused
        ("CREATE TABLE gold.loads AS SELECT 1 AS a", ["silver.t"]),
    ],
)
async def test_a_script_that_writes_and_names_the_books_makes_the_lane_ask_anew(warehouse, comparisons, sql, compared):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    outcome = await warehouse.engine.execute(warehouse.script(sql))
    assert isinstance(outcome, Failed if compared is None else Committed)
    await warehouse.load(warehouse.file(2))
    assert (await warehouse.refresh(SELECT, RefreshMode.APPEND)).how == "append 1 file"
    assert comparisons == (compared or [])


@pytest.mark.parametrize(
    "statement",
    [
        r"WITH a AS (SELECT E'\'' AS x), g AS ({}) SELECT count(*) FROM g, a WHERE x <> ''",
        "WITH a AS (SELECT $$'$$ AS x), g AS ({}) SELECT count(*) FROM g, a WHERE x <> ''",
        """WITH a AS (SELECT 1 AS "'"), g AS ({}) SELECT count(*) FROM g, a WHERE "'" <> 2 -- '""",
    ],
)
async def test_quotes_do_not_hide_that_a_script_writes_to_the_books(warehouse, statement):
    await warehouse.load(warehouse.file(1))
    outcome = await warehouse.engine.execute(
        warehouse.script(statement.format("DELETE FROM meta.loads WHERE path <> '' RETURNING file_id"))
    )
    assert isinstance(outcome, Failed)
    assert "meta" in outcome.error
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.loads") == [(1,)]


@pytest.mark.parametrize("also", ["nothing", "a new file", "a retraction"])
async def test_a_table_that_a_script_has_dropped_is_made_again(warehouse, also):
    await warehouse.load(warehouse.file(1), warehouse.file(2))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.engine.execute(warehouse.script("DROP TABLE silver.t"))
    if also != "nothing":
        await warehouse.load(*([warehouse.file(3)] if also == "a new file" else []), retract=(1,) * (also[2] == "r"))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    assert await warehouse.rows("SELECT _file_id, id FROM silver.t ORDER BY ALL") == await warehouse.rows(
        "SELECT _file_id, id FROM bronze.t ORDER BY ALL"
    )


async def test_what_is_kept_of_a_bronze_table_that_a_script_has_dropped_goes_with_the_next_load(warehouse):
    await warehouse.load(warehouse.file(1), warehouse.file(2))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.engine.execute(warehouse.script("DROP TABLE bronze.t"))
    await warehouse.load(warehouse.file(2), warehouse.file(3))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    for table in ("bronze.t", "silver.t"):
        assert await warehouse.rows(f"SELECT _file_id, count(*) AS n FROM {table} GROUP BY 1 ORDER BY 1") == [
            (2, 2),
            (3, 2),
        ]
        held = await warehouse.rows(f"SELECT file_id FROM meta.loads WHERE table_name = '{table}' ORDER BY 1")
        assert held == [(2,), (3,)]


@pytest.mark.parametrize(
    "meddling",
    [
        "DELETE FROM meta.loads WHERE file_id = 1",
        "DELETE FROM meta.loads WHERE file_id = 2",
        "DELETE FROM meta.loads WHERE table_name = 'silver.t'",
        "DELETE FROM meta.loads WHERE table_name = 'bronze.t' AND file_id = 3",
        "INSERT INTO meta.loads SELECT * FROM meta.loads WHERE file_id = 3",
    ],
)
async def test_lists_that_are_not_what_was_remembered_of_them_make_the_table_anew(warehouse, meddling):
    """Nobody can write there; where somebody has, the table is what its upstream table's list says, or it fails."""
    await warehouse.load(warehouse.file(1), warehouse.file(2))
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    await warehouse.load(warehouse.file(3), replace(warehouse.file(1), reload=True), retract=(2,))
    warehouse.engine._root.cursor().execute(meddling).fetchall()
    await warehouse.refresh(SELECT, RefreshMode.APPEND)
    assert await warehouse.rows("SELECT _file_id, id FROM silver.t ORDER BY ALL") == await warehouse.rows(
        "SELECT _file_id, id FROM bronze.t ORDER BY ALL"
    )


# --- names ------------------------------------------------------------------------------------------------


async def test_a_table_may_be_written_in_upper_case_and_its_name_may_change_its_case(warehouse, options, comparisons):
    """`upstream` is as DuckDB's parser says it, in lower case; meta.loads as the job file says it."""

    async def load(table, *files, **more):
        plan = replace(warehouse.ingest(*files, **more), table=table)
        assert isinstance(await warehouse.engine.execute(plan, checks=CHECKS), Committed)

    async def held():
        return await warehouse.rows("SELECT _file_id, count(*) AS n FROM silver.u GROUP BY 1 ORDER BY 1")

    names = {"table": "silver.U", "upstream": "bronze.orders"}
    await load("bronze.Orders", warehouse.file(1))
    await warehouse.refresh("SELECT id FROM bronze.Orders", RefreshMode.APPEND, **names)
    await load("bronze.Orders", warehouse.file(2))
    stats = await warehouse.refresh("SELECT id FROM bronze.Orders", RefreshMode.APPEND, **names)
    assert (stats.how, await held()) == ("append 1 file", [(1, 2), (2, 2)])
    await load("bronze.ORDERS", warehouse.file(1), warehouse.file(3), retract=(2,))
    await warehouse.refresh(
        "SELECT id FROM bronze.Orders", RefreshMode.APPEND, table="silver.u", upstream=names["upstream"]
    )
    assert await held() == [(1, 2), (3, 2)]
    assert comparisons == []


# --- the changes themselves ---------------------------------------------------------------------------------

CHANGES = st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=40)


@given(agreed=st.frozensets(st.integers(1, 6)), changes=CHANGES)
def test_what_a_table_is_behind_is_what_differs_whatever_came_and_went(agreed, changes):
    """Each version that enters is a load of its own, even of a file that was there before."""
    table = dict.fromkeys(agreed, 0)
    upstream, behind = dict(table), Behind("bronze.t")
    for load, (enters, file_id) in enumerate(changes, start=1):
        if enters and file_id not in upstream:
            upstream[file_id] = load
            behind = behind.after_entered([file_id])
        elif not enters and file_id in upstream:
            del upstream[file_id]
            behind = behind.after_removed([file_id])
    assert behind.gained == {f for f, load in upstream.items() if table.get(f) != load}
    assert behind.lost == {f for f, load in table.items() if upstream.get(f) != load}


def test_a_copy_may_change_and_what_it_was_made_from_does_not():
    known = Remembered({"bronze.t": {"a": "BIGINT"}}, {"bronze.t": 1}, {"silver.t": ("1", "append")})
    known.caught_up("silver.t", "bronze.t")
    before = repr(known)
    copy = known.copy()
    copy.entered("bronze.t", [2, 3])
    copy.removed("bronze.t", [1])
    copy.columns["bronze.t"] = {}
    copy.made_by["silver.t"] = ("2", "full")
    assert copy.behind == {"silver.t": Behind("bronze.t", frozenset({2, 3}), frozenset({1}))}
    assert repr(known) == before
    copy.entered("bronze.t", range(10, 10 + CHANGES_MAX))
    assert copy.behind == {}
