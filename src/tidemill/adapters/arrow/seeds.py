"""Types for records that will be taken apart, from the tables that they become.

Which part of a record becomes which column is not worked out a second time: a record that holds, at each place, the
number of that place is taken apart like any other, and the numbers say where they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa

from tidemill.adapters.arrow.normal import list_of
from tidemill.model.types import List, Map, Struct, Type
from tidemill.plan.known import Known

#: Where a value stands in records: `("items", "element", "sku")`; a map has `key` and `value`.
Path: TypeAlias = tuple[str, ...]
#: Takes records apart into tables by child suffix.
Split: TypeAlias = Callable[[pa.RecordBatch], Mapping[str, pa.RecordBatch]]
#: Types of columns, by child suffix and name.
Kinds: TypeAlias = Mapping[tuple[str, str], Type]


def leaf_paths(records: Known) -> set[Path]:
    """Every place of the records that holds scalars, as far as they are known."""
    return {path for column in records.columns for path, _ in _leaves(column.type, (column.name,))}


def seeds_of(records: Known, split: Split, kinds: Kinds) -> dict[Path, Type]:
    """The types that the places of records have in the tables, for those that the tables know."""
    if not records.columns:
        return {}
    paths: list[Path] = []
    made = [_numbered(column.type, (column.name,), paths) for column in records.columns]
    probe = pa.RecordBatch.from_arrays(
        [pa.array([value], kind) for kind, value in made], names=[column.name for column in records.columns]
    )
    seeds: dict[Path, Type] = {}
    for child, table in split(probe).items():
        for name, column in zip(table.schema.names, table.columns, strict=True):
            kind = kinds.get((child, name))
            if kind is not None and len(column):
                for number, scalar in _matched(column[0].as_py(), kind):
                    seeds.setdefault(paths[number], scalar)
    return seeds


def with_seeds(records: Known, seeds: Mapping[Path, Type]) -> Known:
    """`records` with the types of some places replaced."""
    if not seeds:
        return records
    columns = tuple(replace(c, type=_replaced(c.type, (c.name,), seeds)) for c in records.columns)
    return replace(records, columns=columns)


def _leaves(kind: Type, path: Path) -> Iterator[tuple[Path, Type]]:
    parts = _parts(kind)
    if not parts:
        yield path, kind
    for name, part in parts:
        yield from _leaves(part, (*path, name))


def _parts(kind: Type) -> tuple[tuple[str, Type], ...]:
    if isinstance(kind, Struct):
        return kind.fields
    if isinstance(kind, List):
        return (("element", kind.element),)
    return (("key", kind.key), ("value", kind.value)) if isinstance(kind, Map) else ()


def _numbered(kind: Type, path: Path, paths: list[Path]) -> tuple[pa.DataType, Any]:
    """An Arrow type of the form of `kind`, and its value that holds the numbers of its places, as text."""
    made = {name: _numbered(part, (*path, name), paths) for name, part in _parts(kind)}
    if isinstance(kind, Struct) and made:
        return pa.struct([(n, t) for n, (t, _) in made.items()]), {n: value for n, (_, value) in made.items()}
    if isinstance(kind, List):
        return list_of(made["element"][0]), [made["element"][1]]
    if isinstance(kind, Map):
        return pa.map_(pa.string(), made["value"][0]), [(str(made["key"][1]), made["value"][1])]
    paths.append(path)
    return pa.string(), str(len(paths) - 1)


def _matched(value: Any, kind: Type) -> Iterator[tuple[int, Type]]:
    """The numbers in a value, each with the scalar type that a column has there."""
    if isinstance(kind, Struct) and isinstance(value, dict):
        for name, part in kind.fields:
            yield from _matched(value.get(name), part)
    elif isinstance(kind, List) and isinstance(value, list):
        for each in value:
            yield from _matched(each, kind.element)
    elif isinstance(value, str) and not _parts(kind):
        yield int(value), kind


def _replaced(kind: Type, path: Path, seeds: Mapping[Path, Type]) -> Type:
    if isinstance(kind, Struct) and kind.fields:
        return Struct(tuple((name, _replaced(part, (*path, name), seeds)) for name, part in kind.fields))
    if isinstance(kind, List):
        return List(_replaced(kind.element, (*path, "element"), seeds))
    if isinstance(kind, Map):
        return Map(kind.key, _replaced(kind.value, (*path, "value"), seeds))
    return seeds.get(path, kind)
