"""What is expected of rows: who stays, who is left out, who is kept aside, and what the counts say."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from importlib import resources

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landingd.core import refresh
from landingd.edge.engine import EngineOptions, open_engine, tables
from landingd.edge.engine.expectations import Removed, check_ingested
from landingd.edge.engine.remembered import Remembered
from landingd.edge.landing import count_records, signature
from landingd.edge.landing.lines import lines_of
from landingd.errors import EngineError
from landingd.model import (
    AttemptKey,
    Committed,
    Expectation,
    ExpectationCount,
    Failed,
    Ingest,
    IngestPlan,
    OnViolation,
    Place,
    RefreshMode,
    ScriptPlan,
    Signature,
    SourceFile,
    TablePlan,
)

BOTH_WAYS = pytest.mark.parametrize("mode", [RefreshMode.FULL, RefreshMode.APPEND])
SELECT = "SELECT id, brand FROM bronze.t"
SELECT_WITH_LINEAGE = "SELECT id, brand, _file_id, _row FROM bronze.t"


def expect(expression, on_violation="quarantine", name="rule"):
    return Expectation(name, expression, OnViolation(on_violation), Place("job.yml", 1))


class Shop:
    """A warehouse whose bronze table is loaded from real files, and a silver table made from it."""

    def __init__(self, engine, options):
        self.engine = engine
        self.options = options
        self._attempts = itertools.count(1)

    async def execute(self, plan):
        outcome = await self.engine.execute(plan)
        assert isinstance(outcome, Committed), outcome
        return outcome.stats

    async def load(self, file_id, content, *, replaces=()):
        path = str(self.options.landing / f"{file_id}.csv").encode()
        with open(path, "wb") as file:  # noqa: ASYNC230, PTH123
            file.write(content)
        source = SourceFile(
            file_id=file_id,
            path=path,
            name=f"{file_id}.csv",
            content_hash=str(file_id),
            columns=tuple(content.splitlines()[0].decode().split(",")),
            delimiter=",",
            compression="none",
            signature=signature(path),
            rows_in=count_records(path, "none", ",") - 1,
            replaces=replaces,
        )
        return await self.execute(IngestPlan(self.key("bronze"), "shop", "bronze.t", Ingest(), (source,)))

    def key(self, task_key):
        return AttemptKey(1, task_key, next(self._attempts))

    def silver(self, mode, *rules, select=SELECT, upstream="bronze.t", table="silver.t", **parameters):
        chosen = refresh.Refresh(mode, "")
        return TablePlan(
            self.key("silver"),
            "shop",
            table,
            select,
            mode,
            "",
            upstream if mode is RefreshMode.APPEND else None,
            refresh.definition(select, chosen, {}, rules),
            parameters,
            rules,
        )

    async def refresh(self, mode, *rules, **more):
        return await self.execute(self.silver(mode, *rules, **more))

    async def script(self, sql):
        await self.execute(ScriptPlan(self.key("script"), "shop", sql, {}))

    async def rows(self, sql):
        to = self.options.scratch / "answer.json"
        await self.engine.query(sql, "json", to)
        return [tuple(row.values()) for row in json.loads(to.read_text())]

    async def ids(self, table="silver.t"):
        return [row[0] for row in await self.rows(f"SELECT id FROM {table} ORDER BY id")]

    async def kept_aside(self):
        return await self.rows(
            "SELECT file_id, row, rule, error, CAST(raw AS JSON)->>'id' FROM meta.rejected_rows "
            "WHERE table_name = 'silver.t' ORDER BY raw"
        )


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "landing").mkdir()
    options = EngineOptions(tmp_path / "state" / "w.duckdb", tmp_path / "scratch", tmp_path / "landing", threads=2)
    engine = open_engine(options)
    yield Shop(engine, options)
    engine.close()


# --- what each action does --------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_warning_only_counts(shop, mode):
    await shop.load(1, b"id,brand\n1,acme\n2,\n3,zeta\n")
    stats = await shop.refresh(mode, expect("brand IS NOT NULL", "warn"))
    assert stats.expectations == (ExpectationCount("rule", "warn", 2, 1),)
    assert stats.rows_out == 3
    assert await shop.ids() == [1, 2, 3]


@BOTH_WAYS
async def test_dropped_rows_are_left_out_and_null_is_a_violation(shop, mode):
    await shop.load(1, b"id,brand\n1,acme\n2,\n3,zeta\n")
    stats = await shop.refresh(mode, expect("brand < 'm'", "drop"))
    assert stats.expectations == (ExpectationCount("rule", "drop", 1, 2),)
    assert (stats.rows_out, stats.rows_rejected) == (1, None)
    assert await shop.ids() == [1]
    assert await shop.kept_aside() == []


@BOTH_WAYS
async def test_a_quarantined_row_is_kept_with_its_file_its_row_the_rule_and_itself(shop, mode):
    await shop.load(7, b"id,brand\n1,acme\n2,\n3,zeta\n")
    stats = await shop.refresh(mode, expect("brand IS NOT NULL"), select=SELECT_WITH_LINEAGE)
    assert stats.expectations == (ExpectationCount("rule", "quarantine", 2, 1),)
    assert (stats.rows_out, stats.rows_rejected) == (2, 1)
    assert await shop.ids() == [1, 3]
    kept = await shop.rows("SELECT * EXCLUDE (raw) FROM meta.rejected_rows")
    assert kept == [("silver.t", 7, None, None, "EXPECTATION", "brand IS NOT NULL", "rule", 2)]
    [(raw,)] = await shop.rows("SELECT raw FROM meta.rejected_rows")
    assert json.loads(raw) == {"id": 2, "brand": None, "_file_id": 7, "_row": 2}


async def test_a_row_of_a_table_that_knows_no_files_is_kept_without_one(shop):
    await shop.load(7, b"id,brand\n1,acme\n2,\n")
    await shop.refresh(RefreshMode.FULL, expect("brand IS NOT NULL"))
    assert await shop.kept_aside() == [(None, None, "rule", "brand IS NOT NULL", "2")]


@BOTH_WAYS
@pytest.mark.parametrize("also", [(), (expect("id < 9", "drop", "small"),)], ids=["alone", "beside a drop"])
async def test_a_row_that_must_not_be_there_fails_the_attempt_and_what_was_there_stays(shop, mode, also):
    await shop.load(1, b"id,brand\n1,acme\n2,\n")
    aside = expect("brand IS NOT NULL")
    await shop.refresh(mode, aside)
    before = await shop.ids(), await shop.kept_aside()
    await shop.load(2, b"id,brand\n3,\n-4,zeta\n-5,zeta\n")
    outcome = await shop.engine.execute(shop.silver(mode, aside, expect("id > 0", "fail", "positive"), *also))
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    first, hint = outcome.error.splitlines()
    assert first.startswith("expectation 'positive' failed for 2 of 5 rows of silver.t; for example: {")
    assert json.loads(first.partition("example: ")[2])["id"] in {-4, -5}
    assert hint == "  hint: it expects: id > 0"
    assert (await shop.ids(), await shop.kept_aside()) == before


@BOTH_WAYS
async def test_what_must_hold_and_holds_only_counts(shop, mode):
    await shop.load(1, b"id,brand\n1,acme\n2,\n")
    stats = await shop.refresh(mode, expect("id > 0", "fail"))
    assert stats.expectations == (ExpectationCount("rule", "fail", 2, 0),)
    assert await shop.ids() == [1, 2]


@BOTH_WAYS
async def test_a_row_against_several_rules_counts_in_each_is_kept_once_and_by_the_first_that_quarantines(shop, mode):
    await shop.load(1, b"id,brand\n1,acme\n-2,\n-3,x\n")
    rules = (
        expect("id > 0", "drop", "a"),
        expect("brand IS NOT NULL", "warn", "b"),
        expect("length(brand) > 1", "quarantine", "c"),
        expect("id > -3", "quarantine", "d"),
    )
    stats = await shop.refresh(mode, *rules)
    assert [(c.name, c.passed, c.failed) for c in stats.expectations] == [
        ("a", 1, 2),
        ("b", 2, 1),
        ("c", 1, 2),
        ("d", 2, 1),
    ]
    assert await shop.ids() == [1]
    assert sorted((row[2], row[4]) for row in await shop.kept_aside()) == [("c", "-2"), ("c", "-3")]


# --- what belongs together leaves together ----------------------------------------------------------------


async def test_a_recomputed_table_keeps_aside_what_its_select_gives_now(shop):
    await shop.load(1, b"id,brand\n1,\n2,acme\n")
    await shop.refresh(RefreshMode.FULL, expect("brand IS NOT NULL"))
    await shop.load(2, b"id,brand\n1,acme\n3,\n", replaces=(1,))
    await shop.refresh(RefreshMode.FULL, expect("brand IS NOT NULL"))
    assert [row[4] for row in await shop.kept_aside()] == ["3"]
    assert await shop.ids() == [1]


async def test_quarantined_rows_of_a_file_leave_with_it_and_those_of_its_new_version_enter(shop):
    rule = expect("brand IS NOT NULL")
    await shop.load(1, b"id,brand\n1,\n2,acme\n")
    await shop.load(2, b"id,brand\n3,\n")
    await shop.refresh(RefreshMode.APPEND, rule)
    assert [(row[0], row[4]) for row in await shop.kept_aside()] == [(1, "1"), (2, "3")]
    await shop.load(3, b"id,brand\n1,acme\n2,\n", replaces=(1,))
    stats = await shop.refresh(RefreshMode.APPEND, rule)
    assert stats.how == "append 1 file, remove 1"
    assert stats.expectations == (ExpectationCount("rule", "quarantine", 1, 1),)
    assert [(row[0], row[4]) for row in await shop.kept_aside()] == [(3, "2"), (2, "3")]
    assert await shop.ids() == [1]


async def test_an_appended_table_writes_down_what_it_kept_and_what_it_kept_aside(shop):
    rules = (expect("brand IS NOT NULL"), expect("id > 0", "drop", "positive"))
    await shop.load(1, b"id,brand\n1,\n2,acme\n-3,acme\n")
    await shop.refresh(RefreshMode.APPEND, *rules)
    await shop.load(2, b"id,brand\n4,\n-5,\n-6,x\n")
    await shop.refresh(RefreshMode.APPEND, *rules)
    loads = "SELECT file_id, rows_in, rows_loaded, rows_rejected, rows_dropped FROM meta.loads"
    assert sorted(await shop.rows(f"{loads} WHERE table_name = 'silver.t'")) == [(1, 3, 1, 1, 1), (2, 3, 0, 2, 1)]


async def test_where_no_file_is_new_no_row_is_counted(shop):
    await shop.load(1, b"id,brand\n1,\n")
    await shop.refresh(RefreshMode.APPEND, expect("brand IS NOT NULL"))
    stats = await shop.refresh(RefreshMode.APPEND, expect("brand IS NOT NULL"))
    assert stats.expectations == (ExpectationCount("rule", "quarantine", 0, 0),)


@BOTH_WAYS
async def test_a_changed_rule_recomputes_the_table_and_rows_that_pass_now_are_back(shop, mode):
    await shop.load(1, b"id,brand\n1,\n2,acme\n3,x\n")
    await shop.refresh(mode, expect("brand IS NOT NULL"))
    stats = await shop.refresh(mode, expect("brand IS NULL OR length(brand) > 1"))
    assert stats.how == "full"
    assert await shop.ids() == [1, 2]
    assert [row[4] for row in await shop.kept_aside()] == ["3"]
    await shop.refresh(mode)
    assert await shop.ids() == [1, 2, 3]
    assert await shop.kept_aside() == []


# --- rules of every kind ----------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_rule_that_cannot_be_computed_for_a_row_is_violated_by_it_and_others_are_not(shop, mode):
    await shop.load(1, b"id,brand\n1,5\n2,five\n3,6\n")
    stats = await shop.refresh(mode, expect("CAST(brand AS INTEGER) > 0"))
    assert stats.expectations == (ExpectationCount("rule", "quarantine", 2, 1),)
    assert await shop.ids() == [1, 3]


async def test_a_rule_may_end_with_a_comment_hold_quotes_and_name_the_table(shop):
    await shop.load(1, b"id,brand\n1,it's\n2,acme\n")
    stats = await shop.refresh(RefreshMode.FULL, expect("t.brand <> 'it''s' -- no apostrophes", name="it's"))
    assert stats.expectations == (ExpectationCount("it's", "quarantine", 1, 1),)
    assert [row[2] for row in await shop.kept_aside()] == ["it's"]


@BOTH_WAYS
async def test_the_last_of_63_rules_is_as_good_as_the_first(shop, mode):
    await shop.load(1, b"id,brand\n" + b"".join(b"%d,x\n" % n for n in range(63)))
    rules = [expect(f"id <> {n}", name=f"not_{n}") for n in range(63)]
    stats = await shop.refresh(mode, *rules)
    assert {(c.passed, c.failed) for c in stats.expectations} == {(62, 1)}
    assert stats.rows_out == 0
    assert {(row[2], row[4]) for row in await shop.kept_aside()} == {(f"not_{n}", str(n)) for n in range(63)}


async def test_the_order_the_parameters_and_the_ways_to_end_a_select_survive(shop):
    await shop.load(1, b"id,brand\n1,a\n2,b\n3,\n4,d\n")
    select = "SELECT id, brand || $end AS brand FROM bronze.t ORDER BY id DESC; -- newest first"
    await shop.refresh(RefreshMode.FULL, expect("brand IS NOT NULL"), select=select, end="!")
    assert await shop.rows("FROM silver.t") == [(4, "d!"), (2, "b!"), (1, "a!")]


@BOTH_WAYS
@pytest.mark.parametrize("action", ["warn", "drop", "quarantine"])
async def test_nothing_is_left_behind_but_the_table(shop, mode, action):
    await shop.load(1, b"id,brand\n1,a\n2,\n")
    before = await shop.rows("SELECT table_name FROM duckdb_tables() ORDER BY ALL")
    for _ in range(2):
        await shop.refresh(mode, expect("brand IS NOT NULL", action), select=SELECT_WITH_LINEAGE)
    lane = shop.engine._lane._cursor
    assert lane.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall() == []
    assert await shop.rows("SELECT table_name FROM duckdb_tables() ORDER BY ALL") == sorted([*before, ("t",)])
    assert set((await shop.rows("SELECT * FROM silver.t LIMIT 1"))[0]) == {1, "a"}


# --- the law ----------------------------------------------------------------------------------------------

RULES = ["a > 0", "b IS NOT NULL", "a + b > 2", "CAST(s AS INTEGER) >= 0", "length(s) < 3", "a IN (1, 2) OR b = 3"]
ROWS = st.tuples(
    st.none() | st.integers(-2, 3), st.none() | st.integers(0, 3), st.none() | st.sampled_from(["", "1", "-1", "abc"])
)


@pytest.fixture(scope="module")
def db():
    with duckdb.connect(config={"threads": 2}) as db:
        schema = resources.files("landingd.edge.engine").joinpath("schema.sql").read_text(encoding="utf-8")
        for statement in db.extract_statements(schema):
            db.execute(statement).fetchall()
        yield db


@pytest.mark.parametrize("mode", [RefreshMode.FULL, RefreshMode.APPEND])
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(ROWS, st.integers(1, 3)), max_size=12),
    rules=st.lists(st.tuples(st.sampled_from(RULES), st.sampled_from(["warn", "drop", "quarantine"])), max_size=5),
    late=st.sets(st.integers(1, 3)),
)
def test_every_row_of_the_select_is_in_the_table_kept_aside_or_dropped_and_each_rule_counted_it_once(
    db, mode, rows, rules, late
):
    """The oracle asks DuckDB for one rule about one row at a time. `late` files come after the first refresh."""
    chosen = tuple(expect(sql, action, f"{n}") for n, (sql, action) in enumerate(rules))
    plan = TablePlan(
        AttemptKey(1, "silver", 1), "shop", "silver.t", "SELECT a, b, s, _file_id, _row FROM bronze.t", mode, "",
        "bronze.t", "1", {}, chosen,
    )  # fmt: skip
    remembered = Remembered()
    db.execute("BEGIN").fetchall()
    try:
        db.execute("CREATE TABLE bronze.t (a INTEGER, b INTEGER, s VARCHAR, _file_id BIGINT, _row BIGINT)").fetchall()
        counted = [Counter(), Counter()]
        everything = [(*row, file_id, n) for n, (row, file_id) in enumerate(rows)]
        for files in ({1, 2, 3} - late, late):
            for row in [row for row in everything if row[3] in files]:
                db.execute("INSERT INTO bronze.t VALUES (?, ?, ?, ?, ?)", row).fetchall()
            for file_id in files:
                db.execute(
                    "INSERT INTO meta.loads BY NAME SELECT 'bronze.t' AS table_name, $f AS file_id, 'shop' AS job, "
                    "'p' AS path, 'h' AS content_hash, n AS rows_in, n AS rows_loaded, 0 AS rows_rejected, "
                    "1 AS run_id, now()::TIMESTAMP AS loaded_at "
                    "FROM (SELECT count(*) AS n FROM bronze.t WHERE _file_id = $f)",
                    {"f": file_id},
                ).fetchall()
            remembered.entered("bronze.t", files)
            stats = tables.refresh(db, plan, remembered)
            if mode is RefreshMode.FULL:
                counted = [Counter(), Counter()]
            for count in stats.expectations:
                counted[0][count.name] += count.passed
                counted[1][count.name] += count.failed
        stays, aside = Counter(), Counter()
        failed = Counter()
        for row in everything:
            wrong = [rule for rule in chosen if not holds(db, rule.expect, row)]
            failed.update(rule.name for rule in wrong)
            quarantining = [rule.name for rule in wrong if rule.on_violation is OnViolation.QUARANTINE]
            if quarantining:
                aside[(row[3], row[4], quarantining[0])] += 1
            elif all(rule.on_violation is OnViolation.WARN for rule in wrong):
                stays[row] += 1
        assert Counter(db.execute("FROM silver.t").fetchall()) == stays
        kept = db.execute("SELECT file_id, row, rule FROM meta.rejected_rows").fetchall()
        assert Counter(kept) == aside
        assert {r.name: counted[1][r.name] for r in chosen} == {r.name: failed[r.name] for r in chosen}
        assert {r.name: counted[0][r.name] + counted[1][r.name] for r in chosen} == {r.name: len(rows) for r in chosen}
    finally:
        db.execute("ROLLBACK").fetchall()


def holds(db, rule, row):
    a, b, s = row[:3]
    values = {"a": a, "b": b, "s": s}
    try:
        answer = (
            db.cursor()
            .execute(f"SELECT ({rule}) FROM (SELECT $a::INTEGER AS a, $b::INTEGER AS b, $s::VARCHAR AS s)", values)
            .fetchone()
        )
    except duckdb.ConversionException:
        return False
    return answer[0] is True


# --- rows of files ----------------------------------------------------------------------------------------


class Bronze:
    """Files that stand in a bronze table, within the attempt's transaction."""

    def __init__(self, db, folder):
        self.db = db
        self.folder = folder
        self.files = {}
        self.walked = []

    def load(self, file_id, content):
        path = self.folder / f"{file_id}.csv"
        path.write_bytes(content)
        self.files[file_id] = str(path).encode()
        known = self.db.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'bronze'").fetchone()[0]
        source = f"""read_csv('{path}', header=true, auto_detect=false, delim=',', quote='"',
            columns={{'id': 'BIGINT', 'brand': 'VARCHAR'}})"""
        select = f"SELECT *, {file_id}::BIGINT AS _file_id, row_number() OVER () AS _row FROM {source}"
        self.db.execute(f"INSERT INTO bronze.t {select}" if known else f"CREATE TABLE bronze.t AS {select}").fetchall()

    def check(self, *rules, files=None):
        sources = tuple(
            SourceFile(i, path, f"{i}.csv", "", (), ",", "none", Signature(0, 0, 0, 0, 0), None)
            for i, path in self.files.items()
        )
        plan = IngestPlan(AttemptKey(1, "b", 1), "shop", "bronze.t", Ingest(), sources, expectations=rules)
        return check_ingested(self.db, plan, files or list(self.files), self.lines_of)

    def lines_of(self, file_id, rows):
        self.walked.append(file_id)
        return lines_of(self.files[file_id], "none", ",", rows, ())

    def kept_aside(self):
        return self.db.execute(
            "SELECT file_id, line, row, rule, error, raw FROM meta.rejected_rows ORDER BY 1, 2"
        ).fetchall()


