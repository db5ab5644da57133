"""The limits of `DecodeOptions` for formats that unpack inside the file (Avro, Parquet), and their errors."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.normal import is_list
from tidemill.model.errors import LimitError
from tidemill.ports.decoder import DecodeOptions, Feed

#: A ratio means nothing on little data: below this many unpacked bytes it is not judged.
RATIO_FROM = 64 << 20

_kinds = pa.types


class Budget:
    """How many bytes a feed may still unpack to."""

    def __init__(self, feed: Feed, options: DecodeOptions) -> None:
        self._feed = feed
        self._unpacked = options.max_unpacked
        self._ratio = options.max_ratio
        self._spent = 0

    @property
    def left(self) -> int:
        """Bytes that may still come."""
        return int(min(self._unpacked, self._by_ratio)) - self._spent

    @property
    def _by_ratio(self) -> float:
        return max(self._ratio * max(self._feed.bytes, 1), RATIO_FROM)

    def spend(self, size: int, *, by_ratio: bool = True) -> None:
        """Count unpacked bytes. `by_ratio` False judges only their number.

        Raises:
            LimitError: they are too many.
        """
        self._spent += size
        if self._spent > self._unpacked or (by_ratio and self.left < 0):
            raise self.exceeded()

    def exceeded(self) -> LimitError:
        """The error for more bytes than `left`."""
        feed = self._feed
        if self._unpacked <= self._by_ratio or self._spent > self._unpacked:
            amount, limit = f"more than {self._unpacked:,} bytes", "max_unpacked"
        else:
            amount, limit = f"more than {self._ratio:g} times its size", "max_ratio"
        return LimitError(
            f"{feed.name} ({feed.bytes:,} bytes) unpacks to {amount}.",
            where=feed.name,
            hint=f"raise {limit} if this file is meant to be so large",
        )


def too_many_columns(name: str, options: DecodeOptions) -> LimitError:
    """The error for a schema with more columns than `max_columns`; those within structs count."""
    return LimitError(
        f"{name} has more than {options.max_columns:,} columns.",
        where=name,
        hint="raise max_columns if it is meant to be so wide",
    )


def too_deep(name: str, options: DecodeOptions) -> LimitError:
    """The error for a schema that is nested deeper than `max_depth`."""
    return LimitError(
        f"{name} has columns that are nested more than {options.max_depth} levels deep.",
        where=name,
        hint="raise max_depth if they are meant to be",
    )


def check_sizes(batch: pa.RecordBatch, options: DecodeOptions, where: str) -> None:
    """Refuse a batch in which one text or binary value has more bytes than `max_field`.

    Raises:
        LimitError: names the column.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.nbytes > options.max_field and (found := _longest(column)) > options.max_field:
            raise LimitError(
                f'A value of column "{name}" has {found:,} bytes; at most {options.max_field:,} are read.',
                where=where,
                hint="raise max_field if such values are meant to be",
            )


def _longest(array: Any) -> int:
    kind = array.type
    if _kinds.is_struct(kind):
        return max((_longest(field) for field in array.flatten()), default=0)
    if _kinds.is_map(kind):
        return max(_longest(array.keys), _longest(array.items))
    if is_list(kind):
        return _longest(array.flatten())
    if _kinds.is_string(kind) or _kinds.is_binary(kind):
        return int(pc.max(pc.binary_length(array)).as_py() or 0)
    return 0
