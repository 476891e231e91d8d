"""What a script leaves for the tasks behind it, whether an attempt changed anything, and what is kept of it all."""

import json
from dataclasses import replace

import pytest

from landingd.edge.engine import open_engine
from landingd.errors import EngineError, RefusedError
from landingd.model import OUTPUT_BYTES_MAX, Committed, Failed, Output, RefreshMode


async def run(warehouse, sql, **parameters):
    outcome = await warehouse.engine.execute(warehouse.script(sql, **parameters))
    assert isinstance(outcome, Committed), outcome
    return outcome.stats


# --- the last SELECT --------------------------------------------------------------------------------------


async def test_the_first_row_of_the_last_select_are_the_values_and_its_rows_the_output(warehouse):
    sql = "SELECT 0 AS other; SELECT n, 'x' AS x FROM range(3) t(n) ORDER BY n; CREATE TABLE gold.t AS SELECT 1 AS a"
    output = (await run(warehouse, sql)).output
    assert output.values == {"n": 0, "x": "x"}
    assert output.rows == ({"n": 0, "x": "x"}, {"n": 1, "x": "x"}, {"n": 2, "x": "x"})


async def test_a_script_without_a_select_or_with_an_empty_one_has_no_output(warehouse):
    assert (await run(warehouse, "CREATE TABLE gold.t AS SELECT 1 AS a")).output == Output()
    assert (await run(warehouse, "SELECT * FROM gold.t WHERE a > 1")).output == Output()


async def test_values_are_such_that_json_neither_rounds_nor_refuses_them(warehouse):
    sql = """
        SELECT 1.10::DECIMAL(20, 2) AS price, 9007199254740993 AS big, DATE '2026-01-31' AS day, TIME '10:00' AS at,
               TIMESTAMP '2026-01-31 10:00:00.5' AS stamp, TIMESTAMPTZ '2026-01-31 10:00:00+01' AS zoned,
               [TIMESTAMPTZ '2026-01-31 10:00:00+01'] AS nested, {'d': DATE '2026-01-31', 'n': NULL} AS struct,
               MAP {1: 2} AS map, 'nan'::DOUBLE AS nan, '\\xAAb'::BLOB AS bytes, true AS yes, 1 AS n, 2 AS n,
               '6b2d4b4e-6a53-4c9f-8d6a-3a0f0d0c9c11'::UUID AS id, INTERVAL 3 DAY AS span
    """
    stats = await run(warehouse, sql)
    values = json.loads(json.dumps(stats.output.values, allow_nan=False))
    nested = values.pop("nested")
    assert nested[0].startswith("2026-01-31")
    assert values == {
        "price": "1.10",
        "big": 9007199254740993,
        "day": "2026-01-31",
        "at": "10:00:00",
        "stamp": "2026-01-31T10:00:00.500000",
        "zoned": "2026-01-31T09:00:00+00:00",
        "struct": {"d": "2026-01-31", "n": None},
        "map": {"1": 2},
        "nan": "nan",
        "bytes": "\\xAAb",
        "yes": True,
        "n": 1,
        "n_1": 2,
        "id": "6b2d4b4e-6a53-4c9f-8d6a-3a0f0d0c9c11",
        "span": "3 days, 0:00:00",
    }


async def test_parameters_are_bound_in_a_select_with_time_zones_too(warehouse):
    stats = await run(warehouse, "SELECT $month AS month, TIMESTAMPTZ '2026-01-01 00:00+00' AS t; -- end", month="Oct")
    assert stats.output.values == {"month": "Oct", "t": "2026-01-01T00:00:00+00:00"}


