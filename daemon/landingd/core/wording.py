"""An alert as a person reads it, in a mail or a chat: a subject line, and a text that ends with what to do."""

from collections.abc import Mapping
from typing import Any

from landingd.model import HealthMetric, NotifyOn, Result

Payload = Mapping[str, Any]

SUBJECT_CHARS_MAX = 150
FILES_SHOWN = 5
_STARTED = f"jobs.{NotifyOn.START.value}"

_ENDS = {
    Result.SUCCESS: "succeeded",
    Result.SUCCESS_WITH_FAILURES: "succeeded, though tasks in it failed",
    Result.FAILED: "failed",
    Result.TIMEDOUT: "timed out",
    Result.CANCELED: "was canceled",
    Result.MAXIMUM_CONCURRENT_RUNS_REACHED: "was skipped: there was no room for another run",
    Result.MAX_JOB_QUEUE_SIZE_EXCEEDED: "was skipped: the queue was full",
}


def subject(alert: Payload, *, node: str) -> str:
    """One line: which job, what happened."""
    line = f"[landingd {node}] {_headline(alert)}"
    return " ".join(line.split())[:SUBJECT_CHARS_MAX]


def text(alert: Payload, *, node: str) -> str:
    """What happened, with everything that is known of it, and the commands to go on with."""
    run, task = alert["run"], alert["task"]
    lines = [f"{_headline(alert)}.", ""]
    if run and run["failed_tasks"] and not task:
        lines += [_line("failed", ", ".join(run["failed_tasks"]))]
    if task:
        lines += [_line("task", f"{task['task_key']}, {_attempt(task)}")]
    if alert["error"]:
        lines += [_line("error", alert["error"].replace("\n", "\n             "))]
    if alert["next_retry_at"]:
        lines += [_line("next try", alert["next_retry_at"])]
    if run:
        lines += _of_run(alert, run)
    lines += [_line("time", f"{alert['time']} on {node}"), ""]
    if alert["repair_command"]:
        lines += [f"To run again what failed, and what comes after it:  {alert['repair_command']}"]
    lines += [f"To see more:  {alert['show_command']}"]
    return "\n".join(lines) + "\n"


def _headline(alert: Payload) -> str:
    if alert["event_type"] == "test":
        return "a test alert; nothing has happened"
    job, run, task = alert["job"]["name"], alert["run"], alert["task"]
    if alert["health"]:
        return f"{job}: {_unhealthy(alert['health'], run, task)}"
    what = f"task {task['task_key']} of run {run['run_id']}" if task else f"run {run['run_id']}"
    if alert["event_type"] == _STARTED:
        again = f" again, for repair {run['repair']}" if run["repair"] else ""
        return f"{job}: {what} has started{again}"
    result = (task or run)["result"]
    how = _ENDS.get(Result(result), result) if result else "failed"
    return f"{job}: {what} {how}{', and will be tried again' if alert['next_retry_at'] else ''}"


def _unhealthy(health: Payload, run: Payload | None, task: Payload | None) -> str:
    measured, threshold = health["measured"], health["threshold"]
    match HealthMetric(health["metric"]):
        case HealthMetric.RUN_DURATION_SECONDS:
            what = f"task {task['task_key']} of run {run['run_id']}" if task and run else f"run {(run or {})['run_id']}"
            if run and run["ended_at"]:
                return f"{what} took longer than {duration(threshold)} ({duration(measured)})"
            return f"{what} takes longer than {duration(threshold)} (so far {duration(measured)})"
        case HealthMetric.STREAMING_BACKLOG_FILES:
            return f"{measured:,.0f} files wait, on average over 10 minutes (more than {threshold:,.0f})"
        case HealthMetric.STREAMING_BACKLOG_BYTES:
            return f"{measured:,.0f} bytes wait, on average over 10 minutes (more than {threshold:,.0f})"
        case HealthMetric.STREAMING_BACKLOG_SECONDS:
            return (
                f"files wait for {duration(measured)}, on average over 10 minutes (longer than {duration(threshold)})"
            )
        case HealthMetric.NO_SUCCESS_WITHIN_SECONDS:
            return f"no run has succeeded for {duration(measured)} (longer than {duration(threshold)})"


def _of_run(alert: Payload, run: Payload) -> list[str]:
    lines = []
    took = (alert["task"] or run)["duration_ms"]
    if took is not None and alert["event_type"] != _STARTED:
        lines += [_line("took", duration(took / 1000))]
    if run["queue_ms"] and run["queue_ms"] >= 1000 and not alert["task"]:
        lines += [_line("queued for", duration(run["queue_ms"] / 1000))]
    lines += [_line("trigger", run["trigger"] + (f", repair {run['repair']}" if run["repair"] else ""))]
    if alert["files"]["count"]:
        lines += [_line("files", _files(alert["files"]))]
    if any(alert["rows"].values()):
        rows = ", ".join(f"{n:,} {name.removeprefix('rows_').replace('_', ' ')}" for name, n in _counts(alert["rows"]))
        lines += [_line("rows", rows)]
    if run["parameters"]:
        lines += [_line("parameters", ", ".join(f"{name}={value}" for name, value in run["parameters"].items()))]
    return lines


def _counts(rows: Mapping[str, int | None]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in rows.items() if n]


def _files(files: Payload) -> str:
    named, count = files["names"][:FILES_SHOWN], files["count"]
    more = f", and {count - len(named):,} more" if count > len(named) else ""
    return f"{count:,}: {', '.join(named)}{more}"


def _attempt(task: Payload) -> str:
    allowed = {-1: "tried again without end", 0: "no retries", 1: "up to 1 retry"}
    retries = allowed.get(task["max_retries"], f"up to {task['max_retries']} retries")
    failed = f"{task['failures']} failed, " if task["failures"] else ""
    return f"attempt {task['attempt']} ({failed}{retries})"


def _line(name: str, value: str) -> str:
    return f"{name + ':':<12} {value}"


def duration(seconds: float) -> str:
    """For people: 23 ms, 1.3 s, 12 s, 4 min 10 s, 3 h 5 min, 2 d 4 h."""
    if round(1000 * seconds) < 1000:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"
