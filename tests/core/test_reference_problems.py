"""References that could not be resolved in a run are found before there is one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import references
from landingd.core.reference_names import TEMPLATES
from landingd.core.reference_problems import problems
from landingd.core.references import RunContext, TaskContext
from landingd.errors import Problem
from landingd.model import (
    Condition,
    ConditionOp,
    Continuous,
    CronSyntax,
    FileArrival,
    ForEach,
    Ingest,
    Job,
    JobCompletion,
    Notebook,
    Parameter,
    Periodic,
    Place,
    PythonCall,
    RunJob,
    Schedule,
    Script,
    TableUpdate,
    Task,
    Trigger,
)

MONTH = Parameter("month", "Oct", ("Oct", "Nov"))
FILES = Trigger(FileArrival("in"))
DAILY = Trigger(Schedule("0 2 * * *", CronSyntax.UNIX))
TABLES = Trigger(TableUpdate(("silver.events",)))


def place(line=9):
    return Place("job.yml", line)


def task(key="gold", *after, **more):
    return Task(key, place(), after, **more)


def job(*tasks, parameters=(MONTH,), triggers=()):
    return Job("shop", place(1), tasks, triggers=triggers, parameters=parameters)


def with_parameters(*before, after=(), triggers=(), **own):
    places = {name: place(20 + n) for n, name in enumerate(own)}
    last = Task("gold", place(), after, parameters=own, parameter_places=places)
    return job(*before, last, triggers=triggers)


def told(broken):
    return [(problem.line, problem.what, problem.hint) for problem in problems(broken)]


def whats(broken):
    return [problem.what for problem in problems(broken)]


SCRIPT = task("silver", sql="SELECT 1 AS n")


def test_references_that_can_be_resolved_are_no_problem():
    sound = with_parameters(
        SCRIPT,
        after=("silver",),
        triggers=(FILES, DAILY, TABLES),
        a="{{job.name}} {{job.run_id}} {{job.trigger.type}} {{ job.parameters.month }}{{task.name}}",
        b="{{tasks.silver.values.n}} {{tasks.silver.output.first_row.n}} {{tasks.silver.result_state}}",
        c="{{job.trigger.file_arrival.files}} {{job.trigger.time.iso_date}}",
        d="{{job.trigger.table_update.silver.events.version}} {{job.trigger.table_update.updated_tables}}",
    )
    assert told(sound) == []


def test_every_reference_that_cannot_be_resolved_is_told_with_its_line():
    broken = with_parameters(
        a="{{job.nam}}",
        b="{{job.parameters.moth}} and {{tasks.silver.values.rows}}",
        c="{{job.name",
        d="{{run_id}}",
        e="{{parameters.month}}",
    )
    assert told(broken) == [
        (20, "'{{job.nam}}' is no reference that landingd knows.", "did you mean 'job.name'?"),
        (
            21,
            "'{{job.parameters.moth}}' refers to a parameter that this job does not declare.",
            "did you mean 'job.parameters.month'?",
        ),
        (
            21,
            "'{{tasks.silver.values.rows}}' refers to a task 'silver', which no task in this job is called.",
            "the tasks are gold",
        ),
        (22, "'{{job.name' opens a reference with '{{' and does not close it.", "write {{job.name}}, for example"),
        (23, "'{{run_id}}' is written in another way now.", "write {{task.run_id}}"),
        (24, "'{{parameters.month}}' is no reference that landingd knows.", "did you mean 'job.parameters.month'?"),
    ]


def test_a_parameter_built_without_a_place_is_told_at_the_line_of_its_task():
    (problem,) = problems(job(task(parameters={"a": "{{b}}"})))
    assert isinstance(problem, Problem)
    assert problem.line == 9


@pytest.mark.parametrize(
    "action",
    [
        Condition(ConditionOp.EQUAL_TO, "{{b}}", "1"),
        Condition(ConditionOp.EQUAL_TO, "1", "{{b}}"),
        ForEach("{{b}}", task("one")),
        ForEach("[]", task("one", parameters={"x": "{{b}}"})),
        ForEach("[]", task("one", action=Script("s.py", "s.py", ("{{b}}",)))),
        RunJob("other", {"x": "{{b}}"}),
        Script("s.py", "s.py", ("x", "{{b}}")),
        Notebook("n.ipynb", "n.ipynb", {"x": "{{b}}"}),
    ],
)
def test_a_reference_is_looked_for_wherever_one_may_stand(action):
    assert whats(job(task(action=action))) == ["'{{b}}' is no reference that landingd knows."]


def test_a_python_task_has_its_references_in_its_parameters():
    called = task(action=PythonCall("p.py", "p.py"), parameters={"x": "{{b}}"})
    assert whats(job(called)) == ["'{{b}}' is no reference that landingd knows."]


# --- tasks before this one --------------------------------------------------------------------------------


def test_a_task_refers_to_those_before_it_directly_or_not_and_to_no_others():
    chain = (SCRIPT, task("middle", "silver"), task("beside", "silver"))
    text = "{{tasks.silver.run_id}} {{tasks.middle.run_id}} {{tasks.beside.run_id}} {{tasks.gold.run_id}}"
    assert told(with_parameters(*chain, after=("middle",), a=text)) == [
        (
            20,
            "'{{tasks.beside.run_id}}' refers to the task 'beside', which does not run before 'gold'.",
            "add `depends_on: [{task_key: beside}]`",
        ),
        (20, "'{{tasks.gold.run_id}}' refers to the task 'gold', which does not run before 'gold'.", None),
    ]


def test_inside_a_loop_the_tasks_before_the_loop_are_before_the_task():
    loop = task(
        "loop", "silver", action=ForEach("[1]", task("one", parameters={"x": "{{tasks.silver.values.n}} {{input}}"}))
    )
    assert told(job(SCRIPT, loop)) == []


@pytest.mark.parametrize(
    ("upstream", "text", "what"),
    [
        (
            task("up", action=ForEach("[1]", task("one"))),
            "{{tasks.up.values.x}}",
            "asks a loop: each iteration of 'up'",
        ),
        (task("up", action=ForEach("[1]", task("one"))), "{{tasks.up.output.rows}}", "asks a loop"),
        (
            task("up", action=Condition(ConditionOp.EQUAL_TO, "1", "1")),
            "{{tasks.up.values.x}}",
            "'up', which sets none",
        ),
        (task("up", action=RunJob("other")), "{{tasks.up.values.x}}", "'up', which sets none"),
        (task("up", ingest=Ingest(), table="bronze.t"), "{{tasks.up.values.x}}", "'up', which sets none"),
        (task("up", sql="SELECT 1", table="gold.t"), "{{tasks.up.values.n}}", "'up', which sets none"),
        (task("up", ingest=Ingest(), table="bronze.t"), "{{tasks.up.output.rows}}", "'up', which returns none"),
        (task("up", sql="SELECT 1", table="gold.t"), "{{tasks.up.output.first_row.n}}", "'up', which returns none"),
        (task("up", action=PythonCall("p.py", "p.py")), "{{tasks.up.output.rows}}", "'up', which returns none"),
    ],
)
def test_what_a_task_of_that_kind_never_leaves_is_a_problem(upstream, text, what):
    (found,) = whats(with_parameters(upstream, after=("up",), a=text))
    assert what in found


@pytest.mark.parametrize("kind", ["result_state", "run_id", "error_code", "execution_count"])
def test_how_a_loop_or_a_condition_ended_can_be_asked(kind):
    before = (
        task("loop", action=ForEach("[1]", task("one"))),
        task("cond", action=Condition(ConditionOp.EQUAL_TO, "1", "1")),
    )
    text = f"{{{{tasks.loop.{kind}}}}} {{{{tasks.cond.{kind}}}}}"
    assert told(with_parameters(*before, after=("loop", "cond"), a=text)) == []


# --- where a reference stands -----------------------------------------------------------------------------


def test_an_input_is_known_inside_a_loop_only():
    (what,) = whats(with_parameters(a="{{input.city}}"))
    assert what == "'{{input.city}}' has a value only in the task inside a for_each_task."
    assert whats(job(task(action=ForEach("{{input}}", task("one"))))) == [
        "'{{input}}' has a value only in the task inside a for_each_task."
    ]


def test_the_path_of_a_notebook_is_known_to_a_notebook():
    notebook = Notebook("n.ipynb", "n.ipynb", {"p": "{{task.notebook_path}}"})
    assert told(job(task(action=notebook))) == []
    assert told(job(task(action=ForEach("[]", task("one", action=notebook))))) == []
    assert whats(with_parameters(a="{{task.notebook_path}}")) == [
        "'{{task.notebook_path}}' has a value only in a notebook_task."
    ]


@pytest.mark.parametrize("name", ["task.name", "tasks.gold.values.x", "input", "job.parameters.month"])
def test_a_job_parameters_default_knows_nothing_of_tasks(name):
    text = f"{{{{{name}}}}}"
    found = job(task(), parameters=(MONTH, Parameter("p", text)))
    assert told(found) == [
        (
            1,
            f"'{text}' cannot stand in a job parameter's default, which is the same for all tasks.",
            "refer to {{job.start_time.iso_date}} or {{job.trigger.type}}, for example",
        )
    ]


def test_a_wrong_reference_in_a_default_is_told_where_the_parameter_stands():
    found = job(task(), parameters=(Parameter("p", "{{job.nam}}", place=place(7)),))
    assert [line for line, _, _ in told(found)] == [7]


def test_a_job_parameters_default_may_refer_to_the_run():
    assert told(job(task(), parameters=(Parameter("p", "{{job.start_time.iso_date}} {{job.run_id}}"),))) == []


# --- what starts the job ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "with_it", "what"),
    [
        ("{{job.trigger.time.iso_date}}", DAILY, "is the time of a schedule, and this job has none."),
        ("{{job.trigger.time.hour}}", Trigger(Periodic(60)), "is the time of a schedule, and this job has none."),
        ("{{job.trigger.file_arrival.file}}", FILES, "is about files, and no trigger of this job brings any."),
        (
            "{{job.trigger.file_arrival.count}}",
            Trigger(Continuous(FileArrival("in"))),
            "is about files, and no trigger of this job brings any.",
        ),
        (
            "{{job.trigger.table_update.updated_tables}}",
            TABLES,
            "is about tables, and no trigger of this job watches any.",
        ),
        (
            "{{job.trigger.table_update.Silver.events.version}}",
            TABLES,
            "is about tables, and no trigger of this job watches any.",
        ),
    ],
)
def test_what_a_trigger_says_needs_a_trigger_that_says_it(text, with_it, what):
    without = Trigger(JobCompletion(("other",)))
    assert whats(with_parameters(triggers=(without,), a=text)) == [f"'{text}' {what}"]
    assert told(with_parameters(triggers=(without, with_it), a=text)) == []


def test_only_tables_that_a_trigger_watches_have_versions_in_a_run():
    broken = with_parameters(triggers=(TABLES,), a="{{job.trigger.table_update.silver.event.version}}")
    assert told(broken) == [
        (
            20,
            (
                "'{{job.trigger.table_update.silver.event.version}}' refers to silver.event, "
                "which no trigger of this job watches."
            ),
            "the tables are silver.events",
        )
    ]


def test_a_backfills_date_stands_in_a_job_that_nothing_else_starts():
    assert told(with_parameters(a="{{backfill.iso_date}}")) == []
    (what,) = whats(with_parameters(triggers=(DAILY,), a="{{backfill.iso_date}}"))
    assert what == "'{{backfill.iso_date}}' has a value only in a backfill, and this job's triggers start runs too."


# --- all together -----------------------------------------------------------------------------------------

words = st.sampled_from(
    [*TEMPLATES, "job.parameters.month", "job.start_time.day", "tasks.silver.result_state", "input.a"]
)


@given(st.lists(words | st.text("{}ab. `", max_size=6), max_size=4))
def test_what_is_no_problem_resolves_in_a_run_that_has_what_it_refers_to(pieces):
    text = "".join(f"{{{{{piece}}}}}" for piece in pieces)
    sound = with_parameters(SCRIPT, after=("silver",), a=text)
    if problems(sound):
        return
    upstream = {"silver": references.UpstreamContext("success", {"<name>": 1}, ({"<name>": 1},))}
    info = {"backfill": {"iso_date": "2026-11-05", "iso_datetime": "2026-11-05T00:00:00.000Z"}}
    run = RunContext("shop", 1, 0, {"month": "Oct"}, "ONE_TIME", None, info, 0.0)
    references.task_parameters(sound, sound.tasks[-1], run, TaskContext("gold", 1, upstream=upstream))


def test_a_thousand_tasks_that_all_refer_to_the_first_are_checked_at_once():
    first = task("t0", sql="SELECT 1 AS n")
    rest = [task(f"t{n}", f"t{n - 1}", parameters={"x": "{{tasks.t0.values.n}}"}) for n in range(1, 1000)]
    began = time.process_time()
    assert problems(job(first, *rest)) == []
    assert time.process_time() - began < 5  # a walk over the job for each task is 0.2 s; one for each pair is minutes
