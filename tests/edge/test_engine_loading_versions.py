"""Versions that leave, come again, or cannot be told for memory."""

import dataclasses
from dataclasses import replace

import duckdb
import pytest

from landingd.edge import landing
from landingd.edge.engine import NO_CHECKS, FileChecks, loading, open_engine
from landingd.model import AttemptKey, Committed, ExpectationCount, Failed, FileLoad, Ingest, RefreshMode, Stats
from warehouses import Warehouse

HINTED = Ingest(schema_hints={"id": "BIGINT"})
DIRTY = b"id,brand\nx,bad\n" + b"1,a\n" * 20


async def test_a_retracted_version_leaves_with_everything_that_is_kept_of_it(warehouse):
    await warehouse.load(warehouse.file(1, DIRTY), warehouse.file(2), ingest=HINTED)
    await warehouse.refresh("SELECT id FROM bronze.t", RefreshMode.APPEND)
    plan = warehouse.ingest(warehouse.file(3), ingest=HINTED, retract=(1,))
    outcome = await warehouse.engine.execute(plan)
    assert outcome.stats.how == "load 1 file, retract 1"
    assert FileLoad(1, retracted=True) in outcome.stats.files
    assert outcome.stats.rows_in == 2
    await warehouse.refresh("SELECT id FROM bronze.t", RefreshMode.APPEND)
    for table in ("bronze.t", "silver.t"):
        assert await warehouse.rows(f"SELECT DISTINCT _file_id FROM {table} ORDER BY 1") == [(2,), (3,)]
        held = f"SELECT file_id FROM meta.loads WHERE table_name = '{table}' ORDER BY 1"
        assert await warehouse.rows(held) == [(2,), (3,)]
    assert await warehouse.rows("FROM meta.rejected_rows") == []


async def test_retracting_what_is_not_there_is_no_error(warehouse):
    for _ in range(2):
        assert await warehouse.load(retract=(7,)) == {7: FileLoad(7, retracted=True)}
    await warehouse.load(warehouse.file(1))
    for _ in range(2):
        assert await warehouse.load(retract=(1, 7)) == {n: FileLoad(n, retracted=True) for n in (1, 7)}
    assert await warehouse.rows("FROM bronze.t") == []


async def test_a_reload_takes_the_place_of_what_the_table_held(warehouse):
    await warehouse.load(warehouse.file(1, DIRTY), warehouse.file(2), ingest=HINTED)
    loads = await warehouse.load(warehouse.file(1, b"id,brand\n5,new\n", reload=True), warehouse.file(2), ingest=HINTED)
    assert loads == {1: FileLoad(1, 1, 1, 0), 2: FileLoad(2, 2, 2, 0)}
    assert await warehouse.rows("SELECT id FROM bronze.t WHERE _file_id = 1") == [(5,)]
    assert await warehouse.rows("SELECT file_id, rows_loaded FROM meta.loads ORDER BY 1") == [(1, 1), (2, 2)]
    assert await warehouse.rows("FROM meta.rejected_rows") == []


@pytest.mark.parametrize("fault", ["does not parse", "breaks the reader", "changes"])
async def test_a_reload_that_cannot_be_loaded_leaves_the_old_rows(warehouse, fault):
    await warehouse.load(warehouse.file(1, DIRTY), ingest=HINTED)
    before = await warehouse.rows("SELECT * FROM bronze.t, meta.loads, meta.rejected_rows")
    content = b"id,brand\nx,y\n" if fault == "does not parse" else b"id,brand\n1,a\n"
    file = warehouse.file(1, content, b"a.csv", reload=True)
    if fault == "breaks the reader":
        (warehouse.options.landing / "a.csv").unlink()
    checks = FileChecks(
        recount=lambda f: f.rows_in or 0, changed=lambda f: fault == "changes" and f.file_id == file.file_id
    )
    loads = await warehouse.load(file, warehouse.file(2), ingest=HINTED, checks=checks)
    assert not loads[1].loaded
    assert loads[2].loaded
    await warehouse.load(retract=(2,))
    assert await warehouse.rows("SELECT * FROM bronze.t, meta.loads, meta.rejected_rows") == before


async def test_a_file_that_needs_more_memory_than_there_is_is_told_apart(options):
    engine = open_engine(dataclasses.replace(options, memory_limit="48MB"))
    try:
        warehouse = Warehouse(engine, options)
        ingest = Ingest(format="json", read_options={"maximum_object_size": 400_000_000})
        huge = warehouse.lines(1, '{"a": "' + "x" * 100_000_000 + '"}')
        outcome = await engine.execute(warehouse.ingest(huge, ingest=ingest))
        assert isinstance(outcome, Failed)
        assert outcome.isolate
        assert not outcome.permanent
        assert "Out of Memory" in outcome.error
        assert (await warehouse.load(warehouse.lines(2, {"a": "x"}), ingest=ingest))[2].loaded
    finally:
        engine.close()


