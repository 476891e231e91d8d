"""Who is told of what, and in which words.

A job's notifications say who wants to hear of which event; what they hear has to be enough to act on at night: what
failed, with which error, on which files, and the command that repairs it. Databricks' web hook carries no more than
the run's id, and leaves the rest to a second call.

An alert is a JSON object. It is written into the ledger with the change that it tells of; mail and chat get the text
that is made from it here when it is sent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from landingd.core import backoff, news
from landingd.model import Backoff, Job, Notifications, NotifyOn, Result, Task, utc
from landingd.model.actions import ForEach

FILES_NAMED_MAX = 20
PARAMETERS_MAX = 50
TASKS_NAMED_MAX = 20
VALUE_CHARS_MAX = 500
ERROR_CHARS_MAX = 4000

BACKOFF = Backoff(initial_s=30.0, factor=2.0, max_s=1800.0, jitter=0.0)
TRIES_IN_FRONT = 8
"""An alert that has failed so often, for an hour, lets those behind it go first: it may be what is wrong."""

Payload = dict[str, Any]


class Recipient(NamedTuple):
    """`channel` is "email" or "webhook"; `destination` an address, or the id of a destination."""

    channel: str
    destination: str


# --- who ------------------------------------------------------------------------------------------------------


def recipients(
    notifications: Notifications | None,
    event: NotifyOn,
    *,
    skipped: bool = False,
    canceled: bool = False,
    will_retry: bool = False,
    is_retry: bool = False,
) -> tuple[Recipient, ...]:
    """Who hears of this event of a run or a task, each once.

    `skipped`, `canceled`: how the run ended. `will_retry`: the attempt failed and is tried again; `is_retry`: the
    attempt that starts is not the first (Databricks: `notification_settings`).
    """
    if not notifications:
        return ()
    if event is NotifyOn.FAILURE and (
        (skipped and notifications.no_alert_for_skipped_runs)
        or (canceled and notifications.no_alert_for_canceled_runs)
        or (will_retry and notifications.alert_on_last_attempt)
    ):
        return ()
    if event is NotifyOn.START and is_retry and notifications.alert_on_last_attempt:
        return ()
    listed = _listed(notifications, event)
    if event is NotifyOn.NO_SUCCESS and not listed:
        listed = _listed(notifications, NotifyOn.FAILURE)
    return tuple(dict.fromkeys(listed))


def event_of(result: Result) -> NotifyOn | None:
    """The event that the end of a run or a task is; None: nobody is told.

    A run with failures under healthy leaves is a success, as in Databricks. A task that was left out, switched off or
    lost with one before it has not failed itself: what failed before it was told.
    """
    match result:
        case Result.SUCCESS | Result.SUCCESS_WITH_FAILURES:
            return NotifyOn.SUCCESS
        case Result.EXCLUDED | Result.DISABLED | Result.UPSTREAM_FAILED | Result.UPSTREAM_CANCELED:
            return None
        case _:
            return NotifyOn.FAILURE


def task_of(job: Job, task_key: str) -> Task | None:
    """The task of that key; of an iteration (`loop[3]`) the one that its loop repeats; None: there is none any more."""
    name, bracket, _ = task_key.partition("[")
    try:
        task = job.task(name)
    except KeyError:
        return None
    if not bracket:
        return task
    return task.action.task if isinstance(task.action, ForEach) else None


def wanted(job: Job) -> frozenset[Recipient]:
    """Everybody whom this job can ever want to tell something."""
    return frozenset(
        recipient
        for notifications in _all_notifications(job)
        for event in NotifyOn
        for recipient in _listed(notifications, event)
    )


def undeliverable(job: Job, *, has_mail: bool, destinations: Iterable[str]) -> list[str]:
    """What is wrong with whom this job wants to tell something, for `validate`: mail without a server, unknown ids."""
    known = set(destinations)
    asked = sorted(wanted(job))
    faults = [
        f"webhook_notifications names {one.destination!r}, which is not in [alerts.destinations]"
        for one in asked
        if one.channel == "webhook" and one.destination not in known
    ]
    if not has_mail and any(one.channel == "email" for one in asked):
        faults.insert(0, "email_notifications needs a mail server: [alerts] smtp_host is empty")
    return faults


def pause_s(tries: int) -> float:
    """How long to wait after so many failed tries: 30 s, twice as long each time, at most half an hour."""
    return backoff.pause_s(BACKOFF, max(1, tries))


def _listed(notifications: Notifications, event: NotifyOn) -> list[Recipient]:
    return [Recipient("email", address) for address in notifications.email.get(event, ())] + [
        Recipient("webhook", name) for name in notifications.webhook.get(event, ())
    ]


def _all_notifications(job: Job) -> list[Notifications]:
    tasks = [*job.tasks, *(t.action.task for t in job.tasks if isinstance(t.action, ForEach))]
    return [n for n in (job.notifications, *(t.notifications for t in tasks)) if n]


# --- what -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run as an alert tells of it."""

    job: str
    run_id: int
    repair: int
    trigger: str
    parameters: Mapping[str, str]
    queued_s: float
    started_s: float | None
    """When it was last started: first, or by a repair."""
    ended_s: float | None = None
    result: Result | None = None
    error: str | None = None
    files: tuple[str, ...] = ()
    """The first of them."""
    file_count: int = 0
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    failed_tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """An attempt of a task as an alert tells of it."""

    task_key: str
    attempt: int
    """Numbered on through repairs."""
    max_retries: int
    """-1: without end."""
    failures: int = 0
    started_s: float | None = None
    result: Result | None = None
    error: str | None = None
    retry_at_s: float | None = None
    rows: Mapping[str, int | None] = field(default_factory=dict[str, int | None])


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What a health rule found, as an alert tells of it."""

    metric: str
    threshold: float
    measured: float
    since_s: float
    told: int | str
    """Tells one telling from the next."""


def alert(
    event: NotifyOn,
    *,
    job: str,
    now_s: float,
    run: RunFacts | None = None,
    task: TaskFacts | None = None,
    health: HealthFacts | None = None,
) -> Payload:
    """The JSON object of an alert, of bounded size; its `event_id` is made from what happened."""
    has_failed = event is NotifyOn.FAILURE
    will_retry = task is not None and task.retry_at_s is not None
    has_failures = task is None and run is not None and run.result is Result.SUCCESS_WITH_FAILURES
    can_repair = (has_failed or has_failures) and not will_retry and run is not None and not _is_skipped(run)
    error = task.error if task else run.error if run else None
    return {
        "event_id": _event_id(event, job, run=run, task=task, health=health),
        "event_type": f"jobs.{event.value}",
        "time": utc(now_s),
        "job": {"name": job},
        "run": _run(run, now_s) if run else None,
        "task": _task(task, now_s) if task else None,
        "health": _health(health) if health else None,
        "files": {"count": run.file_count, "names": [_cut(f) for f in run.files[:FILES_NAMED_MAX]]} if run else None,
        "rows": dict(task.rows if task else run.rows) if run else {},
        "error": _cut(error, ERROR_CHARS_MAX) if error else None,
        "next_retry_at": utc(task.retry_at_s) if task else None,
        "repair_command": f"landingd repair {run.run_id}" if can_repair and run else None,
        "show_command": f"landingd show {run.run_id}" if run else f"landingd runs {job}",
    }


def trial(*, now_s: float) -> Payload:
    """An alert that tells of nothing, to see whether a destination takes it."""
    nothing = dict.fromkeys(("job", "run", "task", "health", "files", "error", "next_retry_at", "repair_command"), None)
    return {
        "event_id": news.event_id("alert", "test", now_s),
        "event_type": "test",
        "time": utc(now_s),
        **nothing,
        "rows": {},
        "show_command": "landingd status",
    }


def _event_id(
    event: NotifyOn, job: str, *, run: RunFacts | None, task: TaskFacts | None, health: HealthFacts | None
) -> str:
    what: list[object] = ["alert", event.value, job]
    if run:
        what += ["run", run.run_id, run.queued_s, run.repair]
    if task:
        what += ["task", task.task_key, task.attempt]
    if health:
        what += ["health", health.metric, health.threshold, health.told]
    return news.event_id(*what)


def _run(run: RunFacts, now_s: float) -> Payload:
    started_s = run.started_s
    waited_until_s = now_s if started_s is None else started_s
    shown = list(run.parameters.items())[:PARAMETERS_MAX]
    return {
        "run_id": run.run_id,
        "repair": run.repair,
        "trigger": run.trigger,
        "parameters": {_cut(name): _cut(value) for name, value in shown},
        "queued_at": utc(run.queued_s),
        "started_at": utc(started_s),
        "ended_at": utc(run.ended_s),
        "duration_ms": _ms((now_s if run.ended_s is None else run.ended_s) - started_s) if started_s else None,
        "queue_ms": None if run.repair else _ms(waited_until_s - run.queued_s),
        "result": run.result.value if run.result else None,
        "failed_tasks": list(run.failed_tasks[:TASKS_NAMED_MAX]),
    }


def _task(task: TaskFacts, now_s: float) -> Payload:
    return {
        "task_key": task.task_key,
        "attempt": task.attempt,
        "max_retries": task.max_retries,
        "failures": task.failures,
        "result": task.result.value if task.result else None,
        "started_at": utc(task.started_s),
        "duration_ms": _ms(now_s - task.started_s) if task.started_s is not None else None,
    }


def _health(health: HealthFacts) -> Payload:
    return {
        "metric": health.metric,
        "threshold": health.threshold,
        "measured": round(health.measured, 3),
        "since": utc(health.since_s),
    }


def _is_skipped(run: RunFacts) -> bool:
    return run.result in {Result.MAXIMUM_CONCURRENT_RUNS_REACHED, Result.MAX_JOB_QUEUE_SIZE_EXCEEDED}


def _cut(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
