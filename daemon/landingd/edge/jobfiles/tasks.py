"""Read one task: what it does, which table it makes, what it waits for and how often it is tried."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.actions import IN_A_PROCESS, KINDS, check_source, named_values, read_action
from landingd.edge.jobfiles.alerts import read_health, read_notifications
from landingd.edge.jobfiles.expectations import read_expectations
from landingd.edge.jobfiles.fields import Fields, Word
from landingd.edge.jobfiles.files import read_sql
from landingd.edge.jobfiles.ingest import read_ingest
from landingd.edge.jobfiles.tables import read_table_name
from landingd.edge.jobfiles.tree import Keyed, Node, Source
from landingd.edge.jobfiles.triggers import read_backoff
from landingd.model import RunIf, Task

OUTCOMES = ("true", "false")

_TASK_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TRIES = ("max_retries", "min_retry_interval_millis", "retry_on_timeout", "backoff")
_OF_A_TABLE = ("table", "refresh", "expectations")
_WITH_PARAMETERS = ("sql", "sql_task", "ingest", "python_task")
_WHERE_VALUES_GO = {
    "notebook_task": "'base_parameters' of the notebook_task",
    "spark_python_task": "'parameters' of the spark_python_task, a list",
    "run_job_task": "'job_parameters' of the run_job_task",
    "for_each_task": "the task inside of the loop",
}


def read_task(node: Node, source: Source) -> Task:
    """The task as far as it can be read; its key is "" if it has none."""
    fields = Fields(node, source, called="a task")
    depends_on = tuple(_depends_on(fields))
    statement = _statement(fields)
    kind, action = read_action(fields, _read_nested)
    fields.text("description")  # for whoever reads the file
    task = Task(
        task_key=_task_key(fields),
        place=source.place(node.line),
        depends_on=tuple(other.key.text for other in depends_on),
        outcomes={other.key.text: other.outcome for other in depends_on if other.outcome},
        run_if=fields.member("run_if", RunIf),
        disabled=fields.flag("disabled", default=False),
        ingest=read_ingest(fields),
        sql=statement.sql,
        sql_file=statement.file,
        table=_table(fields),
        refresh=fields.choice("refresh", ("auto", "append", "full"), later=refused.REFRESHES_LATER),
        expectations=read_expectations(fields),
        action=action,
        parameters={name: word.text for name, word in statement.parameters.items()},
        max_retries=fields.whole("max_retries", default=0, least=-1),
        min_retry_interval_s=fields.whole("min_retry_interval_millis", default=0, least=0) / 1000,
        retry_on_timeout=fields.flag("retry_on_timeout", default=False),
        backoff=read_backoff(fields),
        timeout_s=fields.number("timeout_seconds", default=0.0),
        notifications=read_notifications(fields, of_task=True),
        health=read_health(fields, of_task=True),
        depends_on_places=tuple(source.place(other.key.line) for other in depends_on),
        parameter_places={name: source.place(word.line) for name, word in statement.parameters.items()},
    )
    _check_kind(fields, kind)
    _check_table(fields, task)
    fields.done(refused=refused.TASK, elsewhere=refused.ELSEWHERE["task"])
    return task


def _read_nested(node: Node, source: Source) -> Task:
    """The task inside of a loop, whose place in the job is the loop's."""
    if isinstance(node, Keyed):
        for key in ("depends_on", "run_if", "disabled"):
            if key in node.entries:
                what = f"{key!r} means nothing inside of a loop"
                source.wrong(node.entries[key].line, what, "give it to the task with 'for_each_task'")
        if "for_each_task" in node.entries:
            hint = "`run_job_task` may run a job that has one"
            source.wrong(node.entries["for_each_task"].line, "a loop cannot stand in a loop", hint)
    return read_task(node, source)


def _task_key(fields: Fields) -> str:
    key = fields.text("task_key")
    if fields.lacks("task_key"):
        fields.wrong("task_key", "a task needs a 'task_key'")
    elif key is not None and not _TASK_KEY.fullmatch(key):
        fields.wrong("task_key", f"{key!r} cannot be a task_key", "letters, digits, _ and -, at most 100")
    return key or ""


# --- what it does -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Statement:
    """SQL, where it is from, and what its parameters are; the parameters are those of any task."""

    sql: str | None
    file: str | None
    parameters: dict[str, Word]


