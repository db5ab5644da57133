"""Plans of streams as values: stages, exchanges, stamps, lanes, gates; and what is refused, with a way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import polars as pl
import pytest

import tidemill as tm
from harness.comparing_streams import KINDS
from harness.stream_kinds import AFTER_CHANGES, VERBS
from tidemill.adapters.polars.stream.engine import PolarsStreamEngine
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input, concat
from tidemill.model.frame.topic import Topic, ToTable
from tidemill.plan.lanes import lane_of, lanes_at
from tidemill.plan.topology import Node, Topology, plan_topology

COLUMNS = {"t": "timestamptz", "k": "string", "v": "long", "l": "list<long>", "s": "struct<a: long>"}
TABLE = pl.Schema({"k": pl.String(), "w": pl.Int64()})


def topic(name: str, *, key: tuple[str, ...] = (), lateness: int = 0) -> Frame:
    """A frame of a topic."""
    made = Topic(name, COLUMNS, key=key, time="t", lateness=timedelta(seconds=lateness))
    return Frame.of(Input(name, "topic", made))


def plan(*frames: Frame, partitions: int = 2) -> Topology:
    """The plan of frames, whose topics have so many partitions."""
    engine = PolarsStreamEngine({"whole(w)": TABLE})
    sinks = [frame.then(lambda at: ToTable(at=at, table="out", options={})) for frame in frames]
    return plan_topology("s", sinks, engine.columns_of, {"f": partitions, "g": partitions})


def node(topology: Topology, name: str) -> Node:
    """The node of a name."""
    return next(one for one in topology.nodes if one.name == name)


N = tm.agg.count()


def test_steps_that_look_at_one_row_share_the_stage_of_their_topic() -> None:
    f = topic("f")
    assert plan(f.filter(f["v"] > 0).select("k", "t")).stages == (1,)


def test_a_key_that_the_topic_is_spread_by_needs_no_exchange() -> None:
    found = plan(topic("f", key=("k",)).tumbling_window("1s", on="t", by="k").agg(n=N).final())
    assert [one.kind for one in found.nodes] == ["source", "step", "step"]
    assert not node(found, "tumbling_window1").lanes


def test_another_key_is_exchanged_into_as_many_tasks() -> None:
    found = plan(topic("f").tumbling_window("1s", on="t", by="k").agg(n=N).final(), partitions=3)
    exchange = node(found, "exchange1")
    assert (exchange.by, exchange.spread.tasks, exchange.stage, found.stages) == (("k",), 3, 2, (1, 2))
    assert exchange.lanes


def test_no_key_is_exchanged_into_one_task() -> None:
    found = plan(topic("f").tumbling_window("1s", on="t").agg(n=N).final(), partitions=3)
    assert node(found, "exchange1").spread.tasks == 1


def test_a_stamp_is_made_where_its_column_is_made() -> None:
    f = topic("f", lateness=5)
    shifted = f.with_columns(z=f["t"].dt.offset_by("1s")).rename({"z": "y"})
    found = plan(shifted.tumbling_window("1s", on="y", by="k").agg(n=N).final())
    (stamp,) = node(found, "with_columns").stamps
    assert (stamp.column, stamp.lateness) == ("z", timedelta(seconds=5))
    assert node(found, "tumbling_window1").uses == stamp.number


def test_results_of_windows_are_never_late_and_those_of_count_windows_as_their_topic() -> None:
    f = topic("f", lateness=5)
    windows = f.tumbling_window("1s", on="t", by="k").agg(n=N).final()
    found = plan(windows.tumbling_window("9s", on="window_end", by="k").agg(n=N).final())
    assert [one.lateness for one in node(found, "tumbling_window1").stamps] == [timedelta(0)]
    pairs = f.count_window(2, by="k").agg(t=tm.agg.max("t")).final()
    found = plan(pairs.tumbling_window("9s", on="t", by="k").agg(n=N).final())
    assert [one.lateness for one in node(found, "count_window1").stamps] == [timedelta(seconds=5)]


def test_only_what_takes_rows_in_order_waits_behind_a_gate_and_only_where_lanes_meet() -> None:
    f = topic("f")
    assert node(plan(f.unique("k")), "unique1").gated
    assert not node(plan(topic("f", key=("k",)).unique("k")), "unique1").gated
    assert not node(plan(f.unique("k", within="1s", on="t")), "unique1").gated


def test_rows_carry_their_order_only_where_it_matters() -> None:
    f = topic("f")
    assert not node(plan(f.tumbling_window("1s", on="t").agg(n=N).final()), "f").ordered
    assert node(plan(f.tumbling_window("1s", on="t").agg(n=tm.agg.first("v")).final()), "f").ordered


def test_a_frame_used_twice_is_one_node() -> None:
    f = topic("f")
    kept = f.filter(f["v"] > 0)
    found = plan(kept.select("k"), kept.select("v"))
    assert [one.name for one in found.nodes].count("filter") == 1


def test_lanes_are_there_only_in_tasks_that_have_them() -> None:
    f, g = topic("f"), topic("g")
    one = f.tumbling_window("1s", on="t").agg(k=tm.agg.min("k")).final().select("k")
    found = plan(concat(one, g.select("k")))
    window, source = node(found, "tumbling_window1").number, node(found, "g").number
    assert lanes_at(found, window, 0) == {lane_of(window, 0)}
    assert lanes_at(found, window, 1) == frozenset()
    assert lanes_at(found, source, 1) == {lane_of(source, 1)}
    exchange = node(found, "exchange1").number
    assert lanes_at(found, exchange, 0) == {lane_of(node(found, "f").number, task) for task in (0, 1)}


Program = Callable[[Frame, Frame], Frame]
_STEPS: dict[str, Program] = {
    "select": lambda f, g: f.select("k", "window_start", "window_end", "v"),
    "with_columns": lambda f, g: f.with_columns(y=f["v"] + 1),
    "filter": lambda f, g: f.filter(f["v"] > 0),
    "filter_rows": lambda f, g: f.filter(lambda row: row["v"] > 0),
    "rename": lambda f, g: f.rename({"k": "kk"}),
    "drop": lambda f, g: f.drop("x"),
    "cast": lambda f, g: f.cast({"v": "double"}),
    "explode": lambda f, g: f.explode("l"),
    "unnest": lambda f, g: f.unnest("s"),
    "map_rows": lambda f, g: f.map_rows(dict, adds={}),
    "flat_map": lambda f, g: f.flat_map(lambda row: [row], adds={}),
    "map_batches": lambda f, g: f.map_batches(lambda df: df, adds={}),
    "join_table": lambda f, g: f.join(Frame.of(Input("w", "whole")), on="k"),
    "join_lookup": lambda f, g: f.join_lookup(Frame.of(Input("w", "whole")), on="k"),
    "join_asof": lambda f, g: f.join_asof(g.select("k", window_end="t"), on="window_end", by="k"),
    "join_interval": lambda f, g: f.join_interval(g.select("k", window_end="t"), on="window_end", by="k", within="1s"),
    "concat": lambda f, g: concat(f, g.select("k")),
    "tumbling_window": lambda f, g: f.tumbling_window("1s", on="window_end", by="k").agg(n=N).final(),
    "hopping_window": lambda f, g: f.hopping_window("1s", "2s", on="window_end", by="k").agg(n=N).final(),
    "sliding_window": lambda f, g: f.sliding_window("1s", on="window_end", by="k").agg(n=N).final(),
    "session_window": lambda f, g: f.session_window("1s", on="window_end", by="k").agg(n=N).final(),
    "count_window": lambda f, g: f.count_window(2, by="k").agg(n=N).final(),
    "group_by": lambda f, g: f.group_by("k").agg(n=N),
    "reduce": lambda f, g: f.reduce("k", {"n": 0}, lambda state, row: state),
    "unique": lambda f, g: f.unique("k"),
    "sql": lambda f, g: f.sql("select * from self where v > 0"),
    "map_with_state": lambda f, g: f.map_with_state(lambda row, state: row, by="k", on="window_end", adds={}),
    "unique_within": lambda f, g: f.unique("k", within="1s", on="window_end"),
}


def windows(f: Frame, emit: str) -> Frame:
    """Windows with all that the steps above want."""
    wanted = {"v": tm.agg.sum("v"), "x": tm.agg.mean("v"), "l": tm.agg.collect("v"), "s": tm.agg.first("s")}
    half = f.tumbling_window("1s", on="t", by="k").agg(**wanted)
    return half.final() if emit == "final" else half.current()


def test_the_table_of_steps_is_whole() -> None:
    assert set(_STEPS) == set(VERBS)
    assert KINDS.changing is None


@pytest.mark.parametrize("verb", VERBS)
def test_results_that_change_are_followed_only_by_what_can_take_them_again(verb: str) -> None:
    f, g = topic("f"), topic("g")
    plan(_STEPS[verb](windows(f, "final"), g))
    if verb in AFTER_CHANGES:
        plan(_STEPS[verb](windows(f, "current"), g))
        return
    with pytest.raises(DefinitionError) as refused:
        plan(_STEPS[verb](windows(f, "current"), g))
    assert refused.value.hint
    assert refused.value.where


_OUTER: Program = lambda f, g: f.join_interval(  # noqa: E731  # one of a table of programs
    g.select("k", "t", w="v"), on="t", by="k", within="1s", how="outer"
)
REFUSED: Sequence[tuple[str, Program]] = [
    ("two streams would have to remember every row", lambda f, g: f.join(g, on="k")),
    ('how="right" gives rows of the table', lambda f, g: f.join(Frame.of(Input("w", "whole")), on="k", how="right")),
    ('how="outer" gives rows of the table', lambda f, g: f.join(Frame.of(Input("w", "whole")), on="k", how="outer")),
    ("on a stream keys are columns", lambda f, g: f.group_by(f["v"] % 2).agg(n=N)),
    ("groups have no end", lambda f, g: f.group_by("k").agg(n=tm.agg.median("v"))),
    ("groups have no end", lambda f, g: f.group_by("k").agg(n=tm.agg.std("v"))),
    ("is a verb of its own", lambda f, g: f.group_by("k").agg(n=tm.agg.reduce("v", 0, lambda a, b: a))),
    ("results that change need their key", lambda f, g: f.group_by("k").agg(n=N).select("n")),
    (
        "sessions do not end in the order of their starts",
        lambda f, g: f.session_window("1s", on="t", by="k").agg(n=N).final()
        .tumbling_window("1s", on="window_start").agg(n=N).final(),
    ),
    ("have no place in it", lambda f, g: _OUTER(f, g).count_window(2).agg(n=N).final()),
    ("have no place in it", lambda f, g: _OUTER(f, g).unique("k")),
    ("have no place in it", lambda f, g: _OUTER(f, g).group_by("k").agg(n=tm.agg.last("v"))),
    (
        "no place in the order of rows",
        lambda f, g: _OUTER(f, g).tumbling_window("1s", on="t_right").agg(n=N).final(),
    ),
    (
        "by several ways",
        lambda f, g: concat(f.filter(f["v"] > 0), f).with_columns(z=f["t"].dt.offset_by("1s"))
        .tumbling_window("1s", on="z").agg(n=N).final(),
    ),
    (
        "by several ways",
        lambda f, g: f.unique("k").unique("v").map_rows(dict, adds={}).tumbling_window("1s", on="t").agg(n=N).final(),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("said", "program"), REFUSED, ids=[f"{n}: {said}" for n, (said, _) in enumerate(REFUSED)])
def test_what_a_stream_cannot_do_is_refused_with_a_way_out(said: str, program: Program) -> None:
    with pytest.raises(DefinitionError) as refused:
        plan(program(topic("f"), topic("g")))
    assert said in refused.value.what
    assert refused.value.hint


def test_a_stream_begins_with_a_topic() -> None:
    with pytest.raises(DefinitionError, match="a stream begins with a topic") as refused:
        plan(Frame.of(Input("w", "whole")))
    assert "join_lookup" in str(refused.value.hint)
