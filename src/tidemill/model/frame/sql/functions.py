"""The functions of SQL that look at one row, as Polars expressions: the whole list. Names and results are DuckDB's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import polars as pl


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a function was called with.

    Args:
        refuse: raises the error for the call.
        values: the expressions. `literals`: their values where they are written out, else None.
    """

    refuse: Callable[[str], NoReturn]
    values: Sequence[pl.Expr]
    literals: Sequence[Any]

    def between(self, least: int, most: int | None) -> None:
        """See that there are so many."""
        if len(self.values) < least or (most is not None and len(self.values) > most):
            self.refuse(f"it does not take {len(self.values)} arguments")

    def text(self, at: int) -> str:
        """A text that is written out."""
        found = self.literals[at] if at < len(self.literals) else None
        return found if isinstance(found, str) else self.refuse(f"argument {at + 1} is a text, written out")

    def number(self, at: int) -> int:
        """A whole number that is written out."""
        found = self.literals[at] if at < len(self.literals) else None
        return found if isinstance(found, int) else self.refuse(f"argument {at + 1} is a whole number, written out")


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how it is called, and what it makes."""

    example: str
    make: Callable[[Arguments], pl.Expr]


def _one(make: Callable[[pl.Expr], pl.Expr]) -> Callable[[Arguments], pl.Expr]:
    def made(given: Arguments) -> pl.Expr:
        given.between(1, 1)
        return make(given.values[0])

    return made


def _float(make: Callable[[pl.Expr], pl.Expr]) -> Callable[[Arguments], pl.Expr]:
    return _one(lambda x: make(x.cast(pl.Float64)))


def _two(make: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Callable[[Arguments], pl.Expr]:
    def made(given: Arguments) -> pl.Expr:
        given.between(2, 2)
        return make(*given.values)

    return made


def _many(make: Callable[..., pl.Expr]) -> Callable[[Arguments], pl.Expr]:
    def made(given: Arguments) -> pl.Expr:
        given.between(1, None)
        return make(*given.values)

    return made


def _round(given: Arguments) -> pl.Expr:
    given.between(1, 2)
    digits = given.number(1) if len(given.values) == 2 else 0
    if digits < 0:
        given.refuse("digits are not negative")
    return given.values[0].round(digits, mode="half_away_from_zero")


def _log(given: Arguments) -> pl.Expr:
    given.between(1, 2)
    if len(given.values) == 1:
        return given.values[0].cast(pl.Float64).log10()
    base, of = (value.cast(pl.Float64) for value in given.values)
    return of.log() / base.log()


def _strip(way: str) -> Callable[[Arguments], pl.Expr]:
    def made(given: Arguments) -> pl.Expr:
        given.between(1, 2)
        stripped: pl.Expr = getattr(given.values[0].str, way)(given.text(1) if len(given.values) == 2 else " ")
        return stripped

    return made


def _substring(given: Arguments) -> pl.Expr:
    given.between(2, 3)
    start = given.number(1)
    if start == 0:
        given.refuse("characters are counted from 1")
    length = None if len(given.values) == 2 else given.number(2)
    if length is not None and length < 0:
        given.refuse("a length is not negative")
    return given.values[0].str.slice(start - 1 if start > 0 else start, length)


def _pad(way: str) -> Callable[[Arguments], pl.Expr]:
    def made(given: Arguments) -> pl.Expr:
        given.between(3, 3)
        width, mark = given.number(1), given.text(2)
        if len(mark) != 1 or width < 0:
            given.refuse("it fills up with one character")
        padded: pl.Expr = getattr(given.values[0].str, way)(width, mark)
        return padded.str.head(width)

    return made


def _replace(given: Arguments) -> pl.Expr:
    given.between(3, 3)
    old = given.text(1)
    if not old:
        return given.values[0]
    # Polars leaves a text as it is where the new one is null.
    new = given.values[2]
    return pl.when(new.is_not_null()).then(given.values[0].str.replace_all(old, new, literal=True))


def _concat_ws(given: Arguments) -> pl.Expr:
    given.between(2, None)
    return pl.concat_str(*given.values[1:], separator=given.text(0), ignore_nulls=True)


def _split_part(given: Arguments) -> pl.Expr:
    given.between(3, 3)
    mark, number = given.text(1), given.number(2)
    if not mark or number == 0:
        given.refuse("parts are divided by a text, and counted from 1")
    of = given.values[0]
    part = of.str.split(mark).list.get(number - 1 if number > 0 else number, null_on_oob=True)
    return pl.when(of.is_not_null()).then(part.fill_null(""))


def _regexp_replace(given: Arguments) -> pl.Expr:
    given.between(3, 4)
    pattern = given.text(1)
    new = re.sub(r"\\(\d)", r"${\1}", given.text(2).replace("$", "$$"))
    options = given.text(3) if len(given.values) == 4 else ""
    if options not in ("", "g"):
        given.refuse("the only option is 'g'")
    made = given.values[0].str
    return made.replace_all(pattern, new) if options else made.replace(pattern, new)


def _regexp_extract(given: Arguments) -> pl.Expr:
    given.between(2, 3)
    group = given.number(2) if len(given.values) == 3 else 0
    of = given.values[0]
    return pl.when(of.is_not_null()).then(of.str.extract(given.text(1), group).fill_null(""))


def _trunc_time(given: Arguments) -> pl.Expr:
    given.between(2, 2)
    return given.values[1].dt.truncate(_unit(given))


_STEPS = {
    "microsecond": "1us", "millisecond": "1ms", "second": "1s", "minute": "1m", "hour": "1h", "day": "1d",
    "week": "1w", "month": "1mo", "quarter": "1q", "year": "1y",
}  # fmt: skip


def _unit(given: Arguments) -> str:
    word = given.text(0).lower()
    return _STEPS.get(word) or _STEPS.get(word.removesuffix("s")) or given.refuse(f"units are {', '.join(_STEPS)}")


#: Microseconds of the units whose length is fixed.
_MICROS = {"1us": 1, "1ms": 1_000, "1s": 1_000_000, "1m": 60_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}


def _date_diff(given: Arguments) -> pl.Expr:
    """How many bounds of a unit lie between two times."""
    given.between(3, 3)
    unit, (begin, end) = _unit(given), given.values[1:]
    if unit in _MICROS:
        first, last = (one.dt.epoch("us") // _MICROS[unit] for one in (begin, end))
        return last - first
    if unit == "1w":
        given.refuse("weeks are counted in several ways; divide days by 7")
    years: pl.Expr = end.dt.year().cast(pl.Int64) - begin.dt.year().cast(pl.Int64)
    if unit == "1y":
        return years
    if unit == "1mo":
        return years * 12 + end.dt.month().cast(pl.Int64) - begin.dt.month().cast(pl.Int64)
    return years * 4 + end.dt.quarter().cast(pl.Int64) - begin.dt.quarter().cast(pl.Int64)


def _format(given: Arguments) -> pl.Expr:
    given.between(2, 2)
    return given.values[0].dt.strftime(given.text(1))


def _parse(given: Arguments) -> pl.Expr:
    given.between(2, 2)
    return given.values[0].str.to_datetime(
        given.text(1), time_unit="us", time_zone="UTC" if "%z" in given.text(1) else None
    )


def _from_epoch(seconds: pl.Expr) -> pl.Expr:
    return (seconds.cast(pl.Float64) * 1_000_000).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC"))


def _long(make: Callable[[pl.Expr], pl.Expr]) -> Callable[[pl.Expr], pl.Expr]:
    return lambda of: make(of).cast(pl.Int64)


#: Windows by name, and how they are written in GROUP BY.
WINDOWS = {
    "tumble": "tumble(ts, interval '10 seconds')",
    "hop": "hop(ts, interval '10 seconds', interval '1 minute')",
    "session": "session(ts, interval '5 minutes')",
}

#: Parts of a time, for `extract(part from x)`, `date_part('part', x)`, and as functions of their own.
PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": _long(lambda of: of.dt.year()),
    "quarter": _long(lambda of: of.dt.quarter()),
    "month": _long(lambda of: of.dt.month()),
    "week": _long(lambda of: of.dt.week()),
    "day": _long(lambda of: of.dt.day()),
    "doy": _long(lambda of: of.dt.ordinal_day()),
    "dow": _long(lambda of: of.dt.weekday() % 7),
    "isodow": _long(lambda of: of.dt.weekday()),
    "hour": _long(lambda of: of.dt.hour()),
    "minute": _long(lambda of: of.dt.minute()),
    "second": _long(lambda of: of.dt.second()),
    "millisecond": _long(lambda of: of.dt.second().cast(pl.Int64) * 1_000 + of.dt.millisecond().cast(pl.Int64)),
    "microsecond": _long(lambda of: of.dt.second().cast(pl.Int64) * 1_000_000 + of.dt.microsecond().cast(pl.Int64)),
    "epoch": lambda of: of.dt.epoch("us") / 1_000_000,
}


def _coalesce(*values: pl.Expr) -> pl.Expr:
    return pl.coalesce(*values)


def truncated(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Division that cuts off: Polars' goes down."""
    down = left // right
    return down + ((down < 0) & (left % right != 0)).cast(pl.Int8)


