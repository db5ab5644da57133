"""Messages that no stream can take, on every kind of broker: put aside with their reason, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.registry import registry_server
from harness.topics import Place
from tidemill.adapters.arrow import proto_schema
from tidemill.authoring.streams import Stream
from tidemill.model.codec import Avro, Protobuf
from tidemill.model.errors import DefinitionError, RunFailed
from tidemill.ports.topic import TopicSpec
from tidemill.wiring.codecs import open_codec, open_registry

COLUMNS = {"ts": "timestamptz", "car": "string", "v": "long"}
LARGE = 10_000_000
PROTO = 'syntax = "proto3"; package cars; message Car { string car = 1; int64 v = 2; }'


def at(second: int, car: str | None = "a", v: int = 1) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "car": car, "v": v}


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


def counting(p: tm.Pipeline, **options: Any) -> Stream:
    """Windows of ten seconds, by car."""
    topic = tm.topic(topic_name(), COLUMNS, **{"key": "car", "time": "ts", **options})

    @p.stream(topic, to=tm.topic(topic_name()))
    def counts(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count(), v=tm.agg.sum("v")).final()

    return counts


def windows(driven: Driven) -> list[tuple[str | None, str, int]]:
    """Results as (car, start, count)."""
    return [(row["car"], row["window_start"][:19], row["n"]) for row in driven.rows(driven.written())]


# -- what cannot be read

BROKEN = {
    b"": "the message is empty",
    b"{": "not JSON",
    b"[]": "not a JSON object",
    b"null": "not a JSON object",
    b"\xff\xfe": "not UTF-8",
    b'{"ts": 1e400, "car": "a", "v": 1}': "does not fit timestamptz",
    b'{"ts": "+300000-01-01T00:00:00Z", "car": "a", "v": 1}': "does not fit timestamptz",
    b'{"ts": 1767225600, "car": "a", "v": 1}': "does not fit timestamptz",
    b'{"ts": "2026-01-01T00:00:00Z", "car": "a", "v": 9223372036854775808}': "does not fit long",
    b"[" * 100_000: "nested",
}


def test_messages_that_are_no_json_of_the_topic_go_aside_with_the_reason(place: Place, p: tm.Pipeline) -> None:
    with Driven(place, counting(p)) as driven:
        driven.begin()
        bad = list(BROKEN)
        driven.feed(driven.read(), [at(1), *bad[:5], at(2), *bad[5:], at(3), at(31)])
        driven.work()
        letters = driven.letters()
        assert [one["value"] for one in letters] == bad
        for letter in letters:
            assert BROKEN[letter["value"]] in letter["error"]
            assert (letter["kind"], letter["step"], letter["topic"]) == ("undecodable", "decode", driven.read())
        assert windows(driven) == [("a", "2026-01-01T00:00:00", 3)]


def test_avro_messages_of_unknown_schemas_and_cut_ones_go_aside(place: Place, p: tm.Pipeline) -> None:
    spec = Avro(columns={"car": "string", "v": "long"}, framing="registry")
    with registry_server() as server:
        registry = open_registry(server.url)
        source = tm.topic(topic_name(), {"car": "string", "v": "long"}, codec=spec)

        @p.stream(source, to=tm.topic(topic_name()))
        def copied(t: tm.Frame) -> tm.Frame:
            return t.filter(t["v"] > 0)

        rows = pl.DataFrame({"car": ["a", "b"], "v": [1, 2]})
        good = open_codec(spec, source.name, "value", registry).encode(rows)
        assert isinstance(good[0], bytes)
        bad = {
            b"\x07" + good[0][1:]: "0x07",
            b"\x00" + (4711).to_bytes(4, "big") + good[0][5:]: "4711",
            good[0][:-1]: "",
            good[0][:3]: "",
            b"": "",
        }
        with Driven(place, copied, registry=registry) as driven:
            driven.begin()
            driven.feed(source.name, [good[0], *bad, good[1]])
            driven.work()
            letters = driven.letters()
            assert [one["value"] for one in letters] == list(bad)
            assert all(bad[one["value"]] in one["error"] for one in letters), [one["error"] for one in letters]
            assert [row["car"] for row in driven.rows(driven.written())] == ["a", "b"]


def test_cut_protobuf_messages_go_aside(place: Place, p: tm.Pipeline) -> None:
    source = tm.topic(topic_name(), {"car": "string", "v": "long"}, codec=Protobuf("Car", schema=PROTO, framing="bare"))

    @p.stream(source, to=tm.topic(topic_name()))
    def copied(t: tm.Frame) -> tm.Frame:
        return t.filter(t["v"] > 0)

    made = proto_schema.make_class(proto_schema.message_in(proto_schema.compiled(PROTO, {}), "cars.Car"))
    good = made(car="a", v=300).SerializeToString()
    with Driven(place, copied) as driven:
        driven.begin()
        driven.feed(source.name, [good, good[:-1], good[:2], b"\xff", good])
        driven.work()
        assert [one["value"] for one in driven.letters()] == [good[:-1], good[:2], b"\xff"]
        assert [row["v"] for row in driven.rows(driven.written())] == [300, 300]


# -- keys and values that are null


def test_a_message_without_a_value_is_no_row_whatever_its_key(place: Place, p: tm.Pipeline) -> None:
    """Also for steps by key: a tombstone removes nothing, and is no mistake."""
    source = tm.topic(topic_name(), {"car": "string", "v": "long"}, key="car")

    @p.stream(source, to=tm.topic(topic_name(), key="car"))
    def sums(t: tm.Frame) -> tm.Frame:
        return t.reduce("car", {"sum": 0}, lambda state, row: {"sum": state["sum"] + row["v"]})

    with Driven(place, sums) as driven:
        driven.begin()
        made = [{"car": "a", "v": 1}, None, {"car": "a", "v": 2}, None]
        driven.feed(source.name, made, keys=[b"a", b"a", b"a", None])
        driven.work()
        assert [row["sum"] for row in driven.rows(driven.written())][-1] == 3
        assert driven.letters() == []


def test_null_is_a_key_like_any_other(place: Place, p: tm.Pipeline) -> None:
    """In windows and groups; and of a topic that Tidemill writes, rows without a key are together, in one partition."""
    between = tm.topic(topic_name(), COLUMNS, key="car", time="ts", partitions=3, idle="1s")
    source = tm.topic(topic_name(), COLUMNS, time="ts")

    @p.stream(source, to=between, name="first")
    def first(t: tm.Frame) -> tm.Frame:
        return t.select("ts", "car", "v")

    @p.stream(between, to=tm.topic(topic_name()), name="second")
    def second(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    with Driven(place, first) as driven, Driven(place, second) as other:
        driven.begin()
        other.begin()
        driven.feed(source.name, [at(second, car) for second in (1, 2, 3, 4, 31) for car in (None, "a", "b")])
        driven.work()
        assert {message.partition.number for message in driven.messages(between.name) if None in message.keys} == {0}
        other.work(lambda: other.has(other.written(), 3))
        assert sorted(windows(other), key=str) == [(car, "2026-01-01T00:00:00", 4) for car in ("a", "b", None)]


# -- times


def test_times_that_no_event_has_go_aside_instead_of_making_all_others_late(place: Place, p: tm.Pipeline) -> None:
    """Years beyond 2262 say "never", or are in a wrong unit."""
    with Driven(place, counting(p)) as driven:
        driven.begin()
        never = {"ts": "9999-12-31T23:59:59Z", "car": "a", "v": 1}
        driven.feed(driven.read(), [at(1), never, at(2), at(31), at(32)])
        driven.work()
        (letter,) = driven.letters()
        assert (json.loads(letter["value"]), letter["offset"]) == (never, "1")
        assert letter["error"] == "ts: no event is of that time"
        assert windows(driven) == [("a", "2026-01-01T00:00:00", 2)]
        assert driven.letters("late") == []


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_of_a_wrong_unit_go_aside_also_where_they_wrap_around(p: tm.Pipeline, place: Place, unit: Any) -> None:
    source = tm.topic(topic_name(), {"t": "long", "car": "string"})

    @p.stream(source, to=tm.topic(topic_name()))
    def counts(t: tm.Frame) -> tm.Frame:
        t["at"] = pl.from_epoch(t["t"], time_unit=unit)
        return t.tumbling_window("10s", on="at", by="car").agg(n=tm.agg.count()).final()

    second = {"s": 1, "ms": 1_000, "us": 1_000_000}[unit]
    start = 1_767_225_600 * second
    with Driven(place, counts) as driven:
        driven.begin()
        wrong = [start * 1_000, start * 1_000_000, 2**63 - 1, -(2**63)]
        times = [start, *wrong, start + second, start + 31 * second]
        driven.feed(source.name, [{"t": one, "car": "a"} for one in times])
        driven.work()
        aside = [json.loads(one["value"])["t"] for one in driven.letters()]
        # What wraps around to a time that there is cannot be told from one.
        assert set(aside) <= set(wrong)
        assert start * 1_000 in aside
        assert ("a", "2026-01-01T00:00:00", 2) in windows(driven)


def test_times_before_1970_are_times(place: Place, p: tm.Pipeline) -> None:
    with Driven(place, counting(p)) as driven:
        driven.begin()
        old = [{"ts": f"1969-12-31T23:59:{second}Z", "car": "a", "v": 1} for second in ("49.999999", 50, 59)]
        ancient = {"ts": "0001-01-01T00:00:00Z", "car": "a", "v": 1}
        driven.feed(driven.read(), [ancient, *old, at(1), at(31)])
        driven.work()
        starts = ["0001-01-01T00:00:00", "1969-12-31T23:59:40", "1969-12-31T23:59:50", "2026-01-01T00:00:00"]
        assert windows(driven) == [("a", start, n) for start, n in zip(starts, (1, 1, 2, 1), strict=True)]
        assert driven.letters() == driven.letters("late") == []


def test_a_time_far_ahead_of_its_message_goes_aside_where_that_is_asked_for(place: Place, p: tm.Pipeline) -> None:
    """By the message's own timestamp, so that a run a year later takes the same rows."""
    with Driven(place, counting(p, ahead="1h")) as driven:
        driven.begin()
        sent = 1_767_225_600_000
        rows = [at(1), at(3599), at(2), at(31)]
        driven.feed(
            driven.read(), [*rows[:1], {**at(1), "ts": "2026-01-01T01:00:01Z"}, *rows[2:]], timestamps=[sent] * 4
        )
        driven.feed(driven.read(), [{**at(1), "ts": "2026-01-01T03:00:00Z"}], timestamps=[sent + 2 * 3_600_000])
        driven.work()
        (letter,) = driven.letters()
        assert letter["error"] == "ts is more than 1:00:00 ahead of the message's own timestamp"
        assert letter["offset"] == "1"
        assert windows(driven) == [("a", "2026-01-01T00:00:00", 2), ("a", "2026-01-01T00:00:30", 1)]


