"""Programs over topics, made at random: each step as it is written on a frame, and as the naive implementation does it.

A program keeps to a few columns, so that any step can follow any other: a key `k` (text), numbers `v` and `x`, a list
`l`, a struct `s`, and one column of times, whatever it is called. `Kinds` says what is there after a step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import polars as pl

from harness import naive
from harness.naive import Lines, whole
from tidemill.model import agg
from tidemill.model.frame import Frame, concat
from tidemill.model.frame.operation import IntervalHow, JoinHow, Keep

#: Verbs as pairs of them are counted. `unique_within` and `join_table` are `unique` and `join` in their other use.
STATELESS = (
    "select", "with_columns", "filter", "rename", "drop", "cast", "explode", "unnest", "map_rows", "flat_map",
    "map_batches", "join_table", "join_lookup", "concat",
)  # fmt: skip
TIMED = (
    "tumbling_window", "hopping_window", "sliding_window", "session_window", "join_asof", "join_interval",
    "unique_within",
)  # fmt: skip
VERBS = (*STATELESS, *TIMED, "group_by", "count_window", "unique", "reduce")
#: What gives results again when they change: at the end of a program, or before one of those that may follow them.
CHANGING = ("group_by", "reduce", "unique_last", "window_current")
AFTER_CHANGES = ("select", "with_columns", "rename", "drop", "cast", "unnest", "join_lookup")


@dataclass(frozen=True)
class Kinds:
    """What is known of the rows at a place of a program.

    Args:
        columns: kinds by name: "text", "int", "float", "list", "struct".
        key, time: names of the key's column and of the time's (None: there is none any more).
        mixed: rows of several frames are side by side, or some have no place: tables order them otherwise.
        alone: rows of an outer join are among them, which have no place in the order.
        changing: the columns that identify a result which is given again.
        sessions: whether earlier results of a session that grows stay behind.
        sure: whether a table gives the same rows, too.
    """

    columns: Mapping[str, str]
    key: str = "k"
    time: str | None = "t"
    mixed: bool = False
    alone: bool = False
    changing: tuple[str, ...] | None = None
    sessions: bool = False
    sure: bool = True
    #: Whether times are made of rows that are given here, and whether those that mark the end may be missing.
    stamped: bool = False
    thin: bool = False
    counted: bool = False
    #: Whether a user's function has made a column of unknown type: steps that keep rows cannot follow.
    typeless: bool = False
    #: Whether rows of one partition came together by two ways: times cannot be made then.
    doubled: bool = False
    #: How many names have been made up.
    fresh: int = 0

    def of(self, kind: str) -> list[str]:
        """Columns of a kind."""
        return [name for name, found in self.columns.items() if found == kind]

    @property
    def numbers(self) -> list[str]:
        """Columns that can be added up."""
        return [name for name, kind in self.columns.items() if kind in ("int", "float") and name != "i"]


@dataclass
class World:
    """What programs read besides their first topic, and what was late on the way.

    Args:
        other: frame of the second topic. `table`, `doubled`: of tables, with one row or several for a key.
    """

    other: Any
    table: Any
    doubled: Any
    streams: bool = True
    #: Late rows by the path of steps that they were late for.
    late: dict[int, Lines] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Step:
    """A step: on frames, and on rows. `kinds` are those of its result."""

    verb: str
    on_frame: Callable[[Frame, World], Frame]
    on_lines: Callable[[Lines, World, Lines], Lines]
    kinds: Kinds

    def lines(self, lines: Lines, world: World) -> Lines:
        """What comes of rows; late ones are noted."""
        late: Lines = []
        made = self.on_lines(lines, world, late)
        world.late[id(self)] = late
        return made


class Absent(Exception):
    """A verb cannot be written here: what it needs is not there."""


# Stateless


def _select(rng: random.Random, k: Kinds) -> Step:
    keep = [n for n in k.columns if n in _needed(k) or rng.random() < 0.8]
    rng.shuffle(keep)
    name, expression, function, kind = _number(rng, k, "y")
    columns = {**{n: k.columns[n] for n in keep}, name: kind}
    return Step(
        "select",
        lambda f, w: f.select(*[n for n in keep if n != name], **{name: expression}),
        lambda lines, w, late: naive.each(
            lines, lambda row: {**{n: row[n] for n in keep if n != name}, name: function(row)}
        ),
        replace(k, columns=columns),
    )


def _needed(k: Kinds) -> set[str]:
    return {k.key, "v", "l", "s", *([k.time] if k.time else ()), *(k.changing or ())}


def _number(rng: random.Random, k: Kinds, name: str) -> tuple[str, pl.Expr, Callable[[Mapping[str, Any]], Any], str]:
    """A new column of numbers: its name, and how it is computed in both ways."""
    of = rng.choice(k.numbers)
    kind = k.columns[of]
    zero = pl.Int64 if kind == "int" else pl.Float64
    choices: list[tuple[pl.Expr, Callable[[Mapping[str, Any]], Any], str]] = [
        (pl.col(of) + 1, lambda row: None if row[of] is None else row[of] + 1, kind),
        (pl.col(of).fill_null(pl.lit(0, dtype=zero)), lambda row: 0 if row[of] is None else row[of], kind),
        (
            pl.when(pl.col(k.key) == "a").then(pl.col(of) * 2).otherwise(pl.col(of)),
            lambda row: None if row[of] is None else row[of] * 2 if row[k.key] == "a" else row[of],
            kind,
        ),
        (pl.col(of).is_null().cast(pl.Int64), lambda row: int(row[of] is None), "int"),
    ]
    expression, function, found = rng.choice(choices)
    return name, expression, function, found


def _with_columns(rng: random.Random, k: Kinds) -> Step:
    time, key = k.time, k.key
    choice = rng.choice(("number", "number", "time", "key"))
    if choice == "time" and time is not None and k.changing is None and not (k.doubled or k.alone):
        by = timedelta(seconds=rng.choice((1, 3)))
        name = "z" if time != "z" else "zz"
        return Step(
            "with_columns",
            lambda f, w: f.with_columns(pl.col(time).dt.offset_by(f"{by.seconds}s").alias(name)),
            lambda lines, w, late: naive.each(
                lines, lambda row: {**row, name: None if row[time] is None else row[time] + by}
            ),
            replace(k, columns={**k.columns, name: "time"}, time=name, stamped=True),
        )
    if choice == "key" and k.changing is None:
        return Step(
            "with_columns",
            lambda f, w: f.with_columns(**{key: pl.when(pl.col(key) == "b").then(pl.lit("a")).otherwise(pl.col(key))}),
            lambda lines, w, late: naive.each(lines, lambda row: {**row, key: "a" if row[key] == "b" else row[key]}),
            k,
        )
    name, expression, function, kind = _number(rng, k, rng.choice(("y", "v")) if k.changing is None else "y")
    return Step(
        "with_columns",
        lambda f, w: f.with_columns(**{name: expression}),
        lambda lines, w, late: naive.each(lines, lambda row: {**row, name: function(row)}),
        replace(k, columns={**k.columns, name: kind}),
    )


def _filter(rng: random.Random, k: Kinds) -> Step:
    key, of = k.key, rng.choice(k.numbers)
    condition, function = rng.choice(
        [
            (pl.col(of) > -3, lambda row: None if row[of] is None else row[of] > -3),
            (pl.col(of).is_not_null(), lambda row: row[of] is not None),
            (~pl.col(key).is_in(["d", "c"]), lambda row: None if row[key] is None else row[key] not in ("d", "c")),
            ((pl.col(key) != "a") | pl.col(of).is_null(), lambda row: _either(row[key], row[of])),
        ]
    )
    return Step("filter", lambda f, w: f.filter(condition), lambda lines, w, late: naive.kept(lines, function), k)


def _either(key: Any, number: Any) -> bool | None:
    """`key != "a" or number is null`, as SQL has it: null where the one is null and the other false."""
    if number is None:
        return True
    return None if key is None else key != "a"


def _rename(rng: random.Random, k: Kinds) -> Step:
    names = {"x": "xx"} if "x" in k.columns else {"xx": "x"} if "xx" in k.columns else {}
    key, time = k.key, k.time
    if not names or rng.random() < 0.5:
        names[k.key] = key = "kk" if k.key == "k" else "k"
    if time is not None and rng.random() < 0.5:
        names[time] = time = "at" if time != "at" else "t"
    columns = {names.get(n, n): kind for n, kind in k.columns.items()}
    if len(columns) < len(k.columns):
        raise Absent
    changing = None if k.changing is None else tuple(names.get(n, n) for n in k.changing)
    return Step(
        "rename",
        lambda f, w: f.rename(names),
        lambda lines, w, late: naive.each(lines, lambda row: {names.get(n, n): v for n, v in row.items()}),
        replace(k, columns=columns, key=key, time=time, changing=changing),
    )


def _drop(rng: random.Random, k: Kinds) -> Step:
    can = [n for n in k.columns if n not in _needed(k)]
    if not can:
        raise Absent
    names = rng.sample(can, rng.randint(1, min(2, len(can))))
    return Step(
        "drop",
        lambda f, w: f.drop(names),
        lambda lines, w, late: naive.each(lines, lambda row: {n: v for n, v in row.items() if n not in names}),
        replace(k, columns={n: kind for n, kind in k.columns.items() if n not in names}),
    )


def _cast(rng: random.Random, k: Kinds) -> Step:
    can = [n for n in k.numbers if n not in (k.changing or ())]
    name = rng.choice(can)
    return Step(
        "cast",
        lambda f, w: f.cast({name: "double"}),
        lambda lines, w, late: naive.each(
            lines, lambda row: {**row, name: None if row[name] is None else float(row[name])}
        ),
        replace(k, columns={**k.columns, name: "float"}),
    )


def _explode(rng: random.Random, k: Kinds) -> Step:
    name = next(iter(k.of("list")), None)
    if name is None:
        raise Absent
    return Step(
        "explode",
        lambda f, w: f.explode(name),
        lambda lines, w, late: naive.exploded(lines, name),
        replace(k, columns={**k.columns, name: "int"}),
    )


def _unnest(rng: random.Random, k: Kinds) -> Step:
    if "s" not in k.columns or "a" in k.columns:
        raise Absent
    columns = {**{n: kind for n, kind in k.columns.items() if n != "s"}, "a": "int", "b": "text"}
    return Step(
        "unnest",
        lambda f, w: f.unnest("s"),
        lambda lines, w, late: naive.unnested(lines, "s", ("a", "b")),
        replace(k, columns=columns),
    )


_LONG = {"int": "long", "float": "double"}


def _map_rows(rng: random.Random, k: Kinds) -> Step:
    of = rng.choice(k.numbers)

    def more(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "m": None if row[of] is None else row[of] * 3}

    return Step(
        "map_rows",
        lambda f, w: f.map_rows(more, adds={"m": _LONG[k.columns[of]]}),
        lambda lines, w, late: naive.each(lines, more),
        replace(k, columns={**k.columns, "m": k.columns[of]}, stamped=True),
    )


def _flat_map(rng: random.Random, k: Kinds) -> Step:
    of, key = rng.choice(k.numbers), k.key

    def copies(row: dict[str, Any]) -> list[dict[str, Any]]:
        count = 1 if str(row[key]).startswith("z") else abs(int(row[of] or 1)) % 3
        return [{**row, "m": number} for number in range(count)]

    return Step(
        "flat_map",
        lambda f, w: f.flat_map(copies, adds={"m": "long"}),
        lambda lines, w, late: naive.several(lines, copies),
        replace(k, columns={**k.columns, "m": "int"}, stamped=True),
    )


def _map_batches(rng: random.Random, k: Kinds) -> Step:
    of = rng.choice(k.numbers)
    return Step(
        "map_batches",
        lambda f, w: f.map_batches(lambda df: df.with_columns(pl.col(of) - 1), adds={}),
        lambda lines, w, late: naive.each(lines, lambda row: {**row, of: None if row[of] is None else row[of] - 1}),
        replace(k, stamped=True),
    )


# Tables, and other streams


def _join_table(rng: random.Random, k: Kinds) -> Step:
    how: JoinHow = rng.choice(("inner", "left", "semi", "anti"))
    key, name = k.key, f"n{k.fresh}"
    more = {} if how in ("semi", "anti") else {name: "int"}
    return Step(
        "join_table",
        lambda f, w: f.join(w.doubled.select(pl.col("k").alias(key), pl.col("label").alias(name)), on=key, how=how),
        lambda lines, w, late: naive.joined(
            lines, naive.each(w.doubled, lambda row: {key: row["k"], name: row["label"]}), key, [name], how
        ),
        replace(k, columns={**k.columns, **more}, fresh=k.fresh + 1),
    )


def _join_lookup(rng: random.Random, k: Kinds) -> Step:
    key, name = k.key, f"n{k.fresh}"
    return Step(
        "join_lookup",
        lambda f, w: f.join_lookup(w.table.select(pl.col("k").alias(key), pl.col("label").alias(name)), on=key),
        lambda lines, w, late: [
            replace(line, place=line.place[:-1])
            for line in naive.joined(
                lines, naive.each(w.table, lambda row: {key: row["k"], name: row["label"]}), key, [name], "left"
            )
        ],
        replace(k, columns={**k.columns, name: "int"}, fresh=k.fresh + 1),
    )


def _right(
    rng: random.Random, k: Kinds, by: Sequence[str]
) -> tuple[str, Callable[[Any], Any], Callable[[Lines], Lines]]:
    """The second topic's rows, as a join wants them: a fresh name for its number, and how to get them."""
    name, time = f"n{k.fresh}", k.time
    assert time is not None
    wanted = {time: "t", name: "i", **dict.fromkeys(by, "k")}
    positive = rng.random() < 0.3

    def on_frame(frame: Frame) -> Frame:
        if positive:
            frame = frame.filter(frame["v"] > 0)
        return frame.select(**{new: pl.col(old) for new, old in wanted.items()})

    def on_lines(lines: Lines) -> Lines:
        if positive:
            lines = naive.kept(lines, lambda row: None if row["v"] is None else row["v"] > 0)
        return naive.each(lines, lambda row: {new: row[old] for new, old in wanted.items()})

    return name, on_frame, on_lines


