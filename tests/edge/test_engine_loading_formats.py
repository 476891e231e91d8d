"""JSON and Parquet, whole and dirty; and options of the readers."""

import gzip
import json

import duckdb
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landingd.edge.engine import FileChecks
from landingd.model import FileLoad, Ingest, SchemaEvolution

JSON = Ingest(format="json")
PARQUET = Ingest(format="parquet")
UNCOUNTED = FileChecks(recount=lambda file: file.rows_in or 0, changed=lambda _: False)
GOOD = [{"id": n, "brand": "b"} for n in range(20)]


async def types(warehouse):
    columns = (await warehouse.engine.columns())["bronze.t"]
    return {name: kind for name, kind in columns.items() if name not in ("_file_id", "_row")}


def parquet(tmp_path, select):
    path = tmp_path / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)").fetchall()
    return path.read_bytes()


# --- JSON -------------------------------------------------------------------------------------------------


async def test_an_object_a_line_becomes_a_row_with_the_union_of_the_columns(warehouse):
    first = warehouse.lines(1, {"id": 1, "at": "2025-01-01T10:00:00"}, "", {"id": 2, "tags": ["a", 1], "who": {"x": 1}})
    loads = await warehouse.load(first, warehouse.lines(2, {"id": 2.5, "ok": True}), ingest=JSON, checks=UNCOUNTED)
    assert loads == {1: FileLoad(1, 2, 2, 0), 2: FileLoad(2, 1, 1, 0)}
    assert await types(warehouse) == {
        "id": "DOUBLE",
        "at": "TIMESTAMP",
        "tags": "JSON",
        "who": "JSON",
        "ok": "BOOLEAN",
    }
    rows = await warehouse.rows("SELECT id, tags, who->>'x' AS x, ok, _row FROM bronze.t ORDER BY _file_id, _row")
    assert rows == [(1, None, None, None, 1), (2, ["a", 1], "1", None, 2), (2.5, None, None, True, 1)]


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
async def test_a_line_that_is_no_object_is_rejected_with_its_line_and_text(warehouse, together):
    await warehouse.load(warehouse.lines(1, *GOOD), ingest=JSON, checks=UNCOUNTED)
    others = [warehouse.lines(2, {"id": 5})] if together else []
    bad = warehouse.lines(3, *GOOD, "", '{"id": ', *GOOD, "[1]", {"id": "x", "brand": "b"})
    loads = await warehouse.load(*others, bad, ingest=JSON, checks=UNCOUNTED)
    assert loads[3] == FileLoad(3, 43, 40, 3)
    rejected = await warehouse.rows("SELECT line, column_name, error, raw FROM meta.rejected_rows ORDER BY line")
    assert rejected == [
        (22, None, "not valid JSON", '{"id": '),
        (43, None, "not an object", "[1]"),
        (44, "id", 'Could not convert "x" to BIGINT', '{"id": "x", "brand": "b"}'),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("is_array", [False, True], ids=["lines", "array"])
async def test_json_is_read_compressed_and_as_one_array(warehouse, pack, is_array):
    text = json.dumps(GOOD) if is_array else "\n".join(map(json.dumps, GOOD))
    compression = {bytes: "none", gzip.compress: "gzip", zstandard.compress: "zstd"}[pack]
    file = warehouse.other(1, pack(text.encode()), records=20, compression=compression, is_array=is_array)
    assert await warehouse.load(file, ingest=JSON, checks=UNCOUNTED) == {1: FileLoad(1, 20, 20, 0)}
    assert await warehouse.rows("SELECT sum(id) AS s FROM bronze.t") == [(190,)]


async def test_an_array_with_a_fault_in_its_syntax_is_quarantined_whole_with_the_readers_words(warehouse):
    good = warehouse.other(1, b'[{"id": 1}]', records=1, is_array=True)
    bad = warehouse.other(2, b'[{"id": 1}, {"id" 2}]', records=2, is_array=True)
    loads = await warehouse.load(good, bad, ingest=JSON, checks=UNCOUNTED)
    assert loads[1].loaded
    assert "Malformed JSON" in loads[2].quarantined


async def test_something_in_an_array_that_is_no_object_is_rejected(warehouse):
    file = warehouse.other(1, json.dumps([*GOOD, 5, None]).encode(), records=22, is_array=True)
    assert await warehouse.load(file, ingest=JSON, checks=UNCOUNTED) == {1: FileLoad(1, 22, 20, 2)}
    assert await warehouse.rows("SELECT line, raw FROM meta.rejected_rows ORDER BY 1") == [(21, "5"), (22, "null")]


async def test_a_member_may_have_any_name_and_is_renamed_if_declared(warehouse):
    record = {"a.b": 1, "x/y": 2, 't~"z': 3, "c0": 4, "source": 5, "raw": 6, "line": 7, "fault": 8, "it's": 9}
    ingest = Ingest(format="json", rename={"c0": "renamed"})
    await warehouse.load(warehouse.lines(1, record), warehouse.lines(2, record), ingest=ingest, checks=UNCOUNTED)
    expected = [("renamed" if name == "c0" else name) for name in record]
    assert sorted(await types(warehouse)) == sorted(expected)
    assert await warehouse.rows('SELECT "a.b", "x/y", "t~""z", renamed, "it\'s" FROM bronze.t LIMIT 1') == [
        (1, 2, 3, 4, 9)
    ]


async def test_names_that_differ_in_case_are_one_column(warehouse):
    file = warehouse.lines(1, *[{"Id": n} for n in range(20)], {"ID": 7}, {"id": 8, "ID": 9})
    loads = await warehouse.load(file, ingest=JSON, checks=UNCOUNTED)
    assert loads[1] == FileLoad(1, 22, 21, 1)
    assert await warehouse.rows("SELECT sum(id) AS s FROM bronze.t") == [(197,)]


@pytest.mark.parametrize("evolution", SchemaEvolution)
async def test_a_file_without_a_record_does_not_say_what_the_columns_are(warehouse, evolution):
    ingest = Ingest(format="json", schema_evolution=evolution)
    assert (await warehouse.load(warehouse.lines(1), ingest=ingest, checks=UNCOUNTED))[1] == FileLoad(1)
    files = [warehouse.lines(2), warehouse.lines(3, {"id": 1})]
    assert (await warehouse.load(*files, ingest=ingest, checks=UNCOUNTED))[3] == FileLoad(3, 1, 1, 0)
    assert (await types(warehouse))["id"] == "BIGINT"


async def test_a_member_that_uses_a_name_of_ours_is_not_loaded(warehouse):
    loads = await warehouse.load(warehouse.lines(1, {"_file_id": 1}), ingest=JSON, checks=UNCOUNTED)
    assert "_file_id" in loads[1].quarantined


async def test_json_rescues_what_does_not_fit(warehouse):
    ingest = Ingest(format="json", schema_evolution=SchemaEvolution.RESCUE)
    await warehouse.load(warehouse.lines(1, {"id": 1}), ingest=ingest, checks=UNCOUNTED)
    file = warehouse.lines(2, *[{"id": n} for n in range(20)], {"id": {"deep": 1}, "new": [1]}, '{"id": ')
    loads = await warehouse.load(file, ingest=ingest, checks=UNCOUNTED)
    assert loads[2] == FileLoad(2, 22, 21, 1, rows_rescued=1)
    rows = await warehouse.rows(
        "SELECT _rescued_data->>'id' AS a, _rescued_data->>'new' AS b FROM bronze.t WHERE a <> ''"
    )
    assert rows == [('{"deep":1}', "[1]")]


# --- Parquet ----------------------------------------------------------------------------------------------


async def test_parquet_brings_its_own_columns_types_and_count(warehouse, tmp_path):
    made = parquet(tmp_path, "SELECT 1::INTEGER AS id, DATE '2025-01-01' AS at, 'x' AS c0, [1, 2] AS l")
    files = [warehouse.other(n, made) for n in (1, 2)]
    loads = await warehouse.load(*files, ingest=PARQUET, checks=UNCOUNTED)
    assert loads == {n: FileLoad(n, 1, 1, 0) for n in (1, 2)}
    assert await types(warehouse) == {"id": "INTEGER", "at": "DATE", "c0": "VARCHAR", "l": "INTEGER[]"}


async def test_a_parquet_column_widens(warehouse, tmp_path):
    steps = [("1::INTEGER", "INTEGER"), ("5000000000", "BIGINT"), ("2.5::DOUBLE", "DOUBLE"), ("'n/a'", "VARCHAR")]
    for file_id, (value, widened) in enumerate(steps, start=1):
        file = warehouse.other(file_id, parquet(tmp_path, f"SELECT {value} AS v"))
        assert (await warehouse.load(file, ingest=PARQUET, checks=UNCOUNTED))[file_id].loaded
        assert (await types(warehouse))["v"] == widened
    assert await warehouse.rows("SELECT count(v) AS n FROM bronze.t") == [(4,)]


async def test_a_parquet_row_that_does_not_fit_is_rejected_with_its_place(warehouse, tmp_path):
    ingest = Ingest(format="parquet", schema_hints={"v": "BIGINT"})
    made = parquet(tmp_path, "SELECT CASE WHEN range = 30 THEN 'x' ELSE range::VARCHAR END AS v FROM range(40)")
    loads = await warehouse.load(warehouse.other(1, made), ingest=ingest, checks=UNCOUNTED)
    assert loads[1] == FileLoad(1, 40, 39, 1)
    assert await warehouse.rows("SELECT line, column_name, raw FROM meta.rejected_rows") == [(31, "v", '{"v":"x"}')]


async def test_a_parquet_file_that_is_damaged_is_found_among_the_others(warehouse, tmp_path):
    made = parquet(tmp_path, "SELECT 1 AS v")
    files = [warehouse.other(1, made), warehouse.other(2, made[:-20]), warehouse.other(3, made)]
    loads = await warehouse.load(*files, ingest=PARQUET, checks=UNCOUNTED)
    assert {n for n, load in loads.items() if load.loaded} == {1, 3}


# --- read options -----------------------------------------------------------------------------------------

CSV_OPTIONS = [
    ({"quote": "'"}, "'a,b'", "VARCHAR", "a,b"),
    ({"quote": "'", "escape": "\\"}, "'a\\'b'", "VARCHAR", "a'b"),
    ({"dateformat": "%d/%m/%Y"}, "31/12/2025", "DATE", "2025-12-31"),
    ({"timestampformat": "%d.%m.%Y %H:%M"}, "31.12.2025 10:30", "TIMESTAMP", "2025-12-31 10:30:00"),
    ({"decimal_separator": ","}, '"2,5"', "DOUBLE", 2.5),
    ({"thousands": ","}, '"1,234.5"', "DOUBLE", 1234.5),
    ({"thousands": ",", "decimal_separator": "."}, '"1,234"', "BIGINT", 1234),
    ({"max_line_size": 100}, "a", "VARCHAR", "a"),
    ({"allow_quoted_nulls": False}, '""', "VARCHAR", ""),
]


@pytest.mark.parametrize("dirty", [False, True], ids=["clean", "dirty"])
@pytest.mark.parametrize("option", CSV_OPTIONS, ids=[f"{o[0]}" for o in CSV_OPTIONS])
async def test_an_option_reaches_the_csv_reader(warehouse, option, dirty):
    said, cell, kind, value = option
    hints = {"v": kind, "w": "BIGINT"} if dirty or kind == "BIGINT" else {"w": "BIGINT"}
    ingest = Ingest(read_options=said, schema_hints=hints, max_rejected_percent=60)
    content = f"v,w\n{cell},1\n" + (f"{cell},bad\n" if dirty else "")
    await warehouse.load(warehouse.file(1, content.encode(), delimiter=",", columns=("v", "w")), ingest=ingest)
    assert (await types(warehouse))["v"] == kind
    assert await warehouse.rows("SELECT v, w FROM bronze.t") == [(value, 1)]
    assert await warehouse.rows("SELECT raw FROM meta.rejected_rows") == ([(f"{cell},bad",)] if dirty else [])


@pytest.mark.parametrize("said", [{}, {"max_line_size": 4 << 20}], ids=["usual", "said"])
async def test_a_line_may_be_as_long_as_is_said(warehouse, said):
    content = b"v,w\n" + b"a,1\n" * 20 + b"a" * (3 << 20) + b",1\n"
    loads = await warehouse.load(warehouse.file(1, content), warehouse.file(2), ingest=Ingest(read_options=said))
    assert loads[2].loaded
    assert loads[1].loaded or "Maximum line size" in loads[1].quarantined
    assert loads[1].loaded == bool(said)


@pytest.mark.parametrize(
    ("said", "cell", "kind", "value"),
    [
        ({"dateformat": "%d/%m/%Y"}, "31/12/2025", "DATE", "2025-12-31"),
        ({"timestampformat": "%d.%m.%Y %H:%M"}, "31.12.2025 10:30", "TIMESTAMP", "2025-12-31 10:30:00"),
    ],
)
async def test_an_option_reaches_the_json_reader(warehouse, said, cell, kind, value):
    for hints in ({}, {"v": kind}):
        ingest = Ingest(format="json", read_options=said, schema_hints=hints)
        await warehouse.engine.execute(warehouse.script("DROP TABLE IF EXISTS bronze.t"))
        await warehouse.load(warehouse.lines(next(warehouse.file_ids), {"v": cell}), ingest=ingest, checks=UNCOUNTED)
        assert await warehouse.rows("SELECT v FROM bronze.t") == [(value,)]
        assert (await types(warehouse))["v"] == kind


@pytest.mark.parametrize("said", [{}, {"maximum_object_size": 32 << 20}], ids=["usual", "said"])
@pytest.mark.parametrize("is_array", [False, True], ids=["lines", "array"])
async def test_an_object_may_be_as_large_as_is_said(warehouse, is_array, said):
    ingest = Ingest(format="json", read_options=said)
    records = [{"v": "x"}] * 20 + [{"v": "x" * (20 << 20)}]
    text = json.dumps(records) if is_array else "\n".join(map(json.dumps, records))
    large = warehouse.other(1, text.encode(), records=21, is_array=is_array)
    small = warehouse.lines(2, *records[:20])
    loads = await warehouse.load(large, small, ingest=ingest, checks=UNCOUNTED)
    assert loads[2].loaded
    # DuckDB holds the members of an array to no such limit.
    assert loads[1] == (FileLoad(1, 21, 21, 0) if said or is_array else FileLoad(1, 21, 20, 1))


async def test_an_option_reaches_the_parquet_reader(warehouse, tmp_path):
    ingest = Ingest(format="parquet", read_options={"binary_as_string": True})
    made = parquet(tmp_path, "SELECT 'abc'::BLOB AS v")
    await warehouse.load(warehouse.other(1, made), ingest=ingest, checks=UNCOUNTED)
    assert await types(warehouse) == {"v": "VARCHAR"}


async def test_without_a_header_the_first_line_is_a_row(warehouse):
    ingest = Ingest(header=False, schema_hints={"a": "BIGINT", "b": "VARCHAR"}, schema_is_whole=True)
    file = warehouse.file(1, b"1,x\n2,y\n", columns=("a", "b"), rows_in=2)
    assert await warehouse.load(file, ingest=ingest) == {1: FileLoad(1, 2, 2, 0)}
    assert await warehouse.rows("SELECT a, b FROM bronze.t ORDER BY 1") == [(1, "x"), (2, "y")]


# --- the equation, whatever stands in the cells -----------------------------------------------------------

CELLS = st.sampled_from(["", "1", "2.5", "oops", "2025-01-01", "0x10", "1_0", "true", "9" * 25, "NaN"])


@given(files=st.lists(st.lists(st.tuples(CELLS, CELLS), max_size=12), min_size=1, max_size=3), mode=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_row_of_a_dirty_file_is_loaded_or_rejected(warehouse, files, mode):
    evolution = mode.draw(st.sampled_from([*SchemaEvolution]))
    format_ = mode.draw(st.sampled_from(["csv", "json"]))
    ingest = Ingest(format=format_, schema_evolution=evolution, max_rejected_percent=100)
    await warehouse.engine.execute(warehouse.script("DROP TABLE IF EXISTS bronze.t"))
    for rows in files:
        file_id = next(warehouse.file_ids)
        if format_ == "csv":
            text = "a,b\n" + "".join(f"{a},{b},\n" if a == "NaN" else f"{a},{b}\n" for a, b in rows)
            file = warehouse.file(file_id, text.encode(), rows_in=len(rows))
        else:
            records = ['{"a":' if a == "NaN" else json.dumps({"a": a, "b": b}) for a, b in rows]
            file = warehouse.lines(file_id, *records)
        load = (await warehouse.load(file, ingest=ingest, checks=UNCOUNTED))[file_id]
        assert load.loaded, load
        assert load.rows_in == len(rows) == load.rows_loaded + load.rows_rejected
        rejected = f"SELECT count(*) AS n FROM meta.rejected_rows WHERE file_id = {file_id}"
        assert await warehouse.rows(rejected) == [(load.rows_rejected,)]
        loaded = f"SELECT count(*) AS n FROM bronze.t WHERE _file_id = {file_id}"
        assert await warehouse.rows(loaded) == [(load.rows_loaded,)]