def test_how_far_ahead_is_about_a_column() -> None:
    with pytest.raises(DefinitionError, match="ahead= is about the event time"):
        tm.topic("t", COLUMNS, ahead="1h")


def test_messages_timestamps_may_be_anything(place: Place, p: tm.Pipeline) -> None:
    """Where they are the event time, and where they are not; and they can be looked at."""
    by_message = tm.topic(topic_name(), {"v": "long"}, partitions=2, idle="1s")

    @p.stream(by_message, to=tm.topic(topic_name()))
    def sums(t: tm.Frame) -> tm.Frame:
        return t.count_window(2, by="v").agg(n=tm.agg.count()).final()

    with Driven(place, sums) as driven:
        driven.begin()
        sent = 1_767_225_600_000
        far = [2**62, sent * 1_000, sent * 1_000_000]
        driven.feed(by_message.name, [{"v": 1}] * 5, timestamps=[0, *far, sent], partitions=0)
        driven.feed(by_message.name, [{"v": 1}, {"v": 2}], timestamps=[sent + 1, sent + 2], partitions=0)
        driven.work()
        assert [row["n"] for row in driven.rows(driven.written())] == [2]
        letters = driven.letters()
        assert [one["offset"] for one in letters] == ["1", "2", "3"]
        assert {one["error"] for one in letters} == {"the message's timestamp: no event is of that time"}
        assert [letter.at for letter in driven.read_letters()] == [None] * 3