async def test_so_many_rows_and_bytes_are_kept_and_no_more(warehouse):
    many = (await run(warehouse, "FROM range(5000)")).output
    assert (len(many.rows), many.rows_cut) == (1000, True)
    just = (await run(warehouse, "FROM range(1000)")).output
    assert (len(just.rows), just.rows_cut) == (1000, False)
    rows = (await run(warehouse, "SELECT repeat('x', 1000) AS x FROM range(900)")).output.rows
    assert 40 < len(rows) < 50
    assert len(json.dumps(rows).encode()) <= OUTPUT_BYTES_MAX
    huge = (await run(warehouse, "SELECT repeat('x', 50000) AS x")).output
    assert (huge.values, huge.rows, huge.rows_cut) == ({}, (), True)
    assert "48 KiB" in huge.text


async def test_an_error_in_a_row_that_is_not_kept_is_an_error_all_the_same(warehouse):
    sql = "SELECT CASE WHEN n = 150000 THEN error('late') END FROM range(200000) t(n); SELECT 1"
    assert isinstance(await warehouse.engine.execute(warehouse.script(sql)), Failed)


async def test_output_and_changed_are_read_back_from_the_commit_row(warehouse, options):
    plan = warehouse.script("SELECT DATE '2026-01-01' AS d, [1, 2] AS l")
    outcome = await warehouse.engine.execute(plan)
    assert await warehouse.engine.committed([1]) == {plan.key: outcome.stats}
    assert not outcome.stats.changed
    warehouse.engine.close()
    again = open_engine(options)
    assert await again.committed([1]) == {plan.key: outcome.stats}
    again.close()


async def test_that_rows_were_left_out_is_read_back_from_the_commit_row(warehouse):
    plan = warehouse.script("FROM range(2000)")
    outcome = await warehouse.engine.execute(plan)
    assert (await warehouse.engine.committed([1]))[plan.key].output == outcome.stats.output
    assert outcome.stats.output.rows_cut


async def test_commit_rows_from_before_there_were_outputs_are_read(warehouse):
    plan = warehouse.script("CREATE TABLE gold.t AS SELECT 1 AS a")
    outcome = await warehouse.engine.execute(plan)
    lane = warehouse.engine._lane._cursor
    lane.execute("UPDATE meta.commits SET stats = json_merge_patch(stats, '{\"changed\": null}')").fetchall()
    assert await warehouse.engine.committed([1]) == {plan.key: replace(outcome.stats, changed=True)}


# --- whether anything changed -----------------------------------------------------------------------------


async def test_an_append_that_has_nothing_to_append_has_changed_nothing(warehouse):
    select = "SELECT id FROM bronze.t"
    await warehouse.load(warehouse.file(1))
    assert (await warehouse.refresh(select, RefreshMode.APPEND)).changed
    assert not (await warehouse.refresh(select, RefreshMode.APPEND)).changed
    await warehouse.load(warehouse.file(2))
    assert (await warehouse.refresh(select, RefreshMode.APPEND)).changed
    await warehouse.load(retract=(2,))
    assert (await warehouse.refresh(select, RefreshMode.APPEND)).changed
    assert (await warehouse.refresh("SELECT 1 AS a", RefreshMode.FULL, table="gold.t")).changed


async def test_an_ingest_has_changed_its_table_only_where_rows_entered_or_left(warehouse):
    async def changed(*files, **more):
        outcome = await warehouse.engine.execute(warehouse.ingest(*files, **more))
        return outcome.stats.changed

    file = warehouse.file(1)
    assert await changed(file)
    assert not await changed(file)
    assert await changed(replace(file, reload=True))
    assert not await changed()
    assert await changed(retract=(1,))


@pytest.mark.parametrize(
    ("sql", "changed"),
    [
        ("SELECT 1", False),
        ("SELECT 'DELETE' AS word -- DROP, INSERT", False),
        ("WITH gone AS (DELETE FROM gold.x RETURNING a) SELECT count(*) FROM gone", True),
        ("INSERT INTO gold.x VALUES (2)", True),
    ],
)
async def test_a_script_that_only_selects_has_changed_nothing(warehouse, sql, changed):
    await run(warehouse, "CREATE TABLE gold.x AS SELECT 1 AS a")
    assert (await run(warehouse, sql)).changed is changed