@pytest.fixture
def bronze(db, tmp_path):
    db.execute("BEGIN").fetchall()
    yield Bronze(db, tmp_path)
    db.execute("ROLLBACK").fetchall()


def test_a_quarantined_row_of_a_file_is_kept_with_its_line_and_the_others_stay(bronze):
    bronze.load(5, b'id,brand\n1,"two\nlines"\n2,\n\n3,zeta\n4,\n')
    counts, removed = bronze.check(expect("brand IS NOT NULL"))
    assert counts == (ExpectationCount("rule", "quarantine", 2, 2),)
    assert removed == {5: Removed(rows_dropped=0, rows_quarantined=2)}
    kept = bronze.kept_aside()
    assert [row[:5] for row in kept] == [(5, 4, 2, "rule", "brand IS NOT NULL"), (5, 7, 4, "rule", "brand IS NOT NULL")]
    assert json.loads(kept[0][5]) == {"id": 2, "brand": None, "_file_id": 5, "_row": 2}
    assert bronze.db.execute("SELECT id FROM bronze.t ORDER BY 1").fetchall() == [(1,), (3,)]


def test_each_file_is_told_what_it_lost_and_no_file_is_walked_for_what_was_dropped(bronze):
    bronze.load(1, b"id,brand\n1,\n-2,x\n-3,\n")
    bronze.load(2, b"id,brand\n-4,x\n")
    bronze.load(3, b"id,brand\n5,x\n")
    counts, removed = bronze.check(expect("id > 0", "drop", "positive"), expect("brand IS NOT NULL"))
    assert [(c.name, c.passed, c.failed) for c in counts] == [("positive", 2, 3), ("rule", 3, 2)]
    assert removed == {1: Removed(1, 2), 2: Removed(1, 0)}
    assert bronze.walked == [1]
    assert bronze.db.execute("FROM bronze.t").fetchall() == [(5, "x", 3, 1)]


