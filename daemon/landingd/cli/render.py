"""Answers as a person reads them."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from landingd.cli.asking import Asker
    from landingd.errors import Problem
    from landingd.flow.catalog import Catalog

COLOURS = {
    "SUCCESS": "green",
    "loaded": "green",
    "online": "green",
    "FAILED": "red",
    "TIMEDOUT": "red",
    "quarantined": "red",
    "offline": "red",
    "UPSTREAM_FAILED": "yellow",
    "WAITING_FOR_RETRY": "yellow",
    "RUNNING": "cyan",
    "QUEUED": "cyan",
    "waiting": "cyan",
    "replaced": "dim",
    "ignored": "dim",
}
POLL_S = 0.1

Answer = Mapping[str, Any]


def as_json(answer: Any) -> None:
    """The answer itself, on standard output."""
    json.dump(answer, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def problem(one: "Problem") -> dict[str, Any]:
    """A problem for machines."""
    return {"file": one.file, "line": one.line, "error": one.what, "hint": one.hint}


def console() -> Console:
    """Wide where nobody looks: a pipe gets whole lines."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        name, _, side = column.partition(">")
        table.add_column(name, justify="right" if side == "" and column.endswith(">") else "left", overflow="fold")
    return table


def _word(word: str | None) -> Text:
    return Text(word or "", style=COLOURS.get(word or "", ""))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def _at(value: str | None) -> str:
    return (value or "").replace("T", " ").replace("Z", "")


def valid(catalog: "Catalog") -> None:
    """The jobs that are fine, and what could not be bound yet."""
    out = console()
    for job in catalog.jobs:
        count = len(job.tasks)
        out.print(f"[green]✓[/] {job.name}: {count} task{'' if count == 1 else 's'}")
    for one in catalog.unbound:
        out.print(f"[yellow]•[/] {escape(str(one))}")


def status(answer: Answer) -> None:
    """The daemon in a few lines."""
    out = console()
    state = Text("landingd ") + _word(answer["state"])
    out.print(state, answer.get("version", ""), f"on {answer['node']}" if "node" in answer else "")
    for key in ("started_at", "broker", "reload_problem"):
        if answer.get(key):
            out.print(f"  {key.replace('_', ' ')}: {escape(str(answer[key]))}")
    out.print(f"  events waiting for the broker: {answer['untold_events']}")
    for directory in answer.get("not_watched", []):
        out.print(f"  [yellow]not watched, only scanned:[/] {escape(directory)}")
    states = ("waiting", "loaded", "quarantined", "replaced")
    table = _table("job", "state", *(f"{s}>" for s in states))
    jobs = sorted({*answer.get("jobs", []), *answer["files"]})
    for job in jobs:
        counts = answer["files"].get(job, {})
        running = "" if "active_jobs" not in answer else "RUNNING" if job in answer["active_jobs"] else "idle"
        table.add_row(job, _word(running), *(_number(counts.get(s, 0)) for s in states))
    out.print(table)


def runs(answer: Sequence[Answer]) -> None:
    """One line per run."""
    table = _table("run>", "job", "trigger", "state", "result", "files>", "started (UTC)", "duration>", "error")
    for one in answer:
        error = (one["error"] or "").splitlines()
        table.add_row(
            str(one["run_id"]),
            one["job"],
            one["trigger"],
            _word(one["state"]),
            _word(one["result"]),
            _number(one["file_count"]),
            _at(one["started_at"]),
            _ms(one["duration_ms"]),
            Text(error[0] if error else "", overflow="ellipsis", no_wrap=True),
        )
    console().print(table)


def run(answer: Answer) -> None:
    """A run whole: tasks, attempts, errors, files, timings."""
    out = console()
    head = Text(f"run {answer['run_id']} of {answer['job']}: ") + _word(answer["result"] or answer["state"])
    out.print(
        head, f"({answer['trigger']}, {_files(answer['file_count'])}{_bad(answer)}, {_ms(answer['duration_ms'])})"
    )
    if answer["parameters"]:
        out.print("  parameters:", ", ".join(f"{k}={v}" for k, v in answer["parameters"].items()), markup=False)
    table = _table("task", "attempt>", "result", "rows in>", "rows out>", "rejected>", "duration>", "how")
    errors = []
    for task in answer["tasks"]:
        _add_attempts(table, task)
        if task["error"]:
            errors.append((task["task_key"], task["error"]))
    out.print(table)
    for repair in answer["repair_history"]:
        out.print(f"  repair {repair['repair']} at {_at(repair['requested_at'])}: {', '.join(repair['tasks'])}")
    for task_key, error in errors:
        out.print(f"[red]{task_key}[/]: {escape(error)}")
    timings(answer["timings"], out)
    if answer["files"]:
        files(answer["files"])
    if answer["result"] not in {None, "SUCCESS"}:
        out.print(f"after the cause is mended: [bold]landingd repair {answer['run_id']}[/]")


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


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
            _word(outcome),
            _number(attempt["rows_in"]) if attempt else "",
            _number(attempt["rows_out"]) if attempt else "",
            _number(attempt["rows_rejected"]) if attempt else "",
            _ms(attempt["worked_ms"] or attempt["duration_ms"]) if attempt else "",
            attempt["how"] or "" if attempt else "",
        )


