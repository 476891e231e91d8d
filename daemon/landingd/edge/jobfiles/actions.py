"""Read what a task does that is neither an ingest nor SQL of its own: one key for each kind of task."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.fields import Fields, Word
from landingd.edge.jobfiles.files import check_function, find_file
from landingd.edge.jobfiles.tables import IDENTIFIER
from landingd.edge.jobfiles.tree import Keyed, Listed, Node, Scalar, Source
from landingd.model import Action, Condition, ConditionOp, ForEach, Notebook, PythonCall, RunJob, Script, Task

CONCURRENCY_MAX = 100
IN_A_PROCESS = ("spark_python_task", "notebook_task")

_SOURCES = ("WORKSPACE", "GIT")
ReadTask = Callable[[Node, Source], Task]


def read_action(task: Fields, read_task: ReadTask) -> tuple[str | None, Action | None]:
    """The kind, and the action as far as it could be read. `read_task` reads the task inside of a loop."""
    found: list[tuple[str, Action | None]] = []
    for key, read in _KINDS.items():
        inner = task.fields(key)
        if inner is not None:
            found.append((key, read(inner, task)))
            inner.done(refused=_REFUSED.get(key, {}))
    loop = task.fields("for_each_task")
    if loop is not None:
        found.append(("for_each_task", _for_each(loop, read_task)))
        loop.done()
    if len(found) > 1:
        task.wrong(found[1][0], f"a task has either {found[0][0]!r} or {found[1][0]!r}, not both")
    return found[0] if found else (None, None)


def check_source(fields: Fields) -> None:
    """`source`: a file beside the job file is Databricks' WORKSPACE; GIT means nothing here."""
    if fields.choice("source", _SOURCES) == "GIT":
        fields.refuse("source", refused.GIT)


def named_values(fields: Fields, key: str) -> dict[str, Word]:
    """A mapping of parameters' names to values, which may hold references."""
    values = fields.texts_by_key(key, references=True)
    seen: dict[str, str] = {}
    for name, word in values.items():
        if not IDENTIFIER.fullmatch(name):
            what = f"{name!r} cannot be the name of a parameter"
            fields.source.wrong(word.line, what, "SQL reads it as $name: letters, digits and _")
        elif (other := seen.setdefault(name.lower(), name)) != name:
            what = f"parameters {other!r} and {name!r} are the same to SQL, which does not look at case"
            fields.source.wrong(word.line, what)
    return values


def _texts(words: Mapping[str, Word]) -> dict[str, str]:
    return {name: word.text for name, word in words.items()}


# --- the kinds --------------------------------------------------------------------------------------------


def _condition(fields: Fields, _: Fields) -> Action | None:
    text = fields.choice("op", [op.value for op in ConditionOp])
    for key in ("op", "left", "right"):
        if fields.lacks(key):
            hint = 'for example: {op: GREATER_THAN, left: "{{tasks.count.values.n}}", right: "0"}'
            fields.wrong(key, f"a condition needs {key!r}", hint)
    return Condition(ConditionOp(text), fields.operand("left"), fields.operand("right"))


def _run_job(fields: Fields, _: Fields) -> Action | None:
    parameters = _texts(named_values(fields, "job_parameters"))
    if not fields.has("job_name"):
        name = _resolved_id(fields)
        if name is not None:
            return RunJob(name, parameters)
        if not fields.has("job_id"):
            fields.wrong("job_name", "'run_job_task' needs a 'job_name'", "job_name: the name of the job")
        return None
    name = fields.text("job_name")
    return RunJob(name, parameters) if name else None


def _resolved_id(fields: Fields) -> str | None:
    """A bundle's `${resources.jobs.x.id}` has become the job's name by now; an id of Databricks is a number."""
    if not fields.has("job_id"):
        return None
    entry = fields.entry("job_id")
    node = entry.node if entry else None
    if isinstance(node, Scalar) and isinstance(node.value, str) and "${" not in node.value:
        return node.value
    fields.refuse("job_id", refused.RUN_JOB_TASK["job_id"])
    return None


def _python(fields: Fields, _: Fields) -> Action | None:
    function = fields.text("function") or "main"
    found = _file(fields, "file", ".py")
    if found is None:
        return None
    if IDENTIFIER.fullmatch(function):
        check_function(fields, *found, function)
    else:
        fields.wrong("function", f"{function!r} cannot be the name of a function")
    return PythonCall(*found, function)


def _script(fields: Fields, task: Fields) -> Action | None:
    check_source(fields)
    arguments = tuple(word.text for word in fields.texts("parameters", references=True) or ())
    found = _file(fields, "python_file", ".py")
    memory_bytes = task.size("memory_limit")
    return Script(*found, arguments, memory_bytes) if found else None


def _notebook(fields: Fields, task: Fields) -> Action | None:
    check_source(fields)
    parameters = _texts(named_values(fields, "base_parameters"))
    found = _file(fields, "notebook_path", ".ipynb")
    memory_bytes = task.size("memory_limit")
    return Notebook(*found, parameters, memory_bytes) if found else None


def _file(fields: Fields, key: str, suffix: str) -> tuple[Path, str] | None:
    if fields.lacks(key):
        fields.wrong(key, f"{fields.called} needs {key!r}", f"the name of a {suffix} file beside the job file")
    hint = f"a {suffix} file beside the job file"
    if suffix == ".ipynb":
        hint += ", as which Databricks exports a notebook of its own format"
    return find_file(fields, key, suffix, hint)


def _for_each(fields: Fields, read_task: ReadTask) -> Action | None:
    inputs = _inputs(fields)
    concurrency = fields.whole("concurrency", default=1, least=1, most=CONCURRENCY_MAX)
    entry = fields.entry("task")
    if entry is None:
        if fields.lacks("task"):
            fields.wrong("task", "'for_each_task' needs a 'task'", "the task to be run once for each of the inputs")
        return None
    return ForEach(inputs, read_task(entry.node, fields.source), concurrency)


def _inputs(fields: Fields) -> str:
    entry = fields.entry("inputs")
    hint = """for example: inputs: '["Oct", "Nov"]', or "{{tasks.months.output.rows}}" """.rstrip()
    if entry is None:
        if fields.lacks("inputs"):
            fields.wrong("inputs", "'for_each_task' needs 'inputs'", hint)
        return "[]"
    if isinstance(entry.node, Listed):
        return json.dumps([_plain(item) for item in entry.node.items], ensure_ascii=False)
    text = fields.text("inputs", references=True)
    if text is None:
        return "[]"
    if "{{" not in text and not _is_json_array(text):
        fields.wrong("inputs", f"{text!r} is neither a JSON array nor a reference", hint)
    return text


def _plain(node: Node) -> object:
    if isinstance(node, Listed):
        return [_plain(item) for item in node.items]
    if isinstance(node, Keyed):
        return {key: _plain(entry.node) for key, entry in node.entries.items()}
    return node.value


def _is_json_array(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


_KINDS: dict[str, Callable[[Fields, Fields], Action | None]] = {
    "python_task": _python,
    "spark_python_task": _script,
    "notebook_task": _notebook,
    "condition_task": _condition,
    "run_job_task": _run_job,
}
KINDS = ("sql", "ingest", "sql_task", *_KINDS, "for_each_task")

_REFUSED = {"notebook_task": refused.NOTEBOOK_TASK, "run_job_task": refused.RUN_JOB_TASK}
