"""The bars of a run: where they stand, how long they are, and what fits on a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.cli import gantt
from landingd.cli.gantt import Axis, Piece
from landingd.model import utc

NOW_S = 100_000.0


def attempt(began, ended, outcome="committed", repair=0):
    return {"started_at": utc(began), "ended_at": utc(ended), "outcome": outcome, "repair": repair}


def task(key, *attempts, after=(), state="TERMINATED", parent=None, iterations=0):
    return {
        "task_key": key,
        "depends_on": list(after),
        "state": state,
        "parent": parent,
        "iterations": {"total": iterations} if iterations else None,
        "attempts": list(attempts),
    }


def bars(*tasks, width=100):
    """The text between a task's name and its time, by name."""
    lines = [line.plain for line in gantt.chart({"tasks": list(tasks)}, width=width, now_s=NOW_S)]
    return {line[2:].split()[0]: line for line in lines[1:] if line[2:].split()}


def test_bars_follow_one_another_and_are_as_long_as_what_they_stand_for():
    found = bars(task("a", attempt(0, 10)), task("b", attempt(10, 40), after=["a"]), width=100)
    assert 2.5 < found["b"].count("█") / found["a"].count("█") < 3.5
    assert found["a"].rindex("█") < found["b"].index("█")


def test_what_the_run_hangs_on_is_marked():
    found = bars(task("a", attempt(0, 10)), task("idle", attempt(0, 1)), task("b", attempt(10, 40), after=["a"]))
    assert [name for name, line in found.items() if line.startswith("◆ ") and "hangs" not in line] == ["a", "b"]


def test_a_wait_for_a_retry_is_dots_and_a_failure_is_red():
    lines = gantt.chart(
        {"tasks": [task("a", attempt(0, 10, "failed"), attempt(30, 40)), task("b", attempt(40, 50))]},
        width=80,
        now_s=NOW_S,
    )
    (line,) = [line for line in lines if line.plain.startswith(("◆ a", "  a"))]
    assert "·" in line.plain
    assert any(span.style == "red" for span in line.spans)
    assert "waits for its retry" in lines[-1].plain


def test_the_night_before_a_repair_is_cut_out():
    found = bars(task("a", attempt(0, 10)), task("b", attempt(10, 20, "failed"), attempt(50_000, 50_020, repair=1)))
    assert found["b"].count("┊") == 1
    assert found["b"].count("█") > 50


def test_a_loop_is_one_bar_darker_where_more_was_at_work():
    inner = [task(f"each[{n}]", attempt(n, 10), parent="each") for n in range(8)]
    found = bars(task("each", attempt(0, 10, "expanded"), iterations=8), *inner, width=60)
    assert list(found) == ["each", "iterations"] or "each" in found
    shades = [character for character in found["each"] if character in "░▒▓█"]
    assert shades == sorted(shades, key="░▒▓█".index)
    assert (shades[0], shades[-1]) == ("░", "█")


def test_an_attempt_that_goes_on_reaches_to_now():
    found = bars(
        task("a", attempt(NOW_S - 20, NOW_S - 10)), task("b", attempt(NOW_S - 10, None, None), state="RUNNING")
    )
    assert "10.0 s" in found["b"]


def test_one_bar_alone_says_nothing():
    assert gantt.chart({"tasks": [task("a", attempt(0, 1)), task("b")]}, width=80, now_s=NOW_S) == []


def test_of_a_thousand_tasks_those_that_matter_are_shown():
    tasks = [task(f"t{n}", attempt(0, 1 + n % 7)) for n in range(1000)]
    tasks += [task("broken", attempt(0, 0.1, "failed")), task("last", attempt(7, 8), after=["t6"])]
    lines = [line.plain for line in gantt.chart({"tasks": tasks}, width=100, now_s=NOW_S)]
    assert len(lines) <= gantt.ROWS_MAX + 3
    assert any("broken" in line for line in lines)
    assert any(line.startswith("◆ t6") for line in lines)
    assert "962 tasks that were shorter" in lines[-2]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5)), min_size=2, max_size=30), st.integers(40, 200))
def test_every_line_fits_the_terminal_whatever_ran(spans, width):
    tasks = [task(f"task_{n}" * (1 + n % 9), attempt(begin, begin + took)) for n, (begin, took) in enumerate(spans)]
    lines = gantt.chart({"tasks": tasks}, width=width, now_s=2e6)
    assert all(len(line) <= max(width, 60) for line in lines[: len(spans) + 1])
    bodies = lines[1 : len(spans) + 1]
    assert all(set(line.plain) & set("█▌") for line in bodies), "what ran has a bar, however short it was"


@pytest.mark.parametrize("repairs", [0, 1, 5, 30])
def test_the_stretches_of_an_axis_do_not_overlap(repairs):
    stretches = [(1000.0 * n, 1000.0 * n + 1 + n) for n in range(repairs + 1)]
    axis = Axis(stretches, 80)
    cells = [axis.cells(Piece(begin, end, "committed")) for begin, end in stretches]
    for (_, past, _), (first, _, _), cut in zip(cells, cells[1:], axis.cuts(), strict=False):
        assert past <= cut < first
    assert cells[-1][1] <= 80
