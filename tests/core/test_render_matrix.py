"""Tasks by runs: every mark explained, every line on the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from landingd.cli import matrix
from landingd.model import Result, RunState, TaskState


def answer(count, tasks, *, first=1, word="SUCCESS"):
    columns = [
        {"run_id": first + n, "repair": 0, "state": "TERMINATED", "result": word, "duration_ms": 100.0 * (n + 1)}
        for n in range(count)
    ]
    cells = {key: [{"state": "TERMINATED", "result": word, "attempts": 1}] * count for key in tasks}
    return {"job": "shop", "columns": columns, "tasks": [{"task_key": k, "cells": c} for k, c in cells.items()]}


def plain(*arguments, **more):
    return [line.plain for line in matrix.chart(*arguments, **more)]


def test_a_run_is_named_above_its_marks():
    lines = plain(answer(3, ["bronze", "gold"], first=98), width=80)
    (names,) = [line for line in lines if line.startswith("run")]
    bronze = next(line for line in lines if line.startswith("bronze"))
    assert names.split() == ["run", "98", "99", "100"]
    assert [at for at, c in enumerate(bronze) if c == "■"] == [
        names.index("98") + 1,
        names.index("99") + 1,
        names.index("100") + 2,
    ]


def test_where_names_do_not_fit_side_by_side_they_stand_upright():
    lines = plain(answer(30, ["bronze"], first=100), width=80)
    assert sum(line.startswith("run") for line in lines) == 1
    digits = lines[1:4]
    assert ["".join(line[at] for line in digits) for at in (10, 12)] == ["100", "101"]


def test_older_runs_that_do_not_fit_are_counted():
    lines = plain(answer(100, ["bronze"]), width=50)
    assert lines[-1] == "… 80 older columns: no room   --json has all"
    assert next(line for line in lines if line.startswith("bronze")).count("■") == 20


def test_a_task_that_had_no_part_in_a_run_has_no_mark():
    told = answer(2, ["bronze"])
    told["tasks"][0]["cells"] = [None, {"state": "RUNNING", "result": None, "attempts": 1}]
    bronze = next(line for line in plain(told, width=60) if line.startswith("bronze"))
    assert bronze.split() == ["bronze", "▶"]


def test_a_repair_is_a_column_of_its_own():
    told = answer(2, ["bronze"])
    told["columns"][1] |= {"run_id": 1, "repair": 1}
    lines = plain(told, width=60)
    assert next(line for line in lines if line.startswith("run")).split() == ["run", "1", "↻1"]
    assert any("repair of the run before it" in line for line in lines)


def test_every_word_that_a_run_or_a_task_can_come_to_has_a_mark():
    words = [*Result, *TaskState, *RunState]
    assert {word.value for word in words} - {"TERMINATED", "TERMINATING", "SKIPPED"} - set(matrix.MARKS) == set()


def test_results_are_told_apart_without_colours_too():
    skipped = {"MAXIMUM_CONCURRENT_RUNS_REACHED", "MAX_JOB_QUEUE_SIZE_EXCEEDED"}
    marks = [matrix.MARKS[word.value][0] for word in Result if word.value not in skipped]
    assert len(set(marks)) == len(marks)


@given(
    st.integers(1, 60),
    st.lists(st.text("abcdefghij_", min_size=1, max_size=60), min_size=1, max_size=5, unique=True),
    st.integers(50, 200),
    st.integers(1, 10**9),
)
def test_no_line_is_longer_than_the_terminal(count, tasks, width, first):
    assert all(len(line.rstrip()) <= width for line in plain(answer(count, tasks, first=first), width=width))
