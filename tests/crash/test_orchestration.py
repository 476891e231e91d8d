"""The process is killed as runs branch, loop, wait for others, fail, are canceled and repaired, at any of its writes.

After the next start each ends as it would have ended without that: every task does what it does once, no run that
another one waits for is started twice, what was canceled stays canceled, and what one run sets off is set off once.
"""

import contextlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest

from crash.branching import (
    CHAIN,
    JOBS,
    WELL,
    ask,
    at_rest,
    check_broken_off,
    check_ended,
    check_stores,
    results,
    runs,
    waits,
)
from crash.victim import ALL_CALLS, STORES, Victim, writes_of
from daemons import NotAnsweringError
from listening import Subscriber

Make = Callable[..., Victim]
Arm = Callable[[], object]
"""From here on writes are counted."""


# --- the moments in which it is killed ----------------------------------------------------------------------------


class Moment:
    """What goes on as it is killed, and what it has to come to."""

    jobs: Mapping[str, str] = JOBS

    def before(self, victim: Victim) -> None:
        """What is done in peace."""

    def act(self, victim: Victim) -> None:
        """What is asked of it; asked again after the next start, as whoever got no answer would."""
        raise NotImplementedError

    def check(self, victim: Victim) -> None:
        """What the ledger has to say once all is at rest."""
        raise NotImplementedError

    def is_over(self, victim: Victim) -> bool:
        return at_rest(victim)

    def go_through(self, victim: Victim, arm: Arm) -> None:
        """Until it is dead, or all is done that there is to do."""
        victim.start_traceable()
        self.before(victim)
        arm()
        with contextlib.suppress(NotAnsweringError):
            self.act(victim)
        victim.until_dead_or(lambda: self.is_over(victim) and victim.checkpointed())

    def start_again(self, victim: Victim, arm: Arm) -> None:
        """The start after a death, to its end or the next death; asked as soon as it answers."""
        victim.hold()
        arm()
        victim.let_go()
        victim.until_dead_or(lambda: self.is_asked(victim))
        victim.until_dead_or(lambda: self.is_over(victim))

    def is_asked(self, victim: Victim) -> bool:
        try:
            self.act(victim)
        except NotAnsweringError:
            return False
        return True


class Run(Moment):
    """A condition, a loop, a retry, a run of another job and a task that fails."""

    def act(self, victim: Victim) -> None:
        ask(victim, "whole", bad="yes")

    def check(self, victim: Victim) -> None:
        check_ended(victim)


class Cancel(Moment):
    """A run is broken off while it waits for another one, and for the retries of a loop."""

    def before(self, victim: Victim) -> None:
        ask(victim, "waiting")
        victim.until(lambda: waits(victim))

    def act(self, victim: Victim) -> None:
        if runs(victim)[1][1] == "RUNNING":
            victim.post("/v1/runs/1/cancel")

    def check(self, victim: Victim) -> None:
        check_broken_off(victim)


class Repair(Moment):
    """A run that has failed is taken up again."""

    def before(self, victim: Victim) -> None:
        ask(victim, "whole", bad="yes")
        victim.until(lambda: at_rest(victim) and victim.checkpointed())

    def act(self, victim: Victim) -> None:
        if runs(victim)[1][3] == 0:
            victim.post("/v1/runs/1/repair", parameters={"bad": "no"})

    def check(self, victim: Victim) -> None:
        assert runs(victim) == {1: ("whole", "TERMINATED", "SUCCESS", 1), 2: ("child", "TERMINATED", "SUCCESS", 0)}
        assert results(victim, 1) == WELL


class Recovery(Run):
    """The start after a death within the loop: what it concludes, takes up and begins anew."""

    def go_through(self, victim: Victim, arm: Arm) -> None:
        victim.start_traceable()
        victim.arm("warehouse", "fdatasync", 5)
        self.act(victim)
        victim.until(victim.killed)
        self.start_again(victim, arm)


class CancelAtStart(Cancel):
    """It is killed while a run waits, and the run is broken off as soon as the next start answers."""

    def go_through(self, victim: Victim, arm: Arm) -> None:
        victim.start_traceable()
        self.before(victim)
        victim.kill()
        self.start_again(victim, arm)


class Chain(Moment):
    """A run makes a table, which sets off a run, and the end of both sets off a third."""

    jobs = CHAIN

    def act(self, victim: Victim) -> None:
        ask(victim, "first")

    def is_over(self, victim: Victim) -> bool:
        return len(runs(victim)) == 3 and at_rest(victim)

    def check(self, victim: Victim) -> None:
        well = ("TERMINATED", "SUCCESS", 0)
        assert runs(victim) == {1: ("first", *well), 2: ("second", *well), 3: ("third", *well)}