def test_a_file_that_has_no_lines_keeps_its_rows_aside_without_them(bronze):
    bronze.load(1, b"id,brand\n1,\n2,x\n")
    bronze.lines_of = lambda _file_id, _rows: {}
    bronze.check(expect("brand IS NOT NULL"))
    assert [row[:4] for row in bronze.kept_aside()] == [(1, None, 1, "rule")]


def test_only_the_files_of_the_attempt_are_judged(bronze):
    bronze.load(1, b"id,brand\n1,\n")
    bronze.load(2, b"id,brand\n2,\n")
    counts, removed = bronze.check(expect("brand IS NOT NULL", "drop"), files=[2])
    assert counts == (ExpectationCount("rule", "drop", 0, 1),)
    assert removed == {2: Removed(rows_dropped=1)}
    assert bronze.db.execute("SELECT id FROM bronze.t").fetchall() == [(1,)]


@pytest.mark.parametrize("action", ["warn", "fail"])
def test_rules_that_take_nothing_out_leave_the_files_rows_alone(bronze, action):
    bronze.load(1, b"id,brand\n1,\n2,x\n")
    counts, removed = bronze.check(expect("id > 0", action))
    assert (counts, removed) == ((ExpectationCount("rule", action, 2, 0),), {})
    assert bronze.db.execute("SELECT count(*) FROM bronze.t").fetchone() == (2,)


