"""The words of the events: which topic, which payload.

An event's id is made from what happened (this run, this task, this attempt), not drawn. Whoever tells the same thing
again after a crash tells it under the same id, and a subscriber can drop the repeat.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from landingd.model import Result, Stats, TaskState, utc

FILES_NAMED_MAX = 100
"""A run event names this many files at most; `file_count` always says how many there are."""

DISCREPANCIES_NAMED_MAX = 20
"""The retained census names this many at most; `discrepancy_count` always says how many there are."""

Payload = dict[str, Any]


def event_id(*what: object) -> str:
    """32 hex digits that are the same for the same happening."""
    return hashlib.sha256("\0".join(map(str, what)).encode()).hexdigest()[:32]


def run_event(
    event: str,
    *,
    job: str,
    run_id: int,
    repair: int,
    queued_s: float,
    started_s: float | None,
    now_s: float,
    trigger: str,
    parameters: Mapping[str, str],
    files: Sequence[str],
    file_count: int,
    result: Result | None = None,
    error: str | None = None,
    rows: Mapping[str, int] | None = None,
    trigger_name: str | None = None,
) -> tuple[str, Payload]:
    """`queued`, `started`, `finished` or `skipped`, for `jobs/<job>/runs/<run_id>`."""
    payload: Payload = {
        "event_id": event_id("run", job, run_id, queued_s, repair, event),
        "event": f"run_{event}",
        "time": utc(now_s),
        "job": job,
        "run_id": run_id,
        "repair": repair,
        "trigger": trigger,
        "trigger_name": trigger_name,
        "parameters": dict(parameters),
        "files": list(files[:FILES_NAMED_MAX]),
        "file_count": file_count,
        "queued_at": utc(queued_s),
        "started_at": utc(started_s),
    }
    if event == "skipped":
        payload |= {"result": result.value if result else None, "error": error}
    if event == "finished":
        payload |= {
            "result": result.value if result else None,
            "error": error,
            "ended_at": utc(now_s),
            "duration_ms": _ms(now_s - (started_s or queued_s)),
            "queue_ms": _ms((started_s or now_s) - queued_s),
            **(rows or {}),
        }
    return f"jobs/{job}/runs/{run_id}", payload


def task_event(
    *,
    job: str,
    run_id: int,
    repair: int,
    queued_s: float,
    task_key: str,
    attempt: int,
    state: TaskState,
    result: Result | None,
    error: str | None,
    stats: Stats | None,
    started_s: float | None,
    now_s: float,
    retry_at_s: float | None = None,
) -> tuple[str, Payload]:
    """Where a task stands after an attempt, for `jobs/<job>/runs/<run_id>/tasks/<task>`."""
    payload: Payload = {
        "event_id": event_id("task", job, run_id, queued_s, repair, task_key, attempt, state, result),
        "event": "task_finished" if state is TaskState.TERMINATED else "task_will_retry",
        "time": utc(now_s),
        "job": job,
        "run_id": run_id,
        "task_key": task_key,
        "attempt": attempt,
        "state": state.value,
        "result": result.value if result else None,
        "error": error,
        "duration_ms": _ms(now_s - started_s) if started_s is not None else None,
    }
    if retry_at_s is not None:
        payload["retry_at"] = utc(retry_at_s)
    if stats is not None:
        payload |= {
            "rows_in": stats.rows_in,
            "rows_out": stats.rows_out,
            "rows_rejected": stats.rows_rejected,
            "worked_ms": stats.worked_ms,
            "how": stats.how,
            "rows_dropped": sum(load.rows_dropped for load in stats.files if load.loaded),
            "rows_rescued": sum(load.rows_rescued for load in stats.files if load.loaded),
            "expectations": [
                {"name": e.name, "on_violation": e.on_violation, "passed": e.passed, "failed": e.failed}
                for e in stats.expectations
            ],
        }
    return f"jobs/{job}/runs/{run_id}/tasks/{task_key}", payload


def file_event(
    event: str, *, job: str, name: str, file_id: int, content_hash: str, now_s: float, **more: object
) -> tuple[str, Payload]:
    """`landed`, `loaded`, `quarantined`, `duplicate`, `archived`, `cleanup_failed` ... of a version, for `files`."""
    occurrence = more.get("occurrence", 0)
    payload: Payload = {
        "event_id": event_id("file", job, name, file_id, content_hash, event, more.get("task_key"), occurrence),
        "event": f"file_{event}",
        "time": utc(now_s),
        "job": job,
        "file": name,
        "file_id": file_id,
        "content_hash": content_hash,
    }
    return "files", payload | more


def census(counted: Payload) -> Payload:
    """How files and rows add up, for `census`: the topic is retained, so it names only the first that do not."""
    return counted | {"discrepancies": counted["discrepancies"][:DISCREPANCIES_NAMED_MAX]}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
