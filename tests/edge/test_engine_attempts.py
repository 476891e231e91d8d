"""When an attempt ends early, and what a job's own compute does to the engine."""

import asyncio
from dataclasses import replace

import duckdb
import pytest

from landingd.edge.engine import open_engine
from landingd.model import Canceled, Committed, Compute, Failed, Interrupted, RefreshMode, TimedOut
from warehouses import Warehouse

ENDLESS = "SELECT count(*) FROM range(100000000000) a, range(1000000) b WHERE random() < 0.5"


def settings(engine):
    names = ("threads", "memory_limit", "temp_directory", "lock_configuration", "enable_external_access")
    with engine._root.cursor() as cursor:
        return {name: cursor.execute(f"SELECT current_setting('{name}')").fetchone()[0] for name in names}


async def busy(engine, deadline_s=30.0):
    """Until a statement runs on the lane."""
    async with asyncio.timeout(deadline_s):
        while not engine._lane._interruptible:  # noqa: ASYNC110 -- another thread sets it
            await asyncio.sleep(0.001)


# --- cancel -----------------------------------------------------------------------------------------------


async def test_what_is_canceled_before_the_lane_is_free_is_never_begun(warehouse):
    stop, cancel = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(warehouse.engine.execute(warehouse.script(ENDLESS), cancel=stop))
    await busy(warehouse.engine)
    waiting = asyncio.create_task(
        warehouse.engine.execute(warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a"), cancel=cancel)
    )
    await asyncio.sleep(0)
    cancel.set()
    assert await waiting == Canceled()
    assert not first.done()
    stop.set()
    assert await first == Canceled()
    assert "gold.x" not in await warehouse.engine.columns()
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1")), Committed)


async def test_what_is_canceled_already_is_not_begun_on_a_free_lane_either(warehouse):
    cancel = asyncio.Event()
    cancel.set()
    script = warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a")
    assert await warehouse.engine.execute(script, cancel=cancel) == Canceled()
    assert await warehouse.engine.execute_together([script, script], cancel=cancel) == [Canceled()] * 2
    assert "gold.x" not in await warehouse.engine.columns()


@pytest.mark.parametrize("together", [False, True])
async def test_what_is_canceled_while_it_runs_leaves_nothing(warehouse, together):
    cancel = asyncio.Event()
    plans = [warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a"), warehouse.script(ENDLESS)]
    alone = warehouse.script(f"CREATE TABLE gold.x AS SELECT 1 AS a; {ENDLESS}")
    call = warehouse.engine.execute_together(plans, cancel=cancel) if together else None
    running = asyncio.create_task(call or warehouse.engine.execute(alone, cancel=cancel))
    await busy(warehouse.engine)
    cancel.set()
    assert await running == ([Canceled()] * 2 if together else Canceled())
    assert "gold.x" not in await warehouse.engine.columns()
    assert await warehouse.rows("FROM meta.commits") == []


async def test_a_cancel_that_comes_too_late_changes_nothing(warehouse):
    cancel = asyncio.Event()
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1"), cancel=cancel), Committed)
    cancel.set()
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.commits") == [(1,)]


async def test_a_timeout_and_a_stop_are_told_apart_from_a_cancel(warehouse):
    cancel = asyncio.Event()
    script = warehouse.script(ENDLESS)
    assert await warehouse.engine.execute(script, timeout_s=0.05, cancel=cancel) == TimedOut(after_s=0.05)
    running = asyncio.create_task(warehouse.engine.execute(script, cancel=cancel))
    await busy(warehouse.engine)
    warehouse.engine.interrupt_all()
    assert await running == Interrupted(crashed=False)
    assert await warehouse.engine.execute(script, cancel=cancel) == Interrupted(crashed=False)


# --- compute ----------------------------------------------------------------------------------------------

OF_LANE = "SELECT current_setting('threads') AS threads, current_setting('memory_limit') AS memory"
SMALL = Compute(threads=1, memory_limit="256MB")


async def test_a_jobs_compute_holds_for_its_attempts_and_no_longer(warehouse):
    usual = settings(warehouse.engine)
    outcome = await warehouse.engine.execute(replace(warehouse.script(OF_LANE), compute=SMALL))
    assert outcome.stats.output.values == {"threads": 1, "memory": "244.1 MiB"}
    assert settings(warehouse.engine) == usual
    outcome = await warehouse.engine.execute(warehouse.script(OF_LANE))
    assert outcome.stats.output.values == {"threads": usual["threads"], "memory": usual["memory_limit"]}


@pytest.mark.parametrize("sql", ["SELECT error('x')", "SELECT nothing", ENDLESS])
async def test_the_usual_compute_is_back_however_the_attempt_ends(warehouse, sql):
    usual = settings(warehouse.engine)
    outcome = await warehouse.engine.execute(replace(warehouse.script(sql), compute=SMALL), timeout_s=0.2)
    assert isinstance(outcome, Failed | TimedOut)
    assert settings(warehouse.engine) == usual


async def test_all_tasks_of_a_small_run_have_its_jobs_compute(warehouse):
    usual = settings(warehouse.engine)
    plans = [replace(warehouse.script(OF_LANE), compute=SMALL) for _ in range(2)]
    outcomes = await warehouse.engine.execute_together(plans)
    assert [outcome.stats.output.values["threads"] for outcome in outcomes] == [1, 1]
    assert settings(warehouse.engine) == usual


async def test_the_usual_compute_is_what_the_configuration_says(options):
    engine = open_engine(replace(options, threads=3, memory_limit="1GiB"))
    usual = settings(engine)
    warehouse = Warehouse(engine, options)
    await engine.execute(replace(warehouse.script("SELECT 1"), compute=SMALL))
    assert settings(engine) == usual
    assert (usual["threads"], usual["memory_limit"]) == (3, "1.0 GiB")
    engine.close()


@pytest.mark.parametrize(
    ("compute", "says", "permanent"),
    [
        (Compute(memory_limit="much"), "compute.memory_limit", True),
    ],
)
async def test_compute_that_cannot_be_had_fails_the_attempt(warehouse, compute, says, permanent):
    usual = settings(warehouse.engine)
    plan = replace(warehouse.script("CREATE TABLE gold.x AS SELECT 1 AS a"), compute=compute)
    outcome = await warehouse.engine.execute(plan)
    assert isinstance(outcome, Failed)
    assert says in outcome.error
    assert outcome.permanent is permanent
    assert settings(warehouse.engine) == usual
    assert "gold.x" not in await warehouse.engine.columns()


async def test_a_query_that_does_not_fit_into_its_jobs_memory_fails_and_the_next_has_the_usual(warehouse):
    big = "CREATE OR REPLACE TABLE gold.x AS SELECT list(a) AS l FROM range(20000000) t(a)"
    outcome = await warehouse.engine.execute(replace(warehouse.script(big), compute=Compute(memory_limit="64MB")))
    assert isinstance(outcome, Failed)
    assert "64" in outcome.error or "emory" in outcome.error
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1")), Committed)


CHANGES_A_SETTING = [
    "SET threads = 1",
    "SET GLOBAL memory_limit = '1GB'",
    "RESET threads",
    "PRAGMA threads = 1",
    "CALL enable_profiling()",
    "SELECT * FROM enable_profiling()",
    "SELECT * FROM disable_profiling()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM query('SET threads = 1')",
    "SELECT * FROM query('PRAGMA threads = 1')",
    "SELECT set_config('threads', '1', false)",
    'SELECT * FROM json_execute_serialized_sql(\'{"error": false, "statements": ["SET threads = 1"]}\')',
    "SET lock_configuration = false",
    "SET allowed_configs = ['enable_external_access']",
    "SET enable_external_access = true",
]


@pytest.mark.parametrize("sql", CHANGES_A_SETTING)
async def test_no_sql_that_people_write_can_change_a_setting(warehouse, sql):
    before = settings(warehouse.engine)
    assert isinstance(await warehouse.engine.execute(warehouse.script(sql)), Failed)
    assert isinstance(await warehouse.engine.execute(warehouse.table(sql, RefreshMode.FULL)), Failed)
    with pytest.raises(Exception, match=r"."):
        await warehouse.engine.first_rows(sql, 1)
    with pytest.raises(Exception, match=r"."):
        await warehouse.engine.query(sql, "json", warehouse.options.scratch / "x.json")
    assert settings(warehouse.engine) == before


async def test_beside_compute_no_setting_is_open_to_the_lane_itself(warehouse):
    with warehouse.engine._root.cursor() as cursor:
        names = cursor.execute("SELECT name FROM duckdb_settings() WHERE scope = 'GLOBAL' ORDER BY name").fetchall()
        opened = []
        for (name,) in names:
            try:
                cursor.execute(f"RESET {name}").fetchall()
            except duckdb.Error:
                continue
            opened.append(name)
    assert set(opened) <= {"threads", "memory_limit", "worker_threads", "max_memory"}
