"""A table as a topic's past: its rows as the messages that they were, or would have been.

Rows that know their message have its partition and offset. Of the others, those from before a time come first: in the
order of their times, in the partition of their key, at the offsets -n-1 ... -2. After them stands -1, which means: all
rows were read, and of the topic nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl

from tidemill.adapters.polars.moments import micros
from tidemill.adapters.polars.types import polars_type
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame.topic import Topic
from tidemill.model.stream import TableBefore
from tidemill.plan.partitioning import KnownPlaces
from tidemill.ports.topic import Messages, Partition

#: Rows that are read at a time; all of one time are read together.
_ROWS = 200_000
#: Rows of one stretch.
_STRETCH = 20_000
_LANE, _AT, _MICROS = "__tm_lane", "__tm_at", "__tm_micros"


class TablePast:
    """See the module; it keeps the promises of a past. Rows before `until` must not change while they are read.

    Args:
        rows: of the table.
        before: which of them count, and what says where they belong.
        topic: as declared.
        partitions: how many it has.
        values: writes rows as messages' values.
        keys: writes the keys of rows; None: messages have none.

    Raises:
        DefinitionError: the table lacks a column, or it is of a type that cannot be.
    """

    def __init__(
        self,
        rows: pl.LazyFrame,
        before: TableBefore,
        topic: Topic,
        partitions: int,
        values: Callable[[pl.DataFrame], list[bytes | None]],
        keys: Callable[[pl.DataFrame], list[bytes | None]] | None,
    ) -> None:
        self._before = before
        self._topic = topic
        self._partitions = partitions
        self._values = values
        self._keys = keys
        self._columns = {name: polars_type(kind) for name, kind in (topic.columns or {}).items()}
        self._rows = self._checked(rows)

    def _checked(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The columns of the topic, and what says where a row belongs."""
        known = rows.collect_schema()
        where = [name for name in (self._before.partition, self._before.offset) if name]
        for name in (*self._columns, *where):
            if name not in known:
                raise DefinitionError(
                    f'bootstrap: table "{self._before.table}" has no column "{name}".',
                    hint=f"it has {', '.join(known)}",
                )
        for name in where:
            if not known[name].is_integer():
                raise DefinitionError(f'bootstrap: column "{name}" is of type {known[name]}, not a whole number.')
        for name, kind in self._columns.items():
            if not _fits(known[name], kind):
                raise DefinitionError(
                    f'bootstrap: column "{name}" of table "{self._before.table}" is of type {known[name]}, and of '
                    f'topic "{self._topic.name}" of type {kind}.'
                )
        made = [pl.col(name).cast(kind) for name, kind in self._columns.items()]
        time = self._topic.time
        made.append((micros(rows, time) if time else pl.lit(None, pl.Int64)).alias(_MICROS))
        if where:
            partition, offset = (pl.col(name).cast(pl.Int64) for name in where)
            found = rows.select(*made, partition.alias(_LANE), offset.alias(_AT))
            return found.filter(pl.col(_LANE).is_not_null() & pl.col(_AT).is_not_null())
        assert self._before.until is not None
        return rows.select(*made).filter(pl.col(_MICROS) < micros_of(self._before.until))

    @property
    def _by_offset(self) -> bool:
        return bool(self._before.offset)

    # The promises

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """By partition: where its rows begin, and end."""
        return self._bounds if topic == self._topic.name else {}

    def at(self, topic: str, timestamp: int) -> Mapping[int, int]:
        """By partition: the first row that is not older, by the topic's time; rows without an offset have no place."""
        if topic != self._topic.name or not self._by_offset:
            return {}
        later = self._rows.filter(pl.col(_MICROS) >= timestamp * 1000)
        found = later.group_by(_LANE).agg(pl.col(_AT).min()).collect(engine="streaming")
        return dict(found.select(_LANE, _AT).iter_rows())

    def read(self, partition: Partition, offset: int) -> Iterator[Messages]:
        """The rows of a partition from an offset on, in order."""
        try:
            yield from self._read(partition, offset)
        except pl.exceptions.PolarsError as error:
            raise DataError(f'bootstrap: table "{self._before.table}" cannot be read: {error}') from None

    def _read(self, partition: Partition, offset: int) -> Iterator[Messages]:
        chunks = self._in_offsets(partition.number, offset) if self._by_offset else self._in_time(partition, offset)
        for first, rows in chunks:
            for start in range(0, rows.height, _STRETCH):
                some = rows.slice(start, _STRETCH)
                offsets = (
                    some[_AT].to_list() if first is None else list(range(first + start, first + start + len(some)))
                )
                yield self._messages(partition, some, offsets)

    def _messages(self, partition: Partition, rows: pl.DataFrame, offsets: list[int]) -> Messages:
        stamps = [-1 if micro is None else micro // 1000 for micro in rows[_MICROS].to_list()]
        plain = rows.select(list(self._columns))
        keys = [None] * len(offsets) if self._keys is None else self._keys(plain)
        return Messages(partition, offsets, stamps, keys, self._values(plain))

    # Rows that know their message

    @cached_property
    def _bounds(self) -> dict[int, tuple[int, int]]:
        if not self._by_offset:
            return {lane: (-count - 1, -1) for lane, (_, count) in self._lanes.items()}
        spans = (
            self._rows.group_by(_LANE).agg(low=pl.col(_AT).min(), high=pl.col(_AT).max()).collect(engine="streaming")
        )
        wrong = spans.filter(~pl.col(_LANE).is_between(0, self._partitions - 1) | (pl.col("low") < 0))
        if wrong.height:
            raise DataError(
                f'bootstrap: table "{self._before.table}" has rows of partition {wrong[_LANE][0]}, offset '
                f'{wrong["low"][0]}; topic "{self._topic.name}" has partitions 0 to {self._partitions - 1}.'
            )
        return {lane: (low, high + 1) for lane, low, high in spans.iter_rows()}

    def _in_offsets(self, lane: int, offset: int) -> Iterator[tuple[None, pl.DataFrame]]:
        """Chunks by offset; one that is there twice counts once."""
        mine = self._rows.filter(pl.col(_LANE) == lane)
        end = self._bounds.get(lane, (0, 0))[1]
        while offset < end:
            chunk = mine.filter(pl.col(_AT).is_between(offset, offset + _ROWS - 1)).collect(engine="streaming")
            if chunk.height:
                yield None, chunk.sort(_AT, maintain_order=True).unique(_AT, keep="first", maintain_order=True)
                offset += _ROWS
            else:  # offsets may have gaps
                found = mine.filter(pl.col(_AT) >= offset).select(pl.col(_AT).min()).collect(engine="streaming").item()
                offset = end if found is None else found

    # Rows that are before a time

    @cached_property
    def _lanes(self) -> dict[int, tuple[list[int], int]]:
        """By partition: times at which its rows are cut into chunks, and how many rows it has."""
        found = {}
        for lane in range(self._partitions):
            times = self._of(lane).select(pl.col(_MICROS).sort()).collect(engine="streaming")[_MICROS]
            if len(times):
                cuts = sorted({times[place] for place in range(0, len(times), _ROWS)})
                found[lane] = (cuts, len(times))
        return found

    @cached_property
    def _places(self) -> pl.LazyFrame | None:
        """The partition of each key, as a producer would have it."""
        if self._keys is None:
            return None
        unique = self._rows.select(self._topic.key).unique().collect(engine="streaming")
        known = KnownPlaces(self._partitions)
        lanes = [0 if key is None else known[key] for key in self._keys(unique)]
        return unique.with_columns(pl.Series(_LANE, lanes, dtype=pl.Int64)).lazy()

    def _of(self, lane: int) -> pl.LazyFrame:
        if self._partitions == 1:
            return self._rows
        if self._places is None:  # without a key any partition will do, as long as it is the same again
            return self._rows.filter((pl.col(_MICROS) // 1_000_000) % self._partitions == lane)
        mine = self._places.filter(pl.col(_LANE) == lane).drop(_LANE)
        return self._rows.join(mine, on=list(self._topic.key), how="semi", nulls_equal=True)

    def _in_time(self, partition: Partition, offset: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Chunks by time, with the offset of their first row. Rows of one time stand in the order of what they hold."""
        cuts, count = self._lanes.get(partition.number, ([], 0))
        at = -count - 1
        order = [_MICROS, *(pl.col(name).hash() if _is_nested(kind) else name for name, kind in self._columns.items())]
        for place, begin in enumerate(cuts):
            chunk = self._of(partition.number).filter(pl.col(_MICROS) >= begin)
            if place + 1 < len(cuts):
                chunk = chunk.filter(pl.col(_MICROS) < cuts[place + 1])
            rows = chunk.sort(order, maintain_order=True).collect(engine="streaming")
            skipped = min(max(0, offset - at), rows.height)
            if skipped < rows.height:
                yield at + skipped, rows.slice(skipped)
            at += rows.height


def between(rows: pl.LazyFrame, time: str, since: datetime, until: datetime) -> pl.LazyFrame:
    """The rows of a table from a time, up to, not including, another."""
    at = micros(rows, time)
    return rows.filter((at >= micros_of(since)) & (at < micros_of(until)))


def _fits(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether values of a type can be taken for those of another without a rule of how to read them."""
    if found == pl.Null() or (found.is_numeric() and wanted.is_numeric()):
        return not (found.is_float() and wanted.is_integer())
    return found.base_type() == wanted.base_type()


def _is_nested(kind: Any) -> bool:
    return isinstance(kind, pl.List | pl.Array | pl.Struct | pl.Object)


def micros_of(moment: datetime) -> int:
    """A time as microseconds since 1970-01-01 UTC."""
    return int(pl.Series([moment]).dt.convert_time_zone("UTC").dt.epoch("us")[0])


def live_rows(
    rows: pl.DataFrame, time: str, since: int, offsets: Sequence[int], timestamps: Sequence[int]
) -> tuple[pl.DataFrame, Sequence[int], Sequence[int]]:
    """Of messages' rows those that are not before a time (microseconds): the others are in a table that was read.

    Rows of the table itself, whose offsets are below zero, are as they are; so are rows without a time.
    """
    if not len(offsets) or offsets[0] < 0:
        return rows, offsets, timestamps
    kept = rows.select((micros(rows.lazy(), time) >= since).fill_null(True)).to_series()
    if kept.all():
        return rows, offsets, timestamps
    places = kept.arg_true().to_list()
    return rows.filter(kept), [offsets[place] for place in places], [timestamps[place] for place in places]
