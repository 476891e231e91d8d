"""Every key that Jobs API 2.2 has is read, or refused with the reason why it means nothing on one box."""

import dataclasses

import pytest
from databricks.sdk.service import jobs as api

from landingd.edge import jobfiles
from landingd.edge.jobfiles import refused

TASKS = "tasks:\n  - {task_key: a, sql: a.sql}\n"
"""By class of the API: a job file with one of its keys, whatever its value."""
FRAMES = {
    api.JobSettings: "KEY: VALUE\n",
    api.Task: "tasks:\n  - KEY: VALUE\n",
    api.TriggerSettings: TASKS + "trigger: {KEY: VALUE}\n",
    api.TriggerConfiguration: TASKS + "triggers: [{KEY: VALUE}]\n",
    api.CronSchedule: TASKS + "schedule: {KEY: VALUE}\n",
    api.CronTriggerConfiguration: TASKS + "triggers: [{schedule: {KEY: VALUE}}]\n",
    api.Continuous: TASKS + "continuous: {KEY: VALUE}\n",
    api.ContinuousTriggerConfiguration: TASKS + "triggers: [{continuous: {KEY: VALUE}}]\n",
    api.FileArrivalTriggerConfiguration: TASKS + "trigger: {file_arrival: {KEY: VALUE}}\n",
    api.PeriodicTriggerConfiguration: TASKS + "trigger: {periodic: {KEY: VALUE}}\n",
    api.TableUpdateTriggerConfiguration: TASKS + "trigger: {table_update: {KEY: VALUE}}\n",
    api.SqlConditionConfiguration: TASKS + "schedule: {cron: '0 2 * * *', sql_condition: {KEY: VALUE}}\n",
    api.JobParameterDefinition: TASKS + "parameters: [{KEY: VALUE}]\n",
    api.QueueSettings: TASKS + "queue: {KEY: VALUE}\n",
    api.JobEmailNotifications: TASKS + "email_notifications: {KEY: VALUE}\n",
    api.WebhookNotifications: TASKS + "webhook_notifications: {KEY: VALUE}\n",
    api.Webhook: TASKS + "webhook_notifications: {on_failure: [{KEY: VALUE}]}\n",
    api.JobNotificationSettings: TASKS + "notification_settings: {KEY: VALUE}\n",
    api.JobsHealthRules: TASKS + "health: {KEY: VALUE}\n",
    api.JobsHealthRule: TASKS + "health: {rules: [{KEY: VALUE}]}\n",
    api.TaskDependency: "tasks: [{task_key: a, sql: a.sql, depends_on: [{KEY: VALUE}]}]\n",
    api.TaskEmailNotifications: "tasks: [{task_key: a, sql: a.sql, email_notifications: {KEY: VALUE}}]\n",
    api.TaskNotificationSettings: "tasks: [{task_key: a, sql: a.sql, notification_settings: {KEY: VALUE}}]\n",
    api.ConditionTask: "tasks: [{task_key: a, condition_task: {KEY: VALUE}}]\n",
    api.ForEachTask: "tasks: [{task_key: a, for_each_task: {KEY: VALUE}}]\n",
    api.RunJobTask: "tasks: [{task_key: a, run_job_task: {KEY: VALUE}}]\n",
    api.SqlTask: "tasks: [{task_key: a, sql_task: {KEY: VALUE}}]\n",
    api.SqlTaskFile: "tasks: [{task_key: a, sql_task: {file: {KEY: VALUE}}}]\n",
    api.NotebookTask: "tasks: [{task_key: a, notebook_task: {KEY: VALUE}}]\n",
    api.SparkPythonTask: "tasks: [{task_key: a, spark_python_task: {KEY: VALUE}}]\n",
}
KEYS = [(kind, field.name) for kind in FRAMES for field in dataclasses.fields(kind)]
IN_A_NUTSHELL = {"DbtTask", "PipelineTask", "MaintenanceWindow", "ModelTriggerConfiguration"}
"""Refused whole, by the key that they stand under."""


def filled(kind, key, value):
    return FRAMES[kind].replace("KEY", key).replace("VALUE", value)


