"""Joins, `unique` and `concat` over lists of rows, by plain loops; see `harness.naive`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.naive import Line, Lines, groups, in_place, in_time, marked, micros, time_of, timed


def _same(left: Mapping[str, Any], right: Mapping[str, Any], by: Iterable[tuple[str, str]]) -> bool:
    """Equal keys; null equals nothing."""
    return all(left[a] is not None and left[a] == right[b] for a, b in by)


def _beside(left: Mapping[str, Any], right: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    return {**left, **{name: None if right is None else right[name] for name in names}}


def joined(lines: Lines, table: Lines, on: str, names: Sequence[str], how: str) -> Lines:
    """Rows with the rows of a table that have their key. `names`: the table's columns beside the key."""
    found = []
    for line in lines:
        met = [other.values for other in table if _same(line.values, other.values, [(on, on)])]
        if how in ("semi", "anti"):
            if bool(met) == (how == "semi"):
                found.append(line)
            continue
        chosen: list[Mapping[str, Any] | None] = [*met]
        if not met and how == "left":
            chosen = [None]
        found += [
            replace(line, values=_beside(line.values, one, names), place=(*line.place, number))
            for number, one in enumerate(chosen)
        ]
    return found


def as_of(
    lines: Lines, others: Lines, on: str, by: Sequence[str], names: Sequence[str], tolerance: int | None, late: Lines
) -> Lines:
    """Every row with the latest other row that is not later; of several at one time the last in row order."""
    rights = timed(in_time(others, on, 0, late), on)
    found = []
    for line in in_time(lines, on, 0, late):
        time = micros(line.values[on])
        best: Line | None = None
        for other in rights:
            if time is None or not _same(line.values, other.values, [(key, key) for key in by]):
                continue
            age = time - time_of(other, on)
            near_enough = age >= 0 and (tolerance is None or age <= tolerance)
            if near_enough and (best is None or time_of(other, on) >= time_of(best, on)):
                best = other
        values = _beside(line.values, None if best is None else best.values, names)
        found.append(replace(line, values=values, marked=line.marked or (best is not None and best.marked)))
    return found


def near(
    lines: Lines,
    others: Lines,
    on: str,
    by: Sequence[str],
    names: Sequence[str],
    reach: tuple[int, int],
    how: str,
    columns: Sequence[str],
    late: Lines,
) -> Lines:
    """Pairs of rows where the right time is in [left - before, left + after]; the right time is `<on>_right`."""
    before, after = reach
    rights = in_time(others, on, 0, late)
    met: set[int] = set()
    found = []
    lefts = in_time(lines, on, 0, late)
    for line in lefts:
        time = micros(line.values[on])
        pairs = []
        for number, other in enumerate(rights):
            right = micros(other.values[on])
            if time is None or right is None or not -before <= right - time <= after:
                continue
            if _same(line.values, other.values, [(key, key) for key in by]):
                pairs.append(number)
        met.update(pairs)
        chosen: list[int | None] = [*pairs]
        if not pairs and how != "inner":
            chosen = [None]
        for place, one in enumerate(chosen):
            right_row = None if one is None else rights[one]
            values = _beside(line.values, None if right_row is None else right_row.values, names)
            values[f"{on}_right"] = None if right_row is None else right_row.values[on]
            marked = line.marked or (right_row is not None and right_row.marked)
            found.append(replace(line, values=values, place=(*line.place, place), marked=marked))
    if how == "outer":
        for number, other in enumerate(rights):
            if number not in met:
                values = {name: other.values[name] if name in by else None for name in columns}
                values = _beside(values, other.values, [*by, *names])
                values[f"{on}_right"] = other.values[on]
                found.append(Line(values, (math.inf, number), ("alone",), None, other.marked))
    return found


# Unique, and side by side


def unique(lines: Lines, keys: Sequence[str], keep: str) -> Lines:
    """The first or last row of each key."""
    return in_place(part[0 if keep == "first" else -1] for part in groups(lines, keys).values())


def events(lines: Lines, keys: Sequence[str], on: str, within: int, keep: str, late: Lines) -> Lines:
    """Of rows of a key that follow each other by at most `within` the first (last) by time; all without a time."""
    fresh = in_time(lines, on, 0, late)
    found = [line for line in fresh if line.values[on] is None]
    for part in groups(timed(fresh, on), keys).values():
        ordered = sorted(part, key=lambda line: time_of(line, on))
        runs: list[Lines] = []
        for line in ordered:
            if not runs or time_of(line, on) - time_of(runs[-1][-1], on) > within:
                runs.append([])
            runs[-1].append(line)
        for run in runs:
            one = run[0 if keep == "first" else -1]
            found.append(replace(one, marked=one.marked or (keep == "last" and marked(run))))
    return in_place(found)


def side_by_side(parts: Sequence[Lines], columns: Sequence[str], *, streams: bool) -> Lines:
    """Rows of several frames: on a table one frame after the other, on streams by their stamps first."""
    found = [
        replace(
            line, values={name: line.values.get(name) for name in columns}, place=(line.place[0], port, *line.place[1:])
        )
        for port, lines in enumerate(parts)
        for line in lines
    ]
    if streams:
        return in_place(found)
    return [replace(line, place=(number,)) for number, line in enumerate(found)]
