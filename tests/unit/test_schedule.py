"""Which data intervals a timetable makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.model.batch import Interval
from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.timetable import Timetable
from tidemill.plan.schedule import (
    interval_at,
    intervals,
    latest_complete,
    parse_intervals,
    parse_timetable,
    tick_after,
    tick_at_or_before,
)

DAILY = parse_timetable("@daily")
HOURLY = parse_timetable("@hourly")
assert DAILY is not None
assert HOURLY is not None


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_an_interval_ends_where_the_next_begins() -> None:
    made = list(intervals(DAILY, at(2013, 1, 1), at(2013, 1, 4)))
    assert [str(i) for i in made] == ["2013-01-01", "2013-01-02", "2013-01-03"]
    assert all(a.end == b.start for a, b in pairwise(made))


def test_the_latest_complete_interval_is_over() -> None:
    assert str(latest_complete(DAILY, at(2026, 11, 20, 5))) == "2026-11-19"
    assert str(latest_complete(DAILY, at(2026, 11, 20))) == "2026-11-19"
    assert str(latest_complete(DAILY, at(2026, 11, 20, 5), end=at(2014, 1, 1))) == "2013-12-31"


def test_before_the_first_interval_is_over_there_is_none() -> None:
    assert latest_complete(DAILY, at(2013, 1, 1, 12), start=at(2013, 1, 1)) is None


def test_a_date_means_every_interval_of_the_day() -> None:
    assert [str(i) for i in parse_intervals("2013-01-15", DAILY)] == ["2013-01-15"]
    assert len(parse_intervals("2013-01-15", HOURLY)) == 24
    assert len(parse_intervals("2013-01-15T03:00", HOURLY)) == 1


def test_a_range_includes_both_ends() -> None:
    assert [str(i) for i in parse_intervals("2013-01-15..2013-01-17", DAILY)] == [
        "2013-01-15",
        "2013-01-16",
        "2013-01-17",
    ]


def test_a_backwards_range_says_so() -> None:
    with pytest.raises(UserError, match="runs backwards") as error:
        parse_intervals("2013-01-17..2013-01-15", DAILY)
    assert error.value.hint == '"2013-01-15..2013-01-17"'


def test_a_step_is_counted_from_the_start() -> None:
    quarter = parse_timetable("15m")
    assert quarter is not None
    start = at(2013, 1, 1, 0, 5)
    assert interval_at(quarter, at(2013, 1, 1, 0, 7), start) == Interval(start, at(2013, 1, 1, 0, 20))


def test_days_in_a_zone_are_as_long_as_the_zone_makes_them() -> None:
    london = parse_timetable("@daily", "Europe/London")
    assert london is not None
    made = list(intervals(london, at(2026, 3, 28), at(2026, 3, 31)))
    hours = [(i.end.astimezone(UTC) - i.start.astimezone(UTC)) / timedelta(hours=1) for i in made]
    assert hours == [24, 23, 24]


def ends(text: str, zone: str, first: str, last: str) -> list[str]:
    """Ticks in UTC."""
    timetable = parse_timetable(text, zone)
    assert timetable is not None
    made = intervals(timetable, datetime.fromisoformat(first), datetime.fromisoformat(last))
    return [f"{i.end.astimezone(UTC):%m-%dT%H:%M}" for i in made]


def test_half_past_one_in_london_across_both_changes_is_as_in_airflow() -> None:
    """As Airflow 3.3.2 counts: 01:30 does not exist on March 29th and comes twice on October 25th."""
    spring = ends("30 1 * * *", "Europe/London", "2026-03-27T00:00Z", "2026-04-01T00:00Z")
    assert spring == ["03-28T01:30", "03-29T01:30", "03-30T00:30", "03-31T00:30"]
    autumn = ends("30 1 * * *", "Europe/London", "2026-10-23T00:00Z", "2026-10-28T00:00Z")
    assert autumn == ["10-24T00:30", "10-25T01:30", "10-26T01:30", "10-27T01:30"]


def test_every_hour_passes_once_when_clocks_change() -> None:
    for day in ("2026-03-29", "2026-10-25"):
        made = ends("@hourly", "Europe/London", f"{day}T00:00Z", f"{day}T05:00Z")
        assert [tick[-5:] for tick in made] == ["01:00", "02:00", "03:00", "04:00", "05:00"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("@dayly", "one of @hourly, @daily, @weekly, @monthly, @quarterly, @yearly, @once, @continuous"),
        ("61 * * * *", '"30 1 * * *"'),
        ("now and then", '"@daily", a cron expression ("30 1 * * *") or a step ("15m")'),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_is_one(text: str, hint: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse_timetable(text)
    assert error.value.hint == hint


@settings(max_examples=few(500))
@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    text=st.sampled_from(
        [
            "@hourly",
            "@daily",
            "@weekly",
            "@monthly",
            "30 1 * * *",
            "*/7 * * * 1-5",
            "15m",
            "36h",
            "0 */5 * * *",
            "15 1,2 * * *",
            "59 23 L * *",
        ]
    ),
    zone=st.sampled_from(["UTC", "Europe/London", "America/New_York", "Asia/Kolkata"]),
)
def test_every_moment_lies_in_exactly_one_interval(moment: datetime, text: str, zone: str) -> None:
    timetable = parse_timetable(text, zone)
    assert isinstance(timetable, Timetable)
    now = moment.replace(tzinfo=UTC)
    before, after = tick_at_or_before(timetable, now), tick_after(timetable, now)
    assert before <= now < after  # compared with UTC: between two zones Python compares instants
    assert before.tzinfo == ZoneInfo(zone)
    found = interval_at(timetable, now)
    assert found.start <= now < found.end
    assert tick_after(timetable, found.start).astimezone(UTC) == found.end.astimezone(UTC)


def test_the_hour_that_comes_twice_makes_two_intervals() -> None:
    """Both begin at 01:00 by the wall."""
    hourly = parse_timetable("@hourly", "Europe/London")
    assert hourly is not None
    first, second = list(intervals(hourly, at(2026, 10, 25, 0), at(2026, 10, 25, 2)))
    assert first != second
    assert first < second
    assert not first.overlaps(second)
    assert first.length == second.length == timedelta(hours=1)
    assert len({first, second, Interval(at(2026, 10, 25, 0), at(2026, 10, 25, 1))}) == 2
