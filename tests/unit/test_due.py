"""Which runs a schedule asks for, whenever it is looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition, Kind, Schedule
from tidemill.model.graph import Graph
from tidemill.model.timetable import Timetable
from tidemill.plan.due import Due, due, due_for, late_again, late_at, upcoming
from tidemill.plan.schedule import intervals, parse_timetable


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily() -> Timetable:
    made = parse_timetable("@daily")
    assert made is not None
    return made


def days(found: Due) -> list[str]:
    return [interval.ds for interval in found.intervals]


START = at("2026-01-01")


def test_a_late_file_is_waited_for_up_to_an_hour() -> None:
    minutes = [late_again(times).total_seconds() / 60 for times in (1, 2, 3, 4, 5, 6, 7, 8, 1000)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_day_is_due_when_it_is_over() -> None:
    before = due(daily(), at("2026-01-01T23:59"), start=START)
    assert (days(before), before.next_at) == ([], at("2026-01-02"))
    after = due(daily(), at("2026-01-02"), start=START)
    assert (days(after), after.next_at) == (["2026-01-01"], at("2026-01-03"))


def test_what_was_begun_is_not_due_again() -> None:
    begun = Interval(START, at("2026-01-02"))
    found = due(daily(), at("2026-01-02T05:00"), start=START, newest=begun)
    assert (days(found), found.next_at) == ([], at("2026-01-03"))


def test_only_the_latest_without_catchup_and_all_with_it() -> None:
    now = at("2026-01-05T01:00")
    assert days(due(daily(), now, start=START, room=9)) == ["2026-01-04"]
    found = due(daily(), now, start=START, catchup=True, room=9)
    assert days(found) == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    assert found.next_at == at("2026-01-06")


def test_catching_up_goes_on_when_runs_end_not_by_time() -> None:
    now = at("2026-01-05T01:00")
    found = due(daily(), now, start=START, catchup=True, room=2)
    assert (days(found), found.next_at) == (["2026-01-01", "2026-01-02"], None)
    full = due(daily(), now, start=START, catchup=True, newest=found.intervals[-1], room=0)
    assert (days(full), full.next_at) == ([], None)
    rest = due(daily(), now, start=START, catchup=True, newest=found.intervals[-1], room=2)
    assert (days(rest), rest.next_at) == (["2026-01-03", "2026-01-04"], at("2026-01-06"))


def test_without_a_start_there_is_nothing_to_catch_up_with() -> None:
    assert days(due(daily(), at("2026-01-05T01:00"), catchup=True, room=9)) == ["2026-01-04"]


def test_nothing_is_due_after_the_end_or_before_the_start() -> None:
    over = due(daily(), at("2026-03-01"), start=START, end=at("2026-01-03"), newest=None)
    assert (days(over), over.next_at) == (["2026-01-02"], None)
    done = due(daily(), at("2026-03-01"), start=START, end=at("2026-01-03"), newest=over.intervals[-1])
    assert done == Due()
    early = due(daily(), at("2025-12-24"), start=START)
    assert (days(early), early.next_at) == ([], at("2026-01-02"))


def test_a_changed_schedule_asks_for_no_interval_that_overlaps_one_begun() -> None:
    """From daily to hourly at noon: the day that was begun is not cut into hours."""
    hourly = parse_timetable("@hourly")
    assert hourly is not None
    begun = Interval(at("2026-01-04"), at("2026-01-05"))
    found = due(hourly, at("2026-01-05T02:10"), start=START, catchup=True, newest=begun, room=9)
    assert [str(i) for i in found.intervals] == [
        "2026-01-05T00:00..2026-01-05T01:00",
        "2026-01-05T01:00..2026-01-05T02:00",
    ]


@settings(max_examples=few(200), deadline=None)
@given(
    looks=st.lists(st.tuples(st.integers(0, 60 * 24 * 20), st.integers(0, 4)), min_size=1, max_size=25),
    text=st.sampled_from(["@daily", "@hourly", "0 */5 * * *", "30 1 * * *", "7h"]),
    zone=st.sampled_from(["UTC", "Europe/London"]),
    catchup=st.booleans(),
    first=st.sampled_from(["2026-03-20", "2026-10-15T12:30"]),
)
def test_however_it_is_looked_at_nothing_is_missed_or_doubled(
    looks: list[Any], text: str, zone: str, catchup: bool, first: str
) -> None:
    """With catchup every interval comes once, in order; without it those that come are once and in order too."""
    timetable = parse_timetable(text, zone)
    assert timetable is not None
    start = at(first)
    begun: list[Interval] = []
    for minutes, room in sorted(looks):
        now = start + timedelta(minutes=minutes)
        found = due(timetable, now, start=start, catchup=catchup, newest=begun[-1] if begun else None, room=room)
        assert len(found.intervals) <= room
        assert all(i.end.astimezone(UTC) <= now for i in found.intervals)
        assert found.next_at is None or found.next_at > now
        begun += found.intervals
    now = start + timedelta(minutes=max(m for m, _ in looks))
    begun += due(timetable, now, start=start, catchup=catchup, newest=begun[-1] if begun else None, room=999).intervals
    every = list(intervals(timetable, start, now, start))
    if catchup:
        assert begun == every
    else:
        assert begun == [i for i in every if i in set(begun)]
        assert begun[-1:] == every[-1:]
    assert due(timetable, now, start=start, catchup=catchup, newest=begun[-1] if begun else None).intervals == ()


@settings(deadline=None)
@given(
    st.booleans(),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["@hourly", "5h", "@daily"]),
)
def test_what_is_told_to_come_is_what_a_planner_asks_for(
    catchup: bool, hours: int, begun: int, most: int, text: str
) -> None:
    """`upcoming` against a planner that looks at each `next_at`, one run at a time."""
    start = datetime(2026, 3, 28, tzinfo=UTC)
    timetable = parse_timetable(text, "Europe/London")
    made = Definition("p", Kind.TASKS, Graph([]), schedule=Schedule(timetable), start=start, catchup=catchup,
                      end=start + timedelta(days=9))  # fmt: skip
    now = start + timedelta(hours=hours)
    newest: Interval | None = None
    asked: list[tuple[datetime, Interval]] = []
    while len(asked) < begun + most:
        wanted = due_for(made, now, newest, 1)
        asked += [(now, one) for one in wanted.intervals]
        newest = asked[-1][1] if asked else None
        if wanted.next_at is None and not wanted.intervals:
            break
        now = max(now, wanted.next_at or now)
    past = asked[begun - 1] if len(asked) >= begun else None
    if past is not None:
        assert upcoming(made, past[0], past[1], most) == asked[begun : begun + most]
    assert upcoming(made, start + timedelta(hours=hours), None, most) == asked[:most]


@pytest.mark.parametrize(
    ("whence", "with_interval", "without"),
    [
        ("", datetime(2026, 1, 2, 2, tzinfo=UTC), datetime(2026, 1, 5, 2, tzinfo=UTC)),
        ("start", datetime(2026, 1, 1, 2, tzinfo=UTC), datetime(2026, 1, 5, 2, tzinfo=UTC)),
        ("created", datetime(2026, 1, 5, 2, tzinfo=UTC), datetime(2026, 1, 5, 2, tzinfo=UTC)),
        ("2026-03-01T01:00:00+01:00", datetime(2026, 3, 1, 2, tzinfo=UTC), datetime(2026, 3, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_deadline_counts_from_where_it_says(whence: str, with_interval: datetime, without: datetime) -> None:
    made = Definition("p", Kind.TASKS, Graph(()), deadline=timedelta(hours=2), deadline_from=whence)
    day = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    created = datetime(2026, 1, 5, tzinfo=UTC)
    assert (late_at(made, day, created), late_at(made, None, created)) == (with_interval, without)
    assert late_at(replace(made, deadline=None), day, created) is None
