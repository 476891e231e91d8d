import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import references
from landingd.errors import Problem, RefusedError
from landingd.model import Job, Parameter, Place, Task

CONTEXT = {"job.name": "shop", "job.run_id": "17", "job.trigger.type": "FILE_ARRIVAL"}

MONTH = Parameter("month", "Oct", ("Oct", "Nov"))
LIMIT = Parameter("limit", "")


def job(*parameters, **task_parameters):
    places = {name: Place("job.yml", 20 + n) for n, name in enumerate(task_parameters)}
    task = Task("gold", Place("job.yml", 9), parameters=task_parameters, parameter_places=places)
    return Job("shop", Place("job.yml", 1), (task,), parameters=parameters)


def told(broken):
    return [(problem.line, problem.what, problem.hint) for problem in references.problems(broken)]


def test_names_are_found_in_order_and_without_the_spaces_around_them():
    assert references.names("{{ job.name }}/{{task.name}}/{{job.name}}") == [
        "job.name",
        "task.name",
        "job.name",
    ]


@pytest.mark.parametrize("text", ["", "plain", "{job.name}", "$month", '{"a": {"b": 1}}', "a }} b"])
def test_a_text_without_references_stays_as_it_is(text):
    assert references.names(text) == []
    assert references.resolve(text, {}) == text


def test_a_reference_is_replaced_inside_of_a_text():
    assert references.resolve("{{{job.name}}}-{{job.run_id}}", CONTEXT) == "{shop}-17"


@given(st.text())
def test_a_value_that_looks_like_a_reference_is_not_looked_at_again(value):
    assert references.resolve("{{x}}", {"x": value}) == value
    assert references.resolve("{{x}}", {"x": "{{x}}" + value}) == "{{x}}" + value


def test_a_reference_without_a_value_is_an_error_and_never_left_standing():
    with pytest.raises(KeyError):
        references.resolve("{{job.nam}}", CONTEXT)


def test_a_task_gets_its_own_parameters_resolved_and_the_jobs():
    task = job(
        MONTH, label="{{job.parameters.month}} by {{task.name}} in {{job.name}}", why="{{job.trigger.type}}"
    ).tasks[0]
    assert references.task_parameters({"month": "Nov"}, task, context=CONTEXT) == {
        "label": "Nov by gold in shop",
        "why": "FILE_ARRIVAL",
        "month": "Nov",
    }


@pytest.mark.parametrize("name", ["month", "Month"])
def test_a_job_parameter_wins_over_a_task_parameter_of_the_same_key_whatever_its_case(name):
    task = job(MONTH, **{name: "task's"}).tasks[0]
    assert references.task_parameters({"month": "job's"}, task, context=CONTEXT) == {"month": "job's"}


def test_what_was_given_overlays_the_defaults():
    assert references.choose_parameters(job(MONTH, LIMIT), {}) == {"month": "Oct", "limit": ""}
    assert references.choose_parameters(job(MONTH, LIMIT), {"limit": "5"}) == {"month": "Oct", "limit": "5"}


@pytest.mark.parametrize(
    ("given_values", "what", "hint"),
    [
        ({"month": "Dec"}, "parameter 'month' cannot be 'Dec'", "the choices are Oct, Nov"),
        ({"monht": "Oct"}, "job 'shop' has no parameter 'monht'", "did you mean 'month'?"),
        ({"zzz": ""}, "job 'shop' has no parameter 'zzz'", "the parameters of 'shop' are month, limit"),
    ],
)
def test_a_value_that_was_not_foreseen_is_refused_with_what_can_be_given(given_values, what, hint):
    with pytest.raises(RefusedError) as refused:
        references.choose_parameters(job(MONTH, LIMIT), given_values)
    assert (refused.value.what, refused.value.hint) == (what, hint)


def test_a_job_without_parameters_says_so():
    with pytest.raises(RefusedError, match="the parameters of 'shop' are none"):
        references.choose_parameters(job(), {"month": "Oct"})


def test_references_that_can_be_resolved_are_no_problem():
    sound = job(
        MONTH,
        a="{{job.name}} {{job.run_id}} {{job.trigger.type}}",
        b="{{ job.parameters.month }}{{task.name}}",
    )
    assert references.problems(sound) == []
    references.task_parameters({"month": "Oct"}, sound.tasks[0], context=CONTEXT)


def test_every_reference_that_cannot_be_resolved_is_told_with_its_line():
    broken = job(
        MONTH,
        a="{{job.nam}}",
        b="{{job.parameters.moth}} and {{tasks.silver.values.rows}}",
        c="{{job.name",
    )
    everything = "the references are job.name, job.run_id, job.trigger.type, task.name, job.parameters.month"
    assert told(broken) == [
        (20, "'{{job.nam}}' is no reference that landingd knows.", "did you mean 'job.name'?"),
        (
            21,
            "'{{job.parameters.moth}}' refers to a parameter that this job does not declare.",
            "did you mean 'job.parameters.month'?",
        ),
        (21, "'{{tasks.silver.values.rows}}' is no reference that landingd knows.", everything),
        (
            22,
            "'{{job.name' opens a reference with '{{' and does not close it.",
            "write {{job.name}}, for example",
        ),
    ]


def test_a_parameter_built_without_a_place_is_told_at_the_line_of_its_task():
    task = Task("gold", Place("job.yml", 9), parameters={"a": "{{b}}"})
    (problem,) = references.problems(Job("shop", Place("job.yml", 1), (task,)))
    assert isinstance(problem, Problem)
    assert problem.line == 9


@given(st.text(alphabet="{}ab. "))
def test_what_is_no_problem_resolves(text):
    sound = job(a=text)
    if not references.problems(sound):
        references.task_parameters({}, sound.tasks[0], context=CONTEXT)
