"""Is a job as it should be? What its health rules find, and whether that is news.

A rule that is broken stays broken for hours, and is looked at every few seconds: the art is to tell it once. What was
told is remembered in the ledger under a subject, and decided upon here.

* A run or an attempt that takes too long is told once: while it is still going on, or at the latest at its end.
* A backlog is told when its mean over ten minutes is too large, and again every thirty minutes (Databricks). Time
  before the first look counts as no backlog: what was there then is not known, and a daemon that starts into a heap of
  files, and loads them in a minute, has done well. So after a start a backlog is told late rather than wrongly.
* That nothing succeeds is told once, and again every day. It is counted from the last success; without one, from when
  the rule was first seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from landingd.core import alerts, news
from landingd.model import HealthMetric, HealthRule, Job, NotifyOn, utc

BACKLOG_WINDOW_S = 600.0
BACKLOG_AGAIN_S = 1800.0
NO_SUCCESS_AGAIN_S = 86400.0

BACKLOG = {
    HealthMetric.STREAMING_BACKLOG_FILES: 0,
    HealthMetric.STREAMING_BACKLOG_BYTES: 1,
    HealthMetric.STREAMING_BACKLOG_SECONDS: 2,
}
"""Where each metric stands in a sample."""

EVENTS = {
    HealthMetric.RUN_DURATION_SECONDS: NotifyOn.DURATION_WARNING,
    HealthMetric.NO_SUCCESS_WITHIN_SECONDS: NotifyOn.NO_SUCCESS,
    **dict.fromkeys(BACKLOG, NotifyOn.STREAMING_BACKLOG),
}


class Step(StrEnum):
    """What is to be done about a subject."""

    TELL = "tell"
    """It is unhealthy, and whoever wants to know hears of it now: for the first time, or again."""
    RECOVERED = "recovered"
    """It was told, and is well again."""
    WATCH = "watch"
    """Nothing to tell; only remember since when."""
    FORGET = "forget"
    """What it was about is over, or the rule is gone."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a subject; `told_at_s` 0: nothing was told."""

    since_s: float
    told_at_s: float


@dataclass(frozen=True, slots=True)
class Going:
    """A run that is going on, or with `task_key` an attempt in one."""

    run_id: int
    repair: int
    started_s: float
    task_key: str | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A job's backlog at a moment: files, bytes, and how many seconds the oldest one has waited."""

    at_s: float
    values: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about a job."""

    going: tuple[Going, ...] = ()
    samples: tuple[Sample, ...] = ()
    last_success_s: float | None = None
    """The end of its last successful run; None: none was found."""


@dataclass(frozen=True, slots=True)
class Change:
    """One subject's next step."""

    step: Step
    subject: str
    since_s: float = 0.0
    metric: HealthMetric | None = None
    threshold: float = 0.0
    measured: float = 0.0
    about: Going | None = None


@dataclass(slots=True)
class _Look:
    """One look at one job, under way."""

    job: Job
    seen: Seen
    known: Mapping[str, Known]
    now_s: float
    changes: list[Change] = field(default_factory=list[Change])
    live: set[str] = field(default_factory=set[str])
    """Subjects that a rule stands behind."""


def is_watched(job: Job) -> bool:
    """Whether there is anything to look at."""
    return bool(job.health) or any(rule for _, rule in _task_rules(job))


def needs_backlog(job: Job) -> bool:
    """Whether its backlog has to be sampled."""
    return any(rule.metric in BACKLOG for rule in job.health)


def success_known_s(job: Job, known: Mapping[str, Known]) -> float:
    """Up to when it is known what succeeded: an older success changes nothing."""
    rules = [_rule(rule) for rule in job.health if rule.metric is HealthMetric.NO_SUCCESS_WITHIN_SECONDS]
    return min((known[rule].since_s if rule in known else 0.0 for rule in rules), default=0.0)


def decide(job: Job, seen: Seen, known: Mapping[str, Known], now_s: float) -> tuple[Change, ...]:
    """What is to be done, given what was found and what is remembered of the job."""
    look = _Look(job, seen, known, now_s)
    _durations(look)
    for rule in job.health:
        if rule.metric is HealthMetric.NO_SUCCESS_WITHIN_SECONDS:
            _no_success(look, rule)
        elif rule.metric in BACKLOG:
            _backlog(look, rule)
    gone = [Change(Step.FORGET, subject) for subject in known if subject not in look.live]
    return (*look.changes, *gone)


def too_long(job: Job, ended: Going, known: Mapping[str, Known], now_s: float) -> tuple[Change, ...]:
    """What is to be told of a run or an attempt that ends now: it took too long, and no look has found it."""
    look = _Look(job, Seen((ended,)), known, now_s)
    task = alerts.task_of(job, ended.task_key) if ended.task_key is not None else None
    for rule in task.health if task else job.health if ended.task_key is None else ():
        if rule.metric is HealthMetric.RUN_DURATION_SECONDS:
            _duration(look, rule, [ended])
    return tuple(look.changes)


def _durations(look: _Look) -> None:
    for rule in look.job.health:
        if rule.metric is HealthMetric.RUN_DURATION_SECONDS:
            _duration(look, rule, [g for g in look.seen.going if g.task_key is None])
    for task_key, rule in _task_rules(look.job):
        _duration(look, rule, [g for g in look.seen.going if _is_of(g, task_key)])


