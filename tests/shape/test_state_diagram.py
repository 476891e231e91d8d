"""The diagram in daemon/README.md is drawn from the tables that the code goes by.

`python tests/shape/test_state_diagram.py` prints it, to be put between the `<!-- states -->` markers.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from landingd.core.lifecycle import RUN_TRANSITIONS, TASK_TRANSITIONS
from landingd.model import RunState, TaskState

README = Path(__file__).parents[2] / "daemon" / "README.md"
MARKER, END = "<!-- states -->", "<!-- /states -->"


def drawn(title: str, first: StrEnum, moves: Mapping[tuple[StrEnum, str], StrEnum]) -> str:
    """One diagram, its moves in the order of the table."""
    lines = ["```mermaid", "stateDiagram-v2", f"    %% {title}", f"    [*] --> {first.value}"]
    lines += [f"    {before.value} --> {after.value}: {event}" for (before, event), after in moves.items()]
    return "\n".join([*lines, "```"])


def section() -> str:
    """What has to stand in the README."""
    run = drawn("a run", RunState.QUEUED, RUN_TRANSITIONS)
    task = drawn("a task of a run", TaskState.PENDING, TASK_TRANSITIONS)
    return f"{MARKER}\n\nA run:\n\n{run}\n\nA task of a run:\n\n{task}\n\n{END}\n"


def test_the_diagram_in_the_readme_is_the_one_that_the_tables_give():
    assert section() in README.read_text(), "run `python tests/shape/test_state_diagram.py` and put in what it prints"


def test_every_state_is_in_the_diagram():
    assert all(state.value in section() for state in (*RunState, *TaskState))


def test_every_move_is_in_the_diagram():
    moves = [*RUN_TRANSITIONS.items(), *TASK_TRANSITIONS.items()]
    assert all(f"{before.value} --> {after.value}: {event}" in section() for (before, event), after in moves)


if __name__ == "__main__":
    print(section(), end="")  # noqa: T201 -- what it is for
