"""Rows parted into folders, by the values of columns: `carrier=AA/time_hour_day=2013-01-15`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import polars as pl
import pyarrow as pa

from tidemill.adapters.arrow.frames import frame_of
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.table import Partition, Schema

_TIMES = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%d-%H"}
#: What other tools call the folder of rows without a value.
_NONE = "__HIVE_DEFAULT_PARTITION__"


def check_partitions(parts: Sequence[Partition], columns: Schema) -> None:
    """Raise UnknownName or DefinitionError where rows cannot be parted so."""
    for part in parts:
        if part.column not in columns:
            raise UnknownName.of("column", part.column, columns.names)
        kind = str(columns[part.column].type)
        if part.transform == "bucket":
            raise DefinitionError(f"Files are not parted by {part}.", hint="a column, or year, month, day, hour of one")
        if part.transform in _TIMES and kind not in ("date", "timestamp", "timestamptz"):
            raise DefinitionError(f"{part}: {part.column} is no time, but {kind}.", hint="a column with dates or times")
        if part.transform == "truncate" and kind != "string":
            raise DefinitionError(f"{part}: {part.column} is no text, but {kind}.", hint="a column with text")
        if "<" in kind:
            raise DefinitionError(f"{part}: {part.column} is {kind}, which names no folder.", hint="another column")


def parted(rows: pa.Table, parts: Sequence[Partition]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each folder, in their order, and its path: "" or `a=1/b=2/`."""
    if not parts:
        yield "", rows
        return
    frame = frame_of(rows.select(list(dict.fromkeys(part.column for part in parts))))
    named = [_value(part).alias(f"f{at}") for at, part in enumerate(parts)]
    folders = frame.select(named).with_row_index("n")
    names = [f"f{at}" for at in range(len(parts))]
    for values, group in folders.group_by(names, maintain_order=True):
        path = "".join(f"{_label(part)}={_shown(value)}/" for part, value in zip(parts, values, strict=True))
        chosen = rows if group.height == rows.num_rows else rows.take(pa.array(group.get_column("n").to_numpy()))
        yield path, chosen


def _label(part: Partition) -> str:
    name = part.column if part.transform == "identity" else f"{part.column}_{part.transform}"
    return quote(name, safe=" ")


def _value(part: Partition) -> pl.Expr:
    column = pl.col(part.column)
    if part.transform in _TIMES:
        return column.dt.strftime(_TIMES[part.transform])
    if part.transform == "truncate":
        return column.str.head(part.parameter or 1)
    return column


def _shown(value: object) -> str:
    """A value as the name of a folder; it cannot leave its own."""
    if value is None:
        return _NONE
    if isinstance(value, bytes):
        return value.hex()
    text = quote(str(value), safe=" ")
    return text.replace(".", "%2E") if set(text) <= {"."} else text
