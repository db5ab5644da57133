"""Conformance of the port `topic`: groups of members and their commits. One test a promise, over every adapter."""

from __future__ import annotations

import uuid

import pytest

from harness.topics import Ledger, Peer, Place, nothing, settle, values
from tidemill.model.errors import Busy, Fenced
from tidemill.ports.topic import LONGEST_NOTE, Guarantee, Partition, Position

TASKS = 8


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_one_member_has_all_tasks(place: Place, ledger: Ledger, group: str) -> None:
    one = Peer(place, ledger, group, TASKS)
    settle(place, [one], TASKS)
    assert one.member.tasks == frozenset(range(TASKS))


def test_two_members_share_all_tasks_and_none_is_ever_of_both(place: Place, ledger: Ledger, group: str) -> None:
    peers = [Peer(place, ledger, group, TASKS)]
    settle(place, peers, TASKS)
    peers.append(Peer(place, ledger, group, TASKS))
    settle(place, peers, TASKS)  # each hand-over is checked by the ledger
    assert peers[0].member.tasks | peers[1].member.tasks == frozenset(range(TASKS))
    assert not peers[0].member.tasks & peers[1].member.tasks


def test_a_newcomer_moves_no_more_tasks_than_it_gets(place: Place, ledger: Ledger, group: str) -> None:
    peers = [Peer(place, ledger, group, TASKS) for _ in range(2)]
    settle(place, peers, TASKS)
    had, before = [peer.mine() for peer in peers], ledger.moves
    peers.append(Peer(place, ledger, group, TASKS))
    settle(place, peers, TASKS)
    assert ledger.moves - before == len(peers[2].mine())
    assert all(peer.mine() <= mine for peer, mine in zip(peers, had, strict=False)), "those who stay keep theirs"


def test_the_tasks_of_a_member_that_leaves_go_to_the_others_and_theirs_stay(
    place: Place, ledger: Ledger, group: str
) -> None:
    peers = [Peer(place, ledger, group, TASKS) for _ in range(3)]
    settle(place, peers, TASKS)
    had, before = [peer.mine() for peer in peers], ledger.moves
    peers[2].leave()
    began = place.clock.monotonic()
    settle(place, peers[:2], TASKS)
    assert all(mine <= peer.mine() for peer, mine in zip(peers[:2], had, strict=False))
    assert ledger.moves - before == len(had[2])
    assert place.clock.monotonic() - began < place.session.total_seconds(), "nobody waits for the session's end"


def test_the_tasks_of_a_member_that_falls_silent_go_to_the_others_after_the_session(
    place: Place, ledger: Ledger, group: str
) -> None:
    peers = [Peer(place, ledger, group, TASKS) for _ in range(2)]
    settle(place, peers, TASKS)
    had = peers[0].mine()
    peers[1].die()
    settle(place, peers[:1], TASKS)
    assert had <= peers[0].mine()


def test_more_members_than_tasks_leave_some_without(place: Place, ledger: Ledger, group: str) -> None:
    peers = [Peer(place, ledger, group, 2) for _ in range(3)]
    settle(place, peers, 2)
    assert sorted(len(peer.mine()) for peer in peers) == [0, 1, 1]


def test_groups_do_not_share_with_each_other(place: Place, group: str) -> None:
    one, other = Peer(place, Ledger(), group, 2), Peer(place, Ledger(), f"{group}-other", 2)
    settle(place, [one], 2)
    settle(place, [other], 2)
    one.poll()
    assert one.member.tasks == other.member.tasks == {0, 1}


def test_a_member_commits_for_the_tasks_that_it_gives_up_and_their_next_owner_sees_it(
    place: Place, ledger: Ledger, group: str
) -> None:
    topic = place.topic(2)
    one = Peer(place, ledger, group, 2)
    writer = place.writer("exactly-once")
    settle(place, [one], 2)

    def commit(tasks: frozenset[int]) -> None:
        writer.send(topic, [b"last words"] * len(tasks), partitions=sorted(tasks))
        writer.commit({Partition(topic, task): Position(5, "handed over") for task in tasks}, one.member)

    one.last_act = commit
    other = Peer(place, ledger, group, 2)
    settle(place, [one, other], 2)
    [task] = other.mine()
    here = Partition(topic, task)
    assert other.member.committed([here]) == {here: Position(5, "handed over")}
    assert values(place, topic, 1, number=task) == [b"last words"]


