"""Decide what `{{...}}` stands for: in a task's parameters, a condition, a loop's inputs, a script's arguments.

As in Databricks a reference is replaced by its value, as text, and nothing more: there are no expressions, and a value
that looks like a reference is not looked at again. There an unknown reference is passed on as it is written, and the
table that it should have named is called `{{job.parameter.month}}`. Here what cannot be resolved is a Problem of the
job file, found by `core.reference_problems`, and what turns out only in the run (a task value that was not set) fails
the task with a sentence that names it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from landingd.core import moments, parameters, reference_names
from landingd.core.parameters import choose_parameters as choose_parameters  # noqa: PLC0414 -- where it used to be
from landingd.core.reference_names import Reference
from landingd.core.reference_names import names as names  # noqa: PLC0414 -- the same
from landingd.core.reference_problems import problems as problems  # noqa: PLC0414 -- the same
from landingd.errors import LandingdError
from landingd.model import OUTPUT_BYTES_MAX, OUTPUT_ROWS_MAX, Action, Job, Notebook, Task

Files = Sequence[str] | Callable[[], Sequence[str]]
"""Absolute paths as text, or who can say them: not every task asks, and a run may have many."""


class _NoInput:
    """Of a task that is no iteration."""

    def __repr__(self) -> str:
        return "NO_INPUT"


NO_INPUT: Final = _NoInput()


class UnresolvedError(LandingdError):
    """A reference has no value in this run. Trying again cannot help: what it names was not set, or is not there."""

    exit_code = 65


@dataclass(frozen=True, slots=True)
class RunContext:
    """What is known of a run."""

    job: str
    run_id: int
    repair_count: int
    parameters: Mapping[str, str]
    """The run's values, by name. `in_run` resolves the references that defaults hold."""
    trigger_type: str
    trigger_name: str | None
    info: Mapping[str, Any]
    """`runs.trigger_info`: time_s, file_arrival, table_update, job_completion, backfill."""
    started_s: float
    files: Files = ()


@dataclass(frozen=True, slots=True)
class UpstreamContext:
    """What is known of a task that was before this one."""

    result_state: str | None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rows: Sequence[Mapping[str, Any]] = ()
    rows_cut: bool = False
    """There were more."""
    execution_count: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What is known of one attempt."""

    task_key: str
    execution_count: int
    input: Any = NO_INPUT
    """Of an iteration: its JSON value."""
    upstream: Mapping[str, UpstreamContext] = field(default_factory=dict[str, UpstreamContext])
    """By task key: the tasks of this run that are upstream of it, directly or not."""
    notebook_path: str = ""


def resolve(text: str, run: RunContext, task: TaskContext | None = None) -> str:
    """The text with each reference replaced by its value. Raises UnresolvedError, which names the reference."""
    pieces: list[str] = []
    for plain, name in reference_names.split(text):
        pieces.append(plain)
        if name is not None:
            pieces.append(_value(name, run, task))
    return "".join(pieces)


def in_run(job: Job, run: RunContext) -> RunContext:
    """The run with the references in its parameters' defaults resolved, as every task of it sees them.

    What somebody gave as a value is text, whatever it looks like. Raises UnresolvedError, and RefusedError for a
    default that turns out to be none of what the parameter may be.
    """
    values = dict(run.parameters)
    for parameter in job.parameters:
        if parameters.holds_reference(parameter.default) and values.get(parameter.name) == parameter.default:
            values[parameter.name] = resolve(parameter.default, run)
            parameters.check(parameter, values[parameter.name])
    return replace(run, parameters=values)


def task_parameters(job: Job, task: Task, run: RunContext, task_context: TaskContext) -> dict[str, str]:
    """What one attempt gets as `$name`: the task's own parameters, resolved, then the job's.

    A job parameter wins over a task parameter of the same key, as in Databricks. `month` and `Month` are the
    same key, because they are to DuckDB: given both, it takes the last for both without a word.
    """
    run = in_run(job, run)
    return _under_the_jobs(task.parameters, run, task_context)


def resolve_action(job: Job, action: Action, run: RunContext, task_context: TaskContext) -> Action:
    """What a task does, with the references in it resolved; of a loop only its inputs: each iteration has its own.

    A notebook gets the job's parameters too, and they win, as everywhere.
    """
    run = in_run(job, run)
    if isinstance(action, Notebook):
        return replace(action, parameters=_under_the_jobs(action.parameters, run, task_context))
    resolved = reference_names.each_text(action, lambda text: resolve(text, run, task_context))
    return resolved or action


def _under_the_jobs(own: Mapping[str, str], run: RunContext, task: TaskContext) -> dict[str, str]:
    taken = {name.lower() for name in run.parameters}
    resolved = {key: resolve(text, run, task) for key, text in own.items() if key.lower() not in taken}
    return {**resolved, **run.parameters}


# --- values -----------------------------------------------------------------------------------------------


def _value(name: str, run: RunContext, task: TaskContext | None) -> str:
    reference = reference_names.read(name)
    if not isinstance(reference, Reference):
        raise UnresolvedError(f"'{{{{{name}}}}}' {reference.why}", hint=reference.hint)
    of_run = _OF_RUN.get(reference.template)
    try:
        if of_run is not None:
            return _text(of_run(reference.names, run))
        if task is None:
            raise _UnknownError("it is about a task, and this is about the whole run")  # noqa: TRY301 -- told below
        return _text(_OF_TASK[reference.template](reference.names, run, task))
    except _UnknownError as error:
        raise UnresolvedError(f"'{{{{{name}}}}}' has no value: {error}") from None


class _UnknownError(Exception):
    """Why there is no value."""


def _text(value: Any) -> str:
    """A value as text: text as it is, anything else as JSON, so that true is `true` and NULL is `null`."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _parameter(names: tuple[str, ...], run: RunContext) -> str:
    if names[0] not in run.parameters:
        raise _UnknownError("the run has no such parameter")
    return run.parameters[names[0]]


