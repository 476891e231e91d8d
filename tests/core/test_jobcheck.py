import time
from itertools import pairwise

import pytest

from landingd.core import jobcheck
from landingd.errors import Problem
from landingd.model import (
    Condition,
    ConditionMode,
    ConditionOp,
    Continuous,
    CronSyntax,
    FileArrival,
    ForEach,
    HealthMetric,
    HealthRule,
    Ingest,
    Job,
    JobCompletion,
    Parameter,
    Periodic,
    Place,
    RunJob,
    Schedule,
    SqlCondition,
    TableUpdate,
    Task,
    Trigger,
)


def job(*tasks, name="shop", on=(), **more):
    """A job at line 1 of a file of its name, its tasks ten lines each, its triggers a hundred."""
    return Job(
        name,
        Place(f"{name}.yml", 1),
        tuple(Task(key, Place(f"{name}.yml", 10 * n), **what) for n, (key, what) in enumerate(tasks, start=1)),
        triggers=tuple(
            Trigger(one, f"t{n}", place=Place(f"{name}.yml", 100 * n)) if not isinstance(one, Trigger) else one
            for n, one in enumerate(on, start=1)
        ),
        **more,
    )


def task(key, **what):
    return (key, what)


def told(*jobs):
    return [(problem.line, problem.what) for problem in jobcheck.problems(jobs)]


def nested(**what):
    return Task("inner", Place("shop.yml", 15), **what)


