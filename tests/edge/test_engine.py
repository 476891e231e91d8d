"""The warehouse as a real DuckDB file: what an attempt leaves, what it refuses, and what stays when it fails."""
# ruff: noqa: PTH108 -- the paths under test are bytes, and pathlib takes none

import asyncio
import contextlib
import gzip
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import zstandard

from landingd.edge import landing
from landingd.edge.engine import (
    NO_CHECKS,
    FileChecks,
    open_engine,
    open_read_only,
    write_query,
)
from landingd.errors import AlreadyRunningError, EngineError, RefusedError
from landingd.model import (
    Committed,
    Failed,
    FileLoad,
    Ingest,
    Interrupted,
    RefreshMode,
    TimedOut,
    shown,
)
from warehouses import CHECKS, EVENTS, Warehouse

# --- an attempt is one transaction ------------------------------------------------------------------------


async def test_sql_that_fails_leaves_nothing(warehouse):
    outcome = await warehouse.engine.execute(
        warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a; INSERT INTO gold.x VALUES (2); SELECT error('boom')")
    )
    assert isinstance(outcome, Failed)
    assert "boom" in outcome.error
    assert not outcome.permanent
    assert "gold.x" not in await warehouse.engine.columns()
    assert await warehouse.rows("FROM meta.commits") == []


async def test_sql_that_cannot_bind_is_not_worth_another_try(warehouse):
    outcome = await warehouse.engine.execute(warehouse.table("SELECT nothing FROM bronze.nowhere", RefreshMode.FULL))
    assert isinstance(outcome, Failed)
    assert outcome.permanent