def _trigger_time(names: tuple[str, ...], run: RunContext) -> str:
    """The scheduled time; of a run that was not scheduled, when it began."""
    return moments.part(float(run.info.get("time_s", run.started_s)), names[0])


def _files(run: RunContext) -> list[str]:
    return list(run.files() if callable(run.files) else run.files)


def _only_file(_: tuple[str, ...], run: RunContext) -> str:
    files = _files(run)
    if not files:
        raise _UnknownError("the run was given no files")
    return files[0]


def _location(_: tuple[str, ...], run: RunContext) -> str:
    location = run.info.get("file_arrival", {}).get("location")
    if location is None:
        raise _UnknownError("no file arrival has started this run")
    return str(location)


def _version(table: str, key: str, run: RunContext) -> Any:
    versions = {str(name).casefold(): one for name, one in run.info.get("table_update", {}).get("versions", {}).items()}
    if table.casefold() not in versions:
        raise _UnknownError(f"no update of {table} has started this run")
    return versions[table.casefold()][key]


def _of_backfill(key: str, run: RunContext) -> str:
    value = run.info.get("backfill", {}).get(key)
    if value is None:
        raise _UnknownError("this is no run of a backfill over dates")
    return str(value)


def _upstream(key: str, task: TaskContext) -> UpstreamContext:
    if key not in task.upstream:
        raise _UnknownError(f"the task {key!r} is not part of this run")
    return task.upstream[key]


def _task_value(names: tuple[str, ...], task: TaskContext) -> Any:
    upstream = _upstream(names[0], task)
    _refuse_too_large(names[0], upstream)
    if names[1] not in upstream.values:
        ended = "" if _result(upstream) in {"", "success"} else f" (it ended {_result(upstream)})"
        listed = ", ".join(upstream.values) or "none"
        raise _UnknownError(f"the task {names[0]!r} did not set it{ended}; its values are {listed}")
    return upstream.values[names[1]]


def _rows(names: tuple[str, ...], task: TaskContext) -> Any:
    """All of them: a loop over the first ones would leave out the others, and nobody would know."""
    upstream = _upstream(names[0], task)
    if upstream.rows_cut:
        kept = f"{OUTPUT_ROWS_MAX:,} rows or {OUTPUT_BYTES_MAX >> 10} KiB"
        raise _UnknownError(f"the task {names[0]!r} returned more than {kept}, the most that is kept of an output")
    return list(upstream.rows)


def _first_row(names: tuple[str, ...], task: TaskContext) -> Any:
    rows = _upstream(names[0], task).rows
    _refuse_too_large(names[0], _upstream(names[0], task))
    if not rows:
        raise _UnknownError(f"the task {names[0]!r} returned no rows")
    if len(names) == 1:
        return rows[0]
    column = next((key for key in rows[0] if key.casefold() == names[1].casefold()), None)
    if column is None:
        raise _UnknownError(f"the columns of {names[0]!r} are {', '.join(rows[0])}")
    return rows[0][column]


