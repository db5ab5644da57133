"""Blocks of messages hold what was put in, cut where they are full."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.adapters.sql.topic_blocks import BLOCK_BYTES, BLOCK_MESSAGES, joined, pack, unpack
from tidemill.plan.partitioning import Columns

message = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.binary(max_size=5),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2),
)


def columns_of(messages: list[Any], headers: bool) -> Columns:
    stamps, keys, values, found = (list(column) for column in zip(*messages, strict=True))
    return Columns(stamps, keys, values, found if headers else None)


def rows(columns: Columns) -> list[Any]:
    headers = columns.headers if columns.headers is not None else [[]] * len(columns)
    return list(zip(columns.timestamps, columns.keys, columns.values, map(list, headers), strict=True))


@settings(deadline=None)
@given(messages=st.lists(message, min_size=1, max_size=30), gaps=st.data(), headers=st.booleans())
def test_a_block_gives_back_what_was_packed(messages: list[Any], gaps: st.DataObject, headers: bool) -> None:
    columns = columns_of(messages, headers)
    steps = gaps.draw(st.lists(st.integers(1, 3), min_size=len(messages), max_size=len(messages)))
    offsets = list(accumulate(steps))
    [block] = pack(columns, offsets)
    found, unpacked = unpack(block.body, offsets[0], block.messages)
    assert list(found) == offsets
    assert rows(unpacked) == rows(columns)
    assert block.newest == max(columns.timestamps)


def test_blocks_are_cut_by_number_and_by_bytes() -> None:
    many = pack(Columns([0] * 25_000, [None] * 25_000, [b"x"] * 25_000))
    assert [block.messages for block in many] == [BLOCK_MESSAGES, BLOCK_MESSAGES, 5000]
    large = pack(Columns([0] * 3, [None] * 3, [b"x" * (BLOCK_BYTES // 2 - 10)] * 2 + [b"y" * 3 * BLOCK_BYTES]))
    assert [block.messages for block in large] == [2, 1]


def test_columns_are_joined_with_headers_where_any_has_some() -> None:
    one = Columns([1], [b"k"], [b"v"])
    both = joined([one, Columns([2], [None], [None], [[("h", b"x")]])])
    assert rows(both) == [(1, b"k", b"v", []), (2, None, None, [("h", b"x")])]
