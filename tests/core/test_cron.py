"""When a cron expression fires: both dialects, by table, against cronsim, and as laws."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given
from hypothesis import strategies as st

from landingd.core import cron, cronfields
from landingd.core.cron import CronError, Every, missed, parse
from landingd.model import CronSyntax, Misfire

QUARTZ, UNIX = CronSyntax.QUARTZ, CronSyntax.UNIX
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia")


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def fires(expression, syntax, since, count, zone="UTC"):
    """The next few times as the zone's clocks show them, with the offset."""
    ticks, now_s, found = parse(expression, syntax, zone), at(since, zone), []
    while len(found) < count and (now_s := ticks.next(now_s)) is not None:
        found.append(datetime.fromtimestamp(now_s, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %z"))
    return found


def short(found):
    return [text[5:16] for text in found]


# --- Quartz' documented examples ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 12 * * ?", ["01-01 12:00", "01-02 12:00", "01-03 12:00"]),
        ("0 15 10 ? * *", ["01-01 10:15", "01-02 10:15", "01-03 10:15"]),
        ("0 15 10 * * ?", ["01-01 10:15", "01-02 10:15", "01-03 10:15"]),
        ("0 15 10 * * ? *", ["01-01 10:15", "01-02 10:15", "01-03 10:15"]),
        ("0 15 10 * * ? 2005", []),
        ("0 * 14 * * ?", ["01-01 14:00", "01-01 14:01", "01-01 14:02"]),
        ("0 0/5 14 * * ?", ["01-01 14:00", "01-01 14:05", "01-01 14:10"]),
        ("0 0/30 14,18 * * ?", ["01-01 14:00", "01-01 14:30", "01-01 18:00"]),
        ("0 0-2 14 * * ?", ["01-01 14:00", "01-01 14:01", "01-01 14:02", "01-02 14:00"]),
        ("0 10,44 14 ? 3 WED", ["03-04 14:10", "03-04 14:44", "03-11 14:10"]),
        ("0 15 10 ? * MON-FRI", ["01-01 10:15", "01-02 10:15", "01-05 10:15"]),
        ("0 15 10 15 * ?", ["01-15 10:15", "02-15 10:15"]),
        ("0 15 10 L * ?", ["01-31 10:15", "02-28 10:15"]),
        ("0 15 10 L-2 * ?", ["01-29 10:15", "02-26 10:15"]),
        ("0 15 10 ? * 6L", ["01-30 10:15", "02-27 10:15"]),
        ("0 15 10 ? * 6L 2026-2027", ["01-30 10:15", "02-27 10:15"]),
        ("0 15 10 ? * 6#3", ["01-16 10:15", "02-20 10:15"]),
        ("0 0 12 1/5 * ?", ["01-01 12:00", "01-06 12:00", "01-11 12:00"]),
        ("0 11 11 11 11 ?", ["11-11 11:11"]),
        ("0 0 0 15W * ?", ["01-15 00:00", "02-16 00:00", "03-16 00:00"]),  # Thursday, Sunday, Sunday
        ("0 0 0 1W 8 ?", ["08-03 00:00"]),  # a Saturday: the month is not left
        ("0 0 0 31W 5 ?", ["05-29 00:00"]),  # a Sunday at the month's end
        ("0 0 0 LW * ?", ["01-30 00:00", "02-27 00:00"]),
        ("0 0 0 L-3W * ?", ["01-28 00:00", "02-25 00:00"]),
        ("0 0 0 ? * L", ["01-03 00:00", "01-10 00:00"]),  # alone: Saturday
        ("0 0 0 ? * 1", ["01-04 00:00", "01-11 00:00"]),  # 1 is Sunday
        ("0 0 0 ? * fri-mon", ["01-02 00:00", "01-03 00:00", "01-04 00:00", "01-05 00:00", "01-09 00:00"]),
        ("0 0 23-1 1 nov-jan ?", ["01-01 00:00", "01-01 01:00", "01-01 23:00", "11-01 00:00", "11-01 01:00"]),
    ],
)  # fmt: skip
def test_quartz_expressions_mean_what_its_manual_says(expression, expected):
    assert short(fires(expression, QUARTZ, "2025-12-31T23:59:59", max(len(expected), 1))) == expected


