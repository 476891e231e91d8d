"""When a cron expression fires, in a zone whose clocks are set forward and back.

Twice a year local time is no good name for a moment. The rule here, for both dialects:

* **A time that the clocks skip** fires at the first moment after the gap, once: a job "at 02:30" runs at 03:00. Where
  the hours are a pattern (`*`, `*/2`, Quartz also `0/2`) nothing is lost and nothing is made up: an hourly job
  at half past runs 01:30 and 03:30, which is an hour later.
* **A time that the clocks show twice** fires once, the first time. Where the minutes or the hours are a pattern the
  job goes by the time that passes, and fires in both passes: every 15 minutes stays every 15 minutes.

That is Debian's cron, and what `cronsim` does, but for two things: several times within one gap are one run and not
one each, and `*/15 2 * * *`, all of which lies in the gap, runs once after it and not never.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from landingd.core.cronfields import CronError, Fields, next_local
from landingd.core.cronsyntax import fields_of
from landingd.errors import did_you_mean
from landingd.model import CronSyntax, Misfire, Periodic, utc

__all__ = ["CATCH_UP_MAX", "MISFIRE_AFTER_S", "Cron", "CronError", "Every", "Missed", "Ticks", "missed", "parse"]

CATCH_UP_MAX = 1000
"""How many missed times `catch_up` fires for; older ones are passed over."""
MISFIRE_AFTER_S = 60.0
"""A time that is looked at later than this was missed (Quartz: `misfireThreshold`)."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- local time without a zone is what is meant
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


class Ticks(Protocol):
    """A series of moments."""

    def next(self, after_s: float) -> float | None:
        """The first one after this; None: there is none any more."""


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression in a zone; made by `parse`."""

    expression: str
    syntax: CronSyntax
    timezone: str
    fields: Fields = field(repr=False)
    zone: ZoneInfo = field(repr=False, compare=False)

    def next(self, after_s: float) -> float | None:
        """The first time it fires after this one, strictly; None: never again."""
        after = math.floor(after_s)
        offset = _offset_at(self.zone, after)
        here = after + offset
        first, second = _offsets(self.zone, here)
        if first <= second:
            return self._next_from(here)
        # The clocks show this time twice. They are set back from `ends` to `begins`.
        again = offset == second
        lasts = first - second
        back_at = _change(self.zone, *((after - lasts, after) if again else (after, after + lasts)))
        begins, ends = back_at + second, back_at + first
        if not again and (local := next_local(self.fields, here)) is not None and local < ends:
            return float(local - first)
        if self.fields.repeats:
            local = next_local(self.fields, here if again else begins - 1)
            if local is not None and local < ends:
                return float(local - second)
        return self._next_from(ends - 1)

    def _next_from(self, local: int) -> float | None:
        """The first time it fires after this local time, which the clocks show for the last time."""
        while (found := next_local(self.fields, local)) is not None:
            before, behind = _offsets(self.zone, found)
            if before >= behind:
                return float(found - before)
            forward_at = _change(self.zone, found - behind, found - before)
            if not self.fields.any_hour:
                return float(forward_at)
            local = forward_at + behind - 1
        return None


def parse(expression: str, syntax: CronSyntax, timezone: str = "UTC") -> Cron:
    """Read an expression of either dialect, in an IANA zone; raises CronError."""
    return Cron(expression, syntax, timezone, fields_of(expression, syntax), _zone(timezone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        near = did_you_mean(name, available_timezones())
        raise CronError(
            f"there is no time zone {name!r}", hint=near or "an IANA name, such as Europe/Berlin or UTC"
        ) from error


def _offsets(zone: ZoneInfo, local: int) -> tuple[int, int]:
    """What the clocks may be ahead of UTC at this local time: before and behind a change of the clocks (PEP 495)."""
    naive = _EPOCH + timedelta(seconds=local)
    first, second = (naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return _seconds(first), _seconds(second)


def _offset_at(zone: ZoneInfo, at: int) -> int:
    return _seconds((_EPOCH_UTC + timedelta(seconds=at)).astimezone(zone).utcoffset())


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())


def _change(zone: ZoneInfo, before: int, behind: int) -> int:
    """The first second, up to `behind`, whose offset is not the one of `before`."""
    offset = _offset_at(zone, before)
    while behind - before > 1:
        middle = (before + behind) // 2
        if _offset_at(zone, middle) == offset:
            before = middle
        else:
            behind = middle
    return behind


@dataclass(frozen=True, slots=True)
class Every:
    """Every `interval_s` from `start_s` on (Databricks: `trigger.periodic`)."""

    start_s: float
    interval_s: float

    def next(self, after_s: float) -> float | None:
        """The first multiple after this."""
        times = math.floor((after_s - self.start_s) / self.interval_s) + 1
        # Division and product round apart; one step makes it strict.
        at_s = self.start_s + times * self.interval_s
        return at_s if at_s > after_s else self.start_s + (times + 1) * self.interval_s


def every(periodic: Periodic, since_s: float) -> Every:
    """A periodic trigger that was first seen at a time."""
    return Every(since_s, periodic.interval_s)


# --- times that have passed ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Missed:
    """What to do about the times that have passed."""

    fire: tuple[float, ...] = ()
    """For these, oldest first."""
    until_s: float | None = None
    """Every time up to this one is dealt with; None: none has passed."""
    passed_over: str = ""
    """Which were left out, for people; empty: none."""


def missed(ticks: Ticks, last_s: float, now_s: float, misfire: Misfire, *, most: int = CATCH_UP_MAX) -> Missed:
    """What is to be fired for the times after `last_s` up to `now_s`.

    One that has just come fires under every policy. Of those that were missed RUN_ONCE fires for the latest, SKIP for
    none, CATCH_UP for each of the latest `most`.
    """
    passed, more = _newest(ticks, last_s, now_s, most if misfire is Misfire.CATCH_UP else 1)
    if not passed:
        return Missed()
    fire = passed
    if misfire is Misfire.SKIP and now_s - passed[-1] > MISFIRE_AFTER_S:
        fire = []
    if not fire:
        since = "and times before it " if more else ""
        return Missed((), passed[-1], f"{utc(passed[-1])} {since}passed while nobody looked (misfire: skip)")
    over = f"times between {utc(last_s)} and {utc(fire[0])} passed over (misfire: {misfire.value})" if more else ""
    return Missed(tuple(fire), passed[-1], over)


def _newest(ticks: Ticks, last_s: float, now_s: float, most: int) -> tuple[list[float], bool]:
    """The newest times up to now, and whether there are older ones.

    It looks back in growing steps: after a year of downtime nobody counts the seconds.
    """
    span_s = 64.0
    while True:
        since_s = max(last_s, now_s - span_s)
        found: deque[float] = deque(maxlen=most + 1)
        at_s = ticks.next(since_s)
        while at_s is not None and at_s <= now_s:
            found.append(at_s)
            at_s = ticks.next(at_s)
        if len(found) > most or since_s == last_s:
            return list(found)[-most:], len(found) > most
        span_s *= 4
