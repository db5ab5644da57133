"""Promises of the store `batches` (rule 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from harness.records import DAY, START, day
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import BATCH_TRANSITIONS, Batch, BatchKey, BatchState, Interval
from tidemill.model.errors import Refused, UnknownName
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]
BERLIN = ZoneInfo("Europe/Berlin")


def opened(store: SqlMetadata, key: BatchKey, state: BatchState = BatchState.OPEN) -> Batch:
    with store.write() as tx:
        batch = tx.batches.open(key, START)
        if state in (BatchState.PUBLISHED, BatchState.REVERTED):
            tx.batches.update(batch.id, state=BatchState.PUBLISHED, published_at=START)
        if state is not BatchState.OPEN:
            tx.batches.update(batch.id, state=state)
        found = tx.batches.get(batch.id)
        assert found is not None
        return found


def spanning(first: float, last: float, pipeline: str = "flights") -> BatchKey:
    return BatchKey(pipeline, Interval(START + first * DAY, START + last * DAY))


def test_ids_are_small_integers_that_grow(store: SqlMetadata) -> None:
    assert [opened(store, day(n)).id for n in (5, 3, 4)] == [1, 2, 3]


def test_the_same_key_is_the_same_batch_for_ever(store: SqlMetadata, clock: ManualClock) -> None:
    first = opened(store, day(0))
    clock.advance(DAY)
    assert opened(store, day(0)) == first
    assert first.state is BatchState.OPEN
    assert first.created_at == START


def test_a_duplicate_run_key_gets_the_first_batch(store: SqlMetadata) -> None:
    first = opened(store, BatchKey("flights", run_key="upload 7"))
    assert opened(store, BatchKey("flights", run_key="upload 7")).id == first.id
    assert opened(store, BatchKey("weather", run_key="upload 7")).id != first.id
    assert first.key.interval is None


def test_the_same_interval_in_another_zone_is_the_same_batch(store: SqlMetadata) -> None:
    berlin = Interval(datetime(2024, 3, 31, tzinfo=BERLIN), datetime(2024, 4, 1, tzinfo=BERLIN))
    utc = Interval(berlin.start.astimezone(UTC), berlin.end.astimezone(UTC))
    assert opened(store, BatchKey("flights", berlin)).id == opened(store, BatchKey("flights", utc)).id


@pytest.mark.parametrize(
    "zone", [BERLIN, UTC, ZoneInfo("UTC"), timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))]
)
def test_an_interval_comes_back_in_its_own_zone_so_that_its_date_stays(
    store: SqlMetadata, zone: ZoneInfo | timezone
) -> None:
    interval = Interval(datetime(2024, 3, 31, tzinfo=zone), datetime(2024, 4, 1, tzinfo=zone))  # a change of clocks
    found = opened(store, BatchKey("flights", interval)).key.interval
    assert found == interval
    assert found is not None
    assert (found.ds, str(found)) == ("2024-03-31", "2024-03-31")
    assert found.end.utcoffset() == interval.end.utcoffset()


def test_find_and_get_make_nothing(store: SqlMetadata) -> None:
    with store.write() as tx:
        assert tx.batches.find(day(0)) is None
        assert tx.batches.get(1) is None
    with store.read() as tx:
        assert tx.batches.recent() == []


def test_recent_is_newest_first_and_can_be_narrowed(store: SqlMetadata) -> None:
    a, b = opened(store, day(0), BatchState.PUBLISHED), opened(store, day(1))
    c = opened(store, day(0, "weather"))
    with store.read() as tx:
        assert tx.batches.recent() == [c, b, a]
        assert tx.batches.recent(limit=1) == [c]
        assert tx.batches.recent("flights") == [b, a]
        assert tx.batches.recent("flights", state=BatchState.PUBLISHED) == [a]


@pytest.mark.parametrize(
    ("first", "last"), [(0.5, 1.5), (-1, 0.5), (-1, 3), (0.2, 0.4), (1.5, 2.5), (0, 2), (1, 5)], ids=str
)
def test_an_interval_that_overlaps_a_published_one_is_refused(store: SqlMetadata, first: float, last: float) -> None:
    for number in (0, 1):
        opened(store, day(number), BatchState.PUBLISHED)
    with pytest.raises(Refused, match=r"overlaps 2024-01-0[12], which batch [12] published") as caught:
        opened(store, spanning(first, last))
    assert caught.value.hint is not None


def test_intervals_that_touch_or_belong_to_others_do_not_overlap(store: SqlMetadata) -> None:
    opened(store, day(1), BatchState.PUBLISHED)
    opened(store, day(3))
    opened(store, day(5), BatchState.REVERTED)
    assert opened(store, day(1)).id == 1  # the same interval again
    for key in (day(0), day(2), spanning(3.5, 4.5), spanning(5.2, 5.4), spanning(0.5, 1.5, "weather")):
        opened(store, key)


def test_of_two_overlapping_batches_opened_before_either_published_only_one_publishes(store: SqlMetadata) -> None:
    one, other = opened(store, spanning(0, 2)), opened(store, spanning(1, 3))
    with store.write() as tx:
        tx.batches.update(one.id, state=BatchState.PUBLISHED)
    with pytest.raises(Refused, match="overlaps"), store.write() as tx:
        tx.batches.update(other.id, state=BatchState.PUBLISHED)


def test_update_sets_only_what_it_is_given(store: SqlMetadata) -> None:
    batch = opened(store, day(0))
    with store.write() as tx:
        tx.batches.update(batch.id, archived_at=START + DAY, code_version="abc")
        tx.batches.update(batch.id, loaded_at=START + 2 * DAY)
        tx.batches.update(batch.id)
        found = tx.batches.get(batch.id)
    assert found is not None
    assert (found.archived_at, found.loaded_at, found.code_version) == (START + DAY, START + 2 * DAY, "abc")
    assert (found.state, found.published_at) == (BatchState.OPEN, None)


def test_update_of_what_does_not_exist_is_told(store: SqlMetadata) -> None:
    with pytest.raises(UnknownName, match="no batch 7"), store.write() as tx:
        tx.batches.update(7, state=BatchState.PUBLISHED)
    with pytest.raises(TypeError, match="colour"), store.write() as tx:
        tx.batches.update(7, colour="blue")


def test_a_batch_changes_state_only_along_the_table(store: SqlMetadata) -> None:
    """Above all: an absorbed batch never publishes (rule 6)."""
    for number, (before, after) in enumerate(itertools.product(BatchState, BatchState)):
        batch = opened(store, day(number), before)
        with store.write() as tx:
            if after is before or after in BATCH_TRANSITIONS[before]:
                tx.batches.update(batch.id, state=after)
                expected = after
            else:
                with pytest.raises(Refused, match=f"is {before}: it cannot become {after}"):
                    tx.batches.update(batch.id, state=after)
                expected = before
            found = tx.batches.get(batch.id)
        assert found is not None
        assert found.state is expected
