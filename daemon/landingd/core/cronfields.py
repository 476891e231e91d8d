"""A cron expression is a handful of sets: which seconds, minutes, hours, days, months and years it means.

How they are written is told in `cronsyntax`, which moments they are in a zone in `cron`. Here local time is a number:
the seconds since 1970-01-01 00:00 on the wall clock, whatever the zone.
"""

import calendar
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from landingd.errors import LandingdError

DAY_S = 86400
YEARS_AHEAD = 60
"""Every day that a month and a weekday can name comes again within so many years."""
YEAR_MAX = 9000

_EPOCH = date(1970, 1, 1).toordinal()


class CronError(LandingdError, ValueError):
    """A cron expression or its time zone cannot be used; says which field is wrong, and why."""


@dataclass(frozen=True, slots=True)
class Days:
    """Which days of a month: by their number and by their weekday."""

    numbers: frozenset[int]
    """1 to 31."""
    from_last: frozenset[int]
    """Days before the month's last one: `L` is 0."""
    nearest: frozenset[int]
    """`15W`: the weekday (Monday to Friday) nearest to that day, within the month."""
    nearest_from_last: frozenset[int]
    """`LW` is 0."""
    weekdays: frozenset[int]
    """0 is Sunday."""
    nth: frozenset[tuple[int, int]]
    """`6#3`: (weekday, which one of the month); the last one is 0."""
    either: bool
    """A day that one of the two fields names is enough; otherwise both must name it."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What an expression means."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: frozenset[int]
    years: tuple[int, ...] | None
    """None: every year."""
    any_hour: bool
    """The hours are a pattern (`*`, `*/2`) and not named: no time of day is the expression's own."""
    repeats: bool
    """The minutes or the hours are a pattern: it goes by the time that passes, not by what clocks show."""


def next_local(fields: Fields, after: int) -> int | None:
    """The first moment after this one, in local seconds, that the fields name; None: there is none any more."""
    day, second = divmod(after + 1, DAY_S)
    if not 0 < day + _EPOCH < date(YEAR_MAX, 1, 1).toordinal():
        return None
    start = date.fromordinal(day + _EPOCH)
    for found in matching_days(fields, start):
        time = _time_of_day(fields, second if found == start else 0)
        if time is not None:
            return (found.toordinal() - _EPOCH) * DAY_S + time
    return None


def matching_days(fields: Fields, start: date) -> Iterator[date]:
    """The days that the fields name, from this one on."""
    years: Sequence[int] = range(start.year, min(start.year + YEARS_AHEAD, YEAR_MAX) + 1)
    for year in fields.years if fields.years is not None else years:
        for month in range(start.month if year == start.year else 1, 13):
            if month not in fields.months or (year, month) < (start.year, start.month):
                continue
            for day in _days_of(fields.days, year, month):
                if (year, month, day) >= (start.year, start.month, start.day):
                    yield date(year, month, day)


def _time_of_day(fields: Fields, least: int) -> int | None:
    """The first time of day that is named, from this second on."""
    hour, rest = divmod(least, 3600)
    minute, second = divmod(rest, 60)
    first_minute = fields.minutes[0] * 60 + fields.seconds[0]
    for h in fields.hours[bisect_left(fields.hours, hour) :]:
        if h > hour:
            return h * 3600 + first_minute
        for m in fields.minutes[bisect_left(fields.minutes, minute) :]:
            at = 0 if m > minute else bisect_left(fields.seconds, second)
            if at < len(fields.seconds):
                return h * 3600 + m * 60 + fields.seconds[at]
    return None


@lru_cache(maxsize=4096)
def _days_of(days: Days, year: int, month: int) -> tuple[int, ...]:
    first, length = calendar.monthrange(year, month)  # Monday is 0
    sunday_first = [(first + day) % 7 for day in range(1, length + 1)]
    by_number = {day for day in days.numbers if day <= length} | {length - back for back in days.from_last}
    wanted = [day for day in days.nearest if day <= length] + [length - back for back in days.nearest_from_last]
    by_number |= {_nearest_weekday(day, sunday_first) for day in wanted if day >= 1}
    by_weekday = {day for day, weekday in enumerate(sunday_first, 1) if weekday in days.weekdays}
    for weekday, which in days.nth:
        those = [day for day, each in enumerate(sunday_first, 1) if each == weekday]
        by_weekday |= set(those[-1:] if which == 0 else those[which - 1 : which])
    found = by_number | by_weekday if days.either else by_number & by_weekday
    return tuple(sorted(day for day in found if day >= 1))


def _nearest_weekday(day: int, weekdays: Sequence[int]) -> int:
    """Monday to Friday, nearest to this day; the month is not left for it."""
    match weekdays[day - 1]:
        case 6:
            return day - 1 if day > 1 else day + 2
        case 0:
            return day + 1 if day < len(weekdays) else day - 2
        case _:
            return day
