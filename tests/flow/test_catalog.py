"""Job files and SQL on disk, checked the way `landingd validate` and a reload check them."""

import os
import subprocess
import sys
import textwrap

import pytest

from landingd.errors import JobFileError, NotFoundError
from landingd.flow.catalog import load_catalog
from landingd.model import RefreshMode

EVENTS = {"bronze.events": {"id": "BIGINT", "brand": "VARCHAR", "_file_id": "BIGINT", "_row": "BIGINT"}}


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path, monkeypatch):
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pipelines(tmp_path):
    return tmp_path / "pipelines"


def write(pipelines, tasks, *, name="shop", head="", **sql):
    """A job of these tasks: its file, and an SQL file for each keyword. The first task is on line 4."""
    folder = pipelines / name
    folder.mkdir(exist_ok=True)
    lines = [f"name: {name}", "trigger: {file_arrival: {path: in}}", *([head] if head else []), "tasks:", tasks]
    (folder / "job.yml").write_text("\n".join(lines) + "\n")
    for stem, content in sql.items():
        (folder / f"{stem}.sql").write_text(textwrap.dedent(content).strip() + "\n")


def task(key, *, after="", sql="", table="", **more):
    lines = [f"  - task_key: {key}"]
    if after:
        lines.append(f"    depends_on: [{{task_key: {after}}}]")
    if sql:
        lines.append(f"    sql: {sql}.sql")
    if table:
        lines.append(f"    table: {table}")
    lines += [f"    {name}: {value}" for name, value in more.items()]
    return "\n".join(lines)


def bronze(hinted=True):
    ingest = "{format: csv, schema: {id: BIGINT, brand: VARCHAR}}" if hinted else "{format: csv}"
    return task("bronze", table="bronze.events", ingest=ingest)


def problems(pipelines, existing=None):
    with pytest.raises(JobFileError) as refused:
        load_catalog(pipelines, existing or {})
    return [(f"{p.file}:{p.line}", p.what, p.hint) for p in refused.value.problems]


def only_problem(pipelines, existing=None):
    found = problems(pipelines, existing)
    assert len(found) == 1, found
    return found[0]


def joined(*tasks):
    return "\n".join(tasks)


# --- what is fine -----------------------------------------------------------------------------------------


def test_tables_bind_against_what_the_jobs_would_make_before_anything_exists(pipelines):
    write(
        pipelines,
        joined(
            bronze(),
            task("silver", after="bronze", sql="silver", table="silver.events"),
            task("gold", after="silver", sql="gold", table="gold.brands"),
        ),
        silver="SELECT id, upper(brand) AS brand FROM bronze.events",
        gold="SELECT brand, count(*) AS n FROM silver.events GROUP BY brand",
    )
    catalog = load_catalog(pipelines, {})
    assert {table: chosen.mode for table, chosen in catalog.refreshes.items()} == {
        "silver.events": RefreshMode.APPEND,
        "gold.brands": RefreshMode.FULL,
    }
    assert catalog.refreshes["silver.events"].upstream == "bronze.events"
    assert catalog.unbound == ()


def test_a_table_may_be_read_by_another_job_and_jobs_come_in_any_order(pipelines):
    write(pipelines, task("a", sql="q", table="gold.a"), name="aaa", q="SELECT n FROM gold.z")
    write(pipelines, task("z", sql="q", table="gold.z"), name="zzz", q="SELECT 1 AS n")
    assert set(load_catalog(pipelines, {}).refreshes) == {"gold.a", "gold.z"}


def test_parameters_of_the_job_the_task_and_landingd_can_be_bound(pipelines):
    write(
        pipelines,
        task("gold", sql="gold", table="gold.t", parameters="{limit: '3'}"),
        head="parameters: [{name: month, default: Oct}]",
        gold="SELECT $month AS month, $limit AS lim, $run_id AS run, $job_name AS job, $task_key AS task",
    )
    assert load_catalog(pipelines, {}).jobs[0].name == "shop"


