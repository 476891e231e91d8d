import os
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from landingd.edge import jobfiles
from landingd.edge.jobfiles import tree
from landingd.errors import Problem
from landingd.model import (
    Cleanup,
    Expectation,
    FileArrival,
    Ingest,
    Job,
    OnChange,
    OnDelete,
    OnDuplicate,
    OnViolation,
    Parameter,
    Place,
    Task,
    Trigger,
    Widget,
)

GOOD = """\
# Revenue, for the shop
name: ecommerce
description: Revenue by brand, from store events
tags: {team: shop, year: 2024}
triggers:
  - file_arrival:
      path: ./ecommerce/
      pattern: "*.csv"
      exclude: "*.tmp"
      wait_after_last_change_seconds: 0.5
      min_time_between_triggers_seconds: 60
      max_files_per_trigger: 10
      marker: "{name}.done"
      incomplete_after_seconds: 60
      on_duplicate: load
      on_change: append
      on_delete: retract
      cleanup: archive
      cleanup_after_seconds: 5
      archive_retention_days: 2
  - file_arrival: {path: returns, exclude: ["a*", "b*"], recursive: false}
parameters:
  - {name: month, default: Oct, choices: [Oct, Nov]}
  - {name: limit, default: 010}
  - {name: strict, default: True}
  - {name: note, default: ""}
tasks:
  - task_key: bronze_events
    description: As they came
    ingest:
      format: csv
      pattern: "events-*"
      delimiter: "\\t"
      schema_hints: "price DECIMAL(10,2), `user id` BIGINT"
      schema_evolution: add_new_columns
      max_rejected_percent: 2.5
      nulls: ["", NULL-ish, -1]
      rename: {uid: user id}
      read_options: {quote: "'", encoding: latin-1, max_line_size: 100}
    table: bronze.events
    expectations:
      - {name: has_user, expect: '"user id" IS NOT NULL', on_violation: quarantine}
      - {name: dear, expect: price > 100}
  - task_key: silver_events
    depends_on: [{task_key: bronze_events}]
    sql: silver_events.sql
    table: silver.events
  - task_key: gold_revenue
    depends_on:
      - silver_events
      - task_key: bronze_events
    sql: sql/gold.sql
    table: gold.revenue
    refresh: full
    parameters:
      label: "{{job.parameters.month}} {{job.run_id}}"
      top: 5
    max_retries: -1
    min_retry_interval_millis: 1500
    timeout_seconds: 60
  - task_key: tidy
    sql: tidy.sql
"""

GOOD_TASKS = """\
tasks:
  - {task_key: a, sql: a.sql, table: gold.a}
"""


@pytest.fixture
def pipelines(tmp_path):
    """A folder with one job's folder, `shop`, in which is one SQL file, `a.sql`."""
    folder = tmp_path / "pipelines"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "a.sql").write_text("select 1")
    return folder


def write(pipelines, text, *, job="shop"):
    folder = pipelines / job
    folder.mkdir(exist_ok=True)
    (folder / "job.yml").write_bytes(text if isinstance(text, bytes) else text.encode())


def read(pipelines):
    return jobfiles.read_jobs(pipelines, shown_root=pipelines.parent)


def told(pipelines, text):
    """The problems of a job file as (line, what, hint)."""
    write(pipelines, text)
    _, problems = read(pipelines)
    assert {problem.file for problem in problems} <= {"pipelines/shop/job.yml"}
    return [(problem.line, problem.what, problem.hint) for problem in problems]


# --- a good file ------------------------------------------------------------------------------------------


def test_a_good_file_says_what_it_says(pipelines):
    folder = pipelines / "ecommerce"
    (folder / "sql").mkdir(parents=True)
    (folder / "silver_events.sql").write_text("select *\nfrom bronze.events\n")
    (folder / "sql" / "gold.sql").write_bytes(b"\xef\xbb\xbfselect 2")
    (folder / "tidy.sql").write_text("vacuum")
    write(pipelines, GOOD, job="ecommerce")
    (pipelines / "shop" / "a.sql").unlink()

    jobs, problems = read(pipelines)

    def at(line):
        return Place("pipelines/ecommerce/job.yml", line)

    assert problems == []
    assert jobs == [
        Job(
            name="ecommerce",
            place=at(2),
            description="Revenue by brand, from store events",
            tags={"team": "shop", "year": "2024"},
            folder=folder,
            triggers=(
                Trigger(
                    FileArrival(
                        "ecommerce",
                        pattern="*.csv",
                        exclude=("*.tmp",),
                        wait_after_last_change_s=0.5,
                        min_time_between_triggers_s=60.0,
                        max_files_per_trigger=10,
                        marker="{name}.done",
                        incomplete_after_s=60.0,
                        on_duplicate=OnDuplicate.LOAD,
                        on_change=OnChange.APPEND,
                        on_delete=OnDelete.RETRACT,
                        cleanup=Cleanup.ARCHIVE,
                        cleanup_after_s=5.0,
                        archive_retention_s=2 * 86400.0,
                    ),
                    key="file_arrival",
                ),
                Trigger(FileArrival("returns", exclude=("a*", "b*"), recursive=False), key="file_arrival-2"),
            ),
            parameters=(
                Parameter("month", "Oct", ("Oct", "Nov"), widget=Widget.DROPDOWN),
                Parameter("limit", "010"),
                Parameter("strict", "True"),
                Parameter("note", ""),
            ),
            tasks=(
                Task(
                    "bronze_events",
                    at(28),
                    ingest=Ingest(
                        pattern="events-*",
                        delimiter="\t",
                        schema_hints={"price": "DECIMAL(10,2)", "user id": "BIGINT"},
                        max_rejected_percent=2.5,
                        nulls=("", "NULL-ish", "-1"),
                        rename={"uid": "user id"},
                        encoding="latin-1",
                        read_options={"quote": "'", "max_line_size": 100},
                    ),
                    table="bronze.events",
                    expectations=(
                        Expectation("has_user", '"user id" IS NOT NULL', OnViolation.QUARANTINE, at(42)),
                        Expectation("dear", "price > 100", OnViolation.WARN, at(43)),
                    ),
                ),
                Task(
                    "silver_events",
                    at(44),
                    depends_on=("bronze_events",),
                    depends_on_places=(at(45),),
                    sql="select *\nfrom bronze.events\n",
                    sql_file="pipelines/ecommerce/silver_events.sql",
                    table="silver.events",
                ),
                Task(
                    "gold_revenue",
                    at(48),
                    depends_on=("silver_events", "bronze_events"),
                    depends_on_places=(at(50), at(51)),
                    sql="select 2",
                    sql_file="pipelines/ecommerce/sql/gold.sql",
                    table="gold.revenue",
                    refresh="full",
                    parameters={"label": "{{job.parameters.month}} {{job.run_id}}", "top": "5"},
                    parameter_places={"label": at(56), "top": at(57)},
                    max_retries=-1,
                    min_retry_interval_s=1.5,
                    timeout_s=60.0,
                ),
                Task("tidy", at(61), sql="vacuum", sql_file="pipelines/ecommerce/tidy.sql"),
            ),
        )
    ]


