"""The port `destination` over topics: what readers of committed messages have is what the table has, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest

from harness.landing import rows
from tidemill.adapters.arrow.topic_destination import POSITIONS, WITHDRAWN, TopicDestination
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.stream.stretch import whole
from tidemill.model.errors import Conflict, ContractError, DefinitionError, Refused, TidemillError, UnknownName
from tidemill.ports.destination import Load, MirrorLost, TableLoad
from tidemill.ports.topic import Topics
from tidemill.testing.clock import ManualClock
from tidemill.testing.faults import FaultPoints

KEYED: dict[str, Any] = {"mirror": True, "key": ("k",)}
COLUMNS = {"k": "long", "v": "string"}


@pytest.fixture(params=["memory", "kafka"])
def topics(request: pytest.FixtureRequest) -> Iterator[Topics]:
    """An embedded broker, and Kafka; names of the test's own are made by `prefix`."""
    if request.param == "memory":
        yield MemoryTopics(ManualClock())
        return
    from tidemill.adapters.kafka.topics import KafkaTopics

    servers = request.getfixturevalue("kafka_servers")
    yield KafkaTopics({"bootstrap.servers": servers}, patience=timedelta(seconds=60))


@pytest.fixture
def memory() -> MemoryTopics:
    return MemoryTopics(ManualClock())


def opened(topics: Topics) -> TopicDestination:
    clock = ManualClock() if isinstance(topics, MemoryTopics) else SystemClock()
    return TopicDestination(topics, partial(whole, topics, clock))


def load(topics: Topics, before: str | None, after: str, *tables: TableLoad, source: str = "s") -> int:
    return opened(topics).load(Load(source, before, after, tables))


def messages(topics: Topics, topic: str) -> list[tuple[Any, Any, Any]]:
    """Key, value and what is withdrawn, of each message."""
    clock = ManualClock() if isinstance(topics, MemoryTopics) else SystemClock()
    found = []
    for stretch in whole(topics, clock, topic):
        for at, (key, value) in enumerate(zip(stretch.keys, stretch.values, strict=True)):
            headers = dict(stretch.headers[at]) if stretch.headers is not None else {}
            parts = [None if one is None else json.loads(one) for one in (key, value)]
            found.append((*parts, headers.get(WITHDRAWN)))
    return found


def comes_to_be(what: Callable[[], Any], wanted: Any) -> None:
    """Kafka tells readers of a transaction a moment after its writer: until then they see what was before."""
    until = SystemClock().monotonic() + 60
    while (found := what()) != wanted and SystemClock().monotonic() < until:
        pass
    assert found == wanted


def state(topics: Topics, topic: str) -> dict[int, str]:
    """What a table of the newest values holds."""
    made: dict[int, str] = {}
    for key, value, _ in messages(topics, topic):
        made.pop(key["k"], None)
        if value is not None:
            made[key["k"]] = value["v"]
    return made


def test_keys_change_and_are_gone(topics: Topics) -> None:
    source, topic = f"s{id(topics)}", f"shop.latest{id(topics)}"
    send = partial(load, topics, source=source)
    send(None, "1", rows(COLUMNS, [(1, "a"), (2, "b"), (3, "c")], table=topic, write="replace", first=True, **KEYED))
    gone = rows({"k": "long"}, [(3,)]).rows
    changed = rows(COLUMNS, [(2, "B"), (4, "d")], table=topic, write="upsert", gone=gone, **KEYED)
    assert send("1", "2", changed) == 2
    comes_to_be(lambda: state(topics, topic), {1: "a", 2: "B", 4: "d"})
    send("2", "3", rows(COLUMNS, [(1, "z")], table=topic, write="replace", **KEYED))
    # Keys that are gone are told, also where all rows are sent again.
    comes_to_be(lambda: state(topics, topic), {1: "z"})
    comes_to_be(lambda: opened(topics).position(source), "3")


def test_batches_are_withdrawn_before_they_come_again(memory: MemoryTopics) -> None:
    columns = {"v": "string", "_batch_id": "long"}
    load(memory, None, "1", rows(columns, [("a", 1), ("b", 2)], write="replace", first=True, mirror=True))
    load(memory, "1", "2", rows(columns, [("c", 2)], mirror=True, batches=(2,)))
    assert [(value and value["v"], what) for _, value, what in messages(memory, "t")] == [
        ("a", None), ("b", None), (None, b"2"), ("c", None)
    ]  # fmt: skip


def test_a_key_may_be_chosen_where_a_table_has_none(memory: MemoryTopics) -> None:
    load(memory, None, "1", rows(COLUMNS, [(7, "x")], options={"key": ["k"]}))
    assert messages(memory, "t") == [({"k": 7}, {"k": 7, "v": "x"}, None)]
    with pytest.raises(ContractError, match="no k"):
        load(memory, "1", "2", rows(COLUMNS, [(None, "x")], options={"key": ["k"]}))
    assert len(messages(memory, "t")) == 1