def test_seconds_and_years_are_quartz_fields():
    assert fires("0/20 0 0 1 1 ? 2027", QUARTZ, "2026-01-01", 9) == [
        "2027-01-01 00:00:00 +0000",
        "2027-01-01 00:00:20 +0000",
        "2027-01-01 00:00:40 +0000",
    ]


def test_a_day_that_comes_once_in_decades_is_found():
    assert fires("0 0 0 ? 2 1#5", QUARTZ, "2026-01-01", 2) == ["2032-02-29 00:00:00 +0000", "2060-02-29 00:00:00 +0000"]
    assert fires("0 0 0 29 2 ?", QUARTZ, "2096-03-01", 1) == ["2104-02-29 00:00:00 +0000"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["01-01 02:30", "01-02 02:30"]),
        ("*/20 * * * *", ["01-01 00:00", "01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("0 0 * * 7", ["01-04 00:00"]),
        ("0 0 * * 0", ["01-04 00:00"]),
        ("0 0 * * 5-7", ["01-02 00:00", "01-03 00:00", "01-04 00:00", "01-09 00:00"]),
        ("0 0 1,15 * MON", ["01-01 00:00", "01-05 00:00", "01-12 00:00", "01-15 00:00"]),  # either
        ("0 0 */2 * MON", ["01-05 00:00", "01-19 00:00"]),  # a star: both
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00"]),
        ("0 0 * * 5#2", ["01-09 00:00"]),
        ("0 0 * * 5L", ["01-30 00:00"]),
        ("@daily", ["01-01 00:00", "01-02 00:00"]),
        ("@weekly", ["01-04 00:00"]),
    ],
)
def test_unix_expressions_mean_what_cron_means(expression, expected):
    assert short(fires(expression, UNIX, "2025-12-31T23:59:59", len(expected))) == expected


# --- the clocks are changed ---------------------------------------------------------------------------------
# Paris: 2026-03-29 02:00 is 03:00; 2026-10-25 03:00 is 02:00.


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03-28 02:30", "03-29 03:00", "03-30 02:30"]),
        ("15,45 2 * * *", ["03-28 02:15", "03-28 02:45", "03-29 03:00", "03-30 02:15"]),
        ("0 2,3 * * *", ["03-28 02:00", "03-28 03:00", "03-29 03:00", "03-30 02:00"]),
        ("*/15 2 * * *", ["03-28 02:00", "03-28 02:15", "03-28 02:30", "03-28 02:45", "03-29 03:00", "03-30 02:00"]),
    ],
)
def test_a_time_that_the_clocks_skip_fires_once_at_the_first_moment_after(expression, expected):
    found = fires(expression, UNIX, "2026-03-28T00:00:00", len(expected), "Europe/Paris")
    assert short(found) == expected


def test_an_hourly_job_makes_nothing_up_after_a_gap():
    found = fires("30 * * * *", UNIX, "2026-03-29T00:45:00", 2, "Europe/Paris")
    assert found == ["2026-03-29 01:30:00 +0100", "2026-03-29 03:30:00 +0200"]


def test_a_time_that_the_clocks_show_twice_fires_the_first_time():
    found = fires("0 30 2 * * ?", QUARTZ, "2026-10-25T00:00:00", 2, "Europe/Paris")
    assert found == ["2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100"]


