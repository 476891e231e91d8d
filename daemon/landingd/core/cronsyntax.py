"""Two dialects write cron expressions.

Quartz (Databricks: `quartz_cron_expression`) begins with seconds, counts Sunday as 1, and of the two fields that can
name days one is `?`. Unix cron has five fields, counts Sunday as 0 or 7, and where both day fields name days either is
enough, unless one of them begins with a star (Debian's cron). What only one of them knows is refused in the other, with
a hint. Both know `L`, `L-3`, `LW`, `15W`, `5L` and `5#2` here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from landingd.core.cronfields import CronError, Days, Fields, matching_days
from landingd.model import CronSyntax

_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def fields_of(expression: str, syntax: CronSyntax) -> Fields:
    """Read an expression; raises CronError."""
    parts = _parts(expression.strip().upper(), expression, syntax)
    dialect = _QUARTZ if syntax is CronSyntax.QUARTZ else _UNIX
    read = [spec.over(expression, n, text) for n, (spec, text) in enumerate(zip(dialect, parts, strict=False), 1)]
    seconds, minutes, hours, numbers, months, weekdays = read[:6] if syntax is CronSyntax.QUARTZ else [None, *read]
    assert minutes and hours and numbers and months and weekdays  # noqa: S101, PT018 -- both dialects have these
    found = Fields(
        seconds=tuple(sorted(seconds.values())) if seconds else (0,),
        minutes=tuple(sorted(minutes.values())),
        hours=tuple(sorted(hours.values())),
        days=_days(numbers, weekdays, syntax),
        months=frozenset(months.values()),
        years=tuple(sorted(read[6].values())) if len(read) > 6 and read[6].text != "*" else None,
        any_hour=hours.is_pattern,
        repeats=hours.is_pattern or minutes.is_pattern,
    )
    if next(matching_days(found, date(2000, 1, 1) if found.years is None else date(1970, 1, 1)), None) is None:
        raise CronError(
            f"cron expression {expression!r} never fires: no month has such a day", hint="check the day and the month"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Spec:
    """One field of a dialect."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict[str, int])
    quartz: bool = True

    def over(self, expression: str, number: int, text: str) -> "_Field":
        return _Field(self, expression, number, text)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of an expression, about to be read."""

    spec: _Spec
    expression: str
    number: int
    text: str

    @property
    def is_pattern(self) -> bool:
        """Every one, or every so many, from some on; Quartz writes `0/15` for it."""
        first = self.text.split(",")[0]
        return first.startswith("*") or (self.spec.quartz and "/" in first and "-" not in first)

    @property
    def terms(self) -> list[str]:
        return self.text.split(",")

    def wrong(self, what: str, hint: str | None = None) -> CronError:
        where = f"field {self.number} ({self.spec.name})"
        return CronError(f"cron expression {self.expression!r}, {where}: {what}", hint=hint)

    def values(self) -> set[int]:
        return {value for term in self.terms for value in self.term(term)}

    def term(self, term: str) -> Iterator[int]:
        """`*`, `5`, `MON-FRI`, `0/15`, `*/15`, `10-40/5`."""
        base, slash, step_text = term.partition("/")
        step = self.step(step_text) if slash else 1
        low, high = self.spec.low, self.spec.high
        if base == "*" or (not base and slash and self.spec.quartz):
            return iter(range(low, high + 1, step))
        start_text, dash, end_text = base.partition("-")
        start = self.value(start_text)
        if not dash:
            return iter(range(start, high + 1, step) if slash else (start,))
        end = self.value(end_text)
        if end >= start:
            return iter(range(start, end + 1, step))
        if not self.spec.quartz or self.spec.name == "year":
            raise self.wrong(f"the range {base!r} ends before it begins")
        span = high - low + 1
        return (low + (value - low) % span for value in range(start, end + span + 1, step))

    def value(self, text: str) -> int:
        if text in self.spec.names:
            return self.spec.names[text]
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None
        if value is None or not self.spec.low <= value <= self.spec.high:
            names = f", or {', '.join(self.spec.names)}" if self.spec.names else ""
            raise self.wrong(f"{text!r} is not from {self.spec.low} to {self.spec.high}{names}", self.hint(text))
        return value

    def step(self, text: str) -> int:
        most = self.spec.high - self.spec.low + 1
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and 0 < int(text) <= most):
            raise self.wrong(f"the step {text!r} is not from 1 to {most}")
        return int(text)

    def hint(self, text: str) -> str | None:
        if "?" in text:
            return "`?` stands alone, and only for the day of the month or of the week; Unix cron writes `*`"
        return "midnight is 0" if self.spec.name == "hour" and text == "24" else None


def _quartz() -> tuple[_Spec, ...]:
    weekdays = {name: n for n, name in enumerate(_WEEKDAYS, 1)}
    return (
        _Spec("second", 0, 59),
        _Spec("minute", 0, 59),
        _Spec("hour", 0, 23),
        _Spec("day of month", 1, 31),
        _Spec("month", 1, 12, _MONTHS),
        _Spec("day of week", 1, 7, weekdays),
        _Spec("year", 1970, 2099),
    )


def _unix() -> tuple[_Spec, ...]:
    weekdays = {name: n for n, name in enumerate(_WEEKDAYS)}
    return (
        _Spec("minute", 0, 59, quartz=False),
        _Spec("hour", 0, 23, quartz=False),
        _Spec("day of month", 1, 31, quartz=False),
        _Spec("month", 1, 12, _MONTHS, quartz=False),
        _Spec("day of week", 0, 7, weekdays, quartz=False),
    )


_QUARTZ = _quartz()
_UNIX = _unix()
_NICKNAMES = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}


def _parts(text: str, expression: str, syntax: CronSyntax) -> list[str]:
    if syntax is CronSyntax.QUARTZ:
        parts = text.split()
        if len(parts) not in {6, 7}:
            hint = "five fields are Unix cron: give them as `cron`" if len(parts) == 5 else None
            what = "has 6 or 7 fields: second minute hour day-of-month month day-of-week [year]"
            raise CronError(f"cron expression {expression!r} has {len(parts)}; Quartz {what}", hint=hint)
        return parts
    if text.startswith("@") and text not in _NICKNAMES:
        raise CronError(f"cron expression {expression!r} is none of {', '.join(_NICKNAMES).lower()}")
    parts = _NICKNAMES.get(text, text).split()
    if len(parts) != 5:
        hint = "six or seven fields are Quartz: give them as `quartz_cron_expression`" if len(parts) in {6, 7} else None
        what = "Unix cron has 5 fields: minute hour day-of-month month day-of-week"
        raise CronError(f"cron expression {expression!r} has {len(parts)}; {what}", hint=hint)
    return parts


_LAST = re.compile(r"L(?:-(\d{1,2}))?(W?)")
_NEAREST = re.compile(r"(\d{1,2})W")
_NTH = re.compile(r"(\w+)#(\d)")
_LAST_OF = re.compile(r"(\w+)L")


def _days(numbers: _Field, weekdays: _Field, syntax: CronSyntax) -> Days:
    quartz = syntax is CronSyntax.QUARTZ
    if quartz and (numbers.text == "?") is (weekdays.text == "?"):
        raise weekdays.wrong(
            "one of day-of-month and day-of-week is to be `?`, and the other is not",
            "for every day write `* * ?` for day of month, month and day of week",
        )
    from_last, nearest, nearest_from_last = set[int](), set[int](), set[int]()
    plain = set[int]()
    for term in ["*"] if quartz and numbers.text == "?" else numbers.terms:
        if last := _LAST.fullmatch(term):
            back = int(last[1] or 0)
            if back > 30:
                raise numbers.wrong(f"{term!r}: a month has no day so long before its last one")
            (nearest_from_last if last[2] else from_last).add(back)
        elif near := _NEAREST.fullmatch(term):
            nearest.add(numbers.value(near[1]))
        else:
            plain |= set(numbers.term(term))
    named, nth = _weekdays(weekdays, quartz=quartz)
    starred = any(field.text.startswith("*") for field in (numbers, weekdays))
    return Days(
        numbers=frozenset(plain),
        from_last=frozenset(from_last),
        nearest=frozenset(nearest),
        nearest_from_last=frozenset(nearest_from_last),
        weekdays=frozenset(named),
        nth=frozenset(nth),
        either=not quartz and not starred,
    )


def _weekdays(weekdays: _Field, *, quartz: bool) -> tuple[set[int], set[tuple[int, int]]]:
    """Weekdays, Sunday as 0, and `(weekday, which of the month)`."""
    sunday = 1 if quartz else 0
    plain, nth = set[int](), set[tuple[int, int]]()
    for term in ["*"] if quartz and weekdays.text == "?" else weekdays.terms:
        if term == "L" and quartz:  # Quartz: alone it means 7, Saturday
            plain.add(6)
        elif found := _NTH.fullmatch(term):
            if not 1 <= int(found[2]) <= 5:
                raise weekdays.wrong(f"{term!r}: a month has a weekday up to five times")
            nth.add(((weekdays.value(found[1]) - sunday) % 7, int(found[2])))
        elif found := _LAST_OF.fullmatch(term):
            nth.add(((weekdays.value(found[1]) - sunday) % 7, 0))
        else:
            plain |= {(value - sunday) % 7 for value in weekdays.term(term)}
    return plain, nth
