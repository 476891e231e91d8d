"""Decide whether what other jobs did is a reason for a run: tables that changed, runs that ended, or both for a job
that is always on; and whether a condition lets the run start.

An event counts once. What was seen of a table is its version, what was seen of a job is the run that ended; both are
remembered with the run that they started, in one transaction, so that nothing is lost between two looks.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landingd.core.due import Change, End, Fire, Hold, Memory, digest, one_of, since
from landingd.model import (
    CompletionStatus,
    ConditionMode,
    Continuous,
    JobCompletion,
    Result,
    RunRequest,
    TableUpdate,
    Trigger,
    TriggerType,
    utc,
)

WELL = frozenset({Result.SUCCESS, Result.SUCCESS_WITH_FAILURES})
"""Databricks counts a run whose leaves are well as a success."""
ILL = frozenset({Result.FAILED, Result.TIMEDOUT})


# --- tables -------------------------------------------------------------------------------------------------


def versions_now(tables: Collection[str], changes: Mapping[str, Change]) -> dict[str, int]:
    """What a trigger remembers of tables; those that never changed are at 0. `changes` are by lower-case name."""
    return {
        name: changes[name].version if name in changes else 0 for name in sorted(table.casefold() for table in tables)
    }


def table_update(
    trigger: Trigger, on: TableUpdate, memory: Memory, now_s: float, *, changes: Mapping[str, Change]
) -> Fire | Hold:
    """Tables have changed since the last time (Databricks: `table_update`, ANY_UPDATED or ALL_UPDATED)."""
    updated = _updated(on.tables, memory, changes)
    missing = [table for table in on.tables if table not in updated]
    if not updated or (on.all_of and missing):
        return Hold(f"waits for {one_of(missing, all_of=on.all_of)}: not updated since {since(memory)}")
    newest_s = min(max(changes[table.casefold()].changed_at_s for table in updated), now_s)
    cool_s = 0.0
    if memory.last_fired_s is not None and on.min_time_between_triggers_s:
        cool_s = min(memory.last_fired_s, now_s) + on.min_time_between_triggers_s
    due_s = max(newest_s, cool_s) + on.wait_after_last_change_s
    if now_s < due_s:
        what = "cools down" if now_s < cool_s else "waits for tables to be quiet"
        return Hold(f"{what} until {utc(due_s)}; updated: {', '.join(updated)}", due_s)
    versions = versions_now(on.tables, changes)
    of = {table: changes[table.casefold()] for table in updated}
    shown = {table: {"version": c.version, "changed_at_s": c.changed_at_s} for table, c in of.items()}
    request = RunRequest(
        TriggerType.TABLE,
        f"tables:{digest([trigger.key, memory.since_s, versions])}",
        trigger=trigger.key,
        info={"table_update": {"updated_tables": list(updated), "versions": shown}},
    )
    why = "updated: " + ", ".join(f"{table} (version {c.version}, by run {c.run_id})" for table, c in of.items())
    return Fire((request,), why, now_s, memory.with_(versions=versions))


def _updated(tables: Sequence[str], memory: Memory, changes: Mapping[str, Change]) -> list[str]:
    seen: Mapping[str, int] = memory.state.get("versions", {})
    return [
        table
        for table in tables
        if (change := changes.get(table.casefold())) is not None and change.version > seen.get(table.casefold(), 0)
    ]


# --- other jobs ---------------------------------------------------------------------------------------------


def results_that_count(status: CompletionStatus) -> frozenset[Result]:
    """Which ends of a run a `job_completion` trigger counts."""
    match status:
        case CompletionStatus.SUCCESS:
            return WELL
        case CompletionStatus.FAILED:
            return ILL
        case CompletionStatus.DONE:
            return WELL | ILL | {Result.CANCELED}


def counted_from_s(memory: Memory, job: str, now_s: float) -> float:
    """Ends of this job's runs before this time do not count any more."""
    end = memory.state.get("ends", {}).get(job)
    return float(min(memory.since_s if end is None else end["ended_at_s"], now_s))


