"""Which values a range has, and which runs they become."""

from contextlib import suppress
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import backfill
from landingd.core.backfill import Range, values
from landingd.core.references import UnresolvedError
from landingd.errors import RefusedError
from landingd.model import Job, Parameter, Place, ValueType, Widget

TEXT = Parameter("day", "")
DAY = Parameter("day", "", type=ValueType.DATE)
AT = Parameter("day", "", type=ValueType.TIMESTAMP)
COUNT = Parameter("day", "", type=ValueType.INTEGER)
SHARE = Parameter("day", "", type=ValueType.NUMBER)
MONTH = Parameter("day", "Oct", ("Sep", "Oct", "Nov", "Dec"), Widget.DROPDOWN)


def counted(parameter, first, last, step=""):
    return list(values(parameter, Range("day", first, last, step)))


def refused(parameter, first, last, step=""):
    with pytest.raises(RefusedError) as error:
        counted(parameter, first, last, step)
    return error.value.what


@pytest.mark.parametrize(
    ("parameter", "first", "last", "step", "expected"),
    [
        (DAY, "2026-02-27", "2026-03-01", "", ["2026-02-27", "2026-02-28", "2026-03-01"]),
        (TEXT, "2026-02-27", "2026-03-01", "1d", ["2026-02-27", "2026-02-28", "2026-03-01"]),
        (DAY, "2026-03-01", "2026-02-27", "2d", ["2026-03-01", "2026-02-27"]),
        (DAY, "2026-10-01", "2026-10-14", "1w", ["2026-10-01", "2026-10-08"]),
        (DAY, "2026-01-31", "2026-04-30", "1mo", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]),
        (DAY, "2026-03-31", "2026-01-31", "1mo", ["2026-03-31", "2026-02-28", "2026-01-31"]),
        (DAY, "9999-11-15", "9999-12-31", "1mo", ["9999-11-15", "9999-12-15"]),
        (DAY, "2026-10-01", "2026-10-01", "", ["2026-10-01"]),
        (
            AT,
            "2026-10-01T22:00:00Z",
            "2026-10-02T00:00:00Z",
            "1h",
            ["2026-10-01T22:00:00Z", "2026-10-01T23:00:00Z", "2026-10-02T00:00:00Z"],
        ),
        (
            AT,
            "2026-10-01 00:00",
            "2026-10-01 00:30",
            "15m",
            ["2026-10-01 00:00:00", "2026-10-01 00:15:00", "2026-10-01 00:30:00"],
        ),
        (AT, "2026-10-01", "2026-10-02", "1d", ["2026-10-01T00:00:00", "2026-10-02T00:00:00"]),
        (
            AT,
            "2026-01-31T06:00:00+01:00",
            "2026-02-28T06:00:00+01:00",
            "1mo",
            ["2026-01-31T06:00:00+01:00", "2026-02-28T06:00:00+01:00"],
        ),
        (
            TEXT,
            "2026-10-01T00:00:00Z",
            "2026-10-01T00:00:20Z",
            "10s",
            ["2026-10-01T00:00:00Z", "2026-10-01T00:00:10Z", "2026-10-01T00:00:20Z"],
        ),
        (COUNT, "1", "10", "3", ["1", "4", "7", "10"]),
        (COUNT, "2", "-2", "2", ["2", "0", "-2"]),
        (TEXT, "01", "03", "", ["01", "02", "03"]),
        (TEXT, "9", "11", "", ["9", "10", "11"]),
        (SHARE, "0", "0.3", "0.1", ["0.0", "0.1", "0.2", "0.3"]),
        (SHARE, "0.3", "0", "0.15", ["0.30", "0.15", "0.00"]),
        (MONTH, "Oct", "Dec", "", ["Oct", "Nov", "Dec"]),
        (MONTH, "Dec", "Sep", "2", ["Dec", "Oct"]),
    ],
)
def test_a_range_is_counted_out_in_the_parameters_own_form(parameter, first, last, step, expected):
    assert counted(parameter, first, last, step) == expected


@pytest.mark.parametrize(
    ("parameter", "first", "last", "step", "what"),
    [
        (DAY, "2026-02-30", "2026-03-01", "", "both ends must be a date"),
        (DAY, "yesterday", "2026-03-01", "", "both ends must be a date"),
        (DAY, "2026-02-01", "2026-03-01", "1h", "a date has no hours"),
        (DAY, "2026-02-01", "2026-03-01", "0d", "'0d' is no step between times"),
        (DAY, "2026-02-01", "2026-03-01", "-1d", "'-1d' is no step between times"),
        (DAY, "2026-02-01", "2026-03-01", "1", "'1' is no step between times"),
        (DAY, "2026-02-01", "2026-03-01", "1y", "'1y' is no step between times"),
        (AT, "2026-02-01T00:00Z", "2026-03-01T00:00", "1d", "cannot be counted between"),
        (AT, "2026-02-01T00:00:00.5Z", "2026-03-01T00:00:00Z", "1d", "cannot be counted between"),
        (AT, "x", "2026-03-01T00:00", "1d", "both ends must be a time"),
        (COUNT, "1", "x", "", "both ends must be a whole number"),
        (COUNT, "1", "9", "0", "'0' is no step between whole numbers"),
        (COUNT, "1", "9", "1d", "'1d' is no step between whole numbers"),
        (SHARE, "1", "nan", "", "both ends must be a number"),
        (SHARE, "1", "2", "-1", "both ends must be a number"),
        (SHARE, "one", "2", "", "both ends must be a number"),
        (TEXT, "a", "b", "", "there is no range from 'a' to 'b'"),
        (TEXT, "2026-02-01", "7", "", "there is no range from '2026-02-01' to '7'"),
        (MONTH, "Oct", "Jan", "", "'day' cannot be 'Jan': it is none of the choices"),
        (DAY, "1926-01-01", "2026-01-01", "", "is more than 10000 runs"),
        (COUNT, "0", "10000", "", "is more than 10000 runs"),
        (COUNT, "0", "9" * 30, "", "is more than 10000 runs"),
    ],
)
def test_a_range_that_cannot_be_counted_is_refused(parameter, first, last, step, what):
    assert what in refused(parameter, first, last, step)


