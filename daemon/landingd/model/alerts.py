"""Who is told of what, and what counts as unhealthy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from landingd.model.states import HealthMetric, NotifyOn


@dataclass(frozen=True, slots=True)
class Notifications:
    """`email_notifications`, `webhook_notifications` and `notification_settings` of a job or a task."""

    email: Mapping[NotifyOn, tuple[str, ...]] = field(default_factory=dict[NotifyOn, tuple[str, ...]])
    """Addresses by event."""
    webhook: Mapping[NotifyOn, tuple[str, ...]] = field(default_factory=dict[NotifyOn, tuple[str, ...]])
    """Ids of destinations, which the configuration maps to addresses, by event."""
    no_alert_for_skipped_runs: bool = False
    no_alert_for_canceled_runs: bool = False
    alert_on_last_attempt: bool = False
    """Of a task: not for attempts that will be tried again."""

    def __bool__(self) -> bool:
        return bool(self.email or self.webhook)


@dataclass(frozen=True, slots=True)
class HealthRule:
    """`health.rules[]`: unhealthy when the metric is greater than the value (op GREATER_THAN)."""

    metric: HealthMetric
    value: float
