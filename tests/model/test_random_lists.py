"""Random lists of what producers do to files, against a small model of a folder.

Each list has a folder of its own. Many are played at once on one daemon, which is killed, stopped and started
meanwhile; when it rests, its tables and books must be what the model allows. A list that fails is played again alone
and cut down: the message ends with the shortest list that still fails. `RANDOM_LISTS_SEED=n` plays other lists.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from model.drawing import Event, Step, draw_group
from model.stage import BrokenLawsError, Stage

LISTS = 42
"""In a group."""
LENGTH = 12
"""Actions in a list, about."""
GROUPS, GROUPS_LONG = 8, 72
SEED = int(os.environ.get("RANDOM_LISTS_SEED", "1"))
PAUSE_S_MAX = 0.5
SHRINK_S = 90.0
TRIES = 3


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "group",
    [
        pytest.param(number, marks=[pytest.mark.long] if number >= GROUPS else [])
        for number in range(GROUPS + GROUPS_LONG)
    ],
)
def test_after_any_list_of_actions_tables_and_books_are_what_the_model_allows(tmp_path: Path, group: int) -> None:
    seed = SEED * 1_000 + group
    steps = draw_group(seed, lists=LISTS, length=LENGTH, grows=group % 4 == 1)
    events_only = group % 4 == 2
    stage = Stage(tmp_path / "all", range(1, LISTS + 1), events_only=events_only)
    try:
        stage.play(steps)
    except BrokenLawsError as error:
        told = "\n\n".join(
            _of_one_list(tmp_path / str(n), n, whats, _at_its_pace(stage, n), events_only=events_only)
            for n, whats in sorted(error.by_list.items())[:3]
        )
        pytest.fail(f"seed {seed}, {len(error.by_list)} lists:\n{told}")


def _at_its_pace(stage: Stage, list_no: int) -> list[Step]:
    """The steps of one list, with the pauses that the others have made between them."""
    mine = [played for played in stage.played if played[0].list_no in {0, list_no}]
    begins_s = [begin_s for _, begin_s, _ in mine[1:]] + [0.0]
    paced = [
        replace(step, pause_s=min(max(begin_s - end_s, 0.0), PAUSE_S_MAX))
        for (step, _, end_s), begin_s in zip(mine, begins_s, strict=True)
    ]
    return [*paced, Step(0, Event.REST)]  # the rest at which it failed has not been played to its end


def _of_one_list(base: Path, list_no: int, whats: list[str], steps: list[Step], *, events_only: bool) -> str:
    """What is wrong with a list, and the shortest form of it that fails alone."""
    head = f"list {list_no}:\n  " + "\n  ".join(whats)
    if not list_no:
        return head
    deadline_s = time.monotonic() + SHRINK_S
    shortest = _Alone(base, list_no, deadline_s, events_only=events_only).shortest(steps)
    if shortest is None:
        return f"{head}\nit does not fail alone; its steps:\n  " + "\n  ".join(map(str, steps))
    wrong, left = shortest
    return f"{head}\nshortest list that fails:\n  " + "\n  ".join([*map(str, left), *wrong])


class _Alone:
    """One list on a daemon of its own, again and again with something left out."""

    def __init__(self, base: Path, list_no: int, deadline_s: float, *, events_only: bool) -> None:
        self._base = base
        self._list_no = list_no
        self._deadline_s = deadline_s
        self._events_only = events_only
        self._played = 0

    def shortest(self, steps: list[Step]) -> tuple[list[str], list[Step]] | None:
        """What is wrong, and the steps that are needed for it; None: nothing is wrong when it is played alone."""
        wrong = self._wrong(steps)
        if not wrong:
            return None
        position = len(steps) - 1
        while position > 0 and time.monotonic() < self._deadline_s:
            position -= 1
            fewer = [*steps[:position], *steps[position + 1 :]]
            if _is_playable(fewer) and (still := self._wrong(fewer)):
                steps, wrong = fewer, still
        return wrong, steps

    def _wrong(self, steps: list[Step]) -> list[str]:
        for _ in range(TRIES):
            self._played += 1
            stage = Stage(self._base / str(self._played), [self._list_no], events_only=self._events_only)
            try:
                stage.play(steps)
            except BrokenLawsError as error:
                return [what for whats in error.by_list.values() for what in whats]
        return []


def _is_playable(steps: list[Step]) -> bool:
    """Whether whoever is killed is started again, and whoever is stopped goes on."""
    state = "up"
    after = {
        ("up", Event.KILL): "down",
        ("up", Event.FREEZE): "frozen",
        ("up", Event.REST): "up",
        ("down", Event.STUMBLE): "down",
        ("down", Event.START): "up",
        ("frozen", Event.THAW): "up",
    }
    for step in steps:
        if isinstance(step.what, Event):
            state = after.get((state, step.what), "")
    return state == "up"