def test_a_definition_changes_with_everything_above_it(pipelines):
    def definitions(expression):
        write(
            pipelines,
            joined(
                bronze(),
                task("silver", after="bronze", sql="silver", table="silver.t"),
                task("gold", after="silver", sql="gold", table="gold.t"),
            ),
            silver=f"SELECT {expression} AS x FROM bronze.events",
            gold="SELECT x FROM silver.t",
        )
        return load_catalog(pipelines, {}).definitions

    one, other = definitions("id"), definitions("id + 1")
    assert one == definitions("id")
    assert one["silver.t"] != other["silver.t"]
    assert one["gold.t"] != other["gold.t"]


def test_sql_over_a_table_of_which_nothing_is_known_is_told_and_no_error(pipelines):
    write(
        pipelines,
        joined(
            bronze(hinted=False),
            task("silver", after="bronze", sql="silver", table="silver.t"),
            task("gold", after="silver", sql="gold", table="gold.t"),
            task("script", after="gold", sql="script"),
        ),
        silver="SELECT anything FROM bronze.events",
        gold="SELECT anything FROM silver.t",
        script="DELETE FROM gold.t WHERE anything = 1",
    )
    catalog = load_catalog(pipelines, {})
    assert [(p.line, p.what.partition(":")[0]) for p in catalog.unbound] == [
        (7, "task 'silver'"),
        (11, "task 'gold'"),
        (15, "task 'script'"),
    ]
    assert "bronze.events" in catalog.unbound[0].what
    assert "schema" in catalog.unbound[0].hint


def test_once_the_table_exists_the_same_sql_is_held_to_it(pipelines):
    write(
        pipelines,
        joined(bronze(hinted=False), task("silver", after="bronze", sql="silver", table="silver.t")),
        silver="SELECT anything FROM bronze.events",
    )
    assert "anything" in only_problem(pipelines, EVENTS)[1]


# --- what is not ------------------------------------------------------------------------------------------


def test_sql_that_does_not_bind_is_told_with_the_line_of_the_sql_file_and_a_hint(pipelines):
    write(
        pipelines,
        joined(bronze(), task("silver", after="bronze", sql="silver", table="silver.t")),
        silver="""
            -- a comment
            SELECT
                brnad
            FROM bronze.events
        """,
    )
    where, what, hint = only_problem(pipelines)
    assert where == "pipelines/shop/silver.sql:3"
    assert "brnad" in what
    assert "brand" in hint


def test_sql_that_is_no_sql_is_told_with_its_line(pipelines):
    write(pipelines, task("gold", sql="gold", table="gold.t"), gold="SELECT 1 AS a,\n       FROM WHERE")
    where, what, hint = only_problem(pipelines)
    assert where.startswith("pipelines/shop/")
    assert "syntax error" in what
    assert "line 2" in (hint or "") or where.endswith(":2")


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELECT 1 AS a; SELECT 2 AS b", "one SELECT, found 2"),
        ("CREATE TABLE gold.t AS SELECT 1", "SELECT"),
        ("SELECT 1 AS a, 2 AS A", "column twice"),
        ("SELECT $nobody AS a", "$nobody"),
        ("SELECT a FROM gold.t", "makes itself"),
        ("SELECT x FROM gold.nowhere", "nowhere"),
    ],
)
def test_a_table_is_made_by_one_select_that_can_be_computed(pipelines, sql, what):
    write(pipelines, task("gold", sql="gold", table="gold.t"), gold=sql)
    assert any(what in told for _, told, _ in problems(pipelines))


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("DELETE FROM bronze.events", "sql_condition: must be a SELECT, and nothing else"),
        ("SELECT 1; SELECT 2", "sql_condition: must be one SELECT, found 2 statements"),
    ],
)
def test_a_condition_is_one_select_and_its_problem_says_so(pipelines, sql, what):
    gate = f'triggers: [{{periodic: {{interval: 1, unit: HOURS}}, sql_condition: {{sql: "{sql}"}}}}]'
    (pipelines / "gated").mkdir()
    (pipelines / "gated" / "job.yml").write_text(f"{gate}\ntasks: [{{task_key: a, sql: a.sql}}]\n")
    (pipelines / "gated" / "a.sql").write_text("SELECT 1")
    assert problems(pipelines) == [("pipelines/gated/job.yml:1", what, None)]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("COMMIT", "TRANSACTION"),
        ("DELETE FROM meta.commits", "meta"),
        ("INSERT INTO gold.nowhere VALUES (1)", "nowhere"),
        ("SELECT $nobody", "nobody"),
        ("SELEKT 1", "syntax"),
    ],
)
def test_a_script_is_bound_too(pipelines, sql, what):
    write(pipelines, task("script", sql="script"), script=sql)
    assert what in only_problem(pipelines)[1]


