"""Parts of the stream engine by themselves: rows in chunks, values by keys, failing functions, silence, exchanges."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import tidemill as tm
from harness.examples import few
from harness.stream_input import BEGIN, COLUMNS, SCHEMA
from harness.streaming import DictKeeper
from tidemill.adapters.polars.stream import chunks
from tidemill.adapters.polars.stream.chunks import Chunks
from tidemill.adapters.polars.stream.engine import PolarsStreamEngine
from tidemill.adapters.polars.stream.keyed import Keyed, read, written
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.topic import Topic, ToTable
from tidemill.plan.topology import Topology, plan_topology
from tidemill.ports.stream_engine import StreamTask

#: What is done to chunks: so many rows are added, or they are saved, or made again, or every second one goes.
DOINGS = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(("save", "again", "replace"))), max_size=25)


@settings(max_examples=few(60), deadline=None)
@given(DOINGS, st.integers(50, 400))
def test_chunks_hold_what_was_added_in_its_order_whatever_is_saved_between(doings: list[Any], piece: int) -> None:
    keeper, expected, number = DictKeeper(), list[int](), 0
    whole, chunks.PIECE = chunks.PIECE, piece  # pieces of a few rows
    try:
        held = Chunks(keeper, "c")
        for doing in doings:
            if isinstance(doing, int):
                rows = list(range(number, number + doing))
                held.add(pl.DataFrame({"x": rows}))
                expected, number = expected + rows, number + doing
            elif doing == "replace":
                expected = expected[::2]
                held.replace(pl.DataFrame({"x": expected}, schema={"x": pl.Int64}))
            else:
                held.save()
                held = Chunks(keeper, "c") if doing == "again" else held
            found = held.all()
            assert ([] if found is None else found["x"].to_list()) == expected
            assert held.height == len(expected)
    finally:
        chunks.PIECE = whole


@settings(max_examples=few(40), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), max_size=60), st.randoms(use_true_random=False))
def test_folded_chunks_come_to_the_same_sums(pairs: list[tuple[int, int]], rng: random.Random) -> None:
    keeper = DictKeeper()

    def fold(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by("k").agg(pl.col("v").sum())

    held = Chunks(keeper, "c", fold)
    for key, value in pairs:
        held.add(pl.DataFrame({"k": [key], "v": [value]}))
        if rng.random() < 0.3:
            held.save()
            held = Chunks(keeper, "c", fold)
    found = held.all()
    sums = {} if found is None else dict(fold(found).iter_rows())
    assert sums == {key: sum(v for k, v in pairs if k == key) for key, _ in pairs}


def test_chunks_leave_nothing_behind_in_the_keeper() -> None:
    keeper = DictKeeper()
    held = Chunks(keeper, "c")
    for number in range(50):
        held.add(pl.DataFrame({"x": [number]}))
        held.save()
    assert len(keeper.data) <= 7, "log2(50) chunks at most, and one"
    held.replace(pl.DataFrame(schema={"x": pl.Int64}))
    held.save()
    assert keeper.data == {}


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False), st.text(), st.binary(),
        st.datetimes(timezones=st.one_of(st.none(), st.just(UTC))), st.dates(), st.times(), st.timedeltas(),
        st.decimals(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=few(150), deadline=None)
@given(PLAIN)
def test_a_state_is_read_as_it_was_written(value: Any) -> None:
    found = read(written(value))
    assert found == value
    assert type(found) is type(value)


def test_states_by_keys_last_and_are_removed() -> None:
    keeper = DictKeeper()
    states = Keyed(keeper, "s")
    key = ("a", None, datetime(2026, 1, 1), date(2026, 1, 1), time(1), timedelta(1), Decimal("1.50"))
    states.put(key, {"n": 1})
    states.save()
    again = Keyed(keeper, "s")
    assert again.get(key) == {"n": 1}
    assert again.get(("b",)) is None
    again.put(key, None)
    again.save()
    assert keeper.data == {}


def row(second: int, key: str | None, value: int | None) -> dict[str, Any]:
    """A message's value."""
    return {"t": BEGIN + timedelta(seconds=second), "k": key, "v": value, "x": 0.5, "l": [], "s": None, "i": 0}


def plan(frame: Frame, partitions: int) -> tuple[Topology, PolarsStreamEngine]:
    """The plan of a frame over one topic."""
    engine = PolarsStreamEngine()
    sink = frame.then(lambda at: ToTable(at=at, table="out", options={}))
    return plan_topology("s", [sink], engine.columns_of, {"f": partitions}), engine