def remainder(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """What division that cuts off leaves: it has the sign of the left side."""
    rest = left % right
    return pl.when((rest != 0) & ((rest < 0) != (left < 0))).then(rest - right).otherwise(rest)


_LENGTH = Function("length(name)", _one(lambda x: x.str.len_chars().cast(pl.Int64)))
_CEIL = Function("ceil(x)", _float(lambda x: x.ceil()))
_LOG10 = Function("log(x), log(base, x)", _log)
_POW = Function("pow(x, 2)", _two(lambda a, b: a.cast(pl.Float64).pow(b)))
_SUBSTRING = Function("substring(name, 1, 3)", _substring)
_STARTS = Function("starts_with(name, 'A')", _two(lambda a, b: a.str.starts_with(b)))
_ENDS = Function("ends_with(name, 'A')", _two(lambda a, b: a.str.ends_with(b)))
_IFNULL = Function("ifnull(x, 0)", _two(lambda a, b: pl.coalesce(a, b)))

FUNCTIONS: dict[str, Function] = {
    # Nulls and choices
    "coalesce": Function("coalesce(x, 0)", _many(_coalesce)),
    "ifnull": _IFNULL,
    "nullif": Function("nullif(x, 0)", _two(lambda a, b: pl.when((a == b).not_() | (a == b).is_null()).then(a))),
    "greatest": Function("greatest(a, b)", _many(pl.max_horizontal)),
    "least": Function("least(a, b)", _many(pl.min_horizontal)),
    # Numbers
    "abs": Function("abs(x)", _one(lambda x: x.abs())),
    "ceil": _CEIL,
    "ceiling": _CEIL,
    "floor": Function("floor(x)", _float(lambda x: x.floor())),
    "round": Function("round(x, 2)", _round),
    "sqrt": Function("sqrt(x)", _float(lambda x: x.sqrt())),
    "cbrt": Function("cbrt(x)", _float(lambda x: x.cbrt())),
    "exp": Function("exp(x)", _float(lambda x: x.exp())),
    "ln": Function("ln(x)", _float(lambda x: x.log())),
    "log": _LOG10,
    "log10": Function("log10(x)", _float(lambda x: x.log10())),
    "log2": Function("log2(x)", _float(lambda x: x.log(2))),
    "pow": _POW,
    "power": _POW,
    "mod": Function("mod(x, 2)", _two(remainder)),
    "isnan": Function("isnan(x)", _one(lambda x: x.is_nan())),
    "isinf": Function("isinf(x)", _one(lambda x: x.is_infinite())),
    "isfinite": Function("isfinite(x)", _one(lambda x: x.is_finite())),
    # Text
    "upper": Function("upper(name)", _one(lambda x: x.str.to_uppercase())),
    "ucase": Function("ucase(name)", _one(lambda x: x.str.to_uppercase())),
    "lower": Function("lower(name)", _one(lambda x: x.str.to_lowercase())),
    "lcase": Function("lcase(name)", _one(lambda x: x.str.to_lowercase())),
    "length": _LENGTH,
    "len": _LENGTH,
    "char_length": _LENGTH,
    "trim": Function("trim(name)", _strip("strip_chars")),
    "ltrim": Function("ltrim(name)", _strip("strip_chars_start")),
    "rtrim": Function("rtrim(name)", _strip("strip_chars_end")),
    "substring": _SUBSTRING,
    "substr": _SUBSTRING,
    "left": Function("left(name, 3)", lambda given: given.values[0].str.head(given.number(1))),
    "right": Function("right(name, 3)", lambda given: given.values[0].str.tail(given.number(1))),
    "lpad": Function("lpad(code, 5, '0')", _pad("pad_start")),
    "rpad": Function("rpad(code, 5, ' ')", _pad("pad_end")),
    "replace": Function("replace(name, 'a', 'b')", _replace),
    "reverse": Function("reverse(name)", _one(lambda x: x.str.reverse())),
    "concat": Function("concat(a, b)", _many(lambda *values: pl.concat_str(*values, ignore_nulls=True))),
    "concat_ws": Function("concat_ws('-', a, b)", _concat_ws),
    "contains": Function("contains(name, 'A')", _two(lambda a, b: a.str.contains(b, literal=True))),
    "starts_with": _STARTS,
    "prefix": _STARTS,
    "ends_with": _ENDS,
    "suffix": _ENDS,
    "split_part": Function("split_part(path, '/', 1)", _split_part),
    "regexp_matches": Function("regexp_matches(name, '^A')", lambda given: given.values[0].str.contains(given.text(1))),
    "regexp_replace": Function("regexp_replace(name, '[0-9]+', '', 'g')", _regexp_replace),
    "regexp_extract": Function("regexp_extract(name, '([a-z]+)', 1)", _regexp_extract),
    # Times
    "date_trunc": Function("date_trunc('hour', ts)", _trunc_time),
    "date_diff": Function("date_diff('day', a, b)", _date_diff),
    "datediff": Function("datediff('day', a, b)", _date_diff),
    "strftime": Function("strftime(ts, '%Y-%m')", _format),
    "strptime": Function("strptime(text, '%Y-%m-%d')", _parse),
    "to_timestamp": Function("to_timestamp(seconds)", _one(_from_epoch)),
    "epoch_ms": Function("epoch_ms(ts)", _one(lambda of: of.dt.epoch("ms"))),
    "epoch_us": Function("epoch_us(ts)", _one(lambda of: of.dt.epoch("us"))),
    "dayofweek": Function("dayofweek(ts)", _one(PARTS["dow"])),
    "dayofyear": Function("dayofyear(ts)", _one(PARTS["doy"])),
    **{name: Function(f"{name}(ts)", _one(make)) for name, make in PARTS.items() if name not in ("doy", "dow")},
}