async def test_after_a_failure_the_next_attempt_is_as_good_as_the_first(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.engine.execute(warehouse.table("SELECT error('x') FROM bronze.t", RefreshMode.FULL))
    assert (await warehouse.refresh("SELECT count(*) AS n FROM bronze.t", RefreshMode.FULL)).rows_out == 1
    assert await warehouse.rows("FROM silver.t") == [(2,)]


async def test_a_commit_says_which_attempt_and_what_it_did(warehouse):
    plan = warehouse.ingest(warehouse.file(7))
    outcome = await warehouse.engine.execute(plan, checks=CHECKS)
    assert await warehouse.engine.committed([plan.key.run_id]) == {plan.key: outcome.stats}
    assert await warehouse.engine.committed([99]) == await warehouse.engine.committed([]) == {}
    assert outcome.stats.files == (FileLoad(7, 2, 2, 0),)
    assert await warehouse.rows("SELECT run_id, task_key, job, table_name FROM meta.commits") == [
        (1, "bronze", "shop", "bronze.t")
    ]
    assert await warehouse.engine.high_water() == (1, 7)


async def test_what_was_committed_is_there_after_a_restart(warehouse, options):
    await warehouse.load(warehouse.file(1))
    warehouse.engine.close()
    again = open_engine(options)
    assert await Warehouse(again, options).rows("SELECT id FROM bronze.t ORDER BY 1") == [(1,), (2,)]
    again.close()


async def test_several_attempts_can_share_a_transaction_and_then_all_of_them_stay_or_none(warehouse):
    ingest, silver = warehouse.ingest(warehouse.file(1)), warehouse.table("SELECT id FROM bronze.t", RefreshMode.APPEND)
    broken = warehouse.table("SELECT error('x') FROM bronze.t", RefreshMode.FULL, table="gold.t")
    outcomes = await warehouse.engine.execute_together([ingest, silver, broken], checks=CHECKS)
    assert all(isinstance(outcome, Interrupted) for outcome in outcomes)
    assert not {"bronze.t", "silver.t", "gold.t"} & set(await warehouse.engine.columns())
    outcomes = await warehouse.engine.execute_together([ingest, silver], checks=CHECKS)
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert await warehouse.rows("SELECT id FROM silver.t ORDER BY 1") == [(1,), (2,)]
    assert set(await warehouse.engine.committed([1])) == {ingest.key, silver.key}


# --- versions ---------------------------------------------------------------------------------------------


async def test_a_version_that_the_table_holds_is_not_loaded_again_in_whatever_batch_it_comes(warehouse):
    files = [warehouse.file(n) for n in (1, 2, 3)]
    await warehouse.load(files[0], files[1])
    again = await warehouse.load(files[1], files[2])
    assert again == {2: FileLoad(2, 2, 2, 0), 3: FileLoad(3, 2, 2, 0)}
    assert await warehouse.rows("SELECT _file_id, count(*) AS n FROM bronze.t GROUP BY 1 ORDER BY 1") == [
        (1, 2),
        (2, 2),
        (3, 2),
    ]


async def test_a_version_is_recognised_after_a_restart(warehouse, options):
    file = warehouse.file(1)
    await warehouse.load(file)
    warehouse.engine.close()
    again = open_engine(options)
    await Warehouse(again, options).load(file)
    assert await Warehouse(again, options).rows("SELECT count(*) AS n FROM bronze.t") == [(2,)]
    again.close()


async def test_a_corrected_file_replaces_its_rows_in_bronze_and_in_what_is_appended(warehouse):
    select = "SELECT upper(brand) AS brand FROM bronze.t"
    bad_row = warehouse.file(1, b"brand,n\nold,1\nbad,x\n" + b"old,1\n" * 18, b"a.csv")
    await warehouse.load(bad_row, ingest=Ingest(schema_hints={"n": "BIGINT"}))
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.rejected_rows") == [(1,)]
    await warehouse.load(warehouse.file(2, b"brand,n\nother,1\n", b"b.csv"))
    await warehouse.refresh(select, RefreshMode.APPEND)
    await warehouse.load(warehouse.file(3, b"brand,n\nnew,1\n", b"a.csv", replaces=(1,)))
    stats = await warehouse.refresh(select, RefreshMode.APPEND)
    assert stats.how == "append 1 file, remove 1"
    assert await warehouse.rows("SELECT _file_id, brand FROM bronze.t ORDER BY 1") == [(2, "other"), (3, "new")]
    assert await warehouse.rows("SELECT _file_id, brand FROM silver.t ORDER BY 1") == [(2, "OTHER"), (3, "NEW")]
    assert await warehouse.rows("SELECT table_name, file_id FROM meta.loads ORDER BY ALL") == [
        ("bronze.t", 2),
        ("bronze.t", 3),
        ("silver.t", 2),
        ("silver.t", 3),
    ]
    assert await warehouse.rows("FROM meta.rejected_rows") == []


HINTED = Ingest(schema_hints={"id": "BIGINT"})


async def test_a_correction_that_cannot_be_loaded_leaves_the_old_rows(warehouse):
    await warehouse.load(warehouse.file(1, name=b"a.csv"))
    bad = await warehouse.load(warehouse.file(2, b"id,brand\nx,y\n", b"a.csv", replaces=(1,)), ingest=HINTED)
    assert bad[2].quarantined is not None
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t") == [(1,)]


async def test_every_row_can_be_traced_to_its_file_and_its_place_in_it(warehouse):
    await warehouse.load(warehouse.file(1), warehouse.file(2, name=b"deep/er/b.csv"))
    sql = "SELECT path, _row, brand FROM bronze.t JOIN meta.loads ON file_id = _file_id ORDER BY 1, 2"
    assert await warehouse.rows(sql) == [
        ("1.csv", 1, "acme"),
        ("1.csv", 2, "zeta"),
        ("deep/er/b.csv", 1, "acme"),
        ("deep/er/b.csv", 2, "zeta"),
    ]


async def test_rows_are_numbered_in_the_order_of_the_file_although_several_threads_read_it(warehouse):
    content = b"n,text\n" + b"".join(b"%d,%s\n" % (n, b"x" * 40) for n in range(1, 300_001))
    small = [warehouse.file(n, b"n,text\n" + b"".join(b"%d,a\n" % i for i in range(1, 500))) for n in range(2, 30)]
    await warehouse.load(warehouse.file(1, content), *small)
    assert await warehouse.rows("SELECT count(*) AS n FROM bronze.t WHERE _row <> n") == [(0,)]
    assert await warehouse.rows("SELECT count(*) AS n FROM bronze.t") == [(300_000 + 28 * 499,)]


async def test_rows_of_a_large_file_are_numbered_without_its_rejected_rows(warehouse):
    content = b"n,text\nbad,x\n" + b"".join(b"%d,%s\n" % (n, b"x" * 40) for n in range(1, 60_001)) + b"bad,y\n"
    await warehouse.load(warehouse.file(1, content), ingest=Ingest(schema_hints={"n": "BIGINT"}))
    assert await warehouse.rows("SELECT count(*) AS n FROM bronze.t WHERE _row <> n") == [(0,)]
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.rejected_rows") == [(2,)]


# --- refreshing -------------------------------------------------------------------------------------------


async def test_an_appended_table_takes_only_the_files_that_are_new_to_it(warehouse):
    select = "SELECT id FROM bronze.t WHERE id > 1"
    await warehouse.load(warehouse.file(1))
    assert (await warehouse.refresh(select, RefreshMode.APPEND)).how == "full"
    await warehouse.load(warehouse.file(2))
    stats = await warehouse.refresh(select, RefreshMode.APPEND)
    assert (stats.how, stats.rows_out) == ("append 1 file", 1)
    assert (await warehouse.refresh(select, RefreshMode.APPEND)).how == "append 0 files"
    assert await warehouse.rows("SELECT id, _file_id FROM silver.t ORDER BY ALL") == [(2, 1), (2, 2)]


@pytest.mark.parametrize("mode", [RefreshMode.APPEND, RefreshMode.FULL])
async def test_another_definition_voids_the_rows_of_the_old_one(warehouse, mode):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT id FROM bronze.t", RefreshMode.APPEND, definition="1")
    await warehouse.refresh("SELECT id * 10 AS tens FROM bronze.t", mode, definition="2")
    assert await warehouse.rows("SELECT tens FROM silver.t ORDER BY 1") == [(10,), (20,)]
    tracked = await warehouse.rows("SELECT file_id FROM meta.loads WHERE table_name = 'silver.t'")
    assert tracked == ([(1,)] if mode is RefreshMode.APPEND else [])
    assert (await warehouse.engine.definitions())["silver.t"] == ("2", mode.value)


async def test_a_definition_that_failed_is_not_taken_for_the_tables(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT id FROM bronze.t", RefreshMode.APPEND, definition="1")
    broken = warehouse.table("SELECT error('x') AS id FROM bronze.t", RefreshMode.APPEND, definition="2")
    assert isinstance(await warehouse.engine.execute(broken), Failed)
    await warehouse.refresh("SELECT id * 10 AS id FROM bronze.t", RefreshMode.APPEND, definition="2")
    assert await warehouse.rows("SELECT id FROM silver.t ORDER BY 1") == [(10,), (20,)]


async def test_an_appended_star_takes_on_a_column_that_its_upstream_gained(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    await warehouse.load(warehouse.file(2, b"id,brand,price\n3,new,9.5\n"))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    assert await warehouse.rows("SELECT id, price FROM silver.t ORDER BY 1") == [(1, None), (2, None), (3, 9.5)]


async def test_a_recomputed_table_is_its_select_over_what_is_there_now(warehouse):
    await warehouse.load(warehouse.file(1))
    for expected in (2, 4):
        await warehouse.refresh("SELECT count(*) AS n FROM bronze.t", RefreshMode.FULL)
        assert await warehouse.rows("SELECT n FROM silver.t") == [(expected,)]
        await warehouse.load(warehouse.file(2))


async def test_parameters_are_bound_and_never_text(warehouse):
    nasty = "'); DROP TABLE bronze.t; --"
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh(
        "SELECT $month AS month FROM bronze.t LIMIT 1", RefreshMode.FULL, parameters={"month": nasty, "unused": "x"}
    )
    assert await warehouse.rows("SELECT month FROM silver.t") == [(nasty,)]


# --- schemas ----------------------------------------------------------------------------------------------


async def test_a_new_column_is_added_a_missing_one_is_null_and_order_does_not_matter(warehouse):
    await warehouse.load(warehouse.file(1, b"id,brand\n1,acme\n"))
    await warehouse.load(warehouse.file(2, b"brand,ID\nswapped,2\n"))
    await warehouse.load(warehouse.file(3, b"id,price\n3,9.5\n"))
    assert await warehouse.rows("SELECT id, brand, price FROM bronze.t ORDER BY id") == [
        (1, "acme", None),
        (2, "swapped", None),
        (3, None, 9.5),
    ]


async def test_files_with_different_headers_can_come_in_one_batch(warehouse):
    await warehouse.load(
        warehouse.file(1, b"id,brand\n1,acme\n"),
        warehouse.file(2, b"brand;id\nswapped;2\n"),
        warehouse.file(3, b"id,price\n3,9.5\n"),
    )
    assert await warehouse.rows("SELECT id, brand, price FROM bronze.t ORDER BY id") == [
        (1, "acme", None),
        (2, "swapped", None),
        (3, None, 9.5),
    ]


async def test_numbers_with_leading_zeros_stay_text_and_others_become_numbers(warehouse):
    await warehouse.load(warehouse.file(1, b"zip,n,price,at\n08123,8,0.5,2019-10-01\n10115,0,1.5,2019-10-02\n"))
    columns = (await warehouse.engine.columns())["bronze.t"]
    assert [columns[name] for name in ("zip", "n", "price", "at")] == ["VARCHAR", "BIGINT", "DOUBLE", "DATE"]
    assert await warehouse.rows("SELECT zip FROM bronze.t ORDER BY 1") == [("08123",), ("10115",)]


async def test_a_hinted_column_has_its_type_and_is_there_though_no_file_has_it(warehouse):
    ingest = Ingest(schema_hints={"ID": "DECIMAL(9,2)", "later": "DATE"})
    await warehouse.load(warehouse.file(1, b"id\n1\n"), ingest=ingest)
    columns = (await warehouse.engine.columns())["bronze.t"]
    assert columns == {"id": "DECIMAL(9,2)", "later": "DATE", "_file_id": "BIGINT", "_row": "BIGINT"}


async def test_declared_texts_mean_null(warehouse):
    await warehouse.load(warehouse.file(1, b"id,brand\n1,NA\nNA,\n"), ingest=Ingest(nulls=("", "NA")))
    assert await warehouse.rows("SELECT id, brand FROM bronze.t ORDER BY _row") == [(1, None), (None, None)]


async def test_awkward_column_names_are_kept_as_they_are(warehouse):
    await warehouse.load(warehouse.file(1, b'"a ""b""",o\'clock,"x,y",select\n1,2,3,4\n'))
    columns = [*(await warehouse.engine.columns())["bronze.t"]]
    assert columns == ['a "b"', "o'clock", "x,y", "select", "_file_id", "_row"]


# --- rows that do not parse -------------------------------------------------------------------------------

GOOD = b"".join(b"%d,good\n" % n for n in range(20))


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
async def test_a_row_that_does_not_parse_is_kept_with_its_line_column_error_and_text(warehouse, together):
    others = [warehouse.file(1, b"id,brand\n1,x\n")] if together else []
    ingest = Ingest(schema_hints={"id": "BIGINT"})
    file = warehouse.file(2, b"id,brand\n" + GOOD + b"oops,bad\n" + b"7,x,too many\n")
    loads = await warehouse.load(*others, file, ingest=ingest)
    assert loads[2] == FileLoad(2, 22, 20, 2)
    rejected = await warehouse.rows(
        "SELECT table_name, file_id, line, column_name, error_type, error <> '' AS told, raw "
        "FROM meta.rejected_rows ORDER BY line"
    )
    assert rejected == [
        ("bronze.t", 2, 22, "id", "CAST", True, "oops,bad"),
        ("bronze.t", 2, 23, None, "TOO MANY COLUMNS", True, "7,x,too many"),
    ]


async def test_a_row_with_several_faults_is_one_rejected_row(warehouse):
    ingest = Ingest(schema_hints={"a": "BIGINT", "b": "BIGINT"})
    loads = await warehouse.load(warehouse.file(1, b"a,b\n" + b"1,2\n" * 20 + b"x,y\n"), ingest=ingest)
    assert loads[1] == FileLoad(1, 21, 20, 1)
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.rejected_rows") == [(1,)]


async def test_a_file_with_too_many_rejected_rows_is_quarantined_whole_and_the_others_stay(warehouse):
    ingest = Ingest(schema_hints={"id": "BIGINT"}, max_rejected_percent=10)
    loads = await warehouse.load(
        warehouse.file(1), warehouse.file(2, b"id,brand\n1,a\nx,b\n"), warehouse.file(3), ingest=ingest
    )
    assert "1 of 2 rows did not parse" in loads[2].quarantined
    assert "line 3" in loads[2].quarantined
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t ORDER BY 1") == [(1,), (3,)]
    assert await warehouse.rows("SELECT file_id FROM meta.loads ORDER BY 1") == [(1,), (3,)]
    assert await warehouse.rows("FROM meta.rejected_rows") == []


@pytest.mark.parametrize("made_up", [1, 3], ids=["rows made up", "rows lost"])
async def test_a_file_whose_rows_do_not_add_up_is_quarantined_and_the_others_stay(warehouse, made_up):
    lying = FileChecks(recount=lambda _: made_up, changed=lambda _: False)
    loads = await warehouse.load(warehouse.file(1), warehouse.file(2, rows_in=made_up), checks=lying)
    assert loads[1] == FileLoad(1, 2, 2, 0)
    assert f"{made_up} rows in the file, but 2 loaded and 0 rejected" in loads[2].quarantined
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t") == [(1,)]


async def test_a_count_that_was_misled_is_taken_again_before_a_file_is_condemned(warehouse):
    file = warehouse.file(1, b'id,size\n1,5" pipe\n2,6\n3,7" pipe\n', rows_in=99)
    assert await warehouse.load(file) == {1: FileLoad(1, 3, 3, 0)}


async def test_a_file_that_was_written_over_during_the_load_leaves_no_rows(warehouse):
    changing = FileChecks(recount=CHECKS.recount, changed=lambda file: file.file_id == 2)
    loads = await warehouse.load(warehouse.file(1), warehouse.file(2), checks=changing)
    assert loads[2].gone is not None
    assert await warehouse.rows("SELECT DISTINCT _file_id FROM bronze.t") == [(1,)]


async def test_a_file_that_breaks_the_reader_is_found_and_the_others_are_loaded(warehouse):
    whole = gzip.compress(b"id,brand\n" + b"".join(b"%d,%d\n" % (n, n * 7919) for n in range(5000)))
    files = [warehouse.file(n) for n in range(1, 8)]
    cut = warehouse.file(8, whole)
    os.truncate(cut.path, len(whole) // 2)
    cut = replace(cut, signature=landing.signature(cut.path))
    gone = warehouse.file(9)
    os.unlink(gone.path)
    loads = await warehouse.load(*files[:3], cut, *files[3:], gone, checks=NO_CHECKS)
    assert {n for n, load in loads.items() if load.loaded} == {1, 2, 3, 4, 5, 6, 7}
    assert loads[8].quarantined
    assert loads[9].quarantined
    assert await warehouse.rows("SELECT count(*) AS n, count(DISTINCT _file_id) AS f FROM bronze.t") == [(14, 7)]


async def test_only_unusable_files_make_no_table_and_still_a_commit(warehouse):
    bad = FileLoad(1, quarantined="empty")
    assert await warehouse.load(unusable=(bad,)) == {1: bad}
    assert "bronze.t" not in await warehouse.engine.columns()
    lying = FileChecks(recount=lambda _: 99, changed=lambda _: False)
    await warehouse.load(warehouse.file(2, b"html,junk\n1,2\n", rows_in=99), checks=lying)
    await warehouse.load(warehouse.file(3))
    assert [*(await warehouse.engine.columns())["bronze.t"]] == ["id", "brand", "_file_id", "_row"]


async def test_a_file_with_a_header_only_is_loaded_with_no_rows(warehouse):
    assert await warehouse.load(warehouse.file(1, b"id,brand\n")) == {1: FileLoad(1, 0, 0, 0)}


@pytest.mark.parametrize(
    "content",
    [
        b"id,brand\n1,a\n\n2,b\n\n\n",
        b"id,brand\r\n1,a\r\n2,b\r\n",
        b"id,brand\n1,a\n2,b",
        b'\xef\xbb\xbfid,brand\n1,a\n2,"b"\n',
        b'id,brand\n1,"two\nlines"\n2,"a ""quoted"" b"\n',
        b"\n\nid,brand\n1,a\n2,b\n",
    ],
    ids=["blank lines", "CRLF", "no last newline", "byte order mark", "newline in quotes", "blank lines first"],
)
@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
async def test_usual_oddities_cost_no_row(warehouse, content, together):
    others = [warehouse.file(1, b"id,brand\n9,x\n")] if together else []
    loads = await warehouse.load(*others, warehouse.file(2, content))
    assert loads[2] == FileLoad(2, 2, 2, 0)
    assert await warehouse.rows("SELECT id FROM bronze.t WHERE _file_id = 2 ORDER BY 1") == [(1,), (2,)]


async def test_blank_lines_in_a_file_of_one_column_are_not_made_into_rows(warehouse):
    """DuckDB takes them for NULLs. They cannot be told from rows, so the file waits for somebody who can."""
    loads = await warehouse.load(warehouse.file(1, b"id\n1\n\n2\n"), warehouse.file(2, b"id\n1\n2\n"))
    assert loads[1].quarantined is not None
    assert loads[2] == FileLoad(2, 2, 2, 0)


# --- names and compression --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"two\nlines.csv",
        b"o'clock.csv",
        b'"quoted".csv',
        b"caf\xe9.csv",
        b"star*.csv",
        b"[a-z]?.csv",
        b"key=value/a.csv",
        b"back\\slash.csv",
        b"{a,b}.csv",
        b"x" * 255,
    ],
)
async def test_a_files_name_is_bytes_and_never_a_pattern(warehouse, name):
    decoy = warehouse.file(1, b"id,brand\n99,decoy\n", b"starred.csv")
    assert await warehouse.load(warehouse.file(2, name=name)) == {2: FileLoad(2, 2, 2, 0)}
    assert await warehouse.rows("SELECT path FROM meta.loads") == [(shown(name),)]
    assert await warehouse.rows(f"SELECT count(*) AS n FROM bronze.t WHERE _file_id = {decoy.file_id}") == [(0,)]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("name", [b"a.csv", b"a.csv.gz", b"a.csv.zst"])
async def test_compression_goes_by_the_bytes_and_not_by_the_name(warehouse, pack, name):
    assert await warehouse.load(warehouse.file(1, pack(EVENTS), name)) == {1: FileLoad(1, 2, 2, 0)}


async def test_no_link_is_left_behind(warehouse, options):
    await warehouse.load(warehouse.file(1))
    await warehouse.engine.execute(warehouse.ingest(warehouse.file(2, columns=("id", "id"))), checks=CHECKS)
    assert list((options.scratch / "reading").iterdir()) == []


# --- time -------------------------------------------------------------------------------------------------

ENDLESS = "CREATE TABLE gold.big AS SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"


async def test_a_timeout_ends_the_attempt_and_the_engine_goes_on(warehouse):
    outcome = await warehouse.engine.execute(warehouse.script(ENDLESS), timeout_s=0.1)
    assert outcome == TimedOut(after_s=0.1)
    assert "gold.big" not in await warehouse.engine.columns()
    await warehouse.load(warehouse.file(1))
    assert await warehouse.rows("SELECT count(*) AS n FROM bronze.t") == [(2,)]


async def test_an_attempt_within_its_timeout_is_left_alone(warehouse):
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1"), timeout_s=60), Committed)


async def test_a_stop_interrupts_what_runs_and_begins_nothing(warehouse):
    running = asyncio.create_task(warehouse.engine.execute(warehouse.script(ENDLESS)))
    waiting = asyncio.create_task(warehouse.engine.execute(warehouse.script("SELECT 1")))
    await asyncio.sleep(0)
    warehouse.engine.interrupt_all()
    assert await asyncio.gather(running, waiting) == [Interrupted(crashed=False)] * 2


async def test_readers_do_not_wait_for_the_write_lane(warehouse):
    running = asyncio.create_task(warehouse.engine.execute(warehouse.script(ENDLESS)))
    assert await warehouse.rows("SELECT 1 AS one") == [(1,)]
    assert not running.done()
    assert not await warehouse.engine.checkpoint_if_idle()
    warehouse.engine.interrupt_all()
    await running


async def test_a_checkpoint_is_taken_once_when_the_lane_is_idle(warehouse, options):
    await warehouse.load(warehouse.file(1))
    log = options.warehouse.with_name("warehouse.duckdb.wal")
    assert log.stat().st_size > 0
    assert await warehouse.engine.checkpoint_if_idle()
    assert not log.exists() or log.stat().st_size == 0
    assert not await warehouse.engine.checkpoint_if_idle()


# --- scripts ----------------------------------------------------------------------------------------------


async def test_a_script_is_several_statements_in_one_transaction(warehouse):
    outcome = await warehouse.engine.execute(
        warehouse.script(
            """
            CREATE TABLE gold.x (a VARCHAR);
            INSERT INTO gold.x VALUES ($month), ('b');
            UPDATE gold.x SET a = 'c' WHERE a = 'b';
            DELETE FROM gold.x WHERE a = 'c';
            ALTER TABLE gold.x ADD COLUMN n INTEGER;
            """,
            month="Oct",
            unused="x",
        )
    )
    assert isinstance(outcome, Committed), outcome
    assert await warehouse.rows("FROM gold.x") == [("Oct", None)]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "COPY gold.x TO '{scratch}/out.csv'",
        "ATTACH ':memory:' AS other",
        "SET threads = 1",
        "PRAGMA disable_checkpoint_on_shutdown",
        "CHECKPOINT",
        "USE gold",
        "INSTALL httpfs",
        "EXPORT DATABASE '{scratch}/out'",
        "DELETE FROM meta.commits",
        'UPDATE "meta".loads SET rows_in = 0',
        "DELETE FROM MeTa . commits",
        "DELETE FROM meta/* */./* */commits",
        "DELETE FROM meta -- a comment\n.commits",
        'DELETE FROM warehouse . "meta" . "commits"',
        "DROP SCHEMA meta CASCADE",
        "CREATE TABLE meta.mine AS SELECT 1",
        "CREATE VIEW gold.v AS SELECT 1; COMMIT",
    ],
)
async def test_a_script_can_neither_end_its_transaction_nor_touch_the_books(warehouse, options, statement):
    await warehouse.load(warehouse.file(1))
    before = await warehouse.rows("SELECT * FROM meta.commits, meta.loads")
    sql = f"CREATE TABLE gold.x AS SELECT 1 AS a; {statement.format(scratch=options.scratch)}"
    outcome = await warehouse.engine.execute(warehouse.script(sql))
    assert isinstance(outcome, Failed), outcome
    assert outcome.permanent
    assert "gold.x" not in await warehouse.engine.columns()
    assert await warehouse.rows("SELECT * FROM meta.commits, meta.loads") == before


