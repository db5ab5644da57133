"""Expectations: what must hold for a table's rows, as frozen values. `plan/check.py` turns them into one query.

A row check judges each row and counts those that fail; rows for which it has no answer (null) are left out, as in Great
Expectations, unless `null_fails`. A table check judges the table. A check passes where few enough rows fail: none by
default, up to `max_failed` rows, or so many that `mostly`, a share of the judged rows, still pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, Unpack

from tidemill.model.errors import DefinitionError, UnknownName

if TYPE_CHECKING:
    import polars as pl


class Severity(StrEnum):
    """What a failed check does to its run."""

    #: The run fails and nothing is published.
    ERROR = "error"
    #: It is recorded and shown; the run goes on.
    WARN = "warn"


class Scope(StrEnum):
    """Which rows of a table are meant."""

    #: Those of this run's batch.
    BATCH = "batch"
    #: All, as the run's branch has them.
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class _Check:
    """What all checks have.

    Args:
        name: unique among the table's checks; made from the check where it is empty.
        severity: what a failure does.
        scope: the rows that are judged.
    """

    _: KW_ONLY
    name: str = ""
    severity: Severity = Severity.ERROR
    scope: Scope = Scope.WHOLE

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", _member(Severity, "severity", self.severity))
        object.__setattr__(self, "scope", _member(Scope, "scope", self.scope))
        object.__setattr__(self, "name", self.name or self._title())

    def _title(self) -> str:
        raise AssertionError("each check has a title")

    @property
    def expected(self) -> str:
        """What must hold, in one line."""
        return self._title()


@dataclass(frozen=True, slots=True)
class _Counting(_Check):
    """A check that counts failing rows.

    Args:
        mostly: the least share of the judged rows that must pass, above 0 up to 1.
        max_failed: how many may fail; given instead of `mostly`.
    """

    _: KW_ONLY
    mostly: float = 1.0
    max_failed: int | None = None

    def __post_init__(self) -> None:
        _Check.__post_init__(self)
        if not 0 <= self.mostly <= 1:
            raise DefinitionError(f'Check "{self.name}": mostly={self.mostly} is no share between 0 and 1.')
        if self.max_failed is not None and (self.max_failed < 0 or self.mostly != 1.0):
            raise DefinitionError(
                f'Check "{self.name}": max_failed={self.max_failed} is negative, or stands beside mostly.',
                hint="mostly=0.99 or max_failed=10",
            )

    def tolerates(self, rows: int, failed: int) -> bool:
        """True where `failed` of `rows` judged rows are few enough."""
        if self.max_failed is not None:
            return failed <= self.max_failed
        return rows == 0 or (rows - failed) / rows >= self.mostly

    @property
    def expected(self) -> str:
        """What must hold, in one line."""
        if self.max_failed is not None:
            return f"{self._title()}, at most {self.max_failed} rows fail"
        return self._title() if self.mostly == 1.0 else f"{self._title()}, at least {self.mostly:g} of the rows pass"


@dataclass(frozen=True, slots=True)
class _RowCheck(_Counting):
    """A check of each row; `null_fails` makes a row without an answer a failing one."""

    _: KW_ONLY
    scope: Scope = Scope.BATCH
    null_fails: bool = False


@dataclass(frozen=True, slots=True)
class Expression(_RowCheck):
    """A boolean Polars expression is true. One that gives a single value for all rows is judged once."""

    expr: pl.Expr = field(compare=False, kw_only=False)
    text: str = field(default="", kw_only=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", str(self.expr))
        _Counting.__post_init__(self)

    def _title(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class NotNull(_Counting):
    """Columns have values; a row fails where one of them has none. NaN is a value."""

    columns: tuple[str, ...]
    _: KW_ONLY
    scope: Scope = Scope.BATCH

    def _title(self) -> str:
        return f"not_null({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True)
class InSet(_RowCheck):
    """A column's values are among `values`; None admits all, an empty tuple none."""

    column: str
    values: tuple[Any, ...] | None

    def _title(self) -> str:
        shown = "anything" if self.values is None else ", ".join(map(repr, self.values[:5]))
        more = ", ..." if self.values is not None and len(self.values) > 5 else ""
        return f"in_set({self.column}: {shown}{more})"


