"""A continuous job after a run: a failed batch is tried again after a pause that grows, a success ends the series."""

from landingd.core import backoff, due_events
from landingd.edge.ledger import Ledger
from landingd.model import Job, Result, TriggerOutcome, TriggerType

_OF_ITS_OWN = frozenset({TriggerType.CONTINUOUS, TriggerType.CONTINUOUS_RESTART})


def after_run(ledger: Ledger, job: Job | None, run_id: int, result: Result, now_s: float) -> None:
    """Note what this end means for the next run; called before the run is ended, while its files are still its own."""
    run = ledger.run(run_id)
    if job is None or job.continuous is None or run is None or run.trigger_type not in _OF_ITS_OWN:
        return
    on = job.continuous
    trigger = next(t for t in job.triggers if t.on is on)
    row = ledger.trigger_row(job.name, trigger.key)
    began_s = run.resumed_at_s or run.queued_at_s
    before = row.failures if row else 0
    failures = due_events.continuous_failures(on, before, result=result, ran_s=now_s - began_s)
    if failures == 0:
        if before:
            ledger.set_backoff(job.name, trigger.key, failures=0, retry_at_s=None)
        return
    if result is Result.CANCELED:
        return
    if on.retry:
        ledger.offer_again(run_id)
    retry_at_s = now_s + backoff.pause_s(on.backoff, failures, f"{job.name}/{run_id}")
    ledger.set_backoff(job.name, trigger.key, failures=failures, retry_at_s=retry_at_s)
    what = f"run {run_id} ended {result.value}, {failures} in a row: the next one after {retry_at_s - now_s:.1f} s"
    ledger.note_trigger(job.name, trigger.key, TriggerOutcome.NOT_TRIGGERED, what, now_s=now_s)