def test_a_file_that_breaks_what_must_hold_is_named(bronze):
    bronze.load(1, b"id,brand\n1,x\n")
    bronze.load(2, b"id,brand\n2,x\n-3,y\n")
    with pytest.raises(EngineError) as refused:
        bronze.check(expect("brand = 'x'"), expect("id > 0", "fail", "positive"))
    assert refused.value.permanent
    assert refused.value.what == (
        "expectation 'positive' failed for 1 of 3 rows of bronze.t; for example in 2.csv: "
        '{"id":-3,"brand":"y","_file_id":2,"_row":2}'
    )


def test_an_ingest_without_expectations_judges_nothing(bronze):
    assert bronze.check() == ((), {})


# --- an upstream table whose columns change ---------------------------------------------------------------


@pytest.mark.parametrize("wider", ["DOUBLE", "VARCHAR"])
async def test_a_column_that_widens_upstream_widens_in_what_is_appended_and_nothing_is_rounded(shop, wider):
    await shop.load(1, b"id,brand\n1,acme\n2,zeta\n")
    await shop.refresh(RefreshMode.APPEND)
    await shop.refresh(RefreshMode.APPEND, select="SELECT id FROM silver.t", upstream="silver.t", table="gold.t")
    await shop.script(f"ALTER TABLE bronze.t ALTER COLUMN id TYPE {wider}")
    await shop.load(2, b"id,brand\n2.5,acme\n")
    assert (await shop.refresh(RefreshMode.APPEND)).how == "full"
    gold = shop.silver(RefreshMode.APPEND, select="SELECT id FROM silver.t", upstream="silver.t", table="gold.t")
    assert (await shop.execute(gold)).how == "full"
    for table in ("silver.t", "gold.t"):
        assert await shop.rows(f"SELECT DISTINCT typeof(id) FROM {table}") == [(wider,)]
        assert [float(i) for i in await shop.ids(table)] == [1, 2, 2.5]
    await shop.load(3, b"id,brand\n3.5,acme\n")
    assert (await shop.refresh(RefreshMode.APPEND)).how == "append 1 file"


