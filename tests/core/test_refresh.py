"""The SELECTs here are parsed, and where it helps computed, by DuckDB itself: its tree is what is decided on."""

import contextlib
from collections import Counter

import duckdb
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from landingd.core import refresh
from landingd.edge.engine import selects
from landingd.edge.engine.binding import Binding
from landingd.model import RefreshMode

COLUMNS = {
    "a": "INTEGER",
    "b": "VARCHAR",
    "s": "STRUCT(x INTEGER, y INTEGER)",
    "ts": "TIMESTAMP",
    "_file_id": "BIGINT",
    "_row": "BIGINT",
}


@pytest.fixture(scope="module")
def db():
    """Three files' rows, some of them twice, some NULL."""
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("CREATE SCHEMA bronze")
        db.execute("CREATE SCHEMA silver")
        db.execute(f"CREATE TABLE bronze.t ({', '.join(f'{name} {type_}' for name, type_ in COLUMNS.items())})")
        db.execute(
            "INSERT INTO bronze.t SELECT n % 4, CASE n % 5 WHEN 0 THEN NULL ELSE chr(97 + n % 3) END, "
            "{'x': n, 'y': n % 2}, TIMESTAMP '2019-10-01' + to_days(n), 1 + n // 5, 1 + n % 5 "
            "FROM (SELECT n::INTEGER AS n FROM range(15) r(n))"
        )
        yield db


@pytest.fixture(scope="module")
def functions():
    with Binding({}) as binding:
        return binding.functions


@pytest.fixture(scope="module")
def choose(db, functions):
    def choose(select, *, declared="auto", tracked=("bronze.t",)):
        statement = selects.parse(db, select)[0]
        return refresh.choose(statement, declared=declared, tracked=tracked, functions=functions)

    return choose


# --- the law ----------------------------------------------------------------------------------------------

EXPRESSIONS = [
    "a", "b", "s.x", "ts", "_row", "_file_id", "t.a", "a + 1", "-a", "upper(b)", "b || 'x'", "a::VARCHAR", "s",
    "TRY_CAST(b AS INTEGER)", "coalesce(b, '-')", "CASE WHEN a > 1 THEN b END", "a BETWEEN 1 AND 2", "a IN (1, 2)",
    "b LIKE 'a%'", "b IS NULL", "date_trunc('month', ts)", "year(ts)", "unnest([a, a + 1])", "{'k': a}", "[a, _row]",
    "list_transform([a], lambda v: v + 1)", "hash(a)", "md5(b)", "regexp_extract(b, '.')", "a::DECIMAL(9,2)",
    "count(*)", "sum(a)", "max(b)", "any_value(a)", "count(*) FILTER (a > 1)", "list(a)", "row_number() OVER ()",
    "lag(a) OVER (ORDER BY _row)", "sum(a) OVER (PARTITION BY b)", "(SELECT max(a) FROM bronze.t)", "random()",
    "a IN (SELECT a FROM bronze.t WHERE _file_id = 1)", "EXISTS (FROM bronze.t)", "uuid()", "rowid",
    "*", "t.*", "* EXCLUDE (s)", "* EXCLUDE (_file_id)", "* REPLACE (a + 1 AS a)", "COLUMNS('a|b')", "s.*",
    "* REPLACE (a AS _file_id)", "* RENAME (_file_id AS f)", "a AS _file_id",
]  # fmt: skip
CLAUSES = [
    "WHERE a > 1", "WHERE b IS NOT NULL OR a = 0", "WHERE a IN (SELECT min(a) FROM bronze.t)", "GROUP BY ALL",
    "ORDER BY 1", "LIMIT 3", "QUALIFY row_number() OVER (PARTITION BY a ORDER BY _row) = 1", "USING SAMPLE 3 ROWS",
    "UNION ALL FROM bronze.t", "HAVING true", "WHERE t._file_id <> 2",
]  # fmt: skip
SOURCES = ["bronze.t", "bronze.t AS t", "bronze.t t JOIN bronze.t u USING (a)", "(FROM bronze.t) t"]

SELECTS = st.builds(
    "SELECT {}{} FROM {} {}".format,
    st.sampled_from(["", "", "", "DISTINCT "]),
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3).map(", ".join),
    st.sampled_from([*SOURCES[:2], *SOURCES]),
    st.one_of(st.just(""), st.sampled_from(CLAUSES)),
)


