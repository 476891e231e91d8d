"""The keys of all of Jobs: what a job file may say of triggers, queues, branches, loops, retries and alerts."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import jobcheck
from landingd.edge import jobfiles
from landingd.edge.jobfiles import tree
from landingd.model import (
    Backoff,
    CompletionStatus,
    Compute,
    Condition,
    ConditionMode,
    ConditionOp,
    Continuous,
    CronSyntax,
    FileArrival,
    ForEach,
    HealthMetric,
    HealthRule,
    JobCompletion,
    Misfire,
    Notebook,
    Notifications,
    NotifyOn,
    Parameter,
    Periodic,
    Place,
    PythonCall,
    Queue,
    RunIf,
    RunJob,
    Schedule,
    Script,
    SqlCondition,
    TableUpdate,
    Trigger,
    ValueType,
    Widget,
)

TASKS = "tasks: [{task_key: a, sql: a.sql}]\n"


EVERYTHING = """\
name: shop
pause_status: PAUSED
max_concurrent_runs: 2
queue: {enabled: true, max_length: 10}
compute: {threads: 2, memory_limit: 1GB}
email_notifications: {on_failure: [a@example.com], on_no_success: [b@example.com]}
webhook_notifications: {on_start: [{id: slack}]}
notification_settings: {no_alert_for_skipped_runs: true}
health:
  rules: [{metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 60}]
  no_success_within_seconds: 60
triggers:
  - file_arrival: {path: in, max_bytes_per_trigger: 10mb}
  - schedule: {quartz_cron_expression: 0 0 2 * * ?, timezone_id: Europe/Berlin, misfire: skip}
    sql_condition: {sql: select 1, trigger_mode: RESULT_VALUE_CHANGES}
  - schedule: {cron: 0 2 * * *}
  - continuous: {path: ticks, backoff: {factor: 3}, task_retry_mode: NEVER}
  - table_update: {table_names: [gold.a], condition: ALL_UPDATED}
  - job_completion: {jobs: [shop, {job_name: web}], if_status: DONE}
  - periodic: {interval: 6, unit: HOURS}
parameters:
  - {name: month, default: Oct, widget: multiselect, choices: [Oct, Nov], type: string}
  - {name: top, default: 5, type: integer, min: 1, max: 10, pattern: "[0-9]+", required: true}
tasks:
  - {task_key: a, ingest: {format: json, tail: true}, table: bronze.a, retry_on_timeout: true, backoff: {}}
  - {task_key: b, condition_task: {op: EQUAL_TO, left: "{{job.parameters.month}}", right: 1}, depends_on: [a]}
  - {task_key: c, depends_on: [{task_key: b, outcome: "true"}], run_if: ALL_DONE, run_job_task: {job_name: shop}}
  - task_key: d
    for_each_task: {inputs: "{{tasks.c.values.x}}", task: {task_key: e, sql_task: {file: {path: a.sql}}}}
  - {task_key: f, spark_python_task: {python_file: s.py, parameters: [x]}, memory_limit: 5mb, disabled: true}
  - {task_key: g, notebook_task: {notebook_path: s.ipynb, base_parameters: {x: y}}}
  - {task_key: h, python_task: {file: s.py, function: main}, health: {rules: []}}
resources: {jobs: {x: {name: "${var.y}"}}}
"""


@pytest.fixture
def shop(tmp_path):
    """A job's folder with a file of each kind."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "a.sql").write_text("select 1")
    (folder / "gate.sql").write_text("select 1 where false")
    for name in ("script.py", "report.ipynb"):
        (folder / name).write_text("{}")
    (folder / "call.py").write_text("def load(context): ...\n\n\ndef main(context):\n    inner = 1\n")
    return folder


def read(shop, text):
    file = shop / "job.yml"
    file.write_text(dedent(text))
    return jobfiles.read_job(file, shown_root=shop.parent)


def job(shop, text):
    (one,), problems = read(shop, text)
    assert problems == []
    return one


def triggers(shop, text):
    return job(shop, TASKS + dedent(text)).triggers


def task(shop, text):
    """The only task, of these fields."""
    return job(shop, f"tasks: [{{task_key: a, {text}}}]").tasks[0]


