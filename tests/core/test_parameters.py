"""What a parameter may be, and how a value that it may not be is refused."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import parameters
from landingd.errors import RefusedError
from landingd.model import FileArrival, Job, Parameter, Place, Trigger, ValueType, Widget

MONTH = Parameter("month", "Oct", ("Oct", "Nov"), Widget.DROPDOWN)
LIMIT = Parameter("limit", "")
CITY = Parameter("city", "Wien", ("Wien", "Graz"), Widget.COMBOBOX)
SIZES = Parameter("sizes", "", ("S", "M", "L"), Widget.MULTISELECT)
COUNT = Parameter("count", "5", type=ValueType.INTEGER, min=1, max=9)
SHARE = Parameter("share", "0.5", type=ValueType.NUMBER, min=0)
CODE = Parameter("code", "A1", pattern="[A-Z][0-9]")


def job(*declared, triggers=()):
    return Job("shop", Place("job.yml", 1), (), parameters=declared, triggers=triggers)


def typed(type_, **more):
    return Parameter("p", "", type=type_, **more)


def refusal(parameter, value):
    with pytest.raises(RefusedError) as refused:
        parameters.check(parameter, value)
    return refused.value.what, refused.value.hint


def told(*declared, triggers=()):
    return [(problem.what, problem.hint) for problem in parameters.problems(job(*declared, triggers=triggers))]


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "sound", "wrong"),
    [
        (MONTH, ["Oct", "Nov"], ["Dec", "", "oct"]),
        (Parameter("month", "Oct", ("Oct", "Nov")), ["Nov"], ["Dec"]),
        (CITY, ["Wien", "Linz", ""], []),
        (SIZES, ["", "S", "L,S", "S,M,L"], ["X", "S,X", "S, M", "S,S", "S,", ","]),
        (typed(ValueType.STRING), ["", "anything", "{{"], []),
        (
            typed(ValueType.INTEGER),
            ["", "7", "-7", "+7", "007", "9" * 400],
            ["7.0", "1e3", "x", "1_0", " 7", "\u0667", "9" * 401],
        ),
        (typed(ValueType.NUMBER), ["7", "-.5", "1.", "1e3", "1E-3"], ["nan", "inf", "1e999", "0x1", "1,5", ".", "--1"]),
        (typed(ValueType.BOOLEAN), ["true", "false", ""], ["True", "1", "yes"]),
        (typed(ValueType.DATE), ["2024-02-29"], ["2026-02-29", "2026-11-05T08:00", "today"]),
        (
            typed(ValueType.TIMESTAMP),
            ["2026-11-05T08:00:00Z", "2026-11-05 08:00", "2026-11-05"],
            ["08:00", "2026-11-05T25:00"],
        ),
        (COUNT, ["1", "9"], ["0", "10", "-1"]),
        (SHARE, ["0", "1e300"], ["-0.1"]),
        (CODE, ["B2", ""], ["B22", "b2", "xB2"]),
        (Parameter("code", "", required=True), ["x"], [""]),
        (
            Parameter("days", "", ("1", "2"), Widget.MULTISELECT, ValueType.INTEGER, required=True),
            ["1", "2,1"],
            ["", "3"],
        ),
    ],
)
def test_a_value_is_held_against_all_that_the_parameter_says(parameter, sound, wrong):
    assert [value for value in sound if parameters.fault(parameter, value)] == []
    assert [value for value in wrong if not parameters.fault(parameter, value)] == []


@pytest.mark.parametrize(
    ("parameter", "value", "what", "hint"),
    [
        (MONTH, "Dec", "parameter 'month' cannot be 'Dec': it is none of the choices", "the choices are Oct, Nov"),
        (COUNT, "12", "parameter 'count' cannot be '12': it is more than 9", "a whole number from 1 up to 9"),
        (
            COUNT,
            "x",
            "parameter 'count' cannot be 'x': it is not a whole number, such as 7",
            "a whole number from 1 up to 9",
        ),
        (SHARE, "-1", "parameter 'share' cannot be '-1': it is less than 0", "a number from 0"),
        (CODE, "b", "parameter 'code' cannot be 'b': it does not match '[A-Z][0-9]'", "text that matches [A-Z][0-9]"),
        (
            SIZES,
            "S,X",
            "parameter 'sizes' cannot be 'S,X': 'X' is none of the choices",
            "with commas between them, of S, M, L",
        ),
        (SIZES, "S,S", "parameter 'sizes' cannot be 'S,S': 'S' is there twice", None),
        (
            Parameter("day", "", type=ValueType.DATE, required=True),
            "",
            "parameter 'day' needs a value",
            "a date, such as 2026-11-05",
        ),
    ],
)
def test_a_refusal_is_one_line_with_the_parameter_the_value_and_why(parameter, value, what, hint):
    assert refusal(parameter, value) == (what, hint)
    assert "\n" not in what


@given(st.integers(-(10**20), 10**20), st.integers(-(10**18), 10**18))
def test_a_whole_number_is_compared_as_one_however_large_it_is(number, limit):
    at_least = typed(ValueType.INTEGER, min=float(limit))
    assert (parameters.fault(at_least, str(number)) is None) == (number >= int(float(limit)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_can_be_written_is_one(number):
    assert parameters.fault(typed(ValueType.NUMBER), repr(number)) is None


@given(st.text(), st.sampled_from(ValueType), st.sampled_from(Widget))
def test_whatever_somebody_types_is_taken_or_refused_in_a_sentence(text, type_, widget):
    parameter = Parameter("p", "", ("1", "true"), widget, type_, min=0.0, max=5.0)
    found = parameters.fault(parameter, text)
    assert found is None or found[0].startswith("parameter 'p' cannot be ")


@given(st.lists(st.sampled_from(["S", "M", "L"]), unique=True))
def test_any_selection_of_the_choices_is_a_multiselect(chosen):
    assert parameters.fault(SIZES, ",".join(chosen)) is None


# --- one run ----------------------------------------------------------------------------------------------


def test_what_was_given_overlays_the_defaults():
    assert parameters.choose_parameters(job(MONTH, LIMIT), {}) == {"month": "Oct", "limit": ""}
    assert parameters.choose_parameters(job(MONTH, LIMIT), {"limit": "5"}) == {"month": "Oct", "limit": "5"}


@pytest.mark.parametrize(
    ("given_values", "what", "hint"),
    [
        ({"month": "Dec"}, "parameter 'month' cannot be 'Dec': it is none of the choices", "the choices are Oct, Nov"),
        ({"monht": "Oct"}, "job 'shop' has no parameter 'monht'", "did you mean 'month'?"),
        ({"zzz": ""}, "job 'shop' has no parameter 'zzz'", "the parameters of 'shop' are month, limit"),
    ],
)
def test_a_value_that_was_not_foreseen_is_refused_with_what_can_be_given(given_values, what, hint):
    with pytest.raises(RefusedError) as refused:
        parameters.choose_parameters(job(MONTH, LIMIT), given_values)
    assert (refused.value.what, refused.value.hint) == (what, hint)


def test_a_job_without_parameters_says_so():
    with pytest.raises(RefusedError, match="the parameters of 'shop' are none"):
        parameters.choose_parameters(job(), {"month": "Oct"})


@pytest.mark.parametrize("value", ["\ud800", "a\udcffb"])
def test_half_a_character_is_no_value(value):
    with pytest.raises(RefusedError, match="it is no text"):
        parameters.choose_parameters(job(LIMIT), {"limit": value})


def test_a_required_parameter_without_a_default_must_be_given():
    required = job(Parameter("day", "", type=ValueType.DATE, required=True))
    with pytest.raises(RefusedError, match="'day' needs a value"):
        parameters.choose_parameters(required, {})
    assert parameters.choose_parameters(required, {"day": "2026-11-05"}) == {"day": "2026-11-05"}


def test_a_default_that_holds_references_is_left_until_the_run_has_started():
    day = job(Parameter("day", "{{job.start_time.iso_date}}", type=ValueType.DATE))
    assert parameters.choose_parameters(day, {}) == {"day": "{{job.start_time.iso_date}}"}
    assert parameters.choose_parameters(day, {"day": "{{job.start_time.iso_date}}"})
    with pytest.raises(RefusedError):
        parameters.choose_parameters(day, {"day": "{{backfill.iso_date}}"})


# --- definitions ------------------------------------------------------------------------------------------


def test_a_sound_definition_is_no_problem():
    assert (
        told(MONTH, LIMIT, CITY, SIZES, COUNT, SHARE, CODE, Parameter("must", "", MONTH.choices, required=True)) == []
    )


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        (
            Parameter("p", "Dec", ("Oct", "Nov"), Widget.DROPDOWN),
            "the default does not keep its own rules: .*none of the choices",
        ),
        (Parameter("p", "", ("Oct",), Widget.DROPDOWN), "the default does not keep its own rules"),
        (Parameter("p", "x", type=ValueType.INTEGER), "the default does not keep its own rules: .*not a whole number"),
        (Parameter("p", "a", ("a", "7"), Widget.COMBOBOX, ValueType.INTEGER), "the choice 'a' is not a whole number"),
        (Parameter("p", "", pattern="["), "'pattern' is no regular expression"),
        (Parameter("p", "", min=1.0), "'min' and 'max' are for numbers, and its type is string"),
        (Parameter("p", "", type=ValueType.DATE, max=1.0), "'min' and 'max' are for numbers, and its type is date"),
        (Parameter("p", "", type=ValueType.NUMBER, min=2.0, max=1.0), "'min' 2 is more than 'max' 1"),
        (Parameter("p", "", type=ValueType.NUMBER, min=math.nan), "'min' and 'max' must be numbers"),
        (Parameter("p", "", widget=Widget.DROPDOWN), "a dropdown needs 'choices'"),
        (Parameter("p", "", ("a,b",), Widget.MULTISELECT), "the choice 'a,b' cannot be told from others"),
    ],
)
def test_a_definition_that_contradicts_itself_is_a_problem_at_the_job(parameter, what):
    (problem,) = parameters.problems(job(parameter))
    assert (problem.file, problem.line) == ("job.yml", 1)
    assert problem.what.startswith("parameter 'p': ")
    assert re.search(what, problem.what)


def test_a_parameter_of_a_job_file_is_told_where_it_stands():
    (problem,) = parameters.problems(job(replace(MONTH, default="Dec", place=Place("job.yml", 7))))
    assert (problem.file, problem.line) == ("job.yml", 7)


def test_a_parameter_that_a_run_must_give_needs_a_default_where_triggers_start_runs():
    required = Parameter("day", "", required=True)
    assert told(required) == []
    ((what, hint),) = told(required, triggers=(Trigger(FileArrival("in")),))
    assert what.endswith("it is required and has no default, and a run that file_arrival starts is given none")
    assert hint == "give 'day' a default"


@given(
    st.builds(
        Parameter,
        st.just("p"),
        st.text("0123456789.-,ab", max_size=4),
        st.lists(st.text("019a,", max_size=2), max_size=3, unique=True).map(tuple),
        st.sampled_from(Widget),
        st.sampled_from(ValueType),
        st.booleans(),
        st.none() | st.sampled_from(["[0-9]+", "a*", "["]),
        st.none() | st.floats(-5, 5),
        st.none() | st.floats(-5, 5),
    )
)
def test_a_definition_without_problems_starts_runs_by_itself_unless_something_is_required(parameter):
    sound = job(parameter)
    if not parameters.problems(sound) and not (parameter.required and not parameter.default):
        assert parameters.choose_parameters(sound, {}) == {"p": parameter.default}