def test_what_one_statement_of_a_script_makes_the_next_may_use(pipelines):
    write(pipelines, task("script", sql="script"), script="CREATE TABLE gold.x (a INT); INSERT INTO gold.x VALUES (1)")
    assert load_catalog(pipelines, {}).unbound == ()


def test_a_table_is_not_read_before_the_task_that_makes_it(pipelines):
    write(
        pipelines,
        joined(bronze(), task("silver", sql="silver", table="silver.t")),
        silver="SELECT id FROM bronze.events",
    )
    where, what, hint = only_problem(pipelines)
    assert where == "pipelines/shop/job.yml:7"
    assert "does not run after the task 'bronze'" in what
    assert "task_key: bronze" in hint


def test_a_table_may_be_made_by_a_task_further_up(pipelines):
    write(
        pipelines,
        joined(
            bronze(),
            task("between", after="bronze", sql="one"),
            task("silver", after="between", sql="s", table="silver.t"),
        ),
        one="SELECT 1",
        s="SELECT id FROM bronze.events",
    )
    assert "silver.t" in load_catalog(pipelines, {}).refreshes


def test_tables_are_not_made_from_each_other(pipelines):
    write(
        pipelines,
        joined(task("a", sql="a", table="gold.a"), task("b", after="a", sql="b", table="gold.b")),
        a="SELECT 1 AS x FROM gold.b",
        b="SELECT 1 AS x FROM gold.a",
    )
    found = problems(pipelines)
    assert any("circle" in what and "gold.a" in what and "gold.b" in what for _, what, _ in found), found


def test_a_column_that_a_recomputed_table_does_not_have_is_not_promised(pipelines):
    write(
        pipelines,
        joined(
            bronze(),
            task("silver", after="bronze", sql="silver", table="silver.t"),
            task("gold", after="silver", sql="gold", table="gold.t"),
        ),
        silver="SELECT DISTINCT id FROM bronze.events",
        gold="SELECT _file_id FROM silver.t",
    )
    assert "_file_id" in only_problem(pipelines)[1]


def test_an_appended_table_carries_the_lineage_that_its_select_left_out(pipelines):
    write(
        pipelines,
        joined(
            bronze(),
            task("silver", after="bronze", sql="silver", table="silver.t"),
            task("gold", after="silver", sql="gold", table="gold.t"),
        ),
        silver="SELECT id FROM bronze.events",
        gold="SELECT _file_id FROM silver.t",
    )
    assert load_catalog(pipelines, {}).refreshes["gold.t"].upstream == "silver.t"


def test_append_is_refused_where_it_would_be_wrong(pipelines):
    write(
        pipelines,
        joined(bronze(), task("silver", after="bronze", sql="silver", table="silver.t", refresh="append")),
        silver="SELECT DISTINCT id FROM bronze.events",
    )
    where, what, _ = only_problem(pipelines)
    assert where == "pipelines/shop/job.yml:7"
    assert "DISTINCT" in what