@given(SELECTS)
@settings(max_examples=120)
def test_a_select_that_is_appended_gives_file_by_file_what_it_gives_over_all(db, choose, select):
    chosen = choose(select)
    event(chosen.mode.value)
    if chosen.mode is RefreshMode.FULL or not bindable(db, select):
        return
    together = selects.filtered_by_file(db, select, file_ids=None)
    parts = [selects.filtered_by_file(db, select, file_ids=[n]) for n in (1, 2, 3)]
    tagged = [f"SELECT {n} AS n, p._file_id AS id, p AS row FROM ({part}) p" for n, part in enumerate(parts, start=1)]
    one_by_one = db.execute(" UNION ALL ".join(tagged)).fetchall()
    assert all(n == file_id for n, file_id, _ in one_by_one)
    assert Counter(repr(row) for _, _, row in one_by_one) == rows(db, f"SELECT p FROM ({together}) p", of=0)
    # Nothing but the lineage was added, and only where it was not asked for.
    names, all_names = columns(db, select), columns(db, together)
    assert all_names == (names if "_file_id" in names else [*names, "_file_id"])
    asked_for = "*" if "_file_id" in names else "* EXCLUDE (_file_id)"
    assert rows(db, f"SELECT {asked_for} FROM ({together})") == rows(db, select)


def rows(db, select, *, of=None):
    return Counter(repr(row if of is None else row[of]) for row in db.execute(select).fetchall())


def bindable(db, select):
    with contextlib.suppress(duckdb.Error):
        names = columns(db, select)
        return len(set(names)) == len(names)
    return False


def columns(db, select):
    return [row[0] for row in db.execute(f"DESCRIBE {select}").fetchall()]


# --- cases ------------------------------------------------------------------------------------------------

ROW_BY_ROW = [
    "SELECT * FROM bronze.t",
    "FROM bronze.t",
    "SELECT a, upper(b) AS b FROM bronze.t WHERE a > 1",
    "SELECT u.* EXCLUDE (a) FROM Bronze.T u",
    "SELECT * EXCLUDE (_file_id, _row) FROM bronze.t",
    "SELECT _file_id, a FROM bronze.t",
    "SELECT t._file_id AS _file_id FROM bronze.t t",
    "SELECT a, _file_id AS source FROM bronze.t",
    "SELECT unnest(s) FROM bronze.t",
    "SELECT age(ts, TIMESTAMP '2020-01-01') AS age FROM bronze.t",
]