def test_messages_and_positions_with_notes_are_committed_together(place: Place, ledger: Ledger, group: str) -> None:
    source, topic = place.topic(2), place.topic()
    peer = Peer(place, ledger, group, 2)
    settle(place, [peer], 2)
    writer = place.writer("exactly-once")
    note = "é" * (LONGEST_NOTE // 2)
    at = {Partition(source, 0): Position(12, note), Partition(source, 1): Position(0)}
    writer.send(topic, [b"a"])
    assert place.topics.committed(group, list(at)) == {}
    writer.commit(at, peer.member)
    assert place.topics.committed(group, list(at)) == peer.member.committed(list(at)) == at
    assert values(place, topic, 1) == [b"a"]
    writer.commit({Partition(source, 1): Position(3, "n")}, peer.member)
    assert place.topics.committed(group, list(at)) == {**at, Partition(source, 1): Position(3, "n")}
    assert place.topics.committed(f"{group}-other", list(at)) == {}


def test_aborted_positions_are_those_of_before(place: Place, ledger: Ledger, group: str) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    peer = Peer(place, ledger, group, 1)
    settle(place, [peer], 1)
    writer = place.writer("exactly-once")
    writer.commit({here: Position(1)}, peer.member)
    writer.send(topic, [b"a"])
    writer.abort()
    assert peer.member.committed([here]) == {here: Position(1)}


def test_at_least_once_commits_positions_after_the_messages(place: Place, ledger: Ledger, group: str) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    peer = Peer(place, ledger, group, 1)
    settle(place, [peer], 1)
    writer = place.writer()
    writer.send(topic, [b"a"])
    writer.commit({here: Position(9, "x")}, peer.member)
    assert peer.member.committed([here]) == {here: Position(9, "x")}
    assert values(place, topic, 1) == [b"a"]


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_positions_belong_to_tasks_as_was_said_whatever_the_numbers_of_their_partitions(
    place: Place, ledger: Ledger, group: str, guarantee: Guarantee
) -> None:
    """Three tasks read one topic, three the next: partition 0 of the second is task 3."""
    first, second = place.topic(3), place.topic(3)
    inputs = {Partition(topic, n): 3 * m + n for m, topic in enumerate((first, second)) for n in range(3)}
    peers = [Peer(place, ledger, group, 6, inputs) for _ in range(2)]
    settle(place, peers, 6)
    one, other = ([p for p, task in inputs.items() if task in peer.mine()] for peer in peers)
    assert len(one) == len(other) == 3
    writer = place.writer(guarantee)
    writer.commit(dict.fromkeys(one, Position(7)), peers[0].member)
    with pytest.raises(Fenced):
        writer.commit({other[0]: Position(8)}, peers[0].member)
    assert place.topics.committed(group, [*one, *other]) == dict.fromkeys(one, Position(7))


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_a_member_that_has_lost_its_place_commits_nothing(
    place: Place, ledger: Ledger, group: str, guarantee: Guarantee
) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    lost = Peer(place, ledger, group, 1)
    settle(place, [lost], 1)
    writer = place.writer(guarantee)
    writer.commit({here: Position(1)}, lost.member)
    lost.die()
    heir = Peer(place, ledger, group, 1)
    settle(place, [heir], 1)
    if guarantee == "exactly-once":
        writer.send(topic, [b"zombie"])
    with pytest.raises(Fenced):
        writer.commit({here: Position(2)}, lost.member)
    assert place.topics.committed(group, [here]) == {here: Position(1)}
    assert nothing(place, topic)
    heirs = place.writer(guarantee)
    heirs.commit({here: Position(3)}, heir.member)
    assert place.topics.committed(group, [here]) == {here: Position(3)}


def test_a_member_that_comes_back_after_its_session_is_told_what_it_lost_and_takes_part_anew(
    place: Place, ledger: Ledger, group: str
) -> None:
    topic = place.topic(TASKS)
    lost = Peer(place, ledger, group, TASKS)
    settle(place, [lost], TASKS)
    heir = Peer(place, ledger, group, TASKS)
    had = lost.mine()
    lost.die()
    settle(place, [heir], TASKS)
    told: list[frozenset[int]] = []
    refused: list[int] = []
    writer = place.writer("exactly-once")

    def act(tasks: frozenset[int]) -> None:
        told.append(tasks)
        if len(told) == 1:
            with pytest.raises(Fenced):
                writer.commit({Partition(topic, task): Position(1) for task in tasks}, lost.member)
            refused.append(len(tasks))

    lost.last_act = act
    place.until(lambda: lost.member.poll(lambda tasks: None, act, 0.02) or told)
    assert told[0] == had
    assert refused == [TASKS]
    assert place.topics.committed(group, [Partition(topic, n) for n in range(TASKS)]) == {}
    lost.last_act = lambda _tasks: None
    assert not lost.member.tasks & heir.mine()


def test_a_group_with_members_is_not_reset(place: Place, ledger: Ledger, group: str) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    peer = Peer(place, ledger, group, 1)
    settle(place, [peer], 1)
    place.writer().commit({here: Position(4)}, peer.member)
    with pytest.raises(Busy):
        place.topics.reset(group, {here: 0})
    assert place.topics.committed(group, [here]) == {here: Position(4)}
    peer.leave()

    def reset() -> bool:
        try:
            place.topics.reset(group, {here: 0})
        except Busy:
            return False
        return True

    place.until(reset)
    assert place.topics.committed(group, [here])[here].offset == 0