@pytest.mark.parametrize(("expression", "syntax"), [("*/30 * * * *", UNIX), ("0 0/30 * * * ?", QUARTZ)])
def test_what_goes_by_the_time_that_passes_fires_in_both_passes(expression, syntax):
    found = fires(expression, syntax, "2026-10-25T01:45:00", 5, "Europe/Paris")
    assert found == [
        "2026-10-25 02:00:00 +0200",
        "2026-10-25 02:30:00 +0200",
        "2026-10-25 02:00:00 +0100",
        "2026-10-25 02:30:00 +0100",
        "2026-10-25 03:00:00 +0100",
    ]


def test_asked_from_within_the_second_pass_it_goes_on_from_there():
    paris = ZoneInfo("Europe/Paris")
    second_pass_s = datetime(2026, 10, 25, 2, 40, tzinfo=paris, fold=1).timestamp()
    fixed, every_half_hour = (parse(text, UNIX, "Europe/Paris") for text in ("50 2 * * *", "*/30 * * * *"))
    assert fixed.next(second_pass_s) == datetime(2026, 10, 26, 2, 50, tzinfo=paris).timestamp()
    assert every_half_hour.next(second_pass_s) == datetime(2026, 10, 25, 3, tzinfo=paris).timestamp()


def test_half_an_hour_is_a_gap_too():
    found = fires("10 2 * * *", UNIX, "2026-10-04T00:00:00", 2, "Australia/Lord_Howe")  # 02:00 is 02:30
    assert found == ["2026-10-04 02:30:00 +1100", "2026-10-05 02:10:00 +1100"]


def test_a_day_that_a_zone_never_had_is_made_up_for():
    found = fires("0 9 * * *", UNIX, "2011-12-29T10:00:00", 2, "Pacific/Apia")  # there was no 30th
    assert found == ["2011-12-31 00:00:00 +1400", "2011-12-31 09:00:00 +1400"]


# --- against cronsim ----------------------------------------------------------------------------------------


def listed(low, high):
    numbers = st.integers(low, high).map(str)
    ranges = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda ends: "{}-{}".format(*sorted(ends)))
    steps = st.integers(1, high).map("*/{}".format)
    return st.one_of(
        st.just("*"), numbers, steps, st.lists(st.one_of(numbers, ranges), min_size=1, max_size=3).map(",".join)
    )


MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS = listed(0, 59), listed(0, 23), listed(1, 28), listed(1, 12), listed(0, 7)
WEEKDAYS_TOO = st.one_of(WEEKDAYS, st.sampled_from(["5#2", "1L", "SUN"]), st.integers(1, 5).map("2#{}".format))
UNIX_EXPRESSIONS = st.tuples(MINUTES, HOURS, st.one_of(DAYS, st.sampled_from(["L", "LW"])), MONTHS, WEEKDAYS_TOO).map(
    " ".join
)
QUARTZ_DAYS = st.one_of(
    st.tuples(st.one_of(DAYS, st.sampled_from(["L", "LW", "15W", "L-3", "1W"])), MONTHS, st.just("?")),
    st.tuples(st.just("?"), MONTHS, st.one_of(listed(1, 7), st.sampled_from(["6L", "L", "2#1", "MON-FRI"]))),
)
QUARTZ_EXPRESSIONS = st.tuples(listed(0, 59), MINUTES, HOURS, QUARTZ_DAYS).map(
    lambda parts: " ".join([*parts[:3], *parts[3]])
)
EXPRESSIONS = st.one_of(
    UNIX_EXPRESSIONS.map(lambda text: (text, UNIX)), QUARTZ_EXPRESSIONS.map(lambda text: (text, QUARTZ))
)
MOMENTS = st.integers(946684800, 2524608000)
CHANGES = st.sampled_from(
    [at("2026-03-29T01:00"), at("2026-10-25T01:00"), at("2026-04-04T15:00"), at("2011-12-30T10:00")]
)
"""Days on which some of the zones change their clocks are asked for more often than chance would."""
WHEN = st.one_of(MOMENTS, st.tuples(CHANGES, st.integers(-90000, 90000)).map(sum))