def told(shop, text):
    """The problems as (line, what, hint)."""
    return [(problem.line, problem.what, problem.hint) for problem in read(shop, text)[1]]


# --- triggers ---------------------------------------------------------------------------------------------


def test_triggers_of_all_kinds_stand_in_one_list_and_have_keys_by_their_kind(shop):
    text = """\
        triggers:
          - file_arrival: {path: in, max_bytes_per_trigger: 10mb}
          - schedule: {quartz_cron_expression: 0 0  2 * * ?, timezone_id: Europe/Berlin, misfire: catch_up}
          - schedule: {cron: 30 4 * * 1-5}
            pause_status: PAUSED
          - periodic: {interval: 6, unit: HOURS}
          - table_update: {table_names: [silver.events, main.gold.x], condition: ALL_UPDATED,
                           min_time_between_triggers_seconds: 60, wait_after_last_change_seconds: 0.5}
          - job_completion: {jobs: [web, {job_name: mail}], if_status: DONE}
          - schedule: {cron: "@daily", pause_status: PAUSED}
        """
    assert triggers(shop, text) == (
        Trigger(FileArrival("in", max_bytes_per_trigger=10_000_000), "file_arrival"),
        Trigger(Schedule("0 0 2 * * ?", CronSyntax.QUARTZ, "Europe/Berlin", Misfire.CATCH_UP), "schedule"),
        Trigger(Schedule("30 4 * * 1-5", CronSyntax.UNIX), "schedule-2", paused=True),
        Trigger(Periodic(6 * 3600.0), "periodic"),
        Trigger(TableUpdate(("silver.events", "gold.x"), True, 0.5, 60.0), "table_update"),
        Trigger(JobCompletion(("web", "mail"), CompletionStatus.DONE), "job_completion"),
        Trigger(Schedule("@daily", CronSyntax.UNIX), "schedule-3", paused=True),
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("trigger: {file_arrival: {path: in}}", FileArrival),
        ("trigger: {periodic: {interval: 1, unit: DAYS}}", Periodic),
        ("trigger: {table: {table_names: [gold.a]}}", TableUpdate),
        ("trigger: {table_update: {table_names: [gold.a]}}", TableUpdate),
        ("trigger: {job_completion: {jobs: [b]}}", JobCompletion),
        ("schedule: {quartz_cron_expression: 0 0 2 * * ?, timezone_id: UTC}", Schedule),
        ("continuous: {pause_status: UNPAUSED}", Continuous),
    ],
)
def test_databricks_single_fields_are_triggers_too(shop, text, kind):
    (trigger,) = triggers(shop, text + "\n")
    assert (type(trigger.on), trigger.paused, trigger.place.line) == (kind, False, 2)


def test_single_fields_may_stand_together_but_not_beside_the_list(shop):
    both = "trigger: {periodic: {interval: 1, unit: DAYS}}\nschedule: {cron: 0 2 * * *}\n"
    assert [trigger.key for trigger in triggers(shop, both)] == ["periodic", "schedule"]
    assert [(line, what) for line, what, _ in told(shop, f"{TASKS}{both}triggers: []\n")] == [
        (2, "a job has either 'trigger' or 'triggers', not both"),
        (3, "a job has either 'schedule' or 'triggers', not both"),
    ]


def test_a_job_and_each_of_its_triggers_can_be_paused(shop):
    text = f"{TASKS}pause_status: PAUSED\nschedule: {{cron: 0 2 * * *, pause_status: PAUSED}}\n"
    paused = job(shop, text)
    assert (paused.paused, paused.triggers[0].paused) == (True, True)
    assert not job(shop, TASKS).paused


def test_a_continuous_trigger_has_the_keys_of_a_file_arrival_where_it_has_a_path(shop):
    text = """\
        continuous:
          path: ticks
          pattern: "*.ndjson"
          max_files_per_trigger: 50
          task_retry_mode: NEVER
          backoff: {initial_seconds: 0.5, factor: 3, max_seconds: 60, jitter: 0}
          reset_after_seconds: 10
          min_interval_seconds: 0.2
        """
    (trigger,) = triggers(shop, text)
    assert trigger == Trigger(
        Continuous(
            source=FileArrival("ticks", pattern="*.ndjson", max_files_per_trigger=50),
            retry=False,
            backoff=Backoff(0.5, 3.0, 60.0, 0.0),
            reset_after_s=10.0,
            min_interval_s=0.2,
        ),
        "continuous",
    )
    assert triggers(shop, "continuous: {}\n")[0].on == Continuous()


