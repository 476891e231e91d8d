"""Find every reference in a job that could not be resolved in a run, before there is a run.

A misspelt reference is found out at two in the morning, in the third task, after two hours of the first two. All that
is needed to find it at once stands in the job file: which parameters there are, which tasks come before which, what
starts the job, what is inside a loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from landingd.core import reference_names
from landingd.core.reference_names import Reference
from landingd.errors import Problem, did_you_mean
from landingd.model import (
    Condition,
    ForEach,
    Job,
    Notebook,
    Place,
    RunJob,
    TableUpdate,
    Task,
    TriggerKind,
)

_OF_A_TASK = ("task.", "tasks.", "input")
_Fault = tuple[str, str | None]


@dataclass(slots=True)
class _Where:
    """Where a text stands, as far as it matters to what it may refer to."""

    job: Job
    task: Task | None
    """None: the text is about the whole job."""
    in_loop: bool = False
    upstream: frozenset[str] | None = field(default=None)


def problems(job: Job) -> list[Problem]:
    """Every reference in the job, wherever one may stand, that could not be resolved at run time."""
    found: list[Problem] = []
    for parameter in job.parameters:
        found += _told(parameter.default, _Where(job, None), parameter.place or job.place)
    for task in job.tasks:
        where = _Where(job, task)
        for place, text in _texts(task):
            found += _told(text, where, place)
        if isinstance(task.action, ForEach):
            inner = _Where(job, task, in_loop=True)
            for place, text in _texts(task.action.task):
                found += _told(text, inner, place)
    return found


def _texts(task: Task) -> Iterable[tuple[Place, str]]:
    """Every text of a task that may hold references."""
    for key, text in task.parameters.items():
        yield task.parameter_places.get(key, task.place), text
    for text in reference_names.texts(task.action):
        yield task.place, text


def _told(text: str, where: _Where, place: Place) -> Iterable[Problem]:
    for name in reference_names.names(text):
        reference = reference_names.read(name)
        if isinstance(reference, Reference):
            fault = _fault(reference, where)
        else:
            fault = (reference.why, _nearer(name, where) or reference.hint)
        if fault is not None:
            yield Problem(place.file, place.line, f"'{{{{{name}}}}}' {fault[0]}.", fault[1])
    if reference_names.is_unclosed(text):
        what = f"{text!r} opens a reference with '{{{{' and does not close it."
        yield Problem(place.file, place.line, what, "write {{job.name}}, for example")


def _nearer(name: str, where: _Where) -> str | None:
    """The job's own words are nearer to what was meant than the templates."""
    return did_you_mean(name, [f"job.parameters.{parameter.name}" for parameter in where.job.parameters])


def _fault(reference: Reference, where: _Where) -> _Fault | None:
    template = reference.template
    if where.task is None and (template.startswith(_OF_A_TASK) or template == "job.parameters.<name>"):
        return "cannot stand in a job parameter's default, which is the same for all tasks", _DEFAULTS
    if template == "job.parameters.<name>":
        return _of_parameter(reference.names[0], where.job)
    if template.startswith("tasks."):
        return _of_upstream(reference, where)
    if template.startswith("input"):
        return None if where.in_loop else ("has a value only in the task inside a for_each_task", None)
    if template == "task.notebook_path":
        return _of_notebook(where)
    return _of_trigger(reference, where.job)


_DEFAULTS = "refer to {{job.start_time.iso_date}} or {{job.trigger.type}}, for example"


def _of_parameter(name: str, job: Job) -> _Fault | None:
    declared = [parameter.name for parameter in job.parameters]
    if name in declared:
        return None
    hint = did_you_mean(f"job.parameters.{name}", [f"job.parameters.{one}" for one in declared])
    return "refers to a parameter that this job does not declare", hint or _listed("the parameters", declared)


def _of_notebook(where: _Where) -> _Fault | None:
    task = where.task.action.task if where.in_loop and where.task and isinstance(where.task.action, ForEach) else None
    if isinstance((task or where.task or _NOTHING).action, Notebook):
        return None
    return "has a value only in a notebook_task", None


