"""Which of the files that wait make up the next run, and when: both timers and both limits of the triggers."""

from collections.abc import Sequence
from dataclasses import dataclass

from landingd.core import due as due_rules
from landingd.core import triggers
from landingd.edge.ledger import Ledger, PendingFile
from landingd.flow import pausing
from landingd.model import Continuous, FileArrival, Job, Trigger, TriggerOutcome, TriggerType, utc


@dataclass(frozen=True, slots=True)
class Batch:
    """Files for one run."""

    file_ids: tuple[int, ...]
    trigger: str
    location: str
    trigger_type: TriggerType


LOOKED_THROUGH_MAX = 100_000
"""Files that are looked through where only some of the job's triggers are due."""


def due(ledger: Ledger, job: Job, now_s: float) -> Batch | float | None:
    """The files of the next run; or when they are due; None: none waits, or what they wait for is paused."""
    if not ledger.pending(job.name, 1):
        return _again(ledger, job, now_s)
    sources = [(t, a) for t in job.triggers if (a := source_of(t)) is not None]
    ready: list[Trigger] = []
    later_s: list[float] = []
    for trigger, arrival in sources:
        at_s = _due_s(ledger, job, trigger, arrival, now_s)
        if at_s is not None and at_s <= now_s:
            ready.append(trigger)
        elif at_s is not None:
            later_s.append(at_s)
    taken = _pending(ledger, job, ready, all_of=len(ready) == len(sources))
    if taken:
        return _batch(ledger, job, taken, ready)
    return min(later_s, default=None)


def _again(ledger: Ledger, job: Job, now_s: float) -> Batch | float | None:
    """A continuous job whose last batch has failed though its files are loaded: what is behind them is not done."""
    on = job.continuous
    if on is None or on.source is None or not on.retry:
        return None
    trigger = next(t for t in job.triggers if t.on is on)
    row = ledger.trigger_row(job.name, trigger.key)
    if row is None or not row.failures:
        return None
    at_s = _due_s(ledger, job, trigger, on.source, now_s)
    if at_s is None or at_s > now_s:
        return at_s
    return Batch((), trigger.key, on.source.path, TriggerType.CONTINUOUS_RESTART)


def key_of(ledger: Ledger, job: Job, batch: Batch, now_s: float) -> str:
    """What the run of this batch is accepted by, once."""
    if batch.file_ids:
        return triggers.files_key(ledger.turns(batch.file_ids))
    row = ledger.trigger_row(job.name, batch.trigger)
    state = dict(row.state) if row else {}
    state["number"] = int(state.get("number", 0)) + 1
    ledger.move_trigger(job.name, batch.trigger, last_fired_s=now_s, next_fire_s=None, state=state)
    return f"continuous:{batch.trigger}:{utc(row.since_s if row else now_s)}:{state['number']}"


def source_of(trigger: Trigger) -> FileArrival | None:
    """Where the files of a trigger come from; None: it is not about files."""
    if isinstance(trigger.on, Continuous):
        return trigger.on.source
    return trigger.on if isinstance(trigger.on, FileArrival) else None


def _due_s(ledger: Ledger, job: Job, trigger: Trigger, arrival: FileArrival, now_s: float) -> float | None:
    """When files of this trigger may start a run; None: not before somebody does something."""
    paused = pausing.why_paused(ledger, job, trigger)
    if paused is not None:
        ledger.note_trigger(job.name, trigger.key, TriggerOutcome.NOT_TRIGGERED, paused, now_s=now_s)
        return None
    if isinstance(trigger.on, Continuous):
        row = ledger.trigger_row(job.name, trigger.key)
        return row.retry_at_s or 0.0 if row else 0.0
    if not arrival.min_time_between_triggers_s and not arrival.wait_after_last_change_s:
        return 0.0
    last_s = ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL, trigger.key)
    last_run_s = None if last_s is None else min(last_s, now_s)  # a clock may have been set back
    newest_s = ledger.newest_arrival_s(job.name, settled_s=arrival.wait_after_last_change_s)
    at_s = due_rules.file_batch_due_s(arrival, last_run_s, newest_s)
    if at_s > now_s:
        why = due_rules.why_files_wait(arrival, last_run_s, at_s, now_s)
        ledger.note_trigger(job.name, trigger.key, TriggerOutcome.NOT_TRIGGERED, why, now_s=now_s)
    return at_s


def _pending(ledger: Ledger, job: Job, ready: Sequence[Trigger], *, all_of: bool) -> list[PendingFile]:
    """The files that these triggers brought and their conditions let through; with all triggers of the job any file."""
    limit = triggers.batch_limit(job)
    gates = [gate for trigger in ready if (gate := pausing.let_through(ledger, job, trigger)) is not None]
    if all_of and not gates:
        return ledger.pending(job.name, limit)
    if not ready:
        return []
    arrivals = {id(source_of(trigger)) for trigger in ready}
    found: list[PendingFile] = []
    for file in ledger.pending(job.name, LOOKED_THROUGH_MAX):
        matches, _ = triggers.matching(file.path, [job])
        if file.file_id <= min(gates, default=file.file_id) and any(id(m.trigger) in arrivals for m in matches):
            found.append(file)
            if len(found) == limit:
                break
    return found


def _batch(ledger: Ledger, job: Job, pending: Sequence[PendingFile], ready: Sequence[Trigger]) -> Batch:
    n_bytes_max = min((a.max_bytes_per_trigger for a in job.file_arrivals if a.max_bytes_per_trigger), default=0)
    taken: list[int] = []
    n_bytes = 0
    for file in pending:
        taken.append(file.file_id)
        n_bytes += file.size
        if n_bytes_max and n_bytes >= n_bytes_max:
            break  # soft, as in Auto Loader: the file that passes the limit is still taken
    first = _bringer(job, pending[0], ready)
    source = source_of(first) if first else None
    kind = TriggerType.FILE_ARRIVAL
    if first is not None and isinstance(first.on, Continuous):
        row = ledger.trigger_row(job.name, first.key)
        kind = TriggerType.CONTINUOUS_RESTART if row and row.failures else TriggerType.CONTINUOUS
    return Batch(tuple(taken), first.key if first else "", source.path if source else "", kind)


def _bringer(job: Job, file: PendingFile, ready: Sequence[Trigger]) -> Trigger | None:
    """The trigger that brought the oldest of the files."""
    if len(ready) > 1:
        matches, _ = triggers.matching(file.path, [job])
        arrivals = {id(match.trigger) for match in matches}
        ready = [trigger for trigger in ready if id(source_of(trigger)) in arrivals] or ready
    return ready[0] if ready else None


def note(ledger: Ledger, job: Job, batch: Batch, run_id: int, now_s: float) -> None:
    """Into the trigger's history."""
    count = len(batch.file_ids)
    what = f"{count} file{'' if count == 1 else 's'}" if count else "again, after a batch that failed"
    ledger.note_trigger(job.name, batch.trigger, TriggerOutcome.TRIGGERED, what, now_s=now_s, run_id=run_id)
    ledger.note_fired(job.name, batch.trigger, now_s)
