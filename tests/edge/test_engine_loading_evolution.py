"""What a table does when files change: new columns, other types, and cells that do not fit."""

import json

import pytest

from landingd.edge.engine import FileChecks
from landingd.model import FileLoad, Ingest, RefreshMode, SchemaEvolution
from warehouses import CHECKS

RESCUE = Ingest(schema_evolution=SchemaEvolution.RESCUE)
FAIL = Ingest(schema_evolution=SchemaEvolution.FAIL)
NONE = Ingest(schema_evolution=SchemaEvolution.NONE)


async def types(warehouse):
    columns = (await warehouse.engine.columns())["bronze.t"]
    return {name: kind for name, kind in columns.items() if name not in ("_file_id", "_row")}


def column(name, *cells):
    return (name + "\n" + "".join(f"{cell},x\n" for cell in cells)).replace("\n", ",y\n", 1).encode()


# --- add_new_columns: types widen -------------------------------------------------------------------------


async def test_a_price_that_gets_cents_keeps_them(warehouse):
    """DuckDB reads '5.50' as the integer 6 (and '5.49' as 5) without a word."""
    await warehouse.load(warehouse.file(1, column("price", 5, 7)))
    loads = await warehouse.load(warehouse.file(2, column("price", 5.5, 8)))
    assert loads[2] == FileLoad(2, 2, 2, 0)
    assert await types(warehouse) == {"price": "DOUBLE", "y": "VARCHAR"}
    assert await warehouse.rows("SELECT price FROM bronze.t ORDER BY _file_id, _row") == [(5,), (7,), (5.5,), (8,)]


@pytest.mark.parametrize("rows", [1, 200_000], ids=["small", "large"])
@pytest.mark.parametrize(("cell", "kept"), [("0.5", 0.5), ("15e-1", 1.5)])
async def test_a_fraction_is_noticed_in_files_of_any_size(warehouse, rows, cell, kept):
    await warehouse.load(warehouse.file(1, column("price", 5, 7)))
    await warehouse.load(warehouse.file(2, column("price", *[1] * rows, cell)))
    last = "SELECT price FROM bronze.t WHERE _file_id = 2 ORDER BY _row DESC LIMIT 1"
    assert await warehouse.rows(last) == [(kept,)]


async def test_a_column_widens_step_by_step_and_keeps_its_older_rows(warehouse):
    for file_id, cells in enumerate([(1, 2), (2.5, 3), ("n/a", "old")], start=1):
        loads = await warehouse.load(warehouse.file(file_id, column("v", *cells)))
        assert loads[file_id].rows_loaded == 2
    assert (await types(warehouse))["v"] == "VARCHAR"
    rows = await warehouse.rows("SELECT v FROM bronze.t ORDER BY _file_id, _row")
    assert [row[0] for row in rows] == ["1.0", "2.0", "2.5", "3.0", "n/a", "old"]


@pytest.mark.parametrize(
    ("before", "after", "widened"),
    [
        (["1"], ["9223372036854775808"], "HUGEINT"),
        (["2025-01-01"], ["2025-01-01 10:30:00"], "TIMESTAMP"),
        (["2025-01-01"], ["yesterday"], "VARCHAR"),
        (["true"], ["maybe"], "VARCHAR"),
        (["1.5"], ["n/a"], "VARCHAR"),
        (["1"], ["1_000"], "VARCHAR"),
        (["1"], ["0x10"], "VARCHAR"),
    ],
)
async def test_a_detected_type_widens_as_far_as_a_file_needs(warehouse, before, after, widened):
    await warehouse.load(warehouse.file(1, column("v", *before)))
    loads = await warehouse.load(warehouse.file(2, column("v", *after)))
    assert loads[2] == FileLoad(2, 1, 1, 0)
    assert (await types(warehouse))["v"] == widened
    assert (await warehouse.rows("SELECT CAST(v AS VARCHAR) AS v FROM bronze.t WHERE _file_id = 2")) == [(after[0],)]


async def test_a_few_dirty_cells_are_rejected_and_do_not_make_a_column_text(warehouse):
    await warehouse.load(warehouse.file(1, column("v", *range(20))))
    loads = await warehouse.load(warehouse.file(2, column("v", *range(40), "oops")))
    assert loads[2] == FileLoad(2, 41, 40, 1)
    assert (await types(warehouse))["v"] == "BIGINT"
    rejected = await warehouse.rows("SELECT line, column_name, error_type, error, raw FROM meta.rejected_rows")
    assert rejected == [(42, "v", "CAST", 'Could not convert "oops" to BIGINT', "oops,x")]


async def test_dirty_cells_beside_wider_ones_are_rejected_and_the_column_widens_for_the_rest(warehouse):
    loads = await warehouse.load(warehouse.file(1, column("v", *range(20))))
    loads = await warehouse.load(warehouse.file(2, column("v", *range(40), "2.5", "oops")))
    assert loads[2] == FileLoad(2, 42, 41, 1)
    assert (await types(warehouse))["v"] == "DOUBLE"


