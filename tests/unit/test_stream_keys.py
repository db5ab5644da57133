"""Keys of messages by a codec: written, and read into columns, with and without a schema registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from harness.poison import Driven, pipeline
from harness.registry import registry_server
from harness.topics import memory_place
from tidemill.authoring.streams import Stream
from tidemill.model.codec import Avro
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.plan.partitioning import partition_of
from tidemill.plan.topology import Node
from tidemill.testing import StreamTest
from tidemill.wiring.codecs import open_registry
from tidemill.wiring.messages import key_encoder, reader_of

LAP = '{"type": "record", "name": "Lap", "fields": [{"name": "speed", "type": "double"}]}'
CAR = '{"type": "record", "name": "Car", "fields": [{"name": "car", "type": "long"}]}'


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


def summing(p: tm.Pipeline, key_codec: Any, kind: str = "string", **options: Any) -> Stream:
    """The sum of each car's speeds, from a topic to one that is written alike."""
    laps = tm.topic("laps", {"car": kind, "speed": "double"}, key="car", key_codec=key_codec, partitions=3, **options)

    @p.stream(laps, to=tm.topic("sums", key="car", key_codec=key_codec))
    def sums(t: tm.Frame) -> tm.Frame:
        return t.reduce("car", {"sum": 0.0}, lambda state, row: {"sum": state["sum"] + row["speed"]})

    return sums


@pytest.mark.parametrize(
    ("codec", "kind", "cars", "written"),
    [
        ("text", "string", ("a", "b"), b"a"),
        ("json", "long", (7, 8), b'{"car":7}'),
        ("avro", "long", (7, 8), b"\0\0\0\0\2\2\x0e"),
        (Avro('"long"'), "long", (7, 8), b"\0\0\0\0\2\x0e"),
        (Avro(CAR), "long", (7, 8), b"\0\0\0\0\2\x0e"),
        ("json_schema", "long", (7, 8), b'\0\0\0\0\2{"car":7}'),
    ],
    ids=lambda given: str(given)[:20],
)
def test_the_columns_of_keys_are_those_that_were_written(
    p: tm.Pipeline, codec: Any, kind: str, cars: tuple[Any, Any], written: bytes
) -> None:
    """The values here do not have them; the partition is that of the key's bytes."""
    test = StreamTest(summing(p, codec, kind, codec=Avro(LAP)))
    test.feed("laps", [{"car": cars[0], "speed": 1.0}, {"car": cars[1], "speed": 2.0}, {"car": cars[0], "speed": 4.0}])
    test.checkpoint()
    assert dict(test.messages("laps")).keys() >= {written}
    assert {(row["car"], row["sum"]) for row in test.rows("sums")} == {(cars[0], 5.0), (cars[1], 2.0)}
    assert written in dict(test.messages("sums"))
    assert test.dead_letters() == []


def test_keys_of_several_columns_are_records(p: tm.Pipeline) -> None:
    laps = tm.topic("laps", {"team": "string", "car": "long", "v": "long"}, key=["team", "car"], key_codec="avro")

    @p.stream(laps, to=tm.topic("out"))
    def out(t: tm.Frame) -> tm.Frame:
        return t.select("car", "v", "team")

    test = StreamTest(out)
    test.feed("laps", [{"team": None, "car": 1, "v": 2}])
    ((key, _),) = test.messages("laps")
    test.feed("laps", [(key, b'{"v": 3, "car": 99}')])
    test.checkpoint()
    assert test.rows("out") == [{"car": 1, "v": 2, "team": None}, {"car": 1, "v": 3, "team": None}]


