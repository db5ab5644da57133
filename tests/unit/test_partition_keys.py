"""Mappers and windows of partitions: keys as Airflow 3.3 makes them."""

from datetime import UTC, datetime

import pytest

from tidemill.compat.airflow import partitions as theirs
from tidemill.model.batch import Interval
from tidemill.model.definition import Schedule
from tidemill.model.errors import DefinitionError
from tidemill.model.partition import mapper_json, read_mapper
from tidemill.plan.partitions import key_of
from tidemill.plan.schedule import parse_timetable

BACKWARD = theirs.Window.Direction.BACKWARD


def keys(mapper, key):
    """What it makes of a key, read from its JSON as the planner reads it."""
    assert read_mapper(mapper_json(mapper)) == mapper
    return list(mapper.keys(key))


@pytest.mark.parametrize(
    ("mapper", "made", "date"),
    [
        (theirs.IdentityMapper(), "2026-12-31T23:59:59", None),
        (theirs.StartOfHourMapper(), "2026-12-31T23", "2026-12-31T23:00:00+00:00"),
        (theirs.StartOfDayMapper(timezone="America/New_York"), "2026-12-31", "2026-12-31T00:00:00-05:00"),
        (theirs.StartOfWeekMapper(), "2026-12-28 (W53)", "2026-12-28T00:00:00+00:00"),
        (theirs.StartOfQuarterMapper(), "2026-Q4", "2026-10-01T00:00:00+00:00"),
        (theirs.StartOfYearMapper(), "2026", "2026-01-01T00:00:00+00:00"),
        (theirs.FixedKeyMapper("all"), "all", None),
        (theirs.ChainMapper(theirs.StartOfHourMapper(), theirs.StartOfDayMapper(input_format="%Y-%m-%dT%H")),
         "2026-12-31", "2026-12-31T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_a_key_belongs_to_one(mapper, made, date):
    assert keys(mapper, "2026-12-31T23:59:59") == [made]
    assert mapper.moment(made) == (None if date is None else datetime.fromisoformat(date))


def test_windows_reach_forward_and_backward():
    weekly = theirs.StartOfWeekMapper()
    ahead = keys(theirs.FanOutMapper(upstream_mapper=weekly, window=theirs.WeekWindow()), "2024-02-29T10:42:15")
    assert (len(ahead), ahead[0], ahead[-1]) == (7, "2024-02-26", "2024-03-03")
    behind = theirs.FanOutMapper(upstream_mapper=weekly, window=theirs.WeekWindow(direction=BACKWARD))
    assert keys(behind, "2024-02-29T10:42:15")[0] == "2024-02-20"
    monthly = theirs.StartOfMonthMapper(input_format="%Y-%m-%d")
    month = theirs.RollupMapper(
        upstream_mapper=monthly, window=theirs.MonthWindow(), wait_policy=theirs.MinimumCount(-2)
    )
    days = frozenset(f"2024-02-{day:02}" for day in range(1, 28))
    assert keys(month, "2024-02-05") == ["2024-02"]
    assert (month.whole("2024-02", days), month.whole("2024-02", days - {"2024-02-09"})) == (True, False)


@pytest.mark.parametrize(
    ("mapper", "key"),
    [
        (theirs.AllowedKeyMapper(["eu"]), "us"),
        (theirs.StartOfDayMapper(), "2026-12-31"),
        (theirs.ProductMapper(theirs.IdentityMapper(), theirs.StartOfDayMapper()), "eu"),
        (theirs.FanOutMapper(upstream_mapper=theirs.StartOfYearMapper(), window=theirs.YearWindow(),
                             max_downstream_keys=11), "2026-12-31T23:59:59"),
    ],
)  # fmt: skip
def test_a_key_of_another_form_is_refused(mapper, key):
    with pytest.raises(ValueError, match=key):
        mapper.keys(key)


def test_what_does_not_fit_together_is_told():
    with pytest.raises(DefinitionError, match="A window of time needs a mapper of time"):
        theirs.RollupMapper(upstream_mapper=theirs.FixedKeyMapper("all"), window=theirs.DayWindow())
    with pytest.raises(DefinitionError, match="needs a downstream_mapper"):
        theirs.FanOutMapper(upstream_mapper=theirs.StartOfHourMapper(), window=theirs.HourWindow())
    with pytest.raises(DefinitionError, match="a mapper of a user's own"):
        theirs.ProductMapper(object())
    with pytest.raises(DefinitionError, match="would wait for nothing"):
        theirs.MinimumCount(0)


@pytest.mark.parametrize(("offset", "key"), [(0, "2026-01-15 07"), (-1, "2026-01-15 06"), (2, "2026-01-15 09")])
def test_the_key_of_a_tick_is_in_its_zone(offset, key):
    schedule = Schedule(parse_timetable("0 * * * *", "Europe/Oslo"), key="%Y-%m-%d %H", key_offset=offset)
    interval = Interval(datetime(2026, 1, 15, 5, tzinfo=UTC), datetime(2026, 1, 15, 6, tzinfo=UTC))
    assert key_of(schedule, interval, {}).key == key
