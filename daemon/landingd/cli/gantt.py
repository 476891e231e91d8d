"""When each task of a run was at work, as bars on a line of time.

The time between the end of a run and its repair is cut out, or a run that was repaired in the morning would be all
night and no bars. A loop is one bar, darker where more of its iterations were at work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from landingd.cli import printing
from landingd.core.critical import Span, critical

ROWS_MAX = 40
NAME_MAX = 30
TOOK_CHARS = 12
_SHADES = "░▒▓█"
_STYLES = {"committed": "green", "expanded": "green", None: "cyan", "interrupted": "yellow", "canceled": "yellow"}
"""By how an attempt ended; every other end is red."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An attempt, or a wait for the next one (`outcome` "waiting"), in Unix seconds."""

    began_s: float
    ended_s: float
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One task: its attempts and waits; of a loop also those of its iterations."""

    name: str
    label: str
    pieces: tuple[Piece, ...]
    inner: tuple[Piece, ...] = ()
    depends_on: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Piece, ...]:
        return self.pieces + self.inner

    @property
    def began_s(self) -> float:
        return min(piece.began_s for piece in self.all)

    @property
    def ended_s(self) -> float:
        return max(piece.ended_s for piece in self.all)

    @property
    def worked_s(self) -> float:
        return sum(p.ended_s - p.began_s for p in self.pieces or self.inner if p.outcome != "waiting")

    @property
    def failed(self) -> bool:
        return any(_style(piece.outcome) == "red" for piece in self.all)


class Axis:
    """From time to columns: the stretches in which the run was at work stand side by side, a column between them."""

    def __init__(self, stretches: Sequence[tuple[float, float]], width: int) -> None:
        self.width = width
        self.total_s = sum(end_s - began_s for began_s, end_s in stretches)
        self._stretches: list[tuple[float, float, int, int]] = []
        room, first, left_s = width - len(stretches) + 1, 0, self.total_s
        for number, (began_s, end_s) in enumerate(stretches):
            others = len(stretches) - number - 1
            share = (end_s - began_s) / left_s if left_s > 0 else 1.0
            columns = max(1, min(room - others, round(room * share)))
            self._stretches.append((began_s, end_s, first, columns))
            room, first, left_s = room - columns, first + columns + 1, left_s - (end_s - began_s)

    def cells(self, piece: Piece) -> tuple[int, int, bool]:
        """The cells of a piece, at least one: the first, the one past the last, and whether it is less than half of
        one cell.
        """
        within = [s for s in self._stretches if s[0] <= piece.began_s] or self._stretches
        began_s, end_s, first, columns = within[-1]
        per_s = columns / (end_s - began_s) if end_s > began_s else 0.0
        begin = (piece.began_s - began_s) * per_s
        end = min((piece.ended_s - began_s) * per_s, float(columns))
        at = min(round(begin), columns - 1)
        return first + at, first + min(max(at + 1, round(end)), columns), end - begin < 0.5

    def cuts(self) -> list[int]:
        """The columns between the stretches."""
        return [first - 1 for _, _, first, _ in self._stretches[1:]]


def chart(run: Mapping[str, Any], *, width: int, now_s: float) -> list[Text]:
    """The lines of the chart; none where there is nothing to compare."""
    rows = _rows(run["tasks"], now_s)
    if sum(len(row.all) for row in rows) < 2:
        return []
    chain = critical([Span(row.name, row.depends_on, row.began_s, row.ended_s) for row in rows])
    shown = _shown(rows, set(chain))
    names = min(NAME_MAX, max(len(row.label) for row in shown)) + 3
    axis = Axis(_stretches(run, now_s), max(10, width - names - TOOK_CHARS - 1))
    lines = [_scale(axis, names)]
    for row in shown:
        name = _cut(row.label, names - 3).ljust(names - 2)
        mark = ("◆ ", "bold magenta") if row.name in chain and len(chain) > 1 else ("  ", "")
        took = f" {printing.took(1000 * row.worked_s):>{TOOK_CHARS}}"
        lines.append(Text.assemble(mark, name, _bar(row, axis), (took, "dim")))
    left = len(rows) - len(shown)
    if left:
        lines.append(Text(f"  … and {left:,} tasks that were shorter", style="dim"))
    return lines + _legend(shown, axis, width, chained=len(chain) > 1)


def _rows(tasks: Sequence[Mapping[str, Any]], now_s: float) -> list[Row]:
    inner: dict[str, list[Piece]] = {}
    for task in tasks:
        if task["parent"]:
            inner.setdefault(task["parent"], []).extend(_pieces(task, now_s))
    rows = []
    for task in tasks:
        pieces = () if task["parent"] else tuple(_pieces(task, now_s))
        within = tuple(inner.get(task["task_key"], ()))
        if pieces or within:
            count = task["iterations"]["total"] if task["iterations"] else 0
            label = f"{task['task_key']} x{count:,}" if count else task["task_key"]
            rows.append(Row(task["task_key"], label, pieces, within, tuple(task["depends_on"])))
    return sorted(rows, key=lambda row: row.began_s)


def _pieces(task: Mapping[str, Any], now_s: float) -> list[Piece]:
    pieces: list[Piece] = []
    before: Mapping[str, Any] | None = None
    for attempt in task["attempts"]:
        began_s = _seconds(attempt["started_at"], now_s)
        if before is not None and before["repair"] == attempt["repair"] and before["ended_at"]:
            pieces.append(Piece(_seconds(before["ended_at"], began_s), began_s, "waiting"))
        ended_s = max(began_s, _seconds(attempt["ended_at"], now_s))
        pieces.append(Piece(began_s, ended_s, attempt["outcome"]))
        before = attempt
    if task["state"] == "WAITING_FOR_RETRY" and pieces:
        pieces.append(Piece(pieces[-1].ended_s, now_s, "waiting"))
    return pieces


def _stretches(run: Mapping[str, Any], now_s: float) -> list[tuple[float, float]]:
    """When the run was at work: the original execution, and each repair."""
    found: dict[int, tuple[float, float]] = {}
    for task in run["tasks"]:
        for attempt in task["attempts"]:
            began_s = _seconds(attempt["started_at"], now_s)
            ended_s = max(began_s, _seconds(attempt["ended_at"], now_s))
            least_s, most_s = found.get(attempt["repair"], (began_s, ended_s))
            found[attempt["repair"]] = (min(least_s, began_s), max(most_s, ended_s))
    if any(task["state"] == "WAITING_FOR_RETRY" for task in run["tasks"]):
        newest = max(found)
        found[newest] = (found[newest][0], now_s)
    return [found[number] for number in sorted(found)]


def _shown(rows: Sequence[Row], chain: set[str]) -> list[Row]:
    if len(rows) <= ROWS_MAX:
        return list(rows)
    first = sorted(rows, key=lambda row: (row.name not in chain, not row.failed, -row.worked_s))[:ROWS_MAX]
    names = {row.name for row in first}
    return [row for row in rows if row.name in names]


def _scale(axis: Axis, names: int) -> Text:
    total = printing.took(1000 * axis.total_s)
    line = ["─"] * axis.width
    for cut in axis.cuts():
        line[cut] = "┊"
    return Text(" " * names + "".join(line) + f" {total:>{TOOK_CHARS}}", style="dim")


def _bar(row: Row, axis: Axis) -> Text:
    cells: list[tuple[str, str]] = [(" ", "")] * axis.width
    for cut in axis.cuts():
        cells[cut] = ("┊", "dim")
    if row.inner:
        _shade(cells, row.inner, axis)
    else:
        for piece in row.pieces:
            _draw(cells, piece, axis)
    text = Text()
    for character, style in cells:
        text.append(character, style=style)
    return text


def _draw(cells: list[tuple[str, str]], piece: Piece, axis: Axis) -> None:
    first, past, short = axis.cells(piece)
    for at in range(first, past):
        if piece.outcome == "waiting":
            if cells[at][0] == " ":
                cells[at] = ("·", "yellow")
        elif cells[at][1] != "red":  # a failure is not painted over by what came right after it
            cells[at] = ("▌" if short else "█", _style(piece.outcome))


def _shade(cells: list[tuple[str, str]], pieces: Sequence[Piece], axis: Axis) -> None:
    """How many were at work in each cell, as shades; red where one of them failed."""
    counts = [0] * axis.width
    failed = [False] * axis.width
    for piece in pieces:
        if piece.outcome == "waiting":
            continue
        first, past, _ = axis.cells(piece)
        for at in range(first, past):
            counts[at] += 1
        failed[past - 1] |= _style(piece.outcome) == "red"
    most = max(counts)
    for at, count in enumerate(counts):
        if count:
            cells[at] = (_SHADES[(4 * count - 1) // most], "red" if failed[at] else "green")


def _legend(rows: Sequence[Row], axis: Axis, width: int, *, chained: bool) -> list[Text]:
    pieces = [piece for row in rows for piece in row.all]
    told = (
        (chained, "◆", "bold magenta", "the run's length hangs on these"),
        (any(row.failed for row in rows), "█", "red", "failed"),
        (any(piece.outcome == "waiting" for piece in pieces), "·", "yellow", "waits for its retry"),
        (any(row.inner for row in rows), _SHADES, "green", "iterations at work"),
        (bool(axis.cuts()), "┊", "dim", "until the repair"),
    )
    return printing.legend([(mark, style, what) for is_so, mark, style, what in told if is_so], width)


def _style(outcome: str | None) -> str:
    return _STYLES.get(outcome, "red") if outcome != "waiting" else "yellow"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _seconds(at: str | None, now_s: float) -> float:
    """A time in Unix seconds; what has none is now."""
    return now_s if at is None else datetime.fromisoformat(at).timestamp()