def test_every_problem_of_every_file_is_told_at_once(pipelines):
    write(
        pipelines,
        joined(task("a", after="nobody", sql="q", table="gold.t"), task("b", sql="q", table="gold.T")),
        name="one",
        q="SELECT 1 AS x",
    )
    write(pipelines, task("c", sql="missing", table="gold.c"), name="two", head="unheard_of: 1")
    write(
        pipelines,
        joined(task("d", after="e", sql="q", table="gold.d"), task("e", after="d", sql="q", table="gold.e")),
        name="three",
        q="SELECT 1 AS x",
    )
    told = [(where, what) for where, what, _ in problems(pipelines)]
    for file, word in [
        ("one", "nobody"),
        ("one", "gold.T"),
        ("two", "unheard_of"),
        ("two", "missing.sql"),
        ("three", "circle"),
    ]:
        assert any(f"pipelines/{file}/" in where and word in what for where, what in told), (file, word, told)
    assert all(int(where.rpartition(":")[2]) > 0 for where, _ in told)


def test_all_sql_that_does_not_bind_is_told_at_once(pipelines):
    write(
        pipelines,
        joined(*(task(f"t{n}", sql=f"q{n}", table=f"gold.t{n}") for n in range(3))),
        **{f"q{n}": f"SELECT nothing_{n}" for n in range(3)},
    )
    assert [where for where, _, _ in problems(pipelines)] == [f"pipelines/shop/q{n}.sql:1" for n in range(3)]


# --- what is expected of rows -----------------------------------------------------------------------------


def expecting(*expressions, action="quarantine"):
    """In one line, which is then the place of each."""
    items = [f"{{name: rule_{n}, expect: {e!r}, on_violation: {action}}}" for n, e in enumerate(expressions)]
    return f"[{', '.join(items)}]"


def silver(*expressions, select="SELECT id, brand FROM bronze.events", action="quarantine"):
    """A bronze table and a silver one of whose rows this is expected."""
    rules = expecting(*expressions, action=action)
    tasks = joined(bronze(), task("silver", after="bronze", sql="silver", table="silver.t", expectations=rules))
    return {"tasks": tasks, "silver": select}


@pytest.mark.parametrize(
    "expression",
    [
        "id IS NOT NULL",
        "id > 0 -- a comment",
        "t.brand IN ('a', 'b') AND length(brand) > 1",
        "nullif(brand, '') IS NOT NULL",
        "list_sum(list_filter([id, 2], lambda x: x > 1)) > 0",
        "regexp_matches(brand, '^[a-z;]+$')",
        "CASE WHEN id > 1 THEN brand IS NOT NULL ELSE true END",
        "_file_id > 0",
        "(id = 1) OR (id = 2)",
    ],
)
def test_what_is_true_or_false_of_each_row_may_be_expected(pipelines, expression):
    write(pipelines, **silver(expression))
    assert load_catalog(pipelines, {}).unbound == ()


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("brnad IS NOT NULL", "brnad"),
        ("brand", "is VARCHAR, not true or false"),
        ("NULL", "not true or false"),
        ("count(*) > 1", "aggregate"),
        ("sum(id) > 1", "aggregate"),
        ("row_number() OVER () > 1", "has a window function"),
        ("id IN (SELECT 1)", "has a subquery"),
        ("EXISTS (FROM silver.t)", "has a subquery"),
        ("id > 0, brand > 'a'", "not true or false"),
        ("id > 0) , (brand > 'a'", "is not one expression"),
        ("id > 0) FROM bronze.events WHERE (true", "is not one expression"),
        ("id > 0) UNION SELECT (true", "is not one expression"),
        ("id > 0); DROP TABLE silver.t; SELECT (true", "SELECT"),
        ("id >", "syntax error"),
        ("* IS NOT NULL", "names columns by *"),
        ("COLUMNS(*) > 1", "names columns by *"),
        ("#1 > 0", "names a column by its number"),
        ("id > $run_id", "depends on the parameter $run_id"),
        ("now() > TIMESTAMP '2020-01-01'", "now() gives another answer each time"),
        ("current_date > DATE '2020-01-01'", "current_date gives another answer each time"),
        ("random() > 0.5", "random() gives another answer each time"),
        ("nextval('s') > 0", "nextval() gives another answer each time"),
        ("unnest([true])", "UNNEST"),
        ("rowid > 0", "rowid"),
        ("nonsense(id)", "nonsense"),
    ],
)
def test_an_expectation_that_cannot_be_held_against_a_row_is_told_with_its_place(pipelines, expression, told):
    write(pipelines, **silver(expression))
    where, what, _ = only_problem(pipelines)
    assert where == "pipelines/shop/job.yml:11"
    assert what.startswith("expectation 'rule_0': ")
    assert told in what


