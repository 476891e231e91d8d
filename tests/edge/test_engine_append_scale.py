"""What a table that is refreshed by appending has to do is remembered, and is exactly what a full comparison finds."""

import os
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landingd.edge.engine import EngineOptions, open_engine, remembered, tables
from landingd.edge.engine.computing import Usual
from landingd.edge.engine.lane import WriteLane
from landingd.edge.engine.remembered import CHANGES_MAX, Behind, Remembered
from landingd.model import Committed, Failed, RefreshMode
from warehouses import CHECKS, Warehouse

SELECT = "SELECT id FROM bronze.t"
MANY = 300


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


# --- whatever happens -------------------------------------------------------------------------------------

STEPS = st.sampled_from([
    "load", "load", "load two", "replace", "replay", "replay", "retract", "retract", "again", "unusable", "new column",
    "together", "together", "rolled back", "rolled back after", "silver", "silver", "next", "next", "other",
    "definition", "new process", "script", "drop silver",
])  # fmt: skip


class Shop:
    """A lane, and a model of what its tables hold: a bronze table, two made from it, and one made from one of these."""

    def __init__(self, root, folder):
        self.folder = folder
        (folder / "landing").mkdir()
        self.options = EngineOptions(folder / "no.duckdb", folder / "scratch", folder / "landing")
        self.plans = Warehouse(None, self.options)
        self.root = root
        self.held = {}
        """Of each file version in the bronze table its rows."""
        self.left = {}
        self.definition = 1
        self.file_id = 0
        self.begin()

    def begin(self):
        """A process begins: it remembers nothing."""
        self.lane = WriteLane(self.root.cursor(), self.folder / "scratch", Usual(2, ""))

    def attempt(self, *plans, fails=False):
        done = self.lane.attempt(plans, CHECKS)
        assert isinstance(done, Failed if fails else list), done
        return done

    # -- files --

    def new_file(self, *, price=False, **more):
        self.file_id += 1
        n = self.file_id
        header, cell = (b"id,n,price\n", b",1.5") if price else (b"id,n\n", b"")
        rows = [(n * 10 + k, n % 3 + k) for k in range(3)]
        content = header + b"".join(b"%d,%d%s\n" % (*row, cell) for row in rows)
        return self.plans.file(n, content, b"%d.csv" % n, **more), rows

    def old_file(self, n, **more):
        path = os.fsencode(self.options.landing / f"{n}.csv")
        return self.plans.file(n, Path(os.fsdecode(path)).read_bytes(), b"%d.csv" % n, **more)

    def pick(self, number, among):
        return sorted(among)[number % len(among)] if among else 0

    def ingest(self, *files, retract=()):
        return self.plans.ingest(*files, retract=retract)

    # -- steps --

    def step(self, name, number):
        one = self.pick(number, self.held)
        match name:
            case "load" | "load two" | "new column" | "unusable" | "replace":
                self.load(name, number, one)
            case "replay" if one:
                self.attempt(self.ingest(self.old_file(one, reload=True)))
            case "again" if one:
                self.attempt(self.ingest(self.old_file(one)))
            case "retract":
                gone = one if number % 4 else self.pick(number, self.left) or 999
                self.attempt(self.ingest(retract=(gone,)))
                self.held.pop(gone, None)
            case "silver" | "next" | "other" if self.held:
                self.refresh(name)
            case "together" if self.held:
                self.together(number)
            case "rolled back" | "rolled back after" if self.held:
                self.rolled_back(name, one)
            case "definition":
                self.definition += 1
            case "new process":
                self.begin()
            case "script":
                kind = ("CREATE OR REPLACE TABLE gold.x AS SELECT 1 AS a", "SELECT count(*) FROM meta.loads")[
                    number % 2
                ]
                self.attempt(self.plans.script(kind))
            case "drop silver":
                self.attempt(self.plans.script("DROP TABLE IF EXISTS silver.t"))

    def load(self, name, number, one):
        file, rows = self.new_file(price=name == "new column")
        old = {one} if name == "replace" and one else set()
        entering = {file.file_id: rows}
        files = [replace(file, replaces=tuple(old))]
        if name == "load two":
            second, more = self.new_file()
            entering[second.file_id] = more
            files.append(second)
        if name == "unusable":
            files.append(replace(self.new_file(price=number % 2 == 0)[0], rows_in=99))
        self.attempt(self.ingest(*files))
        for gone in old:
            self.held.pop(gone)
        self.held |= entering
        self.left |= entering

    def table(self, name):
        above = f"SELECT id * {self.definition} AS id FROM bronze.t WHERE n > 0"
        plan = {
            "silver": lambda: self.plans.table(above, RefreshMode.APPEND, definition=str(self.definition)),
            "next": lambda: self.plans.table(
                "SELECT id FROM silver.t", RefreshMode.APPEND, definition=f"{self.definition} next", table="silver.u",
                upstream="silver.t",
            ),
            "other": lambda: self.plans.table("SELECT * FROM bronze.t", RefreshMode.APPEND, table="silver.v"),
        }  # fmt: skip
        return plan[name]()

    def refresh(self, name):
        # In the order of the graph: what is above has run, as in every run of a job.
        plans = [self.table("silver"), self.table("next")] if name == "next" else [self.table(name)]
        self.attempt(*plans)
        self.check_tables(name)

    def together(self, number):
        file, rows = self.new_file()
        gone = self.pick(number, self.held)
        self.attempt(self.ingest(file, retract=(gone,)), self.table("silver"), self.table("next"), self.table("other"))
        del self.held[gone]
        self.held[file.file_id] = self.left[file.file_id] = rows
        self.check_tables("silver", "next", "other")

    def rolled_back(self, name, one):
        broken = self.plans.table("SELECT error('x') AS a FROM bronze.t", RefreshMode.FULL, table="gold.t")
        work = [self.ingest(self.new_file(price=True)[0], self.old_file(one, reload=True))]
        if name == "rolled back after":
            work += [self.table("silver"), self.table("next")]
        self.attempt(*work, broken, fails=True)

    # -- claims --

    def check_tables(self, *names):
        model = {
            "silver": sorted((f, i * self.definition) for f, rows in self.held.items() for i, n in rows if n > 0),
            "other": sorted((f, i) for f, rows in self.held.items() for i, _ in rows),
        }
        model["next"] = model["silver"]
        tables = {"silver": "silver.t", "next": "silver.u", "other": "silver.v"}
        for name in names:
            assert self.rows(f"SELECT _file_id, id FROM {tables[name]} ORDER BY ALL") == model[name]
            loads = f"SELECT file_id, rows_loaded FROM meta.loads WHERE table_name = '{tables[name]}' ORDER BY 1"
            counted = {f: sum(1 for g, _ in model[name] if g == f) for f in self.held}
            assert dict(self.rows(loads)) == counted

    def check_what_is_remembered(self):
        known = self.lane.remembered
        assert known is not None
        for table, behind in known.behind.items():
            assert tables.compare(self.root, table, behind.upstream) == behind
        now = Remembered.read(self.root)
        assert known.columns.keys() >= {"meta.loads"}
        assert all(known.newest_file[table] >= newest for table, newest in now.newest_file.items())
        assert {t: c for t, c in known.columns.items() if t.startswith(("bronze", "silver"))} == {
            t: c for t, c in now.columns.items() if t.startswith(("bronze", "silver"))
        }

    def rows(self, sql):
        return self.root.execute(sql).fetchall()


@settings(max_examples=MANY // 6, deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 11)), min_size=5, max_size=30))
def test_whatever_happens_a_table_is_its_select_over_the_loaded_files_and_what_is_remembered_is_so(steps):
    """The oracle is a model of what is loaded, and for what is remembered the full comparison, after each step."""
    schema = resources.files(tables.__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 2}) as root:
        root.execute(schema)
        shop = Shop(root, Path(folder))
        for name, number in steps:
            shop.step(name, number)
            shop.check_what_is_remembered()
        if shop.held:
            for name in ("silver", "next", "other"):
                shop.refresh(name)
        shop.check_what_is_remembered()


CHANGES = st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=40)


@given(agreed=st.frozensets(st.integers(1, 6)), changes=CHANGES)
def test_what_a_table_is_behind_is_what_differs_whatever_came_and_went(agreed, changes):
    """Each version that enters is a load of its own, even of a file that was there before."""
    table = {file_id: 0 for file_id in agreed}
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
