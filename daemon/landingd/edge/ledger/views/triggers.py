"""Why a job started, and why it did not: its triggers, what each said last, and what it waits for."""

import sqlite3
from collections.abc import Sequence

from landingd.edge.ledger.views.opening import Answer
from landingd.model import (
    Continuous,
    FileArrival,
    JobCompletion,
    Periodic,
    Schedule,
    TableUpdate,
    Trigger,
    TriggerOutcome,
    utc,
)


def triggers(
    db: sqlite3.Connection, job: str, definitions: Sequence[Trigger], *, job_paused: bool = False, limit: int = 20
) -> Answer:
    """The job's triggers with the newest `limit` entries of each one's history.

    `job_paused` is what the job file says of the whole job; pauses on request stand above it and each trigger's own.
    The last evaluation of each outcome has the shape of Databricks' trigger history.
    """
    known = {row["trigger_name"]: row for row in db.execute("SELECT * FROM triggers WHERE job = ?", (job,)).fetchall()}
    why = _why_paused(known.get(""), job_paused, "the job")
    return {
        "job": job,
        "paused": why is not None,
        "paused_because": why,
        "triggers": [
            _trigger(one, known.get(one.key), why) | _evaluations(db, job, one.key, limit) for one in definitions
        ],
        "files": _files(db, job) if any(_brings_files(one) for one in definitions) else None,
    }


def _brings_files(trigger: Trigger) -> bool:
    on = trigger.on
    return isinstance(on, FileArrival) or (isinstance(on, Continuous) and on.source is not None)


def _files(db: sqlite3.Connection, job: str) -> Answer:
    """Files that a trigger saw and that start no run: not complete yet, or complete and not to be loaded."""
    incomplete = db.execute(
        "SELECT count(*) AS n, min(file_id) AS oldest FROM files "
        "WHERE job = ? AND state = 'waiting' AND content_hash IS NULL",
        (job,),
    ).fetchone()
    refused = [
        row["newest"]
        for state in ("duplicate", "quarantined")
        for row in db.execute("SELECT max(file_id) AS newest FROM files WHERE state = ? AND job = ?", (state, job))
        if row["newest"] is not None
    ]
    return {
        "incomplete": incomplete["n"],
        "oldest_incomplete": _file(db, incomplete["oldest"]),
        "last_not_taken": _file(db, max(refused, default=None)),
    }


def _file(db: sqlite3.Connection, file_id: int | None) -> Answer | None:
    row = db.execute("SELECT name, state, reason, seen_at_s FROM files WHERE file_id = ?", (file_id,)).fetchone()
    if row is None:
        return None
    return {"file": row["name"], "state": row["state"], "reason": row["reason"], "seen_at": utc(row["seen_at_s"])}


def _trigger(trigger: Trigger, row: sqlite3.Row | None, job_why: str | None) -> Answer:
    why = job_why or _why_paused(row, trigger.paused, "the trigger")
    known = row is not None and row["definition"] != ""
    next_s = row["next_fire_s"] if row is not None and why is None else None
    return {
        "trigger": trigger.key,
        "kind": trigger.kind.value,
        "says": says(trigger),
        "paused": why is not None,
        "paused_because": why,
        "since": utc(row["since_s"]) if row is not None and known else None,
        "next_fire_time": utc(next_s),
        "is_over": known and why is None and next_s is None and isinstance(trigger.on, Schedule | Periodic),
        "failures": row["failures"] if row is not None else 0,
        "retry_at": utc(row["retry_at_s"]) if row is not None else None,
    }


def _evaluations(db: sqlite3.Connection, job: str, name: str, limit: int) -> Answer:
    return {
        "last_triggered": _last(db, job, name, TriggerOutcome.TRIGGERED),
        "last_not_triggered": _last(db, job, name, TriggerOutcome.NOT_TRIGGERED),
        "last_failed": _last(db, job, name, TriggerOutcome.FAILED),
        "last_skipped": _last(db, job, name, TriggerOutcome.SKIPPED),
        "history": _history(db, job, name, limit),
    }


def _why_paused(row: sqlite3.Row | None, said: bool, what: str) -> str | None:  # noqa: FBT001 -- what the file says
    asked = None if row is None or row["paused"] is None else bool(row["paused"])
    if asked if asked is not None else said:
        return f"{what} is paused, {'on request' if asked else 'by the job file'}"
    return None


def _last(db: sqlite3.Connection, job: str, name: str, outcome: TriggerOutcome) -> Answer | None:
    row = db.execute(
        "SELECT * FROM trigger_history WHERE job = ? AND trigger_name = ? AND outcome = ? ORDER BY seq DESC LIMIT 1",
        (job, name, outcome.value),
    ).fetchone()
    if row is None:
        return None
    return {"timestamp": utc(row["last_s"]), "description": row["description"], "run_id": row["run_id"]}


def _history(db: sqlite3.Connection, job: str, name: str, limit: int) -> list[Answer]:
    """The newest first."""
    rows = db.execute(
        "SELECT * FROM trigger_history WHERE job = ? AND trigger_name = ? ORDER BY seq DESC LIMIT ?",
        (job, name, limit),
    )
    return [
        {
            "outcome": row["outcome"],
            "description": row["description"],
            "run_id": row["run_id"],
            "first_at": utc(row["first_s"]),
            "last_at": utc(row["last_s"]),
            "times": row["times"],
        }
        for row in rows
    ]


# --- in words -----------------------------------------------------------------------------------------------


def says(trigger: Trigger) -> str:
    """What the trigger says, for people."""
    only_if = f", if its condition holds ({trigger.condition.mode.value})" if trigger.condition else ""
    on = trigger.on
    match on:
        case Schedule():
            said = f"{on.syntax.value} {on.expression}, {on.timezone}, misfire: {on.misfire.value}"
        case Periodic():
            said = f"every {_seconds(on.interval_s)}"
        case FileArrival():
            said = f"files in {on.path}" + _timers(on)
        case Continuous():
            said = "always on" + (f", files in {on.source.path}" if on.source else "")
        case TableUpdate():
            which = "all of " if on.all_of else "any of " if len(on.tables) > 1 else ""
            said = f"after an update of {which}{', '.join(on.tables)}" + _timers(on)
        case JobCompletion():
            said = f"after {', '.join(on.jobs)} ended with {on.if_status.value}"
    return said + only_if


def _timers(on: FileArrival | TableUpdate) -> str:
    cool = f", {_seconds(on.min_time_between_triggers_s)} between runs" if on.min_time_between_triggers_s else ""
    quiet = f", after {_seconds(on.wait_after_last_change_s)} of quiet" if on.wait_after_last_change_s else ""
    return cool + quiet


def _seconds(seconds: float) -> str:
    for unit_s, unit in ((604800, "week"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit_s and seconds % unit_s == 0:
            count = int(seconds // unit_s)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} s"