@given(expression=UNIX_EXPRESSIONS, moment=MOMENTS)
def test_in_utc_a_unix_expression_fires_as_cronsim_says(expression, moment):
    theirs = CronSim(expression, datetime.fromtimestamp(moment, UTC))
    ours, now_s = drawn((expression, UNIX), "UTC"), float(moment)
    for _ in range(3):
        now_s = ours.next(now_s)
        assert datetime.fromtimestamp(now_s, UTC) == next(theirs)


@given(minute=MINUTES, hour=HOURS, moment=WHEN, zone=st.sampled_from(["Europe/Paris", "America/New_York"]))
def test_where_clocks_change_it_fires_as_cronsim_says_but_never_twice_at_a_time(minute, hour, moment, zone):
    expression = f"{minute} {hour} * * *"
    ours = parse(expression, UNIX, zone)
    if ours.fields.repeats and not ours.fields.any_hour:
        return  # named hours that lie in the gap: ours runs once after it, theirs does not
    here = datetime.fromtimestamp(moment, ZoneInfo(zone))
    theirs = CronSim(expression, here)
    expected = []
    while len(expected) < 3:
        found = next(theirs).timestamp()
        if found > moment and found not in expected:  # its local time may go back behind where it began
            expected.append(found)
    now_s, found = float(moment), []
    for _ in range(3):
        now_s = ours.next(now_s)
        found.append(now_s)
    assert found == expected


def drawn(expression, zone):
    """An expression that was drawn by chance; some of those never fire, and are refused for it."""
    try:
        return parse(*expression, zone)
    except CronError as refused:
        assume("never fires" not in refused.what)
        raise


# --- laws ---------------------------------------------------------------------------------------------------


@given(expression=EXPRESSIONS, moment=WHEN, fraction=st.floats(0, 0.999), zone=st.sampled_from(ZONES))
def test_the_next_time_comes_after(expression, moment, fraction, zone):
    next_s = drawn(expression, zone).next(moment + fraction)
    assert next_s is None or next_s > moment + fraction


@given(expression=EXPRESSIONS, moment=WHEN, later_s=st.integers(0, 200000), zone=st.sampled_from(ZONES))
def test_no_time_is_jumped_over_whenever_one_asks(expression, moment, later_s, zone):
    ticks = drawn(expression, zone)
    first, later = ticks.next(moment), ticks.next(moment + later_s)
    if first is not None and first > moment + later_s:
        assert later == first
    elif first is not None:
        assert later is None or later >= first


@given(expression=EXPRESSIONS, moment=WHEN, zone=st.sampled_from(ZONES))
def test_it_fires_at_times_that_the_fields_name_or_right_after_a_gap(expression, moment, zone):
    ticks = drawn(expression, zone)
    found = ticks.next(moment)
    if found is None:
        return
    shown = datetime.fromtimestamp(found, ZoneInfo(zone))
    local = shown.replace(tzinfo=UTC).timestamp()
    named = cronfields.next_local(ticks.fields, int(local) - 1) == local
    before = datetime.fromtimestamp(found - 1, ZoneInfo(zone))
    assert named or before.utcoffset() < shown.utcoffset()


