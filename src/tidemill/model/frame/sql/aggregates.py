"""Aggregates of SQL as those of frames: which there are, and what their results become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
from sqlglot import exp

from tidemill.model import agg
from tidemill.model.frame.sql.text import Text

#: Those of one argument, by name.
_SIMPLE: dict[str, Callable[[str], agg.Aggregate]] = {
    "avg": agg.mean, "mean": agg.mean, "min": agg.min, "max": agg.max, "count": agg.count, "sum": agg.sum,
    "first": agg.first, "last": agg.last, "median": agg.median, "stddev": agg.std, "stddev_samp": agg.std,
    "list": agg.collect, "array_agg": agg.collect,
}  # fmt: skip
_QUANTILES = ("quantile", "quantile_cont")
#: Those that see nulls: a row that FILTER leaves out would be one.
_SEE_NULLS = ("first", "last", "list", "array_agg")


def is_aggregate(node: exp.Expr) -> bool:
    """Whether a part of a query is an aggregate."""
    return isinstance(node, exp.Anonymous) and str(node.this).lower() in (*_SIMPLE, *_QUANTILES)


class Aggregates:
    """The aggregates of a query.

    Args:
        text: of the query.
        name: makes up names of columns.
        column: puts a part of the query into a column; gives its name.
        make: makes an expression of a part.
    """

    def __init__(
        self,
        text: Text,
        name: Callable[[], str],
        column: Callable[[exp.Expr | pl.Expr], str],
        make: Callable[[exp.Expr], pl.Expr],
    ) -> None:
        self._text = text
        self._name = name
        self._column = column
        self._make = make
        #: What to compute, by name.
        self.wanted: dict[str, agg.Aggregate] = {}
        self._results: dict[str, pl.Expr] = {}

    def add(self, node: exp.Expr, condition: exp.Expr | None) -> pl.Expr:
        """Have an aggregate computed; gives what its result is made of."""
        key = f"{self._text.same(node)} filter {'' if condition is None else self._text.same(condition)}"
        if key not in self._results:
            self._results[key] = self._added(node, condition)
        return self._results[key]

    def _added(self, node: exp.Expr, condition: exp.Expr | None) -> pl.Expr:
        name, given = str(node.this).lower(), list(node.expressions)
        if name in _QUANTILES:
            share = given.pop() if len(given) == 2 else None
            if not isinstance(share, exp.Literal) or share.is_string or not 0 <= float(share.this) <= 1:
                self._text.refuse(node, f"{name} takes a share that is written out", f"{name}(x, 0.95)")
            q = float(share.this)
            return self._put(node, name, given, condition, lambda of: agg.quantile(of, q))
        return self._put(node, name, given, condition, _SIMPLE[name])

    def _put(
        self,
        node: exp.Expr,
        name: str,
        given: list[exp.Expr],
        condition: exp.Expr | None,
        make: Callable[[str], agg.Aggregate],
    ) -> pl.Expr:
        if len(given) > 1:
            self._text.refuse(node, f"{name} takes one argument", f"{name}(x)")
        if condition is not None and name in _SEE_NULLS:
            self._text.refuse(node, f"{name} with FILTER would see nulls", f"{name}(x) after where ...")
        of = given[0] if given else exp.Star()
        if isinstance(of, exp.Distinct):
            if name != "count" or len(of.expressions) != 1:
                self._text.refuse(node, "DISTINCT is for count(distinct x) only", "count(distinct x)")
            of, make = of.expressions[0], agg.n_unique
        if isinstance(of, exp.Order):
            self._text.refuse(node, f"{name} goes by the order of rows", f"{name}(x)")
        if isinstance(of, exp.Star):
            if name != "count":
                self._text.refuse(node, f"{name} takes a column", f"{name}(x)")
            if condition is None:
                return self._wanted(agg.count())
            return self._wanted(agg.count(self._column(pl.when(self._make(condition)).then(pl.lit(1)))))
        if condition is not None:
            column = self._column(pl.when(self._make(condition)).then(self._make(of)))
        else:
            column = self._column(of)
        result = self._wanted(make(column))
        if name == "sum":  # of nothing it is null in SQL, 0 in frames
            return pl.when(self._wanted(agg.count(column)) > 0).then(result)
        return result

    def _wanted(self, value: agg.Aggregate) -> pl.Expr:
        name = self._name()
        self.wanted[name] = value
        return pl.col(name)


def filtered(node: exp.Expr) -> tuple[exp.Expr, exp.Expr | None] | None:
    """An aggregate and its FILTER; None: the part is no aggregate."""
    if isinstance(node, exp.Filter) and is_aggregate(node.this):
        condition: Any = node.expression
        return node.this, condition.this if isinstance(condition, exp.Where) else condition
    return (node, None) if is_aggregate(node) else None
