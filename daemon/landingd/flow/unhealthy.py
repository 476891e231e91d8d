"""Write down what health rules have found, and queue what is to be told of it.

What takes too long is told while it goes on, by a look every few seconds (`flow/health`). What was too long and ends
between two looks is told here, in the transaction of its end: a rule of ten minutes holds for ten minutes and a second.
"""

from collections.abc import Sequence

from landingd.core import alerts, health
from landingd.core.health import Change, Going, Known, Step
from landingd.edge.ledger import Ledger, Notice
from landingd.flow.tellable import attempt_facts, queue, run_facts
from landingd.model import AttemptKey, HealthMetric, Job, Task


def run_ended(ledger: Ledger, job: Job, run_id: int, now_s: float) -> None:
    """A run has ended; its row says when it began."""
    if not job.health:
        return
    run = run_facts(ledger, run_id)
    if run.started_s is not None:
        _judge(ledger, job, Going(run_id, run.repair, run.started_s), now_s)


def attempt_ended(ledger: Ledger, job: Job, task: Task, key: AttemptKey, now_s: float) -> None:
    """An attempt of the task has ended."""
    if not task.health:
        return
    repair = run_facts(ledger, key.run_id).repair
    started_s = ledger.attempt_to_tell(key)["started_at_s"]
    _judge(ledger, job, Going(key.run_id, repair, started_s, key.task_key, key.attempt), now_s)


def _judge(ledger: Ledger, job: Job, ended: Going, now_s: float) -> None:
    known = {subject: Known(*times) for subject, times in ledger.health_of(job.name).items()}
    record(ledger, job, health.too_long(job, ended, known, now_s), now_s)


def record(ledger: Ledger, job: Job, changes: Sequence[Change], now_s: float) -> None:
    """Remember what was found, and queue what is to be told of it."""
    for change in changes:
        match change.step:
            case Step.FORGET:
                ledger.forget_health(job.name, change.subject)
            case Step.WATCH:
                ledger.set_health(job.name, change.subject, since_s=change.since_s, told_at_s=0.0)
            case Step.RECOVERED:
                if change.metric is HealthMetric.NO_SUCCESS_WITHIN_SECONDS:
                    ledger.set_health(job.name, change.subject, since_s=change.since_s, told_at_s=0.0)
                else:
                    ledger.forget_health(job.name, change.subject)
                ledger.tell([Notice(*health.event(job.name, change, now_s))])
            case Step.TELL if _was_told_meanwhile(ledger, job, change):
                pass
            case Step.TELL:
                ledger.set_health(job.name, change.subject, since_s=change.since_s, told_at_s=now_s)
                ledger.tell([Notice(*health.event(job.name, change, now_s))])
                _alert(ledger, job, change, now_s)


def _alert(ledger: Ledger, job: Job, change: Change, now_s: float) -> None:
    if change.metric is None:
        return
    about, event = change.about, health.EVENTS[change.metric]
    task = alerts.task_of(job, about.task_key) if about and about.task_key else None
    heard_by = alerts.recipients(task.notifications if task else job.notifications, event)
    if not heard_by:
        return
    facts = alerts.HealthFacts(
        change.metric.value, change.threshold, change.measured, change.since_s, told=f"{change.subject} {now_s}"
    )
    key = AttemptKey(about.run_id, about.task_key, about.attempt) if about and about.task_key else None
    payload = alerts.alert(
        event,
        job=job.name,
        now_s=now_s,
        run=run_facts(ledger, about.run_id) if about else None,
        task=attempt_facts(ledger, task, key) if task and key else None,
        health=facts,
    )
    queue(ledger, heard_by, payload, now_s)


def _was_told_meanwhile(ledger: Ledger, job: Job, change: Change) -> bool:
    """A look that was taken before the end of a run may be written down after it."""
    return change.metric is HealthMetric.RUN_DURATION_SECONDS and change.subject in ledger.health_of(job.name)
