"""From checks to one query, and from its figures to results. Builds lazy Polars frames; runs none.

All checks of a table are collected together: the row conditions and counts are aggregates of a single `select`,
uniqueness and references are group-bys and joins over the same scan, which Polars then reads once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tidemill.model.errors import UnknownName
from tidemill.model.expectation import (
    Expectation,
    Figure,
    FigureExpectation,
    Measured,
    Of,
    ReferencesExpectation,
    RowExpectation,
    UniqueExpectation,
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The frames that checks look at: the batch's rows, the whole table, and tables that are referred to."""

    batch: pl.LazyFrame
    whole: pl.LazyFrame
    others: Mapping[str, pl.LazyFrame]

    def of(self, check: Expectation) -> pl.LazyFrame:
        """The rows that a check looks at."""
        return self.batch if check.of is Of.BATCH else self.whole


def check_columns(checks: Sequence[Expectation], known: Sequence[str], table: str) -> None:
    """Raise `UnknownName` for a check on a column that the table does not have."""
    for check in checks:
        for column in check.columns:
            if column not in known:
                raise UnknownName.of("column", column, known, where=f'check "{check.name}" of {table}')


def queries(checks: Sequence[Expectation], tables: Tables) -> list[pl.LazyFrame]:
    """The lazy frames to collect together; `measured` reads their results in the same order."""
    made: list[pl.LazyFrame] = []
    for of in Of:
        aggregates = [a for i, c in enumerate(checks) if c.of is of for a in _aggregates(i, c)]
        made.append((tables.batch if of is Of.BATCH else tables.whole).select(aggregates) if aggregates else _NOTHING)
    for check in checks:
        if isinstance(check, UniqueExpectation):
            counts = _complete(tables.of(check), check.on).group_by(check.on).agg(n=pl.len())
            made.append(counts.select(rows=pl.col("n").sum(), failed=pl.col("n").filter(pl.col("n") > 1).sum()))
        elif isinstance(check, ReferencesExpectation):
            given = _complete(tables.of(check), check.on)
            missing = _missing(given, check, tables)
            made.append(pl.concat([given.select(n=pl.len()), missing.select(n=pl.len())]))
    return made


_NOTHING = pl.LazyFrame({"nothing": [None]})


def _aggregates(number: int, check: Expectation) -> list[pl.Expr]:
    """The aggregates of a check that can share one `select`."""
    if isinstance(check, RowExpectation):
        condition = check.condition
        return [condition.is_not_null().sum().alias(f"{number} rows"), condition.sum().alias(f"{number} passed")]
    if isinstance(check, FigureExpectation):
        if check.figure is Figure.ROWS:
            return [pl.len().alias(f"{number} figure")]
        assert check.column is not None
        return [pl.col(check.column).max().alias(f"{number} figure"), pl.len().alias(f"{number} rows")]
    return []


def _complete(frame: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
    """Rows with a value in each of `columns`; only these columns."""
    return frame.select(columns).drop_nulls()


def _missing(given: pl.LazyFrame, check: ReferencesExpectation, tables: Tables) -> pl.LazyFrame:
    other = tables.others[check.table].select(check.their).unique()
    return given.join(other, left_on=list(check.on), right_on=list(check.their), how="anti")


def measured(checks: Sequence[Expectation], results: Sequence[pl.DataFrame], moment: datetime) -> list[Measured]:
    """Read the results of `queries`.

    Args:
        checks: as given to `queries`.
        results: the collected frames, in order.
        moment: the end of the run's interval, or now: ages are counted back from it.
    """
    shared: dict[str, Any] = {}
    for frame in results[: len(Of)]:
        shared |= frame.row(0, named=True)
    rest = iter(results[len(Of) :])
    found: list[Measured] = []
    for number, check in enumerate(checks):
        if isinstance(check, RowExpectation):
            rows = int(shared[f"{number} rows"] or 0)
            found.append(Measured(rows, rows - int(shared[f"{number} passed"] or 0)))
        elif isinstance(check, FigureExpectation):
            found.append(_figure(check, shared, number, moment))
        elif isinstance(check, UniqueExpectation):
            counts = next(rest).row(0, named=True)
            found.append(Measured(int(counts["rows"] or 0), int(counts["failed"] or 0)))
        else:
            given, missing = next(rest)["n"].to_list()
            found.append(Measured(given, missing))
    return found


def _figure(check: FigureExpectation, shared: Mapping[str, Any], number: int, moment: datetime) -> Measured:
    value = shared[f"{number} figure"]
    if check.figure is Figure.ROWS:
        return Measured(value, figure=float(value))
    rows = int(shared[f"{number} rows"])
    if value is None:
        return Measured(rows)
    newest = value if isinstance(value, datetime) else datetime.combine(value, datetime.min.time())
    # Naive times are taken for UTC here, and only here: an age needs a zone.
    age = moment - (newest if newest.tzinfo else newest.replace(tzinfo=UTC))
    return Measured(rows, figure=age.total_seconds())


def passed(check: Expectation, found: Measured) -> bool:
    """Whether a check is met by what was found."""
    if isinstance(check, FigureExpectation):
        if found.figure is None:
            return False
        low = check.minimum is None or found.figure >= check.minimum
        return low and (check.maximum is None or found.figure <= check.maximum)
    if check.max_failed is not None:
        return found.failed <= check.max_failed
    return found.rows == 0 or (found.rows - found.failed) / found.rows >= check.mostly


def observed(check: Expectation, found: Measured) -> str:
    """What was found, in words for a report."""
    if isinstance(check, FigureExpectation):
        if check.figure is Figure.ROWS:
            return f"{found.rows:,} rows"
        return "no value" if found.figure is None else f"{timedelta(seconds=round(found.figure))} old"
    if not found.failed:
        return f"{found.rows:,} rows"
    return f"{found.failed:,} of {found.rows:,} rows ({found.failed / found.rows:.2%})"


def failing(check: Expectation, tables: Tables) -> pl.LazyFrame | None:
    """The rows that fail a check, all columns; None for figures."""
    frame = tables.of(check)
    if isinstance(check, RowExpectation):
        return frame.filter(~check.condition)
    if isinstance(check, UniqueExpectation):
        twice = _complete(frame, check.on).group_by(check.on).agg(n=pl.len()).filter(pl.col("n") > 1).drop("n")
        return frame.join(twice, on=list(check.on), how="semi")
    if isinstance(check, ReferencesExpectation):
        return frame.drop_nulls(list(check.on)).join(
            tables.others[check.table].select(check.their).unique(),
            left_on=list(check.on),
            right_on=list(check.their),
            how="anti",
        )
    return None
