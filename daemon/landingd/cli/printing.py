"""How things look on a terminal: tables, numbers, times, and colours that mean something."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

Answer = Mapping[str, Any]

FOLDED_CHARS = 20
"""The width down to which a column of text may be folded."""

COLOURS = {
    "SUCCESS": "green",
    "loaded": "green",
    "online": "green",
    "FAILED": "red",
    "TIMEDOUT": "red",
    "quarantined": "red",
    "offline": "red",
    "unavailable": "red",
    "poll": "yellow",
    "UPSTREAM_FAILED": "yellow",
    "UPSTREAM_CANCELED": "yellow",
    "CANCELED": "yellow",
    "SUCCESS_WITH_FAILURES": "yellow",
    "SKIPPED": "yellow",
    "TERMINATING": "yellow",
    "MAXIMUM_CONCURRENT_RUNS_REACHED": "yellow",
    "MAX_JOB_QUEUE_SIZE_EXCEEDED": "yellow",
    "EXCLUDED": "dim",
    "DISABLED": "dim",
    "TRIGGERED": "green",
    "NOT_TRIGGERED": "dim",
    "paused": "yellow",
    "active": "green",
    "WAITING_FOR_RETRY": "yellow",
    "RUNNING": "cyan",
    "QUEUED": "cyan",
    "waiting": "cyan",
    "duplicate": "dim",
    "replaced": "dim",
    "retracted": "dim",
    "ignored": "dim",
}


def as_json(answer: Any) -> None:
    """The answer itself, on standard output."""
    json.dump(answer, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def console() -> Console:
    """Wide where nobody looks: a pipe gets whole lines."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A name that ends with `>` is that of a column of numbers. Times are not broken."""
    grid = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        side: JustifyMethod = "right" if column.endswith(">") else "left"
        grid.add_column(column.removesuffix(">"), justify=side, overflow="fold", no_wrap="(UTC)" in column)
    return grid


def fitted(grid: Table, width: int, *less: str) -> Table:
    """Without columns for which a narrow terminal has no room: first those that hold nothing, then `less`, in order.

    The last column is text, which may be folded. A number or a name that is cut into pieces says nothing.
    """
    empty = [str(column.header) for column in grid.columns[:-1] if not any(map(str, column.cells))]
    for name in (*empty, *less):
        if _needed(grid) <= width:
            break
        grid.columns = [column for column in grid.columns if column.header != name]
    for at, column in enumerate(grid.columns):
        column._index = at  # noqa: SLF001 -- rich measures a column by it, and has no way to take one away
        column.no_wrap = column.no_wrap or column is not grid.columns[-1]
    return grid


def _needed(grid: Table) -> int:
    """The columns that the table needs; its last one can do with a few."""
    widths = [max(cell_len(str(cell)) for cell in (column.header, *column.cells)) for column in grid.columns]
    return sum(widths[:-1]) + min(widths[-1], FOLDED_CHARS) + 2 * (len(widths) - 1)


def word(word: str | None) -> Text:
    return Text(word or "", style=COLOURS.get(word or "", ""))


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def took(value: float | None) -> str:
    """Milliseconds in the two units that matter."""
    if value is None:
        return ""
    if value < 10_000:
        return ms(value) if value < 1000 else f"{value / 1000:.2f} s"
    seconds = round(value / 1000)
    if seconds < 120:
        return f"{value / 1000:.1f} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 120:
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def at(value: str | None) -> str:
    return (value or "").replace("T", " ").replace("Z", "")


def at_s(value: str | None) -> str:
    """The same, to the second."""
    return at(value)[:19]


def since(value: str | None) -> str:
    """How long ago that was."""
    if value is None:
        return ""
    ago_s = max(0.0, time.time() - datetime.fromisoformat(value).timestamp())
    for unit, seconds in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if ago_s >= 2 * seconds:
            return f"{ago_s / seconds:,.0f} {unit}"
    return f"{ago_s:,.0f} s"


def counted(count: int, one: str, many: str = "") -> str:
    """So many of what is called this; `many` where that is not the same with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def files(count: int) -> str:
    """So many files."""
    return counted(count, "file")


def legend(entries: Sequence[tuple[str, str, str]], width: int) -> list[Text]:
    """What marks mean, `(mark, style, meaning)`, in as many lines as they need."""
    lines: list[Text] = []
    for mark, style, meaning in entries:
        entry = Text.assemble((mark, style), (f" {meaning}", "dim"))
        if not lines or len(lines[-1]) + len(entry) + 3 > width:
            lines.append(entry)
        else:
            lines[-1].append("   ").append_text(entry)
    return lines
