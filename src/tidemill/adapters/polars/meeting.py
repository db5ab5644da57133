"""Where rows of different columns come together: the type that holds what each side has, and how to get there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl


class NoMeeting(Exception):
    """Two types of one column that no type holds both of; a number and a text, say."""

    def __init__(self, column: str, one: pl.DataType, other: pl.DataType) -> None:
        super().__init__(f"{one}, {other}")
        self.column = column


def meet(schemas: Sequence[pl.Schema]) -> pl.Schema:
    """All columns that occur, each in a type that holds what every side has.

    Raises:
        NoMeeting: there is none.
    """
    met: dict[str, pl.DataType] = {}
    for schema in schemas:
        for name, dtype in schema.items():
            wider = _wider(met.get(name, pl.Null()), dtype)
            if wider is None:
                raise NoMeeting(name, met[name], dtype)
            met[name] = wider
    return pl.Schema(met)


def align(lazy: pl.LazyFrame, found: pl.Schema, wanted: pl.Schema) -> pl.LazyFrame:
    """Rows of columns `found` as rows of columns `wanted`, which `meet` gave."""
    if found == wanted:
        return lazy
    columns = [
        pl.lit(None, dtype=dtype).alias(name) if name not in found else pl.col(name).cast(dtype)
        for name, dtype in wanted.items()
        if found.get(name) != dtype
    ]
    return lazy.with_columns(columns).select(wanted.names())


def _wider(a: Any, b: Any) -> pl.DataType | None:
    """A type that holds the values of both; None where there is none."""
    found: pl.DataType | None = None
    if a == b or b == pl.Null():
        found = a
    elif a == pl.Null():
        found = b
    elif isinstance(a, pl.List) and isinstance(b, pl.List):
        inner = _wider(a.inner, b.inner)
        found = None if inner is None else pl.List(inner)
    elif isinstance(a, pl.Struct) and isinstance(b, pl.Struct):
        found = _wider_struct(a, b)
    elif isinstance(a, pl.Datetime) and isinstance(b, pl.Datetime):
        found = pl.Datetime("us", a.time_zone) if a.time_zone == b.time_zone else None
    elif a.is_numeric() and b.is_numeric():
        both = [pl.DataFrame(schema={"x": dtype}) for dtype in (a, b)]
        found = pl.concat(both, how="vertical_relaxed").schema["x"]
    return found


def _wider_struct(a: pl.Struct, b: pl.Struct) -> pl.DataType | None:
    members: dict[str, Any] = {f.name: f.dtype for f in a.fields}
    for field in b.fields:
        wider = _wider(members.get(field.name, pl.Null()), field.dtype)
        if wider is None:
            return None
        members[field.name] = wider
    return pl.Struct(members)
