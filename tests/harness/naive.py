"""Every verb over lists of rows, by plain loops: what the two engines are compared with.

Written from what the verbs' docstrings promise, row by row, without regard to speed and without Polars. Rows are in
their fixed order: of a topic by stamp, partition, offset. A row knows where it stands in that order, its lane and its
stamp, so that rows which are late for a step can be told row by row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = -(2**62)

#: By the result's name: the kind of aggregate, of which column, and what else it takes.
Aggregates: TypeAlias = "Mapping[str, tuple[Any, ...]]"


@dataclass(frozen=True, slots=True)
class Line:
    """A row.

    Args:
        values: by column.
        place: in the fixed order.
        lane: where it came from.
        stamp: how far its lane's event time had come with it, in microseconds; None: it is never late.
        marked: whether a row that only marks the end has a part in it.
    """

    values: Mapping[str, Any]
    place: tuple[Any, ...]
    lane: Any = None
    stamp: int | None = None
    marked: bool = False


Lines: TypeAlias = "list[Line]"


def micros(moment: datetime | None) -> int | None:
    """Microseconds since 1970."""
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)


def moment(micro: int) -> datetime:
    """The time of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micro)


def whole(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // timedelta(microseconds=1)


def ranked(value: Any) -> tuple[bool, Any]:
    """For sorting: nulls come first."""
    return value is not None, value


def in_place(lines: Iterable[Line]) -> Lines:
    """Rows in the fixed order."""
    return sorted(lines, key=lambda line: line.place)


# Topics


def from_topic(parts: Sequence[Sequence[Mapping[str, Any]]], time: str, lateness: timedelta, topic: int) -> Lines:
    """The rows of a topic's partitions in their order."""
    found: Lines = []
    for number, rows in enumerate(parts):
        top = NEVER
        for offset, row in enumerate(rows):
            values = dict(row)
            ending = bool(values.pop("marked", False))
            own = micros(values[time])
            top = top if own is None else max(top, own - whole(lateness))
            found.append(Line(values, (top, (topic, number), offset), (topic, number), top, ending))
    return in_place(found)


def stamped(lines: Lines, column: str, lateness: timedelta) -> Lines:
    """Rows whose stamps are those of another time column from here on."""
    tops: dict[Any, int] = {}
    found = []
    for line in lines:
        own = micros(line.values[column])
        top = tops.get(line.lane, NEVER)
        tops[line.lane] = top if own is None else max(top, own - whole(lateness))
        found.append(replace(line, stamp=tops[line.lane]))
    return found


# Steps that look at one row


def each(lines: Lines, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Lines:
    """One row for each."""
    return [replace(line, values=dict(function(dict(line.values)))) for line in lines]


def kept(lines: Lines, condition: Callable[[Mapping[str, Any]], Any]) -> Lines:
    """Rows for which it is true."""
    return [line for line in lines if condition(line.values) is True]


def several(lines: Lines, function: Callable[[dict[str, Any]], Iterable[Mapping[str, Any]]]) -> Lines:
    """Any number of rows for each."""
    return [
        replace(line, values=dict(made), place=(*line.place, number))
        for line in lines
        for number, made in enumerate(function(dict(line.values)))
    ]


def exploded(lines: Lines, column: str) -> Lines:
    """A row for each element; an empty list gives none, a null list one with null."""

    def parts(row: dict[str, Any]) -> list[dict[str, Any]]:
        values = [None] if row[column] is None else row[column]
        return [{**row, column: value} for value in values]

    return several(lines, parts)


def unnested(lines: Lines, column: str, fields: Sequence[str]) -> Lines:
    """A struct's fields in its place."""
    return each(
        lines,
        lambda row: {
            **{name: value for name, value in row.items() if name != column},
            **{name: None if row[column] is None else row[column][name] for name in fields},
        },
    )


# Aggregates


def aggregate(rows: Sequence[Mapping[str, Any]], kind: str, of: str | None, *more: Any) -> Any:  # a case for each
    """One aggregate over rows in row order."""
    if of is None:
        return len(rows)
    values = [row[of] for row in rows]
    there = [value for value in values if value is not None]
    match kind:
        case "count":
            return len(there)
        case "sum":
            return sum(there)
        case "mean":
            return sum(there) / len(there) if there else None
        case "min":
            return min(there, default=None)
        case "max":
            return max(there, default=None)
        case "n_unique":
            return len(set(there))
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "collect":
            return values
        case "std":
            if len(there) < 2:
                return None
            middle = sum(there) / len(there)
            return math.sqrt(sum((value - middle) ** 2 for value in there) / (len(there) - 1))
        case "quantile":
            return _quantile(sorted(there), more[0])
        case "earliest" | "latest":
            return _by_time(rows, kind, of, more[0])
    assert kind == "reduce", kind
    initial, function, *_ = more
    state = copy.deepcopy(initial)
    for value in values:
        state = function(state, value)
    return state


def _quantile(ordered: list[Any], share: float) -> float | None:
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return float(below + (above - below) * (place - math.floor(place)))


def _by_time(rows: Sequence[Mapping[str, Any]], kind: str, of: str, on: str) -> Any:
    timed = [row for row in rows if row[on] is not None]
    if not timed:
        return None
    if kind == "earliest":
        least = min(row[on] for row in timed)
        return next(row[of] for row in timed if row[on] == least)
    greatest = max(row[on] for row in timed)
    return [row[of] for row in timed if row[on] == greatest][-1]


def aggregates(lines: Sequence[Line], wanted: Aggregates) -> dict[str, Any]:
    """All aggregates over rows in row order."""
    rows = [line.values for line in lines]
    return {name: aggregate(rows, *how) for name, how in wanted.items()}


# Groups and windows


def groups(lines: Lines, keys: Sequence[str]) -> dict[tuple[Any, ...], Lines]:
    """Rows by the values of their keys, in the order of the first ones. Null is a key like any other."""
    found: dict[tuple[Any, ...], Lines] = {}
    for line in lines:
        found.setdefault(tuple(line.values[key] for key in keys), []).append(line)
    return found


def grouped(lines: Lines, keys: Sequence[str], wanted: Aggregates) -> Lines:
    """One row for each group."""
    return [
        Line({**dict(zip(keys, key, strict=True)), **aggregates(part, wanted)}, part[0].place, marked=marked(part))
        for key, part in groups(lines, keys).items()
    ]


def reduced(lines: Lines, by: Sequence[str], initial: Any, function: Callable[[Any, Any], Any]) -> Lines:
    """The last state of each key."""
    found = []
    for key, part in groups(lines, by).items():
        state = copy.deepcopy(initial)
        for line in part:
            state = function(state, dict(line.values))
        found.append(Line({**dict(zip(by, key, strict=True)), **state}, part[0].place, marked=marked(part)))
    return found


def marked(lines: Iterable[Line]) -> bool:
    """Whether a row that marks the end is among them."""
    return any(line.marked for line in lines)


@dataclass(frozen=True, slots=True)
class Pane:
    """A window of a key with its rows, in row order."""

    key: tuple[Any, ...]
    start: int
    end: int
    lines: Lines


def windows(lines: Lines, panes: Iterable[Pane], by: Sequence[str], wanted: Aggregates) -> Lines:
    """The rows of time windows, in the order of their ends, starts and keys."""
    found = []
    for pane in panes:
        values = {
            **dict(zip(by, pane.key, strict=True)),
            "window_start": moment(pane.start),
            "window_end": moment(pane.end),
            **aggregates(pane.lines, wanted),
        }
        place = (pane.end, pane.start, *map(ranked, pane.key))
        found.append(Line(values, place, ("window",), marked=marked(pane.lines)))
    return in_place(found)


def timed(lines: Lines, on: str) -> Lines:
    """Rows that have a time: others belong to no window."""
    return [line for line in lines if line.values[on] is not None]


def time_of(line: Line, on: str) -> int:
    """A row's time; it has one."""
    found = micros(line.values[on])
    assert found is not None
    return found


def hopping(lines: Lines, on: str, by: Sequence[str], every: int, size: int, grace: int, late: Lines) -> list[Pane]:
    """Windows [k * every, k * every + size) that hold a row. A row is late for those that its stamp has passed."""
    found: dict[tuple[tuple[Any, ...], int], Lines] = {}
    for line in timed(lines, on):
        time = time_of(line, on)
        newest = time // every * every
        starts = [newest - back * every for back in range(-(-size // every))]
        holding = [start for start in starts if start <= time < start + size]
        still = [start for start in holding if line.stamp is None or start + size + grace > line.stamp]
        if holding and not still:
            late.append(line)
        for start in still:
            found.setdefault((tuple(line.values[key] for key in by), start), []).append(line)
    return [Pane(key, start, start + size, part) for (key, start), part in found.items()]


def in_time(lines: Lines, on: str, grace: int, late: Lines) -> Lines:
    """Rows that are not behind their own stamps; rows without a time never are."""
    found: Lines = []
    for line in lines:
        time = micros(line.values[on])
        behind = time is not None and line.stamp is not None and time + grace < line.stamp
        (late if behind else found).append(line)
    return found


def sliding(lines: Lines, on: str, by: Sequence[str], size: int, grace: int, late: Lines) -> list[Pane]:
    """For each different time t of a key the rows in (t - size, t]."""
    found = []
    for key, part in groups(in_time(timed(lines, on), on, grace, late), by).items():
        for end in sorted({time_of(line, on) for line in part}):
            held = [line for line in part if end - size < time_of(line, on) <= end]
            found.append(Pane(key, end - size, end, held))
    return found


def sessions(lines: Lines, on: str, by: Sequence[str], gap: int, grace: int, late: Lines) -> list[Pane]:
    """Rows of a key that follow each other by at most `gap`."""
    found = []
    for key, part in groups(in_time(timed(lines, on), on, grace, late), by).items():
        runs: list[Lines] = []
        for line in sorted(part, key=lambda line: time_of(line, on)):
            if not runs or time_of(line, on) - time_of(runs[-1][-1], on) > gap:
                runs.append([])
            runs[-1].append(line)
        for run in runs:
            times = [time_of(line, on) for line in run]
            found.append(Pane(key, times[0], times[-1], [line for line in part if line in run]))
    return found


def counted(lines: Lines, by: Sequence[str], size: int, wanted: Aggregates, *, short: bool) -> Lines:
    """Every `size` rows of a key; `short`: also last ones that are not full."""
    found = []
    for key, part in groups(lines, by).items():
        for start in range(0, len(part), size):
            held = part[start : start + size]
            if len(held) == size or short:
                ends = {"window_start": start, "window_end": start + len(held)}
                values = {**dict(zip(by, key, strict=True)), **ends, **aggregates(held, wanted)}
                found.append(Line(values, held[-1].place, ("count",), marked=marked(held)))
    return in_place(found)


def remembering(
    lines: Lines,
    by: Sequence[str],
    on: str,
    ttl: int | None,
    function: Callable[[dict[str, Any], dict[str, Any]], Iterable[Mapping[str, Any]]],
    late: Lines,
) -> Lines:
    """Rows of each key by their times, each with what was written not longer than `ttl` before it.

    `function` may change the dict that it gets.
    """
    states: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    found = []
    fresh = in_time(timed(lines, on), on, 0, late)
    for line in sorted(fresh, key=lambda line: (time_of(line, on), line.place)):
        now, key = time_of(line, on), tuple(line.values[name] for name in by)
        at, state = states.get(key, (now, {}))
        state = {} if ttl is not None and now - at > ttl else copy.deepcopy(state)
        before = copy.deepcopy(state)
        for number, made in enumerate(function(dict(line.values), state)):
            place = (now, *line.place, number)
            found.append(Line(dict(made), place, ("remembering",), marked=line.marked))
        if state != before:
            states[key] = (now, state)
    return found
