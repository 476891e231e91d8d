"""What a loop runs over."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import loops
from landingd.core.loops import InputsError, inputs
from landingd.model import iteration_key, loop_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=8))
def test_each_element_of_a_json_array_is_one_input(values):
    assert list(inputs(json.dumps(values))) == values


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "must be a JSON array, found ''"),
        ("{}", "must be a JSON array, found '{}'"),
        ('"Oct"', "must be a JSON array, found"),
        ("[1,", "must be a JSON array, found '[1,'"),
        ("[NaN]", "NaN is not JSON"),
        ("['Oct']", "must be a JSON array, found"),
        ("[1] x", "must be a JSON array, found"),
        ("x" * 200, "found '" + "x" * 60 + "...'"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps([0] * (loops.ITERATIONS_MAX + 1)), "at most 10000 iterations, found 10001"),
    ],
)
def test_inputs_that_are_no_array_or_too_many_are_refused_in_a_sentence(text, what):
    with pytest.raises(InputsError) as error:
        inputs(text)
    assert what in error.value.what
    assert len(error.value.what) < 300


def test_a_loop_over_nothing_and_one_over_as_many_as_there_may_be_are_loops():
    assert inputs("[]") == ()
    assert len(inputs(json.dumps([0] * loops.ITERATIONS_MAX))) == loops.ITERATIONS_MAX


@given(st.from_regex(r"[A-Za-z0-9_-]{1,100}", fullmatch=True), st.integers(0, loops.ITERATIONS_MAX))
def test_the_key_of_an_iteration_names_its_loop(loop, number):
    assert loop_of(iteration_key(loop, number)) == loop
    assert loop_of(loop) is None
