"""Read who is told of what, and what counts as unhealthy, of a job or of a task."""

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.fields import Fields
from landingd.edge.jobfiles.tree import Keyed, Listed, Node
from landingd.model import HealthMetric, HealthRule, Notifications, NotifyOn

_METRICS = tuple(metric.value for metric in HealthMetric if metric is not HealthMetric.NO_SUCCESS_WITHIN_SECONDS)
_KEYS = ("email_notifications", "webhook_notifications", "notification_settings")


def read_notifications(fields: Fields, *, of_task: bool) -> Notifications | None:
    """`email_notifications`, `webhook_notifications` and `notification_settings`; None where there is none of them."""
    if not any([fields.entry(key) for key in _KEYS]):  # noqa: C419  # each must have been asked for
        return None
    email, webhook = fields.fields("email_notifications"), fields.fields("webhook_notifications")
    settings = fields.fields("notification_settings")
    # The API's old place of the flag, in which exported jobs still have it.
    skipped = [where.flag("no_alert_for_skipped_runs", default=False) for where in (settings, email) if where]
    canceled = settings is not None and settings.flag("no_alert_for_canceled_runs", default=False)
    last = of_task and settings is not None and settings.flag("alert_on_last_attempt", default=False)
    found = Notifications(
        email=_by_event(email, of_task=of_task) if email else {},
        webhook=_by_event(webhook, of_task=of_task) if webhook else {},
        no_alert_for_skipped_runs=any(skipped),
        no_alert_for_canceled_runs=canceled,
        alert_on_last_attempt=last,
    )
    for given in (email, webhook):
        if given is not None:
            given.done(refused=refused.NOTIFICATIONS)
    if settings is not None:
        settings.done(elsewhere={"alert_on_last_attempt": "a task's 'notification_settings'"})
    return found


def _by_event(fields: Fields, *, of_task: bool) -> dict[NotifyOn, tuple[str, ...]]:
    is_mail = fields.called == repr("email_notifications")
    found: dict[NotifyOn, tuple[str, ...]] = {}
    for event in NotifyOn:
        entry = fields.entry(event.value)
        if entry is None:
            continue
        if of_task and event is NotifyOn.NO_SUCCESS:
            fields.wrong(event.value, f"{event.value!r} is about a job", "move it to the job's notifications")
        nodes = entry.node.items if isinstance(entry.node, Listed) else (entry.node,)
        names = [_address(fields, node) if is_mail else _destination(fields, node) for node in nodes]
        if told := tuple(dict.fromkeys(name for name in names if name)):
            found[event] = told
    return found


def _address(fields: Fields, node: Node) -> str | None:
    word = fields.word(node, "an address")
    if word is not None and "@" not in word.text.strip("@"):
        fields.source.wrong(word.line, f"{word.text!r} is no mail address", "for example: data@example.com")
        return None
    return word.text if word else None


def _destination(fields: Fields, node: Node) -> str | None:
    if not isinstance(node, Keyed):
        word = fields.word(node, "a destination")
        return word.text if word else None
    inner = Fields(node, fields.source, called="a destination")
    name = inner.needed("id", "a destination needs an 'id'", "one of [alerts] destinations in the configuration")
    inner.done()
    return name


def read_health(fields: Fields, *, of_task: bool) -> tuple[HealthRule, ...]:
    """`health: {rules: [{metric, op, value}], no_success_within_seconds}`; a task has rules about its duration only."""
    health = fields.fields("health")
    if health is None:
        return ()
    rules = [_rule(Fields(node, fields.source, called="a rule"), of_task=of_task) for node in health.items("rules")]
    if not of_task and health.has("no_success_within_seconds"):
        within_s = health.number("no_success_within_seconds", default=0.0, least=1)
        rules.append(HealthRule(HealthMetric.NO_SUCCESS_WITHIN_SECONDS, within_s))
    health.done(elsewhere={"no_success_within_seconds": "the job's 'health'"})
    return tuple(rule for rule in rules if rule is not None)


def _rule(fields: Fields, *, of_task: bool) -> HealthRule | None:
    metric, op = fields.text("metric"), fields.text("op")
    value = fields.number("value", default=0.0, most=10**15)
    for key in ("metric", "value"):
        if fields.lacks(key):
            fields.wrong(key, f"a rule needs a {key!r}", "for example: {metric: RUN_DURATION_SECONDS, value: 60}")
    fields.done()
    if op not in (None, "GREATER_THAN"):
        fields.wrong("op", f"'op' must be 'GREATER_THAN', found text {op!r}")
    if metric is None:
        return None
    if metric == "STREAMING_BACKLOG_RECORDS":
        reason = "what waits is files, whose rows are counted when they are read"
        fields.refuse("metric", refused.Refusal(reason, "STREAMING_BACKLOG_FILES, _BYTES or _SECONDS"))
    elif metric == "NO_SUCCESS_WITHIN_SECONDS":
        fields.wrong("metric", f"{metric!r} is no rule", "write `no_success_within_seconds` beside 'rules'")
    elif metric not in _METRICS:
        fields.choice("metric", _METRICS)
    elif of_task and metric != HealthMetric.RUN_DURATION_SECONDS:
        fields.wrong("metric", f"{metric!r} is about a job", "move the rule to the job's 'health'")
    else:
        return HealthRule(HealthMetric(metric), value)
    return None