def _join_asof(rng: random.Random, k: Kinds) -> Step:
    time, by = _time(k), rng.choice(([k.key], [k.key], []))
    tolerance = rng.choice((None, timedelta(seconds=4)))
    name, on_frame, on_lines = _right(rng, k, by)
    return Step(
        "join_asof",
        lambda f, w: f.join_asof(on_frame(w.other), on=time, by=by or None, tolerance=tolerance),
        lambda lines, w, late: naive.as_of(
            lines, on_lines(w.other), time, by, [name], None if tolerance is None else whole(tolerance), late
        ),
        replace(k, columns={**k.columns, name: "int"}, fresh=k.fresh + 1),
    )


def _join_interval(rng: random.Random, k: Kinds) -> Step:
    time, by = _time(k), rng.choice(([k.key], [k.key], []))
    how: IntervalHow = rng.choice(("inner", "left", "outer"))
    if f"{time}_right" in k.columns:
        raise Absent
    reach = timedelta(seconds=rng.randint(0, 3)), timedelta(seconds=rng.randint(0, 3))
    name, on_frame, on_lines = _right(rng, k, by)
    columns = list(k.columns)
    return Step(
        "join_interval",
        lambda f, w: f.join_interval(on_frame(w.other), on=time, by=by or None, within=reach, how=how),
        lambda lines, w, late: naive.near(
            lines, on_lines(w.other), time, by, [name], (whole(reach[0]), whole(reach[1])), how, columns, late
        ),
        replace(
            k,
            columns={**k.columns, name: "int", f"{time}_right": "time"},
            fresh=k.fresh + 1,
            mixed=k.mixed or how == "outer",
            alone=k.alone or how == "outer",
            thin=k.thin or how == "inner",
        ),
    )


