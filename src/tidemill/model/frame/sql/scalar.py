"""Expressions of SQL as Polars expressions, with SQL's null and DuckDB's results where types do not decide.

Columns' types are not known where a query is written, so what depends on them is Polars' affair: a text does not
become a number by being compared with one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
from sqlglot import exp

from tidemill.model.frame.sql.functions import FUNCTIONS, PARTS, WINDOWS, Arguments, remainder, truncated
from tidemill.model.frame.sql.text import Text

#: A user's function called with expressions; None: there is none of that name.
Called = Callable[[exp.Anonymous, "list[pl.Expr]"], "pl.Expr | None"]
#: A column for a part of the query that was computed before; None: it was not.
Known = Callable[[exp.Expr], "pl.Expr | None"]

_TYPES: dict[exp.DType, pl.DataType] = {
    exp.DType.BOOLEAN: pl.Boolean(), exp.DType.TINYINT: pl.Int8(), exp.DType.SMALLINT: pl.Int16(),
    exp.DType.INT: pl.Int32(), exp.DType.BIGINT: pl.Int64(), exp.DType.FLOAT: pl.Float32(),
    exp.DType.DOUBLE: pl.Float64(), exp.DType.TEXT: pl.String(), exp.DType.VARCHAR: pl.String(),
    exp.DType.DATE: pl.Date(), exp.DType.TIME: pl.Time(), exp.DType.TIMESTAMP: pl.Datetime("us"),
    exp.DType.TIMESTAMPNTZ: pl.Datetime("us"), exp.DType.TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    exp.DType.VARBINARY: pl.Binary(),
}  # fmt: skip
_READ: dict[exp.DType, Callable[[str], Any]] = {
    exp.DType.DATE: date.fromisoformat,
    exp.DType.TIME: time.fromisoformat,
    exp.DType.TIMESTAMP: lambda text: datetime.fromisoformat(text).replace(tzinfo=None),
    exp.DType.TIMESTAMPNTZ: lambda text: datetime.fromisoformat(text).replace(tzinfo=None),
    exp.DType.TIMESTAMPTZ: lambda text: _aware(datetime.fromisoformat(text)),
}
_UNITS = {
    "microsecond": "us", "millisecond": "ms", "second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w",
    "month": "mo", "quarter": "q", "year": "y",
}  # fmt: skip
_FIXED = {
    "us": timedelta(microseconds=1), "ms": timedelta(milliseconds=1), "s": timedelta(seconds=1),
    "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1),
}  # fmt: skip
_HINT = "with_columns, filter and map_rows do what SQL here does not"


class Scalars:
    """Makes expressions of a query's parts.

    Args:
        text: of the query.
        tables: names by which its rows are called: `self.speed` is `speed`.
        called: for users' functions.
        known: for parts that were computed before: keys and aggregates.
    """

    def __init__(self, text: Text, tables: Iterable[str], called: Called, known: Known = lambda node: None) -> None:
        self._text = text
        self._tables = frozenset(tables)
        self._called = called
        self._known = known

    def make(self, node: exp.Expr) -> pl.Expr:
        """The expression for a part. Raises DefinitionError where it is nothing that frames have."""
        found = self._known(node)
        return self._made(node) if found is None else found

    def condition(self, node: exp.Expr) -> pl.Expr:
        """A part that is true or false: a bare null is neither."""
        return pl.lit(None, dtype=pl.Boolean) if isinstance(node.unnest(), exp.Null) else self.make(node)

    def column(self, node: exp.Column) -> pl.Expr:
        """A column, or a field of one: names are taken as they are written."""
        parts = [part.name for part in node.parts]
        if len(parts) > 1 and parts[0] in self._tables:
            parts = parts[1:]
        made = pl.col(parts[0])
        for name in parts[1:]:
            made = made.struct.field(name)
        return made

    def _made(self, node: exp.Expr) -> pl.Expr:
        match node:
            case exp.Column() if not isinstance(node.this, exp.Star):
                return self.column(node)
            case exp.Paren():
                return self.make(node.this)
            case exp.Literal():
                return pl.lit(_literal(node))
            case exp.Boolean():
                return pl.lit(bool(node.this))
            case exp.Null():
                return pl.lit(None)
            case exp.Neg():
                return -self.make(node.this)
            case exp.Not():
                return ~self.make(node.this)
            case exp.Add() | exp.Sub():
                return self._sum(node)
            case exp.Is():
                return self._is(node)
            case exp.In():
                return self._in(node)
            case exp.Between():
                return self.make(node.this).is_between(self.make(node.args["low"]), self.make(node.args["high"]))
            case exp.Like() | exp.ILike() | exp.Escape():
                return self._like(node)
            case exp.Case():
                return self._case(node)
            case exp.If():
                return self._when([node], node.args.get("false"))
            case exp.Cast():
                return self._cast(node)
            case exp.Extract():
                return self._part(node, str(node.this.name).lower(), self.make(node.expression))
            case exp.Anonymous():
                return self._call(node)
            case exp.Binary() if type(node) in _BINARY:
                return _BINARY[type(node)](self.make(node.left), self.make(node.right))
        return self._refused(node)

    def _refused(self, node: exp.Expr) -> pl.Expr:
        match node:
            case exp.Window():
                what, hint = "OVER looks at other rows", "a window: group by tumble(time, interval '1 hour')"
            case exp.Subquery() | exp.Select() | exp.Exists():
                what, hint = "a query within an expression is not for frames", "f.join_lookup(other, on=...)"
            case exp.Star() | exp.Column():
                what, hint = "* stands first in SELECT, or in count(*)", "select *, speed * 3.6 as kmh from self"
            case exp.Interval():
                what, hint = "an interval is added to a time", "ts + interval '1 hour'"
            case exp.Placeholder() | exp.Parameter():
                what, hint = "there are no parameters", 'write the value: f.sql(f"... {number}")'
            case exp.CurrentTimestamp() | exp.CurrentDate() | exp.CurrentTime():
                what, hint = "the time of now changes from run to run", "a column with a time"
            case _:
                what, hint = f"{self._text.written(node)} is not for frames", _HINT
        self._text.refuse(node, what, hint)

    def _sum(self, node: exp.Binary) -> pl.Expr:
        left, right = node.left, node.right
        if isinstance(left, exp.Interval) and isinstance(node, exp.Add):
            left, right = right, left
        made = self.make(left)
        if isinstance(right, exp.Interval):
            sign = "-" if isinstance(node, exp.Sub) else ""
            return made.dt.offset_by("".join(f"{sign}{count}{unit}" for count, unit in self._interval(right)))
        other = self.make(right)
        return made + other if isinstance(node, exp.Add) else made - other

    def _interval(self, node: exp.Interval) -> list[tuple[int, str]]:
        """An interval's numbers and units, as Polars writes these."""
        inner = node.this.unnest() if isinstance(node.this, exp.Expr) else node.this
        unit = node.args.get("unit")
        text = f"{inner.name} {unit.name}" if unit is not None else inner.name if inner is not None else ""
        parts = re.findall(r"(\d+)\s*([a-zA-Z]+)", text)
        units = [_UNITS.get(word.lower().removesuffix("s")) for _, word in parts]
        if not parts or None in units or not re.fullmatch(r"(?:\s*\d+\s*[a-zA-Z]+)+\s*", text):
            self._text.refuse(node, f"{self._text.written(node)} is no interval", "interval '90 seconds'")
        return [(int(count), str(unit)) for (count, _), unit in zip(parts, units, strict=True)]

    def duration(self, node: exp.Expr) -> timedelta:
        """An interval of one length."""
        parts = self._interval(node) if isinstance(node, exp.Interval) else [(0, "mo")]
        if any(unit not in _FIXED for _, unit in parts) or not any(count for count, _ in parts):
            self._text.refuse(node, f"{self._text.written(node)} is no interval of one length", "interval '10 seconds'")
        return sum((count * _FIXED[unit] for count, unit in parts), timedelta())

    def _is(self, node: exp.Is) -> pl.Expr:
        made = self.make(node.this)
        if isinstance(node.expression, exp.Null):
            return made.is_null()
        if isinstance(node.expression, exp.Boolean):
            return made.eq_missing(pl.lit(bool(node.expression.this)))
        return self._refused(node)

    def _in(self, node: exp.In) -> pl.Expr:
        if not node.expressions:
            self._text.refuse(node, "IN takes a list of values", "carrier in ('AA', 'DL')")
        made = self.make(node.this)
        others = [self.make(one) for one in node.expressions if not isinstance(one, exp.Null)]
        # One comparison after the other: null, where none is equal and one is null, as SQL has it.
        found = pl.lit(False) if not others else made == others[0]
        for other in others[1:]:
            found = found | (made == other)
        return found if len(others) == len(node.expressions) else found | pl.lit(None, dtype=pl.Boolean)

    def _like(self, node: exp.Expr) -> pl.Expr:
        escape = ""
        if isinstance(node, exp.Escape):
            escape, node = str(node.expression.name), node.this
        if not isinstance(node, exp.Like | exp.ILike) or not _is_text(node.expression) or len(escape) > 1:
            self._text.refuse(node, "LIKE takes a text", "name like 'A%'")
        flags = "(?is)" if isinstance(node, exp.ILike) else "(?s)"
        found = self.make(node.this).str.contains(f"{flags}^{_pattern(node.expression.name, escape)}$")
        return ~found if node.args.get("negate") else found

    def _case(self, node: exp.Case) -> pl.Expr:
        return self._when(node.args["ifs"], node.args.get("default"), node.this)

    def _when(self, ifs: list[exp.Expr], default: exp.Expr | None, of: Any = None) -> pl.Expr:
        value = None if of is None else self.make(of)
        chain: Any = pl
        for one in ifs:
            condition = self.condition(one.this) if value is None else value == self.make(one.this)
            chain = chain.when(condition).then(self.make(one.args["true"]))
        made: pl.Expr = chain.otherwise(pl.lit(None) if default is None else self.make(default))
        return made

    def _cast(self, node: exp.Cast) -> pl.Expr:
        to = node.args["to"]
        kind = _TYPES.get(to.this)
        if to.this == exp.DType.DECIMAL:
            kind = pl.Decimal(*(int(one.name) for one in to.expressions))
        if kind is None:
            self._text.refuse(node, f"{to} is no type of a column", "bigint, double, varchar, boolean, date, timestamp")
        if _is_text(node.this) and to.this in _READ:
            try:
                return pl.lit(_READ[to.this](node.this.name), dtype=kind)
            except ValueError:
                self._text.refuse(node, f"{node.this} is no {to}", "timestamp '2026-01-31 12:00:00'")
        return self.make(node.this).cast(kind, strict=not isinstance(node, exp.TryCast))

    def _part(self, node: exp.Expr, part: str, of: pl.Expr) -> pl.Expr:
        made = PARTS.get(part) or PARTS.get(part.removesuffix("s"))
        if made is None:
            self._text.refuse(node, f'"{part}" is no part of a time', ", ".join(PARTS))
        return made(of)

    def _call(self, node: exp.Anonymous) -> pl.Expr:
        name = str(node.this).lower()
        given = node.expressions
        if name in ("date_part", "datepart") and len(given) == 2 and _is_text(given[0]):
            return self._part(node, given[0].name.lower(), self.make(given[1]))
        if name in WINDOWS:
            self._text.refuse(node, f"{name} stands in GROUP BY", f"select window_start, ... group by {WINDOWS[name]}")
        function = FUNCTIONS.get(name)
        if function is None:
            values = [self.make(one) for one in given]
            called = self._called(node, values)
            if called is not None:
                return called
            near = difflib.get_close_matches(name, [*FUNCTIONS, *WINDOWS], n=2, cutoff=0.75)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f'functions={{"{node.this}": {node.this}}} brings yours in'
            )
            self._text.refuse(node, f'there is no function "{node.this}"', hint)
        arguments = Arguments(
            lambda what: self._text.refuse(node, f"{name}: {what}", function.example),
            [self.make(one) for one in given],
            [_literal(one.unnest()) if _is_literal(one) else None for one in given],
        )
        return function.make(arguments)