def _refuse_too_large(task_key: str, upstream: UpstreamContext) -> None:
    if upstream.rows_cut and not upstream.rows:
        raise _UnknownError(f"the first row of the task {task_key!r} is larger than {OUTPUT_BYTES_MAX >> 10} KiB")


def _error_code(names: tuple[str, ...], task: TaskContext) -> str:
    """As in Databricks empty where nothing went wrong; which statement failed and why is in the run's history."""
    upstream = _upstream(names[0], task)
    return "RunExecutionError" if _result(upstream) in {"failed", "timedout"} else ""


def _result(upstream: UpstreamContext) -> str:
    """As it is told to tasks: in lower case (Databricks: `upstream_failed`)."""
    return (upstream.result_state or "").lower()


def _input(fields: tuple[str, ...], task: TaskContext) -> Any:
    value = task.input
    if value is NO_INPUT:
        raise _UnknownError("this task is not in a loop")
    for index, name in enumerate(fields):
        if not isinstance(value, Mapping) or name not in value:
            raise _UnknownError(f"the input has no field {'.'.join(fields[: index + 1])!r}")
        value = value[name]
    return value


_OF_RUN: Mapping[str, Callable[[tuple[str, ...], RunContext], Any]] = {
    "job.id": lambda _, run: run.job,
    "job.name": lambda _, run: run.job,
    "job.run_id": lambda _, run: run.run_id,
    "job.repair_count": lambda _, run: run.repair_count,
    "job.parameters.<name>": _parameter,
    "job.start_time.<time>": lambda names, run: moments.part(run.started_s, names[0]),
    "job.trigger.type": lambda _, run: run.trigger_type,
    "job.trigger.name": lambda _, run: run.trigger_name or "",
    "job.trigger.time.<time>": _trigger_time,
    "job.trigger.file_arrival.location": _location,
    "job.trigger.file_arrival.files": lambda _, run: _files(run),
    "job.trigger.file_arrival.file": _only_file,
    "job.trigger.file_arrival.count": lambda _, run: len(_files(run)),
    "job.trigger.table_update.updated_tables": lambda _, run: list(
        run.info.get("table_update", {}).get("updated_tables", ())
    ),
    "job.trigger.table_update.<table>.version": lambda names, run: _version(names[0], "version", run),
    "job.trigger.table_update.<table>.commit_timestamp.<time>": lambda names, run: moments.part(
        float(_version(names[0], "changed_at_s", run)), names[1]
    ),
    "backfill.iso_date": lambda _, run: _of_backfill("iso_date", run),
    "backfill.iso_datetime": lambda _, run: _of_backfill("iso_datetime", run),
}

_OF_TASK: Mapping[str, Callable[[tuple[str, ...], RunContext, TaskContext], Any]] = {
    "task.name": lambda _, __, task: task.task_key,
    "task.run_id": lambda _, run, task: _attempt_id(run, task.task_key, task.execution_count),
    "task.execution_count": lambda _, __, task: task.execution_count,
    "task.notebook_path": lambda _, __, task: task.notebook_path,
    "tasks.<task>.values.<name>": lambda names, _, task: _task_value(names, task),
    "tasks.<task>.result_state": lambda names, _, task: _result(_upstream(names[0], task)),
    "tasks.<task>.error_code": lambda names, _, task: _error_code(names, task),
    "tasks.<task>.run_id": lambda names, run, task: _attempt_id(
        run, names[0], _upstream(names[0], task).execution_count
    ),
    "tasks.<task>.execution_count": lambda names, _, task: _upstream(names[0], task).execution_count,
    "tasks.<task>.output.rows": lambda names, _, task: _rows(names, task),
    "tasks.<task>.output.first_row": lambda names, _, task: _first_row(names, task),
    "tasks.<task>.output.first_row.<name>": lambda names, _, task: _first_row(names, task),
    "input": lambda _, __, task: _input((), task),
    "input.<fields>": lambda names, _, task: _input(names, task),
}


def _attempt_id(run: RunContext, task_key: str, count: int) -> str:
    """What names one execution of a task for ever (Databricks: the task run's id, a number)."""
    return f"{run.run_id}.{task_key}.{count}"