# -- what is too large


def test_a_message_of_ten_megabytes_is_read_and_one_that_is_broken_goes_aside(place: Place, p: tm.Pipeline) -> None:
    """Of a topic that takes such: the stream's own topics take them, too."""
    source = tm.topic(topic_name(), {"car": "string", "v": "long"}, key="car")
    place.topics.create(TopicSpec(source.name, options={"max.message.bytes": str(LARGE + 100_000)}))

    @p.stream(source, to=tm.topic(topic_name()))
    def sums(t: tm.Frame) -> tm.Frame:
        return t.reduce("car", {"sum": 0}, lambda state, row: {"sum": state["sum"] + row["v"]})

    with Driven(place, sums) as driven:
        driven.begin()
        large, broken = "x" * LARGE, b"{" + b"x" * LARGE
        driven.feed(source.name, [{"car": "a", "v": 1}, {"car": large, "v": 2}, broken, {"car": "a", "v": 3}])
        driven.work()
        assert [row["sum"] for row in driven.rows(driven.written())] == [4]
        first, second = driven.letters()
        assert (first["value"], first["kind"]) == (broken, "undecodable")
        assert json.loads(second["row"]) == {"car": large, "sum": 2}, "the topic of the results does not take it"


def test_a_row_that_its_topic_does_not_take_goes_aside_and_the_others_come(place: Place, p: tm.Pipeline) -> None:
    source = tm.topic(topic_name(), {"v": "long", "size": "long"})
    out = tm.topic(topic_name())

    @p.stream(source, to=out)
    def larger(t: tm.Frame) -> tm.Frame:
        return t.map_rows(lambda row: {"v": row["v"], "x": "x" * row["size"]}, returns={"v": "long", "x": "string"})

    with Driven(place, larger) as driven:
        driven.begin()
        sizes = [1, 10, 3_000_000, 100, 2_000_000, 1_000]
        driven.feed(source.name, [{"v": v, "size": size} for v, size in enumerate(sizes)])
        driven.work()
        assert [row["v"] for row in driven.rows(out.name)] == [0, 1, 3, 5]
        letters = driven.letters()
        assert [json.loads(one["row"])["v"] for one in letters] == [2, 4]
        assert all(one["step"] == "to_topic" and "larger than topic" in one["error"] for one in letters)
        assert [int(one["cut"]) > 1_500_000 for one in letters] == [True, True]
        driven.stop()
        driven.begin()
        driven.work()
        assert len(driven.letters()) == 2, "it is not tried again for ever"