def test_a_sql_condition_is_a_file_or_the_statement_and_stands_beside_the_kind_or_within_a_schedule(shop):
    text = """\
        triggers:
          - schedule: {cron: 0 2 * * *, sql_condition: {sql: gate.sql}}
          - periodic: {interval: 1, unit: MINUTES}
            sql_condition: {sql: "select max(id) from gold.a", trigger_mode: RESULT_VALUE_CHANGES}
        """
    in_file, as_text = triggers(shop, text)
    shown = "shop/job.yml"
    assert in_file.condition == SqlCondition(
        "select 1 where false", ConditionMode.QUERY_RETURNS_ROWS, Place(shown, 3), "shop/gate.sql"
    )
    assert as_text.condition == SqlCondition(
        "select max(id) from gold.a", ConditionMode.RESULT_VALUE_CHANGES, Place(shown, 5)
    )


WRONG_TRIGGERS = {
    "two kinds in one": (
        "{periodic: {interval: 1, unit: DAYS}, schedule: {cron: 0 2 * * *}}",
        "'periodic' stands beside 'schedule'",
    ),
    "two expressions": (
        "{schedule: {cron: 0 2 * * *, quartz_cron_expression: 0 0 2 * * ?}}",
        "'cron' stands beside 'quartz_cron_expression'",
    ),
    "no such zone": (
        "{schedule: {cron: 0 2 * * *, timezone_id: Europe/Berln}}",
        "there is no time zone 'Europe/Berln'",
    ),
    "a zone that is a path": (
        "{schedule: {cron: 0 2 * * *, timezone_id: ../../etc/passwd}}",
        "there is no time zone '../../etc/passwd'",
    ),
    "no unit": ("{periodic: {interval: 1}}", "'periodic' needs a 'unit'"),
    "no interval": ("{periodic: {unit: DAYS}}", "'periodic' needs an 'interval'"),
    "never": ("{periodic: {interval: 0, unit: DAYS}}", "'interval' must be from 1 to 11574, found 0"),
    "in a year that calendars do not have": (
        "{periodic: {interval: 1000000000, unit: WEEKS}}",
        "'interval' must be from 1 to 1653, found 1000000000",
    ),
    "no tables": ("{table_update: {table_names: []}}", "'table_update' needs 'table_names'"),
    "a table of no layer": ("{table_update: {table_names: [main.gold]}}", "there is no schema 'main'"),
    "a table of another catalog's": ("{table_update: {table_names: [a.b.c]}}", "there is no schema 'b'"),
    "no jobs": ("{job_completion: {jobs: []}}", "'job_completion' needs 'jobs'"),
    "a job by its id": (
        "{job_completion: {jobs: [{job_id: 5}]}}",
        "'job_id' means nothing here: jobs are known by their names",
    ),
    "a pause in words": (
        "{periodic: {interval: 1, unit: DAYS}, pause_status: paused}",
        "'pause_status' must be 'UNPAUSED' or 'PAUSED', found text 'paused'",
    ),
    "a filter without a folder": ("{continuous: {pattern: '*.csv'}}", "'pattern' means nothing without 'path'"),
    "a backoff that shrinks": (
        "{continuous: {backoff: {initial_seconds: 5, max_seconds: 2}}}",
        "the first pause of 5 s is longer than the longest, 2 s",
    ),
    "a maintenance window": (
        "{continuous: {maintenance_window: {start_hour: 1}}}",
        "'maintenance_window' means nothing here: there is no platform that maintains itself while jobs run",
    ),
    "a size of no unit": (
        "{file_arrival: {path: in, max_bytes_per_trigger: 10 apples}}",
        "'max_bytes_per_trigger' must be a size, found text '10 apples'",
    ),
    "a question that is not asked": (
        "{periodic: {interval: 1, unit: DAYS}, sql_condition: {}}",
        "'sql_condition' needs 'sql'",
    ),
    "a path outside of its kind": (
        "{path: in, periodic: {interval: 1, unit: DAYS}}",
        "'path' does not belong here",
    ),
}


