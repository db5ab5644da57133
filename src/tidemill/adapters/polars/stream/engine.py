"""The stream engine by Polars: see `tidemill.ports.stream_engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from tidemill.adapters.polars.holding import HELD_IN_MEMORY, Holder
from tidemill.adapters.polars.run import Run, Undeclared
from tidemill.adapters.polars.stream.chunks import packed, unpacked
from tidemill.adapters.polars.stream.shape import Shapes
from tidemill.adapters.polars.stream.shown import shown
from tidemill.adapters.polars.stream.task import PolarsTask
from tidemill.adapters.polars.table_past import micros_of
from tidemill.adapters.polars.tables import to_lazy
from tidemill.adapters.polars.types import polars_schema, polars_type
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.topic import Topic
from tidemill.model.table import Schema
from tidemill.plan.topology import Topology
from tidemill.ports.stream_engine import Keeper, LookUp

_CHOSEN = "__tm_chosen"


class PolarsStreamEngine:
    """Makes tasks.

    Args:
        tables: schemas of the tables that streams join, by `Input.key`.
        since: by topic: the time from which its messages count; rows from before are of a table.
    """

    def __init__(
        self, tables: Mapping[str, Schema | pl.Schema] | None = None, since: Mapping[str, datetime] | None = None
    ) -> None:
        self._tables = dict(tables or {})
        self._since = {topic: micros_of(moment) for topic, moment in (since or {}).items()}
        #: Tries steps out on no rows, each once: the frames of a topology's nodes begin alike.
        self._dry = Run(self._empty, Holder(HELD_IN_MEMORY), dry=True)
        #: Columns by the identities of input and steps, which the frames that were asked for keep.
        self._shapes: dict[tuple[int, ...], pl.Schema | None] = {}
        self._asked: list[Frame] = []

    def pack(self, rows: pl.DataFrame) -> bytes:
        """Rows as bytes."""
        return packed(rows)

    def unpack(self, pieces: Sequence[bytes]) -> pl.DataFrame:
        """The rows of what `pack` gave."""
        return pl.concat([unpacked(piece) for piece in pieces], how="diagonal_relaxed")

    def told(self, rows: pl.DataFrame) -> list[dict[str, Any]]:
        """Rows as dicts."""
        return shown(rows).to_dicts()

    def split(self, rows: pl.DataFrame, by: Any) -> dict[str | None, pl.DataFrame]:
        """Rows by the text that an expression gives for each."""
        chosen = rows.with_columns((pl.col(by) if isinstance(by, str) else by).cast(pl.String).alias(_CHOSEN))
        parts = chosen.partition_by(_CHOSEN, as_dict=True, maintain_order=True, include_key=False)
        return {name: part for (name,), part in parts.items()}

    def columns_of(self, frame: Frame) -> Sequence[str] | None:
        """The columns of a frame."""
        shape = self.shape_of(frame)
        return None if shape is None else shape.names()

    def shape_of(self, frame: Frame) -> pl.Schema | None:
        """The columns of a frame and their types."""
        key = (id(frame.source), *map(id, frame.operations))
        if key not in self._shapes:
            self._asked.append(frame)  # before anything of it is known: what is collected leaves its identity to others
            try:
                shape = self._dry.query(frame).lazy.collect_schema()
            except Undeclared:
                shape = None
            self._shapes[key] = shape
        return self._shapes[key]

    def task(
        self, topology: Topology, stage: int, number: int, keeper: Keeper, lookups: Mapping[int, LookUp]
    ) -> PolarsTask:
        """Make a task."""
        return PolarsTask(topology, stage, number, keeper, lookups, Shapes(topology, self.shape_of), self._since)

    def _empty(self, source: Input) -> pl.LazyFrame:
        if isinstance(source.data, Topic):
            return pl.LazyFrame(schema=_topic_schema(source.data))
        if source.scope == "literal":
            return to_lazy(source.data, source.name).clear()
        found = self._tables[source.key]
        return pl.LazyFrame(schema=polars_schema(found) if isinstance(found, Schema) else found)


def _topic_schema(topic: Topic) -> pl.Schema:
    if topic.columns is None:
        raise DefinitionError(
            f'The columns of topic "{topic.name}" are not declared.',
            hint=f'tm.topic("{topic.name}", columns={{"time": "timestamptz", "key": "string"}})',
        )
    return pl.Schema({name: polars_type(kind) for name, kind in topic.columns.items()})
