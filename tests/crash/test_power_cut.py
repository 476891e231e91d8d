"""The power fails: the warehouse has its commits, the ledger has lost all that came after the run was formed.

The commit that forms a run is synced, so no cut can take it. Later commits of the ledger are not: whatever tasks have
done since then is known from the warehouse alone.
"""

import contextlib
import itertools
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from crash import branching, shop, truth
from crash.victim import Victim
from daemons import NotAnsweringError
from listening import Subscriber

Make = Callable[..., Victim]
HOW = {"together": shop.TOGETHER, "task-by-task": shop.ALONE}
LEDGER = ("ledger.sqlite", "ledger.sqlite-wal")


def cut_power(
    victim: Victim,
    act: Callable[[], object],
    *,
    commits: int | None,
    at_rest: Callable[[Victim], bool] = Victim.at_rest,
) -> None:
    """Act, die once the warehouse has synced so many commits (None: all), and forget what the ledger did not sync.

    Each sync stops the process, so the copy of the ledger is what its last sync has made durable, be it before all.
    """
    files = [victim.state / "ledger.sqlite-wal", victim.state / "warehouse.duckdb.wal"]
    strace = victim.trace(files, calls=("fdatasync",), inject="fdatasync:signal=STOP")
    kept = victim.base / "kept"
    kept.mkdir()
    _copy(victim.state, kept)
    act()
    for nth_stop in itertools.count():
        victim.until(lambda n=nth_stop: len(strace.stops()) > n or at_rest(victim))
        stops = strace.stops()
        if len(stops) == nth_stop:
            break
        if stops[nth_stop] == "ledger.sqlite-wal":
            _copy(victim.state, kept)
        elif stops[: nth_stop + 1].count("warehouse.duckdb.wal") == commits:
            break
        victim.signal(signal.SIGCONT)
    victim.kill()
    (victim.state / "ledger.sqlite-shm").unlink()
    for name in LEDGER:
        shutil.move(kept / name, victim.state / name)
    kept.rmdir()


def _copy(state: Path, kept: Path) -> None:
    for name in LEDGER:
        shutil.copy(state / name, kept / name)


@pytest.mark.parametrize(
    ("how", "commits"),
    [
        ("together", 1),
        ("task-by-task", 2),
        ("task-by-task", None),
        pytest.param("together", None, marks=pytest.mark.long),
        *(pytest.param("task-by-task", n, marks=pytest.mark.long) for n in (1, 3, 4, 5)),
    ],
)
def test_what_the_warehouse_has_is_believed_and_not_done_again(
    victim_with: Make, ear: Subscriber, how: str, commits: int | None
) -> None:
    """No file is loaded twice, no task commits twice, and no id is ever given to something else."""
    victim = victim_with(HOW[how], ENGINE__IDLE_CHECKPOINT_SECONDS="3600")
    victim.start_traceable()
    cut_power(victim, lambda: victim.deliver(shop.FIRST), commits=commits)
    victim.start_traceable()
    victim.until(victim.at_rest)
    cut_power(victim, lambda: victim.deliver(shop.CORRECTED), commits=commits)
    victim.start()
    victim.until(victim.at_rest)
    assert victim.stop() == 0, victim.log_tail()
    truth.check(victim.state, victim.files, ear.heard, ledger_was_lost=True)


@pytest.mark.parametrize(
    "commits", [4, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3, 5, 6, 7, 8, 9, 10, None))]
)
def test_no_iteration_and_no_task_behind_it_is_done_again(
    victim_with: Make, ear: Subscriber, commits: int | None
) -> None:
    """What a loop has to do is known as long as what it has done: neither is forgotten alone."""
    victim = victim_with(branching.JOBS, ENGINE__IDLE_CHECKPOINT_SECONDS="3600")
    victim.start_traceable()

    def ask() -> None:
        branching.ask(victim, "whole", bad="yes")

    cut_power(victim, lambda: aside(ask), commits=commits, at_rest=branching.at_rest)
    victim.start()
    ask()
    victim.until(lambda: branching.at_rest(victim))
    assert victim.stop() == 0, victim.log_tail()
    branching.check_ended(victim)
    branching.check_stores(victim, ear.heard, ledger_was_lost=True)


def test_what_was_canceled_stays_canceled(victim_with: Make, ear: Subscriber) -> None:
    victim = victim_with(branching.JOBS)
    victim.start_traceable()
    branching.ask(victim, "waiting")
    victim.until(lambda: branching.waits(victim))
    cut_power(victim, lambda: aside(lambda: victim.post("/v1/runs/1/cancel")), commits=None, at_rest=branching.at_rest)
    victim.start()
    victim.until(lambda: branching.at_rest(victim))
    assert victim.stop() == 0, victim.log_tail()
    branching.check_broken_off(victim)
    branching.check_stores(victim, ear.heard, ledger_was_lost=True)


def aside(ask: Callable[[], object]) -> None:
    """Whoever asks waits for the sync at which the process is stopped, and gets no answer when it is killed."""

    def asking() -> None:
        with contextlib.suppress(NotAnsweringError):
            ask()

    threading.Thread(target=asking).start()
