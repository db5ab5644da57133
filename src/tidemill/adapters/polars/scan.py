"""Reads the Parquet files of a scan: columns are found by field id, files of equal inner shape are read together.

A table's files differ inside once it has evolved. Their shapes come from the footers, each read once: data files
never change. Neighbouring files of one shape become one Polars scan, aligned to the table's columns by name, type
and null; then the scans follow each other in the order of the files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, BinaryIO

import polars as pl
import pyarrow.parquet as pq

from tidemill.adapters.polars.types import polars_schema, polars_type
from tidemill.model.table import BATCH_ID, Column, DataFile, Scan
from tidemill.model.types import LONG

#: Footers remembered: about 1 kB each for a table of 20 columns.
_FOOTERS = 20_000
#: Footers that are fetched at the same time.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class PhysicalColumn:
    """A column as a file has it."""

    name: str
    field_id: int | None
    type: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a file."""

    columns: tuple[PhysicalColumn, ...]

    def find(self, column: Column) -> PhysicalColumn | None:
        """The file's column for a table's column: by field id, or by name where the file or table has no ids."""
        if column.field_id is not None and any(c.field_id is not None for c in self.columns):
            return next((c for c in self.columns if c.field_id == column.field_id), None)
        return next((c for c in self.columns if c.name == column.name), None)


class Scanner:
    """Makes Polars queries of scans.

    Args:
        open_file: opens a data file by its path, for places that are no local files; None: local paths only.
        storage_options: how Polars reaches such a place, as in `pl.scan_parquet`.
    """

    def __init__(
        self, open_file: Callable[[str], BinaryIO] | None = None, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self._open = open_file
        self._storage = dict(storage_options) if storage_options else None
        self._shape = lru_cache(maxsize=_FOOTERS)(self._read_shape)

    def lazy(self, scan: Scan) -> pl.LazyFrame:
        """The rows of a scan, in the order of its files, with exactly the columns of its schema."""
        self._look_ahead(scan)
        parts = [
            self._part(scan, shape, whole, [file.path for file in files])
            for (shape, whole), files in groupby(self._files(scan), key=lambda file: self._kind(scan, file))
        ]
        if not parts:
            return pl.LazyFrame(schema=polars_schema(scan.schema))
        return parts[0] if len(parts) == 1 else pl.concat(parts, how="vertical")

    def _look_ahead(self, scan: Scan) -> None:
        """Read the footers of files that are far away at once: one after the other, each would be waited for."""
        paths = [file.path for file in self._files(scan)] if self._open is not None else []
        if len(paths) > 1:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tidemill-footers") as pool:
                deque(pool.map(self._shape, paths), maxlen=0)

    def _files(self, scan: Scan) -> Iterator[DataFile]:
        for file in scan.files:
            if scan.batch_id is None or file.batch_id is None or file.batch_id == scan.batch_id:
                yield file

    def _kind(self, scan: Scan, file: DataFile) -> tuple[Shape, bool]:
        """What files must share to be read together: the shape, and whether all of their rows are wanted."""
        return self._shape(file.path), scan.batch_id is None or file.batch_id == scan.batch_id

    def _part(self, scan: Scan, shape: Shape, whole: bool, paths: list[str]) -> pl.LazyFrame:
        lazy = pl.scan_parquet(
            [_local(path) for path in paths],
            glob=False,
            hive_partitioning=False,
            storage_options=self._storage,
        )
        if not whole:
            held = shape.find(scan.schema.get(BATCH_ID) or Column(BATCH_ID, LONG))
            if held is None:  # rows from before batches were recorded belong to none
                return pl.LazyFrame(schema=polars_schema(scan.schema))
            lazy = lazy.filter(pl.col(held.name) == scan.batch_id)
        physical = lazy.collect_schema()
        # with_columns, not select: a select of nothing but null literals would give one row.
        changed = [e for column in scan.schema if (e := _aligned(column, shape, physical)) is not None]
        return (lazy.with_columns(changed) if changed else lazy).select(scan.schema.names)

    def _read_shape(self, path: str) -> Shape:
        source = _local(path) if self._open is None else self._open(path)
        try:
            arrow = pq.read_schema(source)
        finally:
            if self._open is not None:
                source.close()  # type: ignore[union-attr]  # a path only where there is no opener
        return Shape(tuple(PhysicalColumn(f.name, _field_id(f), str(f.type)) for f in arrow))


def _aligned(column: Column, shape: Shape, physical: pl.Schema) -> pl.Expr | None:
    """The table's column out of a file of that shape; None where the file has it just so."""
    wanted = polars_type(column.type)
    held = shape.find(column)
    if held is None:
        return pl.lit(None, dtype=wanted).alias(column.name)
    if held.name == column.name and physical[held.name] == wanted:
        return None
    return pl.col(held.name).cast(wanted).alias(column.name)


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _field_id(field: Any) -> int | None:
    found = (field.metadata or {}).get(b"PARQUET:field_id")
    return None if found is None else int(found)
