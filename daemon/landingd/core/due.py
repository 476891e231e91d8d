"""Decide whether a trigger is due, and say why; whoever asks "why did it not fire?" reads these words.

Each kind has one function. It gets what the trigger remembers and what there is to see, and returns `Fire`, with the
requests for runs and what is to be remembered once they are accepted, or `Hold`, with the reason and when to look
again. Here are files and time; what depends on other jobs is in `due_events`.

Both timers of Databricks stand one behind the other: first the cool-down, counted from the start of the last run
of this trigger, then the quiet period, which begins when the cool-down is over and anew with each change.

For files the quiet period is asked for twice and waited for once. `core/settle` lets no file pass as complete
before it alone has been unchanged for `wait_after_last_change_s`; so a file that is complete at a time last changed at
least that long before it, and a batch of one file is due at once. What the batch adds is the other files: one that
is seen while the batch is quiet begins the period anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landingd.core import cron
from landingd.model import (
    Continuous,
    FileArrival,
    JobCompletion,
    Misfire,
    Periodic,
    RunRequest,
    Schedule,
    TableUpdate,
    Trigger,
    TriggerType,
    utc,
)

CATCH_UP_AT_ONCE = 25
"""How many times are caught up with in one transaction; the others follow at once."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a trigger."""

    since_s: float
    """When its definition was first seen."""
    last_fired_s: float | None = None
    failures: int = 0
    retry_at_s: float | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def with_(self, **news: Any) -> dict[str, Any]:
        """Its state with these changes."""
        return {**self.state, **news}


@dataclass(frozen=True, slots=True)
class Change:
    """The newest version of a table."""

    version: int
    changed_at_s: float
    run_id: int


@dataclass(frozen=True, slots=True)
class End:
    """How the newest run of a job that counts has ended."""

    run_id: int
    repairs: int
    ended_at_s: float


@dataclass(frozen=True, slots=True)
class Fire:
    """Runs are due."""

    requests: tuple[RunRequest, ...]
    why: str
    """For the trigger's history; of a time trigger, whose requests carry their time: which times were passed over."""
    last_fired_s: float
    state: Mapping[str, Any]
    look_at_s: float | None = None
    """When to look again in any case."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is due."""

    why: str = ""
    """For the trigger's history; empty: not worth a word."""
    look_at_s: float | None = None
    """None: when something happens."""
    last_fired_s: float | None = None
    """A time up to which everything is dealt with; None: as before."""
    state: Mapping[str, Any] | None = None
    """None: as before."""


# --- files --------------------------------------------------------------------------------------------------


def file_batch_due_s(arrival: FileArrival, last_run_s: float | None, last_arrival_s: float | None) -> float:
    """When a run for the files that wait may start.

    `last_run_s`: when the trigger's last run started; `last_arrival_s`: when the newest of the files last changed,
    which is at least `wait_after_last_change_s` before it was complete.
    """
    quiet_since_s = last_arrival_s or 0.0
    if last_run_s is not None and arrival.min_time_between_triggers_s:
        quiet_since_s = max(quiet_since_s, last_run_s + arrival.min_time_between_triggers_s)
    return quiet_since_s + arrival.wait_after_last_change_s


def why_files_wait(arrival: FileArrival, last_run_s: float | None, due_s: float, now_s: float) -> str:
    """What a batch that is due at `due_s` waits for."""
    cools_until_s = (last_run_s or 0.0) + arrival.min_time_between_triggers_s
    what = "cools down" if now_s < cools_until_s else "waits for files to be quiet"
    return f"{what} until {utc(due_s)}"


def files_wait(
    arrival: FileArrival, memory: Memory, now_s: float, *, newest: int | None, arrived_s: float | None
) -> Fire | Hold:
    """Whether the condition of a file trigger is to be asked, for versions up to `newest`.

    It starts no run itself: the files that it lets through do.
    """
    if newest is None or newest <= memory.state.get("let_through", 0):
        return Hold()
    due_s = file_batch_due_s(arrival, memory.last_fired_s, arrived_s)
    if now_s < due_s:
        return Hold(why_files_wait(arrival, memory.last_fired_s, due_s, now_s), due_s)
    return Fire((), "", now_s, memory.with_(let_through=newest))


# --- time ---------------------------------------------------------------------------------------------------


def ticks_of(on: Schedule | Periodic, since_s: float) -> cron.Ticks:
    """The times of a time trigger; raises CronError."""
    if isinstance(on, Periodic):
        return cron.Every(since_s, on.interval_s)
    return cron.parse(on.expression, on.syntax, on.timezone)


