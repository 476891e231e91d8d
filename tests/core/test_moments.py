"""Counting days and writing them, held against the standard library's calendar."""

import calendar
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import moments

DAYS = st.dates(date(1, 1, 1), date(9999, 12, 31))
EPOCH = date(1970, 1, 1)
MOMENT_S = datetime(2026, 11, 5, 8, 3, 9, 250_000, UTC).timestamp()


@given(DAYS)
def test_a_date_is_so_many_days_after_1970(day):
    assert moments.day_of(day.isoformat()) == (day - EPOCH).days


@given(DAYS.filter(lambda day: day.year >= 1900))
def test_a_day_is_written_as_it_is_read(day):
    assert moments.date_text((day - EPOCH).days) == day.isoformat()


@pytest.mark.parametrize(
    "text",
    ["", "2026-02-29", "2026-13-01", "2026-00-01", "2026-1-1", "0000-01-01", "2026-11-05 ", "٢٠٢٦-11-05", "20261105"],
)
def test_what_is_no_date_is_none(text):
    assert moments.day_of(text) is None


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)), st.integers(-600, 600))
def test_months_later_it_is_the_same_day_or_the_last_of_a_shorter_month(day, months):
    later = EPOCH + timedelta(days=moments.months_later((day - EPOCH).days, months))
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    assert later.day == min(day.day, calendar.monthrange(later.year, later.month)[1])


def test_after_the_last_year_there_is_no_month():
    with pytest.raises(OverflowError):
        moments.months_later(moments.day_of("9999-12-01"), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("year", "2026"),
        ("month", "11"),
        ("day", "5"),
        ("hour", "8"),
        ("minute", "3"),
        ("second", "9"),
        ("is_weekday", "true"),
        ("iso_weekday", "4"),
        ("iso_date", "2026-11-05"),
        ("iso_datetime", "2026-11-05T08:03:09.250Z"),
        ("timestamp_ms", "1793865789250"),
    ],
)
def test_each_part_of_a_time_is_in_utc(name, value):
    assert moments.part(MOMENT_S, name) == value


def test_the_table_above_is_whole():
    assert len(moments.PARTS) == 11


@given(st.floats(-2e9, 4e9))
def test_the_parts_of_a_time_are_of_one_moment(time_s):
    at = datetime.fromisoformat(moments.part(time_s, "iso_datetime"))
    assert at.timestamp() <= time_s < at.timestamp() + 0.0011
    assert moments.part(time_s, "iso_weekday") == str(at.isoweekday())
    assert moments.part(time_s, "is_weekday") == ("true" if at.isoweekday() < 6 else "false")
    assert moments.part(time_s, "iso_date") == at.date().isoformat()
    assert int(moments.part(time_s, "timestamp_ms")) == round(at.timestamp() * 1000)
    assert [int(moments.part(time_s, name)) for name in moments.PARTS[:6]] == list(at.timetuple()[:6])


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(microsecond=0)),  # noqa: DTZ001 -- wall clocks
    st.sampled_from(["", "Z", "+01:00", "-0530"]),
    st.sampled_from(["T", " "]),
)
def test_a_time_is_written_as_it_is_read(at, zone, between):
    text = at.isoformat(sep=between) + zone
    read = moments.time_of(text)
    assert read.wall_s == at.replace(tzinfo=UTC).timestamp()
    assert moments.time_text(read.wall_s, read) == text


@pytest.mark.parametrize(
    ("text", "is_time"),
    [
        ("2026-11-05", True),
        ("2026-11-05T08:00", True),
        ("2026-11-05T08:00:00.123456Z", True),
        ("2026-11-05T24:00:00Z", False),
        ("2026-11-05T08:60Z", False),
        ("2026-11-05T08", False),
        ("2026-11-05T08:00:00+25:00", False),
        ("2026-02-30T08:00", False),
        ("08:00", False),
        ("", False),
    ],
)
def test_what_is_a_time_is_told_from_what_is_none(text, is_time):
    assert (moments.time_of(text) is not None) == is_time
