"""Look at one trigger within a ledger transaction: read what it remembers and what has happened, ask core, record.

What a trigger remembers moves in the transaction that accepts its runs: after a crash it has either fired, or it has
not, and fires then. A condition is asked of the warehouse between two transactions; the second one does nothing
unless the trigger still stands where it stood in the first.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from landingd.core import due, due_events
from landingd.edge.ledger import Ledger, TriggerRow
from landingd.flow import entries
from landingd.flow.pausing import why_paused
from landingd.model import (
    Continuous,
    FileArrival,
    Job,
    JobCompletion,
    Periodic,
    RunState,
    Schedule,
    SqlCondition,
    TableUpdate,
    Trigger,
    TriggerOutcome,
)

ASK_AGAIN_S = 60.0
"""A condition that failed is asked again so much later, where what it is about does not go by."""

_ticks_of = lru_cache(maxsize=1024)(due.ticks_of)


@dataclass(frozen=True, slots=True)
class Ask:
    """A trigger is due, and its condition is to be asked first."""

    job: str
    trigger: str
    condition: SqlCondition
    row: TriggerRow
    """Where the trigger stood when it was found due."""
    fire: due.Fire


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of looking at a trigger."""

    look_at_s: float | None = None
    """When to look again; None: when something happens."""
    is_due: bool = False
    """It was only looked at, and is to fire."""
    fired: bool = False
    ask: Ask | None = None


def begin(ledger: Ledger, jobs: Sequence[Job]) -> None:
    """The jobs were read anew: a trigger is known by what it says, wherever in the list it stands now.

    What no job says any more is forgotten.
    """
    for job in jobs:
        known = {name: row.definition for name, row in ledger.trigger_rows(job.name).items()}
        names = due.renamed(known, {trigger.key: due.definition(trigger) for trigger in job.triggers})
        if names:
            ledger.rename_triggers(job.name, names)
    ledger.forget_triggers([(job.name, trigger.key) for job in jobs for trigger in job.triggers])


def depends_on_others(trigger: Trigger) -> bool:
    """Whether what happens elsewhere can make the trigger fire."""
    on = trigger.on
    if isinstance(on, FileArrival):
        return trigger.condition is not None
    return isinstance(on, TableUpdate | JobCompletion) or (isinstance(on, Continuous) and on.source is None)


def look(
    ledger: Ledger, job: Job, trigger: Trigger, now_s: float, *, reads: Collection[str] = (), may_fire: bool = True
) -> Looked:
    """Look whether the trigger is due, and fire it, unless `may_fire` is false: then only say so.

    `reads`: tables that the job reads and other jobs make.
    """
    row = _row(ledger, job, trigger, now_s)
    if not isinstance(trigger.on, Schedule | Periodic) and not depends_on_others(trigger):
        return Looked()  # its runs are formed from the files that wait
    decision = _decide(ledger, job, trigger, row, now_s, reads=reads)
    if isinstance(decision, due.Hold):
        return _hold(ledger, job, trigger, row, decision, now_s=now_s)
    if trigger.condition is not None:
        return Looked(ask=Ask(job.name, trigger.key, trigger.condition, row, decision))
    if not may_fire:
        return Looked(is_due=True)
    return _fire(ledger, job, trigger, decision, decision.state, now_s=now_s)


def answered(
    ledger: Ledger, job: Job, trigger: Trigger, ask: Ask, answer: Sequence[Mapping[str, Any]] | str, *, now_s: float
) -> Looked:
    """The condition was asked: `answer` are the rows that its query returned, or why it failed."""
    if ledger.trigger_row(job.name, trigger.key) != ask.row or why_paused(ledger, job, trigger) is not None:
        return Looked(now_s)  # it has moved on: what was found due then is not what is due now
    if isinstance(answer, str):
        why = f"the condition could not be asked: {answer}"
        ledger.note_trigger(job.name, trigger.key, TriggerOutcome.FAILED, why, now_s=now_s)
        if not isinstance(trigger.on, Schedule | Periodic):
            return Looked(now_s + ASK_AGAIN_S)
        return _pass(ledger, job, trigger, ask.fire)
    verdict = due_events.sql_condition(ask.condition.mode, answer, ask.row.state)
    if not verdict.holds:
        ledger.note_trigger(job.name, trigger.key, TriggerOutcome.NOT_TRIGGERED, verdict.why, now_s=now_s)
        if isinstance(trigger.on, FileArrival):
            return Looked(now_s + ASK_AGAIN_S)  # files do not go by
        return _pass(ledger, job, trigger, ask.fire)
    state = dict(ask.fire.state) if verdict.value is None else {**ask.fire.state, "condition_value": verdict.value}
    return _fire(ledger, job, trigger, ask.fire, state, now_s=now_s, also=verdict.why)


def _row(ledger: Ledger, job: Job, trigger: Trigger, now_s: float) -> TriggerRow:
    """What is remembered of the trigger; one that is new, or says something else than before, starts anew."""
    row = ledger.trigger_row(job.name, trigger.key)
    definition = due.definition(trigger)
    if row is not None and row.definition == definition:
        return row
    state: dict[str, Any] = {}
    next_s = None
    if isinstance(trigger.on, TableUpdate):
        state = {"versions": due_events.versions_now(trigger.on.tables, _changes(ledger, trigger.on.tables))}
    elif isinstance(trigger.on, Schedule | Periodic):
        next_s = _ticks_of(trigger.on, now_s).next(now_s)
    return ledger.begin_trigger(job.name, trigger.key, definition, state=state, next_fire_s=next_s, now_s=now_s)