def _concat(rng: random.Random, k: Kinds) -> Step:
    """With the second topic, or with the frame itself, which has been filtered."""
    key, time = k.key, k.time
    if time is None or k.typeless:
        raise Absent
    kind = k.columns["v"]
    wanted = {time: "t", key: "k", "v": "v", "i": "i"}

    def other(frame: Frame) -> Frame:
        frame = frame.select(**{new: pl.col(old) for new, old in wanted.items()})
        return frame.cast({"v": "double"}) if kind == "float" else frame

    def of_lines(lines: Lines) -> Lines:
        convert = float if kind == "float" else int
        made = naive.each(lines, lambda row: {new: row[old] for new, old in wanted.items()})
        return naive.each(made, lambda row: {**row, "v": None if row["v"] is None else convert(row["v"])})

    columns = {**k.columns, "i": "int"}
    own = rng.random() < 0.3
    if own:
        columns = dict(k.columns)
    return Step(
        "concat",
        lambda f, w: concat(f, f.filter(f["v"] > 0)) if own else concat(f, other(w.other)),
        lambda lines, w, late: naive.side_by_side(
            [
                lines,
                naive.kept(lines, lambda row: None if row["v"] is None else row["v"] > 0) if own else of_lines(w.other),
            ],
            list(columns),
            streams=w.streams,
        ),
        replace(k, columns=columns, mixed=True, doubled=k.doubled or own),
    )