def test_bad_keys_go_where_bad_values_go_and_harm_no_others(p: tm.Pipeline) -> None:
    """A message without a value is no row, whatever its key; one without a key has none in its row."""
    test = StreamTest(summing(p, "avro"))
    test.feed("laps", [{"car": "a", "speed": 1.0}], partition=1)
    ((key, _),) = test.messages("laps")
    sent = [(b"no Avro", b'{"speed": 2}'), (b"no Avro", None), (key, b"{"), (key, None), (None, b'{"speed": 3}')]
    test.feed("laps", [*sent, (key, b'{"speed": 4}')], partition=1)
    test.checkpoint()
    assert [(row["car"], row["sum"]) for row in test.rows("sums")] == [("a", 1.0), ("a", 5.0), (None, 3.0)]
    letters = test.dead_letters()
    assert [(one["key"], one["value"], one["offset"]) for one in letters] == [
        (b"no Avro", b'{"speed": 2}', "1"), (key, b"{", "3"),
    ]  # fmt: skip
    assert letters[0]["error"].startswith("its key: not in the registry's wire format")


def test_a_stream_that_does_not_use_the_key_does_not_look_at_it(p: tm.Pipeline) -> None:
    laps = tm.topic("laps", {"car": "string", "speed": "double"}, key="car", key_codec="avro")

    @p.stream(laps, to=tm.topic("out"))
    def out(t: tm.Frame) -> tm.Frame:
        return t.select("speed")

    test = StreamTest(out)
    test.feed("laps", [(b"no Avro", b'{"speed": 2}')])
    test.checkpoint()
    assert test.rows("out") == [{"speed": 2.0}]


def test_topics_whose_keys_are_bytes_of_other_schemas_are_joined_through_exchanges(p: tm.Pipeline) -> None:
    """Equal keys may have other bytes in each, and so be in partitions with other numbers."""
    columns = {"id": "long", "ts": "timestamptz"}

    def exchanges(name: str, codec: Any) -> list[Node]:
        left, right = (
            tm.topic(f"{name}{n}", columns, key="id", time="ts", partitions=2, key_codec=codec) for n in "ab"
        )

        @p.stream(left, right=right, to=tm.topic(f"{name}out"), name=name)
        def joined(left: tm.Frame, right: tm.Frame) -> tm.Frame:
            return left.join_interval(right, on="ts", within="1s", by="id")

        return [node for node in StreamTest(joined).process.plan.topology.nodes if node.kind == "exchange"]

    assert exchanges("plain", None) == []
    assert len(exchanges("avro", "avro")) == 2


def test_schemas_of_keys_are_registered_as_such_and_read_again_by_their_subject(p: tm.Pipeline) -> None:
    with registry_server() as server, memory_place() as place:
        stream = summing(p, "avro")
        with Driven(place, stream, registry=open_registry(server.url)) as driven:
            driven.begin()
            declared = driven.spec.topics["t"]
            rows = pl.DataFrame({"car": ["a", "b", None], "speed": [1.0, 2.0, 3.0]})
            keys = key_encoder(declared, open_registry(server.url))
            assert keys is not None
            written = keys(rows)
            assert written[2] is None
            driven.feed("laps", [{"speed": 1.0}, {"speed": 2.0}], keys=written[:2])
            driven.work()
            assert server.subjects.keys() == {"laps-key", "sums-key"}
            assert [len(found) for found in driven.messages("laps")] == [
                sum(partition_of(key, 3) == found.partition.number for key in written[:2] if key)
                for found in driven.messages("laps")
            ]
            read = reader_of(declared, open_registry(server.url), ["car"]).read(written, [b"{}"] * 3)
            assert read.rows.rows() == [("a",), ("b",), (None,)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"key": None, "key_codec": "avro"}, "of no column"),
        ({"key": ["a", "b"], "key_codec": "text"}, "its key 2 columns"),
        ({"key": "b", "key_codec": "text"}, 'its column "b" of type long'),
        ({"key": "a", "key_codec": "avor"}, "avor"),
    ],
)
def test_keys_that_cannot_be_written_are_told_where_the_topic_is_declared(options: Any, told: str) -> None:
    with pytest.raises((DefinitionError, UnknownName), match=told) as raised:
        tm.topic("t", {"a": "string", "b": "long"}, **options)
    assert "test_stream_keys" in str(raised.value)


def test_a_schema_of_keys_without_the_columns_is_told_before_anything_is_read(p: tm.Pipeline) -> None:
    with pytest.raises(DefinitionError, match='keys of topic "laps" has no field "car"'):
        StreamTest(summing(p, Avro(LAP)))
