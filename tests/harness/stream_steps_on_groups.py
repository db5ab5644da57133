"""Steps of programs over topics: groups, windows, and what keeps one row of several."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from harness import naive, naive_joins
from harness.naive import Lines, whole
from harness.stream_kinds import Absent, Kinds, Step, World
from harness.stream_steps_on_rows import time_name
from tidemill.model import agg
from tidemill.model.frame import Frame
from tidemill.model.frame.operation import Keep

# Groups and windows


def _folded(state: Any, value: Any) -> Any:
    return state * 3 % 1001 + (value or 0)


_ANY_ORDER = ("sum", "mean", "min", "max", "count")
_MORE = ("n_unique", "quantile", "std")
_BY_ORDER = ("first", "last")


def aggregates_of(
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
            of_ints = k.columns[source] == "int"
            more = (0 if of_ints else 0.0, _folded, rng.choice((None, "long" if of_ints else "double")))
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
    return {name: _value(*how) for name, how in wanted.items()}


def _value(kind: str, of: str | None, *more: Any) -> Any:
    if of is None:
        return agg.count()
    if kind == "reduce":
        return agg.reduce(of, *more[:2], returns=more[2])
    return getattr(agg, kind)(of, *more)


def after_groups(k: Kinds, kinds: Mapping[str, str], *, ordered: bool, time: str | None, **more: Any) -> Kinds:
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
    return k.typeless or any(how[0] == "reduce" and how[-1] is None for how in wanted.values())


def _window(kind: str) -> Callable[[random.Random, Kinds], Step]:
    def make(rng: random.Random, k: Kinds) -> Step:
        return _windowed(kind, rng, k, "final")

    return make


def _windowed(kind: str, rng: random.Random, k: Kinds, emit: str) -> Step:
    time = time_name(k)
    by = rng.choice(([k.key], [k.key], []))
    grace = timedelta(seconds=rng.choice((0, 0, 2)))
    one, two = timedelta(seconds=rng.choice((2, 3, 5))), timedelta(seconds=rng.choice((2, 4, 7)))
    wanted, kinds, ordered = aggregates_of(rng, k, by)
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
    after = after_groups(
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
    wanted, kinds, _ = aggregates_of(rng, k, by)
    time = "t" if k.time in ("window_start", "window_end") else k.time
    if k.time is not None and time is not None:
        wanted[time], kinds[time] = ("max", k.time), "time"
    columns = {**kinds, "window_start": "int", "window_end": "int"}

    def on_frame(f: Frame, w: World) -> Frame:
        timed = f if k.time is None else f.filter(f[k.time].is_not_null())
        results = timed.count_window(size, by=by or None).agg(**_values(wanted))
        made: Frame = getattr(results, emit)()
        return made

    return Step(
        "window_current" if emit == "current" else "count_window",
        on_frame,
        # A window's last row gives it its time; without one the window could be late for what comes after it.
        lambda lines, w, late: naive.counted(
            lines if k.time is None else naive.timed(lines, k.time),
            by,
            size,
            wanted,
            short=not w.streams or emit == "current",
        ),
        after_groups(
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
    wanted, kinds, ordered = aggregates_of(rng, k, keys, endless=True)
    if "v" in keys:
        del wanted["v"]
        kinds["v"] = k.columns["v"]
    if k.typeless or (k.alone and ordered):
        raise Absent
    return Step(
        "group_by",
        lambda f, w: f.group_by(*keys).agg(**_values(wanted)),
        lambda lines, w, late: naive.grouped(lines, keys, wanted),
        after_groups(k, kinds, ordered=ordered, time=None, changing=tuple(keys)),
    )


def _reduce(rng: random.Random, k: Kinds) -> Step:
    if k.alone:
        raise Absent
    zero: dict[str, Any] = {"v": 0 if k.columns["v"] == "int" else 0.0, "n": 0}
    kinds = {k.key: "text", "v": k.columns["v"], "n": "int"}
    if k.columns.get("s") == "struct":
        zero["s"], kinds["s"] = {"a": 0, "b": ""}, "struct"

    def more(state: Any, row: Any) -> dict[str, Any]:
        last = {"s": row["s"] or state["s"]} if "s" in state else {}
        return {"v": _folded(state["v"], row["v"]), "n": state["n"] + 1, **last}

    return Step(
        "reduce",
        lambda f, w: f.reduce(k.key, zero, more),
        lambda lines, w, late: naive.reduced(lines, [k.key], zero, more),
        after_groups(k, kinds, ordered=True, time=None, changing=(k.key,)),
    )


def _unique(rng: random.Random, k: Kinds, keep: Keep = "first") -> Step:
    if k.alone:
        raise Absent
    keys = rng.choice(([k.key], [k.key, "v"], ["v"]))
    after = replace(k, sure=k.sure and not k.mixed, changing=tuple(keys) if keep == "last" else None, thin=True)
    return Step(
        "unique_last" if keep == "last" else "unique",
        lambda f, w: f.unique(keys, keep=keep),
        lambda lines, w, late: naive_joins.unique(lines, keys, keep),
        after,
    )


def _unique_within(rng: random.Random, k: Kinds) -> Step:
    time, keys = time_name(k), rng.choice(([k.key], [k.key], [k.key, "v"]))
    within = timedelta(seconds=rng.randint(1, 3))
    keep: Keep = rng.choice(("first", "last"))
    # Rows that mark the end are the same in both inputs that were put together: one of each stays.
    return Step(
        "unique_within",
        lambda f, w: f.unique(keys, within=within, on=time, keep=keep),
        lambda lines, w, late: naive_joins.events(lines, keys, time, whole(within), keep, late),
        replace(k, sure=k.sure and not k.mixed, thin=k.thin or k.mixed),
    )


def _map_with_state(rng: random.Random, k: Kinds) -> Step:
    """Numbers a key's rows, and leaves out or doubles some; the row that marks the end always stays."""
    time = time_name(k)
    if k.alone:
        raise Absent
    by = rng.choice(([k.key], [k.key], []))
    ttl = rng.choice((None, timedelta(seconds=2), timedelta(seconds=6)))
    of, key, name = rng.choice(k.numbers), k.key, f"m{k.fresh}"
    whole_row = rng.random() < 0.5
    kept = list(k.columns) if whole_row else [n for n in k.columns if n in (k.key, "v", "l", "s", time, *by)]

    def more(row: Any, state: Any) -> list[dict[str, Any]]:
        state["n"] = state.get("n", 0) + 1
        if row[of] is not None:
            state.setdefault("seen", []).append(row[of] > 0)
        times = 1 if str(row[key]).startswith("z") else (state["n"] + len(state.get("seen", ()))) % 3
        return [{**{n: row[n] for n in kept}, name: state["n"] * 10 + number} for number in range(times)]

    types = {n: _TYPES[k.columns[n]] for n in kept} | {name: "long"}
    declared: dict[str, Any] = {"adds": {name: "long"}} if whole_row else {"returns": types}
    columns = {n: k.columns[n] for n in kept} | {name: "int"}
    return Step(
        "map_with_state",
        lambda f, w: f.filter(f[time].is_not_null()).map_with_state(more, by=by or None, on=time, ttl=ttl, **declared),
        lambda lines, w, late: naive.remembering(lines, by, time, None if ttl is None else whole(ttl), more, late),
        Kinds(columns, k.key, time, sure=k.sure and not k.mixed, fresh=k.fresh + 1, thin=k.thin, counted=k.counted),
    )


#: Types by kind, of what a function returns.
_TYPES = {
    "text": "string", "int": "long", "float": "double", "time": "timestamptz", "list": "list<long>",
    "struct": "struct<a: long, b: string>",
}  # fmt: skip


def _current(rng: random.Random, k: Kinds) -> Step:
    kind = rng.choice(("tumbling_window", "hopping_window", "sliding_window", "session_window", "count"))
    return _counted(rng, k, "current") if kind == "count" or k.time is None else _windowed(kind, rng, k, "current")


ON_GROUPS: Mapping[str, Callable[[random.Random, Kinds], Step]] = {
    "tumbling_window": _window("tumbling_window"),
    "hopping_window": _window("hopping_window"),
    "sliding_window": _window("sliding_window"),
    "session_window": _window("session_window"),
    "count_window": _count_window,
    "group_by": _group_by,
    "reduce": _reduce,
    "unique": _unique,
    "unique_within": _unique_within,
    "map_with_state": _map_with_state,
    "unique_last": lambda rng, k: _unique(rng, k, "last"),
    "window_current": _current,
}