@given(expression=EXPRESSIONS, moment=WHEN, zone=st.sampled_from(ZONES))
def test_every_time_that_the_fields_name_is_fired_for(expression, moment, zone):
    """Looked at minute by minute for half an hour, so that nothing clever is on both sides."""
    ticks = drawn(expression, zone)
    fields = ticks.fields
    for at_s in range(int(moment) // 60 * 60, int(moment) + 1800, 60):
        shown = datetime.fromtimestamp(at_s, ZoneInfo(zone))
        is_time = shown.hour in fields.hours and shown.minute in fields.minutes and 0 in fields.seconds
        is_day = next(cronfields.matching_days(fields, shown.date()), None) == shown.date()
        if is_time and is_day and (fields.repeats or not shown.fold):
            assert ticks.next(at_s - 1) == at_s


# --- what cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "syntax", "says"),
    [
        ("0 0 25 * * ?", QUARTZ, "field 3 (hour): '25' is not from 0 to 23"),
        ("0 0 24 * * ?", QUARTZ, "midnight is 0"),
        ("0 2 * * *", QUARTZ, "has 5; Quartz has 6 or 7 fields"),
        ("0 0 2 * * ?", UNIX, "give them as `quartz_cron_expression`"),
        ("0 0 2 * * *", QUARTZ, "is to be `?`"),
        ("0 0 2 ? * ?", QUARTZ, "is to be `?`"),
        ("0 0 2 15 * MON", QUARTZ, "is to be `?`"),
        ("0 0 ? * *", UNIX, "Unix cron writes `*`"),
        ("0 0 31 2 *", UNIX, "never fires"),
        ("0 0 0 30 2 ?", QUARTZ, "never fires"),
        ("0 0 0 29 2 ? 2027", QUARTZ, "never fires"),
        ("0 0 0 0 * ?", QUARTZ, "field 4 (day of month): '0' is not from 1 to 31"),
        ("0 0 0 ? * 0", QUARTZ, "field 6 (day of week): '0' is not from 1 to 7"),
        ("0 0 0 ? * 6#6", QUARTZ, "up to five times"),
        ("0 0 0 L-31 * ?", QUARTZ, "no day so long before"),
        ("0/0 0 0 * * ?", QUARTZ, "the step '0'"),
        ("30-10 * * * *", UNIX, "ends before it begins"),
        ("0 0 0 1 1 ? 2030-2020", QUARTZ, "ends before it begins"),
        ("@reboot", UNIX, "is none of @yearly"),
        ("1,,2 * * * *", UNIX, "field 1 (minute)"),
        ("", UNIX, "has 0"),
        ("0 0 * * X", UNIX, "SUN, MON"),
        ("0 0 * *\t\u0665", UNIX, "field 5"),
    ],
)
def test_an_expression_that_cannot_be_used_says_which_field_and_why(expression, syntax, says):
    with pytest.raises(CronError) as refused:
        parse(expression, syntax)
    assert says in str(refused.value)
    assert "\n" not in refused.value.what


@given(text=st.text("0123456789*/,-?LW# ASUNMOJ@", max_size=20), syntax=st.sampled_from(list(CronSyntax)))
def test_any_text_is_read_or_refused(text, syntax):
    try:
        parse(text, syntax)
    except CronError as refused:
        assert refused.what  # noqa: PT017


@pytest.mark.parametrize("zone", ["Europe/Pariss", "", "/etc/passwd", "../UTC", "GMT+25"])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(CronError, match="there is no time zone"):
        parse("0 0 * * *", UNIX, zone)


def test_a_misspelt_zone_is_guessed():
    with pytest.raises(CronError, match="did you mean 'Europe/Paris'"):
        parse("0 0 * * *", UNIX, "Europe/Pariss")


# --- times that were missed ---------------------------------------------------------------------------------


EVERY_MINUTE = Every(0.0, 60.0)


def test_a_time_that_has_just_come_fires_under_every_policy():
    for misfire in Misfire:
        assert missed(EVERY_MINUTE, 60.0, 120.0, misfire).fire == (120.0,)


def test_of_an_hour_of_downtime_each_policy_keeps_its_own():
    ticks, last_s, now_s = Every(0.0, 600.0), 600.0, 3600.0 + 599.0
    assert missed(ticks, last_s, now_s, Misfire.RUN_ONCE).fire == (3600.0,)
    assert missed(ticks, last_s, now_s, Misfire.SKIP).fire == ()
    assert missed(ticks, last_s, now_s, Misfire.CATCH_UP).fire == (1200.0, 1800.0, 2400.0, 3000.0, 3600.0)


