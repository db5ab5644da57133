"""JSONPaths over Arrow columns: a user's own mapping of nested rows to columns. Between a reader and the contract.

The part of RFC 9535 that names places: `$`, `.name`, `['any name']`, `[0]`, `[-1]`, `[*]`. A path is followed for all
rows of a batch at once. Two things differ from the RFC, because columns keep no difference between a member that is
missing and one that is null: both are null here, and `$.items[*].sku` has a null for an item without `sku`, so that
lists of several paths keep their positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.normal import is_list, list_of, list_offsets
from tidemill.plan.jsonpath import CompiledPaths, Each, Step, compile_paths

__all__ = ["CompiledPaths", "Each", "Step", "compile_paths", "project"]


def project(batch: pa.RecordBatch, compiled: CompiledPaths) -> pa.RecordBatch:
    """Follow the paths in every row of `batch`.

    Returns:
        A batch of as many rows, with one column for each path. A place that a row lacks gives null. A path with `[*]`
        gives lists (null where the first list is missing; lists within lists are joined into one). Where a path
        cannot lead anywhere in the batch's types, the values' type is Arrow's null: a later block may have them.
    """
    rows = batch.to_struct_array()
    columns = [_follow(rows, steps) for _, steps in compiled]
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.nulls(batch.num_rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, names=[column for column, _ in compiled])


def _follow(rows: Any, steps: tuple[Step, ...]) -> Any:
    values = rows
    lists: _Lists | None = None
    for step in steps:
        if isinstance(step, Each):
            if not is_list(values.type):
                if lists is None:
                    return pa.nulls(len(rows))
                # No element has a list here; in a later block one may, and the rows must not depend on the cut.
                values = pa.nulls(len(values), pa.list_(pa.null()))
            inner = _Lists.of(values)
            lists = inner if lists is None else lists.joined(inner)
            values = values.flatten()
        elif isinstance(step, str):
            values = _member(values, step)
        else:
            values = _element(values, step)
    return values if lists is None else lists.around(values)


@dataclass(frozen=True, slots=True)
class _Lists:
    """Where each row's elements stand in the array of all elements: row i has `offsets[i]` up to `offsets[i + 1]`."""

    offsets: Any
    missing: Any

    @classmethod
    def of(cls, array: Any) -> _Lists:
        """The lists of a list array, as they stand in its `flatten()`: a null list has no elements there."""
        return cls(list_offsets(array), array.is_null())

    def joined(self, inner: _Lists) -> _Lists:
        """The lists of each row's lists, put one after the other."""
        return _Lists(inner.offsets.take(self.offsets), self.missing)

    def around(self, values: Any) -> Any:
        return pa.ListArray.from_arrays(self.offsets, values, type=list_of(values.type), mask=self.missing)


def _member(values: Any, name: str) -> Any:
    """The member `name` of structs; also the entry of maps, which is what a JSON object is in Avro and Parquet."""
    if pa.types.is_struct(values.type):
        at = values.type.get_field_index(name)
        # `flatten` puts the struct's own nulls and offset into its fields; `field` would not.
        return pa.nulls(len(values)) if at < 0 else values.flatten()[at]
    if pa.types.is_map(values.type) and pa.types.is_string(values.type.key_type):
        return pc.map_lookup(values, pa.scalar(name), "last")
    return pa.nulls(len(values))


def _element(values: Any, index: int) -> Any:
    """Element `index` of lists; null where a list is shorter."""
    if not is_list(values.type):
        return pa.nulls(len(values))
    offsets = list_offsets(values)
    starts, ends = offsets[:-1], offsets[1:]
    wanted = pc.add(starts if index >= 0 else ends, pa.scalar(index, pa.int64()))
    inside = pc.and_(pc.greater_equal(wanted, starts), pc.less(wanted, ends))
    return values.flatten().take(pc.if_else(inside, wanted, None))
