"""Read and write dates and times as text, in UTC, without a clock.

Parameters are text, so a date that cannot be (2026-02-30) is a text like any other until somebody counts. Here
counting is done with whole days and seconds since 1970-01-01; which day today is, nobody here knows.
"""

import calendar
import math
import re
from dataclasses import dataclass

from landingd.model import utc

DAY_S = 86400
PARTS = (
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "is_weekday",
    "iso_weekday",
    "iso_date",
    "iso_datetime",
    "timestamp_ms",
)
"""What can be asked of a time in a reference (Databricks: the arguments of `{{job.start_time.<argument>}}`)."""

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"([Tt ])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Written:
    """A date and time as it was written: the clock on the wall, and the zone behind it."""

    wall_s: int
    """Whole seconds from 1970-01-01 00:00 to what the text shows, whatever its zone."""
    between: str
    """Between date and time: "T" or a space; "": the text is a date alone."""
    zone: str
    """As written: "Z", "+01:00"; "": none."""
    fraction: str = ""
    """Digits behind the second."""


def part(time_s: float, name: str) -> str:
    """One of PARTS of a time, in UTC: `iso_date` is 2026-11-05, `is_weekday` is true or false, Monday is 1."""
    time_s = math.floor(time_s * 1000) / 1000  # the millisecond that is shown has begun
    text = str(utc(time_s))
    numbers = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    if name in PARTS[:6]:
        return str(int(numbers[PARTS.index(name)]))
    weekday = (math.floor(time_s / DAY_S) + 3) % 7 + 1  # 1970-01-01 was a Thursday
    others = {
        "is_weekday": "true" if weekday <= 5 else "false",
        "iso_weekday": str(weekday),
        "iso_date": text[:10],
        "iso_datetime": text,
        "timestamp_ms": str(round(time_s * 1000)),
    }
    return others[name]


def day_of(text: str) -> int | None:
    """Days from 1970-01-01 to a date written as 2026-11-05; None: it is none."""
    found = _DATE.fullmatch(text)
    return None if found is None else _days(int(found[1]), int(found[2]), int(found[3]))


def date_text(day: int) -> str:
    """The date of so many days after 1970-01-01."""
    return str(utc(day * DAY_S))[:10]


def time_of(text: str) -> Written | None:
    """A time written as 2026-11-05T08:00:00Z (RFC 3339; zone, fraction and seconds may be missing), or a date."""
    day = day_of(text[:10])
    if day is None:
        return None
    if len(text) == 10:
        return Written(day * DAY_S, "", "")
    found = _TIME.fullmatch(text, 10)
    if found is None:
        return None
    hour, minute, second = int(found[2]), int(found[3]), int(found[4] or 0)
    zone = found[6] or ""
    if hour > 23 or minute > 59 or second > 59 or not _is_zone(zone):
        return None
    return Written(day * DAY_S + hour * 3600 + minute * 60 + second, found[1], zone, found[5] or "")


def time_text(wall_s: int, like: Written) -> str:
    """A time of the wall clock, written like another one."""
    text = str(utc(wall_s))
    return f"{text[:10]}{like.between or 'T'}{text[11:19]}{'.' if like.fraction else ''}{like.fraction}{like.zone}"


def months_later(day: int, months: int) -> int:
    """The same day so many months later (or, negative, earlier), or the last one of a month that has no such day."""
    text = date_text(day)
    count = int(text[:4]) * 12 + int(text[5:7]) - 1 + months
    year, month = divmod(count, 12)
    length = calendar.monthrange(year, month + 1)[1]
    found = _days(year, month + 1, min(int(text[8:10]), length))
    if found is None:
        raise OverflowError(f"year {year}")
    return found


def _days(year: int, month: int, day: int) -> int | None:
    if not 1 <= year <= 9999 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, 0, 0, 0)) // DAY_S


def _is_zone(zone: str) -> bool:
    digits = zone[1:].replace(":", "")
    return not digits or (int(digits[:2]) <= 23 and int(digits[2:]) <= 59)