@pytest.mark.parametrize("case", WRONG_TRIGGERS)
def test_a_trigger_that_is_wrong_is_told_with_its_line(shop, case):
    text, what = WRONG_TRIGGERS[case]
    assert [(line, said) for line, said, _ in told(shop, f"{TASKS}triggers:\n  - {text}\n")] == [(3, what)]


@pytest.mark.parametrize(
    ("trigger", "hint"),
    [
        ("{periodic: {interval: 1, unit: hours}}", "did you mean 'HOURS'?"),
        ("{periodic: {interval: 1, unit: HOURS}, pause_status: paused}", "did you mean 'PAUSED'?"),
        ("{schedule: {cron: 0 2 * * *, timezone_id: EUROPE/BERLIN}}", "did you mean 'Europe/Berlin'?"),
    ],
)
def test_a_word_in_another_case_is_told_as_it_is_written(shop, trigger, hint):
    assert [said[2] for said in told(shop, f"{TASKS}triggers:\n  - {trigger}\n")] == [hint]


def test_a_condition_within_a_continuous_trigger_is_read_and_left_to_the_check_of_the_job(shop):
    (trigger,) = job(shop, f"{TASKS}continuous: {{sql_condition: {{sql: SELECT 1}}}}\n").triggers
    assert (trigger.condition.sql, trigger.kind) == ("SELECT 1", "continuous")


def test_databricks_own_queries_and_warehouses_are_refused_with_what_to_write_instead(shop):
    text = (
        TASKS + "trigger:\n  sql_condition: {warehouse_id: x, sql_query_id: y}\n  periodic: {interval: 1, unit: DAYS}\n"
    )
    assert told(shop, text) == [
        (
            3,
            "'sql_query_id' means nothing here: there is no store of saved queries",
            "put the statement into a .sql file: `sql: gate.sql`",
        ),
        (3, "'warehouse_id' means nothing here: there is one warehouse, the daemon's own", "leave it out"),
    ]


# --- the job ----------------------------------------------------------------------------------------------


def test_a_job_says_how_many_runs_how_long_with_what_and_who_is_told(shop):
    text = """\
        tasks: [{task_key: a, sql: a.sql}]
        strict: true
        priority: -5
        max_concurrent_runs: 0
        timeout_seconds: 3600
        queue: {enabled: true, max_length: 10}
        compute: {threads: 2, memory_limit: 1GB}
        email_notifications:
          on_failure: [a@example.com, b@example.com, a@example.com]
          on_no_success: c@example.com
          no_alert_for_skipped_runs: true
        webhook_notifications:
          on_start: [{id: slack}]
          on_duration_warning_threshold_exceeded: [{id: slack}, teams]
        notification_settings: {no_alert_for_canceled_runs: true}
        health:
          rules:
            - {metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 60}
            - {metric: STREAMING_BACKLOG_FILES, value: 1000}
          no_success_within_seconds: 86400
        """
    read_ = job(shop, text)
    assert (read_.strict, read_.priority, read_.max_concurrent_runs, read_.timeout_s) == (True, -5, 0, 3600.0)
    assert read_.queue == Queue(enabled=True, max_length=10)
    assert read_.compute == Compute(2, "1000000000B")
    assert read_.notifications == Notifications(
        email={NotifyOn.FAILURE: ("a@example.com", "b@example.com"), NotifyOn.NO_SUCCESS: ("c@example.com",)},
        webhook={NotifyOn.START: ("slack",), NotifyOn.DURATION_WARNING: ("slack", "teams")},
        no_alert_for_skipped_runs=True,
        no_alert_for_canceled_runs=True,
    )
    assert read_.health == (
        HealthRule(HealthMetric.RUN_DURATION_SECONDS, 60.0),
        HealthRule(HealthMetric.STREAMING_BACKLOG_FILES, 1000.0),
        HealthRule(HealthMetric.NO_SUCCESS_WITHIN_SECONDS, 86400.0),
    )


def test_what_is_left_out_of_a_job_is_as_usual(shop):
    plain = job(shop, TASKS)
    assert (plain.notifications, plain.compute, plain.health, plain.queue) == (None, None, (), Queue())
    assert (plain.max_concurrent_runs, plain.priority, plain.strict, plain.timeout_s) == (1, 0, False, 0.0)