def job_completion(
    trigger: Trigger, on: JobCompletion, memory: Memory, now_s: float, *, ends: Mapping[str, End]
) -> Fire | Hold:
    """Each of these jobs has ended a run since the last time. `ends`: the newest that counts, from `counted_from_s`."""
    before: Mapping[str, Any] = memory.state.get("ends", {})
    new = {
        job: end
        for job in on.jobs
        if (end := ends.get(job)) is not None
        and (end.run_id, end.repairs) != (before.get(job, {}).get("run_id"), before.get(job, {}).get("repairs"))
    }
    missing = [job for job in on.jobs if job not in new]
    if missing:
        word = {CompletionStatus.SUCCESS: "succeeded", CompletionStatus.FAILED: "failed"}.get(on.if_status, "ended")
        return Hold(f"waits for {one_of(missing, all_of=True)}: no run has {word} since {since(memory)}")
    marks = {job: {"run_id": e.run_id, "repairs": e.repairs, "ended_at_s": e.ended_at_s} for job, e in new.items()}
    request = RunRequest(
        TriggerType.JOB_COMPLETION,
        f"jobs:{digest([trigger.key, [[job, e.run_id, e.repairs] for job, e in sorted(new.items())]])}",
        trigger=trigger.key,
        info={"job_completion": {"runs": {job: end.run_id for job, end in new.items()}}},
    )
    why = "ended: " + ", ".join(f"{job} (run {end.run_id})" for job, end in new.items())
    return Fire((request,), why, now_s, memory.with_(ends=marks))


# --- continuous ---------------------------------------------------------------------------------------------


def continuous(
    trigger: Trigger,
    on: Continuous,
    memory: Memory,
    now_s: float,
    *,
    reads: Collection[str],
    changes: Mapping[str, Change],
    is_open: bool,
) -> Fire | Hold:
    """A continuous job without files. `reads`: tables that it reads and other jobs make; `is_open`: a run goes on."""
    if is_open:
        return Hold()
    backing_off = backs_off(memory, now_s)
    if backing_off is not None:
        return backing_off
    updated = _updated(sorted(reads), memory, changes)
    again = bool(memory.failures) and on.retry
    if again:
        why = f"again, after {_failed(memory.failures)}"
    elif updated:
        why = f"updated: {', '.join(updated)}"
    elif reads:
        return Hold(f"waits for {one_of(sorted(reads), all_of=False)}: not updated since {since(memory)}")
    else:
        due_s = min(memory.last_fired_s or 0.0, now_s) + on.min_interval_s
        if memory.last_fired_s is not None and now_s < due_s:
            return Hold(look_at_s=due_s)
        why = "always on"
    number = int(memory.state.get("number", 0)) + 1
    request = RunRequest(
        TriggerType.CONTINUOUS_RESTART if memory.failures else TriggerType.CONTINUOUS,
        f"continuous:{trigger.key}:{utc(memory.since_s)}:{number}",
        trigger=trigger.key,
    )
    return Fire((request,), why, now_s, memory.with_(versions=versions_now(reads, changes), number=number))


def backs_off(memory: Memory, now_s: float) -> Hold | None:
    """A continuous job whose last runs failed waits; None: it does not, or not any more."""
    if memory.retry_at_s is None or now_s >= memory.retry_at_s:
        return None
    return Hold(f"backs off until {utc(memory.retry_at_s)}, after {_failed(memory.failures)}", memory.retry_at_s)


def continuous_failures(on: Continuous, failures: int, *, result: Result, ran_s: float) -> int:
    """How many runs have failed in a row, with this one.

    A success ends the series; so does a run that had gone on for `reset_after_s` before it failed, which counts as
    the first of a new one. A run that somebody canceled says nothing.
    """
    if result in WELL:
        return 0
    if result not in ILL:
        return failures
    return 1 if ran_s >= on.reset_after_s else failures + 1


# --- conditions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition holds, and why."""

    holds: bool
    why: str
    value: str | None = None
    """To be remembered if a run starts."""


def sql_condition(mode: ConditionMode, rows: Sequence[Mapping[str, Any]], state: Mapping[str, Any]) -> Verdict:
    """Whether the rows that the condition's query returned let a run start (Databricks: `sql_condition`)."""
    if mode is ConditionMode.QUERY_RETURNS_ROWS:
        return Verdict(
            bool(rows), "the condition's query returned rows" if rows else "the condition's query returned no rows"
        )
    first = next(iter(rows[0].values()), None) if rows else None
    value = json.dumps(first, default=str) if rows else "no row"
    before: str | None = state.get("condition_value")
    if before is None:
        return Verdict(holds=True, why=f"the condition's value is {_cut(value)}, seen for the first time", value=value)
    if before == value:
        return Verdict(holds=False, why=f"the condition's value is still {_cut(value)}")
    return Verdict(holds=True, why=f"the condition's value was {_cut(before)} and is {_cut(value)}", value=value)


def _failed(failures: int) -> str:
    return f"{failures} failed run{'' if failures == 1 else 's'}" + ("" if failures == 1 else " in a row")


def _cut(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."
