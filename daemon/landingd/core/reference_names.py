"""Read what stands between `{{` and `}}`: which of the known references it is, and of what.

A reference is a path of names with dots between them, and some of the names are the user's: a task, a parameter, a
column, a table with a dot of its own. The templates below are all there is; what resolves a reference and what
complains of one both go by them, so that the two cannot drift apart.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from landingd.core.moments import PARTS
from landingd.errors import did_you_mean
from landingd.model import Action, Condition, ForEach, Notebook, RunJob, Script

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    template: tuple(template.split("."))
    for template in (
        "job.id",
        "job.name",
        "job.run_id",
        "job.repair_count",
        "job.parameters.<name>",
        "job.start_time.<time>",
        "job.trigger.type",
        "job.trigger.name",
        "job.trigger.time.<time>",
        "job.trigger.file_arrival.location",
        "job.trigger.file_arrival.files",
        "job.trigger.file_arrival.file",
        "job.trigger.file_arrival.count",
        "job.trigger.table_update.updated_tables",
        "job.trigger.table_update.<table>.version",
        "job.trigger.table_update.<table>.commit_timestamp.<time>",
        "task.name",
        "task.run_id",
        "task.execution_count",
        "task.notebook_path",
        "tasks.<task>.values.<name>",
        "tasks.<task>.result_state",
        "tasks.<task>.error_code",
        "tasks.<task>.run_id",
        "tasks.<task>.execution_count",
        "tasks.<task>.output.rows",
        "tasks.<task>.output.first_row",
        "tasks.<task>.output.first_row.<name>",
        "input",
        "input.<fields>",
        "backfill.iso_date",
        "backfill.iso_datetime",
    )
}
"""Every reference. `<time>` is one of PARTS; `<table>` and `<fields>` are one name or several with dots between."""

REPLACED = {
    "job_id": "job.id",
    "job_name": "job.name",
    "parent_run_id": "job.run_id",
    "run_id": "task.run_id",
    "start_date": "job.start_time.iso_date",
    "start_time": "job.start_time.timestamp_ms",
    "task_key": "task.name",
    "task_retry_count": "task.execution_count",
}
"""The references of old, which Databricks has deprecated, and what is written now."""

_BRACES = re.compile(r"\{\{([^{}]*)\}\}")
_NAME = re.compile(r"`([^`]+)`|([^`.\s]+)")
_SEVERAL = {"<table>", "<fields>"}


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: which template it follows, and the names that stand for its `<...>`."""

    text: str
    """As written, without the braces."""
    template: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is no reference: why, and what to do."""

    text: str
    why: str
    hint: str | None


def names(text: str) -> list[str]:
    """What the text refers to, in order, with repeats: `a {{job.name}}` refers to `job.name`."""
    return [match.strip() for match in _BRACES.findall(text)]


def split(text: str) -> Iterable[tuple[str, str | None]]:
    """The text in pieces: each plain stretch, with the reference that follows it (None: the end)."""
    at = 0
    for match in _BRACES.finditer(text):
        yield text[at : match.start()], match[1].strip()
        at = match.end()
    yield text[at:], None


def is_unclosed(text: str) -> bool:
    """Whether braces open a reference and do not close it."""
    return "{{" in _BRACES.sub(" ", text)


def each_text(action: Action | None, change: Callable[[str], str]) -> Action | None:
    """The same action with every text changed that may hold references; of a loop its inputs, not the nested task."""
    changed: Action | None = action
    match action:
        case Condition():
            changed = replace(action, left=change(action.left), right=change(action.right))
        case ForEach():
            changed = replace(action, inputs=change(action.inputs))
        case RunJob():
            changed = replace(action, job_parameters={k: change(v) for k, v in action.job_parameters.items()})
        case Script():
            changed = replace(action, arguments=tuple(map(change, action.arguments)))
        case Notebook():
            changed = replace(action, parameters={k: change(v) for k, v in action.parameters.items()})
        case _:
            pass
    return changed


def texts(action: Action | None) -> list[str]:
    """The texts that `each_text` changes."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    each_text(action, note)
    return found


