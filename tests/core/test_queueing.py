"""What a queued run waits for, in words; and whose turn it is to write tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.queueing import Queued, UnderWay, Writer, may_write, waits_for

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


# --- whose turn it is to write --------------------------------------------------------------------------------

writers = st.lists(st.builds(Writer, st.integers(1, 9), st.booleans()), min_size=1, unique_by=lambda one: one.run_id)


@given(writers)
def test_of_the_runs_that_have_tables_to_write_one_may_always_go_on_and_only_one(all_of_them):
    may = [one for one in all_of_them if may_write(one, [other for other in all_of_them if other != one])]
    assert len(may) == 1


@given(writers)
def test_who_has_begun_goes_on_and_otherwise_the_oldest_comes_first(all_of_them):
    (first,) = [one for one in all_of_them if may_write(one, [other for other in all_of_them if other != one])]
    begun = [one for one in all_of_them if one.has_begun]
    assert first.run_id == min(one.run_id for one in begun or all_of_them)
