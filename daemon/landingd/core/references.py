"""Decide which values a task gets: the job's parameters, its own, and what `{{...}}` in them stands for.

A run's values come from three people: the author of the job (defaults), the author of the task (`parameters`,
where `{{job.run_id}}` and the like may stand) and whoever starts the run. As in Databricks a reference is
replaced by its value and nothing more: there are no expressions, and a value that looks like a reference is
not looked at again. What cannot be resolved is a Problem of the job file, so that a run never meets it.
"""

import re
from collections.abc import Iterable, Mapping

from landingd.errors import Problem, RefusedError, did_you_mean
from landingd.model import Job, Parameter, Task

CONTEXT = ("job.name", "job.run_id", "job.trigger.type")
"""What `task_parameters` needs in `context`."""

_REFERENCE = re.compile(r"\{\{([^{}]*)\}\}")
_PARAMETER = "job.parameters."


def names(text: str) -> list[str]:
    """What the text refers to, in order, with repeats: `a {{job.name}}` refers to `job.name`."""
    return [match.strip() for match in _REFERENCE.findall(text)]


def resolve(text: str, values: Mapping[str, str]) -> str:
    """The text with each reference replaced by its value; KeyError for one that `problems` would name."""
    return _REFERENCE.sub(lambda match: values[match[1].strip()], text)


def choose_parameters(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    """The job's parameters for one run: the defaults, overlaid by what was given."""
    declared = {parameter.name: parameter for parameter in job.parameters}
    for name, value in given.items():
        if name not in declared:
            hint = did_you_mean(name, declared) or _listed(f"the parameters of {job.name!r}", declared)
            raise RefusedError(f"job {job.name!r} has no parameter {name!r}", hint=hint)
        _check_choice(declared[name], value)
    return {name: given.get(name, parameter.default) for name, parameter in declared.items()}


def task_parameters(job_params: Mapping[str, str], task: Task, *, context: Mapping[str, str]) -> dict[str, str]:
    """What one attempt gets as `$name`: the task's own parameters, resolved, then the job's.

    A job parameter wins over a task parameter of the same key, as in Databricks. `month` and `Month` are the
    same key, because they are to DuckDB: given both, it takes the last for both without a word.
    """
    values = {
        **context,
        "task.name": task.task_key,
        **{f"{_PARAMETER}{name}": value for name, value in job_params.items()},
    }
    taken = {name.lower() for name in job_params}
    own = {key: resolve(text, values) for key, text in task.parameters.items() if key.lower() not in taken}
    return {**own, **job_params}


def problems(job: Job) -> list[Problem]:
    """Every reference in the job's task parameters that could not be resolved at run time."""
    known = [*CONTEXT, "task.name", *(f"{_PARAMETER}{parameter.name}" for parameter in job.parameters)]
    found: list[Problem] = []
    for task in job.tasks:
        for key, text in task.parameters.items():
            place = task.parameter_places.get(key, task.place)
            found += [Problem(place.file, place.line, what, hint) for what, hint in _faults(text, known)]
    return found


def _faults(text: str, known: list[str]) -> Iterable[tuple[str, str | None]]:
    for name in names(text):
        if name in known:
            continue
        hint = did_you_mean(name, known) or _listed("the references", known)
        if name.startswith(_PARAMETER):
            yield f"'{{{{{name}}}}}' refers to a parameter that this job does not declare.", hint
        else:
            yield f"'{{{{{name}}}}}' is no reference that landingd knows.", hint
    if "{{" in _REFERENCE.sub(" ", text):
        yield (
            f"{text!r} opens a reference with '{{{{' and does not close it.",
            "write {{job.name}}, for example",
        )


def _check_choice(parameter: Parameter, value: str) -> None:
    if parameter.choices and value not in parameter.choices:
        raise RefusedError(
            f"parameter {parameter.name!r} cannot be {value!r}",
            hint=_listed("the choices", parameter.choices),
        )


def _listed(what: str, words: Iterable[str]) -> str:
    return f"{what} are {', '.join(words) or 'none'}"