def test_a_parameter_knows_its_line_and_a_list_as_default_is_told_how_to_write_it(shop):
    text = "parameters:\n  - {name: a, default: x}\n  - name: b\n    default: [x, y]\n" + TASKS
    jobs, problems = read(shop, text)
    assert [parameter.place.line for parameter in jobs[0].parameters] == [2, 3]
    assert [(problem.line, problem.hint) for problem in problems] == [
        (4, "with commas between the values, as in a run's: default: Oct,Nov")
    ]


def test_a_parameter_says_what_a_value_may_be(shop):
    text = """\
        parameters:
          - {name: month, default: Oct, choices: [Oct, Nov]}
          - {name: brand, default: "", widget: combobox, choices: [a, b]}
          - {name: days, widget: multiselect, default: "Mo,Tu", choices: [Mo, Tu, We]}
          - {name: top, default: 5, type: integer, min: 1, max: 10}
          - {name: since, required: true, type: date}
          - {name: code, default: ab, pattern: "[a-z]+"}
          - {name: day, default: "{{job.start_time.iso_date}}"}
        """
    assert job(shop, TASKS + dedent(text)).parameters == (
        Parameter("month", "Oct", ("Oct", "Nov"), Widget.DROPDOWN),
        Parameter("brand", "", ("a", "b"), Widget.COMBOBOX),
        Parameter("days", "Mo,Tu", ("Mo", "Tu", "We"), Widget.MULTISELECT),
        Parameter("top", "5", type=ValueType.INTEGER, min=1.0, max=10.0),
        Parameter("since", "", type=ValueType.DATE, required=True),
        Parameter("code", "ab", pattern="[a-z]+"),
        Parameter("day", "{{job.start_time.iso_date}}"),
    )


WRONG_JOBS = {
    "more runs than there can be": (
        "max_concurrent_runs: 1001",
        "'max_concurrent_runs' must be from 0 to 1000, found 1001",
    ),
    "a length of no queue": ("queue: {enabled: false, max_length: 5}", "'max_length' means nothing without a queue"),
    "memory in words": ("compute: {memory_limit: much}", "'memory_limit' must be a size, found text 'much'"),
    "a place to spill": (
        "compute: {temp_directory: /scratch}",
        "'temp_directory' means nothing here: DuckDB fixes where it spills when the warehouse is opened",
    ),
    "memory of the job outside of its compute": ("memory_limit: 1GB", "'memory_limit' does not belong here"),
    "an absence outside of health": (
        "no_success_within_seconds: 5",
        "'no_success_within_seconds' does not belong here",
    ),
    "an absence among the rules": (
        "health: {rules: [{metric: NO_SUCCESS_WITHIN_SECONDS, value: 5}]}",
        "'NO_SUCCESS_WITHIN_SECONDS' is no rule",
    ),
    "rows that nobody has counted": (
        "health: {rules: [{metric: STREAMING_BACKLOG_RECORDS, op: GREATER_THAN, value: 5}]}",
        "'metric' means nothing here: what waits is files, whose rows are counted when they are read",
    ),
    "another comparison": (
        "health: {rules: [{metric: RUN_DURATION_SECONDS, op: LESS_THAN, value: 5}]}",
        "'op' must be 'GREATER_THAN', found text 'LESS_THAN'",
    ),
    "a rule of no value": ("health: {rules: [{metric: RUN_DURATION_SECONDS}]}", "a rule needs a 'value'"),
    "an address that is none": ("email_notifications: {on_failure: [me]}", "'me' is no mail address"),
    "a destination without an id": ("webhook_notifications: {on_failure: [{}]}", "a destination needs an 'id'"),
    "a flag of a task's": (
        "notification_settings: {alert_on_last_attempt: true}",
        "'alert_on_last_attempt' does not belong here",
    ),
    "clusters": ("job_clusters: []", "'job_clusters' means nothing here: one machine runs everything"),
    "a user to run as": (
        "run_as: {user_name: x}",
        "'run_as' means nothing here: one user runs everything, and who may write the job files may change it",
    ),
}


