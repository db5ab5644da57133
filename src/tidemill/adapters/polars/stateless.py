"""Steps that look at one row at a time, as Polars queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from tidemill.adapters.polars.errors import check_columns
from tidemill.adapters.polars.types import polars_type
from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import RowExpectation, Severity
from tidemill.model.frame.operation import Cast, Drop, Explode, Filter, Rename, Select, Unnest, WithColumns
from tidemill.model.frame.topic import Expect, Sink, ToDestination, ToTable, ToTopic
from tidemill.plan.check_rows import check_fits, failing_of

Stateless = Select | WithColumns | Filter | Rename | Drop | Cast | Explode | Unnest | Expect


def stateless(lazy: pl.LazyFrame, step: Stateless) -> pl.LazyFrame:
    """`lazy` with `step` done to its rows, which keep their order."""
    match step:
        case Select():
            return lazy.select(*step.columns, *named(step.named))
        case WithColumns():
            return lazy.with_columns(*step.columns, *named(step.named))
        case Filter():
            return lazy.filter(*step.conditions)
        case Rename():
            return lazy.rename(step.names)
        case Drop():
            return lazy.drop(*step.columns)
        case Cast():
            # As expressions: LazyFrame.cast overlooks columns that are not there.
            return lazy.with_columns(pl.col(name).cast(polars_type(kind)) for name, kind in step.types.items())
        case Explode():
            _check_lists(lazy, step.columns)
            return lazy.explode(*step.columns, empty_as_null=False, keep_nulls=True)
        case Unnest():
            return lazy.unnest(*step.columns)
        case Expect():
            failing = _failing(lazy, step)
            return lazy.filter(~pl.any_horizontal(failing)) if failing else lazy


def sink_columns(step: Sink) -> list[Any]:
    """The columns of its rows that a sink goes by, beside writing them all."""
    match step:
        case ToTopic():
            return [*step.key, *([] if step.chosen is None else [_chosen(step.chosen)])]
        case ToDestination():
            return [*step.key, *([] if step.order is None else [step.order])]
        case ToTable():
            keys, order = step.options.get("key") or (), step.options.get("order")
            return [*((keys,) if isinstance(keys, str) else keys), *([order] if isinstance(order, str) else [])]
    return []


def _chosen(choose: Any) -> pl.Expr:
    return (pl.col(choose) if isinstance(choose, str) else choose).cast(pl.String).alias("__tm_chosen")


def _failing(lazy: pl.LazyFrame, step: Expect) -> list[pl.Expr]:
    """Of each check that lets no row go on: which rows fail."""
    schema = lazy.collect_schema()
    for check in step.checks:
        check_columns(lazy, check.columns)
        check_fits(check, schema, f'check "{check.name}" of {step.of}')
    return [
        failing_of(check, schema)
        for check in step.checks
        if isinstance(check, RowExpectation) and check.severity is Severity.ERROR
    ]


def _check_lists(lazy: pl.LazyFrame, columns: tuple[str, ...]) -> None:
    """Polars lets other columns through an explode as they are."""
    schema = lazy.collect_schema()
    for name in columns:
        if name in schema and not isinstance(schema[name], pl.List | pl.Array):
            raise DefinitionError(
                f'explode: column "{name}" is of type {schema[name]}, not a list.',
                hint=f'f["{name}"] = f["{name}"].str.split(",") makes a list of text',
            )


def named(expressions: Mapping[str, Any]) -> list[pl.Expr]:
    """`name=expression` arguments; a text is a column's name, other plain values are themselves."""
    return [
        (value if isinstance(value, pl.Expr) else pl.col(value) if isinstance(value, str) else pl.lit(value)).alias(
            name
        )
        for name, value in expressions.items()
    ]
