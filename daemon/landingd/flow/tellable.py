"""Read from the ledger what an alert says of a run and of an attempt, and queue it for those who hear of it."""

import json
from collections.abc import Iterable

from landingd.core import alerts
from landingd.core.lifecycle import Decision
from landingd.edge.ledger import Ledger
from landingd.edge.ledger.alerts import QueuedAlert
from landingd.model import AttemptKey, Result, Task


def run_facts(ledger: Ledger, run_id: int) -> alerts.RunFacts:
    """A run as it stands in this transaction."""
    row = ledger.run_to_tell(run_id)
    return alerts.RunFacts(
        job=row["job"],
        run_id=run_id,
        repair=row["repairs"],
        trigger=row["trigger_type"],
        parameters=json.loads(row["parameters"]),
        queued_s=row["queued_at_s"],
        started_s=row["started_at_s"] if row["resumed_at_s"] is None else row["resumed_at_s"],
        ended_s=row["ended_at_s"],
        result=Result(row["result"]) if row["result"] else None,
        error=row["error"],
        files=tuple(ledger.file_names_to_tell(run_id, alerts.FILES_NAMED_MAX)),
        file_count=row["file_count"],
        rows=ledger.run_rows_to_tell(run_id),
        failed_tasks=tuple(ledger.failed_tasks_to_tell(run_id, alerts.TASKS_NAMED_MAX)),
    )


def attempt_facts(ledger: Ledger, task: Task, key: AttemptKey, decision: Decision | None = None) -> alerts.TaskFacts:
    """An attempt that has just begun, or has ended with this decision."""
    row = ledger.attempt_to_tell(key)
    return alerts.TaskFacts(
        task_key=key.task_key,
        attempt=key.attempt,
        max_retries=task.max_retries,
        failures=decision.failures if decision else row["failures"],
        started_s=row["started_at_s"],
        result=decision.result if decision else None,
        error=decision.error if decision else None,
        retry_at_s=decision.retry_at_s if decision else None,
        rows={name: row[name] for name in ("rows_in", "rows_out", "rows_rejected")},
    )


def queue(ledger: Ledger, heard_by: Iterable[alerts.Recipient], payload: alerts.Payload, now_s: float) -> None:
    """One alert for each who hears of it."""
    ledger.queue_alerts([QueuedAlert(one.channel, one.destination, payload) for one in heard_by], now_s=now_s)
