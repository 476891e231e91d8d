"""SIGTERM in the middle of a run: no attempt is lost and none dies, and the next start goes on where it was left."""

from pathlib import Path

import pytest
from brokers import Mosquitto
from crash import shop, truth
from crash.victim import Victim
from listening import Subscriber

HOW = {"together": shop.TOGETHER, "task-by-task": shop.ALONE}


@pytest.mark.parametrize("drain_s", [20, 0])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("store", "call", "n"), [("ledger", "pwrite64", 5), ("ledger", "fdatasync", 1), ("warehouse", "fdatasync", 1)]
)
def test_a_stop_during_a_run_is_not_held_against_it(
    tmp_path: Path, broker: Mosquitto, ear: Subscriber, how: str, store: str, call: str, n: int, drain_s: int
) -> None:
    """Whether attempts may finish or are interrupted: the run ends well after the next start, and nothing "died"."""
    victim = Victim(tmp_path / "base", broker.port, HOW[how], env={"RUNS__DRAIN_SECONDS": str(drain_s)})
    try:
        victim.start_traceable()
        victim.arm(store, call, n, how="TERM")
        victim.deliver(shop.FIRST)
        assert victim.wait() == 0, victim.log_tail()
        assert not victim.checkpointed() or truth.Stores(victim.state).warehouse("SELECT 1") == [(1,)]
        victim.start()
        victim.until(victim.at_rest)
        assert victim.stop() == 0, victim.log_tail()
        assert victim.logged("attempt_recovered") == []
        stores = truth.Stores(victim.state)
        assert stores.ledger("SELECT * FROM attempts WHERE outcome NOT IN ('committed', 'interrupted')") == []
        assert stores.ledger("SELECT * FROM tasks WHERE crashes + failures > 0") == []
        truth.check(victim.state, victim.files, ear.heard)
    finally:
        victim.kill()