@pytest.mark.parametrize(("kind", "key"), KEYS, ids=[f"{kind.__name__}.{key}" for kind, key in KEYS])
def test_every_key_of_the_api_is_read_or_refused_with_the_reason(tmp_path, kind, key):
    file = tmp_path / "job.yml"
    for value in ("x", "7", "[x]", "{x: y}"):
        file.write_text(filled(kind, key, value))
        _, problems = jobfiles.read_job(file)
        for problem in problems:
            assert "not valid YAML" not in problem.what
            assert f"unknown key {key!r}" not in problem.what
            assert f"{key!r} does not belong here" not in problem.what
            assert "not supported yet" not in problem.what


@pytest.mark.parametrize("kind", [api.Task, api.JobSettings])
def test_no_key_is_both_read_and_refused(tmp_path, kind):
    table = refused.TASK if kind is api.Task else refused.JOB
    for key in table:
        file = tmp_path / "job.yml"
        file.write_text(filled(kind, key, "x"))
        _, problems = jobfiles.read_job(file)
        (told,) = [problem for problem in problems if problem.what.startswith(f"{key!r} means nothing here: ")]
        assert told.what.removeprefix(f"{key!r} means nothing here: ") == table[key].reason
        assert told.hint == table[key].hint


def test_every_class_of_the_api_below_a_job_is_looked_at_or_refused_whole():
    """What the API adds in a later version of its package shows up here."""
    seen: set[type] = set()
    to_see: list[type] = [api.JobSettings]
    while to_see:
        kind = to_see.pop()
        if kind in seen or kind.__name__ in IN_A_NUTSHELL:
            continue
        seen.add(kind)
        for field in dataclasses.fields(kind):
            if field.name not in refused_keys():
                names = str(field.type).replace("[", " ").replace("]", " ").split()
                found = [getattr(api, name, None) for name in names]
                to_see += [one for one in found if dataclasses.is_dataclass(one)]
    assert {kind.__name__ for kind in seen} <= {kind.__name__ for kind in FRAMES}


def refused_keys():
    tables = (refused.JOB, refused.TASK, refused.TRIGGER, refused.CONTINUOUS, refused.SQL_TASK, refused.RUN_JOB_TASK)
    return {key for table in tables for key in table}


@pytest.mark.parametrize("status", ["PAUSED", "UNPAUSED"])
@pytest.mark.parametrize("metric", [metric.value for metric in api.JobsHealthMetric])
def test_the_apis_words_are_ours_or_refused(tmp_path, status, metric):
    rule = f"health: {{rules: [{{metric: {metric}, op: GREATER_THAN, value: 1}}]}}\n"
    file = tmp_path / "job.yml"
    (tmp_path / "a.sql").write_text("select 1")
    file.write_text(f"{TASKS}trigger: {{file_arrival: {{path: in}}, pause_status: {status}}}\n{rule}")
    (job,), problems = jobfiles.read_job(file)
    assert job.triggers[0].paused is (status == "PAUSED")
    if metric == "STREAMING_BACKLOG_RECORDS":
        assert [problem.what.partition(": ")[0] for problem in problems] == ["'metric' means nothing here"]
    else:
        assert ([rule.metric.value for rule in job.health], problems) == ([metric], [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (api.RunIf, "tasks: [{task_key: a, sql: a.sql, run_if: WORD}]"),
        (api.ConditionTaskOp, "tasks: [{task_key: a, condition_task: {op: WORD, left: '1', right: '2'}}]"),
        (
            api.PeriodicTriggerConfigurationTimeUnit,
            TASKS + "trigger: {periodic: {interval: 1, unit: WORD}}",
        ),
        (
            api.SqlConditionTriggerMode,
            TASKS + "schedule: {cron: '0 2 * * *', sql_condition: {sql: select 1, trigger_mode: WORD}}",
        ),
        (api.Condition, TASKS + "trigger: {table_update: {table_names: [gold.a], condition: WORD}}"),
        (api.TaskRetryMode, TASKS + "continuous: {task_retry_mode: WORD}"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_word_of_the_apis_enumerations_is_read(tmp_path, words, text):
    (tmp_path / "a.sql").write_text("select 1")
    for word in words:
        file = tmp_path / "job.yml"
        file.write_text(text.replace("WORD", word.value))
        assert jobfiles.read_job(file)[1] == []