def test_what_is_passed_over_is_said():
    assert "passed over" in missed(EVERY_MINUTE, 0.0, 3600.0, Misfire.RUN_ONCE).passed_over
    skipped = missed(Every(0.0, 3600.0), 0.0, 7300.0, Misfire.SKIP).passed_over
    assert skipped == "1970-01-01T02:00:00.000Z and times before it passed while nobody looked (misfire: skip)"
    cut = missed(Every(0.0, 1.0), 0.0, 5000.0, Misfire.CATCH_UP)
    assert (len(cut.fire), cut.fire[0], cut.fire[-1]) == (1000, 4001.0, 5000.0)
    assert "1970-01-01T00:00:00.000Z and 1970-01-01T01:06:41.000Z passed over" in cut.passed_over


def test_years_of_downtime_are_not_counted_second_by_second():
    every_second = parse("* * * * * ?", QUARTZ, "Europe/Paris")
    now_s = at("2026-06-01")
    assert missed(every_second, at("2006-06-01"), now_s, Misfire.RUN_ONCE).fire == (now_s,)


GRIDS = st.one_of(
    st.tuples(st.floats(0, 1e6), st.floats(1, 1e5)).map(lambda ends: Every(*ends)),
    st.sampled_from([parse("*/7 * * * *", UNIX, "Europe/Paris"), parse("0 0 2 * * ?", QUARTZ, "Europe/Paris")]),
)


@given(
    ticks=GRIDS,
    start_s=st.floats(0, 2e9),
    looks=st.lists(st.floats(0, 1e5), max_size=20),
    misfire=st.sampled_from(list(Misfire)),
)
def test_however_often_one_looks_a_time_fires_once_at_most_and_every_time_is_dealt_with(ticks, start_s, looks, misfire):
    last_s = now_s = start_s
    fired = []
    for wait_s in looks:
        now_s += wait_s
        found = missed(ticks, last_s, now_s, misfire, most=10_000)
        fired += found.fire
        last_s = last_s if found.until_s is None else found.until_s
        upcoming = ticks.next(last_s)
        assert upcoming is None or upcoming > now_s
    assert all(a < b for a, b in pairwise(fired))
    if misfire is Misfire.CATCH_UP and len(fired) < 10_000:
        wanted, at_s = [], ticks.next(start_s)
        while at_s is not None and at_s <= now_s:
            wanted.append(at_s)
            at_s = ticks.next(at_s)
        assert fired == wanted[-len(fired) :] if fired else wanted == []


@given(start_s=st.floats(-1e9, 2e9), interval_s=st.floats(0.5, 1e7), after_s=st.floats(-1e9, 4e9))
def test_every_so_often_is_strictly_later_and_on_the_grid(start_s, interval_s, after_s):
    next_s = Every(start_s, interval_s).next(after_s)
    assert after_s < next_s <= after_s + interval_s * 1.001 + 1e-6
    assert math.isclose((next_s - start_s) / interval_s, round((next_s - start_s) / interval_s), abs_tol=1e-5)


def test_a_year_of_half_hours_has_as_many_as_hours_have_passed():
    ticks = parse("0 0/30 * * * ?", QUARTZ, "Europe/Paris")
    begin, end = at("2026-01-01", "Europe/Paris"), at("2027-01-01", "Europe/Paris")
    times, at_s = [], begin
    while (at_s := ticks.next(at_s)) <= end:
        times.append(at_s)
    assert len(times) == 365 * 48
    assert {b - a for a, b in pairwise(times)} == {timedelta(minutes=30).total_seconds()}


def test_a_cron_is_equal_to_one_of_the_same_words():
    assert parse("0 0 * * *", UNIX) == parse("0 0 * * *", UNIX) != parse("0 0 * * *", UNIX, "Europe/Paris")
    assert cron.parse("0 0 * * *", UNIX).timezone == "UTC"
