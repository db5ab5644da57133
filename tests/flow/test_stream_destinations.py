"""Rows of a stream in a database outside: each once, wherever the loader or the database falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidemill as tm
from harness.examples import few
from tidemill.adapters.arrow.frames import batches_of
from tidemill.adapters.duckdb.destination import DuckDestination
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.polars.stream.chunks import packed, unpacked
from tidemill.authoring import registry
from tidemill.flow.stream.destinations import DestinationLoader
from tidemill.model.errors import Unreachable, UserError
from tidemill.model.frame.topic import ToDestination
from tidemill.model.table import WriteMode
from tidemill.ports.destination import Destination, Load
from tidemill.ports.topic import TopicSpec
from tidemill.testing import StreamTest
from tidemill.testing.clock import ManualClock


@pytest.fixture(autouse=True)
def _no_other_pipelines() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


STEP = ToDestination(at=None, destination="shop", table="t", write=WriteMode.APPEND, key=(), order=None)


class Falling:
    """A database that falls before, or after, it has done the load whose turn it is."""

    def __init__(self, inner: Destination, falls: list[str]) -> None:
        self._inner = inner
        self._falls = falls

    def position(self, source: str) -> str | None:
        return self._inner.position(source)

    def load(self, load: Load) -> int:
        fall = self._falls.pop(0) if self._falls else "-"
        if fall == "before":
            raise Unreachable("It is away.")
        done = self._inner.load(load)
        if fall == "after":
            raise Unreachable("It went away before it could say so.")
        return done

    def close(self) -> None:
        self._inner.close()


def loader(topics: MemoryTopics, there: Destination, clock: ManualClock) -> DestinationLoader:
    def unpack(values: list[bytes]) -> pl.DataFrame:
        return pl.concat([unpacked(value) for value in values])

    return DestinationLoader("p.s", STEP, there, batches_of, topics, "rows", unpack, clock)


@settings(max_examples=few(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["-", "before", "after"]), st.booleans()), min_size=1, max_size=8
    )
)
def test_rows_are_there_once_whatever_falls_when(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, str, bool]]
) -> None:
    """In each round rows come, a batch is loaded (or its database falls), and perhaps another loader takes over."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    clock = ManualClock()
    topics = MemoryTopics(clock)
    topics.create(TopicSpec("rows"))
    writer = topics.writer("w")
    falls: list[str] = []
    there = Falling(DuckDestination(path), falls)
    one, sent = loader(topics, there, clock), 0
    for many, fall, replaced in rounds:
        for _ in range(many):
            writer.send("rows", [packed(pl.DataFrame({"n": [sent, sent + 1]}))], partitions=0)
            sent += 2
        writer.flush()
        falls[:] = [fall]
        try:
            one.step(0, now=True)
        except Unreachable:
            one = loader(topics, there, clock)
        if replaced:
            one = loader(topics, there, clock)
    falls.clear()
    last = loader(topics, there, clock)
    while last.step(0, now=True):
        pass
    if sent:
        with duckdb.connect(str(path)) as connection:
            found = connection.execute("SELECT n FROM t ORDER BY n").fetchall()
        assert found == [(n,) for n in range(sent)]
        info = topics.describe("rows")
        assert info is not None
        assert info.first == info.end, "what was loaded is let go"


def test_a_loader_that_was_replaced_loads_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    topics = MemoryTopics(clock)
    topics.create(TopicSpec("rows"))
    there = DuckDestination(tmp_path / "shop.db")
    old, new = (loader(topics, there, clock) for _ in range(2))
    writer = topics.writer("w")
    writer.send("rows", [packed(pl.DataFrame({"n": [1]}))], partitions=0)
    writer.flush()
    assert old.step(0) == 0, "it waits for more"
    assert new.step(0, now=True) == 1
    with pytest.raises(Exception, match=r"is at 1 .*, not at None"):
        old.step(0, now=True)
    assert there.position("p.s>t") == "1"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f: f.to("shop", "t", write="upsert"),
        lambda f: f.to("shop", "t", key="id"),
        lambda f: f.to("shop", "t", write="replace"),
        lambda f: f.to("shop", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_written(wrong: Callable[[tm.Frame], tm.Frame]) -> None:
    with pytest.raises(UserError):
        wrong(tm.Frame.literal([{"id": 1}]))


def test_a_test_sees_the_rows_for_a_destination() -> None:
    topic = tm.topic("orders", {"id": "long"})
    stream = tm.Pipeline("shop").stream(topic, name="kept")(
        lambda orders: orders.filter(tm.col("id") > 1).to("warehouse", "sales.orders", write="upsert", key="id")
    )
    test = StreamTest(stream)
    test.feed("orders", [{"id": 1}, {"id": 2}])
    test.checkpoint()
    assert test.table("warehouse.sales.orders") == [{"id": 2}]