def test_what_is_left_out_has_the_models_defaults(pipelines):
    text = """\
        trigger: {file_arrival: {path: in}}
        tasks: [{task_key: a, ingest: {}, table: bronze.a}]
        """
    write(pipelines, dedent(text))
    (job,), problems = read(pipelines)
    assert problems == []
    assert (job.name, job.triggers) == ("shop", (Trigger(FileArrival("in"), key="file_arrival"),))
    assert job.tasks == (Task("a", job.tasks[0].place, ingest=Ingest(), table="bronze.a"),)


def test_a_job_yaml_is_a_job_file_too_and_one_file_can_be_read_alone(pipelines):
    file = pipelines / "shop" / "job.yaml"
    file.write_text(GOOD_TASKS)
    jobs, problems = jobfiles.read_job(file, shown_root=pipelines)
    assert problems == []
    assert [job.name for job in jobs] == ["shop"]
    assert jobs[0].place.file == "shop/job.yaml"
    assert read(pipelines)[1] == []


def test_a_bundles_wrapper_may_hold_several_jobs(pipelines):
    text = """\
        resources:
          jobs:
            zebra:
              tasks: [{task_key: a, sql: a.sql}]
            one:
              name: ant
              tasks: [{task_key: a, sql: a.sql}]
        """
    write(pipelines, dedent(text))
    jobs, problems = read(pipelines)
    assert problems == []
    assert [(job.name, job.place.line) for job in jobs] == [("ant", 6), ("zebra", 4)]


def test_an_alias_stands_for_what_it_names(pipelines):
    text = """\
        triggers:
          - file_arrival: &usual {path: in}
          - file_arrival: *usual
        """
    write(pipelines, dedent(text) + GOOD_TASKS)
    (job,), problems = read(pipelines)
    assert problems == []
    assert job.triggers == (
        Trigger(FileArrival("in"), key="file_arrival"),
        Trigger(FileArrival("in"), key="file_arrival-2"),
    )


def test_schema_hints_may_be_a_mapping(pipelines):
    text = """\
        trigger: {file_arrival: {path: in}}
        tasks: [{task_key: a, table: bronze.a, ingest: {schema_hints: {null: BIGINT, b: "DECIMAL(10,2)[]"}}}]
        """
    write(pipelines, dedent(text))
    (job,), problems = read(pipelines)
    assert problems == []
    assert job.tasks[0].ingest.schema_hints == {"null": "BIGINT", "b": "DECIMAL(10,2)[]"}


