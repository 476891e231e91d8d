"""Whether a trigger is held up: paused, or by its condition.

A job and each of its triggers can be paused; a trigger fires when neither is. What was asked for stands above the job
file, and outlives the daemon.
"""

from landingd.edge.ledger import Ledger
from landingd.model import Job, Trigger


def is_paused(ledger: Ledger, job: Job, trigger: Trigger) -> bool:
    """Whether the trigger starts no runs now (Databricks: `pause_status`)."""
    return why_paused(ledger, job, trigger) is not None


def why_paused(ledger: Ledger, job: Job, trigger: Trigger) -> str | None:
    """Who has paused the trigger or its job; None: nobody."""
    for name, what, said in (("", "the job", job.paused), (trigger.key, "the trigger", trigger.paused)):
        row = ledger.trigger_row(job.name, name)
        asked = None if row is None else row.paused
        if asked if asked is not None else said:
            return f"{what} is paused, {'on request' if asked else 'by the job file'}"
    return None


def let_through(ledger: Ledger, job: Job, trigger: Trigger) -> int | None:
    """Up to which file version the condition of a file trigger lets files into a run; None: it has no condition."""
    if trigger.condition is None:
        return None
    row = ledger.trigger_row(job.name, trigger.key)
    return 0 if row is None else int(row.state.get("let_through", 0))
