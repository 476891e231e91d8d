"""The chain of tasks that a run's length hangs on."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from landingd.core.critical import Span, critical


def span(key, began, ended, *after):
    return Span(key, after, began, ended)


def test_the_chain_goes_from_the_task_that_ended_last_to_what_it_waited_for_longest():
    spans = [
        span("fast", 0, 1),
        span("slow", 0, 5),
        span("silver", 5, 7, "fast", "slow"),
        span("side", 5, 6, "slow"),
        span("gold", 7, 9, "silver", "side"),
    ]
    assert critical(spans) == ("slow", "silver", "gold")


def test_a_task_that_did_not_run_ends_the_chain():
    assert critical([span("a", 0, 1), span("c", 4, 5, "b")]) == ("c",)


def test_nothing_ran():
    assert critical([]) == ()


@st.composite
def runs(draw):
    """Tasks that begin when what they depend on has ended."""
    spans = []
    for number in range(draw(st.integers(1, 12))):
        after = draw(st.lists(st.sampled_from(range(number)), unique=True)) if number else []
        ready = max((spans[one].ended_s for one in after), default=0.0)
        spans.append(span(str(number), ready, ready + draw(st.integers(1, 9)), *map(str, after)))
    return spans


@given(runs())
def test_without_waiting_the_chain_is_as_long_as_the_run(spans):
    chain = [next(one for one in spans if one.task_key == key) for key in critical(spans)]
    assert sum(one.ended_s - one.began_s for one in chain) == max(one.ended_s for one in spans)
    assert all(before.task_key in after.depends_on for before, after in pairwise(chain))
