"""Answers as a person reads them: jobs, runs, tables. Those about files are in `render_files`."""

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from landingd.cli import printing
from landingd.cli.printing import Answer, as_json
from landingd.cli.render_files import census, files, redone, why

if TYPE_CHECKING:
    from landingd.cli.asking import Asker
    from landingd.errors import Problem
    from landingd.flow.catalog import Catalog

__all__ = [
    "as_json",
    "census",
    "files",
    "plan",
    "problem",
    "redone",
    "rows",
    "run",
    "runs",
    "status",
    "timings",
    "valid",
    "wait_for_run",
    "why",
]

POLL_S = 0.1


def problem(one: "Problem") -> dict[str, Any]:
    """A problem for machines."""
    return {"file": one.file, "line": one.line, "error": one.what, "hint": one.hint}


def valid(catalog: "Catalog") -> None:
    """The jobs that are fine, and what could not be bound yet."""
    out = printing.console()
    for job in catalog.jobs:
        count = len(job.tasks)
        out.print(f"[green]✓[/] {job.name}: {count} task{'' if count == 1 else 's'}")
    for one in catalog.unbound:
        out.print(f"[yellow]•[/] {escape(str(one))}")


def status(answer: Answer) -> None:
    """The daemon in a few lines."""
    out = printing.console()
    state = Text("landingd ") + printing.word(answer["state"])
    out.print(state, answer.get("version", ""), f"on {answer['node']}" if "node" in answer else "")
    for key in ("started_at", "broker", "reload_problem"):
        if answer.get(key):
            out.print(f"  {key.replace('_', ' ')}: {escape(str(answer[key]))}")
    out.print(f"  events waiting for the broker: {answer['untold_events']}")
    if answer.get("cleanup_failing"):
        out.print(f"  [yellow]files that could not be archived or deleted:[/] {answer['cleanup_failing']}, tried again")
    for directory in answer.get("not_watched", []):
        out.print(f"  [yellow]not watched, only scanned:[/] {escape(directory)}")
    if answer.get("roots"):
        out.print(_roots(answer["roots"]))
    states = ("waiting", "loaded", "duplicate", "quarantined", "replaced", "retracted")
    table = printing.table("job", "state", *(f"{s}>" for s in states))
    jobs = sorted({*answer.get("jobs", []), *answer["files"]})
    for job in jobs:
        counts = answer["files"].get(job, {})
        running = "" if "active_jobs" not in answer else "RUNNING" if job in answer["active_jobs"] else "idle"
        table.add_row(job, printing.word(running), *(printing.number(counts.get(s, 0)) for s in states))
    out.print(table)


def _roots(roots: Sequence[Answer]) -> Table:
    """How each watched directory is listened to, and whether it is there."""
    table = printing.table("directory", "mode", "latency>", "files>", "scan>", "why")
    for root in roots:
        mode = root["mode"] if root["available"] else "unavailable"
        at_once = root["latency_seconds"] == 0
        table.add_row(
            Text(root["directory"]),
            printing.word(mode),
            "at once" if at_once else f"≤ {root['latency_seconds']:g} s",
            printing.number(root["files"]),
            printing.ms(root["scan_ms"]),
            Text("; ".join(root["trouble"]) or root["why"]),
        )
    return table


def runs(answer: Sequence[Answer]) -> None:
    """One line per run."""
    table = printing.table("run>", "job", "trigger", "state", "result", "files>", "started (UTC)", "duration>", "error")
    for one in answer:
        error = (one["error"] or "").splitlines()
        table.add_row(
            str(one["run_id"]),
            one["job"],
            one["trigger"],
            printing.word(one["state"]),
            printing.word(one["result"]),
            printing.number(one["file_count"]),
            printing.at(one["started_at"]),
            printing.ms(one["duration_ms"]),
            Text(error[0] if error else "", overflow="ellipsis", no_wrap=True),
        )
    printing.console().print(table)


def run(answer: Answer) -> None:
    """A run whole: tasks, attempts, errors, files, timings."""
    out = printing.console()
    head = Text(f"run {answer['run_id']} of {answer['job']}: ") + printing.word(answer["result"] or answer["state"])
    took = printing.ms(answer["duration_ms"])
    out.print(head, f"({answer['trigger']}, {printing.files(answer['file_count'])}{_bad(answer)}, {took})")
    if answer["parameters"]:
        out.print("  parameters:", ", ".join(f"{k}={v}" for k, v in answer["parameters"].items()), markup=False)
    table = printing.table("task", "attempt>", "result", "rows in>", "rows out>", "rejected>", "duration>", "how")
    errors = []
    for task in answer["tasks"]:
        _add_attempts(table, task)
        if task["error"]:
            errors.append((task["task_key"], task["error"]))
    out.print(table)
    _rows_of_run(answer["rows"], out)
    _expectations(answer["tasks"], out)
    for repair in answer["repair_history"]:
        out.print(f"  repair {repair['repair']} at {printing.at(repair['requested_at'])}: {', '.join(repair['tasks'])}")
    for task_key, error in errors:
        out.print(f"[red]{task_key}[/]: {escape(error)}")
    timings(answer["timings"], out)
    if answer["files"]:
        files(answer["files"])
    if answer["result"] not in {None, "SUCCESS"}:
        out.print(f"after the cause is mended: [bold]landingd repair {answer['run_id']}[/]")


