"""SIGTERM in the middle of a run: no attempt is lost and none dies, and the next start goes on where it was left."""

from collections.abc import Callable

import pytest

from crash import shop, truth
from crash.victim import Victim
from listening import Subscriber

Make = Callable[..., Victim]
HOW = {"together": shop.TOGETHER, "task-by-task": shop.ALONE}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("at", "drain_s"),
    [(("ledger", "pwrite64", 5), 20), (("ledger", "fdatasync", 1), 0), (("warehouse", "fdatasync", 1), 0)],
    ids=["while-files-are-entered", "as-the-run-is-formed", "at-the-first-commit"],
)
def test_a_stop_during_a_run_is_not_held_against_it(
    victim_with: Make, ear: Subscriber, how: str, at: tuple[str, str, int], drain_s: int
) -> None:
    """Whether attempts may finish or are interrupted: the run ends well after the next start, and nothing "died"."""
    victim = victim_with(HOW[how], RUNS__DRAIN_SECONDS=str(drain_s))
    victim.start_traceable()
    victim.arm(*at, how="TERM")
    victim.deliver(shop.FIRST)
    assert victim.wait() == 0, victim.log_tail()
    victim.start()
    victim.until(victim.at_rest)
    assert victim.stop() == 0, victim.log_tail()
    assert victim.logged("attempt_recovered") == []
    stores = truth.Stores(victim.state)
    assert stores.ledger("SELECT * FROM attempts WHERE outcome NOT IN ('committed', 'interrupted')") == []
    assert stores.ledger("SELECT * FROM tasks WHERE crashes + failures > 0") == []
    truth.check(victim.state, victim.files, ear.heard)