# --- what plain words mean --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "off", "y", "1:30", "2024-10-01", "1_000", "0b1", "=", "<<", "nan", "NO"]
)
def test_what_only_old_yaml_knows_is_text(pipelines, word):
    write(pipelines, f"description: {word}\n{GOOD_TASKS}")
    (job,), problems = read(pipelines)
    assert problems == []
    assert job.description == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("012", 12),
        ("0o17", 15),
        ("0xfF", 255),
        ("-3", -3),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.INF", float("-inf")),
        ("'1'", "1"),
        ("!!str 1", "1"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(tmp_path, word, value):
    source = tree.Source(tmp_path, "job.yml", ".")
    scalar = tree.parse(f"a: {word}", source).entries["a"].node
    assert source.problems == []
    assert scalar.value == value
    assert type(scalar.value) is type(value)


def test_an_unquoted_no_is_not_a_boolean_for_a_setting_either(pipelines):
    text = "trigger: {file_arrival: {path: in, recursive: no}}\n" + GOOD_TASKS
    assert told(pipelines, text) == [(1, "'recursive' must be true or false, found text 'no'", None)]


# --- files that are no YAML -------------------------------------------------------------------------------

UNREADABLE = {
    "an empty file": ("", 0, "the file is empty"),
    "only a comment": ("# nothing\n", 0, "the file is empty"),
    "a list": ("- a\n", 1, "a job must be a mapping, found a list"),
    "a text": ("hello\n", 1, "a job must be a mapping, found text 'hello'"),
    "a bracket too few": (
        "name: a\ntasks: [a\n",
        3,
        ("not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence, from line 2)"),
    ),
    "a tab": (
        "name: a\n\ttasks: []\n",
        2,
        "not valid YAML: found character '\\t' that cannot start any token",
    ),
    "two documents": (
        "name: a\n---\nname: b\n",
        2,
        "not valid YAML: but found another document (expected a single document in the stream, from line 1)",
    ),
    "an alias to nothing": ("name: *x\n", 1, "not valid YAML: found undefined alias 'x'"),
    "a control character": ("name: a\nb: \x07\n", 2, "not valid YAML: the character U+0007 is not allowed"),
    "Latin-1": ("name: a\ndescription: Caf\xe9\n".encode("latin-1"), 2, "not UTF-8"),
    "UTF-16": ("name: a\n".encode("utf-16"), 1, "not UTF-8"),
    "an alias of itself": ("tasks: &a [*a]\n", 1, "nested deeper than 50 levels"),
    "brackets upon brackets": ("[" * 100_000, 1, "nested deeper than 50 levels"),
    "a hundred levels": ("[" * 100 + "]" * 100, 1, "nested deeper than 50 levels"),
    "a billion laughs": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
        1,
        "more than 100000 values",
    ),
    "too large": ("#" * (jobfiles.FILE_BYTES_MAX + 1), 0, "larger than 4194304 bytes"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_yaml_is_one_problem_with_its_line(pipelines, case):
    text, line, what = UNREADABLE[case]
    assert [(at, said) for at, said, _ in told(pipelines, text)] == [(line, what)]


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%,? \n\t~0.", max_size=40))
def test_any_text_is_a_job_or_problems_but_never_an_exception(tmp_path_factory, text):
    source = tree.Source(tmp_path_factory.getbasetemp() / "job.yml", "job.yml", ".")
    jobs = jobfiles.jobs_of_file.read(text, source)
    assert jobs or source.problems


WORDS = st.text(alphabet="ab:-[]{}&*!|>'\"#%,? \n\t0.é\U0001f600", max_size=8)
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, True, False]))
def test_both_parsers_of_pyyaml_read_the_same(value, flow):
    """The fast one is used where it was built in, and the slow one says what is wrong."""
    text = yaml.safe_dump({"value": value}, default_flow_style=flow, allow_unicode=True)
    read_by = [
        tree._Walk(text, loader, tree.Source(Path("job.yml"), "job.yml", ".")).document()
        for loader in (yaml.CSafeLoader, yaml.SafeLoader)
    ]
    assert plainly(read_by[0]) == plainly(read_by[1])


def plainly(node):
    match node:
        case tree.Keyed():
            return {key: (entry.line, plainly(entry.node)) for key, entry in node.entries.items()}
        case tree.Listed():
            return [plainly(item) for item in node.items]
        case tree.Scalar():
            return node.value, node.text
    return node


LENGTH = st.integers(0, len(GOOD))


@given(
    LENGTH,
    LENGTH,
    st.sampled_from(["", "\n", ":", "[", "]", "-", "{a: b}", "'", "null", "1e9", "!!set", "{{x}}"]),
)
def test_a_good_file_that_is_damaged_anywhere_is_a_job_or_problems(tmp_path_factory, begin, end, instead):
    source = tree.Source(tmp_path_factory.getbasetemp() / "job.yml", "job.yml", ".")
    jobs = jobfiles.jobs_of_file.read(GOOD[:begin] + instead + GOOD[max(begin, end) :], source)
    assert jobs or source.problems


# --- files that are wrong ---------------------------------------------------------------------------------

SQL_TASK = "task_key: a, sql: a.sql"
WITH_TRIGGER = "trigger: {file_arrival: {path: in}}\n"


def sql_task(more):
    return f"tasks:\n  - {{task_key: a, sql: a.sql,\n     {more}}}\n"


def ingest(more):
    return f"{WITH_TRIGGER}tasks:\n  - task_key: a\n    table: bronze.a\n    ingest:\n      {more}\n"


def arrival(more):
    return f"triggers:\n  - file_arrival:\n      {more}\n{GOOD_TASKS}"


def top(more):
    return f"{GOOD_TASKS}{more}\n"


NAME_HINT = (
    "letters, digits, _, - and ., at most 100, and first a letter, digit or _: "
    "it is a level of MQTT topics, a word of commands and a part of URLs"
)
TYPE_HINT = "for example: {price: 'DECIMAL(10,2)'} or \"price DECIMAL(10,2), user_id BIGINT\""
DEFAULT_HINT = 'for an empty one write: default: "", or, if each run has to give it a value, required: true'
DELIMITER_HINT = r'one character that is no quote and no line end; a tab is "\t"'

