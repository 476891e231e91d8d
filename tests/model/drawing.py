"""Draw lists of actions from a seed, and mix many of them with what happens to the daemon meanwhile.

A seed gives the same steps for ever; what the daemon makes of them depends on the moment too.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from model import actions
from model.actions import Action
from model.contents import EMPTY, Content, Contents
from model.world import TEMPORARY_SUFFIX, DoesNotApplyError, World

NAMES = ("a.csv", "b.csv", "c.csv", "d.csv.gz")
FOLDER = "sub"
NAMES_IN_FOLDER = ("e.csv", "f.csv")
PAUSE_S_MAX = 0.06


class Event(StrEnum):
    """What happens to the daemon, and to all lists at once."""

    KILL = "kill -9"
    STUMBLE = "start, kill -9 on the way"
    START = "start"
    FREEZE = "SIGSTOP"
    THAW = "SIGCONT"
    REST = "wait until it rests, and compare"


@dataclass(frozen=True)
class Step:
    """One thing that happens. `list_no` 0: to the daemon."""

    list_no: int
    what: Action | Event
    pause_s: float = 0.0
    """Before the next step."""

    def __str__(self) -> str:
        return f"{f'list {self.list_no}: ' if self.list_no else ''}{self.what}"


class ListDrawer:
    """Draws the actions of one list, each fit for the world that those before it have made."""

    def __init__(self, rng: random.Random, list_no: int, *, grows: bool) -> None:
        self._rng = rng
        self._contents = Contents(rng, list_no)
        self._world = World()
        self._writers = 0
        self._draws: list[Callable[[], Action]] = [
            *[self._create] * 6,
            *[self._move_in] * 4,
            *[self._redeliver] * 2,
            *[self._rename_in] * 2,
            *[self._delete] * 3,
            *[self._delete_and_create] * 3,
            *[self._overwrite] * 4,
            *[self._overwrite_secretly] * 3,
            self._truncate,
            *[self._open] * 3,
            *[self._go_on] * 6,
            *[self._rename] * 4,
            *[self._swap] * 2,
            *[self._link] * 2,
            *[self._out_or_back] * 4,
            *[self._move_folder] * 2,
            *[self._touch_or_chmod] * 2,
            self._symlink,
            *([self._append, self._append, self._open_and_append] * 2 if grows else []),
        ]

    def next(self) -> Action:
        """The next action; the world follows it."""
        while True:
            try:
                action = self._rng.choice(self._draws)()
                action.suppose(self._world)
            except (DoesNotApplyError, IndexError):
                continue
            return action

    def end(self) -> Iterator[Action]:
        """Nobody writes any more."""
        return (actions.Close("", writer) for writer in self._world.unfinished)

    # -- names --

    def _any_name(self) -> str:
        inside = [f"{FOLDER}/{name}" for name in NAMES_IN_FOLDER] if FOLDER in self._world.folders else []
        return self._rng.choice([*NAMES, *inside])

    def _taken_name(self) -> str:
        return self._rng.choice(list(self._world.data()))

    def _closed_name(self) -> str:
        return self._rng.choice(self._world.closed())

    def _content_of(self, name: str) -> Content:
        return self._world.names[name].content

    # -- actions --

    def _create(self) -> Action:
        return actions.Create(self._any_name(), self._contents.new())

    def _move_in(self) -> Action:
        return actions.MoveIn(self._any_name(), self._contents.new())

    def _redeliver(self) -> Action:
        """Bytes that stand somewhere in the folder, again: under their name or another."""
        return actions.MoveIn(self._any_name(), self._content_of(self._closed_name()))

    def _rename_in(self) -> Action:
        waiting = [name for name in self._world.names if name.endswith(TEMPORARY_SUFFIX)]
        if waiting:
            return actions.RenameTemporary(waiting[0].removesuffix(TEMPORARY_SUFFIX))
        return actions.WriteTemporary(self._any_name(), self._contents.new())

    def _delete(self) -> Action:
        return actions.Delete(self._taken_name())

    def _delete_and_create(self) -> Action:
        name = self._closed_name()
        same_size = self._rng.random() < 0.5
        return actions.DeleteAndCreate(name, self._same_size(name) if same_size else self._contents.new())

    def _overwrite(self) -> Action:
        return actions.Overwrite(self._closed_name(), self._contents.new())

    def _overwrite_secretly(self) -> Action:
        name = self._closed_name()
        return actions.OverwriteSecretly(name, self._same_size(name))

    def _same_size(self, name: str) -> Content:
        old = self._content_of(name)
        if old.is_packed or old.rejected or not old.rows:
            raise DoesNotApplyError(name)
        return self._contents.of_the_same_size(old)

    def _truncate(self) -> Action:
        return actions.Truncate(self._closed_name())

    def _append(self) -> Action:
        name, grown, rest = self._grown()
        return actions.Append(name, grown, rest)

    def _open_and_append(self) -> Action:
        name, grown, rest = self._grown()
        return actions.OpenAndAppend(name, grown, rest, self._new_writer())

    def _grown(self) -> tuple[str, Content, bytes]:
        name = self._closed_name()
        old = self._content_of(name)
        if old == EMPTY or old.is_cut:
            raise DoesNotApplyError(name)
        grown = self._contents.grown(old)
        return name, grown, grown.raw[len(old.raw) :]

    def _open(self) -> Action:
        return actions.OpenAndWrite(
            self._any_name(), self._contents.new(), self._new_writer(), quarters=self._rng.randint(0, 4)
        )

    def _new_writer(self) -> int:
        self._writers += 1
        return self._writers

    def _go_on(self) -> Action:
        writer = self._rng.choice(list(self._world.unfinished))
        return self._rng.choice([actions.WriteMore, actions.Close])("", writer)

    def _rename(self) -> Action:
        return actions.Rename(self._taken_name(), self._any_name())

    def _swap(self) -> Action:
        return actions.Swap(self._taken_name(), self._taken_name())

    def _link(self) -> Action:
        return actions.Link(self._taken_name(), self._any_name())

    def _out_or_back(self) -> Action:
        if self._world.aside and self._rng.random() < 0.7:
            return actions.RenameBack(self._rng.choice(list(self._world.aside)))
        return actions.RenameOut(self._taken_name())

    def _move_folder(self) -> Action:
        if FOLDER in self._world.folders:
            return actions.MoveFolderOut(FOLDER)
        names = NAMES_IN_FOLDER[: self._rng.randint(1, 2)]
        return actions.MoveFolderIn(FOLDER, tuple((name, self._contents.new()) for name in names))

    def _touch_or_chmod(self) -> Action:
        if self._rng.random() < 0.5:
            return actions.Touch(self._closed_name())
        return actions.Chmod(self._taken_name(), self._rng.choice([0o000, 0o400, 0o644]))

    def _symlink(self) -> Action:
        return actions.Symlink("link.csv", self._taken_name())


# --- many lists at once -----------------------------------------------------------------------------------


def draw_group(seed: int, *, lists: int, length: int, grows: bool) -> list[Step]:
    """The steps of many lists, mixed, and what happens to the daemon among them.

    `grows`: files are also appended to. The daemon then learns to wait longer, so that such a group takes its time.
    """
    rng = _seeded(seed)
    drawers = {n: ListDrawer(_seeded(f"{seed}/{n}"), n, grows=grows) for n in range(1, lists + 1)}
    turns = [n for n in drawers for _ in range(rng.randint(length // 2, length * 3 // 2))]
    rng.shuffle(turns)
    events = _events(rng, len(turns))
    steps: list[Step] = []
    for position, list_no in enumerate(turns):
        steps += [Step(0, event) for event in events.get(position, [])]
        pause_s = rng.random() * PAUSE_S_MAX if rng.random() < 0.15 else 0.0
        steps.append(Step(list_no, drawers[list_no].next(), pause_s))
    steps += [Step(n, action) for n, drawer in drawers.items() for action in drawer.end()]
    return [*steps, Step(0, Event.REST)]


def _seeded(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- to be drawn again is what it is for


def _events(rng: random.Random, turns: int) -> dict[int, list[Event]]:
    """Before which step what happens: three parts with a rest between them, in each something goes wrong."""
    events: dict[int, list[Event]] = {}
    for part in range(3):
        begin, end = turns * part // 3, turns * (part + 1) // 3
        first, second = sorted(rng.sample(range(begin + 1, end), 2))
        match rng.choice(["kill", "kill", "kill", "stumble", "freeze", "nothing"]):
            case "kill":
                # It stays away for a few steps only, else nothing happens before its eyes.
                events = events | {first: [Event.KILL], min(second, first + 15): [Event.START]}
            case "stumble":
                events |= {first: [Event.KILL, Event.STUMBLE], min(second, first + 15): [Event.START]}
            case "freeze":
                events |= {first: [Event.FREEZE], second: [Event.THAW]}
        if part:
            events.setdefault(begin, []).append(Event.REST)
    return events