@pytest.mark.parametrize("case", WRONG_JOBS)
def test_a_key_of_a_job_that_is_wrong_is_told_with_its_line(shop, case):
    text, what = WRONG_JOBS[case]
    assert [(line, said) for line, said, _ in told(shop, f"{TASKS}{text}\n")] == [(2, what)]


# --- tasks ------------------------------------------------------------------------------------------------


def test_a_task_says_what_it_waits_for_and_how_it_is_tried_again(shop):
    text = """\
        tasks:
          - task_key: a
            condition_task: {op: GREATER_THAN, left: "{{job.parameters.n}}", right: 10}
          - task_key: b
            depends_on: [{task_key: a, outcome: "true"}, {task_key: c, outcome: false}, d]
            run_if: AT_LEAST_ONE_FAILED
            disabled: true
            sql: a.sql
            max_retries: 3
            min_retry_interval_millis: 500
            retry_on_timeout: true
            backoff: {max_seconds: 30}
            timeout_seconds: 1.5
            email_notifications: {on_success: [a@example.com]}
            notification_settings: {alert_on_last_attempt: true}
            health: {rules: [{metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 5}]}
        """
    a, b = job(shop, text).tasks
    assert a.action == Condition(ConditionOp.GREATER_THAN, "{{job.parameters.n}}", "10")
    assert (b.depends_on, b.outcomes) == (("a", "c", "d"), {"a": "true", "c": "false"})
    assert (b.run_if, b.disabled, b.retry_on_timeout) == (RunIf.AT_LEAST_ONE_FAILED, True, True)
    assert (b.max_retries, b.min_retry_interval_s, b.backoff, b.timeout_s) == (3, 0.5, Backoff(max_s=30.0), 1.5)
    assert b.notifications == Notifications({NotifyOn.SUCCESS: ("a@example.com",)}, alert_on_last_attempt=True)
    assert b.health == (HealthRule(HealthMetric.RUN_DURATION_SECONDS, 5.0),)


def test_a_sql_task_of_databricks_is_sql(shop):
    with_table = task(
        shop, "table: gold.a, sql_task: {file: {path: a.sql, source: WORKSPACE}, parameters: {m: '{{job.name}}'}}"
    )
    assert (with_table.sql, with_table.sql_file, with_table.table) == ("select 1", "shop/a.sql", "gold.a")
    assert (with_table.parameters, with_table.parameter_places) == (
        {"m": "{{job.name}}"},
        {"m": Place("shop/job.yml", 1)},
    )
    assert task(shop, "sql_task: {file: {path: a.sql}}").sql == "select 1"


def test_python_scripts_and_notebooks_are_files_beside_the_job(shop):
    assert task(shop, "python_task: {file: call.py, function: load}, parameters: {x: 1}").action == PythonCall(
        shop / "call.py", "shop/call.py", "load"
    )
    assert task(
        shop, "spark_python_task: {python_file: script.py, parameters: [--month, '{{job.parameters.m}}', 3]}"
    ).action == Script(shop / "script.py", "shop/script.py", ("--month", "{{job.parameters.m}}", "3"))
    assert task(
        shop, "notebook_task: {notebook_path: report.ipynb, base_parameters: {m: x}}, memory_limit: 512MiB"
    ).action == Notebook(shop / "report.ipynb", "shop/report.ipynb", {"m": "x"}, 512 << 20)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("def main(context): ...", None),
        ("async def main(context): ...", None),
        ("main = print", None),
        ("from shop import main", None),
        ("from shop import run as main", None),
        ("if True:\n    def main(context): ...", None),
        ("from shop import *", None),
        ('main = "\\d"', None),
        ("def mian(context): ...", (2, "there is no function 'main' in shop/call.py", "did you mean 'mian'?")),
        ("", (2, "there is no function 'main' in shop/call.py", "def main(context): ...")),
        (
            "class A:\n    def main(self): ...",
            (2, "there is no function 'main' in shop/call.py", "def main(context): ..."),
        ),
        ("def main(:", (2, "shop/call.py:1 is no Python: invalid syntax", None)),
    ],
)
def test_a_callable_that_is_not_there_is_found_before_the_run(shop, content, problem):
    (shop / "call.py").write_text(content)
    text = "tasks:\n  - {task_key: a, python_task: {file: call.py}}\n  - {task_key: b, python_task: {file: call.py}}\n"
    assert told(shop, text)[:1] == ([problem] if problem else [])


