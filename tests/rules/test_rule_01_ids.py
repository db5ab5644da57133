"""Rule 1: batch ids are small integers, unique per (pipeline, interval) or run key; attempts are numbered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.project import Project
from tidemill.model.batch import BatchKey
from tidemill.model.errors import Refused


def test_two_runs_of_one_interval_are_one_batch_with_two_attempts(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}])
    first, other, again = (project.run(p, day) for day in ("2026-01-01", "2026-01-02", "2026-01-01"))
    assert [first.batch.id, other.batch.id, again.batch.id] == [1, 2, 1]
    assert [first.run.attempt, again.run.attempt] == [1, 2]
    assert project.rows("select day, count(*) as n from shop.orders group by all order by day") == [
        {"day": "d01", "n": 1},
        {"day": "d02", "n": 1},
    ]


def test_a_run_key_given_twice_is_the_first_batch(project: Project) -> None:
    p = project.pipeline(schedule=None)
    assert project.run(p, "order-77").batch.id == project.run(p, "order-77").batch.id
    assert project.run(p, "order-78").batch.id == 2


def test_a_changed_schedule_whose_intervals_overlap_published_ones_is_refused(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}])
    assert project.run(p, "2026-01-01").ok
    hourly: Any = project.pipeline(schedule="@hourly")
    declare_feed(hourly, lambda interval: [{"day": "d" + interval.ds[-2:]}])
    with pytest.raises(Refused, match="overlap"):
        project.run(hourly, "2026-01-01T03:00")
    assert project.run(hourly, "2026-01-02T03:00").ok


def test_a_batch_needs_an_interval_or_a_run_key() -> None:
    with pytest.raises(Exception, match="either an interval or a run key"):
        BatchKey("shop")
