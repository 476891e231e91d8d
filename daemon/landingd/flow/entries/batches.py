"""Which of the files that wait make up the next run, and when: both timers and both limits of the triggers."""

from collections.abc import Iterable
from dataclasses import dataclass

from landingd.core import due as due_rules
from landingd.core import triggers
from landingd.edge.ledger import Ledger, PendingFile
from landingd.flow.pausing import is_paused
from landingd.model import Continuous, FileArrival, Job, Trigger, TriggerOutcome, TriggerType


@dataclass(frozen=True, slots=True)
class Batch:
    """Files for one run."""

    file_ids: tuple[int, ...]
    trigger: str
    location: str
    trigger_type: TriggerType


def due(ledger: Ledger, job: Job, now_s: float) -> Batch | float | None:
    """The files of the next run; or when they are due; None: none waits, or what they wait for is paused."""
    pending = ledger.pending(job.name, _limit(job) + 1)
    if not pending:
        return None
    sources = [(t, a) for t in job.triggers if (a := _source(t)) is not None]
    ready: list[Trigger] = []
    later_s: list[float] = []
    for trigger, arrival in sources:
        if is_paused(ledger, job, trigger):
            continue
        at_s = _due_s(ledger, job, trigger, arrival)
        if at_s <= now_s:
            ready.append(trigger)
        else:
            later_s.append(at_s)
    taken = pending if len(ready) == len(sources) else _of(pending, job, ready)
    if taken:
        return _batch(ledger, job, taken, ready or [trigger for trigger, _ in sources])
    return min(later_s, default=None)


def _source(trigger: Trigger) -> FileArrival | None:
    return trigger.on.source if isinstance(trigger.on, Continuous) else _arrival(trigger)


def _arrival(trigger: Trigger) -> FileArrival | None:
    return trigger.on if isinstance(trigger.on, FileArrival) else None


def _due_s(ledger: Ledger, job: Job, trigger: Trigger, arrival: FileArrival) -> float:
    row = ledger.trigger_rows(job.name).get(trigger.key)
    if isinstance(trigger.on, Continuous):
        return row.retry_at_s or 0.0 if row else 0.0
    if not arrival.min_time_between_triggers_s and not arrival.wait_after_last_change_s:
        return 0.0
    last_run_s = ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL, trigger.key)
    return due_rules.file_batch_due_s(arrival, last_run_s, ledger.last_arrival_s(job.name))


def _of(pending: Iterable[PendingFile], job: Job, ready: Iterable[Trigger]) -> list[PendingFile]:
    """Of the files those that these triggers brought."""
    arrivals = {id(_source(trigger)) for trigger in ready}
    found = []
    for file in pending:
        matches, _ = triggers.matching(file.path, [job])
        if any(id(match.trigger) in arrivals for match in matches):
            found.append(file)
    return found


def _limit(job: Job) -> int:
    return triggers.batch_limit(job)


def _batch(ledger: Ledger, job: Job, pending: list[PendingFile], ready: list[Trigger]) -> Batch:
    n_bytes_max = min((a.max_bytes_per_trigger for a in job.file_arrivals if a.max_bytes_per_trigger), default=0)
    taken: list[int] = []
    n_bytes = 0
    for file in pending[: _limit(job)]:
        taken.append(file.file_id)
        n_bytes += file.size
        if n_bytes_max and n_bytes >= n_bytes_max:
            break  # soft, as in Auto Loader: the file that passes the limit is still taken
    first = ready[0] if ready else None
    source = _source(first) if first else None
    continuous = first is not None and isinstance(first.on, Continuous)
    kind = TriggerType.FILE_ARRIVAL
    if continuous and first is not None:
        row = ledger.trigger_rows(job.name).get(first.key)
        kind = TriggerType.CONTINUOUS_RESTART if row and row.failures else TriggerType.CONTINUOUS
    return Batch(tuple(taken), first.key if first else "", source.path if source else "", kind)


def note(ledger: Ledger, job: Job, batch: Batch, run_id: int, now_s: float) -> None:
    """Into the trigger's history."""
    count = len(batch.file_ids)
    what = f"{count} file{'' if count == 1 else 's'}"
    ledger.note_trigger(job.name, batch.trigger, TriggerOutcome.TRIGGERED, what, now_s=now_s, run_id=run_id)
