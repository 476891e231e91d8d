"""Gather what the references of a task may stand for, as far as the task asks."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from landingd.core import reference_names
from landingd.core.reference_names import Reference
from landingd.core.references import NO_INPUT, RunContext, TaskContext, UpstreamContext
from landingd.edge.ledger import RunRow, TaskRow
from landingd.flow.books import Books
from landingd.model import AttemptKey, Job, Notebook, PythonCall, Script, Task, TaskState, shown

_TAKE_ALL = (PythonCall, Script, Notebook)
"""Whose code may ask for anything."""


def plain(job: Job, run: RunRow, key: AttemptKey) -> tuple[RunContext, TaskContext]:
    """The contexts of a task that refers to nothing: no question to the ledger is worth it."""
    return _run_context(job, run, ()), TaskContext(key.task_key, key.attempt)


def is_plain(job: Job, task: Task) -> bool:
    """Whether the task refers to nothing and is given nothing of the tasks before it."""
    return not isinstance(task.action, _TAKE_ALL) and not _named(job, task)


async def gather(
    books: Books, job: Job, task: Task, key: AttemptKey, landing_root: Path
) -> tuple[RunContext, TaskContext]:
    """The run as it is now, the tasks before this one with what they left, and the run's files where they matter."""
    named = _named(job, task)
    above = _above(job, rows_key(key)) if isinstance(task.action, PythonCall) else _tasks_named(named)
    rows = await books.context(key.run_id, key.task_key, above)
    files: tuple[str, ...] = ()
    if isinstance(task.action, _TAKE_ALL) or any(name.startswith("job.trigger.file_arrival.") for name in named):
        root = os.fsencode(landing_root)
        files = tuple(shown_or_text(os.path.join(root, path)) for path in await books.paths(key.run_id))
    upstream = {name: _upstream(row) for name, row in rows.upstreams.items() if row.state is TaskState.TERMINATED}
    value = json.loads(rows.task.input) if rows.task.input is not None else NO_INPUT
    notebook = task.action.shown_file if isinstance(task.action, Notebook) else ""
    context = TaskContext(key.task_key, rows.task.attempts, value, upstream, notebook)
    return _run_context(job, rows.run, files), context


def _named(job: Job, task: Task) -> list[str]:
    """What the task, and the defaults of the job's parameters, refer to."""
    texts = [
        *task.parameters.values(),
        *(parameter.default for parameter in job.parameters),
        *reference_names.texts(task.action),
    ]
    return [name for text in texts if "{{" in text for name in reference_names.names(text)]


def _tasks_named(names: Iterable[str]) -> list[str]:
    """The tasks that these references are about."""
    found: dict[str, None] = {}
    for name in names:
        reference = reference_names.read(name)
        if isinstance(reference, Reference) and reference.template.startswith("tasks."):
            found[reference.names[0]] = None
    return list(found)


def rows_key(key: AttemptKey) -> str:
    """The task in the DAG: of an iteration its loop."""
    return key.task_key.partition("[")[0]


def shown_or_text(path: bytes) -> str:
    """A path as text; one that is no text as people see it, since it has to go through JSON."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return shown(path)


def _above(job: Job, task_key: str) -> list[str]:
    """The tasks that this one depends on, directly or not."""
    depends_on = {task.task_key: task.depends_on for task in job.tasks}
    found: dict[str, None] = {}
    open_ = list(depends_on.get(task_key, ()))
    while open_:
        above = open_.pop()
        if above not in found:
            found[above] = None
            open_.extend(depends_on.get(above, ()))
    return list(found)


def _run_context(job: Job, run: RunRow, files: tuple[str, ...]) -> RunContext:
    return RunContext(
        job=job.name,
        run_id=run.run_id,
        repair_count=run.repairs,
        parameters=run.parameters,
        trigger_type=run.trigger_type.value,
        trigger_name=run.trigger,
        info=run.info,
        started_s=run.started_at_s or run.queued_at_s,
        files=files,
    )


def _upstream(row: TaskRow) -> UpstreamContext:
    left: dict[str, Any] = json.loads(row.output) if row.output else {}
    return UpstreamContext(
        result_state=row.result.value.lower() if row.result else None,
        values=left.get("values", {}),
        rows=left.get("rows", ()),
        rows_cut=bool(left.get("rows_cut")),
        execution_count=row.attempts,
        error=row.error,
    )


def task_values(context: TaskContext) -> dict[str, dict[str, Any]]:
    """What the tasks before have set, by task key."""
    return {name: dict(one.values) for name, one in context.upstream.items() if one.values}