async def test_a_script_may_read_the_books(warehouse):
    outcome = await warehouse.engine.execute(warehouse.script("SELECT count(*) FROM meta.commits"))
    assert isinstance(outcome, Committed), outcome


async def test_a_table_that_a_script_changed_is_looked_at_anew(warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.engine.execute(warehouse.script("ALTER TABLE bronze.t DROP COLUMN brand"))
    await warehouse.load(warehouse.file(2))
    assert await warehouse.rows("SELECT id, brand FROM bronze.t ORDER BY _file_id, id") == [
        (1, None),
        (2, None),
        (1, "acme"),
        (2, "zeta"),
    ]


# --- queries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO gold.x VALUES (2)",
        "DROP TABLE gold.x",
        "WITH y AS (INSERT INTO gold.x VALUES (2) RETURNING *) SELECT * FROM y",
        "COPY gold.x TO '{scratch}/stolen.csv'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE gold.x",
        "SELECT 1) TO '{scratch}/stolen.csv' (FORMAT csv); DROP TABLE gold.x; COPY (SELECT 1",
        "",
        "-- nothing",
        "SET threads = 1",
        "ATTACH ':memory:' AS other",
        "PRAGMA database_list",
        "EXPLAIN ANALYZE INSERT INTO gold.x VALUES (2)",
        "CALL pragma_version()",
        "SELEKT 1",
        "FROM gold.nowhere",
        "FROM read_text('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM read_csv('{landing}/../../../../../../../../etc/passwd')",
        "FROM glob('/etc/*')",
        "FROM read_text('{landing}/link')",
    ],
)
async def test_a_query_only_reads_and_only_what_is_ours(warehouse, options, sql):
    await warehouse.engine.execute(warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a"))
    (options.landing / "link").symlink_to("/etc/hostname")
    places = {"scratch": options.scratch, "landing": options.landing}
    to = options.scratch / "answer.json"
    with pytest.raises((RefusedError, EngineError)):
        await warehouse.engine.query(sql.format(**places), "json", to)
    assert await warehouse.rows("SELECT a FROM gold.x") == [(1,)]
    assert not (options.scratch / "stolen.csv").exists()


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1 AS a -- a comment", "SELECT 1 AS a;", "  FROM gold.x  ", "WITH y AS (FROM gold.x) FROM y", "VALUES (1)"],
)
async def test_a_query_may_be_written_as_people_write(warehouse, sql):
    await warehouse.engine.execute(warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a"))
    assert await warehouse.rows(sql) == [(1,)]


@pytest.mark.parametrize("format_", ["json", "csv", "parquet"])
async def test_an_answer_comes_in_each_format(warehouse, options, format_):
    to = options.scratch / f"it's.{format_}"
    await warehouse.engine.query("SELECT 1 AS a, 'x' AS b", format_, to)
    start = {"json": b"[", "csv": b"a,b\n1,x\n", "parquet": b"PAR1"}[format_]
    assert to.read_bytes().startswith(start)


async def test_an_empty_json_answer_is_an_empty_list(warehouse):
    assert await warehouse.rows("SELECT 1 AS a WHERE false") == []


# --- one process ------------------------------------------------------------------------------------------


async def test_a_second_daemon_is_refused_and_harms_nothing(warehouse, options):
    await warehouse.load(warehouse.file(1))
    keep = options.scratch / "keep"
    keep.touch()
    with pytest.raises(AlreadyRunningError) as refused:
        open_engine(options)
    assert "landingd status" in str(refused.value)
    assert keep.exists()
    await warehouse.load(warehouse.file(2))


def test_a_file_that_is_no_warehouse_is_refused_and_the_lock_let_go(options):
    options.warehouse.parent.mkdir(parents=True)
    options.warehouse.write_bytes(b"something else " * 1000)
    with pytest.raises(EngineError):
        open_engine(options)
    options.warehouse.unlink()
    open_engine(options).close()


def test_what_a_killed_process_left_is_read_without_writing_anything(options):
    script = """
        import asyncio, sys
        from pathlib import Path
        from landingd.edge.engine import EngineOptions, open_engine
        from landingd.model import AttemptKey, ScriptPlan
        engine = open_engine(EngineOptions(*map(Path, sys.argv[1:])))
        plan = ScriptPlan(AttemptKey(1, "t", 1), "shop", "CREATE TABLE gold.x AS SELECT 42 AS a", {})
        print(asyncio.run(engine.execute(plan)), flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), options.warehouse, options.scratch, options.landing]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert b"Committed" in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    before = {path.name: path.read_bytes() for path in options.warehouse.parent.iterdir()}
    assert before["warehouse.duckdb.wal"]
    with contextlib.closing(open_read_only(options.warehouse)) as db:
        write_query(db, "FROM gold.x", "csv", options.scratch / "answer.csv")
    assert (options.scratch / "answer.csv").read_text() == "a\n42\n"
    assert {path.name: path.read_bytes() for path in options.warehouse.parent.iterdir()} == before


def test_a_warehouse_that_another_process_holds_is_said_to_be_in_use(tmp_path):
    warehouse = tmp_path / "warehouse.duckdb"
    script = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, warehouse]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(AlreadyRunningError, match="in use by another process") as refused:
            open_read_only(warehouse)
    assert "\n" not in refused.value.what


def test_a_warehouse_that_is_not_there_yet_is_said_to_be_empty_and_not_made(tmp_path):
    with pytest.raises(EngineError, match="nothing is loaded yet"):
        open_read_only(tmp_path / "warehouse.duckdb")
    assert list(tmp_path.iterdir()) == []
