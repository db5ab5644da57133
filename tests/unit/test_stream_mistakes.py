"""Mistakes in declaring a stream: told when it is declared or planned, with the user's line and what to write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tidemill as tm
from tidemill import live
from tidemill.authoring import registry
from tidemill.flow.lineage import ColumnGraph
from tidemill.model.codec import Avro, Json, Raw
from tidemill.model.errors import UserError
from tidemill.model.lineage import ColumnName
from tidemill.testing import StreamTest
from tidemill.wiring.lineage import _columns_with
from tidemill.wiring.streams import streams_of

COLUMNS = {"id": "long", "kind": "string", "v": "double"}


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"codec": "avor"}, 'There is no codec "avor".', 'did you mean "avro"?'),
        ({"codec": "protobuf"}, "Which message of Protocol Buffers?", 'Protobuf("shop_pb2:Order")'),
        ({"codec": Raw}, "There is no codec", "json"),
        ({"codec": "text"}, "are one column of type string", '{"value": "string"}, or no columns'),
        ({"partitions": 0}, 'Topic "t" cannot have 0 partitions.', "1 or more"),
        ({"cleanup": "shrink"}, "cleanup='shrink' is not known.", '"delete" or "compact"'),
        ({"cleanup": "compact"}, 'Topic "t" cannot compact', "key="),
    ],
)
def test_a_topic_is_refused_where_it_is_declared(options: dict[str, Any], what: str, hint: str) -> None:
    with pytest.raises(UserError) as found:
        tm.topic("t", COLUMNS, **options)
    assert what in found.value.what
    assert hint in str(found.value.hint)
    assert "test_stream_mistakes.py:" in str(found.value.where)


def _mean(f: tm.Frame) -> tm.Frame:
    chosen = tm.when(tm.col("v") > tm.col("v").mean()).then(tm.lit("high")).otherwise(tm.lit("low"))
    return f.to_topic("t", choose=chosen)


@pytest.mark.parametrize(
    ("function", "what", "hint"),
    [
        (lambda f: None, '"s" returned nothing.', "return f"),
        (lambda f: f.count_window(2).agg(n=tm.agg.count()), '"s" returned something unfinished.', ".final()"),
        (_mean, '"mean" looks at more than one row', "window"),
        (lambda f: f.to_topic("t", choose="knd"), 'There is no column "knd".', 'did you mean "kind"?'),
        (lambda f: f.to_topic("t", choose=len), "to_topic: a Python function is not an expression.", "map_rows"),
        (lambda f: f.to_topic("t", key="ido"), 'There is no column "ido".', 'did you mean "id"?'),
        (lambda f: f.to_table("t", key="ido", write="upsert"), 'There is no column "ido".', 'did you mean "id"?'),
        (lambda f: f.to("w", "t", key="ido", write="upsert"), 'There is no column "ido".', 'did you mean "id"?'),
    ],
)
def test_a_stream_is_refused_when_it_is_planned(function: Callable[..., Any], what: str, hint: str) -> None:
    stream = tm.Pipeline("p").stream(function, tm.topic("rows", COLUMNS), name="s")
    with pytest.raises(UserError) as found:
        StreamTest(stream)
    assert what in found.value.what
    assert hint in str(found.value.hint)
    assert "test_stream_mistakes.py:" in str(found.value.where)


def test_a_stream_is_run_by_its_own_name_where_no_other_has_it() -> None:
    topic = tm.topic("rows", COLUMNS)
    pipelines = [tm.Pipeline("p"), tm.Pipeline("q")]
    for pipeline in pipelines:
        for name in ("same", f"only_{pipeline.name}", "q"):
            pipeline.stream(lambda f: f, topic, name=name)
    specs = [pipeline.spec() for pipeline in pipelines]

    def found(name: str) -> list[str]:
        return [stream.full_name for _, stream in streams_of(specs, name)]

    assert found("only_p") == ["p.only_p"]
    assert found("p.same") == ["p.same"]
    assert found("q") == ["q.same", "q.only_q", "q.q"], "a pipeline's name means all of its streams"
    with pytest.raises(UserError, match='no stream "same"'):
        found("same")


def test_lineage_says_of_a_stream_that_cannot_be_planned_that_nothing_is_known() -> None:
    p = tm.Pipeline("p")
    rows = tm.topic("rows", COLUMNS)

    def to_topic(f: tm.Frame) -> tm.Frame:
        return f.sort("v")  # type: ignore[no-any-return]  # no verb

    def to_table(f: tm.Frame) -> tm.Frame:
        raise RuntimeError("only on Mondays")

    p.stream(to_topic, rows, to=tm.topic("sorted", {"id": "long"}))
    p.stream(to_table, rows)
    graph = ColumnGraph([p.spec()], lambda _: None, _columns_with)
    assert graph.table("sorted").unknown == 'The stream p.to_topic cannot be planned. A frame has no "sort".'
    wanted = "The stream p.to_table cannot be planned. RuntimeError: only on Mondays"
    assert (graph.table("p.to_table").kind, graph.table("p.to_table").unknown) == ("table", wanted)
    near = graph.near([ColumnName("rows", "v")], direction="down")
    assert {(str(one.target), one.kind.value) for one in near.edges} == {("sorted.id", "unknown")}
    assert [one.name for one in near.tables] == ["rows", "sorted", "p.to_table"], "also where no column is known"
    assert [one.name for one in graph.near([ColumnName("rows", "v")], direction="up").tables] == ["rows"]


def test_a_plain_line_of_a_log_that_is_taken_for_json_says_what_would_take_it() -> None:
    topic = tm.topic("log", {"line": "string"}, source=live.tail("app.log"))

    @tm.Pipeline("p").stream(topic, to=tm.topic("o"), errors="dead_letter")
    def lines(t: tm.Frame) -> tm.Frame:
        return t

    test = StreamTest(lines)
    test.feed("log", [b"GET /index 200", b"[]"])
    test.checkpoint()
    told = [letter["error"] for letter in test.dead_letters()]
    assert told[0].endswith('; codec="text" takes lines as they are')
    assert "codec" not in told[1]


@pytest.mark.parametrize("columns", [None, {"value": "string"}, {"line": "string"}])
def test_messages_that_are_one_value_have_one_column_which_may_have_a_name(columns: dict[str, str] | None) -> None:
    (name,) = columns or ["value"]

    @tm.Pipeline("p").stream(tm.topic("log", columns, codec="text"), to=tm.topic("o", columns, codec="text"))
    def lines(t: tm.Frame) -> tm.Frame:
        return t.filter(t[name] != "no")

    test = StreamTest(lines)
    test.feed("log", [b"a line", b"no", {name: "a row"}, {"other": 1}])
    test.checkpoint()
    assert [value for _, value in test.messages("o")] == [b"a line", b"a row", b'{"other": 1}']


def test_columns_that_are_not_declared_are_those_of_the_codecs_schema() -> None:
    fields = [{"name": "car", "type": "string"}, {"name": "v", "type": "int"}]
    schema = json.dumps({"type": "record", "name": "Lap", "fields": fields})
    p = tm.Pipeline("p")

    @p.stream(tm.topic("laps", codec=Avro(schema)), to=tm.topic("o"))
    def doubled(t: tm.Frame) -> tm.Frame:
        return t.with_columns(v=t["v"] * 2)

    test = StreamTest(doubled)
    test.feed("laps", [{"car": "a", "v": 2}])
    test.checkpoint()
    assert [json.loads(value or b"") for _, value in test.messages("o")] == [{"car": "a", "v": 4}]
    graph = ColumnGraph([p.spec()], lambda _: None, _columns_with)
    assert graph.table("laps").columns == (("car", "string"), ("v", "int"))
    edges = graph.near([ColumnName("o", "v")], direction="up").edges
    assert [(str(one.source), one.kind.value) for one in edges] == [("laps.v", "computed")]
    with pytest.raises(UserError, match='Topic "laps" has no column "driver"'):
        tm.topic("laps", key="driver", codec=Avro(schema))
    with pytest.raises(UserError, match="schema") as wrong:
        tm.topic("laps", codec=Avro("{"))
    assert "test_stream_mistakes.py:" in (wrong.value.where or ""), "at the line that declares it"


@pytest.mark.parametrize("codec", [Json({"v": "int"}), Avro(columns={"v": "int"})], ids=lambda c: type(c).__name__)
def test_columns_that_a_codec_is_described_with_are_the_topics(codec: Any) -> None:
    assert tm.topic("t", codec=codec).columns == {"v": "int"}


def test_the_name_of_a_topic_alone_is_no_topic() -> None:
    with pytest.raises(UserError, match="A stream is given topics, and 'laps' is a text"):
        tm.Pipeline("p").stream("laps", to="o")