@dataclass(frozen=True, slots=True)
class Between(_RowCheck):
    """A column's values are between two bounds, either of which may be open. NaN never is."""

    column: str
    min: Any = None
    max: Any = None
    _: KW_ONLY
    strict_min: bool = False
    strict_max: bool = False

    def __post_init__(self) -> None:
        _Counting.__post_init__(self)
        if self.min is None and self.max is None:
            raise DefinitionError(f'Check "{self.name}" has neither min nor max.')

    def _title(self) -> str:
        left = "" if self.min is None else f"{self.min} {'<' if self.strict_min else '<='} "
        right = "" if self.max is None else f" {'<' if self.strict_max else '<='} {self.max}"
        return f"between({left}{self.column}{right})"


@dataclass(frozen=True, slots=True)
class Matches(_RowCheck):
    """A regular expression is found in a column's text (anchor it with ^ and $ to match all of it).

    The syntax is that of Rust's regex crate, which has no look-around and no back-references.
    """

    column: str
    pattern: str

    def _title(self) -> str:
        return f"matches({self.column}: {self.pattern})"


@dataclass(frozen=True, slots=True)
class Unique(_Counting):
    """No two rows have the same values in `columns`. Rows with null in all of them are left out."""

    columns: tuple[str, ...]

    def _title(self) -> str:
        return f"unique({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True)
class References(_Counting):
    """Values of `columns` exist in `to_columns` of the table `to`. Rows with null in one of them are left out.

    `to` is "pipeline.table", or a table of the same pipeline.
    """

    columns: tuple[str, ...]
    to: str
    to_columns: tuple[str, ...]

    def _title(self) -> str:
        return f"references({', '.join(self.columns)} -> {self.to}: {', '.join(self.to_columns)})"


@dataclass(frozen=True, slots=True)
class RowCount(_Check):
    """The number of rows is between two bounds, either of which may be open."""

    min: int | None = field(default=None, kw_only=False)
    max: int | None = field(default=None, kw_only=False)

    def __post_init__(self) -> None:
        _Check.__post_init__(self)
        bounds: tuple[Any, ...] = (self.min, self.max)
        for bound in bounds:
            if bound is not None and (not isinstance(bound, int) or bound < 0):
                raise DefinitionError(f"row_count: {bound!r} is no number of rows.")

    def _title(self) -> str:
        if self.min == self.max and self.min is not None:
            return f"row_count({self.min})"
        return f"row_count({'' if self.min is None else self.min}..{'' if self.max is None else self.max})"


@dataclass(frozen=True, slots=True)
class FreshWithin(_Check):
    """The newest value of a time column is not older than `within`. Naive times are UTC, a date is its midnight.

    A table without rows is not fresh.
    """

    column: str = field(kw_only=False)
    within: timedelta = field(kw_only=False)

    def _title(self) -> str:
        return f"fresh_within({self.column}: {self.within})"


#: Any check.
Check: TypeAlias = "Expression | NotNull | InSet | Between | Matches | Unique | References | RowCount | FreshWithin"
#: A check that counts failing rows.
Counting: TypeAlias = "Expression | NotNull | InSet | Between | Matches | Unique | References"


class Options(TypedDict, total=False):
    """What every check may be given; see `_Check`."""

    name: str
    severity: Severity | str
    scope: Scope | str


class CountingOptions(Options, total=False):
    """What checks that count failing rows may be given, too; see `_Counting`."""

    mostly: float
    max_failed: int | None


class RowOptions(CountingOptions, total=False):
    """What row checks may be given, too."""

    null_fails: bool


def expect(expr: pl.Expr, **options: Unpack[RowOptions]) -> Expression:
    """`expr` is true for every row: `expect(tm.col("dep_delay") > -60, name="delay_is_sane", mostly=0.99)`."""
    return _made(Expression, "expect", options, expr)


