"""Promises of the stores `bookmarks`, `archive`, `leases`, `checks`, `events` (rules 6, 8, 11)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.records import DAY, DELAYS, FLIGHTS, MINUTE, START, check_record, day, manifest, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import Contents, Interval, Part
from tidemill.model.errors import Conflict, Refused, UnknownName
from tidemill.ports.metadata import BookmarkRecord
from tidemill.testing.clock import ManualClock

# -- bookmarks ---------------------------------------------------------------------------------------------------------


def test_a_source_without_a_bookmark_is_at_version_zero(store: SqlMetadata) -> None:
    with store.read() as tx:
        assert tx.bookmarks.get("flights", "feed") == BookmarkRecord(None, 0, None)


def test_a_bookmark_moves_by_compare_and_set(store: SqlMetadata, clock: ManualClock) -> None:
    batch, _ = start_run(store, clock)
    with store.write() as tx:
        tx.bookmarks.swap("flights", "feed", 0, "2024-01-01", batch.id)
        tx.bookmarks.swap("flights", "feed", 1, None, batch.id)
        tx.bookmarks.swap("flights", "feed", 2, {"page": 2}, batch.id)
        tx.bookmarks.swap("weather", "feed", 0, 7, batch.id)
    for stale in (0, 1, 2, 4):
        with pytest.raises(Conflict, match="moved by another batch") as caught, store.write() as tx:
            tx.bookmarks.swap("flights", "feed", stale, "back", batch.id)
        assert "at version 3" in str(caught.value)
    with store.read() as tx:
        assert tx.bookmarks.get("flights", "feed") == BookmarkRecord({"page": 2}, 3, batch.id)
        assert tx.bookmarks.get("weather", "feed") == BookmarkRecord(7, 1, batch.id)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_a_bookmark_comes_back_as_it_was_put(store: SqlMetadata, clock: ManualClock, value: object) -> None:
    """Any JSON value: integers beyond 64 bits, floats to the last bit, any text, the order of keys."""
    now = clock.now()
    with store.write() as tx:
        batch = tx.batches.open(day(0), now)
        version = tx.bookmarks.get("flights", "feed").version
        tx.bookmarks.swap("flights", "feed", version, value, batch.id)  # type: ignore[arg-type]
        found = tx.bookmarks.get("flights", "feed").value
    assert (repr(found), type(found)) == (repr(value), type(value))


# -- archive -----------------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_whole_with_its_parts_in_order(store: SqlMetadata, clock: ManualClock) -> None:
    batch, _ = start_run(store, clock)
    full = manifest(
        batch.id,
        interval=Interval(START, START + DAY),
        bookmark_before=None,
        bookmark_after={"page": 2},
        contents=Contents(5, 1, {"": {"z": "long", "a": "string"}}, (4, 2), {"flatten": True}, START, "abc"),
    )
    with store.write() as tx:
        tx.archive.add(full)
    with store.read() as tx:
        found = tx.archive.get(batch.id, "feed")
    assert found == full
    assert found is not None
    assert list(found.schema) == ["z", "a"]


def test_recording_the_same_manifest_again_is_no_error_but_another_content_is_refused(
    store: SqlMetadata, clock: ManualClock
) -> None:
    batch, _ = start_run(store, clock)
    same = manifest(batch.id)
    other = replace(same, parts=(replace(same.parts[0], sha256="ff" * 32), same.parts[1]))
    with store.write() as tx:
        tx.archive.add(same)
        tx.archive.add(same)
        with pytest.raises(Refused, match="never rewritten"):
            tx.archive.add(other)
        assert tx.archive.recent() == [same]


def test_what_the_first_load_found_is_added_once_and_stays(store: SqlMetadata, clock: ManualClock) -> None:
    batch, _ = start_run(store, clock)
    sealed = manifest(batch.id)
    first = sealed.described(Contents(27, 1, {"": {"id": "long"}}, (11, 17), {}, START, "abc"))
    later = sealed.described(Contents(99, 0, {"": {"id": "string"}}, (82, 17), {}, START, "abd"))
    with store.write() as tx:
        tx.archive.add(sealed)
        tx.archive.describe(first)
        tx.archive.describe(later)
        tx.archive.add(sealed)
        with pytest.raises(UnknownName):
            tx.archive.describe(manifest(batch.id, 2))
    with store.read() as tx:
        found = tx.archive.get(batch.id, "feed")
    assert found == first
    assert found is not None
    assert ([p.rows for p in found.parts], found.rows) == ([11, 17], 28)


def test_the_newest_version_is_the_one_in_use_and_older_ones_stay(store: SqlMetadata, clock: ManualClock) -> None:
    batch, _ = start_run(store, clock)
    one, two = manifest(batch.id, 1), manifest(batch.id, 2, parts=())
    with store.write() as tx:
        tx.archive.add(two)
        tx.archive.add(one)
        assert tx.archive.get(batch.id, "feed") == two
        assert tx.archive.get(batch.id, "feed", 1) == one
        assert tx.archive.get(batch.id, "feed", 3) is None
        assert tx.archive.get(batch.id, "other") is None


def test_manifests_are_listed_newest_batch_first_and_can_be_narrowed(store: SqlMetadata, clock: ManualClock) -> None:
    first, _ = start_run(store, clock, day(0))
    second, _ = start_run(store, clock, day(1))
    a, b = manifest(first.id), manifest(second.id)
    c = replace(manifest(first.id), pipeline="weather", source="hourly", parts=(Part("w", "w", "22" * 32, 1),))
    with store.write() as tx:
        for each in (a, b, c):
            tx.archive.add(each)
        assert tx.archive.recent() == [b, a, c]
        assert tx.archive.recent(batch_id=first.id) == [a, c]
        assert tx.archive.recent(pipeline="weather") == [c]
        assert tx.archive.recent(pipeline="nothing") == []


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_holds_its_pointers_until_its_time(store: SqlMetadata) -> None:
    with store.write() as tx:
        short = tx.leases.acquire("reader 1", [(FLIGHTS, "p1"), (DELAYS, "d1")], START + MINUTE)
        long = tx.leases.acquire("reader 2", [], START + DAY)
        first, second = tx.leases.live(START)
        assert (first.id, first.holder, first.until) == (short, "reader 1", START + MINUTE)
        assert first.pointers == ((FLIGHTS, "p1"), (DELAYS, "d1"))
        assert [lease.id for lease in tx.leases.live(START + MINUTE)] == [long]
        assert second.id == long
        assert [lease.id for lease in tx.leases.live(START)] == [long], "what was over has been removed"


def test_a_look_at_leases_in_a_read_removes_nothing(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.leases.acquire("reader", [], START + MINUTE)
    with store.read() as tx:
        assert tx.leases.live(START + DAY) == []
        assert len(tx.leases.live(START)) == 1


def test_a_renewed_lease_lives_on_and_one_that_the_collector_took_away_cannot_be_renewed(store: SqlMetadata) -> None:
    with store.write() as tx:
        lease = tx.leases.acquire("reader", [(FLIGHTS, "p1")], START + MINUTE)
        tx.leases.renew(lease, START + 3 * MINUTE)
        assert len(tx.leases.live(START + 2 * MINUTE)) == 1
        assert tx.leases.live(START + 3 * MINUTE) == []
    with pytest.raises(Conflict, match="is over"), store.write() as tx:
        tx.leases.renew(lease, START + 9 * MINUTE)


def test_a_lease_can_be_ended_twice(store: SqlMetadata) -> None:
    with store.write() as tx:
        lease = tx.leases.acquire("reader", [], START + MINUTE)
        tx.leases.release(lease)
        tx.leases.release(lease)
        assert tx.leases.live(START) == []


def test_a_lease_id_is_never_given_out_twice(store: SqlMetadata) -> None:
    with store.write() as tx:
        first = tx.leases.acquire("a", [], START + MINUTE)
        tx.leases.release(first)
        assert tx.leases.acquire("b", [], START + MINUTE) > first


def test_doomed_files_keep_the_time_at_which_they_were_first_seen(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.leases.doom(["b", "a", "a"], START)
        tx.leases.doom(["a", "c"], START + DAY)
        assert tx.leases.doomed(START) == []
        assert tx.leases.doomed(START + DAY) == ["a", "b"]
        assert tx.leases.doomed(START + 2 * DAY) == ["a", "b", "c"]


def test_pardoned_files_are_forgotten(store: SqlMetadata) -> None:
    paths = [f"data/{n}.parquet" for n in range(2000)]
    with store.write() as tx:
        tx.leases.doom(paths, START)
        tx.leases.pardon([*paths[:1999], "unknown"])
        assert tx.leases.doomed(START + DAY) == paths[1999:]
        tx.leases.doom(paths[:1], START + 2 * DAY)
        assert tx.leases.doomed(START + DAY) == paths[1999:], "doomed again, its time begins again"


# -- checks ------------------------------------------------------------------------------------------------------------


def test_results_of_checks_come_back_whole_newest_first(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock, day(0))
    _, other = start_run(store, clock, day(1))
    passed = check_record(run)
    failed = check_record(
        run,
        DELAYS,
        name="delay_is_sane",
        severity="warn",
        passed=False,
        rows=842,
        failed=3,
        observed="max 1301",
        expected="<= 1000",
        failures="failures/1.parquet",
        error="e",
    )
    elsewhere = check_record(other)
    with store.write() as tx:
        tx.checks.add([passed, failed])
        tx.checks.add([elsewhere])
        tx.checks.add([])
        assert tx.checks.recent() == [elsewhere, failed, passed]
        assert tx.checks.recent(run_id=run.id) == [failed, passed]
        assert tx.checks.recent(table=FLIGHTS) == [elsewhere, passed]
        assert tx.checks.recent(limit=1) == [elsewhere]


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_wait_oldest_first_until_they_are_done(store: SqlMetadata) -> None:
    with store.write() as tx:
        first, second = (tx.events.add("published", {"batch": n}, START) for n in (1, 2))
        tx.events.add("stale", {}, START)
        assert [event.id for event in tx.events.pending("published")] == [first, second]
        assert [event.id for event in tx.events.pending("published", limit=1)] == [first]
        tx.events.done(first, START + DAY)
        assert [event.id for event in tx.events.pending("published")] == [second]


def test_a_failed_try_is_counted_and_the_event_waits_on(store: SqlMetadata) -> None:
    with store.write() as tx:
        event_id = tx.events.add("deliver", {"to": "warehouse"}, START)
        tx.events.done(event_id, START, error="no answer")
        tx.events.done(event_id, START, error="still no answer")
        (event,) = tx.events.pending("deliver")
        assert (event.tries, event.error, event.done_at, event.payload) == (
            2, "still no answer", None, {"to": "warehouse"},
        )  # fmt: skip
        tx.events.done(event_id, START + DAY)
        tx.events.done(event_id, START + DAY, error="late report")
        assert tx.events.pending("deliver") == []
