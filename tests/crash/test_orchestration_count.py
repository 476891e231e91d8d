from collections import Counter
import pytest
from crash.test_orchestration import JOBS, MOMENTS, at_rest, check_stores, Cancel
from crash.victim import STORES, ALL_CALLS

@pytest.mark.parametrize("name", MOMENTS)
def test_count(victim_with, ear, name):
    m = MOMENTS[name].moment
    victim = victim_with(JOBS)
    victim.start_traceable()
    m.before(victim)
    t = victim.trace([f for s in STORES for f in victim.store(s)], calls=ALL_CALLS)
    m.act(victim)
    victim.until(lambda: at_rest(victim) and victim.checkpointed())
    assert victim.stop() == 0
    t.end()
    m.check(victim)
    check_stores(victim, ear.heard)
    print(name, sorted(Counter((f.partition(".")[0], c, th) for th, f, c in t.calls()).items()))
