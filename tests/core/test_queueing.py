"""What a queued run waits for, in words."""

import pytest

from landingd.core.queueing import Queued, UnderWay, waits_for

MINE = Queued(9, "shop", has_files=False)
FILES = Queued(9, "shop", has_files=True)


def active(*runs, job="shop", files=False):
    return [UnderWay(run, job, files) for run in runs]


@pytest.mark.parametrize(
    ("run", "before", "under_way", "most", "slots", "why"),
    [
        (MINE, [], active(1), 1, 8, "run 1 to end (max_concurrent_runs: 1)"),
        (MINE, [], active(1, 2, 3, 4), 4, 8, "runs 1, 2, 3, ... to end (max_concurrent_runs: 4)"),
        (MINE, [], active(1, job="other"), 1, 8, "its turn"),
        (FILES, [], active(1, files=True), 2, 8, "run 1 to end: runs with files are one at a time"),
        (MINE, [], active(1, files=True), 2, 8, "its turn"),
        (MINE, [Queued(5, "shop", has_files=False)], [], 1, 8, "run 5, queued before it"),
        (MINE, [Queued(5, "other", has_files=False)], [], 1, 8, "its turn"),
        (MINE, [], active(1, 2, job="other"), 1, 2, "a free slot: 2 of 2 are taken"),
        (MINE, [], active(1, 2, job="other"), 1, None, "its turn"),
        (MINE, [], [], 0, 8, "max_concurrent_runs is 0: no run of this job starts"),
        (MINE, [], [], None, 8, "there is no job 'shop' any more"),
    ],
)
def test_a_queued_run_says_what_it_waits_for(run, before, under_way, *, most, slots, why):
    assert waits_for(run, before, under_way, concurrent_max=most, slots=slots) == why
