"""How things look on a terminal: tables, numbers, times, and colours that mean something."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

Answer = Mapping[str, Any]

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


def files(count: int) -> str:
    """So many files."""
    return f"{count:,} file{'' if count == 1 else 's'}"


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
