import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import graph
from landingd.errors import Problem
from landingd.model import Job, Place, Task


def job(dependencies, *, name="shop"):
    """A job of these tasks and what they depend on, a task every ten lines; tasks may come twice."""
    tasks = [
        Task(
            key,
            Place("job.yml", 10 * number),
            depends_on=tuple(others),
            depends_on_places=tuple(Place("job.yml", 10 * number + 1 + i) for i in range(len(others))),
        )
        for number, (key, others) in enumerate(dependencies, start=1)
    ]
    return Job(name, Place("job.yml", 1), tuple(tasks))


@st.composite
def acyclic_jobs(draw):
    """Tasks that depend on earlier ones only, written down in any order."""
    count = draw(st.integers(1, 12))
    tasks = [(f"t{n}", [f"t{m}" for m in draw(st.sets(st.integers(0, n - 1)))] if n else []) for n in range(count)]
    return job(draw(st.permutations(tasks)))


@st.composite
def any_jobs(draw):
    """Tasks that depend on each other at random, not on themselves."""
    keys = [f"t{n}" for n in range(draw(st.integers(1, 8)))]
    return job([(key, sorted(draw(st.sets(st.sampled_from(keys))) - {key})) for key in keys])


@given(acyclic_jobs())
def test_every_task_comes_once_and_after_those_it_depends_on(acyclic):
    ordered = graph.order(acyclic)
    assert sorted(ordered) == sorted(task.task_key for task in acyclic.tasks)
    for task in acyclic.tasks:
        assert all(ordered.index(other) < ordered.index(task.task_key) for other in task.depends_on)
    assert graph.problems(acyclic) == []


@given(acyclic_jobs())
def test_an_order_that_is_right_already_is_kept(acyclic):
    by_key = {task.task_key: task for task in acyclic.tasks}
    ordered = graph.order(acyclic)
    again = job([(key, by_key[key].depends_on) for key in ordered])
    assert graph.order(again) == ordered


@given(any_jobs())
def test_a_job_has_an_order_or_a_circle_and_never_both(anyhow):
    circles = graph.problems(anyhow)
    if circles:
        with pytest.raises(ValueError, match="cannot be put in order"):
            graph.order(anyhow)
    else:
        graph.order(anyhow)


@given(any_jobs())
def test_a_circle_that_is_named_is_one(anyhow):
    for problem in graph.problems(anyhow):
        walk = problem.what.removesuffix(".").rpartition(": ")[2].split(" -> ")
        assert walk[0] == walk[-1]
        assert all(after in anyhow.task(before).depends_on for before, after in pairwise(walk))


@given(acyclic_jobs())
def test_downstream_is_what_depends_on_a_task_directly_or_through_others(acyclic):
    for task in acyclic.tasks:
        reached = graph.downstream(acyclic, task.task_key)
        expected = {
            other.task_key
            for other in acyclic.tasks
            if any(key == task.task_key or key in reached for key in other.depends_on)
        }
        assert reached == expected


def test_tasks_that_are_free_keep_the_order_of_the_file():
    assert graph.order(job([("b", []), ("a", []), ("d", ["c"]), ("c", [])])) == ("b", "a", "c", "d")


def test_a_dependency_that_nobody_is_called_is_named_with_its_line_and_the_nearest_key():
    broken = job([("silver_events", []), ("gold_revenue", ["silver_event"])])
    assert graph.problems(broken) == [
        Problem(
            "job.yml",
            21,
            "task 'gold_revenue' depends on 'silver_event', which no task in this job is called.",
            "did you mean 'silver_events'?",
        )
    ]


def test_an_unknown_dependency_is_never_mistaken_for_the_task_that_has_it():
    (problem,) = graph.problems(job([("silver_events", ["silver_event"])]))
    assert problem.hint is None


def test_a_dependency_built_without_a_place_is_told_at_the_line_of_its_task():
    task = Task("a", Place("job.yml", 7), depends_on=("zzz",))
    (problem,) = graph.problems(Job("shop", Place("job.yml", 1), (task,)))
    assert problem.line == 7


def test_two_tasks_of_one_key_are_named_with_both_lines():
    assert graph.problems(job([("a", []), ("a", []), ("b", ["a"])])) == [
        Problem(
            "job.yml",
            20,
            "a task 'a' is there already, on line 10.",
            "give one of them another 'task_key'",
        )
    ]


