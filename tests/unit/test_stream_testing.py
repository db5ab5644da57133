"""`StreamTest` keeps its promises: rows in, time when told, results out; crashes and restarts change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.codec import Protobuf
from tidemill.model.errors import RunFailed, UnknownName, UserError
from tidemill.testing import StreamTest
from tidemill.testing.clock import ManualClock

TELEMETRY = tm.topic(
    "telemetry", {"ts": "timestamptz", "car": "string", "speed": "double"}, key="car", time="ts", partitions=2
)


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def row(second: int, car: str = "a", speed: float = 10.0) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "car": car, "speed": speed}


def made(function: Callable[..., Any], *topics: Any, **options: Any) -> Any:
    return tm.Pipeline("cars").stream(*topics, **options)(function)


@pytest.fixture
def counts() -> StreamTest:
    def per_car(telemetry: Any) -> Any:
        return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    return StreamTest(made(per_car, TELEMETRY, to=tm.topic("counts")))


def found(test: StreamTest) -> list[tuple[str, str, int]]:
    return [(one["car"], one["window_start"][14:19], one["n"]) for one in test.rows("counts")]


def test_results_of_an_exactly_once_stream_show_when_they_count(counts: StreamTest) -> None:
    counts.feed("telemetry", [row(1), row(2), row(11)])
    assert found(counts) == []
    counts.checkpoint()
    assert found(counts) == [("a", "00:00", 2)]


def test_a_topic_is_also_known_by_the_parameter_that_reads_it(counts: StreamTest) -> None:
    with pytest.raises(UnknownName, match='no topic "telemetri"'):
        counts.feed("telemetri", [row(1)])


def test_times_may_be_text_and_rows_go_where_their_key_says(counts: StreamTest) -> None:
    counts.feed("telemetry", [row(1, "a"), row(1, "b"), row(1, "a")])
    keys = [key for key, _ in counts.messages("telemetry")]
    assert sorted(key or b"" for key in keys) == [b"a", b"a", b"b"]


@pytest.mark.parametrize("how", ["crash", "restart"])
def test_the_state_outlives_a_crash_and_a_restart(counts: StreamTest, how: str) -> None:
    counts.feed("telemetry", [row(1), row(2)])
    counts.checkpoint()
    counts.feed("telemetry", [row(3)])
    getattr(counts, how)()
    counts.feed("telemetry", [row(11)])
    counts.checkpoint()
    assert found(counts) == [("a", "00:00", 3)], "each row counts once"


def test_what_a_crash_interrupts_is_done_again_once(counts: StreamTest) -> None:
    counts.feed("telemetry", [row(1), row(11)])
    counts.crash()
    counts.crash()
    counts.checkpoint()
    assert found(counts) == [("a", "00:00", 1)]


def test_rows_that_come_too_late_are_told_apart(counts: StreamTest) -> None:
    counts.feed("telemetry", [row(1), row(21), row(2)])
    counts.checkpoint()
    assert found(counts) == [("a", "00:00", 1)]
    (late,) = counts.late()
    assert (late["kind"], late["step"], late["row"]["car"]) == ("late", "tumbling_window", "a")
    ((_, value),) = counts.messages("cars.per_car.late")
    assert json.loads(value or b"") == late["row"], "so a stream can read it"


def test_a_stream_is_called_with_rows_as_a_table_function_is() -> None:
    def fast(telemetry: Any) -> Any:
        return telemetry.filter(telemetry["speed"] > 20).select("car").to_topic("fast")

    stream = made(fast, TELEMETRY)
    assert stream(pl.DataFrame({"car": ["a", "b"], "speed": [10.0, 30.0]})).rows() == [("b",)]
    frame = tm.Frame.literal(pl.DataFrame({"car": ["c"], "speed": [40.0]}))
    assert isinstance(stream(frame), tm.Frame), "another function may call it"


def test_a_topic_is_made_as_it_was_declared() -> None:
    pipeline = tm.Pipeline("p")
    source = tm.topic("t", {"car": "string", "v": "long"}, key="car", partitions=3)

    @pipeline.stream(source, to=tm.topic("newest", key="car", cleanup="compact", partitions=2))
    def sums(t: tm.Frame) -> tm.Frame:
        return t.group_by("car").agg(v=tm.agg.sum("v"))

    test = StreamTest(sums)
    made = test._topics.describe("newest")
    assert made is not None
    assert (made.cleanup, made.partitions) == ("compact", 2)


def test_lateness_keeps_windows_open() -> None:
    topic = tm.topic("telemetry", TELEMETRY.columns, key="car", time="ts", lateness="30s")

    def per_car(telemetry: Any) -> Any:
        return telemetry.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    test = StreamTest(made(per_car, topic, to=tm.topic("counts")))
    test.feed("telemetry", [row(1), row(21), row(2), row(41)])
    test.checkpoint()
    assert (found(test), test.late()) == ([("a", "00:00", 2)], [])


def test_a_message_that_is_none_becomes_a_dead_letter_and_the_others_go_on(counts: StreamTest) -> None:
    counts.feed("telemetry", [b"{nope", row(1), {"ts": "noon", "car": "a"}, row(11)])
    counts.checkpoint()
    assert found(counts) == [("a", "00:00", 1)]
    bad = counts.dead_letters()
    assert [one["kind"] for one in bad] == ["undecodable"] * 2
    assert {one["value"] for one in bad} == {b"{nope", b'{"ts": "noon", "car": "a"}'}
    assert all(one["topic"] == "telemetry" for one in bad)


def test_a_row_that_a_function_cannot_take_stops_the_stream_where_it_is_told_to() -> None:
    def halves(telemetry: Any) -> Any:
        inverse = {"car": "string", "n": "double"}
        return telemetry.map_rows(lambda row: {"car": row["car"], "n": 1 / row["speed"]}, returns=inverse)

    stream = made(halves, TELEMETRY, to=tm.topic("out"), errors={"map_rows": "stop"})
    test = StreamTest(stream)
    with pytest.raises(RunFailed, match="map_rows cannot take"):
        test.feed("telemetry", [row(1, speed=0.0)])


def test_a_silent_partition_does_not_hold_results_back_for_ever() -> None:
    """It is waited for as long as its topic says, however long a test lets pass at once."""
    north, south = (tm.topic(name, TELEMETRY.columns, key="car", time="ts", idle="60s") for name in ("north", "south"))

    def all_cars(north: Any, south: Any) -> Any:
        both = north.concat(south)
        return both.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    test = StreamTest(made(all_cars, north, south, to=tm.topic("counts")))
    test.feed("south", [row(1), row(2)])
    test.feed("north", [row(1), row(31)])
    test.checkpoint()
    assert found(test) == []
    test.advance("30s")
    test.checkpoint()
    assert found(test) == []
    test.advance("2m")
    test.checkpoint()
    assert found(test) == [("a", "00:00", 3)]


def test_rows_for_a_table_are_seen_and_tables_can_be_joined() -> None:
    def with_owner(telemetry: Any, owners: Any) -> Any:
        return telemetry.join_lookup(owners, on="car").select("car", "owner")

    stream = made(with_owner, TELEMETRY, owners=tm.whole("crm.owners"))
    for tables in ({"crm.owners": [{"car": "a", "owner": "Ada"}]},
                   {"crm.owners": pl.DataFrame({"car": ["a"], "owner": ["Ada"]})}):  # fmt: skip
        test = StreamTest(stream, tables=tables)
        test.feed("telemetry", [row(1)])
        test.checkpoint()
        assert test.table("with_owner") == [{"car": "a", "owner": "Ada"}]


def test_the_clock_is_the_tests_own() -> None:
    clock = ManualClock()

    def same(telemetry: Any) -> Any:
        return telemetry.filter(tm.col("speed") > 0)

    test = StreamTest(made(same, TELEMETRY, to=tm.topic("out")), clock=clock)
    before = clock.now()
    test.advance("1h")
    assert (clock.now() - before).total_seconds() >= 3600


def test_the_plugin_gives_a_stream_in_memory(stream_test: Callable[..., StreamTest], manual_clock: ManualClock) -> None:
    def same(telemetry: Any) -> Any:
        return telemetry.filter(tm.col("speed") > 0)

    test = stream_test(made(same, TELEMETRY, to=tm.topic("out")))
    test.feed("telemetry", [row(1)])
    test.checkpoint()
    assert len(test.rows("out")) == 1
    assert test.clock is manual_clock


def test_importing_the_helpers_loads_none_of_them() -> None:
    import tidemill.testing

    assert set(tidemill.testing.__all__) == {"ManualClock", "StreamTest"}
    with pytest.raises(AttributeError, match='has no "Nothing"'):
        tidemill.testing.Nothing  # noqa: B018  # asking is the point


def test_what_becomes_of_a_row_goes_by_the_step_that_cannot_take_it_also_where_steps_run_as_one() -> None:
    """`with_columns`, `cast`, and both functions, are one query and one loop; errors are still each one's own."""

    def numbers(telemetry: Any) -> Any:
        made = telemetry.with_columns(n=tm.col("car").str.slice(0)).cast(n="long")
        typed = {"car": "string", "n": "long"}
        return made.map_rows(lambda row: row, returns=typed).map_rows(lambda row: {"n": 6 // row["n"]}, adds={})

    errors = {"with_columns": "stop", "cast": "skip", "map_rows": "dead_letter"}
    test = StreamTest(made(numbers, TELEMETRY, to=tm.topic("out"), errors=errors))
    test.feed("telemetry", [row(1, car="2"), row(2, car="two"), row(3, car="0"), row(4, car="3")])
    test.checkpoint()
    assert [one["n"] for one in test.rows("out")] == [3, 2]
    assert [(one["step"], one["error"].partition(":")[0]) for one in test.dead_letters()] == [
        ("map_rows", "ZeroDivisionError")
    ]


def test_a_row_that_one_of_several_functions_cannot_take_is_told_with_that_function() -> None:
    """Three functions run as one loop; one that gives a plain dict hands on a row that knows its columns."""

    def copied(row: dict[str, Any]) -> dict[str, Any]:
        return {**row}

    def forgetful(row: dict[str, Any]) -> Any:
        return None if row["car"] == "none" else row

    def misspelt(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "speed": row["spede"] if row["car"] == "bad" else 1}

    def all_three(telemetry: Any) -> Any:
        return telemetry.map_rows(copied, adds={}).map_rows(forgetful, adds={}).map_rows(misspelt, adds={})

    test = StreamTest(made(all_three, TELEMETRY, to=tm.topic("out")))
    test.feed("telemetry", [row(1, car=car) for car in ("a", "none", "bad", "b")])
    test.checkpoint()
    assert [(one["car"], one["speed"]) for one in test.rows("out")] == [("a", 1.0), ("b", 1.0)]
    none, bad = (one["error"] for one in test.dead_letters())
    assert "returned NoneType, not a row" in none
    assert "forgetful" in none
    assert 'no column "spede"' in bad
    assert "misspelt" in bad


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ({"map_row": "skip"}, 'There is no verb "map_row"'),
        ({"tumbling_window": "dead_letter"}, "tumbling_window takes no decision about a single row"),
        ({"map_rows": "forget"}, "'forget' is not known"),
    ],
)
def test_errors_name_verbs_that_can_refuse_a_row(errors: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(lambda telemetry: telemetry, TELEMETRY, name="same", to=tm.topic("out"), errors=errors)


@pytest.mark.parametrize(
    "codec",
    [
        "json",
        "avro",
        "json_schema",
        Protobuf("R", 'syntax = "proto3"; message R { string car = 1; double speed = 2; }'),
    ],
    ids=["json", "avro", "json_schema", "protobuf"],
)
def test_rows_are_written_and_read_by_the_codecs_of_their_topics_without_a_server(codec: Any) -> None:
    columns = {"car": "string", "speed": "double"}
    source, out = tm.topic("laps", columns, key="car", codec=codec), tm.topic("fast", columns, codec=codec)
    test = StreamTest(made(lambda f: f.filter(f["speed"] > 10), source, to=out, name="fast"))
    test.feed("laps", [{"car": "a", "speed": 5.5}, {"car": "b", "speed": 50.5}, b"\xff"])
    test.checkpoint()
    assert test.rows("fast") == [{"car": "b", "speed": 50.5}]
    assert [one["kind"] for one in test.dead_letters()] == ["undecodable"]


def test_what_functions_remember_is_seen_by_key() -> None:
    def longest(f: Any) -> Any:
        best = f.reduce("car", {"best": 0.0}, lambda state, lap: {"best": max(state["best"], lap["speed"])})
        best.to_topic("best")

        def count(lap: Any, state: Any) -> None:
            state["laps"] = state.get("laps", 0) + 1

        return f.map_with_state(count, by=None, on="ts", ttl="1m", returns={"n": "long"}).to_topic("nothing"), best

    test = StreamTest(made(longest, TELEMETRY))
    test.feed("telemetry", [row(1, "a", 3.0), row(2, "a", 7.0), row(3, "b", 5.0), row(4, "b", 5.0)])
    test.advance("31s")  # a partition that is silent for so long is not waited for
    test.checkpoint()
    assert test.state("reduce1") == {"a": {"best": 7.0}, "b": {"best": 5.0}}
    counted = test.state("map_with_state1")
    assert counted.keys() == {None}
    test.crash()
    assert (test.state("reduce1"), test.state("map_with_state1")) == ({"a": {"best": 7.0}, "b": {"best": 5.0}}, counted)
    with pytest.raises(UnknownName, match="map_with_state1, reduce1"):
        test.state()


def test_open_windows_are_counted(counts: StreamTest) -> None:
    counts.feed("telemetry", [row(1), row(2), row(3, "b")])
    counts.checkpoint()
    assert counts.open_windows() == 2
    counts.feed("telemetry", [row(11, "a"), row(11, "b")])
    counts.checkpoint()
    assert (counts.open_windows(), len(found(counts))) == (2, 2)
