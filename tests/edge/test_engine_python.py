"""A Python task: a function with a context, whose statements are the attempt's one transaction."""

import asyncio
import sys
import textwrap
import threading
import time

import pytest

from landingd.edge.engine.attempts import ABANDONED_MAX
from landingd.model import (
    Canceled,
    Committed,
    Compute,
    Failed,
    Interrupted,
    Output,
    PythonCall,
    PythonPlan,
    RefreshMode,
    TimedOut,
)

DEADLINE_S = 30.0


class Functions:
    """Python files of a job, and plans that call them."""

    def __init__(self, warehouse, folder):
        self.warehouse = warehouse
        self.file = folder / "tasks.py"

    def plan(self, source, *, function="main", **more):
        self.file.write_text(textwrap.dedent(source))
        call = PythonCall(self.file, "shop/tasks.py", function)
        given = {"parameters": {"month": "Oct"}, "task_values": {}, "files": ()} | more
        return PythonPlan(self.warehouse.key("python"), "shop", call, **given)

    async def call(self, source, **more):
        return await self.warehouse.engine.execute(self.plan(source, **more))

    async def stats(self, source, **more):
        outcome = await self.call(source, **more)
        assert isinstance(outcome, Committed), outcome
        return outcome.stats


@pytest.fixture
def functions(warehouse, tmp_path):
    return Functions(warehouse, tmp_path)


@pytest.fixture
def gate(monkeypatch):
    """Events that a function under test can reach: `import gates; gates.open.wait(30)`."""
    module = type(sys)("gates")
    module.open, module.reached, module.done, module.seen = (*(threading.Event() for _ in range(3)), [])
    monkeypatch.setitem(sys.modules, "gates", module)
    yield module
    module.open.set()


async def reached(event):
    assert await asyncio.to_thread(event.wait, DEADLINE_S)


# --- what it is given, and what it leaves -----------------------------------------------------------------


async def test_a_function_gets_its_context_and_leaves_values(functions):
    stats = await functions.stats(
        """
        def main(ctx):
            ctx.values["said"] = [ctx.parameters["month"], ctx.task_values["before"]["n"], ctx.files, ctx.job]
            ctx.values["names"] = {"run": ctx.run_id, "task": ctx.task_key, "attempt": ctx.attempt > 0}
        """,
        task_values={"before": {"n": 7}},
        files=("/landing/a.csv",),
    )
    assert stats.output == Output(
        values={
            "said": ["Oct", 7, ["/landing/a.csv"], "shop"],
            "names": {"run": 1, "task": "python", "attempt": True},
        }
    )
    assert not stats.changed


async def test_what_it_does_is_one_transaction_with_the_commit_row(functions, warehouse):
    plan = functions.plan(
        """
        def main(ctx):
            ctx.sql("CREATE TABLE gold.t (id BIGINT, month VARCHAR)")
            ctx.sql("INSERT INTO gold.t SELECT unnest($ids), $month", {"ids": [1, 2]})
            ctx.values["rows"] = ctx.sql("SELECT count(*) AS n FROM gold.t")[0]["n"]
            cursor = ctx.cursor.execute("SELECT id FROM gold.t WHERE id > ? ORDER BY id", [0])
            ctx.values["ids"] = [cursor.fetchone()[0], *(row[0] for row in cursor.fetchall())]
            ctx.values["named"] = [column[0] for column in cursor.description]
        """
    )
    outcome = await warehouse.engine.execute(plan)
    assert outcome.stats.output.values == {"rows": 2, "ids": [1, 2], "named": ["id"]}
    assert outcome.stats.changed
    assert await warehouse.rows("SELECT * FROM gold.t ORDER BY id") == [(1, "Oct"), (2, "Oct")]
    assert await warehouse.engine.committed([1]) == {plan.key: outcome.stats}


async def test_its_time_counts_from_its_first_line_and_not_from_its_first_statement(functions):
    before_s = time.time()
    stats = await functions.stats(
        """
        import time

        def main(ctx):
            ctx.values["began_s"] = time.time()
            until_s = time.monotonic() + 0.05
            while time.monotonic() < until_s: pass
            ctx.sql("SELECT 1")
        """
    )
    assert before_s <= stats.began_s <= stats.output.values["began_s"]
    assert stats.worked_ms >= 50


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("async def main(ctx): ctx.values['n'] = 1", "is an async function"),
        ("async def main(ctx): yield 1", "is an async generator"),
        ("def main(ctx): yield ctx.sql('SELECT 1')", "is a generator"),
    ],
)
async def test_a_function_of_which_no_line_runs_is_no_success(functions, source, what):
    outcome = await functions.call(source)
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert f"shop/tasks.py: 'main' {what}: nothing of it was carried out\n  hint: " in outcome.error