def timings(steps: Sequence[Answer], out: Console) -> None:
    """How long each step took, in milliseconds since the first file was seen."""
    told = [f"{step['step']} {step['since_landed_ms']:,.1f}" for step in steps]
    if told:
        since = "the first file was seen" if steps[0]["step"] == "landed" else "the run started"
        out.print(f"  {' → '.join(told)} [dim](ms since {since})[/]")


def files(answer: Sequence[Answer]) -> None:
    """One line per file version."""
    table = _table("id>", "job", "file", "state", "rows in>", "loaded>", "rejected>", "run>", "reason")
    for one in answer:
        table.add_row(
            str(one.get("file_id", "")),
            one.get("job", ""),
            Text(one["file"]),
            _word(one["state"]),
            _number(one.get("rows_in")),
            _number(one.get("rows_loaded")),
            _number(one.get("rows_rejected")),
            str(one.get("run_id") or ""),
            Text(one["reason"]),
        )
    console().print(table)


def why(answer: Answer) -> None:
    """A file's story, version by version."""
    out = console()
    where = f"on disk, {answer['size']:,} bytes" if answer["on_disk"] else "not on disk"
    out.print(Text(answer["file"], style="bold"), f"({where})")
    if answer["ignored"]:
        out.print(f"  ignored: {escape(answer['ignored'])}")
    elif not answer["versions"]:
        out.print(f"  wanted by {', '.join(answer['jobs'])}; not taken in yet")
    for version in answer["versions"]:
        _why_version(version, out)


def _why_version(version: Answer, out: Console) -> None:
    out.print(Text(f"  version {version['file_id']} for job {version['job']}: ") + _word(version["state"]))
    if version["reason"]:
        out.print(f"    {escape(version['reason'])}")
    out.print(f"    seen {_at(version['seen_at'])}, {version['size']:,} bytes")
    if version["complete_at"]:
        digest = (version["content_hash"] or "")[:12]
        out.print(f"    complete {_at(version['complete_at'])}: {escape(version['evidence'])} (sha256 {digest}…)")
    if version["duplicates"]:
        out.print(f"    the same bytes came again {version['duplicates']} times; skipped")
    if version["run_id"]:
        out.print(f"    taken by run {version['run_id']}")
    for load in version["loads"]:
        out.print(
            f"    {load['task_key']} {_at(load['loaded_at'])}: {load['rows_in']:,} rows in = "
            f"{load['rows_loaded']:,} loaded + {load['rows_rejected']:,} rejected (run {load['run_id']})"
        )
    if version["rows_rejected"]:
        out.print(
            f"    [dim]the rejected rows: landingd query "
            f'"from meta.rejected_rows where file_id = {version["file_id"]}"[/]'
        )


def plan(answer: Answer) -> None:
    """What would run, in order."""
    out = console()
    out.print(f"{answer['job']}: {_files(answer['waiting_files'])} waiting ({answer['waiting_bytes']:,} bytes)")
    table = _table("task", "after", "table", "refresh", "why")
    for task in answer["tasks"]:
        table.add_row(
            task["task_key"], ", ".join(task["depends_on"]), task["table"] or "", task["refresh"], task["why"]
        )
    out.print(table)


def rows(answer: bytes, *, title: str | None = None, most: int = 1000) -> None:
    """A query's JSON rows as a table."""
    found = json.loads(answer or b"[]")
    out = console()
    if not found:
        out.print("no rows")
        return
    numbers = {k for k in found[0] if all(isinstance(r[k], (int, float)) or r[k] is None for r in found)}
    table = _table(*(f"{k}>" if k in numbers else k for k in found[0]), title=title)
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