def test_rows_that_cannot_be_written_stop_a_stream_that_is_told_to(place: Place, p: tm.Pipeline) -> None:
    source = tm.topic(topic_name(), {"v": "double"})

    @p.stream(source, to=tm.topic(topic_name()), errors={"to_topic": "stop"})
    def inverse(t: tm.Frame) -> tm.Frame:
        return t.with_columns(v=1 / t["v"])

    with Driven(place, inverse) as driven:
        driven.begin()
        driven.feed(source.name, [{"v": 1.0}, {"v": 0.0}])
        with pytest.raises(RunFailed, match=r"to_topic cannot take.*infinite"):
            driven.work()


def test_numbers_that_json_cannot_say_go_aside(place: Place, p: tm.Pipeline) -> None:
    source = tm.topic(topic_name(), {"v": "double"})

    @p.stream(source, to=tm.topic(topic_name()))
    def inverse(t: tm.Frame) -> tm.Frame:
        return t.with_columns(v=1 / t["v"])

    with Driven(place, inverse) as driven:
        driven.begin()
        driven.feed(source.name, [{"v": 1.0}, {"v": 0.0}, {"v": 2.0}, {"v": -0.0}])
        driven.work()
        assert [row["v"] for row in driven.rows(driven.written())] == [1.0, 0.5]
        assert ["infinite" in one["error"] for one in driven.letters()] == [True, True]


def test_many_wide_rows_pass_an_exchange_in_messages_that_a_broker_takes(place: Place, p: tm.Pipeline) -> None:
    """All that is read at once may be many times of what a message may hold."""
    import random

    source = tm.topic(topic_name(), {"car": "string", "text": "string"}, key="text", partitions=2)

    @p.stream(source, to=tm.topic(topic_name()))
    def counts(t: tm.Frame) -> tm.Frame:
        return t.group_by("car").agg(n=tm.agg.count(), last=tm.agg.max("text"))

    chance = random.Random(5)
    with Driven(place, counts) as driven:
        rows = [{"car": f"c{n % 3}", "text": chance.randbytes(1_500).hex()} for n in range(2_000)]
        driven.begin()
        driven.feed(source.name, rows, partitions=0)
        driven.work()
        newest = {row["car"]: row["n"] for row in driven.rows(driven.written())}
        assert sum(newest.values()) == 2_000
