"""Which tasks take part in a partial run, and in a repair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import graph
from landingd.core.selecting import RepairTask, select, to_repair, whole
from landingd.errors import RefusedError
from landingd.model import Job, Place, RepairRequest, Result, Task

PLACE = Place("job.yml", 1)
EDGES = {"bronze": (), "left": ("bronze",), "right": ("bronze",), "gold": ("left", "right"), "alone": ()}
NOTHING_NAMED = RepairRequest()
ALL_FAILED = RepairRequest(rerun_all_failed_tasks=True)


def job(edges=EDGES):
    return Job("shop", PLACE, tuple(Task(key, PLACE, after) for key, after in edges.items()))


def ended(edges=EDGES, **results):
    """A finished run: SUCCESS but for what is said."""
    return [RepairTask(key, after, results.get(key, Result.SUCCESS)) for key, after in edges.items()]


# --- partial runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ([], "bronze left right gold alone"),
        (["left"], "left"),
        (["+left"], "bronze left"),
        (["left+"], "left gold"),
        (["+left+"], "bronze left gold"),
        (["+gold"], "bronze left right gold"),
        (["bronze+"], "bronze left right gold"),
        (["gold", "alone", "left"], "left gold alone"),
        ([" +left ", "right"], "bronze left right"),
    ],
)
def test_a_plus_before_a_task_means_all_before_it_and_one_behind_all_behind_it(only, chosen):
    assert select(job(), only) == tuple(chosen.split())


@pytest.mark.parametrize(
    ("selector", "what", "hint"),
    [
        ("lefd", "job 'shop' has no task 'lefd'", "did you mean 'left'?"),
        ("+zzz+", "job 'shop' has no task 'zzz'", "the tasks are bronze, left, right, gold, alone"),
        ("", "job 'shop' has no task ''", "the tasks are bronze, left, right, gold, alone"),
        ("+", "job 'shop' has no task ''", "the tasks are bronze, left, right, gold, alone"),
        ("left[3]", "'left[3]' is an iteration", "name its loop 'left': what succeeded in it is kept"),
    ],
)
def test_a_task_that_is_not_there_is_refused_with_the_one_that_was_meant(selector, what, hint):
    with pytest.raises(RefusedError) as error:
        select(job(), ["left", selector])
    assert (error.value.what, error.value.hint) == (what, hint)


@st.composite
def dags(draw):
    keys = [f"t{n}" for n in range(draw(st.integers(1, 8)))]
    return {
        key: tuple(draw(st.lists(st.sampled_from(keys[:n]), unique=True))) if n else () for n, key in enumerate(keys)
    }


@given(dags(), st.data())
def test_a_selection_is_in_the_jobs_order_and_the_sum_of_its_selectors(edges, data):
    of = job(edges)
    only = data.draw(
        st.lists(
            st.tuples(st.sampled_from(["", "+"]), st.sampled_from([*edges]), st.sampled_from(["", "+"])), min_size=1
        )
    )
    chosen = select(of, ["".join(parts) for parts in only])
    expected = set()
    for before, key, behind in only:
        expected.add(key)
        if behind:
            expected |= graph.downstream(of, key)
        if before:
            expected |= {other for other in edges if key in graph.downstream(of, other)}
    assert chosen == tuple(key for key in edges if key in expected)


# --- repairs ----------------------------------------------------------------------------------------------

FAILED = ended(left=Result.FAILED, gold=Result.UPSTREAM_FAILED)


@pytest.mark.parametrize(
    ("tasks", "request_", "again"),
    [
        (FAILED, NOTHING_NAMED, "left gold"),
        (FAILED, ALL_FAILED, "left gold"),
        (
            ended(left=Result.TIMEDOUT, right=Result.CANCELED, gold=Result.UPSTREAM_CANCELED),
            ALL_FAILED,
            "left right gold",
        ),
        # A task behind a failed one that has run all the same (run_if) runs again only with what depends on it.
        (ended(left=Result.FAILED), ALL_FAILED, "left"),
        (ended(left=Result.FAILED), NOTHING_NAMED, "left gold"),
        (
            ended(left=Result.FAILED),
            RepairRequest(rerun_all_failed_tasks=True, rerun_dependent_tasks=True),
            "left gold",
        ),
        # What is named runs again, and nothing else.
        (FAILED, RepairRequest(rerun_tasks=("left",)), "left"),
        (FAILED, RepairRequest(rerun_tasks=("left",), rerun_dependent_tasks=True), "left gold"),
        (ended(), RepairRequest(rerun_tasks=("bronze",), rerun_dependent_tasks=True), "bronze left right gold"),
        (ended(), RepairRequest(rerun_tasks=("alone", "bronze")), "bronze alone"),
        # What was left out is judged anew where something right before it runs again.
        (ended(left=Result.FAILED, gold=Result.EXCLUDED), ALL_FAILED, "left gold"),
        (ended(left=Result.EXCLUDED, gold=Result.EXCLUDED), RepairRequest(rerun_tasks=("bronze",)), "bronze left gold"),
        (ended(gold=Result.EXCLUDED), RepairRequest(rerun_tasks=("bronze",)), "bronze"),
        # A task that the job has only since then.
        (ended(gold=None), NOTHING_NAMED, "gold"),
        (ended(left=Result.DISABLED, right=Result.FAILED), ALL_FAILED, "right"),
    ],
)
def test_a_repair_runs_what_is_asked_for(tasks, request_, again):
    assert to_repair(tasks, request_) == tuple(again.split())


@pytest.mark.parametrize(
    ("tasks", "request_", "what"),
    [
        (ended(), NOTHING_NAMED, "there is nothing to repair"),
        (ended(gold=Result.EXCLUDED, alone=Result.DISABLED), ALL_FAILED, "there is nothing to repair"),
        (FAILED, RepairRequest(rerun_tasks=("left",), rerun_all_failed_tasks=True), "exclude each other"),
        (FAILED, RepairRequest(rerun_tasks=("lefd",)), "the run has no task 'lefd'"),
        (FAILED, RepairRequest(rerun_tasks=("left[0]",)), "the run has no iteration 'left\\[0\\]'"),
        (FAILED, RepairRequest(rerun_tasks=("lefd[0]",)), "the run has no task 'lefd\\[0\\]'"),
    ],
)
def test_a_repair_that_makes_no_sense_is_refused(tasks, request_, what):
    with pytest.raises(RefusedError, match=what):
        to_repair(tasks, request_)


@st.composite
def finished_runs(draw):
    edges = draw(dags())
    results = st.none() | st.sampled_from(Result)
    return [RepairTask(key, after, draw(results)) for key, after in edges.items()]


WELL = {Result.SUCCESS, Result.EXCLUDED, Result.DISABLED}


@given(finished_runs())
def test_after_a_repair_of_everything_nothing_rests_on_a_result_from_before_it(tasks):
    failed = {task.task_key for task in tasks if task.result not in WELL}
    if not failed:
        return
    again = set(to_repair(tasks, NOTHING_NAMED))
    assert failed <= again
    assert all(task.task_key in again for task in tasks if again & set(task.depends_on))
    reached = set(failed)
    for task in tasks:  # in order: each comes after those it depends on
        if reached & set(task.depends_on):
            reached.add(task.task_key)
    assert again == reached


@given(finished_runs(), st.data())
def test_tasks_that_are_named_run_again_and_of_the_others_only_what_was_left_out(tasks, data):
    named = data.draw(st.lists(st.sampled_from([task.task_key for task in tasks]), min_size=1, unique=True))
    again = set(to_repair(tasks, RepairRequest(rerun_tasks=tuple(named))))
    assert set(named) <= again
    assert all(task.result is Result.EXCLUDED for task in tasks if task.task_key in again - set(named))
    dependents = set(to_repair(tasks, RepairRequest(rerun_tasks=tuple(named), rerun_dependent_tasks=True)))
    assert again <= dependents


@given(finished_runs(), st.booleans())
def test_a_repair_asked_for_twice_is_the_same(tasks, dependents):
    if all(task.result in WELL for task in tasks):
        return
    request = RepairRequest(rerun_all_failed_tasks=True, rerun_dependent_tasks=dependents)
    again = to_repair(tasks, request)
    named = RepairRequest(rerun_tasks=again, rerun_dependent_tasks=dependents)
    assert to_repair(tasks, named) == again
    assert again == tuple(task.task_key for task in tasks if task.task_key in again)


def test_what_had_succeeded_or_has_something_before_it_that_runs_again_starts_from_nothing():
    assert whole(FAILED, ("left", "gold")) == {"gold"}
    assert whole(FAILED, ("left",)) == frozenset()
    assert whole(ended(), ("bronze", "left")) == {"bronze", "left"}
    assert whole(ended(bronze=Result.FAILED, gold=Result.FAILED), ("bronze", "gold")) == {"gold"}


def test_a_chain_of_a_thousand_is_no_deeper_than_one_of_ten():
    edges = {f"t{n}": (f"t{n - 1}",) if n else () for n in range(1000)}
    assert select(job(edges), ["t0+"]) == tuple(edges)
    chain = [RepairTask(key, after, Result.FAILED if key == "t0" else Result.EXCLUDED) for key, after in edges.items()]
    assert to_repair(chain, ALL_FAILED) == tuple(edges)


# --- single iterations ------------------------------------------------------------------------------------

LOOPS = {"left": ("left[0]", "left[1]", "left[2]")}


def named(*keys, **more):
    return RepairRequest(rerun_tasks=keys, **more)


@pytest.mark.parametrize(
    ("request_", "again"),
    [
        (named("left[1]"), "left[1]"),
        (named("left[2]", "alone", "left[0]"), "left[0] left[2] alone"),
        (named("left[1]", rerun_dependent_tasks=True), "left[1] gold"),
        # Where its loop is named as well, or something before that runs again, it does not run alone.
        (named("left[1]", "left"), "left left[1]"),
        (named("left[1]", "bronze"), "bronze left left[1]"),
    ],
)
def test_an_iteration_that_is_named_runs_again_without_the_rest_of_its_loop(request_, again):
    assert to_repair(FAILED, request_, LOOPS) == tuple(again.split())


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("left[3]", "the iterations are left[0] to left[2]"),
        ("left[x]", "the iterations are left[0] to left[2]"),
        ("right[0]", "'right' has none: name the task"),
    ],
)
def test_an_iteration_that_is_not_there_is_refused_with_those_that_are(key, hint):
    with pytest.raises(RefusedError, match="the run has no iteration") as error:
        to_repair(FAILED, named(key), LOOPS)
    assert error.value.hint == hint


def test_a_loop_of_which_iterations_are_named_does_not_start_from_nothing():
    assert whole(ended(), ("left[1]",)) == frozenset()
    assert whole(ended(), ("left[1]", "gold")) == {"gold"}
