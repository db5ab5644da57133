"""From checks to one query, and from its figures to results. Builds lazy Polars frames; runs none.

All checks of a table are one lazy query whose single row has all their counts: sub-plans side by side, one `select`
of aggregates for the batch and one for the whole table, a group-by for each uniqueness, an anti join for each
reference. Each reads its own columns only. Holding one scan of all columns for them (Polars' `cache`) took as long and
twice the memory: 920 MB against 470, 8 million rows of 12 columns. Rows that failed are another query, asked by check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from tidemill.model.errors import UnknownName
from tidemill.model.expectation import (
    ConditionExpectation,
    Expectation,
    Figure,
    FigureExpectation,
    Measured,
    Of,
    ReferencesExpectation,
    RowExpectation,
    UniqueExpectation,
)
from tidemill.plan.check_rows import check_fits, condition_of, gives_one_value

#: The column of a key's number of rows; no table has a column of that name.
_SIZE = "rows of the key"


@dataclass(frozen=True, slots=True)
class Tables:
    """The frames that checks look at: the batch's rows, the whole table, and tables that are referred to."""

    batch: pl.LazyFrame
    whole: pl.LazyFrame
    others: Mapping[str, pl.LazyFrame]

    def of(self, check: Expectation) -> pl.LazyFrame:
        """The rows that a check looks at."""
        return self.batch if check.of is Of.BATCH else self.whole


def check_columns(checks: Sequence[Expectation], tables: Tables, table: str) -> None:
    """See that checks fit the columns of their table, and of the tables that they refer to, before rows are read.

    Raises:
        UnknownName: a table lacks a column.
        DefinitionError: a type does not fit, a pattern is no regular expression, an expression is not boolean.
    """
    schema = tables.whole.collect_schema()
    for check in checks:
        where = f'check "{check.name}" of {table}'
        for column in check.columns:
            if column not in schema:
                raise UnknownName.of("column", column, schema, where=where)
        if isinstance(check, ReferencesExpectation):
            other = tables.others[check.table].collect_schema()
            for column in check.their:
                if column not in other:
                    raise UnknownName.of(f"column of {check.table}", column, other, where=where)
        check_fits(check, schema, where)


def query(checks: Sequence[Expectation], tables: Tables) -> pl.LazyFrame:
    """The query of all checks; `measured` reads its row."""
    schema = tables.whole.collect_schema()
    parts: list[pl.LazyFrame] = []
    for of in Of:
        aggregates = [a for i, c in enumerate(checks) if c.of is of for a in _aggregates(i, c, schema)]
        if aggregates:
            parts.append((tables.batch if of is Of.BATCH else tables.whole).select(aggregates))
    for number, check in enumerate(checks):
        if isinstance(check, UniqueExpectation):
            sizes = _sizes(tables.of(check), check.on, any_set=True)
            parts.append(
                sizes.select(_counts(number, pl.col(_SIZE).sum(), pl.col(_SIZE).filter(pl.col(_SIZE) > 1).sum()))
            )
        elif isinstance(check, ReferencesExpectation):
            sizes = _sizes(tables.of(check), check.on, any_set=False)
            missing = sizes.join(_keys(check, tables), on=check.on, how="anti")
            parts.append(sizes.select(pl.col(_SIZE).sum().cast(pl.Int64).alias(f"{number} rows")))
            parts.append(missing.select(pl.col(_SIZE).sum().cast(pl.Int64).alias(f"{number} failed")))
    return pl.concat(parts, how="horizontal") if parts else pl.LazyFrame()


def _aggregates(number: int, check: Expectation, schema: pl.Schema) -> list[pl.Expr]:
    """The aggregates of a check that can share one `select`."""
    if isinstance(check, RowExpectation):
        condition = condition_of(check, schema)
        return _counts(number, condition.is_not_null().sum(), (~condition).sum())
    if isinstance(check, FigureExpectation):
        rows = pl.len().cast(pl.Int64).alias(f"{number} rows")
        return [rows, pl.col(check.column).max().alias(f"{number} newest")] if check.column else [rows]
    return []


def _counts(number: int, rows: pl.Expr, failed: pl.Expr) -> list[pl.Expr]:
    return [rows.cast(pl.Int64).alias(f"{number} rows"), failed.cast(pl.Int64).alias(f"{number} failed")]


def _sizes(frame: pl.LazyFrame, columns: Sequence[str], *, any_set: bool) -> pl.LazyFrame:
    """How many rows have each key; keys that are null in all columns (`any_set`), or in any, are left out."""
    parts = [pl.col(c).is_not_null() for c in columns]
    placed = frame.filter(pl.any_horizontal(parts) if any_set else pl.all_horizontal(parts))
    return placed.group_by(columns).agg(pl.len().alias(_SIZE))


def _keys(check: ReferencesExpectation, tables: Tables) -> pl.LazyFrame:
    """The keys that exist, named and typed as the checked columns; one that their type cannot hold is never meant."""
    schema = tables.whole.collect_schema()
    pairs = zip(check.on, check.their, strict=True)
    keys = [pl.col(theirs).cast(schema[own], strict=False).alias(own) for own, theirs in pairs]
    return tables.others[check.table].select(keys).unique()


def measured(checks: Sequence[Expectation], result: pl.DataFrame, moment: datetime) -> list[Measured]:
    """Read the result of `query`.

    Args:
        checks: as given to `query`.
        result: its row.
        moment: the end of the run's interval, or now: ages are counted back from it.
    """
    row = result.row(0, named=True) if result.height else {}
    return [_measured(check, number, row, moment) for number, check in enumerate(checks)]


def _measured(check: Expectation, number: int, row: Mapping[str, Any], moment: datetime) -> Measured:
    rows = int(row[f"{number} rows"] or 0)
    if not isinstance(check, FigureExpectation):
        return Measured(rows, int(row[f"{number} failed"] or 0))
    if check.figure is Figure.ROWS:
        return Measured(rows, figure=float(rows))
    value = row[f"{number} newest"]
    if value is None:
        return Measured(rows)
    newest = value if isinstance(value, datetime) else datetime.combine(value, datetime.min.time())
    # Naive times are taken for UTC here, and only here: an age needs a zone.
    age = moment - (newest if newest.tzinfo else newest.replace(tzinfo=UTC))
    return Measured(rows, figure=age.total_seconds())


def failing(check: Expectation, tables: Tables) -> pl.LazyFrame | None:
    """The rows that fail a check, all columns, in the table's order; None where no single row is to blame."""
    frame = tables.of(check)
    schema = tables.whole.collect_schema()
    if isinstance(check, RowExpectation):
        if isinstance(check, ConditionExpectation) and gives_one_value(check, schema):
            return None
        return frame.filter(~condition_of(check, schema))
    if isinstance(check, UniqueExpectation):
        twice = _sizes(frame, check.on, any_set=True).filter(pl.col(_SIZE) > 1)
        return frame.join(twice, on=list(check.on), how="semi", nulls_equal=True, maintain_order="left")
    if isinstance(check, ReferencesExpectation):
        complete = frame.filter(pl.all_horizontal(pl.col(c).is_not_null() for c in check.on))
        return complete.join(_keys(check, tables), on=list(check.on), how="anti", maintain_order="left")
    return None
