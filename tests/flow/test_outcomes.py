"""What an attempt came to, and what of it must be on the disk before anything that builds on it is."""

import pytest

from landingd.flow.outcomes import only_the_ledger_knows
from landingd.model import Canceled, Committed, Expanded, Failed, Interrupted, Stats, TimedOut


@pytest.mark.parametrize(
    ("outcome", "is_synced"),
    [
        pytest.param(Expanded((1, 2)), True, id="the iterations of a loop"),
        pytest.param(TimedOut(60.0), True, id="a batch may be split"),
        pytest.param(Failed("out of memory", isolate=True), True, id="a batch is split"),
        pytest.param(Committed(Stats()), False, id="the warehouse has it"),
        pytest.param(Failed("x"), False, id="it fails again"),
        pytest.param(Canceled(), False, id="the cancel was synced"),
        pytest.param(Interrupted(crashed=True), False, id="the start of its run is synced"),
    ],
)
def test_what_later_commits_stand_for_is_synced_and_nothing_else(outcome, is_synced):
    assert only_the_ledger_knows(outcome) == is_synced