async def test_integers_that_a_double_would_garble_are_not_made_doubles(warehouse):
    await warehouse.load(warehouse.file(1, column("v", 2053013555631882655)))
    await warehouse.load(warehouse.file(2, column("v", *[7] * 30, "1.5")))
    assert await warehouse.rows("SELECT CAST(v AS VARCHAR) AS v FROM bronze.t WHERE _file_id = 1") == [
        ("2053013555631882655",)
    ]
    assert await warehouse.rows("SELECT raw FROM meta.rejected_rows") == [("1.5,x",)]
    await warehouse.load(warehouse.file(3, column("v", "1.5", "2.5")))
    assert await warehouse.rows("SELECT v FROM bronze.t WHERE _file_id IN (1, 3) ORDER BY _file_id, _row") == [
        ("2053013555631882655",),
        ("1.5",),
        ("2.5",),
    ]


async def test_identifiers_too_long_for_any_integer_stay_text(warehouse):
    await warehouse.load(warehouse.file(1, column("v", "440000000000000000110000000000000000000000001")))
    assert (await types(warehouse))["v"] == "VARCHAR"


@pytest.mark.parametrize("cell", ["2.5", "oops", "1_000"])
async def test_a_hinted_type_never_widens_and_what_it_cannot_keep_is_rejected(warehouse, cell):
    ingest = Ingest(schema_hints={"v": "BIGINT"})
    await warehouse.load(warehouse.file(1, column("v", 1)), ingest=ingest)
    loads = await warehouse.load(warehouse.file(2, column("v", *range(20), cell)), ingest=ingest)
    assert loads[2] == FileLoad(2, 21, 20, 1)
    assert (await types(warehouse))["v"] == "BIGINT"
    assert await warehouse.rows("SELECT line, raw FROM meta.rejected_rows") == [(22, f"{cell},x")]


async def test_a_wider_type_in_one_of_several_new_files_holds_for_the_first_table_too(warehouse):
    files = [warehouse.file(n, column("v", cell)) for n, cell in enumerate([1, 2.5, 3], start=1)]
    loads = await warehouse.load(*files)
    assert all(load.loaded for load in loads.values())
    assert await warehouse.rows("SELECT v FROM bronze.t ORDER BY _file_id") == [(1,), (2.5,), (3,)]


async def test_a_column_that_vanishes_is_null_and_a_new_one_is_null_in_older_rows(warehouse):
    await warehouse.load(warehouse.file(1, b"a,b\n1,2\n"))
    await warehouse.load(warehouse.file(2, b"c,a\n9,8\n"))
    assert await warehouse.rows("SELECT a, b, c FROM bronze.t ORDER BY _file_id") == [(1, 2, None), (8, None, 9)]


async def test_what_is_appended_from_a_table_widens_with_it(warehouse):
    await warehouse.load(warehouse.file(1, column("v", 1)))
    await warehouse.refresh("SELECT v FROM bronze.t", RefreshMode.APPEND)
    await warehouse.load(warehouse.file(2, column("v", 2.5)))
    await warehouse.refresh("SELECT v FROM bronze.t", RefreshMode.APPEND)
    assert await warehouse.rows("SELECT v FROM silver.t ORDER BY 1") == [(1,), (2.5,)]


async def test_columns_that_only_an_unusable_file_brings_do_not_join_the_table(warehouse):
    await warehouse.load(warehouse.file(1, b"a,b\n1,2\n"))
    lying = FileChecks(recount=lambda _: 99, changed=lambda _: False)
    bad = warehouse.file(2, b"a,junk\n1,2\n", rows_in=99)
    loads = await warehouse.load(bad, warehouse.file(3, b"a,good\n1,2\n"), checks=lying)
    assert not loads[2].loaded
    assert loads[3].loaded
    assert [*await types(warehouse)] == ["a", "b", "good"]


# --- rescue -----------------------------------------------------------------------------------------------


async def rescued(warehouse):
    rows = await warehouse.rows("SELECT _rescued_data FROM bronze.t ORDER BY _file_id, _row")
    return [row[0] if isinstance(row[0], dict | None) else json.loads(row[0]) for row in rows]


async def test_rescue_keeps_what_has_no_place_as_it_stands_in_the_file(warehouse):
    await warehouse.load(warehouse.file(1, b"id,at\n1,2025-01-01\n"), ingest=RESCUE)
    before = await types(warehouse)
    content = b'id,at,new\n2,2025-01-02,\n3.0,,x\nseven,2025-01-03 10:00:00,"a ""b"""\n'
    loads = await warehouse.load(warehouse.file(2, content), ingest=RESCUE)
    assert loads[2] == FileLoad(2, 3, 3, 0, rows_rescued=2)
    assert await types(warehouse) == before == {"id": "BIGINT", "at": "DATE", "_rescued_data": "JSON"}
    assert await rescued(warehouse) == [
        None,
        None,
        {"id": "3.0", "new": "x"},
        {"id": "seven", "at": "2025-01-03 10:00:00", "new": 'a "b"'},
    ]
    assert await warehouse.rows("SELECT id FROM bronze.t ORDER BY _file_id, _row") == [(1,), (2,), (None,), (None,)]
    assert await warehouse.rows("SELECT rows_rescued FROM meta.loads ORDER BY file_id") == [(0,), (2,)]