def test_a_loop_holds_a_task_and_its_inputs_are_a_list_or_a_reference(shop):
    inner = "task: {task_key: one, sql: a.sql, parameters: {m: '{{input}}'}, max_retries: 2}"
    loop = task(shop, f"for_each_task: {{inputs: '[\"Oct\", 1]', concurrency: 4, {inner}}}").action
    assert isinstance(loop, ForEach)
    assert (loop.inputs, loop.concurrency) == ('["Oct", 1]', 4)
    assert (loop.task.task_key, loop.task.parameters, loop.task.max_retries) == ("one", {"m": "{{input}}"}, 2)
    limited = task(shop, f"for_each_task: {{inputs: '[1]', {inner}}}, timeout_seconds: 5, max_retries: 2")
    assert (limited.timeout_s, limited.max_retries) == (5.0, 2)
    as_list = task(shop, f"for_each_task: {{inputs: [Oct, {{a: 1}}, [2]], {inner}}}").action
    assert isinstance(as_list, ForEach)
    assert as_list.inputs == '["Oct", {"a": 1}, [2]]'
    by_reference = task(shop, f"for_each_task: {{inputs: '{{{{job.trigger.file_arrival.files}}}}', {inner}}}").action
    assert isinstance(by_reference, ForEach)
    assert by_reference.inputs == "{{job.trigger.file_arrival.files}}"


def test_a_job_is_run_by_its_name(shop):
    text = "run_job_task: {job_name: web, job_parameters: {month: '{{job.parameters.m}}'}}"
    assert task(shop, text).action == RunJob("web", {"month": "{{job.parameters.m}}"})


def test_an_ingest_may_follow_files_that_grow(shop):
    arrival = "trigger: {file_arrival: {path: in}}\n"
    text = f"{arrival}tasks: [{{task_key: a, table: bronze.a, ingest: {{format: json, tail: true}}}}]"
    assert job(shop, text).tasks[0].ingest.tail
    assert told(shop, text.replace("json", "parquet")) == [
        (2, "a parquet file does not grow by whole lines", "'tail' is for csv and json (NDJSON)")
    ]