def _rows_of_run(counts: Answer, out: Console) -> None:
    """Only where something else than loading became of them."""
    told = [f"{counts[key]:,} {key.removeprefix('rows_')}" for key in ("rows_rejected", "rows_dropped") if counts[key]]
    if counts["rows_rescued"]:
        told.append(f"of the loaded ones {counts['rows_rescued']:,} with rescued cells")
    if told:
        out.print(f"  rows: {counts['rows_in']:,} in = {counts['rows_loaded']:,} loaded, {', '.join(told)}")


def _expectations(tasks: Sequence[Answer], out: Console) -> None:
    kept = [(task["task_key"], one) for task in tasks for one in task["expectations"]]
    if not kept:
        return
    table = printing.table("task", "expectation", "on violation", "passed>", "failed>")
    for task_key, one in kept:
        failed = Text(f"{one['failed']:,}", style="yellow" if one["failed"] else "")
        table.add_row(task_key, Text(one["name"]), one["on_violation"], printing.number(one["passed"]), failed)
    out.print(table)


def _bad(answer: Answer) -> str:
    count = sum(file["state"] == "quarantined" for file in answer["files"])
    return f", {count} quarantined" if count else ""


def _add_attempts(table: Table, task: Answer) -> None:
    attempts = task["attempts"] or [None]
    for attempt in attempts:
        last = attempt is attempts[-1]
        outcome = (task["result"] or task["state"]) if last else attempt["outcome"]
        table.add_row(
            task["task_key"] if attempt is attempts[0] else "",
            str(attempt["attempt"]) if attempt else "",
            printing.word(outcome),
            printing.number(attempt["rows_in"]) if attempt else "",
            printing.number(attempt["rows_out"]) if attempt else "",
            printing.number(attempt["rows_rejected"]) if attempt else "",
            printing.ms(attempt["worked_ms"] or attempt["duration_ms"]) if attempt else "",
            attempt["how"] or "" if attempt else "",
        )


def timings(steps: Sequence[Answer], out: Console) -> None:
    """How long each step took, in milliseconds since the first file was seen."""
    told = [f"{step['step']} {step['since_landed_ms']:,.1f}" for step in steps]
    if told:
        since = "the first file was seen" if steps[0]["step"] == "landed" else "the run started"
        out.print(f"  {' → '.join(told)} [dim](ms since {since})[/]")


def plan(answer: Answer) -> None:
    """What would run, in order."""
    out = printing.console()
    out.print(f"{answer['job']}: {printing.files(answer['waiting_files'])} waiting ({answer['waiting_bytes']:,} bytes)")
    if answer["triggers"]:
        out.print(_triggers(answer["triggers"]))
    table = printing.table("task", "after", "table", "refresh", "why")
    for task in answer["tasks"]:
        table.add_row(
            task["task_key"], ", ".join(task["depends_on"]), task["table"] or "", task["refresh"], task["why"]
        )
    out.print(table)
    expected = [(task["task_key"], one) for task in answer["tasks"] for one in task["expectations"]]
    if expected:
        table = printing.table("task", "expectation", "every row", "else")
        for task_key, one in expected:
            table.add_row(task_key, Text(one["name"]), Text(one["expect"]), one["on_violation"])
        out.print(table)


def _triggers(triggers: Sequence[Answer]) -> Table:
    """What becomes of the files of each directory."""
    table = printing.table("files", "complete by", "same bytes", "other bytes", "removed", "after loading")
    for one in triggers:
        proof = one["marker"] or one["manifest"]
        age = f" after {one['cleanup_after_seconds']:g} s" if one["cleanup_after_seconds"] else ""
        table.add_row(
            Text(f"{one['directory']}/{one['pattern']}"),
            Text(proof or "how it arrived"),
            one["on_duplicate"],
            one["on_change"],
            one["on_delete"],
            one["cleanup"] + (age if one["cleanup"] != "keep" else ""),
        )
    return table


def rows(answer: bytes, *, title: str | None = None, most: int = 1000) -> None:
    """A query's JSON rows as a table."""
    found = json.loads(answer or b"[]")
    out = printing.console()
    if not found:
        out.print("no rows")
        return
    numbers = {k for k in found[0] if all(isinstance(r[k], (int, float)) or r[k] is None for r in found)}
    table = printing.table(*(f"{k}>" if k in numbers else k for k in found[0]), title=title)
    for row in found[:most]:
        table.add_row(*(_cell(row[k]) for k in found[0]))
    out.print(table)
    if len(found) > most:
        out.print(f"… {len(found) - most:,} more rows; --format csv gives them all")


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, float):
        return Text(f"{value:,.2f}")
    return Text(json.dumps(value) if isinstance(value, (dict, list)) else str(value))


def wait_for_run(asker: "Asker", run_id: int, *, quiet: bool) -> dict[str, Any]:
    """Ask until the run has ended; on a terminal with a spinner that names the tasks at work."""
    out = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with out.status(f"run {run_id}") as spinner:
        while True:
            answer = asker.run(run_id)
            if answer["state"] == "TERMINATED":
                return answer
            busy = [t["task_key"] for t in answer["tasks"] if t["state"] == "RUNNING"]
            done = sum(t["state"] == "TERMINATED" for t in answer["tasks"])
            spinner.update(f"run {run_id}: {done}/{len(answer['tasks'])} tasks {', '.join(busy)}")
            time.sleep(POLL_S)
