"""Promises of the store `refs`: pointers, bases, views, logs, time travel, tickets (rules 3, 5, 10)."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from harness.records import DAY, DELAYS, FLIGHTS, MINUTE, START, day, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN, REF_TRANSITIONS, RefKind, RefState
from tidemill.model.errors import Conflict, Refused, UnknownName
from tidemill.model.run import RunState
from tidemill.model.table import TableName
from tidemill.ports.metadata import View
from tidemill.testing.clock import ManualClock

K, S = RefKind, RefState
TICK = timedelta(microseconds=1)


def branch(store: SqlMetadata, name: str = "work", kind: RefKind = K.BRANCH, **pointers: str) -> None:
    with store.write() as tx:
        tx.refs.create(
            name, kind, now=START, pointers={TableName("flights", table): at for table, at in pointers.items()}
        )


def pointers(store: SqlMetadata, name: str = "work") -> dict[str, str]:
    with store.read() as tx:
        return {table.table: at for table, at in tx.refs.pointers(name).items()}


def test_main_always_exists_and_is_open(store: SqlMetadata) -> None:
    with store.read() as tx:
        main = tx.refs.get(MAIN)
        assert main is not None
        assert tx.refs.all() == [main]
        assert tx.refs.pointers(MAIN) == {}
    assert (main.kind, main.state, main.head) == (K.MAIN, S.OPEN, 0)


def test_a_new_ref_holds_its_pointers_bases_and_views(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    view = View(TableName("flights", "late"), "select * from departures")
    forked = {FLIGHTS: "p1", TableName("weather", "hourly"): "w1"}
    with store.write() as tx:
        made = tx.refs.create(
            "work",
            K.RUN,
            now=START,
            pointers=forked,
            views=[view],
            parent=MAIN,
            parent_head=0,
            run_id=run.id,
            expires_at=START + DAY,
        )
    with store.read() as tx:
        assert tx.refs.get("work") == made
        assert (tx.refs.pointers("work"), tx.refs.bases("work")) == (forked, forked)
        assert tx.refs.views("work") == {view.name: view}
        assert tx.refs.pointers(MAIN) == {}
    assert (made.kind, made.state, made.head, made.parent, made.parent_head) == (K.RUN, S.OPEN, 0, MAIN, 0)
    assert (made.run_id, made.created_at, made.expires_at) == (run.id, START, START + DAY)


def test_a_name_that_exists_is_refused(store: SqlMetadata) -> None:
    branch(store, departures="p1")
    for name in ("work", MAIN):
        with pytest.raises(Refused, match="exists"):
            branch(store, name, departures="p2")
    assert pointers(store) == {"departures": "p1"}


@pytest.mark.parametrize("end", [S.MERGED, S.DROPPED])
def test_the_name_of_a_ref_that_ended_is_free_and_then_means_the_newest(store: SqlMetadata, end: RefState) -> None:
    branch(store, departures="p1")
    with store.write() as tx:
        tx.refs.log("work", "write", now=START, changes={FLIGHTS: (None, "p1")})
        tx.refs.update("work", state=end)
        tx.refs.remove_pointers("work")
    branch(store, delays="d1")
    with store.read() as tx:
        newest = tx.refs.get("work")
        assert newest is not None
        assert (newest.state, newest.head) == (S.OPEN, 0)
        assert tx.refs.commits("work") == []
        assert tx.refs.bases("work") == {DELAYS: "d1"}
        assert [ref.state for ref in tx.refs.all() if ref.name == "work"] == [end, S.OPEN]
    assert pointers(store) == {"delays": "d1"}


def test_tables_that_lie_under_the_name_of_a_new_ref_are_not_taken_over(store: SqlMetadata) -> None:
    branch(store, departures="p1")
    with store.write() as tx:
        tx.refs.update("work", state=S.MERGED)  # and its pointers forgotten
    with pytest.raises(Refused, match='catalog "project@work" holds tables'):
        branch(store, departures="p2")
    assert pointers(store) == {"departures": "p1"}


@pytest.mark.parametrize("name", ["", "  ", "x" * 250])
def test_a_name_that_does_not_fit_the_catalog_is_refused(store: SqlMetadata, name: str) -> None:
    with pytest.raises(Refused, match="cannot name"):
        branch(store, name)


def test_a_pointer_longer_than_icebergs_column_is_refused(store: SqlMetadata) -> None:
    branch(store)
    with pytest.raises(Refused, match="longer than 1000"), store.write() as tx:
        tx.refs.swap("work", FLIGHTS, None, "p" * 1001)
    with pytest.raises(Refused, match="longer than 1000"):
        branch(store, "other", departures="p" * 1001)


def test_refs_are_listed_oldest_first_and_can_be_narrowed(store: SqlMetadata) -> None:
    branch(store, "b")
    branch(store, "a", K.TAG)
    branch(store, "c", K.RUN)
    with store.write() as tx:
        tx.refs.update("c", state=S.FAILED, expires_at=START + DAY)
    with store.read() as tx:
        assert [ref.name for ref in tx.refs.all()] == [MAIN, "b", "a", "c"]
        assert [ref.name for ref in tx.refs.all(kinds=[K.TAG, K.BRANCH])] == ["b", "a"]
        (failed,) = tx.refs.all(states=[S.FAILED])
    assert (failed.name, failed.expires_at) == ("c", START + DAY)


def test_a_ref_changes_state_only_along_the_table(store: SqlMetadata) -> None:
    """Above all: an absorbed branch is never merged (rule 6)."""
    for before, after in itertools.product(S, S):
        name = f"{before}-{after}"
        branch(store, name)
        with store.write() as tx:
            tx.refs.update(name, state=before)
            if after is before or after in REF_TRANSITIONS[before]:
                tx.refs.update(name, state=after)
                expected = after
            else:
                with pytest.raises(Refused, match=f"is {before}: it cannot become {after}"):
                    tx.refs.update(name, state=after)
                expected = before
            found = tx.refs.get(name)
        assert found is not None
        assert found.state is expected


def test_main_never_ends(store: SqlMetadata) -> None:
    with pytest.raises(Refused), store.write() as tx:
        tx.refs.update(MAIN, state=S.DROPPED)
    with pytest.raises(Refused), store.write() as tx:
        tx.refs.remove_pointers(MAIN)


def test_an_unknown_ref_gets_a_suggestion(store: SqlMetadata) -> None:
    branch(store, "repair")
    for use in ("lock", "remove_pointers", "update"):
        with pytest.raises(UnknownName, match="repiar") as caught, store.write() as tx:
            getattr(tx.refs, use)("repiar")
        assert caught.value.hint == 'did you mean "repair"?'
    with pytest.raises(UnknownName), store.write() as tx:
        tx.refs.swap("repiar", FLIGHTS, None, "p1")
    with store.read() as tx:
        assert tx.refs.get("repiar") is None
        assert tx.refs.pointers("repiar") == {}


def test_a_swap_creates_moves_and_drops(store: SqlMetadata) -> None:
    branch(store)
    for before, after in ((None, "p1"), ("p1", "p2"), ("p2", "p2"), ("p2", None), (None, "p3")):
        with store.write() as tx:
            tx.refs.swap("work", FLIGHTS, before, after)
        assert pointers(store) == ({"departures": after} if after else {})
    with store.write() as tx:
        tx.refs.swap("work", DELAYS, None, None)
    assert pointers(store, MAIN) == {}


@pytest.mark.parametrize(
    ("now", "before", "after"),
    [
        ("p1", "p0", "p2"),
        ("p1", None, "p2"),
        ("p1", "p0", None),
        ("p1", None, None),
        (None, "p0", "p2"),
        (None, "p0", None),
    ],
)
def test_a_swap_from_another_pointer_is_a_conflict_that_says_where_the_table_is(
    store: SqlMetadata, now: str | None, before: str | None, after: str | None
) -> None:
    given: dict[str, Any] = {"departures": now} if now else {}
    branch(store, **given)
    with pytest.raises(Conflict, match=r"flights\.departures on \"work\" was moved") as caught, store.write() as tx:
        tx.refs.swap("work", FLIGHTS, before, after)
    assert caught.value.retryable
    assert f"at {now}" in str(caught.value) if now else "does not exist" in str(caught.value)
    assert pointers(store) == ({"departures": now} if now else {})


def test_a_tag_never_moves(store: SqlMetadata) -> None:
    branch(store, "v1", K.TAG, departures="p1")
    with pytest.raises(Refused, match="is a tag"), store.write() as tx:
        tx.refs.swap("v1", FLIGHTS, "p1", "p2")
    assert pointers(store, "v1") == {"departures": "p1"}


@pytest.mark.parametrize("state", [S.MERGED, S.DROPPED, S.ABSORBED])
def test_nothing_is_written_to_a_ref_that_can_no_longer_be_published(store: SqlMetadata, state: RefState) -> None:
    branch(store, departures="p1")
    with store.write() as tx:
        tx.refs.swap("work", FLIGHTS, "p1", "p2")  # also not by the transaction that ends it
        tx.refs.update("work", state=state)
        for write in (
            lambda: tx.refs.swap("work", FLIGHTS, "p2", "p3"),
            lambda: tx.refs.set_base("work", FLIGHTS, "p3"),
            lambda: tx.refs.set_view("work", FLIGHTS, "select 1"),
            lambda: tx.refs.log("work", "write", now=START, changes={}),
        ):
            with pytest.raises(Refused, match=f"is {state}"):
                write()


def test_a_failed_branch_can_be_repaired(store: SqlMetadata) -> None:
    branch(store, departures="p1")
    with store.write() as tx:
        tx.refs.update("work", state=S.FAILED)
        tx.refs.swap("work", FLIGHTS, "p1", "p2")
    assert pointers(store) == {"departures": "p2"}


def test_removing_pointers_leaves_record_and_log(store: SqlMetadata) -> None:
    branch(store, departures="p1")
    branch(store, "other", departures="p1")
    with store.write() as tx:
        tx.refs.set_view("work", DELAYS, "select 1")
        tx.refs.log("work", "write", now=START, changes={FLIGHTS: (None, "p1")})
        tx.refs.update("work", state=S.MERGED)
        tx.refs.remove_pointers("work")
    with store.read() as tx:
        assert (tx.refs.pointers("work"), tx.refs.bases("work"), tx.refs.views("work")) == ({}, {}, {})
        assert len(tx.refs.commits("work")) == 1
        assert tx.refs.get("work") is not None
    assert pointers(store, "other") == {"departures": "p1"}


def test_bases_stay_where_the_branch_was_forked_until_they_are_set(store: SqlMetadata) -> None:
    branch(store, departures="p1", delays="d1")
    with store.write() as tx:
        tx.refs.swap("work", FLIGHTS, "p1", "p2")
        tx.refs.swap("work", DELAYS, "d1", None)
        assert tx.refs.bases("work") == {FLIGHTS: "p1", DELAYS: "d1"}
        tx.refs.set_base("work", FLIGHTS, "p9")
        tx.refs.set_base("work", DELAYS, None)
        tx.refs.set_base("work", TableName("weather", "hourly"), "w1")
        assert tx.refs.bases("work") == {FLIGHTS: "p9", TableName("weather", "hourly"): "w1"}


def test_views_are_set_replaced_and_dropped_on_their_ref(store: SqlMetadata) -> None:
    branch(store)
    with store.write() as tx:
        tx.refs.set_view("work", DELAYS, "select 1")
        tx.refs.set_view("work", DELAYS, "select 2")
        tx.refs.set_view(MAIN, FLIGHTS, "select 3")
        assert tx.refs.views("work") == {DELAYS: View(DELAYS, "select 2")}
        tx.refs.set_view("work", DELAYS, None)
        assert (tx.refs.views("work"), list(tx.refs.views(MAIN))) == ({}, [FLIGHTS])


def test_the_log_numbers_commits_and_raises_the_head(store: SqlMetadata, clock: ManualClock) -> None:
    batch, run = start_run(store, clock)
    with store.write() as tx:
        first = tx.refs.log(
            MAIN,
            "publish",
            now=START,
            changes={FLIGHTS: (None, "p1"), DELAYS: ("d1", None)},
            batch_id=batch.id,
            run_id=run.id,
            detail={"bookmarks": {"feed": [1, None]}, "a": "é"},
        )
        second = tx.refs.log(MAIN, "compact", now=START + DAY, changes={})
        assert tx.refs.lock(MAIN).head == 2
    with store.read() as tx:
        assert tx.refs.commits(MAIN) == [second, first]
        assert tx.refs.commits(MAIN, since=1) == [second]
        assert tx.refs.commits(MAIN, limit=1) == [second]
        assert tx.refs.commits(MAIN, batch_id=batch.id) == [first]
        assert tx.refs.commits(MAIN, batch_id=batch.id, since=1) == []
    assert (first.seq, first.at, second.seq) == (1, START, 2)
    assert first.detail == {"bookmarks": {"feed": [1, None]}, "a": "é"}


def test_commit_times_only_grow_though_the_clock_stands_or_goes_back(store: SqlMetadata) -> None:
    times = [START, START, START - DAY, START + TICK, START + DAY]
    with store.write() as tx:
        got = [tx.refs.log(MAIN, "publish", now=now, changes={}).at for now in times]
    assert got == [START, START + TICK, START + 2 * TICK, START + 3 * TICK, START + DAY]


def test_pointers_as_of_a_moment_come_from_the_log(store: SqlMetadata, clock: ManualClock) -> None:
    planes = TableName("flights", "planes")
    steps: list[dict[TableName, tuple[str | None, str | None]]] = [
        {FLIGHTS: (None, "p1"), DELAYS: (None, "d1")},
        {FLIGHTS: ("p1", "p2")},
        {DELAYS: ("d1", None), planes: (None, "l1")},
        {DELAYS: (None, "d2")},
    ]
    for number, changes in enumerate(steps, start=1):
        with store.write() as tx:
            for table, (before, after) in changes.items():
                tx.refs.swap(MAIN, table, before, after)
            tx.refs.log(MAIN, "publish", now=START + number * DAY, changes=changes)
    expected: list[dict[TableName, str]] = [
        {},
        {FLIGHTS: "p1", DELAYS: "d1"},
        {FLIGHTS: "p2", DELAYS: "d1"},
        {FLIGHTS: "p2", planes: "l1"},
        {FLIGHTS: "p2", planes: "l1", DELAYS: "d2"},
    ]
    with store.read() as tx:
        for number, pointers_then in enumerate(expected):
            at = START + number * DAY
            assert tx.refs.pointers_at(MAIN, at) == pointers_then, number
            assert tx.refs.pointers_at(MAIN, at + DAY - TICK) == pointers_then, number
        assert tx.refs.pointers_at(MAIN, START + 99 * DAY) == tx.refs.pointers(MAIN)
        assert tx.refs.pointers_at("nowhere", START) == {}


def test_time_travel_on_a_branch_begins_with_what_it_was_forked_with(store: SqlMetadata) -> None:
    branch(store, departures="p1", delays="d1")
    with store.write() as tx:
        tx.refs.swap("work", FLIGHTS, "p1", "p2")
        tx.refs.log("work", "write", now=START + DAY, changes={FLIGHTS: ("p1", "p2")})
        tx.refs.set_base("work", FLIGHTS, "p9")  # a new fork point does not rewrite the past
    with store.read() as tx:
        assert tx.refs.pointers_at("work", START - TICK) == {}
        assert tx.refs.pointers_at("work", START) == {FLIGHTS: "p1", DELAYS: "d1"}
        assert tx.refs.pointers_at("work", START + DAY) == {FLIGHTS: "p2", DELAYS: "d1"}


def test_a_ticket_is_held_by_one_run_as_long_as_it_lives(store: SqlMetadata, clock: ManualClock) -> None:
    _, one = start_run(store, clock, day(0))
    _, other = start_run(store, clock, day(1))
    with store.write() as tx:
        assert tx.refs.ticket_holder(FLIGHTS, START) is None
        assert tx.refs.ticket(FLIGHTS, one.id, now=START)
        assert not tx.refs.ticket(FLIGHTS, other.id, now=START)
        assert tx.refs.ticket(DELAYS, other.id, now=START)
        tx.runs.renew(one.id, one.fence, START + 2 * MINUTE)
        assert tx.refs.ticket_holder(FLIGHTS, START + 2 * MINUTE - TICK) == one.id
        assert tx.refs.ticket_holder(FLIGHTS, START + 2 * MINUTE) is None
        assert tx.refs.ticket(FLIGHTS, other.id, now=START + 2 * MINUTE)
        tx.runs.renew(other.id, other.fence, START + 4 * MINUTE)
        assert not tx.refs.ticket(FLIGHTS, one.id, now=START + 3 * MINUTE)
        tx.runs.move(other.id, other.fence, RunState.FAILED, now=START)
        assert tx.refs.ticket_holder(FLIGHTS, START) is None, "it has ended"
        assert tx.refs.ticket(FLIGHTS, one.id, now=START)
        tx.refs.release_tickets(one.id)
        assert tx.refs.ticket_holder(FLIGHTS, START) is None
