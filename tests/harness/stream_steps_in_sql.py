"""Steps of programs over topics that are written in SQL: columns, conditions, users' functions, windows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from harness import naive
from harness.naive import Lines, whole
from harness.stream_kinds import Absent, Kinds, Step, World
from harness.stream_steps_on_groups import after_groups, aggregates_of
from harness.stream_steps_on_rows import time_name
from tidemill.model.frame import Frame

Condition = tuple[str, Callable[[Mapping[str, Any]], bool | None]]


def _either(one: bool | None, other: bool | None) -> bool | None:
    """`or`, as SQL has it."""
    if one is True or other is True:
        return True
    return None if one is None or other is None else False


def _where(rng: random.Random, k: Kinds) -> Condition:
    key, of = k.key, rng.choice(k.numbers)
    return rng.choice(
        [
            (f'"{of}" > -3', lambda row: None if row[of] is None else row[of] > -3),
            (f'"{of}" is not null', lambda row: row[of] is not None),
            (f"\"{key}\" not in ('d', 'c')", lambda row: None if row[key] is None else row[key] not in ("d", "c")),
            (
                f'"{key}" <> \'a\' or "{of}" between -2 and 2',
                lambda row: _either(
                    None if row[key] is None else row[key] != "a", None if row[of] is None else -2 <= row[of] <= 2
                ),
            ),
            (f'"{key}" like \'z%\' or "{of}" is not distinct from null', lambda row: _likes_z(row[key], row[of])),
        ]
    )


def _likes_z(key: str | None, number: Any) -> bool | None:
    return _either(None if key is None else key.startswith("z"), number is None)


def tripled(number: float | None) -> float | None:
    """A user's function: of null, too."""
    return -1.0 if number is None else number * 3.0


def strict(number: float, key: str | None) -> float | None:
    """A user's function that is not called where the number is null."""
    return number + len(key or "")


def _value(rng: random.Random, k: Kinds) -> tuple[str, Callable[[Mapping[str, Any]], Any], str, bool]:
    """A number: in SQL, in Python, its kind, and whether a function makes it."""
    of, key = rng.choice(k.numbers), k.key
    kind = k.columns[of]
    choices: list[tuple[str, Callable[[Mapping[str, Any]], Any], str, bool]] = [
        (f'coalesce("{of}", 0) + 1', lambda row: (0 if row[of] is None else row[of]) + 1, kind, False),
        (
            f'case when "{key}" = \'a\' then "{of}" * 2 else "{of}" end',
            lambda row: None if row[of] is None else row[of] * 2 if row[key] == "a" else row[of],
            kind,
            False,
        ),
        (
            f'case when "{of}" is null then 1 else 0 end::bigint',
            lambda row: 1 if row[of] is None else 0,
            "int",
            False,
        ),
        (f'"{of}" / 2', lambda row: None if row[of] is None else row[of] / 2, "float", False),
        (f'tripled("{of}"::double)', lambda row: tripled(row[of]), "float", True),
        (
            f'strict("{of}"::double, "{key}")',
            lambda row: None if row[of] is None else strict(row[of], row[key]),
            "float",
            True,
        ),
    ]
    if kind == "int":
        choices.append((f'"{of}" % 3', lambda row: _rest(row[of]), "int", False))
    return rng.choice(choices)


def _rest(number: int | None) -> int | None:
    """What division by three leaves, with the number's sign."""
    return None if number is None else (abs(number) % 3) * (-1 if number < 0 else 1)


_OWN = {"tripled": tripled, "strict": strict}


def _columns(rng: random.Random, k: Kinds) -> Step:
    text, function, kind, called = _value(rng, k)
    condition, holds = _where(rng, k)
    name = rng.choice(("y", "v"))
    other = f"* replace ({text} as v)" if name == "v" else f"*, {text} as y"
    query = f"select {other} from self where {condition}"
    if called and (k.doubled or k.alone):
        raise Absent

    def on_lines(lines: Lines, w: World, late: Lines) -> Lines:
        return naive.each(naive.kept(lines, holds), lambda row: {**row, name: function(row)})

    after = replace(k, columns={**k.columns, name: kind}, stamped=k.stamped or called)
    return Step("sql", lambda f, w: f.sql(query, functions=_OWN), on_lines, after)


_NAMES = {
    "mean": "avg({})", "min": "min({})", "max": "max({})", "count": "count({})", "first": "first({})",
    "last": "last({})", "collect": "list({})", "n_unique": "count(distinct {})", "std": "stddev({})",
    "sum": "coalesce(sum({}), 0)", "quantile": "quantile_cont({}, {})",
}  # fmt: skip


def _windows(rng: random.Random, k: Kinds) -> Step:
    time = time_name(k)
    by = rng.choice(([k.key], [k.key], []))
    wanted, kinds, ordered = aggregates_of(rng, replace(k, time=None), by)
    while any(how[0] == "reduce" for how in wanted.values()):
        wanted, kinds, ordered = aggregates_of(rng, replace(k, time=None), by)
    one, two = rng.choice((2, 3, 5)), rng.choice((2, 4, 7))
    kind = rng.choice(("tumble", "hop", "session"))
    lengths = f"interval '{one} seconds'" + (f", interval {two} second" if kind == "hop" else "")
    made = [
        f'{_NAMES[kind].format(f"{chr(34)}{of}{chr(34)}", *more)} as "{name}"' if of else f'count(*) as "{name}"'
        for name, (kind, of, *more) in wanted.items()
    ]
    keys = [f'"{name}"' for name in by]
    query = (
        f"select {', '.join([*keys, 'window_start', 'window_end', *made])} from self "
        f"group by {', '.join([*keys, f'{kind}({chr(34)}{time}{chr(34)}, {lengths})'])} having count(*) > 0"
    )

    def on_frame(f: Frame, w: World) -> Frame:
        return f.sql(query)

    def on_lines(lines: Lines, w: World, late: Lines) -> Lines:
        a, b = whole(timedelta(seconds=one)), whole(timedelta(seconds=two))
        if kind == "session":
            panes = naive.sessions(lines, time, by, a, 0, late)
        else:
            panes = naive.hopping(lines, time, by, a, b if kind == "hop" else a, 0, late)
        return naive.windows(lines, panes, by, wanted)

    goes = "window_end" if kind == "session" else rng.choice(("window_end", "window_end", "window_start"))
    columns = {**kinds, "window_start": "time", "window_end": "time"}
    after = after_groups(k, columns, ordered=ordered, time=goes, thin=k.thin, counted=k.counted, typeless=k.typeless)
    return Step("sql", on_frame, on_lines, after)


def _sql(rng: random.Random, k: Kinds) -> Step:
    if rng.random() < 0.5:
        try:
            return _windows(rng, k)
        except Absent:
            pass
    return _columns(rng, k)


IN_SQL: Mapping[str, Callable[[random.Random, Kinds], Step]] = {"sql": _sql}