_NOTHING = Task("", Place("", 0))


# --- tasks before this one --------------------------------------------------------------------------------


def _of_upstream(reference: Reference, where: _Where) -> _Fault | None:
    assert where.task is not None  # noqa: S101 -- asked by the caller
    key = reference.names[0]
    tasks = {task.task_key: task for task in where.job.tasks}
    if key not in tasks:
        hint = did_you_mean(key, tasks) or _listed("the tasks", tasks)
        return f"refers to a task {key!r}, which no task in this job is called", hint
    if where.upstream is None:
        where.upstream = _before(where.task, tasks)
    if key not in where.upstream:
        why = f"refers to the task {key!r}, which does not run before {where.task.task_key!r}"
        return why, None if key == where.task.task_key else f"add `depends_on: [{{task_key: {key}}}]`"
    return _of_kind(reference, tasks[key])


def _of_kind(reference: Reference, upstream: Task) -> _Fault | None:
    """What a task of this kind never leaves behind."""
    key, action = upstream.task_key, upstream.action
    wants_values = reference.template.startswith("tasks.<task>.values")
    wants_rows = reference.template.startswith("tasks.<task>.output")
    if (wants_values or wants_rows) and isinstance(action, ForEach):
        why = f"asks a loop: each iteration of {key!r} has values of its own"
        return why, "let the iterations write to a table, and read that"
    sets_none = upstream.table is not None or isinstance(action, Condition | RunJob)
    if wants_values and sets_none:
        hint = "refer to its result_state, or use its outcome" if upstream.table is None else f"read {upstream.table}"
        return f"refers to a value of {key!r}, which sets none", hint
    if wants_rows and (upstream.sql is None or upstream.table is not None):
        why = f"refers to rows of {key!r}, which returns none: only SQL that makes no table does"
        return why, None if upstream.table is None else f"read {upstream.table}"
    return None


def _before(task: Task, tasks: Mapping[str, Task]) -> frozenset[str]:
    reached: set[str] = set()
    to_visit = list(task.depends_on)
    while to_visit:
        key = to_visit.pop()
        if key in tasks and key not in reached:
            reached.add(key)
            to_visit.extend(tasks[key].depends_on)
    return frozenset(reached)


# --- what starts the job ----------------------------------------------------------------------------------


def _of_trigger(reference: Reference, job: Job) -> _Fault | None:
    kinds = {trigger.kind for trigger in job.triggers}
    template = reference.template
    if template.startswith("job.trigger.time.") and not kinds & {TriggerKind.SCHEDULE, TriggerKind.PERIODIC}:
        return "is the time of a schedule, and this job has none", "refer to {{job.start_time.iso_datetime}}"
    if template.startswith("job.trigger.file_arrival.") and not job.file_arrivals:
        return "is about files, and no trigger of this job brings any", "triggers: [{file_arrival: {path: ...}}]"
    if template.startswith("job.trigger.table_update."):
        return _of_tables(reference, job)
    if template.startswith("backfill.") and job.triggers:
        why = "has a value only in a backfill, and this job's triggers start runs too"
        return why, "give the backfill a parameter with this as its value"
    return None


def _of_tables(reference: Reference, job: Job) -> _Fault | None:
    watched = [table for trigger in job.triggers if isinstance(trigger.on, TableUpdate) for table in trigger.on.tables]
    if not watched:
        return "is about tables, and no trigger of this job watches any", "triggers: [{table_update: ...}]"
    if not reference.names or reference.template.endswith("updated_tables"):
        return None
    table = reference.names[0]
    if table.casefold() in {one.casefold() for one in watched}:
        return None
    return f"refers to {table}, which no trigger of this job watches", _listed("the tables", watched)


def _listed(what: str, words: Iterable[str]) -> str:
    return f"{what} are {', '.join(words) or 'none'}"