def test_whoever_comes_second_sends_nothing_that_counts(topics: Topics) -> None:
    source, topic = f"s{id(topics)}", f"twice{id(topics)}"
    send = partial(load, topics, source=source)
    other: list[int] = []

    def meanwhile() -> Iterator[Any]:
        yield from rows(COLUMNS, [(1, "first")]).rows
        other.append(send(None, "other", rows(COLUMNS, [(2, "second")], table=topic)))

    made = rows(COLUMNS, [], table=topic)
    with pytest.raises(Conflict):
        send(None, "one", type(made)(topic, made.columns, meanwhile()))
    assert other == [1]
    comes_to_be(lambda: [value["v"] for _, value, _ in messages(topics, topic)], ["second"])
    with pytest.raises(Conflict):
        send(None, "late", rows(COLUMNS, [(3, "late")], table=topic))
    assert opened(topics).position(source) == "other"


def test_rows_that_break_off_are_not_there_and_the_same_load_is_done_afterwards(topics: Topics) -> None:
    source, topic = f"s{id(topics)}", f"broken{id(topics)}"
    send = partial(load, topics, source=source)

    def breaks() -> Iterator[Any]:
        yield from rows(COLUMNS, [(1, "a")]).rows
        raise RuntimeError("the lake went away")

    made = rows(COLUMNS, [], table=topic, write="replace")
    with pytest.raises(RuntimeError, match="the lake"):
        send(None, "1", type(made)(topic, made.columns, breaks(), first=True, mirror=True, write=made.write))
    assert messages(topics, topic) == []
    send(None, "1", rows(COLUMNS, [(1, "a")], table=topic, first=True, mirror=True, write="replace"))
    comes_to_be(lambda: [value["v"] for _, value, _ in messages(topics, topic)], ["a"])


class Died(BaseException):
    """The process ends here."""


class Dying:
    """A broker, or a writer, of which a process makes each step known, before it and after it; whoever dies closes
    nothing, so that a transaction stays open.
    """

    def __init__(self, inner: Any, points: FaultPoints) -> None:
        self._inner, self._points = inner, points

    def __getattr__(self, name: str) -> Any:
        inner, points = getattr(self._inner, name), self._points
        if name not in ("create", "writer", "send", "commit", "close"):
            return inner

        def step(*given: Any, **named: Any) -> Any:
            if name == "close":
                return None if points.at is not None and len(points.passed) > points.at else inner()
            points.point(f"before {name}")
            made = inner(*given, **named)
            points.point(f"after {name}")
            return Dying(made, points) if name == "writer" else made

        return step


def test_wherever_a_load_dies_it_is_there_once_in_the_end() -> None:
    """At every step: topics, the writer, messages, the commit. The next one does the same load again."""
    columns = {"v": "string", "_batch_id": "long"}

    def play(points: FaultPoints) -> None:
        broker = MemoryTopics(ManualClock())

        def keyed(values: list[tuple[int, str]], **how: Any) -> TableLoad:
            return rows(COLUMNS, values, table="keyed", **KEYED, **how)

        def first() -> tuple[TableLoad, ...]:
            log = rows(columns, [("a", 1), ("b", 2)], table="log", write="replace", first=True, mirror=True)
            return log, keyed([(1, "a"), (2, "b")], write="replace", first=True)

        def second() -> tuple[TableLoad, ...]:
            log = rows(columns, [("c", 2)], table="log", mirror=True, batches=(2,))
            return log, keyed([(2, "B")], write="upsert", gone=rows({"k": "long"}, [(1,)]).rows)

        for before, after, tables in ((None, "1", first), ("1", "2", second)):
            try:
                load(cast(Topics, Dying(broker, points)), before, after, *tables())
            except Died:
                if opened(broker).position("s") == before:
                    load(broker, before, after, *tables())
            assert opened(broker).position("s") == after
        assert [(value and value["v"], what) for _, value, what in messages(broker, "log")] == [
            ("a", None), ("b", None), (None, b"2"), ("c", None)
        ]  # fmt: skip
        assert [(key["k"], value and value["v"]) for key, value, _ in messages(broker, "keyed")] == [
            (1, "a"), (2, "b"), (1, None), (2, "B")
        ]  # fmt: skip

    def die(_name: str) -> None:
        raise Died

    counting = FaultPoints()
    play(counting)
    assert len(counting.passed) > 20
    for at in range(len(counting.passed)):
        play(FaultPoints(at, die))


def test_topics_of_others_and_topics_that_are_gone_are_told(memory: MemoryTopics) -> None:
    with pytest.raises(MirrorLost):
        load(memory, None, "1", rows(COLUMNS, [], mirror=True))
    load(memory, None, "1", rows(COLUMNS, [(1, "a")]), source="other")
    with pytest.raises(Refused, match="not of this delivery"):
        load(memory, None, "1", rows(COLUMNS, [(1, "a")], first=True, mirror=True, write="replace"))


WRONG: list[Callable[[], TableLoad]] = [
    lambda: rows(COLUMNS, [], table="no good"),
    lambda: rows(COLUMNS, [], options={"format": "csv"}),
    lambda: rows(COLUMNS, [], options={"key": ["gone"]}),
    lambda: rows(COLUMNS, [], options={"key": ["k"]}, **KEYED),
    lambda: rows(COLUMNS, [], write="upsert", key=("k",), order="v"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_topic_cannot_be_is_refused(memory: MemoryTopics, wrong: Callable[[], TableLoad]) -> None:
    with pytest.raises((DefinitionError, UnknownName)) as told:
        load(memory, None, "1", wrong())
    assert isinstance(told.value, TidemillError)
    assert memory.describe(POSITIONS) is None
