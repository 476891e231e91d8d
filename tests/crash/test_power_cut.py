"""The power fails: the warehouse has its commits, the ledger has lost all that came after the run was formed.

The commit that forms a run is synced, so no cut can take it. Later commits of the ledger are not: whatever tasks have
done since then is known from the warehouse alone.
"""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto
from crash import shop, truth
from crash.victim import Victim
from listening import Subscriber

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
    seen = 0
    while True:
        victim.until(lambda: len(strace.stops()) > seen or victim.at_rest())
        if len(strace.stops()) == seen:
            break
        file = strace.stops()[seen]
        seen += 1
        if file == "ledger.sqlite-wal":
            for name in LEDGER:
                shutil.copy(victim.state / name, kept / name)
        elif strace.stops().count(file) == commits:
            break
        victim.signal(signal.SIGCONT)
    victim.kill()
    (victim.state / "ledger.sqlite-shm").unlink()
    for name in LEDGER:
        shutil.move(kept / name, victim.state / name)
    kept.rmdir()


@pytest.mark.parametrize(
    ("how", "commits"),
    [("together", 1), ("together", None), *(("task-by-task", n) for n in (1, 2, 3, 4, 5, None))],
)
def test_what_the_warehouse_has_is_believed_and_not_done_again(
    tmp_path: Path, broker: Mosquitto, ear: Subscriber, how: str, commits: int | None
) -> None:
    """No file is loaded twice, no task commits twice, and no id is ever given to something else."""
    victim = Victim(tmp_path / "base", broker.port, HOW[how], env={"ENGINE__IDLE_CHECKPOINT_SECONDS": "3600"})
    try:
        victim.start_traceable()
        cut_power(victim, lambda: victim.deliver(shop.FIRST), commits=commits)
        victim.start_traceable()
        victim.until(victim.at_rest)
        cut_power(victim, lambda: victim.deliver(shop.CORRECTED), commits=commits)
        victim.start()
        victim.until(victim.at_rest)
        assert victim.stop() == 0, victim.log_tail()
        truth.check(victim.state, victim.files, ear.heard, ledger_was_lost=True)
    finally:
        victim.kill()