WRONG = {
    "a misspelt key of a task": (
        sql_task("tabel: gold.a"),
        [(3, "unknown key 'tabel'", "did you mean 'table'?")],
    ),
    "a misspelt key of a job": (
        top("paramters: []"),
        [(3, "unknown key 'paramters'", "did you mean 'parameters'?")],
    ),
    "a key like no other": (top("xyz: 1"), [(3, "unknown key 'xyz'", None)]),
    "a key that is given twice": (
        top("name: a\nname: b"),
        [(4, "key 'name' is given twice", "the first is on line 3")],
    ),
    "a key that is a list": (top("[a]: b"), [(3, "a key has to be text", None)]),
    "a tag": (top("name: !secret a"), [(3, "the YAML tag '!secret' is not supported", None)]),
    "a tag that is not true": (
        sql_task("max_retries: !!int x"),
        [
            (3, "'max_retries' must be a whole number, found text 'x'", None),
            (3, "'x' cannot be read as int", None),
        ],
    ),
    "a number that is too long for any": (
        sql_task(f"max_retries: {'9' * 5000}"),
        [
            (3, f"{'9' * 50!r} cannot be read as int", None),
            (3, f"'max_retries' must be a whole number, found text '{'9' * 5000}'"[: tree.WHAT_MAX] + "...", None),
        ],
    ),
    "a number that is too long to be written out": (
        sql_task(f"max_retries: 0x{'f' * 5000}"),
        [
            (3, f"'max_retries' must be from -1 to 1000000000, found 0x{'f' * 5000}"[: tree.WHAT_MAX] + "...", None),
        ],
    ),
    "half of a surrogate pair": (
        top('description: "\\ud83d"'),
        [(3, r"'\ud83d' cannot be read as str", None)],
    ),
    "a key of half of a surrogate pair": (
        top('tags: {"\\ud83d": x}'),
        [(3, r"'\ud83d' cannot be read as str", None)],
    ),
    "faults that differ in their hints only": (
        "{tasks: [{task_key: a, sql: a.sql, tabel: x}], parameters: [{name: a, default: b, tabel: x}]}\n",
        [(1, "unknown key 'tabel'", "did you mean 'table'?")],
    ),
    # the job
    "no tasks": ("name: a\n", [(1, "a job needs at least one task", None)]),
    "empty tasks": ("name: a\ntasks: []\n", [(2, "a job needs at least one task", None)]),
    "tasks that are none": ("tasks: a\n", [(1, "'tasks' must be a list, found text 'a'", None)]),
    "a task that is none": ("tasks:\n  - a\n", [(2, "a task must be a mapping, found text 'a'", None)]),
    "a name with a slash": (top("name: a/b"), [(3, "'a/b' cannot be the name of a job", NAME_HINT)]),
    "a name that is an option": (top("name: -a"), [(3, "'-a' cannot be the name of a job", NAME_HINT)]),
    "a name of a wildcard": (top("name: '#'"), [(3, "'#' cannot be the name of a job", NAME_HINT)]),
    "an empty name": (top("name: ''"), [(3, "'' cannot be the name of a job", NAME_HINT)]),
    "a name that is a number": (
        top("name: 2024"),
        [(3, "'name' must be text, found 2024", "put it in quotes")],
    ),
    "a name without a value": (top("name:"), [(3, "'name' must be text, found nothing", None)]),
    "tags that are a list": (top("tags: [a]"), [(3, "'tags' must be a mapping, found a list", None)]),
    "a tag of a list": (top("tags:\n  a: [b]"), [(4, "'tags' 'a' must be text, found a list", None)]),
    "a schedule without an expression": (
        top("schedule: {}"),
        [
            (
                3,
                "a schedule needs 'quartz_cron_expression' or 'cron'",
                'cron: "0 2 * * *", or quartz_cron_expression: "0 0 2 * * ?"',
            )
        ],
    ),
    "a wrapper without jobs": (
        "resources:\n  pipelines: {}\n",
        [
            (
                2,
                "'pipelines' means nothing here: tables are made by tasks, each with its SELECT",
                "a task with `sql` and `table` for each table of the pipeline",
            ),
            (2, "'resources' must hold 'jobs', a mapping of each job's key to the job", None),
        ],
    ),
    "a wrapper's neighbours": (
        ("sync: {}\nvariabels: {}\nresources:\n  jobs:\n    a:\n      tasks: [{task_key: a, sql: a.sql}]\n"),
        [
            (1, "'sync' means nothing here: the job file is the job: nothing is deployed", "leave it out"),
            (2, "unknown key 'variabels'", "did you mean 'variables'?"),
        ],
    ),
    # parameters
    "a parameter without a default": (
        top("parameters:\n  - name: a"),
        [(4, "a parameter needs a 'default'", DEFAULT_HINT)],
    ),
    "a parameter whose default is nothing": (
        top("parameters:\n  - name: a\n    default:"),
        [(5, "'default' must be text, found nothing", 'for an empty text write ""')],
    ),
    "a parameter without a name": (
        top("parameters:\n  - default: a"),
        [(4, "a parameter needs a 'name'", None)],
    ),
    "a parameter that no SQL can name": (
        top("parameters:\n  - {name: a-b, default: ''}"),
        [
            (
                4,
                "'a-b' cannot be the name of a parameter",
                "SQL reads it as $name: letters, digits and _",
            )
        ],
    ),
    "a parameter that is declared twice": (
        top("parameters:\n  - {name: a, default: ''}\n  - {name: a, default: ''}"),
        [(5, "parameter 'a' is declared twice", None)],
    ),
    "parameters that are one to SQL": (
        top("parameters:\n  - {name: a, default: ''}\n  - {name: A, default: ''}"),
        [(5, "parameter 'A' is declared twice", "it is the same as 'a' to SQL")],
    ),
    "a widget for a type": (
        top("parameters:\n  - {name: a, default: x, type: text}"),
        [
            (
                4,
                (
                    "'type' must be 'string' or 'integer' or 'number' or 'boolean' or 'date' or 'timestamp',"
                    " found text 'text'"
                ),
                None,
            )
        ],
    ),
    "choices of a text": (
        top("parameters:\n  - {name: a, default: x, widget: text, choices: [x]}"),
        [(4, "a text has no 'choices'", "widget: dropdown, combobox or multiselect")],
    ),
    # triggers
    "both kinds of triggers": (
        top("trigger: {file_arrival: {path: a}}\ntriggers: []"),
        [(3, "a job has either 'trigger' or 'triggers', not both", "put it into the list")],
    ),
    "an empty trigger": (
        top("trigger: {}"),
        [
            (
                3,
                "a trigger needs its kind",
                "file_arrival, schedule, periodic, continuous, table_update or job_completion",
            )
        ],
    ),
    "a trigger that is a word": (
        top("triggers: [file_arrival]"),
        [(3, "a trigger must be a mapping, found text 'file_arrival'", None)],
    ),
    "an arrival without a path": (
        arrival("pattern: '*'"),
        [(3, "'file_arrival' needs a 'path'", "a folder below the landing root")],
    ),
    "Databricks' url": (
        arrival("url: /Volumes/a"),
        [
            (
                3,
                "'url' means nothing here: there are no volumes and no external locations",
                "write 'path', a folder below the landing root",
            )
        ],
    ),
    "an absolute path": (
        arrival("path: /in"),
        [
            (
                3,
                "'path' must be a folder below the landing root, found text '/in'",
                "for example: path: ecommerce",
            )
        ],
    ),
    "a path that leads out": (
        arrival("path: a/../../b"),
        [
            (
                3,
                "'path' must be a folder below the landing root, found text 'a/../../b'",
                "for example: path: ecommerce",
            )
        ],
    ),
    "a path with a wildcard": (
        arrival("path: in/*.csv"),
        [(3, "'path' names one folder, found text 'in/*.csv'", "put wildcards into 'pattern'")],
    ),
    "an empty pattern": (
        arrival("path: in\n      pattern: ''"),
        [(4, "'pattern' must not be empty", "leave it out for every file")],
    ),
    "a negative wait": (
        arrival("path: in\n      wait_after_last_change_seconds: -0.1"),
        [(4, "'wait_after_last_change_seconds' must be from 0 to 1000000000, found -0.1", None)],
    ),
    "a wait of no number": (
        arrival("path: in\n      wait_after_last_change_seconds: .nan"),
        [(4, "'wait_after_last_change_seconds' must be from 0 to 1000000000, found .nan", None)],
    ),
    "a wait in words": (
        arrival("path: in\n      wait_after_last_change_seconds: 5s"),
        [(4, "'wait_after_last_change_seconds' must be a number, found text '5s'", None)],
    ),
    "no files per trigger": (
        arrival("path: in\n      max_files_per_trigger: 0"),
        [(4, "'max_files_per_trigger' must be from 1 to 1000000, found 0", None)],
    ),
    "half a file per trigger": (
        arrival("path: in\n      max_files_per_trigger: 1.5"),
        [(4, "'max_files_per_trigger' must be a whole number, found 1.5", None)],
    ),
    "a true number of files": (
        arrival("path: in\n      max_files_per_trigger: true"),
        [(4, "'max_files_per_trigger' must be a whole number, found true", None)],
    ),
    "a marker in another folder": (
        arrival("path: in\n      marker: done/x"),
        [(4, "'marker' names a file beside the data files, found text 'done/x'", "leave the folder out")],
    ),
    "a marker that is the file itself": (
        arrival('path: in\n      marker: "{name}"'),
        [(4, "every file would be its own marker", 'for example: marker: "{name}.done"')],
    ),
    "a manifest that every file is": (
        arrival('path: in\n      manifest: "*"'),
        [(4, "every file would be a manifest", 'for example: manifest: "*.manifest"')],
    ),
    "a marker and a manifest": (
        arrival("path: in\n      marker: x\n      manifest: y"),
        [(5, "'manifest' stands beside 'marker'", "leave one of them out")],
    ),
    "a policy that is misspelt": (
        arrival("path: in\n      on_delete: retrct"),
        [(4, "'on_delete' must be 'keep' or 'retract', found text 'retrct'", "did you mean 'retract'?")],
    ),
    "a retention without an archive": (
        arrival("path: in\n      archive_retention_days: 3"),
        [(4, "'archive_retention_days' means nothing without 'cleanup: archive'", None)],
    ),
    "a delay without a cleanup": (
        arrival("path: in\n      cleanup_after_seconds: 3"),
        [(4, "'cleanup_after_seconds' means nothing without 'cleanup: archive' or 'cleanup: delete'", None)],
    ),
    "a policy of the trigger in the task": (
        sql_task("on_change: append"),
        [(3, "'on_change' does not belong here", "it belongs in the trigger's 'file_arrival'")],
    ),
    "a reader's option outside of read_options": (
        ingest("quote: x"),
        [(6, "'quote' does not belong here", "it belongs in 'read_options'")],
    ),
    "an unknown reader's option": (
        ingest("read_options: {qoute: x}"),
        [(6, "there is no read option 'qoute' for csv", "did you mean 'quote'?")],
    ),
    "a reader's option of another format": (
        ingest("format: parquet\n      read_options: {quote: x}"),
        [(7, "there is no read option 'quote' for parquet", "for parquet: binary_as_string")],
    ),
    "a reader's option of another kind": (
        ingest("read_options: {max_line_size: true}"),
        [(6, "'max_line_size' must be a whole number, found true", None)],
    ),
    "an encoding that is not read": (
        ingest("read_options: {encoding: ebcdic}"),
        [(6, "encoding 'ebcdic' is not read", "one of utf-8, utf-16, latin-1, windows-1252")],
    ),
    "a quote of two characters": (
        ingest("read_options: {quote: ab}"),
        [(6, "'quote' must be one character, found text 'ab'", None)],
    ),
    "no header and no schema": (
        ingest("read_options: {header: false}"),
        [(6, "without a header the columns have no names", "give all of them as `schema`")],
    ),
    "a column renamed to a name of our own": (
        ingest("rename: {a: _row}"),
        [(6, "column 'a' cannot be renamed to '_row'", None)],
    ),
    "two columns renamed to one": (
        ingest("rename: {a: x, b: X}"),
        [(6, "'rename' gives the name 'X' twice", None)],
    ),
    "expectations of a script": (
        sql_task("expectations: [{name: a, expect: b}]"),
        [(3, "'expectations' are about the rows of a table, and this task has none", None)],
    ),
    "an expectation without a name": (
        sql_task("table: gold.a, expectations: [{expect: b}]"),
        [(3, "an expectation needs a 'name'", None)],
    ),
    "an expectation that expects nothing": (
        sql_task("table: gold.a, expectations: [{name: b}]"),
        [(3, "an expectation needs 'expect'", 'for example: expect: "user_id IS NOT NULL"')],
    ),
    "an expectation told twice": (
        sql_task("table: gold.a, expectations: [{name: b, expect: x}, {name: B, expect: y}]"),
        [(3, "expectation 'B' is declared twice", None)],
    ),
    "an action that is misspelt": (
        sql_task("table: gold.a, expectations: [{name: b, expect: x, on_violation: dorp}]"),
        [
            (
                3,
                "'on_violation' must be 'warn' or 'drop' or 'quarantine' or 'fail', found text 'dorp'",
                "did you mean 'drop'?",
            )
        ],
    ),
    # tasks
    "a task without a key": ("tasks:\n  - sql: a.sql\n", [(2, "a task needs a 'task_key'", None)]),
    "a key with a blank": (
        "tasks:\n  - {task_key: a b, sql: a.sql}\n",
        [(2, "'a b' cannot be a task_key", "letters, digits, _ and -, at most 100")],
    ),
    "a key that is too long": (
        f"tasks:\n  - {{task_key: {'a' * 101}, sql: a.sql}}\n",
        [(2, f"'{'a' * 101}' cannot be a task_key", "letters, digits, _ and -, at most 100")],
    ),
    "nothing to do": (
        "tasks:\n  - task_key: a\n",
        [
            (
                2,
                "a task needs a kind: 'ingest', 'sql' or another one",
                (
                    "one of sql, ingest, sql_task, python_task, spark_python_task, notebook_task, condition_task,"
                    " run_job_task, for_each_task"
                ),
            )
        ],
    ),
    "two things to do": (
        WITH_TRIGGER + sql_task("ingest: {}, table: bronze.a"),
        [(3, "a task has either 'ingest' or 'sql', not both", None)],
    ),
    "a dependency that is none": (
        sql_task("depends_on: [[b]]"),
        [(3, "a dependency must be text, found a list", None)],
    ),
    "dependencies that are a text": (
        sql_task("depends_on: b"),
        [(3, "'depends_on' must be a list, found text 'b'", None)],
    ),
    "a dependency without a key": (
        sql_task("depends_on: [{}]"),
        [(3, "a dependency needs a 'task_key'", None)],
    ),
    "a table without a schema": (
        sql_task("table: revenue"),
        [(3, "'revenue' cannot be the name of a table", "for example: table: silver.events")],
    ),
    "a table that wants quotes": (
        sql_task("table: gold.re-venue"),
        [(3, "'gold.re-venue' cannot be the name of a table", "for example: table: silver.events")],
    ),
    "a table of three names": (
        sql_task("table: db.gold.x"),
        [(3, "'db.gold.x' cannot be the name of a table", "for example: table: silver.events")],
    ),
    "a table of no layer": (
        sql_task("table: Gold.x"),
        [(3, "there is no schema 'Gold'", "did you mean 'gold'?")],
    ),
    "a table of another schema": (
        sql_task("table: main.x"),
        [(3, "there is no schema 'main'", "use bronze, silver or gold")],
    ),
    "a table of ours": (
        sql_task("table: meta.commits"),
        [(3, "schema 'meta' is landingd's own", "use bronze, silver or gold")],
    ),
    "a refresh to come": (
        sql_task("table: gold.a, refresh: merge"),
        [(3, "refresh 'merge' is not supported yet", "write 'auto' or 'append' or 'full'")],
    ),
    "a refresh of nothing": (
        sql_task("refresh: full"),
        [(3, "'refresh' is for a task with 'sql' and 'table'", "leave it out")],
    ),
    "a refresh that is misspelt": (
        sql_task("table: gold.a, refresh: ful"),
        [
            (
                3,
                "'refresh' must be 'auto' or 'append' or 'full', found text 'ful'",
                "did you mean 'full'?",
            )
        ],
    ),
    "a parameter of a task that no SQL can name": (
        sql_task("parameters: {1a: x}"),
        [
            (
                3,
                "'1a' cannot be the name of a parameter",
                "SQL reads it as $name: letters, digits and _",
            )
        ],
    ),
    "parameters of a task that are one to SQL": (
        sql_task("parameters: {a: x, A: y}"),
        [(3, "parameters 'a' and 'A' are the same to SQL, which does not look at case", None)],
    ),
    "a parameter of nothing": (
        sql_task("parameters: {a: }"),
        [(3, "'parameters' 'a' must be text, found nothing", 'for an empty text write ""')],
    ),
    "retries below none": (
        sql_task("max_retries: -2"),
        [(3, "'max_retries' must be from -1 to 1000000000, found -2", None)],
    ),
    "an interval beyond all numbers": (
        sql_task(f"timeout_seconds: {'9' * 40}"),
        [(3, f"'timeout_seconds' must be from 0 to 1000000000, found {'9' * 40}", None)],
    ),
    "a reference where none is resolved": (
        top('description: "of {{job.name}}"'),
        [
            (
                3,
                "'of {{job.name}}' holds a reference, which is resolved in the values that a task gets, and not here",
                "parameters, arguments, inputs and operands of tasks may hold references",
            )
        ],
    ),
    # SQL
    "a SQL file that is not there": (
        "tasks:\n  - task_key: a\n    sql: aa.sql\n",
        [(3, "there is no file pipelines/shop/aa.sql", "did you mean 'a.sql'?")],
    ),
    "a statement for a file": (
        "tasks:\n  - task_key: a\n    sql: select 1\n",
        [
            (
                3,
                "'select 1' is not the name of a .sql file",
                "put the statement into a .sql file beside the job file, and name that",
            )
        ],
    ),
    "a SQL file elsewhere": (
        "tasks:\n  - task_key: a\n    sql: ../x/a.sql\n",
        [(3, "'../x/a.sql' is not below the job's folder", None)],
    ),
    "a SQL file whose name no file can have": (
        f"tasks:\n  - task_key: a\n    sql: {'a' * 260}.sql\n",
        [(3, f"pipelines/shop/{'a' * 260}.sql cannot be read: File name too long", None)],
    ),
    # ingest
    "an ingest without a table": (
        WITH_TRIGGER + "tasks:\n  - task_key: a\n    ingest: {}\n",
        [(4, "an ingest task needs a 'table'", "for example: table: bronze.events")],
    ),
    "an ingest that is a word": (
        WITH_TRIGGER + "tasks:\n  - {task_key: a, table: bronze.a, ingest: csv}\n",
        [(3, "'ingest' must be a mapping, found text 'csv'", None)],
    ),
    "a format to come": (
        ingest("format: avro"),
        [(6, "format 'avro' is not supported yet", "write 'csv' or 'json' or 'parquet'")],
    ),
    "a format that is misspelt": (
        ingest("format: cvs"),
        [(6, "'format' must be 'csv' or 'json' or 'parquet', found text 'cvs'", "did you mean 'csv'?")],
    ),
    "an evolution to come": (
        ingest("schema_evolution: fail_on_new_columns"),
        [
            (
                6,
                "schema_evolution 'fail_on_new_columns' is not supported yet",
                "write 'add_new_columns' or 'rescue' or 'fail' or 'none'",
            )
        ],
    ),
    "a delimiter of two characters": (
        ingest("delimiter: '||'"),
        [(6, "'||' cannot be the delimiter", DELIMITER_HINT)],
    ),
    "a delimiter that is a quote": (
        ingest("delimiter: '\"'"),
        [(6, "'\"' cannot be the delimiter", DELIMITER_HINT)],
    ),
    "rejects beyond all": (
        ingest("max_rejected_percent: 101"),
        [(6, "'max_rejected_percent' must be from 0 to 100, found 101", None)],
    ),
    "a null that is nothing": (
        ingest("nulls: [NA,\n        null]"),
        [(7, "'nulls' must be text, found nothing", 'for an empty text write ""')],
    ),
    "a hint that is no type": (
        ingest("schema_hints:\n        a: BIGINT; drop table x"),
        [(7, "column 'a' cannot have the type 'BIGINT; drop table x'", TYPE_HINT)],
    ),
    "a hint without a type": (
        ingest("schema_hints: a BIGINT, b"),
        [(6, "column 'b' cannot have the type ''", TYPE_HINT)],
    ),
    "a hint that closes what it did not open": (
        ingest("schema_hints: {a: 'INT) x ('}"),
        [(6, "column 'a' cannot have the type 'INT) x ('", TYPE_HINT)],
    ),
    "a column with two hints": (
        ingest("schema_hints: a BIGINT, A INT"),
        [(6, "'schema_hints' names column 'A' twice", None)],
    ),
    "a key of Auto Loader": (
        ingest("skip_rows: 1"),
        [
            (
                6,
                "'skip_rows' means nothing here: the header is the first line",
                "`read_options: {header: false}` for a file without one",
            )
        ],
    ),
    "an anchor that repeats a fault": (
        ("tasks:\n  - {task_key: a, sql: a.sql, parameters: &p [x]}\n  - {task_key: b, sql: a.sql, parameters: *p}\n"),
        [
            (2, "'parameters' must be a mapping, found a list", None),
            (3, "'parameters' must be a mapping, found a list", None),
        ],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fault_is_told_in_words_with_its_line(pipelines, case):
    text, expected = WRONG[case]
    assert told(pipelines, text) == expected


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b" \n\n", "pipelines/shop/a.sql is empty"),
        (b"select\n'\xe9'", "pipelines/shop/a.sql is not UTF-8 (line 2)"),
        (b"-" * ((1 << 20) + 1), "pipelines/shop/a.sql is larger than 1048576 bytes"),
    ],
    ids=["empty", "Latin-1", "large"],
)
def test_a_sql_file_that_cannot_be_used_is_told_where_it_was_named(pipelines, content, what):
    (pipelines / "shop" / "a.sql").write_bytes(content)
    assert told(pipelines, "tasks:\n  - task_key: a\n    sql: a.sql\n") == [(3, what, None)]


