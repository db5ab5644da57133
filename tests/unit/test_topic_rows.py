"""Messages of a topic as rows: codecs, columns of their own, and what is broken; and which messages a batch takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.topic_feeds import Taken, decoded, spec_of, take, told
from harness.topics import memory_place
from tidemill import sources
from tidemill.authoring.streams import topic as declared_topic
from tidemill.model.codec import Avro, Json, JsonSchema, Protobuf, Text, codec_as_json, codec_of_json
from tidemill.model.errors import DataError, DecodeError, DefinitionError, UnknownName
from tidemill.plan.topic_range import Here, Reached, range_of
from tidemill.ports.topic import TopicSpec

AVRO = (
    '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}, {"name": "s", "type": "string"}]}'
)


def sent(values: list[bytes | None], **more: Any) -> Any:
    """Messages of a topic in memory; gives what takes them by a feed."""

    def taken(**options: Any) -> Taken:
        table = {name: options.pop(name) for name in ("columns", "contract", "flatten") if name in options}
        with memory_place() as place:
            place.topics.create(TopicSpec("orders"))
            place.send("orders", values, **more)
            return take(place, sources.topic(options.pop("topic", "orders"), **options), **table)

    return taken


def test_every_codec_makes_rows_and_tells_what_it_cannot_read() -> None:
    avro = b"\x02\x02a"
    values: list[bytes | None] = [b'{"id": 1, "s": "a", "more": 2}', None, avro, b"\xff"]
    rows = sent(values)
    place = ("_offset", "id", "s")
    by_json = rows(codec=Json({"id": "long", "s": "string"}))
    assert told(by_json.rows, *place) == [(0, 1, "a")]
    assert [one[:2] for one in by_json.rejected] == [("orders[0]", 2), ("orders[0]", 3)]
    topic = declared_topic("orders", {"id": "long"}, absent="error")
    assert told(rows(topic=topic).rows, "_offset", "id") == [(0, 1)]
    by_avro = rows(codec=Avro(AVRO, framing="bare"))
    assert (2, 1, "a") in told(by_avro.rows, *place)
    assert ("orders[0]", 3) in [one[:2] for one in by_avro.rejected]
    by_text = rows(codec="text", fields=())
    assert by_text.rows == [{"value": '{"id": 1, "s": "a", "more": 2}'}, {"value": "\x02\x02a"}]
    assert by_text.rejected == [("orders[0]", 3, "\\xff", "not UTF-8: byte 0xff at position 1")]
    assert told(rows(codec="bytes").rows, "_offset", "value") == [(0, values[0]), (2, avro), (3, b"\xff")]


def test_json_without_columns_is_read_as_json_lines_are() -> None:
    values: list[bytes | None] = [b'{"id": 1}', b'{"id": 2.5, "x": {"y": [1]}}', b"[1]", b"", b'{"id"\n: 3}', None]
    found = sent(values)()
    assert found.schema.names == ("id", "x", "_partition", "_offset", "_timestamp")
    assert told(found.rows, "_offset", "id", "x") == [(0, 1.0, None), (1, 2.5, {"y": [1]}), (4, 3.0, None)]
    assert [(line, raw) for _, line, raw, _ in found.rejected] == [(2, "[1]"), (3, "")]
    closed = sent(values)(columns={"id": "long"}, contract="discard_rows")
    assert told(closed.rows, "_offset", "id") == [(0, 1), (4, 3)]
    assert [line for _, line, _, _ in closed.rejected] == [1, 2, 3]
    flat = sent([b'{"id": 1, "x": {"y": 5}}', b'{"id": {}}', b"?"])(flatten=True)  # the types are those of the batch
    assert [(line, raw) for _, line, raw, _ in flat.rejected] == [(0, '{"id": 1, "x": {"y": 5}}'), (2, "?")]
    assert told(sent([b'{"id": 1, "x": {"y": 5}}'])(flatten=True).rows, "_offset", "id", "x_y") == [(0, 1, 5)]


def test_keys_are_columns_and_messages_without_a_value_delete() -> None:
    rows = sent([b'{"v": 1}', b'{"v": 2}', None, b'{"v": 4}'], keys=[b"a", b"b", b"a", b"\xff"])
    deleting = rows(tombstones="delete")
    assert told(deleting.rows, "_key", "v", "_deleted") == [("a", 1, False), ("b", 2, False), ("a", None, True)]
    assert deleting.rejected == [("orders[0]", 3, '{"v": 4}', "key: not UTF-8: byte 0xff at position 1")]
    assert spec_of(sources.topic("orders", tombstones="delete")).table.delete_flag == "_deleted"
    assert told(rows(fields=["key"], key_codec="bytes", prefix="k_").rows, "k_key") == [(b"a",), (b"b",), (b"\xff",)]
    keyed = sent([b"{}"], keys=[b'{"id": 7}'])(fields=["key"], key_codec=Json({"id": "long"}))
    assert keyed.rows == [{"_key": {"id": 7}}]


@pytest.mark.parametrize(("codec", "keys"), [("text", [b"7", None]), ("json", [b'{"id": "7"}', None])])
def test_columns_of_keys_are_read_from_keys_where_the_topic_declares_it(codec: str, keys: list[bytes | None]) -> None:
    """As streams read them; values may not have them, and if they do it does not count."""
    topic = declared_topic("orders", {"id": "string", "v": "long"}, key="id", key_codec=codec)
    rows = sent([b'{"v": 1}', b'{"v": 2, "id": "of the value"}'], keys=keys)
    assert told(rows(topic=topic).rows, "id", "v") == [("7", 1), (None, 2)]
    key = "7" if codec == "text" else {"id": "7"}
    assert told(rows(topic=topic, fields=["key"]).rows, "_key", "id")[0] == (key, "7")
    assert told(rows(topic=topic, key_codec="text", fields=["key"]).rows, "_key", "id")[1] == (None, "of the value")
    broken = sent([b'{"v": 1}'], keys=[b"\xff"])(topic=topic)
    assert [why[:9] for *_, why in broken.rejected] == ["its key: "]


def test_a_field_that_is_called_as_the_messages_own_column_is_told() -> None:
    with pytest.raises(DecodeError, match='field "_OFFSET"') as error:
        sent([b'{"_OFFSET": 1}'])()
    assert "prefix" in str(error.value.hint)
    assert sent([b'{"_OFFSET": 1}'])(prefix="kafka_").rows[0]["_OFFSET"] == 1


def test_a_decode_is_told_by_the_archive_alone() -> None:
    """What is beside the parts is JSON, and makes the same codecs again."""
    specs = [Json(), Json({"id": "long"}, "error"), Avro(AVRO), Protobuf("a:B"), JsonSchema(validate=False), Text("t")]
    for spec in specs:
        assert codec_of_json(codec_as_json(spec)) == spec
    assert codec_as_json(Json()) == {"codec": "json"}
    assert codec_as_json(Protobuf("a:B", columns={"id": "long"})) == {
        "codec": "protobuf", "message": "a:B", "columns": {"id": "long"},
    }  # fmt: skip
    with memory_place() as place:
        place.topics.create(TopicSpec("orders"))
        place.send("orders", [b'{"id": 1}'])
        taken = take(place, sources.topic("orders"))
    assert decoded(taken, spec_of(sources.topic("orders", fields=("offset",)))).rows == [{"id": 1, "_offset": 0}]


@given(st.data())
@settings(max_examples=few(40), deadline=None)
def test_whatever_batches_fail_or_are_cut_each_message_is_in_one(data: st.DataObject) -> None:
    """Against a list: messages come, batches take some, and some of these are not published."""
    with memory_place() as place:
        place.topics.create(TopicSpec("orders", 3))
        sent_: dict[int, list[int]] = {0: [], 1: [], 2: []}
        taken: dict[int, list[int]] = {0: [], 1: [], 2: []}
        bookmark, number = None, 0
        for _ in range(data.draw(st.integers(1, 6))):
            for partition in data.draw(st.lists(st.integers(0, 2), max_size=8)):
                place.send("orders", [b"%d" % number], partitions=partition)
                sent_[partition].append(number)
                number += 1
            limit = data.draw(st.none() | st.integers(1, 5))
            feed = sources.topic("orders", codec="text", max_messages=limit)
            found = take(place, feed, bookmark)
            assert take(place, feed, bookmark, found.bookmark).rows == found.rows
            assert limit is None or len(found.rows) <= limit
            if data.draw(st.booleans()):
                bookmark = found.bookmark
                for row in found.rows:
                    taken[row["_partition"]].append(int(row["value"]))
        last = take(place, sources.topic("orders", codec="text"), bookmark)
        for row in last.rows:
            taken[row["_partition"]].append(int(row["value"]))
        assert taken == sent_


def test_partitions_that_are_added_are_read_from_their_beginning() -> None:
    before = Reached("t", "7", {0: 5})
    assert range_of(Here("t", "7", [0, 0], [8, 3]), before, None).begin == {0: 5, 1: 0}
    assert range_of(Here("t", "7", [0, 0], [8, 3]), before, None, start="latest").begin == {0: 5, 1: 0}
    again = range_of(Here("t", "7", [0, 0, 0], [9, 9, 9]), before, Reached("t", "7", {0: 8, 1: 3}))
    assert (again.begin, again.end) == ({0: 5, 1: 0}, {0: 8, 1: 3})


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (Here("t", "8", [0, 0], [9, 9]), "made again"),
        (Here("t", "7", [0, 0], [9, 3]), "ends at offset 3 of partition 1, and was read up to 4"),
        (Here("t", "", [0], [9]), "has 1 partitions, and partition 1 of it was read"),
        (Here("u", "7", [0], [9]), 'bookmark is of topic "t", and the source reads "u"'),
    ],
)
def test_a_topic_that_is_another_one_is_never_read_on_unseen(here: Here, message: str) -> None:
    with pytest.raises((DataError, DefinitionError), match=message):
        range_of(here, Reached("t", "7", {0: 5, 1: 4}), None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"topic": "no topic"}, "no name of a topic"),
        ({"codec": "xml"}, "codec"),
        ({"codec": "protobuf"}, "Which message"),
        ({"fields": ["headres"]}, "headers"),
        ({"start": "newest"}, 'start="earliest" or start="latest"'),
        ({"max_messages": 0}, "max_messages=0"),
        ({"prefix": "1"}, "prefix='1'"),
    ],
)
def test_a_wrong_argument_is_told_where_it_stands(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((DefinitionError, UnknownName)) as error:
        sources.topic(**{"topic": "orders", **wrong})
    assert message in f"{error.value.what} {error.value.hint}"
    assert "test_topic_rows.py" in str(error.value.where)
