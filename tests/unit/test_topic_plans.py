"""Which partition a message goes to, how much each partition gives, and how members share tasks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.errors import DataError
from tidemill.plan.partitioning import Columns, KnownPlaces, fair_shares, murmur2, partition_of, split
from tidemill.plan.sharing import share


def test_murmur2_is_kafkas() -> None:
    """The values of Kafka's own test of `Utils.murmur2`."""
    wanted = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert {key: murmur2(key) for key in wanted} == {key: number & 0xFFFFFFFF for key, number in wanted.items()}


@settings(deadline=None)
@given(keys=st.lists(st.none() | st.binary(max_size=9), min_size=1), partitions=st.integers(1, 7))
def test_messages_are_cut_by_partition_and_keep_their_order(keys: list[bytes | None], partitions: int) -> None:
    columns = Columns(list(range(len(keys))), keys, [None] * len(keys))
    turns = iter(range(1000))
    parts = split(columns, None, KnownPlaces(partitions, most=3), lambda: next(turns))
    assert sorted(t for part in parts.values() for t in part.timestamps) == list(range(len(keys)))
    for number, part in parts.items():
        assert len(part)
        assert list(part.timestamps) == sorted(part.timestamps)
        assert all(key is None or partition_of(key, partitions) == number for key in part.keys)


@pytest.mark.parametrize("wanted", [3, -1, [0, 3], [-1, 0]])
def test_a_partition_that_is_not_there_is_refused(wanted: int | list[int]) -> None:
    with pytest.raises(DataError, match="There is no partition"):
        split(Columns([0, 0], [None] * 2, [None] * 2), wanted, KnownPlaces(3), lambda: 0)


@settings(deadline=None)
@given(
    waiting=st.dictionaries(st.integers(0, 9), st.integers(0, 50)), limit=st.integers(1, 100), turn=st.integers(0, 99)
)
def test_shares_use_the_limit_up_and_none_with_less_than_its_part_waits(
    waiting: dict[int, int], limit: int, turn: int
) -> None:
    shares = fair_shares(waiting, limit, turn)
    assert sum(shares.values()) == min(limit, sum(waiting.values()))
    assert all(0 < many <= waiting[name] for name, many in shares.items())
    have = [many for many in waiting.values() if many]
    if have and limit >= len(have):
        least = limit // len(have)
        assert all(shares[name] >= min(many, least) for name, many in waiting.items() if many)


def test_each_partition_has_its_turn_when_there_is_not_one_message_for_each() -> None:
    seen = {name for turn in range(5) for name in fair_shares(dict.fromkeys("abcde", 9), 1, turn)}
    assert seen == set("abcde")


members = st.sets(st.sampled_from("abcdef"), min_size=1)


@settings(deadline=None)
@given(
    tasks=st.integers(0, 20),
    present=members,
    owners=st.dictionaries(st.integers(0, 19), st.sampled_from("abcdefg")),
    seed=st.integers(),
)
def test_members_that_act_in_any_order_come_to_an_even_share_by_the_fewest_moves(
    tasks: int, present: set[str], owners: dict[int, str], seed: int
) -> None:
    owners = {task: owner for task, owner in owners.items() if task < tasks}
    start = dict(owners)
    order = random.Random(seed)
    idle = 0
    while idle < 50:
        me = order.choice(sorted(present))
        part = share(tasks, present, owners, me)
        assert not part.take & {task for task, owner in owners.items() if owner in present}, "never somebody else's"
        assert part.give_up <= {task for task, owner in owners.items() if owner == me}
        owners = {task: owner for task, owner in owners.items() if task not in part.give_up}
        owners |= dict.fromkeys(part.take, me)
        idle = 0 if part.take or part.give_up else idle + 1
    counts = sorted((sum(owner == member for owner in owners.values()) for member in present), reverse=True)
    assert sum(counts) == tasks
    assert counts[0] - counts[-1] <= 1
    held = sorted((sum(owner == member for owner in start.values()) for member in present), reverse=True)
    moved = sum(owner in present and owners[task] != owner for task, owner in start.items())
    assert moved == sum(max(had - has, 0) for had, has in zip(held, counts, strict=True))