def test_a_job_may_have_a_thousand_tasks_and_no_more(pipelines):
    text = "tasks:\n" + "".join(f"  - {{task_key: t{n}, sql: a.sql}}\n" for n in range(1001))
    assert told(pipelines, text) == [(1, "a job has at most 1000 tasks, found 1001", None)]
    assert told(pipelines, text.rpartition("  -")[0]) == []


def test_all_faults_of_all_files_are_told_at_once_by_file_and_line(pipelines):
    write(pipelines, "tasks:\n  - {task_key: a, sql: b.sql, tabel: x}\nschedule: {}\n", job="a")
    write(pipelines, "name: [\n", job="b")
    write(pipelines, top("nmae: x"))
    _, problems = read(pipelines)
    assert [(problem.file, problem.line) for problem in problems] == [
        ("pipelines/a/job.yml", 2),
        ("pipelines/a/job.yml", 2),
        ("pipelines/a/job.yml", 3),
        ("pipelines/b/job.yml", 2),
        ("pipelines/shop/job.yml", 3),
    ]


def test_a_faulty_job_comes_back_as_far_as_it_could_be_read_so_that_its_graph_is_checked_too(pipelines):
    write(
        pipelines,
        "tasks:\n  - {task_key: a b, sql: a.sql, depends_on: [nobody], max_retries: x}\n  - sql: a.sql\n",
    )
    (job,), problems = read(pipelines)
    assert len(problems) == 3
    assert [(task.task_key, task.depends_on) for task in job.tasks] == [("a b", ("nobody",))]


