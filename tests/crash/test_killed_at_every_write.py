"""The process is killed before and after every write of a run; after the next start every row is there once."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest

from crash import shop, truth
from crash.victim import ALL_CALLS, CALLS, STORES, Victim, writes_of
from listening import Subscriber

Make = Callable[..., Victim]
Arm = Callable[[], object]
"""From here on writes are counted."""


# --- the moments in which it is killed ----------------------------------------------------------------------------


def first_start(victim: Victim, arm: Arm) -> None:
    """Files lie there before the daemon has ever run: the stores are made, and the files loaded."""
    victim.deliver(shop.FIRST)
    victim.hold()
    arm()
    victim.let_go()
    victim.until_dead_or(lambda: victim.at_rest() and victim.checkpointed())


def run(victim: Victim, arm: Arm) -> None:
    """Files arrive, up to the checkpoint that follows their run."""
    victim.start_traceable()
    arm()
    victim.deliver(shop.FIRST)
    victim.until_dead_or(lambda: victim.at_rest() and victim.checkpointed())


def correction(victim: Victim, arm: Arm) -> None:
    """Other versions of loaded files arrive, and one new file."""
    victim.start_traceable()
    victim.deliver(shop.FIRST)
    victim.until(lambda: victim.at_rest() and victim.checkpointed())
    arm()
    victim.deliver(shop.CORRECTED)
    victim.until_dead_or(lambda: victim.at_rest() and victim.checkpointed())


def stop(victim: Victim, arm: Arm) -> None:
    """An orderly stop with everything still in the logs of the stores."""
    victim.env["LANDINGD_ENGINE__IDLE_CHECKPOINT_SECONDS"] = "3600"
    victim.start_traceable()
    victim.deliver(shop.FIRST)
    victim.until(victim.at_rest)
    arm()
    victim.signal(signal.SIGTERM)
    victim.until_dead_or(lambda: False)


def recovery(victim: Victim, arm: Arm) -> None:
    """The start after a death between two commits of a run."""
    victim.start_traceable()
    victim.arm("warehouse", "fdatasync", 2)
    victim.deliver(shop.FIRST)
    victim.until(victim.killed)
    victim.hold()
    arm()
    victim.let_go()
    victim.until_dead_or(lambda: victim.at_rest() and victim.checkpointed())


@dataclass(frozen=True)
class Moment:
    """`writes`: of each (store, system call), how many one thread makes at least, and at most."""

    go_through: Callable[[Victim, Arm], None]
    job: Mapping[str, str]
    writes: Mapping[tuple[str, str], tuple[int, int]]


writes = partial(writes_of, file=(8, 13))


# How often events are taken from the outbox depends on how fast the broker is, and how many runs a correction takes on
# how fast its files are found: hence from ... to.
MOMENTS = {
    "first-start": Moment(
        first_start, shop.TOGETHER, writes(pages=(120, 340), syncs=(5, 8), log=(8, 16), log_syncs=(9, 18))
    ),
    "run": Moment(run, shop.TOGETHER, writes(pages=(75, 220), syncs=(3, 4), log=(3, 4), log_syncs=(4, 5))),
    "run-task-by-task": Moment(run, shop.ALONE, writes(pages=(110, 300), syncs=(3, 4), log=(6, 7), log_syncs=(8, 9))),
    "correction": Moment(
        correction, shop.TOGETHER, writes(pages=(95, 340), syncs=(3, 5), log=(2, 5), log_syncs=(4, 7))
    ),
    "correction-task-by-task": Moment(
        correction, shop.ALONE, writes(pages=(120, 500), syncs=(3, 5), log=(6, 17), log_syncs=(8, 19))
    ),
    "stop": Moment(stop, shop.TOGETHER, writes(pages=(10, 90), syncs=(2, 2), log=(1, 1), log_syncs=(3, 3))),
    "recovery": Moment(recovery, shop.ALONE, writes(pages=(60, 220), syncs=(2, 4), log=(4, 5), log_syncs=(6, 7))),
}
OFTEN = 2
"""So many points of each moment and store are tried in the short form."""


class Point(NamedTuple):
    """Where to kill: as this thread's n-th such call on this store begins, counted from the moment on."""

    moment: str
    store: str
    call: str
    n: int


def points() -> list[Any]:
    """Every one there is; those of the short form are the same ones each time."""
    found = []
    for name, moment in MOMENTS.items():
        for store in STORES:
            every = [
                (call, n) for (of, call), (_, most) in moment.writes.items() if of == store for n in range(1, most + 1)
            ]
            often = random.Random(f"{name} {store}").sample(every, OFTEN)  # noqa: S311 -- the same points each time
            for call, n in every:
                marks = () if (call, n) in often else (pytest.mark.long,)
                found.append(pytest.param(Point(name, store, call, n), id=f"{name}-{store}-{call}-{n}", marks=marks))
    return found


@pytest.mark.parametrize("point", points())
def test_killed_as_a_write_begins_every_row_is_there_once_after_the_next_start(
    victim_with: Make, ear: Subscriber, point: Point
) -> None:
    """Killing as the n-th write begins is killing after the one before it: every n is before and after every write."""
    moment = MOMENTS[point.moment]
    victim = victim_with(moment.job)
    moment.go_through(victim, lambda: victim.arm(point.store, point.call, point.n))
    if victim.alive:
        victim.signal(signal.SIGTERM)  # the last writes are those of a stop
    if victim.wait() == 0:
        assert point.n > moment.writes[point.store, point.call][0], "it was not killed"
    else:
        assert victim.killed()
    come_to_rest(victim)
    truth.check(victim.state, victim.files, ear.heard)
    shutil.rmtree(victim.base)  # of a thousand tests none but those that fail keep their stores


@pytest.mark.parametrize("name", MOMENTS)
def test_no_write_goes_uncounted(victim_with: Make, ear: Subscriber, name: str) -> None:
    """The points above are all there are: no other system call writes to the stores, and none more often."""
    moment = MOMENTS[name]
    victim = victim_with(moment.job)
    traces = []
    every_file = [file for store in STORES for file in victim.store(store)]
    moment.go_through(victim, lambda: traces.append(victim.trace(every_file, calls=ALL_CALLS)))
    if victim.alive:
        victim.stop()
    assert victim.wait() == 0
    traces[0].end()
    truth.check(victim.state, victim.files, ear.heard)
    counted = Counter((file.partition(".")[0], call, thread) for thread, file, call in traces[0].calls())
    assert {call for _, call, _ in counted} <= set(CALLS)
    for (store, call), (least, most) in moment.writes.items():
        by_thread = [n for (of, what, _), n in counted.items() if (of, what) == (store, call)]
        assert least <= max(by_thread) <= most, (store, call, by_thread)


def come_to_rest(victim: Victim) -> None:
    """A start as any other, until nothing is left to do, and an orderly stop."""
    victim.start()
    victim.until(victim.at_rest)
    assert victim.stop() == 0, victim.log_tail()
    assert [line for line in victim.log() if line["level"] in {"error", "critical"}] == []
    assert "Traceback" not in victim.log_tail()
