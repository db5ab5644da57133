"""Steps of programs over topics: those that look at one row, and those that bring rows of others in."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl

from harness import naive, naive_joins
from harness.naive import Lines, whole
from harness.stream_kinds import Absent, Kinds, Step
from tidemill.model.frame import Frame, concat
from tidemill.model.frame.operation import IntervalHow, JoinHow

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


def _condition(rng: random.Random, k: Kinds) -> tuple[pl.Expr, Callable[[Mapping[str, Any]], bool | None]]:
    """What rows that mark the end pass: as an expression, and as a function."""
    key, of = k.key, rng.choice(k.numbers)
    return rng.choice(
        [
            (pl.col(of) > -3, lambda row: None if row[of] is None else row[of] > -3),
            (pl.col(of).is_not_null(), lambda row: row[of] is not None),
            (~pl.col(key).is_in(["d", "c"]), lambda row: None if row[key] is None else row[key] not in ("d", "c")),
            ((pl.col(key) != "a") | pl.col(of).is_null(), lambda row: _either(row[key], row[of])),
        ]
    )


def _filter(rng: random.Random, k: Kinds) -> Step:
    condition, function = _condition(rng, k)
    return Step("filter", lambda f, w: f.filter(condition), lambda lines, w, late: naive.kept(lines, function), k)


def _filter_rows(rng: random.Random, k: Kinds) -> Step:
    _, function = _condition(rng, k)

    def decides(row: dict[str, Any]) -> bool | None:
        found = function(row)
        row[k.key] = "of the function"  # it goes no further
        return found

    return Step(
        "filter_rows",
        lambda f, w: f.filter(decides),
        lambda lines, w, late: naive.kept(lines, function),
        replace(k, stamped=True),
    )


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
        lambda lines, w, late: naive_joins.joined(
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
            for line in naive_joins.joined(
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
    time, by = time_name(k), rng.choice(([k.key], [k.key], []))
    tolerance = rng.choice((None, timedelta(seconds=4)))
    name, on_frame, on_lines = _right(rng, k, by)
    return Step(
        "join_asof",
        lambda f, w: f.join_asof(on_frame(w.other), on=time, by=by or None, tolerance=tolerance),
        lambda lines, w, late: naive_joins.as_of(
            lines, on_lines(w.other), time, by, [name], None if tolerance is None else whole(tolerance), late
        ),
        replace(k, columns={**k.columns, name: "int"}, fresh=k.fresh + 1),
    )


def _join_interval(rng: random.Random, k: Kinds) -> Step:
    time, by = time_name(k), rng.choice(([k.key], [k.key], []))
    how: IntervalHow = rng.choice(("inner", "left", "outer"))
    if f"{time}_right" in k.columns:
        raise Absent
    reach = timedelta(seconds=rng.randint(0, 3)), timedelta(seconds=rng.randint(0, 3))
    name, on_frame, on_lines = _right(rng, k, by)
    columns = list(k.columns)
    return Step(
        "join_interval",
        lambda f, w: f.join_interval(on_frame(w.other), on=time, by=by or None, within=reach, how=how),
        lambda lines, w, late: naive_joins.near(
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
        lambda lines, w, late: naive_joins.side_by_side(
            [
                lines,
                naive.kept(lines, lambda row: None if row["v"] is None else row["v"] > 0) if own else of_lines(w.other),
            ],
            list(columns),
            streams=w.streams,
        ),
        replace(k, columns=columns, mixed=True, doubled=k.doubled or own),
    )


def time_name(k: Kinds) -> str:
    """The time that a step can go by. Raises Absent where there is none."""
    if k.time is None or (k.stamped and k.thin) or k.typeless:
        raise Absent
    return k.time


ON_ROWS: Mapping[str, Callable[[random.Random, Kinds], Step]] = {
    "select": _select,
    "with_columns": _with_columns,
    "filter": _filter,
    "filter_rows": _filter_rows,
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
}