def test_a_task_that_depends_on_itself_is_no_circle_of_others():
    assert [p.what for p in graph.problems(job([("a", ["a"])]))] == ["task 'a' depends on itself."]


def test_a_dependency_that_is_said_twice_is_named():
    (problem,) = graph.problems(job([("a", []), ("b", ["a", "a"])]))
    assert (problem.line, problem.what) == (22, "task 'b' depends on 'a' twice.")


def test_each_circle_is_named_once_from_its_first_task_and_what_waits_behind_it_is_not():
    broken = job(
        [
            ("free", []),
            ("behind", ["b"]),
            ("a", ["free", "b"]),
            ("b", ["c"]),
            ("c", ["a"]),
            ("y", ["x"]),
            ("x", ["y"]),
        ]
    )
    told = [(problem.line, problem.what) for problem in graph.problems(broken)]
    assert told == [
        (32, "these tasks depend on each other in a circle: a -> b -> c -> a."),
        (61, "these tasks depend on each other in a circle: y -> x -> y."),
    ]


def test_all_faults_are_told_at_once():
    broken = job([("a", ["nobody"]), ("a", []), ("b", ["c"]), ("c", ["b"]), ("d", ["d"])])
    assert len(graph.problems(broken)) == 4


def test_a_table_has_one_writer_in_all_jobs_and_case_makes_no_difference():
    first = Job("shop", Place("shop.yml", 1), (Task("revenue", Place("shop.yml", 4), table="gold.revenue"),))
    second = Job(
        "web",
        Place("web.yml", 1),
        (Task("money", Place("web.yml", 9), table="gold.Revenue"), Task("script", Place("web.yml", 12))),
    )
    assert graph.table_problems([first, second]) == [
        Problem(
            "web.yml",
            9,
            "task 'money' writes table 'gold.Revenue', which task 'revenue' writes already (shop.yml:4).",
            "give each task a table of its own",
        )
    ]
    assert graph.table_problems([first]) == []


@given(acyclic_jobs())
def test_before_says_of_any_two_tasks_what_downstream_says(acyclic):
    runs_before = graph.before(acyclic)
    for task in acyclic.tasks:
        later = graph.downstream(acyclic, task.task_key)
        assert {other.task_key for other in acyclic.tasks if runs_before(task.task_key, other.task_key)} == later


def test_before_answers_for_tasks_that_are_in_a_circle_or_not_there():
    runs_before = graph.before(job([("a", ["b"]), ("b", ["a"]), ("c", ["nobody"])]))
    assert runs_before("b", "a")
    assert runs_before("a", "a")
    assert not runs_before("c", "a")
    assert not runs_before("nobody", "c")
    assert not runs_before("nobody", "a")
    assert not runs_before("a", "c")


def test_levels_count_what_stands_behind_and_leave_circles_out():
    waits_for = {"a": ["b", "c"], "b": ["c"], "c": [], "x": ["y"], "y": ["x"], "behind": ["x", "c"]}
    assert graph.levels(waits_for) == {"c": 0, "b": 1, "a": 2}


@given(acyclic_jobs())
def test_a_task_is_one_level_above_the_highest_that_it_depends_on(acyclic):
    levels = graph.levels({task.task_key: task.depends_on for task in acyclic.tasks})
    for task in acyclic.tasks:
        assert levels[task.task_key] == max((levels[key] + 1 for key in task.depends_on), default=0)


@pytest.mark.parametrize("shape", ["chain", "chain upside down", "star", "circle"])
def test_a_thousand_tasks_take_milliseconds_in_any_shape(shape):
    others = {
        "chain": lambda n: [f"t{n - 1}"] if n else [],
        "chain upside down": lambda n: [f"t{n + 1}"] if n < 999 else [],
        "star": lambda n: ["t0"] if n else [],
        "circle": lambda n: [f"t{(n + 1) % 1000}"],
    }[shape]
    large = job([(f"t{n}", others(n)) for n in range(1000)])
    begin = time.process_time()
    found = graph.problems(large)
    if shape == "circle":
        assert len(found) == 1
    else:
        assert found == []
        assert len(graph.order(large)) == 1000
        assert graph.downstream(large, "t0") or graph.downstream(large, "t999")
    # A hundred times what it takes: this is about the power of n, not about the machine.
    assert time.process_time() - begin < 1