def not_null(*columns: str, **options: Unpack[CountingOptions]) -> NotNull:
    """`columns` have values."""
    return _made(NotNull, "not_null", options, _some("not_null", columns))


def in_set(column: str, values: Iterable[Any] | None, **options: Unpack[RowOptions]) -> InSet:
    """The values of `column` are among `values`."""
    if isinstance(values, str):
        raise DefinitionError(f'in_set("{column}", "{values}") wants a list of values.', hint=f'["{values}"]')
    return _made(InSet, "in_set", options, column, None if values is None else tuple(values))


def between(
    column: str,
    min: Any = None,
    max: Any = None,
    *,
    strict_min: bool = False,
    strict_max: bool = False,
    **options: Unpack[RowOptions],
) -> Between:
    """The values of `column` are from `min` to `max`, the bound itself left out where it is strict."""
    strict = {"strict_min": strict_min, "strict_max": strict_max}
    return _made(Between, "between", {**options, **strict}, column, min, max)


def matches(column: str, pattern: str, **options: Unpack[RowOptions]) -> Matches:
    """The regular expression `pattern` is found in the text of `column`."""
    return _made(Matches, "matches", options, column, pattern)


def unique(*columns: str, **options: Unpack[CountingOptions]) -> Unique:
    """No two rows have the same values in `columns`."""
    return _made(Unique, "unique", options, _some("unique", columns))


def references(
    columns: str | Iterable[str],
    to: str,
    to_columns: str | Iterable[str] | None = None,
    **options: Unpack[CountingOptions],
) -> References:
    """The values of `columns` exist in the table `to`, in columns of the same names unless `to_columns` says others."""
    mine = _some("references", (columns,) if isinstance(columns, str) else tuple(columns))
    theirs = mine if to_columns is None else (to_columns,) if isinstance(to_columns, str) else tuple(to_columns)
    if len(mine) != len(theirs):
        raise DefinitionError(f"references: {len(mine)} columns cannot refer to {len(theirs)}.")
    return _made(References, "references", options, mine, to, theirs)


def row_count(
    min: int | None = None, max: int | None = None, *, equal: int | None = None, **options: Unpack[Options]
) -> RowCount:
    """The number of rows is from `min` to `max`, or just `equal`."""
    if equal is not None and (min is not None or max is not None):
        raise DefinitionError("row_count: equal stands alone, without min and max.")
    return _made(RowCount, "row_count", options, min if equal is None else equal, max if equal is None else equal)


def fresh_within(column: str, within: timedelta | str, **options: Unpack[Options]) -> FreshWithin:
    """The newest value of `column` is not older than `within`: a timedelta, or text such as "26h" or "1d12h"."""
    return _made(FreshWithin, "fresh_within", options, column, _duration(within) if isinstance(within, str) else within)


_C = TypeVar("_C", bound=_Check)


def _made(kind: type[_C], word: str, options: Mapping[str, Any], *values: Any) -> _C:
    """A check, after a look at the names of its options."""
    known = [f.name for f in fields(kind) if f.kw_only]
    for name in options:
        if name not in known:
            raise UnknownName.of(f"option of {word}", name, known)
    return kind(*values, **options)


_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+)\s*([dhms])", text)
    if not parts or "".join(n + u for n, u in parts) != re.sub(r"\s", "", text):
        raise DefinitionError(f'"{text}" is no duration.', hint='"26h", "1d12h", "90m"')
    return timedelta(**{_UNITS[unit]: int(number) for number, unit in parts})


def _some(word: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    if not columns or not all(isinstance(c, str) for c in columns):
        raise DefinitionError(f"{word} wants names of columns.", hint=f'{word}("id")')
    return columns


def _member(kind: type[StrEnum], what: str, value: str) -> StrEnum:
    known = [str(member) for member in kind]
    if value not in known:
        raise UnknownName.of(what, value, known)
    return kind(value)