@lru_cache(maxsize=4096)  # each attempt of a task reads the same few again
def read(text: str) -> Reference | Unknown:
    """The reference that this is, without its braces: `tasks.silver.values.rows`."""
    path = _path(text)
    if path is None:
        return Unknown(text, "is no reference: it is not names with dots between them", _BACKTICKS)
    for template, parts in TEMPLATES.items():
        found = _matched(parts, path)
        if found is not None:
            return Reference(text, template, found)
    return _unknown(text, path)


_BACKTICKS = "put a name with spaces or dots into backticks: {{tasks.`my task`.values.x}}"


def _path(text: str) -> tuple[str, ...] | None:
    """The names between the dots; one in backticks may hold anything else."""
    found: list[str] = []
    at = 0
    while match := _NAME.match(text, at):
        found.append(match[1] or match[2])
        if match.end() == len(text):
            return tuple(found)
        if text[match.end()] != ".":
            return None
        at = match.end() + 1
    return None


def _matched(parts: tuple[str, ...], path: tuple[str, ...]) -> tuple[str, ...] | None:
    """What stands for the `<...>` of a template, or None if the path does not follow it."""
    several = next((index for index, part in enumerate(parts) if part in _SEVERAL), None)
    if several is not None:
        extra = len(path) - len(parts)
        if extra < 0:
            return None
        joined = path[several : several + extra + 1]
        path = (*path[:several], "\0".join(joined), *path[several + extra + 1 :])
    if len(parts) != len(path) or not all(map(_fits, parts, path)):
        return None
    captured = [name for part, name in zip(parts, path, strict=True) if part.startswith("<")]
    return tuple(piece for name in captured for piece in _separated(parts, name))


def _separated(parts: tuple[str, ...], name: str) -> list[str]:
    """A table is one name again, with its dot; the fields of an input stay apart."""
    return [name.replace("\0", ".")] if "<table>" in parts else name.split("\0")


def _fits(part: str, name: str) -> bool:
    if part == "<time>":
        return name in PARTS
    return part.startswith("<") or part == name


# --- what is no reference ---------------------------------------------------------------------------------


def _unknown(text: str, path: tuple[str, ...]) -> Unknown:
    if path[0] == "workspace":
        why = "means nothing here: there is one machine and no workspace"
        return Unknown(text, why, "name the thing itself, or a job parameter that holds it")
    if len(path) == 1 and path[0] in REPLACED:
        return Unknown(text, "is written in another way now", f"write {{{{{REPLACED[path[0]]}}}}}")
    if path[-1] == "alert_state" and path[0] == "tasks":
        return Unknown(text, "means nothing here: a task has no SQL alert", "refer to .output.first_row.<column>")
    return Unknown(text, "is no reference that landingd knows", _hint(path))


def _hint(path: tuple[str, ...]) -> str:
    known = [reference for template in TEMPLATES for reference in _written_out(template, path)]
    near = did_you_mean(".".join(path), known)
    if near is not None:
        return near
    namespaces = dict.fromkeys(parts[0] for parts in TEMPLATES.values())
    below = [template for template, parts in TEMPLATES.items() if parts[0] == path[0]]
    return f"there are {', '.join(below)}" if below else f"a reference begins with {', '.join(namespaces)}"


def _written_out(template: str, path: tuple[str, ...]) -> list[str]:
    """The template with its `<...>` as in the path, where the path has something there, for a comparison by eye."""
    parts = TEMPLATES[template]
    given = [path[i] if part.startswith("<") and i < len(path) else part for i, part in enumerate(parts)]
    if parts[-1] == "<time>":
        return [".".join([*given[:-1], part]) for part in PARTS]
    return [".".join(given)]