def source() -> Frame:
    """The topic's frame."""
    return Frame.of(Input("f", "topic", Topic("f", COLUMNS, time="t")))


def feed(task: StreamTask, rows: list[dict[str, Any]], first: int = 0) -> None:
    """Messages for a task, from an offset on."""
    task.feed(0, pl.DataFrame(rows, schema=SCHEMA), range(first, first + len(rows)), [0] * len(rows))


def test_a_row_that_a_function_cannot_take_harms_no_other() -> None:
    def inverse(row: Any) -> Any:
        return {**row, "x": 1 / row["v"]}

    topology, engine = plan(source().map_rows(inverse, adds={"x": "double"}), 1)
    task = engine.task(topology, 1, 0, DictKeeper(), {})
    feed(task, [row(0, "a", 2), row(1, "b", 0), row(2, "c", 4)], first=7)
    outcome = task.take()
    assert [value for one in outcome.given for value in one.rows["x"]] == [0.5, 0.25]
    (failure,) = outcome.failures
    assert (failure.source, failure.offset, failure.row["k"]) == (0, 8, "b")
    assert "ZeroDivisionError" in failure.error


def test_a_value_that_a_type_cannot_hold_harms_no_other() -> None:
    topology, engine = plan(source().cast({"k": "long"}).filter(tm.col("v") > 0), 1)
    task = engine.task(topology, 1, 0, DictKeeper(), {})
    feed(task, [row(0, "1", 2), row(1, "b", 3), row(2, "4", 4)])
    outcome = task.take()
    assert [value for one in outcome.given for value in one.rows["k"]] == [1, 4]
    assert [failure.offset for failure in outcome.failures] == [1]


def test_a_state_is_not_changed_by_a_row_that_fails() -> None:
    def add(state: dict[str, Any], row: Any) -> dict[str, Any]:
        state["n"] += 1
        state["v"] += row["v"]
        return state

    topology, engine = plan(source().reduce("k", {"n": 0, "v": 0}, add), 1)
    task = engine.task(topology, 1, 0, DictKeeper(), {})
    feed(task, [row(0, "a", 2), row(1, "a", None), row(2, "a", 3)])
    outcome = task.take()
    assert outcome.given[-1].rows.to_dicts() == [{"k": "a", "n": 2, "v": 5}]
    assert [failure.row["v"] for failure in outcome.failures] == [None]


def test_a_silent_partition_holds_the_others_until_it_speaks() -> None:
    windows = source().tumbling_window("1s", on="t", by="k").agg(n=tm.agg.count()).final()
    topology, engine = plan(windows, 2)
    first, second = (engine.task(topology, 1, number, DictKeeper(), {}) for number in (0, 1))
    gathering = [engine.task(topology, 2, number, DictKeeper(), {}) for number in (0, 1)]

    def given(task: StreamTask) -> int:
        found = 0
        for block in task.take().blocks:
            gathering[block.task].receive(block.exchange, block.data)
            found += sum(one.rows.height for one in gathering[block.task].take().given)
        return found

    feed(second, [row(0, "a", 1)])
    assert given(second) == 0
    feed(first, [row(0, "a", 1), row(50, "b", 1)])
    assert given(first) == 0, "the second partition may still bring rows of the first second"
    feed(second, [row(50, "a", 1)], first=1)
    assert given(second) == 1


@settings(max_examples=few(25), deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=1, max_size=12), st.integers(1, 5))
def test_exchanges_split_alike_however_often_a_task_is_made_anew(keys: list[str | None], partitions: int) -> None:
    topology, engine = plan(source().tumbling_window("1s", on="t", by="k").agg(n=tm.agg.count()).final(), partitions)
    sent: list[dict[str | None, int]] = []
    for _ in range(2):
        task, places = engine.task(topology, 1, 0, DictKeeper(), {}), dict[str | None, int]()
        exchange = topology.exchanges_from(1)
        for number, key in enumerate(keys):
            feed(task, [row(number, key, 1)], first=number)
            for block in task.take().blocks:
                if any(key_ == key for key_ in _keys_in(block.data)):
                    places[key] = block.task
        sent.append(places)
        assert len(exchange) == (1 if partitions > 1 else 0)
    assert sent[0] == sent[1]


def _keys_in(data: bytes) -> list[Any]:
    import msgspec

    rows = chunks.unpacked(msgspec.msgpack.decode(data)[2])
    return rows["k"].to_list() if rows.height else []