def _statement(fields: Fields) -> _Statement:
    """`sql: x.sql`, or Databricks' `sql_task: {file: {path: x.sql}, parameters}`."""
    sql, file = read_sql(fields, "sql")
    parameters = named_values(fields, "parameters")
    task = fields.fields("sql_task")
    if task is None:
        return _Statement(sql, file, parameters)
    inner = task.fields("file")
    if inner is not None:
        sql, file = read_sql(inner, "path")
        check_source(inner)
        if inner.lacks("path"):
            inner.wrong("path", "'file' needs a 'path'", "a .sql file beside the job file")
        inner.done()
    elif task.lacks("file") and not set(task.keys()) & {"query", "alert", "dashboard"}:
        task.wrong("file", "'sql_task' needs a 'file'", "file: {path: x.sql}")
    parameters = parameters | named_values(task, "parameters")
    if task.has("parameters") and fields.has("parameters"):
        fields.wrong("parameters", "'parameters' stands beside those of the 'sql_task'", "put all of them there")
    task.done(refused=refused.SQL_TASK)
    return _Statement(sql, file, parameters)


def _check_kind(fields: Fields, kind: str | None) -> None:
    """One kind, and none of the keys that would be ignored with it."""
    given = [key for key in KINDS if fields.has(key)]
    if fields.lacks("sql") and not given and not refused.TASK_KINDS.keys() & set(fields.keys()):
        fields.wrong("task_key", "a task needs a kind: 'ingest', 'sql' or another one", f"one of {', '.join(KINDS)}")
    if len(given) > 1 and given[0] in ("sql", "ingest", "sql_task"):
        first, second = ("ingest", "sql") if {"ingest", "sql"} <= set(given) else (given[0], given[1])
        fields.wrong(second, f"a task has either {first!r} or {second!r}, not both")
    name = kind or (given[0] if given else "sql")
    if kind is not None:
        fields.means_nothing(_OF_A_TABLE, f"with {kind!r}", "only SQL and ingest tasks make tables")
    if name not in _WITH_PARAMETERS:
        where = _WHERE_VALUES_GO.get(name)
        fields.means_nothing(("parameters",), f"with {name!r}", where and f"its values go into {where}")
    if name == "condition_task":
        fields.means_nothing((*_TRIES, "timeout_seconds"), f"with {name!r}", "a condition is decided at once")
    if fields.entry("memory_limit") is not None and name not in IN_A_PROCESS:
        hint = f"it is for {' and '.join(IN_A_PROCESS)}; `compute: {{memory_limit}}` of the job is for the others"
        fields.means_nothing(("memory_limit",), f"with {name!r}", hint)


def _check_table(fields: Fields, task: Task) -> None:
    ingest = fields.has("ingest")
    if ingest and not fields.has("table"):
        fields.wrong("ingest", "an ingest task needs a 'table'", "for example: table: bronze.events")
    if task.action is not None:
        return
    if task.expectations and not fields.has("table"):
        fields.wrong("expectations", "'expectations' are about the rows of a table, and this task has none")
    if task.refresh != "auto" and (ingest or not fields.has("table")):
        fields.wrong("refresh", "'refresh' is for a task with 'sql' and 'table'", "leave it out")


def _table(fields: Fields) -> str | None:
    table = fields.text("table")
    if table is None:
        return None
    line = entry.line if (entry := fields.entry("table")) else fields.line
    read_table_name(table, line, fields.source)
    return table


# --- what it waits for ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dependency:
    key: Word
    outcome: str = ""


def _depends_on(fields: Fields) -> Iterable[_Dependency]:
    for item in fields.items("depends_on"):
        if isinstance(item, Keyed):
            other = Fields(item, fields.source, called="a dependency")
            key = other.text("task_key")
            outcome = _outcome(other)
            if other.lacks("task_key"):
                other.wrong("task_key", "a dependency needs a 'task_key'")
            elif key is not None:
                yield _Dependency(Word(key, item.line), outcome)
            other.done()
        elif word := fields.word(item, "a dependency"):
            yield _Dependency(word)


def _outcome(fields: Fields) -> str:
    """`outcome`, as Databricks has it a text; a plain boolean means the same."""
    entry = fields.entry("outcome")
    if entry is None:
        return ""
    word = fields.word(entry.node, "'outcome'")
    outcome = word.text.lower() if word else ""
    if word and outcome not in OUTCOMES:
        fields.wrong("outcome", f'\'outcome\' must be "true" or "false", found text {word.text!r}')
        return ""
    return outcome
