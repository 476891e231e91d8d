"""What `{{...}}` stands for in a run."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import references
from landingd.core.reference_names import TEMPLATES, Reference, Unknown, read, texts
from landingd.core.references import RunContext, TaskContext, UnresolvedError, UpstreamContext
from landingd.errors import RefusedError
from landingd.model import (
    Condition,
    ConditionOp,
    ForEach,
    Job,
    Notebook,
    Parameter,
    Place,
    PythonCall,
    RunJob,
    Script,
    Task,
    ValueType,
)

STARTED_S = 1793865789.25  # 2026-11-05T08:03:09.250Z, a Thursday

RUN = RunContext(
    job="shop",
    run_id=17,
    repair_count=2,
    parameters={"month": "Nov"},
    trigger_type="FILE_ARRIVAL",
    trigger_name="file_arrival",
    info={
        "time_s": STARTED_S - 189.25,
        "file_arrival": {"location": "/landing/in"},
        "table_update": {
            "updated_tables": ["silver.events"],
            "versions": {"silver.events": {"version": 4, "changed_at_s": STARTED_S}},
        },
        "backfill": {"iso_date": "2026-10-01", "iso_datetime": "2026-10-01T00:00:00.000Z"},
    },
    started_s=STARTED_S,
    files=("/landing/in/a.csv", "/landing/in/b.csv"),
)
SILVER = UpstreamContext(
    "success",
    {"n": 3, "ok": True, "who": "Ada", "list": [1, "ü"], "none": None},
    ({"city": "Wien", "n": 1}, {"city": "Graz", "n": 2}),
    execution_count=2,
)
TASK = TaskContext(
    "gold",
    3,
    {"city": "Wien", "where": {"lat": 48.2}},
    {
        "silver": SILVER,
        "my task": UpstreamContext("FAILED", error="no such table"),
        "empty": UpstreamContext("EXCLUDED"),
        "many": UpstreamContext("success", {"a": 1}, ({"a": 1}, {"a": 2}), rows_cut=True),
        "big": UpstreamContext("success", rows_cut=True),
    },
    "load.ipynb",
)


def job(*parameters, task=None):
    return Job("shop", Place("job.yml", 1), (task or Task("gold", Place("job.yml", 9)),), parameters=parameters)


def unresolved(text, run=RUN, task=TASK):
    with pytest.raises(UnresolvedError) as error:
        references.resolve(text, run, task)
    return error.value.what


# --- values -----------------------------------------------------------------------------------------------

VALUES = {
    "job.id": "shop",
    "job.name": "shop",
    "job.run_id": "17",
    "job.repair_count": "2",
    "job.parameters.month": "Nov",
    "job.start_time.iso_date": "2026-11-05",
    "job.start_time.iso_datetime": "2026-11-05T08:03:09.250Z",
    "job.start_time.is_weekday": "true",
    "job.start_time.timestamp_ms": "1793865789250",
    "job.trigger.type": "FILE_ARRIVAL",
    "job.trigger.name": "file_arrival",
    "job.trigger.time.iso_datetime": "2026-11-05T08:00:00.000Z",
    "job.trigger.file_arrival.location": "/landing/in",
    "job.trigger.file_arrival.files": '["/landing/in/a.csv","/landing/in/b.csv"]',
    "job.trigger.file_arrival.file": "/landing/in/a.csv",
    "job.trigger.file_arrival.count": "2",
    "job.trigger.table_update.updated_tables": '["silver.events"]',
    "job.trigger.table_update.silver.events.version": "4",
    "job.trigger.table_update.`silver.events`.version": "4",
    "job.trigger.table_update.Silver.Events.commit_timestamp.minute": "3",
    "task.name": "gold",
    "task.run_id": "17.gold.3",
    "task.execution_count": "3",
    "task.notebook_path": "load.ipynb",
    "tasks.silver.values.n": "3",
    "tasks.silver.values.ok": "true",
    "tasks.silver.values.who": "Ada",
    "tasks.silver.values.list": '[1,"ü"]',
    "tasks.silver.values.none": "null",
    "tasks.silver.result_state": "success",
    "tasks.silver.error_code": "",
    "tasks.`my task`.result_state": "failed",
    "tasks.`my task`.error_code": "RunExecutionError",
    "tasks.silver.run_id": "17.silver.2",
    "tasks.silver.execution_count": "2",
    "tasks.many.output.first_row.a": "1",
    "tasks.silver.output.rows": '[{"city":"Wien","n":1},{"city":"Graz","n":2}]',
    "tasks.silver.output.first_row": '{"city":"Wien","n":1}',
    "tasks.silver.output.first_row.city": "Wien",
    "tasks.silver.output.first_row.CITY": "Wien",
    "input": '{"city":"Wien","where":{"lat":48.2}}',
    "input.city": "Wien",
    "input.where.lat": "48.2",
    "backfill.iso_date": "2026-10-01",
    "backfill.iso_datetime": "2026-10-01T00:00:00.000Z",
}


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_each_reference_stands_for_its_value_as_text(name, value):
    assert references.resolve(f"{{{{{name}}}}}", RUN, TASK) == value
    assert references.resolve(f"a {{{{ {name} }}}} b", RUN, TASK) == f"a {value} b"


def test_the_table_above_leaves_no_reference_out():
    followed = {reference.template for reference in map(read, VALUES) if isinstance(reference, Reference)}
    assert followed == set(TEMPLATES)


@pytest.mark.parametrize("text", ["", "plain", "{job.name}", "$month", '{"a": {"b": 1}}', "a }} b"])
def test_a_text_without_references_stays_as_it_is(text):
    assert references.names(text) == []
    assert references.resolve(text, RUN) == text


def test_a_reference_is_replaced_inside_of_a_text():
    assert references.resolve("{{{job.name}}}-{{job.run_id}}", RUN) == "{shop}-17"


def test_names_are_found_in_order_and_without_the_spaces_around_them():
    assert references.names("{{ job.name }}/{{task.name}}/{{job.name}}") == ["job.name", "task.name", "job.name"]


@given(st.text())
def test_a_value_that_looks_like_a_reference_is_not_looked_at_again(value):
    run = replace(RUN, parameters={"month": "{{job.name}}" + value})
    assert references.resolve("{{job.parameters.month}}", run) == "{{job.name}}" + value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(json_values)
def test_a_task_value_is_itself_where_it_is_text_and_its_json_where_it_is_not(value):
    task = replace(TASK, upstream={"silver": UpstreamContext("success", {"v": value})})
    found = references.resolve("{{tasks.silver.values.v}}", RUN, task)
    assert found == value if isinstance(value, str) else json.loads(found) == value


def test_files_are_asked_for_only_where_they_are_referred_to():
    asked = []
    run = replace(RUN, files=lambda: asked.append(1) or ["/landing/in/a.csv"])
    assert references.resolve("{{job.name}}", run) == "shop"
    assert asked == []
    assert references.resolve("{{job.trigger.file_arrival.count}}", run) == "1"


def test_the_time_of_a_run_that_was_not_scheduled_is_when_it_began():
    assert references.resolve("{{job.trigger.time.iso_date}}", replace(RUN, info={})) == "2026-11-05"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{job.parameters.mon}}", "'{{job.parameters.mon}}' has no value: the run has no such parameter"),
        (
            "{{tasks.silver.values.x}}",
            (
                "'{{tasks.silver.values.x}}' has no value: the task 'silver' did not set it; "
                "its values are n, ok, who, list, none"
            ),
        ),
        (
            "{{tasks.empty.values.x}}",
            (
                "'{{tasks.empty.values.x}}' has no value: the task 'empty' did not set it (it ended excluded); "
                "its values are none"
            ),
        ),
        (
            "{{tasks.other.result_state}}",
            "'{{tasks.other.result_state}}' has no value: the task 'other' is not part of this run",
        ),
        (
            "{{tasks.empty.output.first_row}}",
            "'{{tasks.empty.output.first_row}}' has no value: the task 'empty' returned no rows",
        ),
        (
            "{{tasks.silver.output.first_row.x}}",
            "'{{tasks.silver.output.first_row.x}}' has no value: the columns of 'silver' are city, n",
        ),
        (
            "{{tasks.many.output.rows}}",
            (
                "'{{tasks.many.output.rows}}' has no value: the task 'many' returned more than 1,000 rows or 48 KiB, "
                "the most that is kept of an output"
            ),
        ),
        (
            "{{tasks.big.values.a}}",
            "'{{tasks.big.values.a}}' has no value: the first row of the task 'big' is larger than 48 KiB",
        ),
        (
            "{{tasks.big.output.first_row.a}}",
            "'{{tasks.big.output.first_row.a}}' has no value: the first row of the task 'big' is larger than 48 KiB",
        ),
        ("{{input.where.lon}}", "'{{input.where.lon}}' has no value: the input has no field 'where.lon'"),
        ("{{input.city.x}}", "'{{input.city.x}}' has no value: the input has no field 'city.x'"),
        ("{{job.nam}}", "'{{job.nam}}' is no reference that landingd knows"),
    ],
)
def test_a_reference_without_a_value_is_an_error_that_names_it(text, what):
    assert unresolved(text) == what


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{job.trigger.file_arrival.location}}", "no file arrival has started this run"),
        ("{{job.trigger.file_arrival.file}}", "the run was given no files"),
        ("{{job.trigger.table_update.silver.events.version}}", "no update of silver.events has started this run"),
        ("{{backfill.iso_date}}", "this is no run of a backfill over dates"),
    ],
)
def test_what_no_trigger_has_said_has_no_value(text, why):
    assert unresolved(text, replace(RUN, info={}, files=())).endswith(why)


def test_what_is_about_a_task_has_no_value_for_the_whole_run():
    assert unresolved("{{task.name}}", task=None).endswith("it is about a task, and this is about the whole run")
    assert unresolved("{{input}}", task=replace(TASK, input=references.NO_INPUT)).endswith("this task is not in a loop")
    assert repr(references.NO_INPUT) == "NO_INPUT"


def test_null_is_an_input_like_any_other():
    assert references.resolve("{{input}}", RUN, replace(TASK, input=None)) == "null"


# --- one attempt ------------------------------------------------------------------------------------------

MONTH = Parameter("month", "Oct", ("Oct", "Nov"))


def parameters_of(own, *declared, run=RUN):
    task = Task("gold", Place("job.yml", 9), parameters=own)
    return references.task_parameters(job(*declared, task=task), task, run, TASK)


def test_a_task_gets_its_own_parameters_resolved_and_the_jobs():
    own = {"label": "{{job.parameters.month}} by {{task.name}} in {{job.name}}", "n": "{{tasks.silver.values.n}}"}
    assert parameters_of(own, MONTH) == {"label": "Nov by gold in shop", "n": "3", "month": "Nov"}


@pytest.mark.parametrize("name", ["month", "Month"])
def test_a_job_parameter_wins_over_a_task_parameter_of_the_same_key_whatever_its_case(name):
    assert parameters_of({name: "{{tasks.other.values.x}}"}, MONTH) == {"month": "Nov"}


def test_a_default_that_holds_references_is_resolved_once_the_run_has_started():
    day = Parameter("day", "{{job.start_time.iso_date}}", type=ValueType.DATE)
    run = replace(RUN, parameters={"day": "{{job.start_time.iso_date}}"})
    assert references.in_run(job(day), run).parameters == {"day": "2026-11-05"}
    assert parameters_of({"of": "{{job.parameters.day}}"}, day, run=run) == {"of": "2026-11-05", "day": "2026-11-05"}


def test_what_somebody_gave_is_text_whatever_it_looks_like():
    run = replace(RUN, parameters={"note": "{{job.run_id}}"})
    assert parameters_of({}, Parameter("note", "{{job.name}}"), run=run) == {"note": "{{job.run_id}}"}


def test_a_default_that_turns_out_to_be_none_of_what_the_parameter_may_be_is_refused():
    month = Parameter("month", "{{job.start_time.month}}", ("1", "2"))
    with pytest.raises(RefusedError, match="'month' cannot be '11': it is none of the choices"):
        references.in_run(job(month), replace(RUN, parameters={"month": "{{job.start_time.month}}"}))


@pytest.mark.parametrize(
    ("action", "resolved"),
    [
        (
            Condition(ConditionOp.EQUAL_TO, "{{tasks.silver.values.n}}", "{{job.run_id}}"),
            Condition(ConditionOp.EQUAL_TO, "3", "17"),
        ),
        (RunJob("other", {"m": "{{job.parameters.month}}"}), RunJob("other", {"m": "Nov"})),
        (Script("s.py", "s.py", ("--m", "{{job.name}}")), Script("s.py", "s.py", ("--m", "shop"))),
        (
            Notebook("n.ipynb", "n.ipynb", {"m": "{{job.name}}", "Month": "{{input.nothing}}"}),
            Notebook("n.ipynb", "n.ipynb", {"m": "shop", "month": "Nov"}),
        ),
        (PythonCall("p.py", "p.py"), PythonCall("p.py", "p.py")),
    ],
)
def test_what_a_task_does_has_its_references_resolved(action, resolved):
    assert references.resolve_action(job(MONTH), action, RUN, TASK) == resolved


def test_of_a_loop_the_inputs_are_resolved_and_the_nested_task_keeps_its_references():
    nested = Task("one", Place("job.yml", 12), parameters={"city": "{{input.city}}"})
    loop = ForEach("{{tasks.silver.output.rows}}", nested)
    resolved = references.resolve_action(job(MONTH), loop, RUN, TASK)
    assert json.loads(resolved.inputs) == list(SILVER.rows)
    assert resolved.task == nested
    assert texts(loop) == ["{{tasks.silver.output.rows}}"]


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ("run_id", "is written in another way now", "write {{task.run_id}}"),
        ("start_date", "is written in another way now", "write {{job.start_time.iso_date}}"),
        ("task_key", "is written in another way now", "write {{task.name}}"),
        (
            "workspace.url",
            "means nothing here: there is one machine and no workspace",
            "name the thing itself, or a job parameter that holds it",
        ),
        (
            "tasks.q.output.alert_state",
            "means nothing here: a task has no SQL alert",
            "refer to .output.first_row.<column>",
        ),
        ("job.nam", "is no reference that landingd knows", "did you mean 'job.name'?"),
        ("job.start_time.isodate", "is no reference that landingd knows", "did you mean 'job.start_time.iso_date'?"),
        ("tasks.silver.value.n", "is no reference that landingd knows", "did you mean 'tasks.silver.values.n'?"),
        (
            "q",
            "is no reference that landingd knows",
            "a reference begins with job, task, tasks, input, backfill",
        ),
        (
            "tasks.my task.values.x",
            "is no reference: it is not names with dots between them",
            "put a name with spaces or dots into backticks: {{tasks.`my task`.values.x}}",
        ),
    ],
)
def test_what_is_no_reference_is_told_with_what_was_meant(text, why, hint):
    assert read(text) == Unknown(text, why, hint)


@pytest.mark.parametrize("text", ["", ".", "job.", ".name", "job..name", "`job", "job`.name", "`a`b", "job name"])
def test_what_is_not_names_with_dots_between_them_is_no_reference(text):
    assert isinstance(read(text), Unknown)


names = st.text("abz_-09 .", min_size=1, max_size=6)


@given(names, names)
def test_a_name_in_backticks_may_be_anything(task, value):
    found = read(f"tasks.`{task}`.values.`{value}`")
    assert found.template == "tasks.<task>.values.<name>"
    assert found.names == (task, value)


@given(st.lists(names, min_size=1, max_size=4))
def test_an_input_has_as_many_fields_as_are_named(fields):
    found = read("input." + ".".join(f"`{field}`" for field in fields))
    assert found.names == tuple(fields)


@given(st.text(alphabet="{}ab.` ", max_size=20))
def test_a_text_that_names_something_is_never_passed_on_as_it_is(text):
    if references.names(text):
        assert unresolved(text).startswith("'{{")
    else:
        assert references.resolve(text, RUN, TASK) == text