def _time(k: Kinds) -> str:
    if k.time is None or (k.stamped and k.thin) or k.typeless:
        raise Absent
    return k.time


# Groups and windows


def _folded(state: Any, value: Any) -> Any:
    return state * 3 % 1001 + (value or 0)


_ANY_ORDER = ("sum", "mean", "min", "max", "count")
_MORE = ("n_unique", "quantile", "std")
_BY_ORDER = ("first", "last")


def _aggregates(
    rng: random.Random, k: Kinds, by: Sequence[str], *, endless: bool = False
) -> tuple[dict[str, tuple[Any, ...]], dict[str, str], bool]:
    """What to compute: as the naive implementation wants it, the kinds of it, and whether order matters to it."""
    wanted: dict[str, tuple[Any, ...]] = {"n": ("count", None)}
    kinds = {"n": "int"}
    of = rng.choice(k.numbers)
    divided = endless or rng.random() < 0.5
    for name in ("v", "x"):
        choices = [*_ANY_ORDER, *_BY_ORDER]
        if not divided:
            choices += [*_MORE, "reduce"]
        if k.time is not None and not k.alone:
            choices += ["earliest", "latest"]
        kind = rng.choice(choices)
        source = of if name == "x" else "v"
        more: tuple[Any, ...] = ()
        if kind == "quantile":
            more = (rng.choice((0.0, 0.5, 0.9)),)
        elif kind == "reduce":
            more = (0 if k.columns[source] == "int" else 0.0, _folded)
        elif kind in ("earliest", "latest"):
            more = (k.time,)
        wanted[name] = (kind, source, *more)
        whole_number = kind in ("count", "n_unique") or (
            k.columns[source] == "int" and kind not in ("mean", "quantile", "std")
        )
        kinds[name] = "int" if whole_number else "float"
    if k.key not in by:
        wanted[k.key] = (rng.choice(("min", "max")), k.key)
        kinds[k.key] = "text"
    if not divided and k.columns["v"] == "int":
        wanted["l"], kinds["l"] = ("collect", "v"), "list"
    if "s" in k.columns:
        wanted["s"], kinds["s"] = (rng.choice(("first", "last")), "s"), "struct"
    for key in by:
        kinds[key] = k.columns[key]
    ordered = any(how[0] in ("first", "last", "collect", "reduce", "earliest", "latest") for how in wanted.values())
    return wanted, kinds, ordered


