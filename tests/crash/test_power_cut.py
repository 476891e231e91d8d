"""The power fails: the warehouse has its commits, the ledger has lost all that came after the run was formed.

The commit that forms a run is synced, so no cut can take it. Later commits of the ledger are not: whatever tasks have
done since then is known from the warehouse alone.
"""

import itertools
import shutil
import signal
from collections.abc import Callable

import pytest

from crash import shop, truth
from crash.victim import Victim
from listening import Subscriber

Make = Callable[..., Victim]
HOW = {"together": shop.TOGETHER, "task-by-task": shop.ALONE}
LEDGER = ("ledger.sqlite", "ledger.sqlite-wal")


def cut_power(victim: Victim, act: Callable[[], None], *, commits: int | None) -> None:
    """Act, die once the warehouse has synced so many commits (None: all), and forget what the ledger did not sync.

    Each sync stops the process, so the copy of the ledger is what the sync that formed the last run has made durable.
    """
    files = [victim.state / "ledger.sqlite-wal", victim.state / "warehouse.duckdb.wal"]
    strace = victim.trace(files, calls=("fdatasync",), inject="fdatasync:signal=STOP")
    kept = victim.base / "kept"
    kept.mkdir()
    act()
    for nth_stop in itertools.count():
        victim.until(lambda n=nth_stop: len(strace.stops()) > n or victim.at_rest())
        stops = strace.stops()
        if len(stops) == nth_stop:
            break
        if stops[nth_stop] == "ledger.sqlite-wal":
            for name in LEDGER:
                shutil.copy(victim.state / name, kept / name)
        elif stops[: nth_stop + 1].count("warehouse.duckdb.wal") == commits:
            break
        victim.signal(signal.SIGCONT)
    victim.kill()
    (victim.state / "ledger.sqlite-shm").unlink()
    for name in LEDGER:
        shutil.move(kept / name, victim.state / name)
    kept.rmdir()


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