async def test_a_script_cannot_write_landingds_own_tables_through_a_select_either(warehouse):
    await run(warehouse, "SELECT 1")
    sql = "WITH gone AS (DELETE FROM meta.commits RETURNING run_id) SELECT * FROM gone"
    outcome = await warehouse.engine.execute(warehouse.script(sql))
    assert isinstance(outcome, Failed)
    assert "meta" in outcome.error
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.commits") == [(1,)]
    assert (await run(warehouse, "SELECT count(*) AS n FROM meta.commits")).output.values == {"n": 1}


# --- a question from inside -------------------------------------------------------------------------------


async def test_first_rows_are_read_and_json_ready(warehouse):
    rows = await warehouse.engine.first_rows("SELECT n, DATE '2026-01-01' AS d FROM range(9) t(n) ORDER BY n;", 2)
    assert rows == [{"n": 0, "d": "2026-01-01"}, {"n": 1, "d": "2026-01-01"}]
    assert await warehouse.engine.first_rows("SELECT 1 WHERE false", 5) == []


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "DROP SCHEMA gold", "SET threads = 1", "COMMIT", ""])
async def test_first_rows_takes_one_select(warehouse, sql):
    with pytest.raises(RefusedError):
        await warehouse.engine.first_rows(sql, 1)


@pytest.mark.parametrize("sql", ["SELECT nothing", "SELECT error('x')", "SELEC"])
async def test_first_rows_says_what_is_wrong(warehouse, sql):
    with pytest.raises(EngineError):
        await warehouse.engine.first_rows(sql, 1)


async def test_first_rows_cannot_write(warehouse):
    await run(warehouse, "CREATE TABLE gold.x AS SELECT 1 AS a")
    with pytest.raises(RefusedError):
        await warehouse.engine.first_rows("WITH d AS (DELETE FROM gold.x RETURNING a) SELECT * FROM d", 1)
    assert await warehouse.rows("FROM gold.x") == [(1,)]


async def test_first_rows_does_not_take_for_ever(warehouse):
    endless = "SELECT count(*) FROM range(100000000000) a, range(1000000) b WHERE random() < 0.5"
    with pytest.raises(EngineError, match="longer"):
        await warehouse.engine.first_rows(endless, 1, timeout_s=0.05)
    assert await warehouse.engine.first_rows("SELECT 1 AS a", 1) == [{"a": 1}]


# --- how long commit rows are kept ------------------------------------------------------------------------


async def test_old_commit_rows_are_forgotten_but_never_the_newest_and_those_to_keep(warehouse):
    keys = []
    for run_id in (1, 2, 3, 4):
        plan = warehouse.script("SELECT 1")
        keys.append(replace(plan.key, run_id=run_id))
        await warehouse.engine.execute(replace(plan, key=keys[-1]))
    assert await warehouse.engine.forget_commits(3, keep=[1]) == 1
    assert set(await warehouse.engine.committed([1, 2, 3, 4])) == {keys[0], keys[2], keys[3]}
    assert await warehouse.engine.forget_commits(99) == 2
    assert await warehouse.engine.high_water() == (4, 0)
    assert await warehouse.engine.forget_commits(99) == 0


# --- what the lane knows of tables that a script has changed ----------------------------------------------


async def test_in_one_transaction_a_table_follows_what_a_script_before_it_did_to_its_upstream(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    await warehouse.load(warehouse.file(2))
    script = warehouse.script("ALTER TABLE bronze.t ADD COLUMN more VARCHAR DEFAULT 'new'")
    table = warehouse.table("SELECT * FROM bronze.t", RefreshMode.APPEND)
    outcomes = await warehouse.engine.execute_together([script, table])
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert await warehouse.rows("SELECT id, more FROM silver.t ORDER BY ALL") == [
        (1, "new"),
        (1, "new"),
        (2, "new"),
        (2, "new"),
    ]
    assert "more" in warehouse.engine.columns_of("bronze.t")