def _values(wanted: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The aggregates as `tm.agg` has them."""
    return {name: getattr(agg, how[0])(*how[1:]) if how[1] is not None else agg.count() for name, how in wanted.items()}


def _after(k: Kinds, kinds: Mapping[str, str], *, ordered: bool, time: str | None, **more: Any) -> Kinds:
    """What is known after rows of several were put into one."""
    return Kinds(
        kinds,
        k.key,
        time,
        mixed=False,
        sure=k.sure and not (ordered and k.mixed),
        fresh=k.fresh,
        alone=False,
        **more,
    )


def _typeless(k: Kinds, wanted: Mapping[str, tuple[Any, ...]]) -> bool:
    return k.typeless or any(how[0] == "reduce" for how in wanted.values())


def _window(kind: str) -> Callable[[random.Random, Kinds], Step]:
    def make(rng: random.Random, k: Kinds) -> Step:
        return _windowed(kind, rng, k, "final")

    return make


def _windowed(kind: str, rng: random.Random, k: Kinds, emit: str) -> Step:
    time = _time(k)
    by = rng.choice(([k.key], [k.key], []))
    grace = timedelta(seconds=rng.choice((0, 0, 2)))
    one, two = timedelta(seconds=rng.choice((2, 3, 5))), timedelta(seconds=rng.choice((2, 4, 7)))
    wanted, kinds, ordered = _aggregates(rng, k, by)
    extent: dict[str, Any] = {"on": time, "by": by or None, "grace": grace}

    def on_frame(f: Frame, w: World) -> Frame:
        half: Any
        match kind:
            case "tumbling_window":
                half = f.tumbling_window(one, **extent)
            case "hopping_window":
                half = f.hopping_window(one, two, **extent)
            case "sliding_window":
                half = f.sliding_window(one, **extent)
            case _:
                half = f.session_window(one, **extent)
        results = half.agg(**_values(wanted))
        made: Frame = getattr(results, emit)()
        return made

    def on_lines(lines: Lines, w: World, late: Lines) -> Lines:
        a, b, g = whole(one), whole(two), whole(grace)
        match kind:
            case "tumbling_window":
                panes = naive.hopping(lines, time, by, a, a, g, late)
            case "hopping_window":
                panes = naive.hopping(lines, time, by, a, b, g, late)
            case "sliding_window":
                panes = naive.sliding(lines, time, by, a, g, late)
            case _:
                panes = naive.sessions(lines, time, by, a, g, late)
        return naive.windows(lines, panes, by, wanted)

    goes = rng.choice(("window_end", "window_end", "window_start"))
    if kind == "session_window":
        goes = "window_end"
    columns = {**kinds, "window_start": "time", "window_end": "time"}
    changing = (*by, "window_start", "window_end") if emit == "current" else None
    after = _after(
        k,
        columns,
        ordered=ordered,
        time=goes,
        changing=changing,
        thin=k.thin,
        counted=k.counted,
        typeless=_typeless(k, wanted),
        sessions=emit == "current" and "session" in kind,
    )
    return Step("window_current" if emit == "current" else kind, on_frame, on_lines, after)


def _count_window(rng: random.Random, k: Kinds) -> Step:
    return _counted(rng, k, "final")


def _counted(rng: random.Random, k: Kinds, emit: str) -> Step:
    if k.alone:
        raise Absent
    by = rng.choice(([k.key], [k.key], []))
    size = rng.randint(1, 2 if k.counted else 3)
    wanted, kinds, _ = _aggregates(rng, k, by)
    time = "t" if k.time in ("window_start", "window_end") else k.time
    if k.time is not None and time is not None:
        wanted[time], kinds[time] = ("max", k.time), "time"
    columns = {**kinds, "window_start": "int", "window_end": "int"}

    def on_frame(f: Frame, w: World) -> Frame:
        results = f.count_window(size, by=by or None).agg(**_values(wanted))
        made: Frame = getattr(results, emit)()
        return made

    return Step(
        "window_current" if emit == "current" else "count_window",
        on_frame,
        lambda lines, w, late: naive.counted(lines, by, size, wanted, short=not w.streams or emit == "current"),
        _after(
            k,
            columns,
            ordered=True,
            time=time,
            changing=(*by, "window_start") if emit == "current" else None,
            stamped=True,
            thin=k.thin,
            counted=True,
            typeless=_typeless(k, wanted),
        ),
    )


def _group_by(rng: random.Random, k: Kinds) -> Step:
    keys = rng.choice(([k.key], [k.key], [k.key, "v"]))
    wanted, kinds, ordered = _aggregates(rng, k, keys, endless=True)
    if "v" in keys:
        del wanted["v"]
        kinds["v"] = k.columns["v"]
    if k.typeless or (k.alone and ordered):
        raise Absent
    return Step(
        "group_by",
        lambda f, w: f.group_by(*keys).agg(**_values(wanted)),
        lambda lines, w, late: naive.grouped(lines, keys, wanted),
        _after(k, kinds, ordered=ordered, time=None, changing=tuple(keys)),
    )


def _reduce(rng: random.Random, k: Kinds) -> Step:
    if k.alone:
        raise Absent
    zero: Any = 0 if k.columns["v"] == "int" else 0.0

    def more(state: Any, row: Any) -> dict[str, Any]:
        return {"v": _folded(state["v"], row["v"]), "n": state["n"] + 1}

    return Step(
        "reduce",
        lambda f, w: f.reduce(k.key, {"v": zero, "n": 0}, more),
        lambda lines, w, late: naive.reduced(lines, [k.key], {"v": zero, "n": 0}, more),
        _after(k, {k.key: "text", "v": k.columns["v"], "n": "int"}, ordered=True, time=None, changing=(k.key,)),
    )


def _unique(rng: random.Random, k: Kinds, keep: Keep = "first") -> Step:
    if k.alone:
        raise Absent
    keys = rng.choice(([k.key], [k.key, "v"], ["v"]))
    after = replace(k, sure=k.sure and not k.mixed, changing=tuple(keys) if keep == "last" else None, thin=True)
    return Step(
        "unique_last" if keep == "last" else "unique",
        lambda f, w: f.unique(keys, keep=keep),
        lambda lines, w, late: naive.unique(lines, keys, keep),
        after,
    )


def _unique_within(rng: random.Random, k: Kinds) -> Step:
    time, keys = _time(k), rng.choice(([k.key], [k.key], [k.key, "v"]))
    within = timedelta(seconds=rng.randint(1, 3))
    keep: Keep = rng.choice(("first", "last"))
    return Step(
        "unique_within",
        lambda f, w: f.unique(keys, within=within, on=time, keep=keep),
        lambda lines, w, late: naive.events(lines, keys, time, whole(within), keep, late),
        replace(k, sure=k.sure and not k.mixed),
    )


def _current(rng: random.Random, k: Kinds) -> Step:
    kind = rng.choice(("tumbling_window", "hopping_window", "sliding_window", "session_window", "count"))
    return _counted(rng, k, "current") if kind == "count" or k.time is None else _windowed(kind, rng, k, "current")


MAKERS: Mapping[str, Callable[[random.Random, Kinds], Step]] = {
    "select": _select,
    "with_columns": _with_columns,
    "filter": _filter,
    "rename": _rename,
    "drop": _drop,
    "cast": _cast,
    "explode": _explode,
    "unnest": _unnest,
    "map_rows": _map_rows,
    "flat_map": _flat_map,
    "map_batches": _map_batches,
    "join_table": _join_table,
    "join_lookup": _join_lookup,
    "join_asof": _join_asof,
    "join_interval": _join_interval,
    "concat": _concat,
    "tumbling_window": _window("tumbling_window"),
    "hopping_window": _window("hopping_window"),
    "sliding_window": _window("sliding_window"),
    "session_window": _window("session_window"),
    "count_window": _count_window,
    "group_by": _group_by,
    "reduce": _reduce,
    "unique": _unique,
    "unique_within": _unique_within,
    "unique_last": lambda rng, k: _unique(rng, k, "last"),
    "window_current": _current,
}


def make(verb: str, rng: random.Random, kinds: Kinds) -> Step:
    """A step of a verb. Raises Absent where its input does not have what it needs."""
    if kinds.changing is not None and verb not in AFTER_CHANGES:
        raise Absent
    return MAKERS[verb](rng, kinds)


# Programs as trees


@dataclass
class Branch:
    """A step of a program, and the steps that go on with its rows."""

    step: Step
    then: list[Branch] = field(default_factory=list)

    def without(self, step: Step) -> list[Branch]:
        """The tree without a step, and without what goes on with its rows."""
        if self.step is step:
            return []
        return [Branch(self.step, [branch for one in self.then for branch in one.without(step)])]

    def paths(self, before: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
        """The steps up to each place where rows come out."""
        here = (*before, self.step)
        yield here
        for branch in self.then:
            yield from branch.paths(here)


def grow(rng: random.Random, kinds: Kinds, verb: str, *, width: int, avoid: Sequence[str] = ()) -> Branch | None:
    """A tree: up to two steps, then one of a verb, then one of each verb that can follow, some with another.

    Args:
        rng: what decides.
        kinds: of the first rows.
        verb: of the step that others follow.
        width: how many follow at most.
        avoid: verbs that shall not come before others, or at all where several follow.
    """
    before: list[Step] = []
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        step = _tried(rng.choice([v for v in VERBS if v not in avoid]), rng, before[-1].kinds if before else kinds)
        if step is not None and step.kinds.changing is None:
            before.append(step)
    middle = _tried(verb, rng, before[-1].kinds if before else kinds)
    if middle is None:
        before = []
        middle = _tried(verb, rng, kinds)
    if middle is None:
        return None
    tree = Branch(middle)
    following = [v for v in (*VERBS, "unique_last", "window_current") if v not in avoid]
    rng.shuffle(following)
    for one in following[:width]:
        step = _tried(one, rng, middle.kinds)
        if step is not None:
            last = _tried(rng.choice(VERBS), rng, step.kinds) if rng.random() < 0.1 and not avoid else None
            tree.then.append(Branch(step, [] if last is None else [Branch(last)]))
    for step in reversed(before):
        tree = Branch(step, [tree])
    return tree


def grow_pairs(rng: random.Random, kinds: Kinds, verb: str, pool: Sequence[str]) -> Branch | None:
    """A tree that begins with a verb: three ways on by two more of a pool, and behind these all others.

    So each step stands behind three others, and a tree of about thirty steps has about ninety pairs.
    """
    root = _tried(verb, rng, kinds)
    if root is None:
        return None
    tree = Branch(root)
    last = [*VERBS, "unique_last", "window_current"]
    rng.shuffle(last)
    if root.kinds.changing is not None:
        tree.then += _branches(AFTER_CHANGES, rng, root.kinds)
        return tree
    for number in range(3):
        at = tree
        for _ in range(2):
            step = next((s for s in (_tried(rng.choice(pool), rng, at.step.kinds) for _ in range(4)) if s), None)
            if step is not None and step.kinds.changing is None:
                at.then.append(Branch(step))
                at = at.then[-1]
        at.then += _branches(last[number::3], rng, at.step.kinds)
    return tree


def _branches(verbs: Sequence[str], rng: random.Random, kinds: Kinds) -> list[Branch]:
    return [Branch(step) for verb in verbs if (step := _tried(verb, rng, kinds)) is not None]


def _tried(verb: str, rng: random.Random, kinds: Kinds) -> Step | None:
    try:
        return make(verb, rng, kinds)
    except Absent:
        return None
