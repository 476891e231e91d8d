"""Answers as a person reads them: the daemon, its jobs, the rows of a query."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from landingd.cli import printing
from landingd.cli.printing import Answer

if TYPE_CHECKING:
    from landingd.edge.jobfiles import BundleRead
    from landingd.errors import Problem
    from landingd.flow.catalog import Catalog


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


def bundle(read: "BundleRead") -> None:
    """What of a bundle would run here, and what would not."""
    out = printing.console()
    for job in read.jobs:
        count = len(job.tasks)
        mark = "[green]✓[/]" if job.name in read.sound else "[red]✗[/]"
        out.print(f"{mark} {escape(job.name)}: {count} task{'' if count == 1 else 's'}")
    for one in read.problems:
        out.print(escape(str(one)), soft_wrap=True)
    count = len(read.problems)
    out.print(
        f"{count} thing{'' if count == 1 else 's'} would not run here" if count else "everything in it would run here"
    )


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


def jobs(answer: Sequence[Answer]) -> None:
    """One line per job."""
    table = printing.table(
        "job", "triggers", "", "state", "queued>", "last run>", "result", "ended (UTC)", "next (UTC)"
    )
    for one in answer:
        state = one["state"] if one["state"] != "IDLE" else "idle"
        table.add_row(
            one["job"],
            ", ".join(one["triggers"]) or "-",
            printing.word("paused") if one["paused"] else "",
            printing.word(state),
            printing.number(one["queued_runs"] or None),
            str(one["last_run"] or ""),
            printing.word(one["last_result"]),
            printing.at_s(one["last_ended_at"]),
            printing.at_s(one["next_fire_time"]),
        )
    printing.console().print(table)


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