def on_time(trigger: Trigger, memory: Memory, now_s: float, *, ticks: cron.Ticks) -> Fire | Hold:
    """A schedule or a periodic trigger.

    A clock that is set back does not stop it: times that come again have keys that were accepted before.
    """
    last_s, moved_s = _dealt_with(memory, now_s)
    misfire = trigger.on.misfire if isinstance(trigger.on, Schedule) else Misfire.RUN_ONCE
    found = cron.missed(ticks, last_s, now_s, misfire)
    if found.until_s is None:
        return Hold(look_at_s=ticks.next(last_s), last_fired_s=moved_s)
    if not found.fire:
        return Hold(found.passed_over, ticks.next(found.until_s), found.until_s)
    fire = found.fire[:CATCH_UP_AT_ONCE]
    requests = tuple(
        RunRequest(TriggerType.PERIODIC, f"time:{trigger.key}:{utc(at_s)}", trigger=trigger.key, info={"time_s": at_s})
        for at_s in fire
    )
    until_s = found.until_s if len(fire) == len(found.fire) else fire[-1]
    return Fire(requests, found.passed_over, until_s, memory.state, ticks.next(until_s))


def passed_by(memory: Memory, now_s: float, *, ticks: cron.Ticks, why: str | None) -> Hold:
    """A time trigger that is paused, for this reason, or that was paused until now (None): its times go by.

    That it is paused is remembered: times that pass while the daemon does not run go by too.
    """
    state = {key: value for key, value in memory.state.items() if key != "paused"}
    if why is not None:
        state["paused"] = True
    last_s, moved_s = _dealt_with(memory, now_s)
    until_s = cron.missed(ticks, last_s, now_s, Misfire.RUN_ONCE).until_s
    if until_s is None:
        return Hold("", ticks.next(last_s), moved_s, state)
    return Hold(f"{why}: its times go by" if why else "", ticks.next(until_s), until_s, state)


def _dealt_with(memory: Memory, now_s: float) -> tuple[float, float | None]:
    """Up to when times are dealt with; and the same, to be remembered, if the clock was set back behind it."""
    last_s = memory.since_s if memory.last_fired_s is None else memory.last_fired_s
    return (now_s, now_s) if last_s > now_s else (last_s, None)


# --- words --------------------------------------------------------------------------------------------------


def definition(trigger: Trigger) -> str:
    """What a trigger says, as one text: a trigger with another text starts anew. A pause is no part of it."""
    on = trigger.on
    match on:
        case Schedule():
            said: list[Any] = [on.syntax.value, on.expression, on.timezone]
        case Periodic():
            said = [on.interval_s]
        case TableUpdate():
            said = [sorted(table.casefold() for table in on.tables), on.all_of]
        case JobCompletion():
            said = [sorted(on.jobs), on.if_status.value]
        case FileArrival():
            said = [on.path]
        case Continuous():
            said = [on.source.path if on.source else None]
    condition = [trigger.condition.mode.value, trigger.condition.sql] if trigger.condition else None
    return f"{trigger.kind.value} {json.dumps([*said, condition])}"


def renamed(known: Mapping[str, str], says: Mapping[str, str]) -> dict[str, str]:
    """Old and new name of each trigger that has another one now, because others were put before it or taken away.

    `known`: what each said, by the name that it had; `says`: what each says now. One that says something new is new.
    """
    gone = {name: said for name, said in known.items() if said and says.get(name) != said}
    found: dict[str, str] = {}
    for name, said in says.items():
        before = None if known.get(name) == said else next((old for old, one in gone.items() if one == said), None)
        if before is not None:
            del gone[before]
            found[before] = name
    return found


def fired(request: RunRequest, why: str) -> str:
    """Why there is a run for this request."""
    if "time_s" not in request.info:
        return why
    return f"scheduled for {utc(request.info['time_s'])}" + (f"; {why}" if why else "")


def one_of(names: Sequence[str], *, all_of: bool) -> str:
    """What a trigger waits for."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return shown if all_of or len(names) == 1 else f"one of {shown}"


def since(memory: Memory) -> str:
    """The last time, by the run that it started."""
    run_id = memory.state.get("run_id")
    return str(utc(memory.since_s)) if run_id is None else f"run {run_id}"


def digest(value: Any) -> str:
    """What a key is made of: the same for the same JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