def test_as_many_runs_as_there_may_be_are_a_backfill():
    assert len(counted(COUNT, "1", "10000")) == backfill.VALUES_MAX


@given(
    st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    st.integers(5, 90),
    st.sampled_from(["d", "w", "mo"]),
)
def test_a_range_begins_at_its_beginning_stays_within_its_ends_and_goes_one_way(first, last, number, unit):
    found = [date.fromisoformat(text) for text in counted(DAY, str(first), str(last), f"{number}{unit}")]
    assert found[0] == first
    assert all(min(first, last) <= day <= max(first, last) for day in found)
    assert found == sorted(set(found), reverse=last < first)
    shortest = timedelta(days=number * {"d": 1, "w": 7, "mo": 28}[unit] - 3)
    assert all(abs(b - a) >= shortest for a, b in pairwise(found))


@given(st.integers(-5000, 5000), st.integers(-5000, 5000), st.integers(1, 50))
def test_whole_numbers_are_counted_as_python_counts(first, last, step):
    expected = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    assert [int(text) for text in counted(COUNT, str(first), str(last), str(step))] == list(expected)[:10_000]


@given(
    st.sampled_from([TEXT, DAY, AT, COUNT, SHARE, MONTH]),
    st.text(max_size=12),
    st.text(max_size=12),
    st.text(max_size=5),
)
def test_whatever_somebody_types_is_counted_or_refused(parameter, first, last, step):
    with suppress(RefusedError):
        found = counted(parameter, first, last, step)
        assert len(found) == len(set(found)) >= 1


# --- runs -------------------------------------------------------------------------------------------------

JOB = Job(
    "shop",
    Place("job.yml", 1),
    (),
    parameters=(DAY, Parameter("label", ""), Parameter("n", "", type=ValueType.INTEGER)),
)
RANGE = Range("day", "2026-10-01", "2026-10-31")


def test_the_same_question_has_the_same_id_and_another_one_another():
    id_ = backfill.backfill_id("shop", RANGE, {"n": "1", "label": "x"})
    assert id_ == backfill.backfill_id("shop", RANGE, {"label": "x", "n": "1"})
    others = [
        backfill.backfill_id("other", RANGE, {"n": "1", "label": "x"}),
        backfill.backfill_id("shop", RANGE, {"n": "2", "label": "x"}),
        backfill.backfill_id("shop", Range("day", "2026-10-01", "2026-10-30"), {"n": "1", "label": "x"}),
        backfill.backfill_id("shop", Range("day", "2026-10-01", "2026-10-31", "2d"), {"n": "1", "label": "x"}),
    ]
    assert len({id_, *others}) == 5


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_id_that_somebody_has_chosen_can_stand_in_a_key_and_an_address(one, other):
    found = backfill.id_of(one)
    assert found.isascii()
    assert not set(found) & set(":/?#% \n")
    assert (found == backfill.id_of(other)) == (one == other)
    assert backfill.id_of("october-again_2.0") == "october-again_2.0"


def test_a_run_is_given_its_value_and_the_others_with_its_date_in_them():
    given_values = {"label": "for {{backfill.iso_date}} at {{ backfill.iso_datetime }}", "n": "3"}
    assert backfill.parameters_of(JOB, RANGE, "2026-10-02", given_values) == {
        "label": "for 2026-10-02 at 2026-10-02T00:00:00.000Z",
        "n": "3",
        "day": "2026-10-02",
    }
    assert backfill.key("october", "2026-10-02") == "backfill:october:2026-10-02"


@pytest.mark.parametrize(
    ("value", "info"),
    [
        ("2026-10-02", {"iso_date": "2026-10-02", "iso_datetime": "2026-10-02T00:00:00.000Z"}),
        ("2026-10-02T08:00:00+01:00", {"iso_date": "2026-10-02", "iso_datetime": "2026-10-02T08:00:00+01:00"}),
        ("7", {}),
        ("Oct", {}),
    ],
)
def test_a_run_for_a_date_knows_it(value, info):
    assert backfill.info(value) == {"backfill": info}


@pytest.mark.parametrize(
    ("range_", "value", "given_values", "what"),
    [
        (RANGE, "2026-10-02", {"day": "x"}, "the backfill runs over 'day'"),
        (RANGE, "2026-10-02", {"label": "{{job.run_id}}"}, "'{{job.run_id}}' cannot stand in a backfill's parameters"),
        (RANGE, "2026-10-02", {"lable": "x"}, "job 'shop' has no parameter 'lable'"),
        (RANGE, "2026-10-02", {"n": "x"}, "parameter 'n' cannot be 'x'"),
        (Range("n", "1", "2"), "1", {"label": "{{backfill.iso_date}}"}, "this is no run of a backfill over dates"),
        (RANGE, "2026-10-02", {"label": "{{backfill.iso_dat}}"}, "'{{backfill.iso_dat}}' is no reference"),
    ],
)
def test_parameters_that_the_job_does_not_take_are_refused_before_there_is_a_run(range_, value, given_values, what):
    with pytest.raises((RefusedError, UnresolvedError)) as error:
        backfill.parameters_of(JOB, range_, value, given_values)
    assert what in error.value.what