# --- folders ----------------------------------------------------------------------------------------------


def test_jobs_come_by_name_and_two_of_one_name_are_a_problem(pipelines):
    (pipelines / "shop" / "a.sql").unlink()
    for folder, name in [("a", "zebra"), ("b", "ant"), ("c", "zebra")]:
        write(pipelines, f"name: {name}\n{GOOD_TASKS}", job=folder)
        (pipelines / folder / "a.sql").write_text("select 1")
    jobs, problems = read(pipelines)
    assert [job.name for job in jobs] == ["ant", "zebra", "zebra"]
    assert problems == [
        Problem(
            "pipelines/c/job.yml",
            1,
            "a job 'zebra' is there already (pipelines/a/job.yml:1)",
            "give one of them another 'name'",
        )
    ]


def test_a_folder_whose_name_cannot_be_a_jobs_needs_a_name_in_the_file(pipelines):
    (pipelines / "shop").rename(pipelines / "my shop")
    write(pipelines, GOOD_TASKS, job="my shop")
    assert read(pipelines)[1] == [
        Problem("pipelines/my shop/job.yml", 1, "'my shop' cannot be the name of a job", NAME_HINT)
    ]


def test_a_missing_folder_is_a_problem(tmp_path):
    assert jobfiles.read_jobs(tmp_path / "nowhere", shown_root=tmp_path) == (
        [],
        [Problem("nowhere", 0, "cannot be read: No such file or directory")],
    )


