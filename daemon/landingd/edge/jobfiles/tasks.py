"""Read one task: what it runs, which table it makes, what it waits for and how often it is tried."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from landingd.edge.jobfiles import later
from landingd.edge.jobfiles.expectations import read_expectations
from landingd.edge.jobfiles.fields import Fields, Word, is_outside
from landingd.edge.jobfiles.ingest import read_ingest
from landingd.edge.jobfiles.tree import Keyed, Node, Source
from landingd.errors import did_you_mean
from landingd.model import Task

LAYERS = ("bronze", "silver", "gold")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SQL_BYTES_MAX = 1 << 20

_TASK_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


def read_task(node: Node, source: Source) -> Task:
    """The task as far as it can be read; its key is "" if it has none."""
    fields = Fields(node, source, called="a task")
    depends_on = tuple(_depends_on(fields))
    parameters = _parameters(fields)
    sql, sql_file = _sql(fields)
    fields.text("description")  # for whoever reads the file
    task = Task(
        task_key=_task_key(fields),
        place=source.place(node.line),
        depends_on=tuple(word.text for word in depends_on),
        ingest=read_ingest(fields),
        sql=sql,
        sql_file=sql_file,
        table=_table(fields),
        refresh=fields.choice("refresh", ("auto", "append", "full"), later=later.REFRESHES),
        expectations=read_expectations(fields),
        parameters={name: word.text for name, word in parameters.items()},
        max_retries=fields.whole("max_retries", default=0, least=-1),
        min_retry_interval_s=fields.whole("min_retry_interval_millis", default=0, least=0) / 1000,
        timeout_s=fields.number("timeout_seconds", default=0.0),
        depends_on_places=tuple(source.place(word.line) for word in depends_on),
        parameter_places={name: source.place(word.line) for name, word in parameters.items()},
    )
    _check_kind(fields, task)
    fields.done(later=later.TASK, elsewhere=later.ELSEWHERE["task"])
    return task


def _task_key(fields: Fields) -> str:
    key = fields.text("task_key")
    if fields.lacks("task_key"):
        fields.wrong("task_key", "a task needs a 'task_key'")
    elif key is not None and not _TASK_KEY.fullmatch(key):
        fields.wrong("task_key", f"{key!r} cannot be a task_key", "letters, digits, _ and -, at most 100")
    return key or ""


def _check_kind(fields: Fields, task: Task) -> None:
    ingest, sql = fields.has("ingest"), fields.has("sql")
    if ingest and sql:
        fields.wrong("sql", "a task has either 'ingest' or 'sql', not both")
    elif fields.lacks("ingest") and fields.lacks("sql") and not later.TASK_KINDS & set(fields.keys()):
        fields.wrong("task_key", "a task needs either 'ingest' or 'sql'")
    if ingest and not fields.has("table"):
        fields.wrong("ingest", "an ingest task needs a 'table'", "for example: table: bronze.events")
    if task.expectations and not fields.has("table"):
        fields.wrong("expectations", "'expectations' are about the rows of a table, and this task has none")
    if task.refresh != "auto" and (ingest or not fields.has("table")):
        fields.wrong("refresh", "'refresh' is for a task with 'sql' and 'table'", "leave it out")


def _depends_on(fields: Fields) -> Iterable[Word]:
    for item in fields.items("depends_on"):
        if isinstance(item, Keyed):
            other = Fields(item, fields.source, called="a dependency")
            key = other.text("task_key")
            if other.lacks("task_key"):
                other.wrong("task_key", "a dependency needs a 'task_key'")
            elif key is not None:
                yield Word(key, item.line)
            other.done(later=later.DEPENDENCY)
        elif word := fields.word(item, "a dependency"):
            yield word


def _parameters(fields: Fields) -> dict[str, Word]:
    """Values may hold references; whether these can be resolved is decided with the whole job in hand."""
    parameters = fields.texts_by_key("parameters", references=True)
    seen: dict[str, str] = {}
    for name, word in parameters.items():
        if not IDENTIFIER.fullmatch(name):
            what = f"{name!r} cannot be the name of a parameter"
            fields.source.wrong(word.line, what, "SQL reads it as $name: letters, digits and _")
        elif (other := seen.setdefault(name.lower(), name)) != name:
            what = f"parameters {other!r} and {name!r} are the same to SQL, which does not look at case"
            fields.source.wrong(word.line, what)
    return parameters


def _table(fields: Fields) -> str | None:
    table = fields.text("table")
    if table is None:
        return None
    schema, dot, name = table.partition(".")
    if not dot or not IDENTIFIER.fullmatch(name):
        fields.wrong("table", f"{table!r} cannot be the name of a table", "for example: table: silver.events")
    elif schema.lower() == "meta":
        fields.wrong("table", "schema 'meta' is landingd's own", f"use {_layers()}")
    elif schema not in LAYERS:
        hint = did_you_mean(schema.lower(), LAYERS) or f"use {_layers()}"
        fields.wrong("table", f"there is no schema {schema!r}", hint)
    return table


def _layers() -> str:
    return f"{', '.join(LAYERS[:-1])} or {LAYERS[-1]}"


# --- SQL --------------------------------------------------------------------------------------------------


def _sql(fields: Fields) -> tuple[str | None, str | None]:
    """The text of the SQL file, and its name for people."""
    name = fields.text("sql")
    if name is None:
        return None, None
    if not name.endswith(".sql") or "\n" in name:
        hint = "put the statement into a .sql file beside the job file, and name that"
        fields.wrong("sql", f"{name!r} is not the name of a .sql file", hint)
        return None, None
    if is_outside(name):
        fields.wrong("sql", f"{name!r} is not below the job's folder")
        return None, None
    shown = (PurePosixPath(fields.source.shown_folder) / name).as_posix()
    return _sql_text(fields, fields.source.path.parent / name, shown), shown


def _sql_text(fields: Fields, path: Path, shown: str) -> str | None:
    try:
        if not path.is_file():
            hint = did_you_mean(path.name, [other.name for other in path.parent.glob("*.sql")])
            fields.wrong("sql", f"there is no file {shown}", hint)
            return None
        with path.open("rb") as file:
            content = file.read(SQL_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fields.wrong("sql", f"{shown} is not UTF-8 (line {line})")
    except OSError as error:
        fields.wrong("sql", f"{shown} cannot be read: {error.strerror}")
    else:
        if len(content) > SQL_BYTES_MAX:
            fields.wrong("sql", f"{shown} is larger than {SQL_BYTES_MAX} bytes")
        elif text.strip():
            return text
        else:
            fields.wrong("sql", f"{shown} is empty")
    return None
