"""How the triggers of a job stand, in the words of the retained topic `jobs/<job>/triggers`.

Whoever looks there wants to know whether the job can start at all, and when it will; what past evaluations led to is
history, and asked for (`landingd triggers`).
"""

from collections.abc import Mapping
from typing import Any, Protocol

from landingd.model import Job, utc


class Remembered(Protocol):
    """What is known of a trigger, or, under the name "", of the job itself: a row of the ledger."""

    @property
    def paused(self) -> bool | None: ...
    @property
    def last_fired_s(self) -> float | None: ...
    @property
    def next_fire_s(self) -> float | None: ...
    @property
    def failures(self) -> int: ...
    @property
    def retry_at_s(self) -> float | None: ...


def triggers(job: Job, rows: Mapping[str, Remembered]) -> dict[str, Any]:
    """`rows`: what the ledger has of the job's triggers, by name. A pause on request stands above the job file's."""
    job_paused = _paused(rows.get(""), said=job.paused)
    listed = []
    for trigger in job.triggers:
        row = rows.get(trigger.key)
        paused = job_paused or _paused(row, said=trigger.paused)
        listed.append(
            {
                "trigger": trigger.key,
                "kind": trigger.kind.value,
                "paused": paused,
                "next_fire_time": utc(row.next_fire_s) if row and not paused else None,
                "last_fired_at": utc(row.last_fired_s) if row else None,
                "failures": row.failures if row else 0,
                "retry_at": utc(row.retry_at_s) if row and not paused else None,
            }
        )
    return {"job": job.name, "paused": job_paused, "triggers": listed}


def _paused(row: Remembered | None, *, said: bool) -> bool:
    return said if row is None or row.paused is None else row.paused