def test_a_column_that_was_misspelt_in_an_expectation_comes_with_a_hint(pipelines):
    write(pipelines, **silver("brnad IS NOT NULL"))
    assert "brand" in only_problem(pipelines)[2]


def test_every_expectation_that_is_wrong_is_told(pipelines):
    write(pipelines, **silver("a > 0", "id > 0", "b > 0"))
    assert [what.partition(":")[0] for _, what, _ in problems(pipelines)] == [
        "expectation 'rule_0'",
        "expectation 'rule_2'",
    ]


def test_a_select_that_does_not_bind_is_told_once_and_not_again_for_what_is_expected_of_its_rows(pipelines):
    write(pipelines, **silver("id > 0", select="SELECT idd FROM bronze.events"))
    assert "idd" in only_problem(pipelines)[1]


@pytest.mark.parametrize(
    ("ingest", "existing", "unbound"),
    [
        ("{format: csv, schema: {id: BIGINT}}", {}, None),
        ("{format: csv}", EVENTS, None),
        ("{format: csv}", {}, 2),
        ("{format: csv, schema_hints: {id: BIGINT}}", {}, 1),
    ],
    ids=["all columns declared", "the table exists", "nothing is known", "some columns are hinted"],
)
def test_what_is_expected_of_files_binds_as_far_as_their_columns_are_known(pipelines, ingest, existing, unbound):
    rules = expecting("price > 0", "id > 0 AND _row > 0")
    write(pipelines, task("bronze", table="bronze.events", ingest=ingest, expectations=rules))
    if unbound is None:
        where, what, _ = only_problem(pipelines, existing)
        assert where == "pipelines/shop/job.yml:7"
        assert what.startswith("expectation 'rule_0': ")
        assert "price" in what
        return
    found = load_catalog(pipelines, existing).unbound
    assert [(p.line, p.what.partition(":")[0]) for p in found] == [
        (7, f"expectation 'rule_{n}'") for n in range(unbound)
    ]
    assert {p.what.partition(": ")[2] for p in found} == {"not bound: not all columns of bronze.events are known yet"}


def test_what_can_never_be_right_is_told_though_the_columns_are_not_known(pipelines):
    write(pipelines, task("bronze", table="bronze.events", ingest="{format: csv}", expectations=expecting("a >")))
    assert "syntax error" in only_problem(pipelines)[1]


def test_what_is_expected_is_part_of_what_a_table_and_those_below_it_are_made_from(pipelines):
    def definitions(*expressions, action="quarantine"):
        job = silver(*expressions, action=action)
        gold = task("gold", after="silver", sql="gold", table="gold.t")
        write(pipelines, joined(job["tasks"], gold), silver=job["silver"], gold="SELECT count(*) AS n FROM silver.t")
        found = load_catalog(pipelines, {}).definitions
        return found["silver.t"], found["gold.t"]

    cases = [definitions("id > 0"), definitions("id > 1"), definitions("id > 0", action="drop"), definitions()]
    for of_table in zip(*cases, strict=True):
        assert len(set(of_table)) == len(cases)
    assert definitions("id > 0", action="warn") == definitions()


# --- and it is harmless -----------------------------------------------------------------------------------