def test_a_folder_without_jobs_is_a_problem(tmp_path):
    (tmp_path / "README.md").write_text("nothing yet")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.sql").touch()
    _, (problem,) = jobfiles.read_jobs(tmp_path, shown_root=tmp_path.parent)
    assert (problem.file, problem.line, problem.what) == (tmp_path.name, 0, "there is no job here")


def test_sql_and_yaml_that_belong_to_no_job_are_not_passed_over(pipelines):
    (pipelines / "job.yml").write_text(GOOD_TASKS)
    (pipelines / "old" / "deep").mkdir(parents=True)
    (pipelines / "old" / "deep" / "x.sql").touch()
    write(pipelines, GOOD_TASKS)
    jobs, problems = read(pipelines)
    assert [job.name for job in jobs] == ["shop"]
    assert problems == [
        Problem("pipelines/job.yml", 0, "does not belong to a job", "a job is a folder with a job.yml in it"),
        Problem("pipelines/old", 0, "has no job.yml, but x.sql", "the job file has to be called job.yml"),
    ]


def test_two_job_files_in_one_folder_are_a_problem(pipelines):
    write(pipelines, GOOD_TASKS)
    (pipelines / "shop" / "job.yaml").write_text(GOOD_TASKS)
    assert read(pipelines) == (
        [],
        [Problem("pipelines/shop", 0, "has a job.yml and a job.yaml", "remove one of them")],
    )


