"""Decide which runs a backfill is: one for each value of a parameter in a range.

"October again, day by day" is thirty-one runs that differ in one value. Which values these are is counted out before
anything is asked for, so that a dry run shows them, a mistyped year is refused and not begun, and the same backfill
asked for again finds the runs that it has.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any

from landingd.core import moments, references
from landingd.core.references import RunContext
from landingd.errors import RefusedError
from landingd.model import Job, Parameter, TriggerType, ValueType, Widget, utc

VALUES_MAX = 10_000

_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_STEP = re.compile(r"([1-9]\d{0,6})\s*(mo|[smhdw])", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": moments.DAY_S, "w": 7 * moments.DAY_S}
_STEPS = "1d, 2w, 1mo, 6h, 15m, 30s"


@dataclass(frozen=True, slots=True)
class Range:
    """The values of one parameter, from `first` to `last`, both included; backwards where `last` is before `first`."""

    parameter: str
    first: str
    last: str
    step: str = ""
    """"1d", "1w", "1mo", "6h" of dates and times, a number of numbers; "": a day, or one."""


def values(parameter: Parameter, range_: Range) -> tuple[str, ...]:
    """The values, each written as the parameter's runs write it. Raises RefusedError.

    The parameter's type says what is counted; of plain text its choices, or what `first` looks like.
    """
    found: list[str] = []
    for value in _counter(parameter, range_)(range_):
        if len(found) == VALUES_MAX:
            raise RefusedError(
                f"{_said(range_)} is more than {VALUES_MAX} runs", hint="take a longer step, or several backfills"
            )
        found.append(value)
    return tuple(found)


def backfill_id(job: str, range_: Range, parameters: Mapping[str, str]) -> str:
    """The id of a backfill that was given none: the same question has the same one."""
    asked = [job, range_.parameter, range_.first, range_.last, range_.step, sorted(parameters.items())]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def id_of(text: str) -> str:
    """The id of a backfill for which somebody has chosen a name: the name, or its digest where it is no word.

    It is a part of keys and of an address, in which a colon or a slash would mean something else.
    """
    return text if _ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:16]


def parameters_of(job: Job, range_: Range, value: str, given: Mapping[str, str]) -> dict[str, str]:
    """The parameters that the run for one value is given; `{{backfill.iso_date}}` in them is replaced.

    Raises RefusedError for one that the job does not take, and UnresolvedError where the range is not over dates.
    """
    if range_.parameter in given:
        raise RefusedError(f"the backfill runs over {range_.parameter!r}", hint="leave it out of the other parameters")
    context = RunContext(job.name, 0, 0, {}, TriggerType.BACKFILL.value, None, info(value), 0.0)
    for text in given.values():
        other = next((name for name in references.names(text) if not name.startswith("backfill.")), None)
        if other is not None:
            raise RefusedError(
                f"'{{{{{other}}}}}' cannot stand in a backfill's parameters: nothing is known of its runs yet",
                hint="{{backfill.iso_date}} and {{backfill.iso_datetime}} can",
            )
    chosen = {name: references.resolve(text, context) for name, text in given.items()} | {range_.parameter: value}
    references.choose_parameters(job, chosen)
    return chosen


def key(id_: str, value: str) -> str:
    """The trigger key of one of its runs."""
    return f"backfill:{id_}:{value}"


def info(value: str) -> dict[str, Any]:
    """What `{{backfill...}}` stands for in the run for this value; nothing where it is no date."""
    time = moments.time_of(value)
    if time is None:
        return {"backfill": {}}
    iso_datetime = value if time.between else str(utc(time.wall_s))
    return {"backfill": {"iso_date": value[:10], "iso_datetime": iso_datetime}}


# --- counting ---------------------------------------------------------------------------------------------

_Counter = Callable[[Range], Iterator[str]]


def _counter(parameter: Parameter, range_: Range) -> _Counter:
    by_type: Mapping[ValueType, _Counter] = {
        ValueType.DATE: _dates,
        ValueType.TIMESTAMP: _times,
        ValueType.INTEGER: _whole_numbers,
        ValueType.NUMBER: _numbers,
    }
    found = by_type.get(parameter.type)
    if found is not None:
        return found
    if parameter.choices and parameter.widget is not Widget.COMBOBOX:
        return lambda range_: _choices(parameter, range_)
    by_shape: list[tuple[Callable[[str], object], _Counter]] = [
        (moments.day_of, _dates),
        (moments.time_of, _times),
        (_INTEGER.fullmatch, _whole_numbers),
    ]
    for looks_like, counter in by_shape:
        if looks_like(range_.first) is not None and looks_like(range_.last) is not None:
            return counter
    raise RefusedError(
        f"there is no range from {range_.first!r} to {range_.last!r}",
        hint="dates (2026-11-05), times (2026-11-05T08:00:00Z), whole numbers, or choices of the parameter",
    )


def _dates(range_: Range) -> Iterator[str]:
    first, last = (moments.day_of(text) for text in (range_.first, range_.last))
    if first is None or last is None:
        raise _no("a date, such as 2026-11-05", range_)
    number, unit = _step(range_)
    if unit in {"s", "m", "h"}:
        raise RefusedError(f"a date has no hours: the step cannot be {range_.step!r}", hint="1d, 2w or 1mo")
    for day in _days(first, last, number, unit):
        yield moments.date_text(day)


def _days(first: int, last: int, number: int, unit: str) -> Iterator[int]:
    if unit == "mo":
        # Counted from the first one each time: 31 January, 28 February, 31 March.
        return _series(lambda n: moments.months_later(first, n * number), first, last)
    length = number * (_UNITS_S[unit] // moments.DAY_S)
    return _series(lambda n: first + n * length, first, last)


def _times(range_: Range) -> Iterator[str]:
    first, last = (moments.time_of(text) for text in (range_.first, range_.last))
    if first is None or last is None:
        raise _no("a time, such as 2026-11-05T08:00:00Z", range_)
    if first.zone != last.zone or first.fraction or last.fraction:
        raise RefusedError(
            f"{range_.first!r} and {range_.last!r} cannot be counted between",
            hint="write both with the same zone, and without fractions of a second",
        )
    number, unit = _step(range_)
    day, of_day_s = divmod(first.wall_s, moments.DAY_S)

    def step(n: int) -> int:
        if unit == "mo":
            return moments.months_later(day, n * number) * moments.DAY_S + of_day_s
        return first.wall_s + n * number * _UNITS_S[unit]

    for wall_s in _series(step, first.wall_s, last.wall_s):
        yield moments.time_text(wall_s, first)


def _whole_numbers(range_: Range) -> Iterator[str]:
    if not _INTEGER.fullmatch(range_.first) or not _INTEGER.fullmatch(range_.last):
        raise _no("a whole number", range_)
    first, last, step = int(range_.first), int(range_.last), _whole_step(range_)
    # 01 to 12 is 01, 02, ... and not 1, 2, ...
    padded = len(range_.first) == len(range_.last) and "0" in {range_.first[0], range_.last[0]}
    width = len(range_.first) if padded else 0
    for number in _series(lambda n: first + n * step, first, last):
        yield str(number).zfill(width)


def _numbers(range_: Range) -> Iterator[str]:
    try:
        first, last, step = (Decimal(text) for text in (range_.first, range_.last, range_.step or "1"))
    except InvalidOperation:
        raise _no("a number", range_) from None
    if not (first.is_finite() and last.is_finite() and step.is_finite() and step > 0):
        raise _no("a number, and the step one above 0", range_)
    for number in _series(lambda n: first + n * step, first, last):
        yield f"{number:f}"


def _choices(parameter: Parameter, range_: Range) -> Iterator[str]:
    """From one choice to another, in the order in which the job lists them."""
    for text in (range_.first, range_.last):
        if text not in parameter.choices:
            hint = f"the choices are {', '.join(parameter.choices)}"
            raise RefusedError(f"parameter {parameter.name!r} cannot be {text!r}: it is none of the choices", hint=hint)
    first, last = parameter.choices.index(range_.first), parameter.choices.index(range_.last)
    step = _whole_step(range_)
    for index in _series(lambda n: first + n * step, first, last):
        yield parameter.choices[index]


def _series(step: Callable[[int], Any], first: Any, last: Any) -> Iterator[Any]:
    """`step(0)`, `step(1)`, ... up to `last`; where that is before `first`, `step(0)`, `step(-1)`, ... down to it."""
    forwards = first <= last
    for n in count():
        try:
            at = step(n if forwards else -n)
        except OverflowError:  # beyond the year 9999
            return
        if (at > last) if forwards else (at < last):
            return
        yield at


def _step(range_: Range) -> tuple[int, str]:
    found = _STEP.fullmatch((range_.step or "1d").strip())
    if found is None:
        raise RefusedError(f"{range_.step!r} is no step between times", hint=_STEPS)
    return int(found[1]), found[2]


def _whole_step(range_: Range) -> int:
    step = range_.step.strip() or "1"
    if not _INTEGER.fullmatch(step) or int(step) < 1:
        raise RefusedError(f"{range_.step!r} is no step between whole numbers", hint="1, 2, 10")
    return int(step)


def _no(what: str, range_: Range) -> RefusedError:
    return RefusedError(f"{_said(range_)}: both ends must be {what}")


def _said(range_: Range) -> str:
    return f"{range_.parameter} from {range_.first!r} to {range_.last!r}"