@dataclass(frozen=True)
class Counted:
    """A moment, and of each (store, system call) how many one thread makes at least, and at most."""

    moment: Moment
    writes: dict[tuple[str, str], tuple[int, int]]

    often: Mapping[str, int]
    """So many points of each store are tried in the short form."""


SOME = {"ledger": 2, "warehouse": 1}
ONE = {"ledger": 1, "warehouse": 0}


writes = partial(writes_of, file=(4, 10))


# How often events are taken from the outbox depends on how fast the broker is, and when tasks that end side by side
# are recorded on their order: hence from ... to.
MOMENTS = {
    "run": Counted(Run(), writes(pages=(240, 480), syncs=(6, 9), log=(8, 14), log_syncs=(9, 16)), SOME),
    "cancel": Counted(Cancel(), writes(pages=(70, 160), syncs=(3, 4), log=(1, 2), log_syncs=(3, 4)), SOME),
    "repair": Counted(Repair(), writes(pages=(100, 220), syncs=(4, 5), log=(3, 6), log_syncs=(5, 8)), SOME),
    "recovery": Counted(Recovery(), writes(pages=(170, 380), syncs=(4, 7), log=(3, 8), log_syncs=(4, 10)), ONE),
    "cancel-at-start": Counted(
        CancelAtStart(), writes(pages=(80, 190), syncs=(3, 5), log=(2, 5), log_syncs=(4, 7)), ONE
    ),
    "chain": Counted(Chain(), writes(pages=(180, 420), syncs=(6, 10), log=(3, 6), log_syncs=(5, 8)), ONE),
}


class Point(NamedTuple):
    """Where to kill: as this thread's n-th such call on this store begins, counted from the moment on."""

    moment: str
    store: str
    call: str
    n: int


def points() -> Iterator[Any]:
    """Every one there is; those of the short form are the same ones each time, and among those that always come."""
    for name, counted in MOMENTS.items():
        for store in STORES:
            writes = {call: of for (where, call), of in counted.writes.items() if where == store}
            sure = [(call, n) for call, (least, _) in writes.items() for n in range(1, least + 1)]
            often = random.Random(f"{name} {store}").sample(sure, min(counted.often[store], len(sure)))  # noqa: S311 -- the same each time
            for call, (_, most) in writes.items():
                for n in range(1, most + 1):
                    marks = () if (call, n) in often else (pytest.mark.long,)
                    yield pytest.param(Point(name, store, call, n), id=f"{name}-{store}-{call}-{n}", marks=marks)


@pytest.mark.parametrize("point", list(points()))
def test_killed_at_any_write_every_run_ends_as_it_would_have_and_nothing_is_done_twice(
    victim_with: Make, ear: Subscriber, point: Point
) -> None:
    counted = MOMENTS[point.moment]
    victim = victim_with(counted.moment.jobs)
    counted.moment.go_through(victim, lambda: victim.arm(point.store, point.call, point.n))
    if victim.alive:
        victim.signal(signal.SIGTERM)  # the last writes are those of a stop
    if victim.wait() == 0:
        assert point.n > counted.writes[point.store, point.call][0], "it was not killed"
    else:
        assert victim.killed()
    was_broken_off = {run_id for run_id, run in runs(victim).items() if "TERMINATING" in run or "CANCELED" in run}
    victim.start()
    counted.moment.act(victim)
    victim.until(lambda: counted.moment.is_over(victim))
    assert {run_id for run_id, run in runs(victim).items() if "CANCELED" in run} >= was_broken_off
    assert victim.stop() == 0, victim.log_tail()
    counted.moment.check(victim)
    check_stores(victim, ear.heard)
    shutil.rmtree(victim.base)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if of.often is SOME else pytest.mark.long) for name, of in MOMENTS.items()]
)
def test_no_write_of_a_run_goes_uncounted(victim_with: Make, ear: Subscriber, name: str) -> None:
    """The points above are all there are."""
    counted = MOMENTS[name]
    victim = victim_with(counted.moment.jobs)
    traces = []
    every_file = [file for store in STORES for file in victim.store(store)]
    counted.moment.go_through(victim, lambda: traces.append(victim.trace(every_file, calls=ALL_CALLS)))
    assert victim.stop() == 0, victim.log_tail()
    (trace,) = traces
    trace.end()
    counted.moment.check(victim)
    check_stores(victim, ear.heard)
    seen = Counter((file.partition(".")[0], call, thread) for thread, file, call in trace.calls())
    most: Counter[tuple[str, str]] = Counter()
    for (store, call, _), n in seen.items():
        most[store, call] = max(most[store, call], n)
    assert set(most) <= set(counted.writes)
    for where, (fewest, highest) in counted.writes.items():
        assert fewest <= most[where] <= highest, (where, most[where])