_BINARY: dict[type[exp.Expr], Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    exp.Mul: lambda a, b: a * b,
    exp.Div: lambda a, b: a / b,
    exp.IntDiv: truncated,
    exp.Mod: remainder,
    exp.Pow: lambda a, b: a.cast(pl.Float64).pow(b),
    exp.DPipe: lambda a, b: pl.concat_str(a, b),
    exp.EQ: lambda a, b: a == b,
    exp.NEQ: lambda a, b: a != b,
    exp.GT: lambda a, b: a > b,
    exp.GTE: lambda a, b: a >= b,
    exp.LT: lambda a, b: a < b,
    exp.LTE: lambda a, b: a <= b,
    exp.NullSafeEQ: lambda a, b: a.eq_missing(b),
    exp.NullSafeNEQ: lambda a, b: a.ne_missing(b),
    exp.And: lambda a, b: a & b,
    exp.Or: lambda a, b: a | b,
}


def _is_text(node: Any) -> bool:
    return isinstance(node, exp.Literal) and bool(node.is_string)


def _is_literal(node: exp.Expr) -> bool:
    inner = node.unnest()
    return isinstance(inner, exp.Literal) or (isinstance(inner, exp.Neg) and isinstance(inner.this, exp.Literal))


def _literal(node: Any) -> Any:
    if isinstance(node, exp.Neg):
        return -_literal(node.this)
    text = str(node.this)
    if node.is_string:
        return text
    return int(text) if text.isdigit() else float(text)


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _pattern(text: str, escape: str) -> str:
    """A pattern of LIKE as a regular expression."""
    found, marks = [], iter(text)
    for mark in marks:
        if escape and mark == escape:
            found.append(re.escape(next(marks, "")))
        else:
            found.append({"%": ".*", "_": "."}.get(mark) or re.escape(mark))
    return "".join(found)