async def test_rescue_takes_a_clean_files_unknown_columns_too(warehouse):
    files = [warehouse.file(1, b"id\n1\n"), warehouse.file(2, b"id,more\n2,x\n")]
    loads = await warehouse.load(*files, ingest=RESCUE)
    assert [loads[n].rows_rescued for n in (1, 2)] == [0, 1]
    assert await rescued(warehouse) == [None, {"more": "x"}]


async def test_rescue_still_rejects_a_line_that_is_no_row(warehouse):
    await warehouse.load(warehouse.file(1, b"id,b\n" + b"1,2\n" * 20 + b"1,2,3\n"), ingest=RESCUE)
    assert await warehouse.rows("SELECT line, error_type FROM meta.rejected_rows") == [(22, "TOO MANY COLUMNS")]


async def test_a_table_that_turns_to_rescue_gets_the_column(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.load(warehouse.file(2, b"id,brand\nx,y\n"), ingest=RESCUE)
    assert await rescued(warehouse) == [None, None, {"id": "x"}]


# --- fail, none -------------------------------------------------------------------------------------------


async def test_fail_quarantines_a_file_with_a_column_that_the_table_does_not_have(warehouse):
    files = [warehouse.file(1, b"a,b\n1,2\n"), warehouse.file(2, b"a,surprise\n1,2\n"), warehouse.file(3, b"B\n1\n")]
    loads = await warehouse.load(*files, ingest=FAIL)
    assert [loads[n].loaded for n in (1, 2, 3)] == [True, False, True]
    assert "'surprise'" in loads[2].quarantined
    assert [*await types(warehouse)] == ["a", "b"]


async def test_fail_rejects_what_does_not_fit_and_widens_nothing(warehouse):
    await warehouse.load(warehouse.file(1, column("v", 1)), ingest=FAIL)
    loads = await warehouse.load(warehouse.file(2, column("v", *range(20), 2.5)), ingest=FAIL)
    assert loads[2] == FileLoad(2, 21, 20, 1)


async def test_none_leaves_new_columns_out(warehouse):
    loads = await warehouse.load(warehouse.file(1, b"a\n1\n"), warehouse.file(2, b"a,b\n2,x\n"), ingest=NONE)
    assert all(load.loaded for load in loads.values())
    assert await types(warehouse) == {"a": "BIGINT"}
    assert await warehouse.rows("SELECT a FROM bronze.t ORDER BY 1") == [(1,), (2,)]


async def test_a_first_file_that_cannot_be_loaded_does_not_make_the_table(warehouse):
    changing = FileChecks(recount=CHECKS.recount, changed=lambda file: file.file_id == 1)
    files = [warehouse.file(1, b"junk\n1\n"), warehouse.file(2, b"a\n1\n")]
    loads = await warehouse.load(*files, ingest=NONE, checks=changing)
    assert loads[1].gone
    assert await types(warehouse) == {"a": "BIGINT"}


# --- lines ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["bad", "1.7"], ids=["no number", "a number to the reader"])
async def test_rejected_rows_have_their_own_text_however_the_file_is_laid_out(warehouse, bad):
    rows = ['1,"two\nlines"', "", f"{bad},x", "2,y", "3,y,z", 'worse,"a\nb"', *[f"{n},z" for n in range(30)], "last,q"]
    content = ("id,v\n" + "\n".join(rows) + "\n").encode()
    others = warehouse.file(1, b"id,v\n1,x\n")
    ingest = Ingest(schema_hints={"id": "BIGINT"}, max_rejected_percent=20)
    loads = await warehouse.load(others, warehouse.file(2, content), ingest=ingest)
    assert (loads[2].rows_loaded, loads[2].rows_rejected) == (32, 4), loads[2]
    raws = await warehouse.rows("SELECT raw FROM meta.rejected_rows ORDER BY line")
    assert [row[0] for row in raws] == [f"{bad},x", "3,y,z", 'worse,"a\nb"', "last,q"]


async def test_rejected_rows_of_a_large_file_are_all_found(warehouse):
    rows = [f"{n},{'x' * 40}" if n % 20 else f"bad{n},y" for n in range(1, 60_001)]
    file = warehouse.file(1, ("n,text\n" + "\n".join(rows) + "\n").encode())
    loads = await warehouse.load(file, ingest=Ingest(schema_hints={"n": "BIGINT"}))
    assert loads[1] == FileLoad(1, 60_000, 57_000, 3_000)
    wrong = "SELECT count(*) AS n FROM meta.rejected_rows WHERE raw IS DISTINCT FROM 'bad' || (line - 1) || ',y'"
    assert await warehouse.rows(wrong) == [(0,)]