def _decide(
    ledger: Ledger, job: Job, trigger: Trigger, row: TriggerRow, now_s: float, *, reads: Collection[str]
) -> due.Fire | due.Hold:
    on, memory, why = trigger.on, _memory(row), why_paused(ledger, job, trigger)
    if isinstance(on, Schedule | Periodic):
        ticks = _ticks_of(on, memory.since_s)
        if why is not None or row.state.get("paused"):
            return due.passed_by(memory, now_s, ticks=ticks, why=why)
        return due.on_time(trigger, memory, now_s, ticks=ticks)
    if why is not None:
        return due.Hold(why)
    return _decide_event(ledger, job, trigger, memory, now_s, reads=reads)


def _decide_event(
    ledger: Ledger, job: Job, trigger: Trigger, memory: due.Memory, now_s: float, *, reads: Collection[str]
) -> due.Fire | due.Hold:
    on = trigger.on
    if isinstance(on, TableUpdate):
        return due_events.table_update(trigger, on, memory, now_s, changes=_changes(ledger, on.tables))
    if isinstance(on, JobCompletion):
        return due_events.job_completion(trigger, on, memory, now_s, ends=_ends(ledger, on, memory, now_s))
    if isinstance(on, FileArrival):
        newest = ledger.newest_pending(job.name)
        arrived_s = ledger.newest_arrival_s(job.name, settled_s=on.wait_after_last_change_s)
        return due.files_wait(on, memory, now_s, newest=newest, arrived_s=arrived_s)
    return _decide_continuous(ledger, job, trigger, memory, now_s, reads=reads)


def _decide_continuous(
    ledger: Ledger, job: Job, trigger: Trigger, memory: due.Memory, now_s: float, *, reads: Collection[str]
) -> due.Fire | due.Hold:
    assert isinstance(trigger.on, Continuous)  # noqa: S101 -- the last kind that comes here
    if job.max_concurrent_runs == 0:
        return due.Hold("max_concurrent_runs is 0: no run of this job starts")
    return due_events.continuous(
        trigger,
        trigger.on,
        memory,
        now_s,
        reads=reads,
        changes=_changes(ledger, reads),
        is_open=sum(ledger.count_open(job.name)) > 0,
    )


def _hold(ledger: Ledger, job: Job, trigger: Trigger, row: TriggerRow, hold: due.Hold, *, now_s: float) -> Looked:
    if hold.why:
        ledger.note_trigger(job.name, trigger.key, TriggerOutcome.NOT_TRIGGERED, hold.why, now_s=now_s)
    if isinstance(trigger.on, Schedule | Periodic):
        last_s = row.last_fired_s if hold.last_fired_s is None else hold.last_fired_s
        state = row.state if hold.state is None else hold.state
        if (last_s, hold.look_at_s, state) != (row.last_fired_s, row.next_fire_s, row.state):
            ledger.move_trigger(job.name, trigger.key, last_fired_s=last_s, next_fire_s=hold.look_at_s, state=state)
    return Looked(hold.look_at_s)


def _fire(
    ledger: Ledger,
    job: Job,
    trigger: Trigger,
    fire: due.Fire,
    state: Mapping[str, Any],
    *,
    now_s: float,
    also: str = "",
) -> Looked:
    for request in fire.requests:
        admitted = entries.admit(ledger, job, request, now_s)
        state = {**state, "run_id": admitted.run_id}
        if admitted.known:
            continue  # the clock was set back, and this time has come before
        why = "; ".join(part for part in (due.fired(request, fire.why), also) if part)
        outcome = TriggerOutcome.TRIGGERED
        if admitted.state is RunState.SKIPPED:
            outcome = TriggerOutcome.SKIPPED
            why = f"{why}; there was no room: {admitted.result}"
        ledger.note_trigger(job.name, trigger.key, outcome, why, now_s=now_s, run_id=admitted.run_id)
    ledger.move_trigger(job.name, trigger.key, last_fired_s=fire.last_fired_s, next_fire_s=fire.look_at_s, state=state)
    return Looked(fire.look_at_s, fired=True)


def _pass(ledger: Ledger, job: Job, trigger: Trigger, fire: due.Fire) -> Looked:
    """What the trigger was due for is dealt with, without a run."""
    ledger.move_trigger(
        job.name, trigger.key, last_fired_s=fire.last_fired_s, next_fire_s=fire.look_at_s, state=fire.state
    )
    return Looked(fire.look_at_s)


def _memory(row: TriggerRow) -> due.Memory:
    return due.Memory(row.since_s, row.last_fired_s, row.failures, row.retry_at_s, row.state)


def _changes(ledger: Ledger, tables: Collection[str]) -> dict[str, due.Change]:
    found = ledger.table_versions(tables) if tables else {}
    return {table: due.Change(v.version, v.changed_at_s, v.run_id) for table, v in found.items()}


def _ends(ledger: Ledger, on: JobCompletion, memory: due.Memory, now_s: float) -> dict[str, due.End]:
    results = due_events.results_that_count(on.if_status)
    found: dict[str, due.End] = {}
    for name in on.jobs:
        end = ledger.last_end(name, results, due_events.counted_from_s(memory, name, now_s))
        if end is not None:
            found[name] = due.End(end.run_id, end.repairs, end.ended_at_s)
    return found
