import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.runif import Upstream, leaves_out
from landingd.model import Result, RunIf

S, F, T, C = Result.SUCCESS, Result.FAILED, Result.TIMEDOUT, Result.CANCELED
E, D, UF, UC = Result.EXCLUDED, Result.DISABLED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED
RUNS = None

TABLE = [
    # upstream results, then what becomes of the task for each run_if, in this order:
    # ALL_SUCCESS, AT_LEAST_ONE_SUCCESS, NONE_FAILED, ALL_DONE, AT_LEAST_ONE_FAILED, ALL_FAILED
    ((), (RUNS, RUNS, RUNS, RUNS, RUNS, RUNS)),
    ((S,), (RUNS, RUNS, RUNS, RUNS, E, E)),
    ((F,), (UF, UF, UF, RUNS, RUNS, RUNS)),
    ((T,), (UF, UF, UF, RUNS, RUNS, RUNS)),
    ((C,), (UC, UC, UC, RUNS, RUNS, RUNS)),
    ((UF,), (UF, UF, UF, RUNS, RUNS, RUNS)),
    ((UC,), (UC, UC, UC, RUNS, RUNS, RUNS)),
    ((E,), (E, E, E, E, E, E)),
    ((D,), (RUNS, RUNS, E, RUNS, E, E)),
    ((S, S), (RUNS, RUNS, RUNS, RUNS, E, E)),
    ((S, F), (UF, RUNS, UF, RUNS, RUNS, E)),
    ((F, F), (UF, UF, UF, RUNS, RUNS, RUNS)),
    ((F, C), (UF, UF, UF, RUNS, RUNS, RUNS)),
    ((S, C), (UC, RUNS, UC, RUNS, RUNS, E)),
    ((S, E), (RUNS, RUNS, RUNS, RUNS, E, E)),
    ((F, E), (UF, RUNS, UF, RUNS, RUNS, E)),
    ((E, E), (E, E, E, E, E, E)),
    ((D, E), (RUNS, RUNS, E, RUNS, E, E)),
    ((D, S), (RUNS, RUNS, RUNS, RUNS, E, E)),
]


@pytest.mark.parametrize(("upstreams", "expected"), TABLE, ids=lambda value: "-".join(str(r)[:6] for r in value))
def test_each_run_if_follows_the_definition(upstreams, expected):
    seen = [Upstream(result) for result in upstreams]
    assert tuple(leaves_out(run_if, seen) for run_if in RunIf) == expected


@pytest.mark.parametrize("run_if", RunIf)
@pytest.mark.parametrize(("outcome", "wanted"), [*itertools.product(("true", "false"), repeat=2)])
def test_a_condition_excludes_what_hangs_on_the_other_outcome(run_if, outcome, wanted):
    left_out = leaves_out(run_if, [Upstream(S, wanted, outcome)])
    assert left_out is (leaves_out(run_if, [Upstream(S if outcome == wanted else E)]))


def test_a_condition_that_failed_has_no_outcome_and_counts_as_failed():
    assert leaves_out(RunIf.ALL_SUCCESS, [Upstream(F, "true")]) is UF


@pytest.mark.parametrize("run_if", RunIf)
@pytest.mark.parametrize("result", Result)
def test_a_disabled_task_is_disabled_whatever_was_before_it(run_if, result):
    assert leaves_out(run_if, [Upstream(result)], disabled=True) is D


@given(st.sampled_from(RunIf), st.lists(st.sampled_from([S, F, T, C, E, D, UF, UC]), max_size=6), st.randoms())
def test_the_order_of_the_tasks_before_does_not_matter(run_if, results, random):
    shuffled = list(results)
    random.shuffle(shuffled)
    assert leaves_out(run_if, list(map(Upstream, results))) is leaves_out(run_if, list(map(Upstream, shuffled)))


@given(st.lists(st.sampled_from([S, F, T, C, UF, UC]), min_size=1, max_size=6))
def test_without_what_was_left_out_a_value_and_its_opposite_never_both_run(results):
    seen = list(map(Upstream, results))
    runs = {run_if: leaves_out(run_if, seen) is None for run_if in RunIf}
    assert runs[RunIf.ALL_SUCCESS] is not runs[RunIf.AT_LEAST_ONE_FAILED]
    assert runs[RunIf.AT_LEAST_ONE_SUCCESS] is not runs[RunIf.ALL_FAILED]
    assert runs[RunIf.NONE_FAILED] is runs[RunIf.ALL_SUCCESS]
    assert runs[RunIf.ALL_DONE]