@pytest.mark.parametrize("select", ROW_BY_ROW)
def test_what_maps_rows_one_by_one_is_appended(choose, select):
    assert choose(select) == refresh.Refresh(RefreshMode.APPEND, "maps the rows of bronze.t one by one", "bronze.t")


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        ("SELECT brand, sum(price) FROM bronze.t GROUP BY brand", "GROUP BY"),
        ("SELECT a FROM bronze.t GROUP BY ALL", "GROUP BY"),
        ("SELECT a, count(*) FROM bronze.t GROUP BY CUBE (a)", "GROUP BY"),
        ("SELECT a FROM bronze.t HAVING a > 1", "HAVING"),
        ("SELECT a FROM bronze.t QUALIFY true", "QUALIFY"),
        ("SELECT DISTINCT a FROM bronze.t", "DISTINCT"),
        ("SELECT DISTINCT ON (a) a, b FROM bronze.t", "DISTINCT"),
        ("SELECT a FROM bronze.t LIMIT 1", "LIMIT"),
        ("SELECT a FROM bronze.t LIMIT 10%", "LIMIT"),
        ("SELECT a FROM bronze.t ORDER BY a", "ORDER BY"),
        ("SELECT a FROM bronze.t USING SAMPLE 1", "sample"),
        ("SELECT a FROM bronze.t TABLESAMPLE 10%", "sample"),
        ("SELECT count(*) FROM bronze.t", "count_star()"),
        ("SELECT max(a) FROM bronze.t", "max()"),
        ("SELECT sum(a) OVER () FROM bronze.t", "window"),
        ("SELECT (SELECT 1) FROM bronze.t", "subquery"),
        ("SELECT a FROM bronze.t WHERE EXISTS (SELECT 1)", "subquery"),
        ("SELECT a FROM bronze.t WHERE a IN (SELECT 1)", "subquery"),
        ("SELECT a FROM (FROM bronze.t)", "subquery"),
        ("SELECT t.a FROM bronze.t t JOIN bronze.t u USING (a)", "join"),
        ("SELECT t.a FROM bronze.t t, bronze.t u", "join"),
        ("SELECT a FROM bronze.t UNION ALL SELECT a FROM bronze.t", "several SELECTs"),
        ("WITH x AS (SELECT 1) SELECT a FROM bronze.t", "WITH"),
        ("SELECT 1 AS one", "no table"),
        ("VALUES (1)", "expression list"),
        ("SELECT range FROM range(3)", "table function"),
        ("SELECT a FROM silver.other", "silver.other does not know which file"),
        ("SELECT x FROM bronze.t t(x)", "renames"),
        ("SELECT a FROM bronze.t WHERE a > $least", "$least"),
        ("SELECT random() FROM bronze.t", "random()"),
        ("SELECT list_transform([a], lambda v: v + random()) FROM bronze.t", "random()"),
        ("SELECT uuid() FROM bronze.t", "uuid()"),
        ("SELECT now() FROM bronze.t", "now()"),
        ("SELECT current_date FROM bronze.t", "current_date"),
        ("SELECT current_timestamp FROM bronze.t", "current_timestamp"),
        ("SELECT age(ts) FROM bronze.t", "age()"),
        ("SELECT nextval('s') FROM bronze.t", "nextval()"),
        ("SELECT getvariable('v') FROM bronze.t", "getvariable()"),
        ("SELECT a FROM bronze.t WHERE rowid > 1", "rowid"),
        ("SELECT my_macro(a) FROM bronze.t", "my_macro()"),
        ("SELECT a AS _file_id FROM bronze.t", "_file_id of its own"),
        ("SELECT lower(b) AS _FILE_ID FROM bronze.t", "_file_id of its own"),
        ("SELECT s._file_id FROM bronze.t", "_file_id of its own"),
        ("SELECT _file_id + 1 AS _file_id FROM bronze.t", "_file_id of its own"),
        ("SELECT * REPLACE (a AS _file_id) FROM bronze.t", "more than *"),
        ("SELECT * RENAME (_file_id AS f) FROM bronze.t", "more than *"),
        ("SELECT * EXCLUDE (t._file_id) FROM bronze.t", "more than *"),
        ("SELECT COLUMNS('a|b') FROM bronze.t", "more than *"),
        ("SELECT COLUMNS(*)::VARCHAR FROM bronze.t", "more than *"),
        ("SELECT * LIKE 'a%' FROM bronze.t", "more than *"),
        ("SELECT s.* FROM bronze.t", "more than *"),
    ],
)
def test_everything_else_is_recomputed_and_says_why(choose, select, reason):
    chosen = choose(select)
    assert (chosen.mode, chosen.upstream) == (RefreshMode.FULL, None)
    assert reason in chosen.reason


def test_a_table_that_is_declared_full_is_recomputed_though_it_could_be_appended(choose):
    assert choose(ROW_BY_ROW[0], declared="full") == refresh.Refresh(RefreshMode.FULL, "declared")


def test_a_table_that_is_declared_append_is_appended_only_where_that_is_right(choose):
    assert choose(ROW_BY_ROW[0], declared="append").mode is RefreshMode.APPEND
    assert choose("SELECT DISTINCT a FROM bronze.t", declared="append").mode is RefreshMode.FULL


def test_tables_are_found_wherever_a_select_reads_them(db):
    select = """
        WITH x AS (SELECT a FROM Bronze.T)
        SELECT (SELECT max(a) FROM silver.u) FROM x JOIN bronze.v USING (a) WHERE a IN (FROM gold.w SELECT a)
        UNION ALL SELECT a FROM "silver"."Z"
    """
    found = refresh.tables_read(selects.parse(db, select)[0])
    assert found == {"bronze.t", "silver.u", "bronze.v", "gold.w", "silver.z"}


def test_a_definition_changes_with_the_select_the_way_and_everything_above_it():
    append = refresh.Refresh(RefreshMode.APPEND, "", "bronze.t")
    full = refresh.Refresh(RefreshMode.FULL, "")
    definitions = [
        refresh.definition("SELECT 1", append, {}),
        refresh.definition("SELECT 2", append, {}),
        refresh.definition("SELECT 1", full, {}),
        refresh.definition("SELECT 1", append, {"silver.a": "x"}),
        refresh.definition("SELECT 1", append, {"silver.a": "y"}),
        refresh.definition("SELECT 1", append, {"silver.b": "x"}),
    ]
    assert len(set(definitions)) == len(definitions)
    one, other = {"silver.a": "1", "silver.b": "2"}, {"silver.b": "2", "silver.a": "1"}
    assert refresh.definition("x", full, one) == refresh.definition("x", full, other)