async def test_a_time_with_a_zone_can_be_asked_for(functions):
    stats = await functions.stats(
        """
        def main(ctx):
            row = ctx.sql("SELECT TIMESTAMPTZ '2026-01-01 10:00+01' AS at, 1.5::DECIMAL(3,1) AS d")[0]
            ctx.values["at"] = row["at"].isoformat()
            ctx.values["d"] = str(row["d"])
        """
    )
    assert stats.output.values == {"at": "2026-01-01T09:00:00+00:00", "d": "1.5"}


async def test_the_lane_knows_of_a_table_that_a_function_has_changed(functions, warehouse):
    await warehouse.load(warehouse.file(1))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    await functions.stats("def main(ctx): ctx.sql('ALTER TABLE bronze.t ADD COLUMN more VARCHAR')")
    await warehouse.load(warehouse.file(2))
    await warehouse.refresh("SELECT * FROM bronze.t", RefreshMode.APPEND)
    assert await warehouse.rows("SELECT id, more FROM silver.t ORDER BY ALL") == [
        (1, None),
        (1, None),
        (2, None),
        (2, None),
    ]


async def test_a_changed_file_counts_at_once_and_leaves_nothing_behind_in_the_process(functions):
    before = set(sys.modules)
    source = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Answer:
            n: int

        def main(ctx):
            ctx.values["n"] = Answer({n}).n
        """
    assert (await functions.stats(source.format(n=1))).output.values == {"n": 1}
    assert (await functions.stats(source.format(n=2))).output.values == {"n": 2}
    assert set(sys.modules) == before


# --- what it may not do -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SET threads = 1",
        "PRAGMA threads=1",
        "RESET threads",
        "CHECKPOINT",
        "ATTACH ':memory:' AS x",
        "CALL enable_profiling()",
        "COPY (SELECT 1) TO 'x.csv'",
        "INSTALL httpfs",
        "USE main",
    ],
)
async def test_its_cursor_carries_out_what_a_script_may_hold_and_nothing_else(functions, warehouse, statement):
    source = (
        f"def main(ctx):\n    ctx.sql('CREATE TABLE gold.x AS SELECT 1 AS a')\n    ctx.cursor.execute({statement!r})"
    )
    outcome = await functions.call(source)
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "may not hold" in outcome.error
    assert "gold.x" not in await warehouse.engine.columns()


@pytest.mark.parametrize("name", ["commit", "rollback", "begin", "close", "cursor", "interrupt", "load_extension"])
async def test_its_cursor_has_no_way_out_of_the_transaction(functions, warehouse, name):
    outcome = await functions.call(f"def main(ctx):\n    ctx.sql('SELECT 1')\n    ctx.cursor.{name}()")
    assert isinstance(outcome, Failed)
    assert "AttributeError" in outcome.error
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1")), Committed)


async def test_it_reads_landingds_own_tables_and_writes_none(functions, warehouse):
    stats = await functions.stats(
        "def main(ctx): ctx.values['n'] = ctx.sql('SELECT count(*) AS n FROM meta.loads')[0]['n']"
    )
    assert stats.output.values == {"n": 0}
    outcome = await functions.call("def main(ctx): ctx.sql('DELETE FROM meta.commits')")
    assert isinstance(outcome, Failed)
    assert "meta" in outcome.error


# --- what goes wrong --------------------------------------------------------------------------------------


async def test_a_failure_is_told_by_the_line_of_the_users_file(functions, warehouse):
    outcome = await functions.call(
        """
        def price(row):
            return row["price"]

        def main(ctx):
            ctx.sql("CREATE TABLE gold.x AS SELECT 1 AS a")
            price(ctx.sql("SELECT 1 AS n")[0])
        """
    )
    assert outcome == Failed(
        "shop/tasks.py:3: KeyError: 'price'\n"
        '  shop/tasks.py:7 in main: price(ctx.sql("SELECT 1 AS n")[0])\n'
        '  shop/tasks.py:3 in price: return row["price"]'
    )
    assert "gold.x" not in await warehouse.engine.columns()


@pytest.mark.parametrize(
    ("source", "says", "permanent"),
    [
        ("def main(ctx): ctx.sql('SELECT nothing FROM nowhere')", "shop/tasks.py:1: ", True),
        ("def main(ctx): ctx.sql('SELECT error(chr(120))')", "shop/tasks.py:1: ", False),
        ("def main(ctx):\n    return (", "shop/tasks.py:2: SyntaxError", True),
        ("import no_such_module", "shop/tasks.py:1: ModuleNotFoundError", True),
        ("def mian(ctx): pass", "did you mean 'mian'?", True),
        ("x = 1", "its functions are none", True),
        ("def main(): pass", "TypeError", False),
        ("def main(ctx): raise SystemExit(3)", "SystemExit: 3", False),
        ("def main(ctx): ctx.values['d'] = object()", "ctx.values['d'] is a object, which JSON cannot say", True),
        ("def main(ctx): ctx.values['d'] = float('nan')", "which JSON cannot say", True),
        ("def main(ctx): ctx.values['d'] = chr(0xD800)", "which JSON cannot say", True),
        ("def main(ctx): ctx.values['d'] = 'x' * 50_000", "and 49,152 is the most", True),
    ],
)
async def test_what_is_wrong_is_said_and_whether_another_try_could_help(functions, warehouse, source, says, permanent):
    outcome = await functions.call(source)
    assert isinstance(outcome, Failed)
    assert says in outcome.error
    assert outcome.permanent is permanent
    assert "Traceback" not in outcome.error
    assert await warehouse.rows("FROM meta.commits") == []


async def test_a_file_that_is_not_there_is_said(functions):
    plan = functions.plan("")
    functions.file.unlink()
    outcome = await functions.warehouse.engine.execute(plan)
    assert outcome == Failed("shop/tasks.py: cannot be read: No such file or directory", permanent=True)


async def test_an_error_that_the_function_catches_is_no_success_where_it_cost_the_transaction(functions, warehouse):
    source = """
        import duckdb

        def main(ctx):
            ctx.sql("CREATE TABLE gold.x (a INTEGER PRIMARY KEY)")
            ctx.sql("INSERT INTO gold.x VALUES (1)")
            try:
                ctx.sql({statement!r})
            except duckdb.Error:
                pass
        """
    outcome = await functions.call(source.format(statement="INSERT INTO gold.x VALUES (1)"))
    if isinstance(outcome, Failed):
        assert "transaction is lost" in outcome.error
        assert "gold.x" not in await warehouse.engine.columns()
    else:
        assert await warehouse.rows("FROM gold.x") == [(1,)]
    assert isinstance(await functions.call("def main(ctx): ctx.sql('SELECT 1')"), Committed)


# --- time, and the lane -----------------------------------------------------------------------------------


async def test_until_it_touches_the_cursor_it_runs_beside_the_lane(functions, warehouse, gate):
    source = """
        import gates

        def main(ctx):
            gates.reached.set()
            gates.open.wait(30)
            ctx.sql("CREATE TABLE gold.x AS SELECT * FROM gold.meanwhile")
        """
    calling = asyncio.create_task(functions.call(source))
    await reached(gate.reached)
    assert isinstance(
        await warehouse.engine.execute(warehouse.script("CREATE TABLE gold.meanwhile AS SELECT 5 AS a")), Committed
    )
    gate.open.set()
    assert isinstance(await calling, Committed)
    assert await warehouse.rows("FROM gold.x") == [(5,)]


async def test_from_its_first_statement_on_the_lane_is_its_own(functions, warehouse, gate):
    source = """
        import gates

        def main(ctx):
            ctx.sql("CREATE TABLE gold.x AS SELECT 1 AS a")
            gates.reached.set()
            gates.open.wait(30)
            ctx.sql("INSERT INTO gold.x VALUES (2)")
        """
    calling = asyncio.create_task(functions.call(source))
    await reached(gate.reached)
    waiting = asyncio.create_task(warehouse.engine.execute(warehouse.script("INSERT INTO gold.x VALUES (3)")))
    assert await warehouse.rows("SELECT count(*) AS n FROM meta.commits") == [(0,)]
    assert not waiting.done()
    gate.open.set()
    assert isinstance(await calling, Committed)
    assert isinstance(await waiting, Committed)
    assert await warehouse.rows("SELECT a FROM gold.x ORDER BY a") == [(1,), (2,), (3,)]


ENDLESS = "SELECT count(*) FROM range(100000000000) a, range(1000000) b WHERE random() < 0.5"


async def test_a_statement_that_runs_too_long_is_interrupted(functions, warehouse):
    plan = functions.plan(
        f"def main(ctx):\n    ctx.sql('CREATE TABLE gold.x AS SELECT 1 AS a')\n    ctx.sql('{ENDLESS}')"
    )
    assert await warehouse.engine.execute(plan, timeout_s=0.2) == TimedOut(after_s=0.2)
    assert "gold.x" not in await warehouse.engine.columns()


@pytest.mark.parametrize("touches", ["", "ctx.sql('CREATE TABLE gold.x AS SELECT 1 AS a')"])
async def test_python_that_takes_too_long_loses_the_lane_and_can_do_nothing_any_more(
    functions, warehouse, gate, touches
):
    source = f"""
        import gates

        def main(ctx):
            {touches or "pass"}
            gates.open.wait(30)
            try:
                ctx.sql("CREATE TABLE gold.late AS SELECT 1 AS a")
            except Exception:
                gates.seen.append("held up")
            finally:
                gates.done.set()
        """
    outcome = await warehouse.engine.execute(functions.plan(source), timeout_s=0.1)
    assert outcome == TimedOut(after_s=0.1)
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1")), Committed)
    gate.open.set()
    await reached(gate.done)
    assert gate.seen == []
    assert not {"gold.late", "gold.x"} & set(await warehouse.engine.columns())


async def test_a_function_that_makes_nothing_of_an_interrupt_ends_all_the_same(functions, warehouse, gate):
    source = f"""
        import gates

        def main(ctx):
            while True:
                try:
                    gates.reached.set()
                    ctx.sql("{ENDLESS}")
                except Exception:
                    pass
        """
    cancel = asyncio.Event()
    calling = asyncio.create_task(warehouse.engine.execute(functions.plan(source), cancel=cancel))
    await reached(gate.reached)
    cancel.set()
    assert await calling == Canceled()
    assert isinstance(await warehouse.engine.execute(warehouse.script("SELECT 1")), Committed)


async def test_a_stop_of_the_daemon_interrupts_it(functions, warehouse, gate):
    source = "import gates\ndef main(ctx):\n    ctx.sql('SELECT 1')\n    gates.reached.set()\n    gates.open.wait(30)"
    calling = asyncio.create_task(warehouse.engine.execute(functions.plan(source)))
    await reached(gate.reached)
    warehouse.engine.interrupt_all()
    assert await calling == Interrupted(crashed=False)


async def test_so_many_are_called_at_a_time_and_one_that_is_canceled_first_is_never_called(functions, warehouse, gate):
    source = "import gates\ndef main(ctx):\n    gates.seen.append(ctx.attempt)\n    gates.open.wait(30)"
    plans = [functions.plan(source) for _ in range(9)]
    calling = [asyncio.create_task(warehouse.engine.execute(plan)) for plan in plans[:8]]
    while len(gate.seen) < 8:  # noqa: ASYNC110 -- another thread counts
        await asyncio.sleep(0)
    cancel = asyncio.Event()
    ninth = asyncio.create_task(warehouse.engine.execute(plans[8], cancel=cancel))
    await asyncio.sleep(0)
    cancel.set()
    assert await ninth == Canceled()
    gate.open.set()
    assert all(isinstance(outcome, Committed) for outcome in await asyncio.gather(*calling))
    assert len(gate.seen) == 8


async def test_functions_that_were_given_up_and_still_run_are_not_heaped_up_without_end(functions, warehouse, gate):
    plan = functions.plan("import gates\ndef main(ctx): gates.open.wait(30)")
    for _ in range(ABANDONED_MAX):
        assert await warehouse.engine.execute(plan, timeout_s=0.001) == TimedOut(after_s=0.001)
    refused = await warehouse.engine.execute(plan)
    assert isinstance(refused, Failed)
    assert "still run" in refused.error
    gate.open.set()
    for thread in [t for t in threading.enumerate() if t.name.startswith("python-task")]:
        await asyncio.to_thread(thread.join, DEADLINE_S)
    assert isinstance(await warehouse.engine.execute(plan), Committed)


async def test_a_python_task_is_never_tried_together_with_others(functions, warehouse, gate):
    plan = functions.plan("import gates\ndef main(ctx): gates.seen.append(1)")
    outcomes = await warehouse.engine.execute_together([warehouse.script("SELECT 1"), plan])
    assert all(isinstance(outcome, Interrupted) and not outcome.crashed for outcome in outcomes)
    assert gate.seen == []
    assert await warehouse.rows("FROM meta.commits") == []


async def test_a_jobs_compute_holds_for_its_function(functions, warehouse):
    source = "def main(ctx): ctx.values['n'] = ctx.sql(\"SELECT current_setting('threads') AS n\")[0]['n']"
    assert (await functions.stats(source, compute=Compute(threads=3))).output.values == {"n": 3}
    assert (await functions.stats(source)).output.values == {"n": 2}