WRONG_TASKS = {
    "two kinds": (
        "sql: a.sql, run_job_task: {job_name: b}",
        "a task has either 'sql' or 'run_job_task', not both",
    ),
    "two actions": (
        "python_task: {file: call.py}, run_job_task: {job_name: b}",
        "a task has either 'python_task' or 'run_job_task', not both",
    ),
    "a table of a script": (
        "spark_python_task: {python_file: script.py}, table: gold.a",
        "'table' means nothing with 'spark_python_task'",
    ),
    "parameters of a notebook in another place": (
        "notebook_task: {notebook_path: report.ipynb}, parameters: {a: b}",
        "'parameters' means nothing with 'notebook_task'",
    ),
    "memory of a query": ("sql: a.sql, memory_limit: 1GB", "'memory_limit' means nothing with 'sql'"),
    "a condition that is tried again": (
        "condition_task: {op: EQUAL_TO, left: a, right: b}, max_retries: 2",
        "'max_retries' means nothing with 'condition_task'",
    ),
    "a loop in a loop": (
        (
            "for_each_task: {inputs: '[1]', task: {task_key: b, for_each_task: {inputs: '[1]', task:"
            " {task_key: c, sql: a.sql}}}}"
        ),
        "a loop cannot stand in a loop",
    ),
    "a loop over nothing": ("for_each_task: {task: {task_key: b, sql: a.sql}}", "'for_each_task' needs 'inputs'"),
    "a loop over a word": (
        "for_each_task: {inputs: Oct, task: {task_key: b, sql: a.sql}}",
        "'Oct' is neither a JSON array nor a reference",
    ),
    "a loop of nothing": ("for_each_task: {inputs: '[1]'}", "'for_each_task' needs a 'task'"),
    "a dependency within a loop": (
        "for_each_task: {inputs: '[1]', task: {task_key: b, sql: a.sql, depends_on: [a]}}",
        "'depends_on' means nothing inside of a loop",
    ),
    "too many at a time": (
        "for_each_task: {inputs: '[1]', concurrency: 101, task: {task_key: b, sql: a.sql}}",
        "'concurrency' must be from 1 to 100, found 101",
    ),
    "half a condition": ("condition_task: {op: EQUAL_TO, left: a}", "a condition needs 'right'"),
    "an outcome that is neither": (
        "sql: a.sql, depends_on: [{task_key: b, outcome: maybe}]",
        "'outcome' must be \"true\" or \"false\", found text 'maybe'",
    ),
    "a job by its id": (
        "run_job_task: {job_id: 12}",
        "'job_id' means nothing here: jobs are known by their names",
    ),
    "a script that is not there": ("spark_python_task: {python_file: x.py}", "there is no file shop/x.py"),
    "a script elsewhere": (
        "spark_python_task: {python_file: ../x.py}",
        "'../x.py' is not below the job's folder",
    ),
    "a notebook without its suffix": (
        "notebook_task: {notebook_path: /Workspace/report}",
        "'/Workspace/report' is not the name of a .ipynb file",
    ),
    "a function of a module": (
        "python_task: {file: call.py, function: a.b}",
        "'a.b' cannot be the name of a function",
    ),
    "a file from git": (
        "sql_task: {file: {path: a.sql, source: GIT}}",
        "'source' means nothing here: files are read from beside the job file",
    ),
    "parameters in two places": (
        "sql_task: {file: {path: a.sql}, parameters: {a: b}}, parameters: {c: d}",
        "'parameters' stands beside those of the 'sql_task'",
    ),
    "dbt": (
        "dbt_task: {commands: [dbt run]}",
        (
            "'dbt_task' means nothing here: dbt opens the warehouse file itself, which DuckDB allows to one"
            " process only, and that is the daemon"
        ),
    ),
    "a wheel": ("python_wheel_task: {}", "'python_wheel_task' means nothing here: code is a file beside the job"),
    "a cluster": (
        "sql: a.sql, existing_cluster_id: x",
        "'existing_cluster_id' means nothing here: one machine runs everything",
    ),
    "an absence of a task": (
        "sql: a.sql, health: {no_success_within_seconds: 5}",
        "'no_success_within_seconds' does not belong here",
    ),
    "a backlog of a task": (
        "sql: a.sql, health: {rules: [{metric: STREAMING_BACKLOG_FILES, value: 5}]}",
        "'STREAMING_BACKLOG_FILES' is about a job",
    ),
    "a reference in a number's place": (
        "sql: a.sql, timeout_seconds: '{{job.parameters.t}}'",
        "'timeout_seconds' must be a number, found text '{{job.parameters.t}}'",
    ),
    "a reference in a file's name": (
        "sql: '{{job.name}}.sql'",
        "'{{job.name}}.sql' holds a reference, which is resolved in the values that a task gets, and not here",
    ),
}


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_a_key_of_a_task_that_is_wrong_is_told_with_its_line(shop, case):
    text, what = WRONG_TASKS[case]
    assert [(line, said) for line, said, _ in told(shop, f"tasks:\n  - {{task_key: a, {text}}}\n")] == [(2, what)]


# --- whatever is written ----------------------------------------------------------------------------------

LENGTH = st.integers(0, len(EVERYTHING))
INSTEAD = [
    "",
    "\n",
    ":",
    "[",
    "]",
    "-",
    "{a: b}",
    "'",
    "null",
    "1e9",
    "!!set",
    "{{x}}",
    "shop",
    "b",
    "${var.z}",
    ", x: [",
]


@given(LENGTH, LENGTH, st.sampled_from(INSTEAD))
def test_a_file_of_all_keys_that_is_damaged_anywhere_can_be_read_and_checked(tmp_path_factory, begin, end, instead):
    source = tree.Source(tmp_path_factory.getbasetemp() / "job.yml", "job.yml", ".")
    text = EVERYTHING[:begin] + instead + EVERYTHING[max(begin, end) :]
    for whole in (text, text.rpartition("resources:")[0]):
        jobs = jobfiles.jobs_of_file.read(whole, source)
        jobcheck.problems(jobs)
        assert jobs or source.problems
