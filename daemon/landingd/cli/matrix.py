"""The tasks of a job by its runs, a mark for each: what fails, and since when."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from landingd.cli import printing

NAME_MAX = 30
_BARS = "▁▂▃▄▅▆▇█"

MARKS: Mapping[str, tuple[str, str, str]] = {
    "SUCCESS": ("■", "green", "success"),
    "SUCCESS_WITH_FAILURES": ("▣", "yellow", "success with failures"),
    "FAILED": ("✗", "bold red", "failed"),
    "TIMEDOUT": ("T", "bold red", "timed out"),
    "CANCELED": ("C", "yellow", "canceled"),
    "UPSTREAM_FAILED": ("u", "yellow", "upstream failed"),
    "UPSTREAM_CANCELED": ("c", "yellow", "upstream canceled"),
    "EXCLUDED": ("-", "dim", "left out"),
    "DISABLED": ("d", "dim", "disabled"),
    "RUNNING": ("▶", "cyan", "running"),
    "WAITING_FOR_RETRY": ("↻", "yellow", "waits for its retry"),
    "PENDING": ("·", "cyan", "not begun"),
    "QUEUED": ("·", "cyan", "queued"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("s", "yellow", "skipped: no room"),
    "MAX_JOB_QUEUE_SIZE_EXCEEDED": ("s", "yellow", "skipped: queue full"),
}
"""By result, or by state where there is none yet: its mark, its style, and its name in the legend."""


def chart(answer: Mapping[str, Any], *, width: int) -> list[Text]:
    """The lines of the matrix, newest run at the right; older runs that do not fit are counted."""
    columns: Sequence[Mapping[str, Any]] = answer["columns"]
    names = 2 + min(NAME_MAX, max(len(name) for name in ("duration", *(task["task_key"] for task in answer["tasks"]))))
    labels = [f"↻{c['repair']}" if c["repair"] else str(c["run_id"]) for c in columns]
    room = width - names
    cell = max(map(len, labels), default=1) + 1
    stacked = cell * len(columns) > room
    if stacked:
        cell = 2
    fitting = max(1, room // cell)
    first = max(0, len(columns) - fitting)
    lines = [_bars(columns[first:], names, cell)]
    lines += _labels(labels[first:], names, cell, stacked=stacked)
    lines.append(_cells("", [_word(column) for column in columns[first:]], names, cell))
    lines += [_task(task, first, names, cell) for task in answer["tasks"]]
    lines += _legend(answer, first, width)
    return lines


def _bars(columns: Sequence[Mapping[str, Any]], names: int, cell: int) -> Text:
    """How long each run took, against the longest."""
    longest = max((column["duration_ms"] or 0.0 for column in columns), default=0.0)
    line = Text().append("duration".ljust(names), style="dim")
    for column in columns:
        took = column["duration_ms"]
        bar = " " if took is None else _BARS[min(7, int(8 * took / longest))] if longest else _BARS[0]
        line.append(bar.rjust(cell - 1) + " ", style=_mark(_word(column))[1])
    return line


def _labels(labels: Sequence[str], names: int, cell: int, *, stacked: bool) -> list[Text]:
    if not stacked:
        text = "".join(label.rjust(cell - 1) + " " for label in labels)
        return [Text("run".ljust(names) + text, style="bold")]
    height = max(map(len, labels))
    rows = ["".join(label.rjust(height)[at].rjust(cell - 1) + " " for label in labels) for at in range(height)]
    return [Text(("run" if at == height - 1 else "").ljust(names) + row, style="bold") for at, row in enumerate(rows)]


def _task(task: Mapping[str, Any], first: int, names: int, cell: int) -> Text:
    key = task["task_key"]
    name = key if len(key) <= names - 2 else f"{key[: names - 3]}…"
    words = [None if one is None else one["result"] or one["state"] for one in task["cells"][first:]]
    return _cells(name, words, names, cell)


def _cells(name: str, words: Sequence[str | None], names: int, cell: int) -> Text:
    line = Text().append((name or "result").ljust(names), style="" if name else "dim")
    for word in words:
        mark, style, _ = _mark(word) if word else (" ", "", "")
        line.append(mark.rjust(cell - 1) + " ", style=style)
    return line


def _legend(answer: Mapping[str, Any], first: int, width: int) -> list[Text]:
    words = [_word(column) for column in answer["columns"][first:]]
    cells = [cell for task in answer["tasks"] for cell in task["cells"][first:] if cell is not None]
    seen = dict.fromkeys([*words, *(cell["result"] or cell["state"] for cell in cells)])
    told = {(_mark(word)[0], _mark(word)[2]): _mark(word)[1] for word in MARKS if word in seen}
    entries = [(mark, style, name) for (mark, name), style in told.items()]
    if any(column["repair"] for column in answer["columns"][first:]):
        entries.append(("↻1", "bold", "repair of the run before it"))
    lines = printing.legend(entries, width)
    if first:
        older = printing.counted(first, "older column")
        lines += printing.legend([("…", "dim", f"{older}: no room"), ("--json", "dim", "has all")], width)
    return lines


def _word(column: Mapping[str, Any]) -> str:
    return str(column["result"] or column["state"])


def _mark(word: str) -> tuple[str, str, str]:
    return MARKS.get(word, ("?", "", word))