async def test_a_script_that_needs_too_much_memory_has_no_file_to_blame(options):
    engine = open_engine(dataclasses.replace(options, memory_limit="32MB"))
    try:
        sql = "CREATE TABLE gold.x AS SELECT list(repeat('x', 1000) || range) AS l FROM range(100000)"
        outcome = await engine.execute(Warehouse(engine, options).script(sql))
        assert isinstance(outcome, Failed)
        assert not outcome.isolate
    finally:
        engine.close()


async def test_a_warehouse_of_the_version_before_is_opened_and_goes_on(warehouse, options):
    await warehouse.load(warehouse.file(1))
    warehouse.engine.close()
    with duckdb.connect(options.warehouse, config={"storage_compatibility_version": "v1.5.0"}) as old:
        for column in ("rows_dropped", "rows_rescued"):
            old.execute(f"ALTER TABLE meta.loads DROP COLUMN {column}").fetchall()
        old.execute("""UPDATE meta.commits SET stats = '{"rows_in": 2, "files": [{"file_id": 1, "rows_in": 2}]}'""")
    engine = open_engine(options)
    again = Warehouse(engine, options)
    assert await engine.committed([1]) == {
        AttemptKey(1, "bronze", 1): Stats(rows_in=2, files=(FileLoad(1, 2),)),
    }
    assert await again.load(warehouse.file(1), warehouse.file(2)) == {n: FileLoad(n, 2, 2, 0) for n in (1, 2)}
    assert await again.rows("SELECT rows_rescued FROM meta.loads ORDER BY file_id") == [(0,), (0,)]
    engine.close()


async def test_counts_of_expectations_come_back_from_the_commit_row(warehouse, options):
    plan = warehouse.ingest(warehouse.file(1))
    outcome = await warehouse.engine.execute(plan)
    assert isinstance(outcome, Committed)
    warehouse.engine.close()
    with duckdb.connect(options.warehouse, config={"storage_compatibility_version": "v1.5.0"}) as connection:
        connection.execute(
            """UPDATE meta.commits SET stats = '{"files": [],
            "expectations": [{"name": "e", "on_violation": "warn", "passed": 1, "failed": 2}]}'"""
        )
    engine = open_engine(options)
    stats = (await engine.committed([1]))[plan.key]
    assert stats.expectations == (ExpectationCount("e", "warn", 1, 2),)
    engine.close()


# --- files that are away for a moment ---------------------------------------------------------------------


def back_for_the_hunt(monkeypatch, away, home):
    """What is at `away` comes back to `home` after the load failed, as the one to blame is looked for."""
    hunt = loading.culprits

    def hunt_when_back(*args):
        if away.exists():
            away.rename(home)
        return hunt(*args)

    monkeypatch.setattr(loading, "culprits", hunt_when_back)
    home.rename(away)


def signed(file):
    return replace(file, signature=landing.signature(file.path))


STAT = FileChecks(recount=lambda f: f.rows_in or 0, changed=lambda f: landing.signature(f.path) != f.signature)


async def test_a_file_that_went_away_and_came_again_is_looked_at_anew_and_the_others_are_loaded(
    warehouse, options, monkeypatch
):
    files = [signed(warehouse.file(n)) for n in (1, 2, 3)]
    back_for_the_hunt(monkeypatch, options.landing / "away", options.landing / "2.csv")
    loads = await warehouse.load(*files, checks=STAT)
    assert loads[2].gone is not None
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t ORDER BY 1") == [(1,), (3,)]


async def test_a_folder_that_was_away_for_a_moment_fails_no_run(warehouse, options, monkeypatch):
    files = [signed(warehouse.file(n)) for n in (1, 2)]
    back_for_the_hunt(monkeypatch, options.landing.with_name("away"), options.landing)
    loads = await warehouse.load(*files, checks=STAT)
    assert all(load.loaded for load in loads.values())
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t ORDER BY 1") == [(1,), (2,)]


async def test_what_cannot_be_read_though_nobody_is_to_blame_ends_the_attempt_and_not_in_a_circle(
    warehouse, monkeypatch
):
    hunts = []
    monkeypatch.setattr(loading, "culprits", lambda _, files: hunts.append(len(files)) or {})
    gone = warehouse.file(1)
    (warehouse.options.landing / "1.csv").unlink()
    outcome = await warehouse.engine.execute(warehouse.ingest(gone), checks=NO_CHECKS)
    assert isinstance(outcome, Failed)
    assert "No files found" in outcome.error
    assert hunts == [1, 1]
