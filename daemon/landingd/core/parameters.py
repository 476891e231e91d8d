"""Decide which values a run starts with, and refuse those that the job was not written for.

A value comes from whoever starts the run: a person at a terminal, a message, another job. In Databricks any text is
accepted, and a month that does not exist makes an empty table hours later. Here the job says what its parameters may
be, and a value that is something else is refused before there is a run, in one line that says what may be given.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from landingd.core import moments
from landingd.errors import Problem, RefusedError, did_you_mean
from landingd.model import Job, Parameter, ValueType, Widget

_INTEGER = re.compile(r"[+-]?\d{1,400}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?", re.ASCII)
_COUNTED = (ValueType.INTEGER, ValueType.NUMBER)
_SHAPES = {
    ValueType.INTEGER: "a whole number, such as 7",
    ValueType.NUMBER: "a number, such as 0.5",
    ValueType.BOOLEAN: "true or false",
    ValueType.DATE: "a date, such as 2026-11-05",
    ValueType.TIMESTAMP: "a time, such as 2026-11-05T08:00:00Z",
}

Fault = tuple[str, str | None]
"""What is wrong, and what to do."""


def choose_parameters(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    """The job's parameters for one run: the defaults, overlaid by what was given.

    Raises RefusedError for a name that the job does not declare and for a value that the parameter may not have. A
    default that holds references is not looked at: what it stands for is known when the run has started.
    """
    declared = {parameter.name: parameter for parameter in job.parameters}
    for name in given:
        if name not in declared:
            hint = did_you_mean(name, declared) or _listed(f"the parameters of {job.name!r}", declared)
            raise RefusedError(f"job {job.name!r} has no parameter {name!r}", hint=hint)
    values = {name: given.get(name, parameter.default) for name, parameter in declared.items()}
    for name, value in values.items():
        if value != declared[name].default or not holds_reference(value):
            check(declared[name], value)
    return values


def check(parameter: Parameter, value: str) -> None:
    """Raises RefusedError, with the parameter, the value, why and what may be given, if it may not have this value."""
    found = fault(parameter, value)
    if found is not None:
        raise RefusedError(found[0], hint=found[1])


def fault(parameter: Parameter, value: str) -> Fault | None:
    """Why the parameter may not have this value; None: it may."""
    if not _is_text(value):
        return f"parameter {parameter.name!r} cannot be {value!r}: it is no text", "text in UTF-8"
    if not value and parameter.required:
        return f"parameter {parameter.name!r} needs a value", _may_be(parameter)
    if not value and not _is_closed(parameter):
        return None
    items = value.split(",") if parameter.widget is Widget.MULTISELECT else [value]
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if twice is not None:
        return f"parameter {parameter.name!r} cannot be {value!r}: {twice!r} is there twice", None
    for item in items:
        why = _why_not(parameter, item)
        if why is not None:
            about = f"{item!r} {why}" if len(items) > 1 else f"it {why}"
            return f"parameter {parameter.name!r} cannot be {value!r}: {about}", _may_be(parameter)
    return None


def holds_reference(text: str) -> bool:
    """Whether something in the text is to be replaced when the run has started."""
    return "{{" in text


def problems(job: Job) -> list[Problem]:
    """Every parameter whose definition contradicts itself, or that nobody would give a value."""
    found = ((parameter, *one) for parameter in job.parameters for one in _faults_of(parameter, job))
    return [
        Problem(place.file, place.line, f"parameter {parameter.name!r}: {what}", hint)
        for parameter, what, hint in found
        for place in (parameter.place or job.place,)
    ]


# --- one value --------------------------------------------------------------------------------------------


def _why_not(parameter: Parameter, item: str) -> str | None:
    """Why one value, or one of several, may not be."""
    chosen_from = parameter.widget is not Widget.COMBOBOX
    if parameter.choices and chosen_from and item not in parameter.choices:
        return "is none of the choices"
    if not _has_type(parameter.type, item):
        return f"is not {_SHAPES[parameter.type]}"
    if parameter.type in _COUNTED:
        out = _out_of_bounds(parameter, item)
        if out is not None:
            return out
    if parameter.pattern is not None and not re.fullmatch(parameter.pattern, item):
        return f"does not match {parameter.pattern!r}"
    return None


def _is_text(value: str) -> bool:
    r"""Half a character (JSON's "\ud800", a byte on a command line that is not UTF-8) cannot be kept and told."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_type(type_: ValueType, item: str) -> bool:
    match type_:
        case ValueType.STRING:
            return True
        case ValueType.INTEGER:
            return _INTEGER.fullmatch(item) is not None
        case ValueType.NUMBER:
            return _NUMBER.fullmatch(item) is not None and math.isfinite(float(item))
        case ValueType.BOOLEAN:
            return item in {"true", "false"}
        case ValueType.DATE:
            return moments.day_of(item) is not None
        case ValueType.TIMESTAMP:
            return moments.time_of(item) is not None


def _out_of_bounds(parameter: Parameter, item: str) -> str | None:
    # A whole number is compared as one: 2^53 + 1 is above a limit of 2^53, which a float cannot see.
    number = int(item) if parameter.type is ValueType.INTEGER else float(item)
    if parameter.min is not None and number < parameter.min:
        return f"is less than {parameter.min:.17g}"
    if parameter.max is not None and number > parameter.max:
        return f"is more than {parameter.max:.17g}"
    return None


def _is_closed(parameter: Parameter) -> bool:
    """Whether its value must be one of the choices, so that nothing at all is none."""
    one_of = {Widget.TEXT, Widget.DROPDOWN}
    return bool(parameter.choices) and parameter.widget in one_of


def _may_be(parameter: Parameter) -> str | None:
    """What may be given, for a hint."""
    if parameter.choices:
        what = {Widget.COMBOBOX: "for example", Widget.MULTISELECT: "with commas between them, of"}
        lead = what.get(parameter.widget)
        listed = ", ".join(parameter.choices)
        return f"{lead} {listed}" if lead else f"the choices are {listed}"
    if parameter.type in _COUNTED and (parameter.min is not None or parameter.max is not None):
        least = "" if parameter.min is None else f" from {parameter.min:.17g}"
        most = "" if parameter.max is None else f" up to {parameter.max:.17g}"
        return _SHAPES[parameter.type].partition(",")[0] + least + most
    if parameter.type in _SHAPES:
        return _SHAPES[parameter.type]
    return None if parameter.pattern is None else f"text that matches {parameter.pattern}"


# --- definitions ------------------------------------------------------------------------------------------


def _faults_of(parameter: Parameter, job: Job) -> list[Fault]:
    found = [*_wrong_bounds(parameter), *_wrong_choices(parameter)]
    pattern = _wrong_pattern(parameter)
    if pattern is not None:
        return [*found, pattern]  # nothing can be held against it
    wrong = [choice for choice in parameter.choices if _why_not(replace(parameter, choices=()), choice) is not None]
    found += [(f"the choice {c!r} {_why_not(replace(parameter, choices=()), c)}", None) for c in wrong]
    if parameter.required and not parameter.default:
        return [*found, *_nobody_gives(parameter, job)]
    if not found and not holds_reference(parameter.default):
        why = fault(parameter, parameter.default)
        found += [(f"the default does not keep its own rules: {why[0]}", why[1])] if why else []
    return found


def _wrong_bounds(parameter: Parameter) -> Iterable[Fault]:
    limits = [limit for limit in (parameter.min, parameter.max) if limit is not None]
    if limits and parameter.type not in _COUNTED:
        yield f"'min' and 'max' are for numbers, and its type is {parameter.type.value}", "type: integer, type: number"
    if any(math.isnan(limit) for limit in limits):
        yield "'min' and 'max' must be numbers", None
    if len(limits) == 2 and limits[0] > limits[1]:
        yield f"'min' {limits[0]:.17g} is more than 'max' {limits[1]:.17g}", None


def _wrong_choices(parameter: Parameter) -> Iterable[Fault]:
    if parameter.widget is not Widget.TEXT and not parameter.choices:
        yield f"a {parameter.widget.value} needs 'choices'", "for example: choices: [Oct, Nov]"
    if parameter.widget is Widget.MULTISELECT:
        for choice in parameter.choices:
            if "," in choice or not choice:
                yield f"the choice {choice!r} cannot be told from others in a list with commas", None


def _wrong_pattern(parameter: Parameter) -> Fault | None:
    try:
        re.compile(parameter.pattern or "")
    except re.error as error:
        return f"'pattern' is no regular expression: {error}", None
    return None


def _nobody_gives(parameter: Parameter, job: Job) -> Iterable[Fault]:
    if job.triggers:
        what = f"it is required and has no default, and a run that {job.triggers[0].kind.value} starts is given none"
        yield what, f"give {parameter.name!r} a default"


def _listed(what: str, words: Iterable[str]) -> str:
    return f"{what} are {', '.join(words) or 'none'}"
