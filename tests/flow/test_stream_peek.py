"""`peek` in a notebook: the last rows of topics, frames and streams as Polars frames, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError, RunFailed, UnknownName, UserError
from tidemill.ports.topic import Partition, TopicSpec
from tidemill.wiring.runner import close, services_of
from tidemill.wiring.settings import load_settings
from tidemill.wiring.stream_care import StreamCare

TELEMETRY = tm.topic(
    "telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", time="ts", partitions=2
)


def row(second: int, car: str = "a") -> bytes:
    return f'{{"ts": "2026-01-01T00:00:{second:02}Z", "car": "{car}", "speed": {second}}}'.encode()


@pytest.fixture
def care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamCare]:
    """A project with forty messages in a topic of two partitions, and one that cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEMILL_PROJECT", str(tmp_path))
    registry.clear()
    settings = load_settings()
    made = StreamCare(settings, services_of(settings).metadata)
    made.topics.create(TopicSpec("telemetry", 2))
    writer = made.topics.writer("test")
    for number, car in enumerate("ab"):
        writer.send("telemetry", [row(second, car) for second in range(20)], partitions=number)
    writer.send("telemetry", [b"nope"], partitions=0)
    writer.commit({})
    writer.close()
    yield made
    made.close()
    close(tmp_path)
    registry.clear()


def counts(telemetry: Any) -> Any:
    return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()


def test_the_last_rows_of_a_topic_have_its_types(care: StreamCare) -> None:
    found = TELEMETRY.peek(4)
    assert isinstance(found, pl.DataFrame)
    assert found.schema["ts"] == pl.Datetime("us", "UTC")
    assert found["speed"].to_list()[-1] == 19.0
    assert found.height == 3, "one of the last four cannot be read"


def test_a_topic_without_columns_shows_the_fields_of_its_objects(care: StreamCare) -> None:
    assert set(tm.topic("telemetry").peek(2).columns) == {"ts", "car", "speed"}
    with pytest.raises(UnknownName, match='no topic "telemetri"'):
        tm.topic("telemetri").peek()


def test_the_last_rows_of_a_frame_are_what_its_steps_make(care: StreamCare) -> None:
    f = tm.Frame.of(TELEMETRY)
    f["kmh"] = f["speed"] * 3.6
    found = f.filter(f["car"] == "b").select("car", "kmh").peek(2)
    assert found.to_dicts() == [{"car": "b", "kmh": 18 * 3.6}, {"car": "b", "kmh": 19 * 3.6}]
    assert counts(f).peek(10)["n"].to_list() == [10, 10]


def test_of_a_stream_it_is_the_result_and_nothing_of_it_moves(care: StreamCare) -> None:
    called: list[Any] = []

    @tm.Pipeline("cars").stream(TELEMETRY, checks=[tm.expect(tm.col("car") != "b")])
    def fast(telemetry: Any) -> Any:
        telemetry.sink(called.append)
        return telemetry

    found = fast.peek(3)
    assert found["speed"].to_list() == [17.0, 18.0, 19.0]
    assert set(found["car"]) == {"a"}
    assert called == []
    assert care.topics.names() == ["telemetry"], "no topic of the stream's own was made"
    assert care.topics.committed("cars.fast", [Partition("telemetry", 0)]) == {}


def test_only_the_last_messages_are_looked_at(care: StreamCare) -> None:
    stream = tm.Pipeline("cars").stream(TELEMETRY, to="out")(counts)
    assert stream.peek()["n"].to_list() == [10, 10]
    assert sorted(stream.peek(messages=12)["n"]) == [1, 2], "the window of the last twelve had begun before them"
    assert stream.peek(messages=2).height == 0


def test_of_several_sinks_one_is_named(care: StreamCare) -> None:
    @tm.Pipeline("cars").stream(TELEMETRY)
    def both(telemetry: Any) -> Any:
        slow = telemetry.filter(tm.col("speed") < 5)
        fast = telemetry.filter(tm.col("speed") >= 5)
        slow.to_topic("slow")
        fast.to_table("fast")
        return slow, fast

    with pytest.raises(UserError, match="several sinks"):
        both.peek()
    assert both.peek(1, to="slow")["speed"].to_list() == [4.0]
    assert both.peek(1, to="fast")["speed"].to_list() == [19.0]
    with pytest.raises(UnknownName, match='no sink "other"'):
        both.peek(to="other")


def test_what_goes_wrong_in_a_function_is_told(care: StreamCare) -> None:
    def broken(row: Any) -> Any:
        raise ValueError("no")

    def halves(telemetry: Any) -> Any:
        return telemetry.map_rows(broken, adds={})

    stopping = tm.Pipeline("cars").stream(TELEMETRY, to="out", errors={"map_rows": "stop"})(halves)
    with pytest.raises(RunFailed):
        stopping.peek()
    with pytest.raises(DefinitionError, match="is no topic"):
        tm.Frame.literal(pl.DataFrame({"a": [1]})).peek()