def test_checking_writes_not_a_byte_whatever_the_sql_says(pipelines, tmp_path):
    """A process that may not write a single byte to any file checks these jobs all the same."""
    write(
        pipelines,
        joined(
            bronze(),
            task("silver", after="bronze", sql="silver", table="silver.t"),
            task("script", after="silver", sql="script"),
        ),
        silver="SELECT id FROM bronze.events ORDER BY id",
        script="CREATE TABLE gold.x AS SELECT 1 AS a; DELETE FROM silver.t; INSERT INTO bronze.events (id) VALUES (1)",
    )
    script = """
        import resource, sys
        from pathlib import Path
        from landingd.flow.catalog import load_catalog
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        print(len(load_catalog(Path("pipelines"), {}).jobs))
    """
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script)], cwd=tmp_path, env=env, capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"1\n", b"")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_sql_cannot_reach_files_while_it_is_checked(pipelines, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    write(pipelines, task("gold", sql="gold", table="gold.t"), gold=f"SELECT a FROM read_csv('{tmp_path}/secret.csv')")
    assert "Permission" in only_problem(pipelines)[1]


def test_a_job_that_is_not_there_is_asked_for_in_vain_with_a_hint(pipelines):
    write(pipelines, task("gold", sql="gold", table="gold.t"), gold="SELECT 1 AS a")
    catalog = load_catalog(pipelines, {})
    assert catalog.job("shop").name == "shop"
    with pytest.raises(NotFoundError) as refused:
        catalog.job("shpo")
    assert "'shop'" in refused.value.hint


def test_faults_of_the_job_file_and_of_its_sql_are_told_at_once(pipelines):
    """Even where tasks depend on each other in a circle and one cannot be read at all."""
    write(
        pipelines,
        joined(
            bronze(),
            task("silver", after="gold", table="silver.events", sql="silver"),
            task("gold", after="silver", table="gold.brands", sql="gold"),
            task("lost", table="gold.lost", sql="missing"),
            task("after", after="lost", table="gold.after", sql="after"),
        ),
        silver="SELECT brnad FROM bronze.events",
        gold="SELECT count(*) AS n FROM silver.events",
        after="SELECT * FROM gold.lost",
    )
    told = "\n".join(what for _, what, _ in problems(pipelines))
    for fault in ("circle", "missing.sql", 'Referenced column "brnad"', "does not run after the task 'bronze'"):
        assert fault in told
    assert "does not exist" not in told, "gold.lost is missing only because its task cannot be read"


# --- what no job file says --------------------------------------------------------------------------------------


def test_a_table_that_a_script_or_python_creates_may_be_read_though_nobody_knows_its_columns(pipelines):
    tasks = [
        task("script", sql="script"),
        task("python", python_task="{file: made.py}"),
        task("gold", after="script", sql="gold", table="gold.t"),
    ]
    write(
        pipelines,
        "\n".join(tasks),
        script="CREATE TABLE IF NOT EXISTS silver.a (n INT)",
        gold="SELECT a.n, b.m FROM silver.a AS a JOIN silver.b AS b USING (n)",
    )
    code = 'def main(ctx):\n    ctx.sql("CREATE TABLE silver.b AS SELECT 1 AS n, 2 AS m")\n'
    (pipelines / "shop" / "made.py").write_text(code)
    (told,) = load_catalog(pipelines, {}).unbound
    assert "silver.a, silver.b" in told.what
    assert load_catalog(pipelines, {"silver.a": {"n": "INT"}, "silver.b": {"n": "INT", "m": "INT"}}).unbound == ()
    (pipelines / "shop" / "made.py").write_text("def main(ctx): pass\n")
    assert "does not exist" in only_problem(pipelines, {"silver.a": {"n": "INT"}})[1]


@pytest.mark.parametrize(
    "script",
    ["SELECT error('on purpose')", "CREATE TABLE silver.a (n INT NOT NULL); INSERT INTO silver.a VALUES ($run_id)"],
)
def test_a_script_that_only_values_can_break_is_sound(pipelines, script):
    write(pipelines, task("script", sql="script"), script=script)
    assert load_catalog(pipelines, {}).unbound == ()


@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        ("CREATE TABLE silver.a (at INT)", "syntax error"),
        ("CREATE TABLE silver.a (n INT); INSERT INTO silver.a (m) VALUES (1)", "column"),
    ],
)
def test_what_is_wrong_with_a_table_that_a_script_creates_itself_is_told(pipelines, script, wrong):
    write(pipelines, task("script", sql="script"), script=script)
    assert wrong in only_problem(pipelines)[1]