def _duration(look: _Look, rule: HealthRule, going: list[Going]) -> None:
    for one in going:
        took_s = look.now_s - one.started_s
        if took_s <= rule.value:
            continue
        subject = f"{_rule(rule)}, run {one.run_id}" + (f", repair {one.repair}" if one.repair else "")
        if one.task_key is not None:
            subject += f", task {one.task_key}, attempt {one.attempt}"
        look.live.add(subject)
        if subject not in look.known:
            since_s = one.started_s + rule.value
            look.changes.append(_change(Step.TELL, subject, rule, measured=took_s, since_s=since_s, about=one))


def _backlog(look: _Look, rule: HealthRule) -> None:
    subject = _rule(rule)
    look.live.add(subject)
    before = look.known.get(subject)
    measured = mean(look.seen.samples, rule.metric, look.now_s)
    if measured > rule.value:
        if before is None or look.now_s - before.told_at_s >= BACKLOG_AGAIN_S:
            since_s = before.since_s if before else look.now_s
            look.changes.append(_change(Step.TELL, subject, rule, measured=measured, since_s=since_s))
    elif before is not None and _is_over(look, rule):
        look.changes.append(_change(Step.RECOVERED, subject, rule, measured=measured, since_s=before.since_s))


def _is_over(look: _Look, rule: HealthRule) -> bool:
    """Whether a small mean says something: right after a start it is small because little has been seen."""
    samples = look.seen.samples
    if not samples:
        return False
    full = samples[0].at_s <= look.now_s - BACKLOG_WINDOW_S
    return full or samples[-1].values[BACKLOG[rule.metric]] <= rule.value


def _no_success(look: _Look, rule: HealthRule) -> None:
    subject = _rule(rule)
    look.live.add(subject)
    before, last_s = look.known.get(subject), look.seen.last_success_s
    since_s = max(before.since_s if before else 0.0, last_s or 0.0) or look.now_s
    was_told = before is not None and before.told_at_s > 0
    measured = look.now_s - since_s
    if measured > rule.value:
        if before is None or not was_told or look.now_s - before.told_at_s >= NO_SUCCESS_AGAIN_S:
            look.changes.append(_change(Step.TELL, subject, rule, measured=measured, since_s=since_s))
    elif was_told:
        look.changes.append(_change(Step.RECOVERED, subject, rule, measured=measured, since_s=since_s))
    elif before is None or since_s > before.since_s:
        look.changes.append(_change(Step.WATCH, subject, rule, measured=measured, since_s=since_s))


def _change(
    step: Step,
    subject: str,
    rule: HealthRule,
    *,
    measured: float,
    since_s: float,
    about: Going | None = None,
) -> Change:
    return Change(step, subject, since_s, rule.metric, rule.value, measured, about)


def _rule(rule: HealthRule) -> str:
    return f"{rule.metric.value} > {rule.value:.15g}"


def _task_rules(job: Job) -> list[tuple[str, HealthRule]]:
    keys = [t.task_key for t in job.tasks] + [f"{t.task_key}[" for t in job.tasks]
    return [(key, rule) for key in keys for task in [alerts.task_of(job, key)] if task for rule in task.health]


def _is_of(going: Going, task_key: str) -> bool:
    """Whether an attempt is one of that task; `loop[` stands for the iterations of a loop."""
    if task_key.endswith("["):
        return going.task_key is not None and going.task_key.startswith(task_key)
    return going.task_key == task_key


# --- the mean of a backlog ------------------------------------------------------------------------------------


def sampled(samples: tuple[Sample, ...], new: Sample) -> tuple[Sample, ...]:
    """With the new sample, and without those that the window has left behind."""
    begin_s = new.at_s - BACKLOG_WINDOW_S
    kept = list(samples)
    while len(kept) > 1 and kept[1].at_s <= begin_s:
        del kept[0]
    return (*kept, new)


def mean(samples: tuple[Sample, ...], metric: HealthMetric, now_s: float) -> float:
    """The mean over the last ten minutes; a sample stands until the next one, before the first there was nothing."""
    begin_s = now_s - BACKLOG_WINDOW_S
    ends_s = [*(s.at_s for s in samples[1:]), now_s]
    area = sum(
        sample.values[BACKLOG[metric]] * max(0.0, min(end_s, now_s) - max(sample.at_s, begin_s))
        for sample, end_s in zip(samples, ends_s, strict=False)
    )
    return area / BACKLOG_WINDOW_S


# --- telling --------------------------------------------------------------------------------------------------


def event(job: str, change: Change, now_s: float) -> tuple[str, dict[str, Any]]:
    """Topic and payload of a TELL or RECOVERED, for `jobs/<job>/health`."""
    is_well = change.step is Step.RECOVERED
    return f"jobs/{job}/health", {
        "event_id": news.event_id("health", job, change.subject, change.step.value, change.since_s, now_s),
        "event": "job_healthy_again" if is_well else "job_unhealthy",
        "time": utc(now_s),
        "job": job,
        "what": change.subject,
        "metric": change.metric.value if change.metric else None,
        "threshold": change.threshold,
        "measured": round(change.measured, 3),
        "since": utc(change.since_s),
        "run_id": change.about.run_id if change.about else None,
        "task_key": change.about.task_key if change.about else None,
    }