async def test_a_widened_column_is_noticed_though_the_attempt_that_saw_it_first_was_rolled_back(shop):
    await shop.load(1, b"id,brand\n1,acme\n")
    await shop.refresh(RefreshMode.APPEND)
    await shop.script("ALTER TABLE bronze.t ALTER COLUMN id TYPE DOUBLE")
    await shop.load(2, b"id,brand\n2.5,acme\n")
    broken = ScriptPlan(shop.key("script"), "shop", "SELECT error('broken')", {})
    outcomes = await shop.engine.execute_together([shop.silver(RefreshMode.APPEND), broken])
    assert not any(isinstance(outcome, Committed) for outcome in outcomes)
    assert (await shop.refresh(RefreshMode.APPEND)).how == "full"
    assert await shop.ids() == [1, 2.5]


@pytest.mark.parametrize(
    "select",
    [
        "SELECT *, NULL AS nothing FROM bronze.t",
        "SELECT id, {'a': [1.50], 'b c': brand} AS s, MAP {'k': id} AS m FROM bronze.t",
        "SELECT id, [] AS empty, CAST(brand AS BLOB) AS b, CAST('2020-01-01' AS TIMESTAMPTZ) AS z FROM bronze.t",
    ],
)
async def test_a_table_whose_columns_stay_is_appended_to_whatever_their_types(shop, select):
    for file_id in range(1, 4):
        await shop.load(file_id, b"id,brand\n1,acme\n")
        stats = await shop.refresh(RefreshMode.APPEND, select=select)
        assert stats.how == ("full" if file_id == 1 else "append 1 file")


async def test_a_column_that_a_select_by_name_does_not_take_recomputes_nothing(shop):
    await shop.load(1, b"id,brand\n1,acme\n")
    await shop.refresh(RefreshMode.APPEND)
    await shop.load(2, b"id,brand,price\n1,acme,5\n")
    assert (await shop.refresh(RefreshMode.APPEND)).how == "append 1 file"


def test_warnings_are_no_part_of_what_a_table_is_and_every_other_expectation_is():
    chosen = refresh.Refresh(RefreshMode.FULL, "")

    def of(*rules):
        return refresh.definition(SELECT, chosen, {}, rules)

    rule = expect("id > 0")
    others = [
        replace(rule, name="x"),
        replace(rule, expect="id > 1"),
        expect("id > 0", "drop"),
        expect("id > 0", "fail"),
    ]
    assert len({of(), of(rule), *map(of, others)}) == 6
    assert of(expect("id > 0", "warn")) == of()
    assert of(rule, others[0]) != of(others[0], rule)
