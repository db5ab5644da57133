"""Columns whose values stand in the names of folders: `day=2026-01-01/region=eu/part.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from tidemill.adapters.arrow.types import to_arrow_type
from tidemill.model.errors import DecodeError
from tidemill.model.table import Schema
from tidemill.model.types import Type
from tidemill.plan.path_columns import hive_values, joined, path_value
from tidemill.ports.decoder import Chunk, Feed


def without(tables: Mapping[str, Schema], keys: Mapping[str, Type]) -> dict[str, Schema]:
    """The tables as far as files fill them."""
    return {child: known.without(tuple(keys)) if not child else known for child, known in tables.items()}


def with_path(chunks: Iterator[Chunk], feeds: Sequence[Feed], keys: Mapping[str, Type]) -> Iterator[Chunk]:
    """Chunks with the columns of their files' paths.

    Raises:
        DecodeError: a path does not say one of them, or says what is no value of its type.
    """
    known: dict[int, dict[str, pa.Scalar]] = {}
    for chunk in chunks:
        if chunk.child:
            yield chunk
            continue
        schema = joined(chunk.schema, keys)
        if chunk.batch is None or chunk.part is None:
            yield replace(chunk, schema=schema)
            continue
        if chunk.part not in known:
            known[chunk.part] = _values(feeds[chunk.part].name, keys)
        batch = chunk.batch
        kept = [name for name in batch.schema.names if name not in keys]
        arrays = [batch.column(name) for name in kept]
        arrays += [pa.repeat(value, batch.num_rows) for value in known[chunk.part].values()]
        made = [batch.schema.field(name) for name in kept] + [pa.field(n, to_arrow_type(k)) for n, k in keys.items()]
        yield replace(chunk, schema=schema, batch=pa.RecordBatch.from_arrays(arrays, schema=pa.schema(made)))


def _values(name: str, keys: Mapping[str, Type]) -> dict[str, pa.Scalar]:
    found = hive_values(name)
    made = {}
    for key, kind in keys.items():
        if key not in found:
            raise DecodeError(
                f'The path says no "{key}".', where=name, hint=f"a folder {key}=..., or another from_path of the source"
            )
        try:
            made[key] = pa.scalar(path_value(found[key], kind), type=to_arrow_type(kind))
        except (ValueError, pa.ArrowException, OverflowError):
            raise DecodeError(f'"{found[key]}" in the path is no {kind} ("{key}").', where=name) from None
    return made