def test_a_file_that_cannot_be_opened_is_a_problem(pipelines):
    jobs, problems = jobfiles.read_job(pipelines / "shop" / "job.yml", shown_root=pipelines)
    assert (jobs, problems) == ([], [Problem("shop/job.yml", 0, "cannot be read: No such file or directory")])


def test_files_are_named_relative_to_the_working_directory(pipelines, monkeypatch):
    write(pipelines, "")
    monkeypatch.chdir(pipelines.parent)
    assert [p.file for p in jobfiles.read_jobs(pipelines)[1]] == ["pipelines/shop/job.yml"]
    (pipelines / "elsewhere").mkdir()
    monkeypatch.chdir(pipelines / "elsewhere")
    assert [p.file for p in jobfiles.read_jobs(pipelines)[1]] == [str(pipelines / "shop" / "job.yml")]


def test_a_folder_whose_name_is_no_text_can_be_spoken_of(pipelines):
    folder = os.fsencode(pipelines) + b"/caf\xe9"
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder + b"/job.yml")).write_text("tasks: []\n")
    _, problems = read(pipelines)
    told_there = [problem for problem in problems if "caf" in problem.file]
    assert {problem.file for problem in told_there} == {"pipelines/caf\\xe9/job.yml"}
    for problem in told_there:
        str(problem).encode()
