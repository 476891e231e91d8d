"""Runs as a person reads them: the list, one of them whole, the queue, the matrix."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from landingd.cli import gantt, printing, render_files
from landingd.cli import matrix as matrix_
from landingd.cli.printing import Answer

TASKS_MAX = 50
"""A run with more tasks is shown without those that succeeded."""
ITERATIONS_MAX = 10
ATTEMPTS_MAX = 3
"""Of a task the first ones and the last ones: it may be tried again without end."""
STEPS_MAX = 8
VALUE_CHARS_MAX = 200
"""Of a parameter's value: a loop's inputs may be 10,000."""


def runs(answer: Sequence[Answer]) -> None:
    """One line per run."""
    table = printing.table("run>", "job", "trigger", "state", "result", "files>", "started (UTC)", "duration>", "error")
    for one in answer:
        error = (one["error"] or "").splitlines()
        table.add_row(
            str(one["run_id"]),
            one["job"],
            one["trigger_name"] or one["trigger"],
            printing.word(one["state"]),
            printing.word(one["result"]),
            printing.number(one["file_count"]),
            printing.at(one["started_at"]),
            printing.took(one["duration_ms"]),
            Text(error[0] if error else "", overflow="ellipsis", no_wrap=True),
        )
    out = printing.console()
    out.print(printing.fitted(table, out.width, "trigger", "files", "state", "started (UTC)", "duration", "error"))


def queue(answer: Sequence[Answer]) -> None:
    """One line per run that waits, in the order in which they start."""
    out = printing.console()
    if not answer:
        out.print("nothing waits")
        return
    table = printing.table("run>", "job", "trigger", "priority>", "files>", "queued for>", "waits for")
    for one in answer:
        table.add_row(
            str(one["run_id"]),
            one["job"],
            one["trigger_name"] or one["trigger"],
            str(one["priority"] or ""),
            printing.number(one["file_count"] or None),
            printing.since(one["queued_at"]),
            Text(one["waits_for"]),
        )
    out.print(printing.fitted(table, out.width, "trigger", "priority", "files", "queued for"))


def matrix(answer: Answer) -> None:
    """Tasks by runs."""
    out = printing.console()
    if not answer["columns"]:
        out.print(f"no runs of {answer['job']} yet")
        return
    for line in matrix_.chart(answer, width=out.width):
        out.print(line, no_wrap=True, overflow="crop")


def admitted(answer: Answer) -> None:
    """What became of a request for a run that is not waited for."""
    before = ", as it was asked for before" if answer.get("known") else ""
    why = f" ({answer['result']})" if answer.get("result") else ""
    print(f"run {answer['run_id']} of {answer['job']} is {answer.get('state', 'QUEUED').lower()}{why}{before}")


def again(answer: Answer) -> None:
    """What a repair runs again."""
    number = f", repair {answer['repair']}" if "repair" in answer else ""
    print(f"run {answer['run_id']} of {answer['job']}{number}: {', '.join(answer['tasks'])} again", flush=True)


def canceled(answer: Answer) -> None:
    """What was canceled."""
    if "runs" in answer:
        ids = ", ".join(map(str, answer["runs"]))
        print(f"{answer['job']}: canceled {ids}" if ids else f"{answer['job']}: nothing to cancel")
    else:
        rest = "is canceled" if answer["state"] == "TERMINATED" else "is being canceled: what runs of it is rolled back"
        print(f"run {answer['run_id']} of {answer['job']} {rest}")


# --- one run ----------------------------------------------------------------------------------------------------


def run(answer: Answer, *, every: bool = False) -> None:
    """A run whole: tasks, attempts, when they were at work, errors, files."""
    out = printing.console()
    _head(answer, out)
    tasks = answer["tasks"] if every else _worth_a_line(answer["tasks"])
    if tasks:
        grid = _attempts(tasks, every=every)
        out.print(printing.fitted(grid, out.width, "rejected", "rows in", "rows out", "how", "duration"))
    if len(tasks) < len(answer["tasks"]):
        more = len(answer["tasks"]) - len(tasks)
        left = printing.counted(more, "more task or iteration", "more tasks and iterations")
        out.print(f"  … and {left}; --all shows them")
    _rows(answer["rows"], out)
    _expectations(answer["tasks"], out)
    for repair in answer["repair_history"]:
        _repair(repair, out)
    _errors(tasks, out)
    for line in gantt.chart(answer, width=min(out.width, 160), now_s=time.time()):
        out.print(line, no_wrap=True, overflow="crop")
    if not answer["repairs"]:
        timings(answer["timings"], out)
    if answer["files"]:
        render_files.files(answer["files"])
    if answer["state"] == "TERMINATED" and answer["result"] != "SUCCESS":
        out.print(f"after the cause is mended: [bold]landingd repair {answer['run_id']}[/]")


def _head(answer: Answer, out: Console) -> None:
    head = Text(f"run {answer['run_id']} of {answer['job']}: ") + printing.word(answer["result"] or answer["state"])
    bad = sum(file["state"] == "quarantined" for file in answer["files"])
    told = [answer["trigger_name"] or answer["trigger"]]
    told.append(printing.files(answer["file_count"]) + (f", {bad} quarantined" if bad else ""))
    told += [f"part of run {answer['parent']['run_id']}, {answer['parent']['task_key']}"] if answer["parent"] else []
    told += [f"only {' '.join(answer['only'])}"] if answer["only"] else []
    told += [printing.took(answer["duration_ms"])] if answer["duration_ms"] is not None else []
    out.print(head, Text(f"({', '.join(told)})"))
    if answer["error"] and not answer["tasks"]:
        out.print(f"  {escape(answer['error'])}")
    if answer["parameters"]:
        out.print("  parameters:", _given(answer["parameters"]), markup=False)


def _worth_a_line(tasks: Sequence[Answer]) -> list[Answer]:
    """Every task of a small run; of a large one those that did not succeed. Of iterations the first that failed."""
    top = [task for task in tasks if task["parent"] is None]
    if len(top) > TASKS_MAX:
        top = [task for task in top if task["result"] != "SUCCESS"] or top[:ITERATIONS_MAX]
    if len(top) > TASKS_MAX:
        top = sorted(top, key=lambda task: task["result"] not in {"FAILED", "TIMEDOUT"})[:TASKS_MAX]
    shown = []
    for task in top:
        shown.append(task)
        mine = (t for t in tasks if t["parent"] == task["task_key"] and t["result"] in {"FAILED", "TIMEDOUT"})
        shown += [t for t, _ in zip(mine, range(ITERATIONS_MAX), strict=False)]
    return shown


def _errors(tasks: Sequence[Answer], out: Console) -> None:
    """Each error once: all that a cancel has reached say the same."""
    keys: dict[str, list[str]] = {}
    for task in tasks:
        if task["error"]:
            keys.setdefault(task["error"], []).append(task["task_key"])
    for error, same in keys.items():
        more = f" and {len(same) - ITERATIONS_MAX:,} more" if len(same) > ITERATIONS_MAX else ""
        out.print(f"[red]{escape(', '.join(same[:ITERATIONS_MAX]))}[/]{more}: {escape(error)}")


def _attempts(tasks: Sequence[Answer], *, every: bool) -> Table:
    table = printing.table("task", "attempt>", "result", "rows in>", "rows out>", "rejected>", "duration>", "how")
    for task in tasks:
        lines = list(_lines(task))
        left = 0 if every else len(lines) - 2 * ATTEMPTS_MAX
        if left > 1:
            lines[ATTEMPTS_MAX:-ATTEMPTS_MAX] = [("", "…", f"{left:,} more", "", "", "", "", "")]
        for cells in lines:
            table.add_row(*cells)
    return table


def _lines(task: Answer) -> Iterator[tuple[str | Text, ...]]:
    name = f"  {task['task_key']}" if task["parent"] else task["task_key"]
    word = printing.word(task["result"] or task["state"])
    if not task["attempts"]:
        yield name, "", word, "", "", "", "", _how(task, None)
    for number, attempt in enumerate(task["attempts"]):
        last = number == len(task["attempts"]) - 1
        yield (
            name if number == 0 else "",
            str(attempt["attempt"]),
            word if last else printing.word(attempt["outcome"]),
            printing.number(attempt["rows_in"]),
            printing.number(attempt["rows_out"]),
            printing.number(attempt["rows_rejected"]),
            printing.took(attempt["worked_ms"] or attempt["duration_ms"]),
            _how(task, attempt if last else None) if last else (attempt["how"] or ""),
        )


def _how(task: Answer, attempt: Answer | None) -> Text:
    """What it did, as far as one line holds it: iterations, what it left for others, what lets it run."""
    output = task["output"] or {}
    told = [attempt["how"]] if attempt and attempt["how"] else []
    if task["iterations"]:
        counts = task["iterations"]
        told += [printing.counted(counts["total"], "iteration")] + [
            f"{counts[key]:,} {key}" for key in ("succeeded", "failed", "active") if counts[key]
        ]
    if task["parent"]:
        told.append(f"input {_short(task['input'])}")
    told += [f"is {output['condition']}"] if output.get("condition") else []
    told += (
        [", ".join(f"{k}={_short(v)}" for k, v in list(output["values"].items())[:5])] if output.get("values") else []
    )
    told += ["more rows than are kept"] if output.get("rows_cut") else []
    told += [f"retry at {printing.at_s(task['retry_at'])}"] if task["retry_at"] else []
    told += [task["run_if"]] if task["run_if"] != "ALL_SUCCESS" and not task["attempts"] else []
    return Text(", ".join(told))


def _given(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={_short(value, VALUE_CHARS_MAX)}" for name, value in parameters.items())


def _short(value: Any, chars_max: int = 40) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _repair(repair: Answer, out: Console) -> None:
    tasks = ", ".join(repair["tasks"][:ITERATIONS_MAX]) + (", ..." if len(repair["tasks"]) > ITERATIONS_MAX else "")
    given = f" with {_given(repair['parameters'])}" if repair["parameters"] else ""
    out.print(
        Text(f"  repair {repair['repair']} at {printing.at_s(repair['requested_at'])}: {tasks}{given}: ")
        + printing.word(repair["result"] or "under way")
    )


def _rows(counts: Answer, out: Console) -> None:
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


def timings(steps: Sequence[Answer], out: Console) -> None:
    """How long each step took, in milliseconds since the first file was seen; of many tasks the last one only."""
    if len(steps) > STEPS_MAX:
        steps = [step for step in steps if step["step"] in {"landed", "complete", "run started", "committed"}]
    told = [f"{step['step']} {step['since_landed_ms']:,.1f}" for step in steps]
    if len(told) > 1:
        since = "the first file was seen" if steps[0]["step"] == "landed" else "the run started"
        out.print(Text.assemble(f"  {' → '.join(told)} ", (f"(ms since {since})", "dim")))
