"""`map_with_state`: a function on rows with a state for each key, on tables and on streams, by event time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from harness.streaming import play
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.authoring import registry
from tidemill.model.errors import DataError, DefinitionError, RunFailed
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.state import State
from tidemill.testing import StreamTest

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"ts": pl.Datetime("us", "UTC"), "car": pl.String(), "v": pl.Int64()})
COLUMNS = {"ts": "timestamptz", "car": "string", "v": "long"}


def at(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


def frame(*rows: tuple[float | None, str | None, int | None]) -> Frame:
    made = [(None if second is None else at(second), car, v) for second, car, v in rows]
    return Frame.literal(pl.DataFrame(made, schema=SCHEMA, orient="row"))


def run(made: Frame) -> list[dict[str, Any]]:
    return PolarsEngine().collect(made, {}).to_dicts()


def count(row: Any, state: Any) -> Any:
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"]}


# On tables


def test_rows_come_by_time_and_ties_in_row_order_each_with_its_keys_state() -> None:
    seen: list[tuple[str, int]] = []

    def note(row: Any, state: Any) -> Any:
        seen.append((row["car"], row["v"]))
        return {**row, **count(row, state)}

    found = run(
        frame((5, "a", 1), (1, "a", 2), (5, "b", 3), (5, "a", 4)).map_with_state(
            note, by="car", on="ts", adds={"n": "long"}
        )
    )
    assert seen == [("a", 2), ("a", 1), ("b", 3), ("a", 4)]
    assert [(row["car"], row["v"], row["n"]) for row in found] == [("a", 2, 1), ("a", 1, 2), ("b", 3, 1), ("a", 4, 3)]


def test_a_result_has_the_key_and_the_time_of_its_row() -> None:
    made = frame((2, "a", 1), (1, None, 2)).map_with_state(count, by="car", on="ts", returns={"n": "long"})
    assert run(made) == [{"car": None, "ts": at(1), "n": 1}, {"car": "a", "ts": at(2), "n": 1}]
    with pytest.raises(TypeError, match='changed "car"'):
        run(frame((1, "a", 1)).map_with_state(lambda row, state: {**row, "car": "b"}, by="car", on="ts", adds={}))


@pytest.mark.parametrize(
    ("result", "many"),
    [(None, 0), ({"n": 1}, 1), ([], 0), ([{"n": 1}, {"n": 2}], 2), (({"n": n} for n in (1, 2, 3)), 3)],
)
def test_a_function_gives_none_one_or_several_rows(result: Any, many: int) -> None:
    made = frame((1, "a", 1)).map_with_state(lambda row, state: result, by="car", on="ts", returns={"n": "long"})
    assert len(run(made)) == many
    assert list(PolarsEngine().collect(made, {}).columns) == ["car", "ts", "n"]


@pytest.mark.parametrize("result", [1, "row", [1], object()])
def test_what_is_no_row_is_refused(result: Any) -> None:
    made = frame((1, "a", 1)).map_with_state(lambda row, state: result, by="car", on="ts", adds={})
    with pytest.raises(TypeError, match=r"not a row|not rows"):
        run(made)


def test_types_that_are_not_declared_are_found() -> None:
    made = frame((1, "a", 1)).map_with_state(count, by="car", on="ts")
    assert run(made) == [{"car": "a", "ts": at(1), "n": 1}]
    assert PolarsEngine().columns(made, {}) is None


def test_a_state_is_gone_when_its_time_is_over_and_not_before() -> None:
    """It lives from the last time that it was written, up to and with its end."""
    ttl = 10

    def first(row: Any, state: Any) -> Any:
        found = state.get("n")
        if row["v"]:
            state["n"] = row["v"]
        return {"n": found}

    found = run(
        frame(
            (0, "a", 7), (10, "a", 0), (10.000001, "a", 8), (15, "a", 9), (25, "a", 0), (25.5, "a", 0)
        ).map_with_state(first, by="car", on="ts", ttl=f"{ttl}s", returns={"n": "long"})
    )
    assert [row["n"] for row in found] == [None, 7, None, 8, 9, None]


def test_without_a_key_all_rows_have_one_state() -> None:
    made = frame((1, "a", 1), (2, "b", 1)).map_with_state(count, by=None, on="ts", returns={"n": "long"})
    assert run(made) == [{"ts": at(1), "n": 1}, {"ts": at(2), "n": 2}]


def test_a_row_without_a_time_is_an_error() -> None:
    with pytest.raises(DataError, match='row 1 of "rows" has no time in "ts"'):
        run(frame((1, "a", 1), (None, "a", 2)).map_with_state(count, by="car", on="ts", returns={"n": "long"}))


def test_what_the_columns_tell_is_refused_before_a_row_is_read() -> None:
    f = frame((1, "a", 1))
    with pytest.raises(DefinitionError, match='"ts" is the time and a key'):
        f.map_with_state(count, by="ts", on="ts")
    with pytest.raises(DefinitionError, match="must be longer than nothing"):
        f.map_with_state(count, by="car", on="ts", ttl="0s")
    with pytest.raises(DefinitionError, match="exclude each other"):
        f.map_with_state(count, by="car", on="ts", adds={}, returns={})
    for wrong, what in (({"by": "cat"}, 'column "cat"'), ({"on": "tz"}, 'column "tz"'), ({"on": "v"}, "not a time")):
        arguments: Any = {"by": "car", "on": "ts", **wrong}
        for engine_call in (PolarsEngine().columns, PolarsEngine().collect):
            with pytest.raises(Exception, match=what):
                engine_call(f.map_with_state(count, adds={"n": "long"}, **arguments), {})


# The state


def test_a_state_is_a_mapping() -> None:
    state = State({"n": 1, "seen": [1]})
    assert ("n" in state, "m" in state, len(state), sorted(state)) == (True, False, 2, ["n", "seen"])
    del state["n"]
    assert state.written() == {"seen": [1]}
    state.clear()
    assert state.written() == {}
    with pytest.raises(KeyError):
        state["n"]


def test_reading_is_no_writing_but_a_change_in_place_is() -> None:
    before = {"seen": [1], "by": {"a": [2]}}
    state = State(before)
    assert state["seen"] == [1]
    assert state.written() is None
    state["by"]["a"].append(3)
    assert state.written() == {"seen": [1], "by": {"a": [2, 3]}}
    assert before == {"seen": [1], "by": {"a": [2]}}


def test_values_are_after_a_call_what_they_are_after_they_were_kept() -> None:
    state = State({})
    here = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    state["t"], state["at"], state["money"] = (1, (2,)), here, Decimal("1.20")
    assert state.written() == {"t": [1, [2]], "at": datetime(2026, 1, 1, 10, tzinfo=UTC), "money": Decimal("1.20")}


@pytest.mark.parametrize("value", [{1, 2}, object(), {1: 2}, {"__tm": 1}, [object()]])
def test_values_that_a_file_cannot_keep_are_refused(value: Any) -> None:
    state = State({})
    state["x"] = value
    with pytest.raises(TypeError, match="state"):
        state.written()


# On streams


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def stream(function: Any, errors: Any = None, **options: Any) -> StreamTest:
    topic = tm.topic("rows", COLUMNS, key="car", time="ts", lateness="5s")
    arguments: dict[str, Any] = {"by": "car", "on": "ts", "returns": {"n": "long"}, **options}

    def out(rows: Any) -> Any:
        return rows.map_with_state(function, **arguments)

    more = {} if errors is None else {"errors": errors}
    return StreamTest(tm.Pipeline("cars").stream(topic, to=tm.topic("out"), **more)(out))


def feed(test: StreamTest, *rows: tuple[float, str, int]) -> None:
    test.feed("rows", [{"ts": at(second).isoformat(), "car": car, "v": v} for second, car, v in rows])
    test.checkpoint()


def results(test: StreamTest) -> list[tuple[str, Any]]:
    return [(row["car"], row["n"]) for row in test.rows("out")]


def test_a_stream_takes_rows_by_time_and_remembers_over_a_crash() -> None:
    """The row of second 3 comes behind that of second 7, within the lateness."""

    def note(row: Any, state: Any) -> Any:
        state.setdefault("seen", []).append(row["v"])
        return {"n": int("".join(map(str, state["seen"])))}

    test = stream(note)
    feed(test, (1, "a", 1), (7, "a", 3))
    test.crash()
    feed(test, (3, "a", 2), (9, "b", 7))
    test.restart()
    feed(test, (20, "a", 4), (40, "a", 5))
    assert results(test) == [("a", 1), ("a", 12), ("a", 123), ("b", 7), ("a", 1234)]
    assert test.late() == []
    feed(test, (10, "a", 9))
    assert [letter["row"]["v"] for letter in test.late()] == [9]


def test_a_call_that_fails_leaves_the_state_as_it_was() -> None:
    def fails(row: Any, state: Any) -> Any:
        state["n"] = state.get("n", 0) + 1
        state.setdefault("seen", []).append(row["v"])
        if row["v"] == 0:
            raise ValueError("no")
        return {"n": state["n"] * 10 + len(state["seen"])}

    test = stream(fails, errors={"map_with_state": "dead_letter"})
    feed(test, (1, "a", 1), (2, "a", 0), (3, "a", 1), (60, "z", 1))
    assert results(test) == [("a", 11), ("a", 22)]
    (letter,) = test.dead_letters()
    assert letter["error"].startswith("map_with_state(fails): ValueError: no")
    assert json.loads(letter["value"])["v"] == 0


def test_without_a_word_a_call_that_fails_stops_the_stream() -> None:
    def fails(row: Any, state: Any) -> Any:
        raise ValueError("no")

    test = stream(fails)
    with pytest.raises(RunFailed, match="ValueError: no"):
        feed(test, (1, "a", 1), (60, "z", 1))


@pytest.mark.parametrize("bad", ["text", {1, 2}])
def test_a_result_or_state_of_a_wrong_type_is_about_its_row_only(bad: Any) -> None:
    def wrong(row: Any, state: Any) -> Any:
        state["n"] = state.get("n", 0) + 1
        if row["v"] == 0 and isinstance(bad, set):
            state["x"] = bad
        return {"n": bad if row["v"] == 0 else state["n"]}

    test = stream(wrong, errors="dead_letter")
    feed(test, (1, "a", 1), (2, "a", 0), (3, "a", 1), (60, "z", 1))
    assert results(test) == [("a", 1), ("a", 2)]
    assert [json.loads(letter["value"])["v"] for letter in test.dead_letters()] == [0]


def test_a_row_without_a_time_is_a_dead_letter_or_stops() -> None:
    test = stream(count, errors="dead_letter")
    test.feed("rows", [{"ts": None, "car": "a", "v": 1}])
    test.checkpoint()
    assert "has no time" in test.dead_letters()[0]["error"]


def test_a_window_behind_it_closes_though_the_function_gives_nothing_more() -> None:
    """Results are stamped with the time of their rows, and time goes on with the rows that are taken."""
    topic = tm.topic("rows", COLUMNS, key="car", time="ts", lateness="0s")

    def out(rows: Any) -> Any:
        starts = rows.map_with_state(
            lambda row, state: {"n": 1} if row["v"] else None, by="car", on="ts", returns={"n": "long"}
        )
        return starts.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    made = tm.Pipeline("cars").stream(topic, to=tm.topic("out"))(out)
    test = StreamTest(made)
    feed(test, (1, "a", 1), (2, "a", 1), (12, "a", 0))
    assert results(test) == [("a", 2)]


def test_room_is_freed_as_time_goes_on_and_results_do_not_show_it() -> None:
    topic = tm.topic("rows", COLUMNS, key="car", time="ts", lateness="0s")
    rows = [(n, f"c{n % 7 if n < 40 else n}", 1) for n in range(400)]
    data = pl.DataFrame([(at(n), car, v) for n, car, v in rows], schema=SCHEMA, orient="row")
    source = Frame.of(Input("rows", "topic", topic))
    made = source.map_with_state(count, by="car", on="ts", ttl="20s", returns={"n": "long"}).to_table("out")
    game = play([made], {"rows": [data]}, random.Random(1), restarts=0.3)
    game.restart()
    (keeper,) = game.keepers.values()
    states = [key for key in keeper.data if b"/states/" in key]
    due = [key for key in keeper.data if b"/due/" in key]
    assert len(states) <= 21, "those that were written in the last 20 seconds"
    assert len(due) <= 42
    found = game.out(game.topology.nodes[-1].number)
    wanted = PolarsEngine().collect(
        Frame.literal(data).map_with_state(count, by="car", on="ts", ttl="20s", returns={"n": "long"}), {}
    )
    assert found is not None
    assert found.equals(wanted)


def test_a_key_that_is_no_number_is_one_key_in_any_cut_and_so_is_zero() -> None:
    keys = (math.nan, 0.0, -0.0, math.nan, None, 1.5, None, -0.0, math.nan)
    kinds = pl.Schema({"ts": pl.Datetime("us", "UTC"), "k": pl.Float64()})
    data = pl.DataFrame([(at(n), key) for n, key in enumerate(keys)], schema=kinds, orient="row")
    topic = tm.topic("rows", {"ts": "timestamptz", "k": "double"}, time="ts", lateness="0s")

    def numbered(f: Frame) -> Frame:
        return f.map_with_state(count, by="k", on="ts", ttl="5s", returns={"n": "long"})

    wanted = PolarsEngine().collect(numbered(Frame.literal(data)), {}).get_column("n").to_list()
    assert wanted == [1, 1, 2, 2, 1, 1, 2, 3, 3]
    for seed in range(5):
        made = numbered(Frame.of(Input("rows", "topic", topic))).to_table("out")
        game = play([made], {"rows": [data]}, random.Random(seed), restarts=0.6, largest=2)
        found = game.out(game.topology.nodes[-1].number)
        assert found is not None
        assert found.get_column("n").to_list() == wanted
    last = Frame.literal(data).reduce("k", {"n": 0}, lambda state, row: {"n": state["n"] + 1})
    assert PolarsEngine().collect(last, {}).get_column("n").to_list() == [3, 3, 2, 1], "reduce has the same keys"


def test_behind_results_that_change_it_is_refused() -> None:
    topic = tm.topic("rows", COLUMNS, key="car", time="ts")

    def out(rows: Any) -> Any:
        changing = rows.tumbling_window("1s", on="ts", by="car").agg(n=tm.agg.count()).current()
        return changing.map_with_state(count, by="car", on="window_end", adds={})

    with pytest.raises(DefinitionError, match="gives results again"):
        StreamTest(tm.Pipeline("cars").stream(topic, to=tm.topic("out"))(out))
