"""A user's own timetable: how many of its intervals are known, and when its file is read again to know more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.parsing import Folder
from tidemill.authoring.schedules import BEHIND, read_schedule
from tidemill.flow.parse import Parser
from tidemill.model.batch import Interval
from tidemill.model.definition import AHEAD, Definition, Kind, Schedule
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Graph
from tidemill.plan.due import due_for, renewal
from tidemill.testing.clock import ManualClock
from tidemill.wiring.parsing import parser_parts
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

START = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Days:
    """Each day since a date, up to another."""

    def __init__(self, begin: datetime = START, end: datetime | None = None) -> None:
        self.begin, self.end = begin, end

    def next_interval(self, after: Interval | None) -> Interval | None:
        start = after.end if after else self.begin
        return None if self.end is not None and start >= self.end else Interval(start, start + DAY)


def of(schedule: Schedule, **options: object) -> Definition:
    return Definition("d", Kind.TASKS, Graph(()), schedule=schedule, **options)  # type: ignore[arg-type]


def test_what_is_known_lies_ahead_however_long_ago_it_began():
    found = read_schedule(Days(), "UTC", START, now=NOW)
    assert len(found.intervals) == BEHIND + AHEAD
    assert found.more
    assert found.intervals[BEHIND].start == NOW
    assert due_for(of(found), NOW, None, 5).intervals == (Interval(NOW - DAY, NOW),)


def test_with_catchup_nothing_since_the_start_is_missing():
    found = read_schedule(Days(), "UTC", NOW - 500 * DAY, catchup=True, now=NOW)
    assert len(found.intervals) == 500 + AHEAD
    assert found.intervals[0].start == NOW - 500 * DAY


def test_a_timetable_that_ends_is_not_asked_for_more():
    found = read_schedule(Days(end=NOW + 3 * DAY), "UTC", None, now=NOW)
    assert not found.more
    assert found.intervals[-1].end == NOW + 3 * DAY
    assert renewal([of(found)]) is None


def test_one_that_never_comes_to_the_present_is_a_mistake_and_does_not_hang():
    class Stuck:
        def next_interval(self, after: Interval | None) -> Interval:
            start = after.end if after else START
            return Interval(start, start + timedelta(milliseconds=1))

    with pytest.raises(DefinitionError, match="100000 intervals"):
        read_schedule(Stuck(), "UTC", None, now=NOW)


def test_it_is_read_again_when_fewer_than_half_would_lie_ahead():
    found = read_schedule(Days(), "UTC", None, now=NOW)
    at = renewal([of(found), of(Schedule())])
    assert at is not None
    ahead = [one for one in found.intervals if one.end > at]
    assert len(ahead) == AHEAD // 2 - 1
    assert due_for(of(found), at, None, 1).next_at is not None, "nothing has run out yet"


FILE = """
import datetime
import tidemill as tm
from tidemill.model.batch import Interval

with open({told!r}, "a") as told:
    told.write("read\\n")

class Days:
    def next_interval(self, after):
        start = after.end if after else datetime.datetime.now(datetime.UTC)
        return Interval(start, start + datetime.timedelta(days=1))

p = tm.Pipeline("own", schedule=Days())
p.files("x", name="t")
"""


def test_the_parser_reads_such_a_file_again_in_time_and_no_other(tmp_path: Path):
    """60 days later fewer than half of 100 days lie ahead; 20 days later more do."""
    told = tmp_path / "told"
    folder = Folder(tmp_path / "project")
    folder.write("pipelines/own.py", FILE.format(told=str(told)))
    settings = load_settings(folder.root)
    clock = ManualClock(datetime.now(UTC))
    metadata = open_metadata(settings, system_clock())
    parser = Parser(replace(parser_parts(settings, metadata, lambda _: None, None), clock=clock))
    inside, outside = os.pipe()
    os.write(outside, b"x")  # what is always readable keeps the loop from waiting: its time is the test's
    until = time.monotonic() + 120

    def reads() -> int:
        return told.read_text().count("read") if told.exists() else 0

    def story() -> Iterator[None]:
        while not reads():
            yield
        clock.advance(20 * DAY)
        for _ in range(50):
            yield
        assert reads() == 1
        clock.advance(40 * DAY)
        while reads() == 1:
            yield

    steps = story()

    def stopping() -> bool:
        assert time.monotonic() < until, "it was not read again"
        return next(steps, True) is True

    try:
        parser.follow(stopping, inside)
        assert reads() == 2
    finally:
        metadata.close()
        os.close(inside)
        os.close(outside)