QUESTION = SqlCondition("select 1", ConditionMode.QUERY_RETURNS_ROWS, Place("shop.yml", 1))
ALONE = {
    "a schedule in another dialect": (
        job(task("a"), on=[Schedule("0 2 * *", CronSyntax.UNIX)]),
        100,
    ),
    "a day that never comes": (
        job(task("a"), on=[Schedule("0 0 2 30 2 ?", CronSyntax.QUARTZ)]),
        100,
    ),
    "a continuous job with another trigger": (
        job(task("a"), on=[Continuous(), Periodic(60.0), Periodic(5.0)]),
        200,
    ),
    "a job that is continuous twice": (job(task("a"), on=[Continuous(), Continuous()]), 200),
    "a continuous job that runs twice at a time": (
        job(task("a"), on=[Continuous()], max_concurrent_runs=2),
        1,
    ),
    "a question before a continuous job": (
        job(task("a"), on=[Trigger(Continuous(), "continuous", condition=QUESTION, place=Place("shop.yml", 100))]),
        100,
    ),
    "an ingest without files": (
        job(task("a", ingest=Ingest(), table="bronze.a"), on=[Continuous()]),
        10,
    ),
    "a backlog without files": (
        job(task("a"), health=(HealthRule(HealthMetric.STREAMING_BACKLOG_FILES, 5.0),)),
        1,
    ),
    "numbers of which one is text": (
        job(task("a", action=Condition(ConditionOp.LESS_THAN, "{{job.repair_count}}", "ten"))),
        10,
    ),
    "numbers in a loop": (
        job(task("a", action=ForEach("[1]", nested(action=Condition(ConditionOp.GREATER_THAN, "", "1"))))),
        15,
    ),
    "the outcome of what is no condition": (
        job(task("a", sql="select 1"), task("b", depends_on=("a",), outcomes={"a": "true"})),
        20,
    ),
    "a loop that ingests": (
        job(task("a", action=ForEach("[1]", nested(ingest=Ingest(), table="bronze.a"))), on=[FileArrival("in")]),
        15,
    ),
    "a loop that makes a table": (
        job(task("a", action=ForEach("[1]", nested(sql="select 1", table="gold.a")))),
        15,
    ),
    "a default that cannot be chosen": (
        job(task("a"), parameters=(Parameter("month", "Dec", ("Oct", "Nov")),)),
        1,
    ),
    "a reference to nothing": (job(task("a", parameters={"x": "{{job.parameters.nobody}}"})), 10),
    "a table that nobody makes": (job(task("a"), on=[TableUpdate(("silver.events",))]), 100),
    "a job that is not there": (job(task("a", action=RunJob("web"))), 10),
    "a job in a loop that is not there": (job(task("a", action=ForEach("[1]", nested(action=RunJob("web"))))), 15),
    "the end of a job that is not there": (job(task("a"), on=[JobCompletion(("web",))]), 100),
    "a job that runs itself": (job(task("a", action=RunJob("shop"))), 1),
    "a job that follows itself": (job(task("a"), on=[JobCompletion(("shop",))]), 1),
    "a job that feeds itself": (job(task("a", table="gold.a"), on=[TableUpdate(("gold.A",))]), 1),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_cannot_be_is_one_problem_with_its_line(case):
    wrong, line = ALONE[case]
    (problem,) = jobcheck.problems([wrong])
    assert (problem.file, problem.line) == ("shop.yml", line)


def test_a_job_that_can_be_has_no_problem():
    branches = job(
        task("load", ingest=Ingest(), table="bronze.a"),
        task("if", action=Condition(ConditionOp.EQUAL_TO, "{{job.parameters.m}}", "x"), depends_on=("load",)),
        task("then", sql="select 1", depends_on=("if",), outcomes={"if": "true"}),
        task("each", action=ForEach("[1, 2]", nested(sql="select $m", parameters={"m": "{{input}}"}))),
        task("web", action=RunJob("web", {"m": "x"})),
        on=[FileArrival("in"), Schedule("0 0 2 * * ?", CronSyntax.QUARTZ, "Europe/Berlin"), Periodic(60.0)],
        parameters=(Parameter("m", "x"),),
    )
    web = job(task("a", table="gold.web"), name="web", on=[TableUpdate(("bronze.a",))], parameters=branches.parameters)
    after = job(task("a"), name="after", on=[JobCompletion(("shop", "web"))])
    live = job(task("a", ingest=Ingest(), table="bronze.b"), name="live", on=[Continuous(FileArrival("b"))])
    assert jobcheck.problems([branches, web, after, live]) == []


def test_a_parameter_that_the_other_job_does_not_declare_is_named_with_the_nearest_one():
    shop = job(task("a", action=RunJob("web", {"mont": "Oct"})))
    web = job(task("a"), name="web", parameters=(Parameter("month", "Oct"),))
    assert jobcheck.problems([shop, web]) == [
        Problem(
            "shop.yml",
            10,
            "task 'a' gives job 'web' a parameter 'mont', which it does not declare",
            "did you mean 'month'?",
        )
    ]


def test_what_a_task_gives_a_job_is_held_against_its_parameters_where_it_is_no_reference():
    web = job(
        task("a"),
        name="web",
        parameters=(Parameter("month", "Oct", ("Oct", "Nov")), Parameter("day", "", required=True)),
    )
    right = job(task("a", action=RunJob("web", {"month": "Nov", "day": "{{job.start_time.iso_date}}"})))
    assert jobcheck.problems([right, web]) == []
    wrong = job(task("a", action=RunJob("web", {"month": "Dec"})))
    assert told(wrong, web) == [
        (10, "task 'a' runs job 'web': parameter 'month' cannot be 'Dec': it is none of the choices"),
        (10, "task 'a' runs job 'web': parameter 'day' needs a value"),
    ]
    nonsense = job(task("a"), name="web", parameters=(Parameter("month", "", pattern="["),))
    assert [line for line, _ in told(job(task("a", action=RunJob("web", {"month": "x"}))), nonsense)] == [1]


def test_jobs_that_start_each_other_are_named_once_whatever_starts_them():
    """Run by a task, by an end, by a table: round and round it goes all the same."""
    a = job(task("run", action=RunJob("b")), name="a", on=[TableUpdate(("gold.c",))])
    b = job(task("x"), name="b")
    c = job(task("x", table="gold.c"), name="c", on=[JobCompletion(("b",))])
    free = job(task("x"), name="free", on=[JobCompletion(("a",))])
    assert told(free, a, b, c) == [(1, "these jobs start each other in a circle: a -> b -> c -> a.")]


def test_jobs_run_jobs_three_deep_and_no_deeper():
    names = "abcde"
    chain = [job(task("run", action=RunJob(after)), name=name) for name, after in pairwise(names)]
    chain.append(job(task("x"), name="e"))
    assert told(*chain) == [(10, "task 'run' runs a job that runs others, 4 deep; 3 is the most")]
    assert told(*chain[1:]) == []
    deeper = job(task("run", action=RunJob("a")), name="top")
    assert len(told(deeper, *chain)) == 1


def test_a_problem_is_about_the_job_in_whose_lines_or_sql_it_stands():
    first = Job("first", Place("all.yml", 4), (Task("a", Place("all.yml", 6), sql="x", sql_file="a.sql"),))
    second = Job("second", Place("all.yml", 20), (Task("a", Place("all.yml", 22), sql="x", sql_file="b.sql"),))
    jobs = [second, first]

    def about(file, line):
        return jobcheck.concerned(jobs, [Problem(file, line, "wrong")])

    assert about("all.yml", 1) == set()
    assert about("all.yml", 19) == {"first"}
    assert about("all.yml", 20) == {"second"}
    assert about("b.sql", 3) == {"second"}
    assert about("other.yml", 30) == set()


def test_a_thousand_tasks_and_a_thousand_jobs_take_milliseconds():
    large = job(*(task(f"t{n}", depends_on=(f"t{n - 1}",) if n else (), table=f"gold.t{n}") for n in range(1000)))
    many = [
        job(task("a", table=f"gold.j{n}"), name=f"j{n}", on=[JobCompletion((f"j{n - 1}",))] if n else [])
        for n in range(1000)
    ]
    begin = time.process_time()
    assert jobcheck.problems([large, *many]) == []
    # A hundred times what it takes: this is about the power of n, not about the machine.
    assert time.process_time() - begin < 5
