"""Checks: what a table's rows are expected to be. `tm.not_null("id")`, `tm.expect(tm.col("delay") > 0)`.

Four kinds are enough: a condition on rows, uniqueness of keys, keys that another table must have, and a figure of the
whole table. Their semantics follow Great Expectations: a row whose value is null is left out before a condition is
looked at (not for `not_null`, and not with `null_fails`), and `mostly` is the least share of the rows that are looked
at that must pass. `plan/check.py` turns them into a query; Polars is needed here for the user's own expressions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import DefinitionError
from tidemill.model.timetable import parse_duration

if TYPE_CHECKING:
    import polars


class Severity(StrEnum):
    """What a failing check does."""

    #: The run fails; `main` stays as it was.
    ERROR = "error"
    #: It is reported.
    WARN = "warn"


class Of(StrEnum):
    """Which rows a check looks at."""

    #: Those of the run's batch.
    BATCH = "batch"
    #: All rows of the table, as the run would publish it.
    WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What all checks have.

    Args:
        name: unique within a table.
        severity: what a failure does.
        mostly: least share of rows that must pass.
        max_failed: most rows that may fail; it replaces `mostly`.
        of: which rows are looked at.
    """

    name: str
    severity: Severity = Severity.ERROR
    mostly: float = 1.0
    max_failed: int | None = None
    of: Of = Of.BATCH

    def __post_init__(self) -> None:
        if not 0 <= self.mostly <= 1:
            raise DefinitionError(f'Check "{self.name}": mostly={self.mostly} is no share.', hint="0 to 1")
        if self.max_failed is not None and self.max_failed < 0:
            raise DefinitionError(f'Check "{self.name}": max_failed={self.max_failed} is no count.', hint="0 or more")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the check names."""
        return ()

    @property
    def expected(self) -> str:
        """What is expected, in words for a report."""
        return self.name

    @property
    def threshold(self) -> str:
        """How much may fail, in words; empty where nothing may."""
        if self.max_failed is not None:
            return f"at most {self.max_failed:,} rows"
        return f"mostly {self.mostly:g}" if self.mostly < 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowExpectation(Expectation):
    """A condition on each row: true, false, or null (the row is left out; with `null_fails` it fails)."""

    on: tuple[str, ...] = ()
    null_fails: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Expectation`."""
        return self.on


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionExpectation(RowExpectation):
    """A boolean Polars expression is true. One that gives a single value for all rows is judged once."""

    condition: polars.Expr = field(repr=False, compare=False)
    #: The expression as text, by which two checks are compared.
    text: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Expectation`."""
        return tuple(self.condition.meta.root_names())


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNullExpectation(RowExpectation):
    """There is a value in each of the columns. NaN is a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InSetExpectation(RowExpectation):
    """A value is among `values`; None allows every value, an empty set none."""

    values: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BetweenExpectation(RowExpectation):
    """A value lies between two bounds, included unless strict; None: no bound there. NaN lies nowhere."""

    minimum: Any = None
    maximum: Any = None
    strict_min: bool = False
    strict_max: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchesExpectation(RowExpectation):
    """A regular expression is found in a value's text (anchored by ^ and $: it is all of it)."""

    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueExpectation(Expectation):
    """No two rows have the same values in these columns; rows with null in all of them are left out."""

    on: tuple[str, ...]
    of: Of = Of.WHOLE

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Expectation`."""
        return self.on


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencesExpectation(Expectation):
    """Every value, or combination of values, exists in another table; rows with null in one of them are left out."""

    on: tuple[str, ...]
    table: str
    their: tuple[str, ...]
    of: Of = Of.WHOLE

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Expectation`."""
        return self.on


class Figure(StrEnum):
    """A figure of many rows."""

    #: How many rows there are.
    ROWS = "rows"
    #: How long before the end of the interval (or now) the newest value of a time column lies, in seconds.
    AGE = "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureExpectation(Expectation):
    """A figure lies between two bounds, both included; None: no bound."""

    figure: Figure
    minimum: float | None = None
    maximum: float | None = None
    column: str | None = None
    of: Of = Of.WHOLE

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Expectation`."""
        return (self.column,) if self.column else ()

    @property
    def expected(self) -> str:
        """See `Expectation`."""
        if self.figure is Figure.AGE:
            return f"at most {timedelta(seconds=self.maximum or 0)} old"
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:,.0f} to {self.maximum:,.0f} rows"
        return f"at least {self.minimum:,.0f} rows" if self.minimum is not None else f"at most {self.maximum:,.0f} rows"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a check found: rows looked at, rows that failed, and for figures the figure itself."""

    rows: int
    failed: int = 0
    figure: float | None = None


def _named(columns: tuple[str, ...], check: str) -> tuple[str, ...]:
    if not columns or not all(isinstance(c, str) for c in columns):
        raise DefinitionError(f"{check} needs the names of columns.", hint='one or several, such as "id"')
    return columns


def _common(name: str | None, default: str, options: dict[str, Any], *more: str) -> dict[str, Any]:
    """The arguments that all checks have, and `more`, read from a user's call."""
    known = {"severity", "mostly", "max_failed", "of", *more}
    for option in options:
        if option not in known:
            raise DefinitionError(f'A check has no option "{option}".', hint=", ".join(sorted(known)))
    made: dict[str, Any] = {"name": name or default, **options}
    for option, kind in (("severity", Severity), ("of", Of)):
        if option in made:
            try:
                made[option] = kind(made[option])
            except ValueError:
                known_values = " or ".join(f'"{m.value}"' for m in kind)
                raise DefinitionError(f'{option}="{made[option]}" is unknown.', hint=known_values) from None
    return made


def expect(condition: Any, *, name: str | None = None, **options: Any) -> ConditionExpectation:
    """Expect a boolean expression to be true of each row: `tm.expect(tm.col("dep_delay") < 1500)`.

    Args:
        condition: a Polars expression; a row where it is null is left out.
        name: what reports call it; left out, the expression's text.
        options: `severity` ("error", "warn"), `mostly`, `max_failed`, `of` ("batch", "whole"), `null_fails`.
    """
    import polars

    if not isinstance(condition, polars.Expr):
        raise DefinitionError(
            f"expect takes an expression, not a {type(condition).__name__}.", hint='tm.expect(tm.col("x") > 0)'
        )
    text = str(condition)
    common = _common(name, f"expect({text[:80]})", options, "null_fails")
    return ConditionExpectation(condition=condition, text=text, **common)


def expect_sql(condition: str, *, name: str | None = None, **options: Any) -> ConditionExpectation:
    """The same for a condition of SQL: `amount > 0 AND currency IN ('EUR', 'USD')`.

    Raises:
        DefinitionError: it cannot be read.
    """
    import polars

    try:
        return expect(polars.sql_expr(condition), name=name or condition[:80], **options)
    except polars.exceptions.PolarsError as error:
        raise DefinitionError(f"The condition cannot be read: {str(error).splitlines()[0]}.") from None


def not_null(*columns: str, name: str | None = None, **options: Any) -> NotNullExpectation:
    """Expect a value in each of `columns`; options as for `expect`."""
    on = _named(columns, "not_null")
    return NotNullExpectation(on=on, **_common(name, f"not_null({', '.join(on)})", options))


def unique(*columns: str, name: str | None = None, **options: Any) -> UniqueExpectation:
    """Expect no two rows of the table with the same values in `columns`; options as for `expect`."""
    on = _named(columns, "unique")
    return UniqueExpectation(on=on, **_common(name, f"unique({', '.join(on)})", options))


def in_set(column: str, values: Iterable[Any] | None, *, name: str | None = None, **options: Any) -> InSetExpectation:
    """Expect values of `column` to be among `values`; None allows every value, an empty set none."""
    on = _named((column,), "in_set")
    if isinstance(values, str):
        raise DefinitionError(f'in_set("{column}", "{values}") needs a list of values.', hint=f'["{values}"]')
    listed = None if values is None else tuple(values)
    shown = "any" if listed is None else ", ".join(str(v) for v in listed[:5]) + (", ..." if len(listed) > 5 else "")
    common = _common(name, f"in_set({column}: {shown})", options, "null_fails")
    return InSetExpectation(on=on, values=listed, **common)


def between(
    column: str,
    minimum: Any = None,
    maximum: Any = None,
    *,
    strict_min: bool = False,
    strict_max: bool = False,
    name: str | None = None,
    **options: Any,
) -> BetweenExpectation:
    """Expect values of `column` from `minimum` to `maximum`, bounds included unless strict; None: no bound there.

    Bounds of a time column may be text: "2013-01-01", "2013-01-01T06:00".
    """
    if minimum is None and maximum is None:
        raise DefinitionError(f'between("{column}") has no bound.', hint="minimum=0, maximum=100, or one of them")
    return BetweenExpectation(
        on=_named((column,), "between"),
        minimum=minimum,
        maximum=maximum,
        strict_min=strict_min,
        strict_max=strict_max,
        **_common(name, f"between({column}, {minimum}, {maximum})", options, "null_fails"),
    )


def matches(column: str, pattern: str, *, name: str | None = None, **options: Any) -> MatchesExpectation:
    """Expect values of `column` to contain a match of the regular expression `pattern`.

    The dialect is Rust's, which has no look-around and no back-references.
    """
    on = _named((column,), "matches")
    common = _common(name, f"matches({column}, {pattern})", options, "null_fails")
    return MatchesExpectation(on=on, pattern=pattern, **common)


def references(
    column: str | tuple[str, ...] | list[str],
    table: str,
    their: str | tuple[str, ...] | list[str] | None = None,
    *,
    name: str | None = None,
    **options: Any,
) -> ReferencesExpectation:
    """Expect values of `column` to exist in `their` column of `table` (left out: the same name)."""
    on = (column,) if isinstance(column, str) else tuple(column)
    other = on if their is None else (their,) if isinstance(their, str) else tuple(their)
    if len(on) != len(other):
        raise DefinitionError(f"references: {len(on)} columns cannot refer to {len(other)}.")
    default = f"references({', '.join(on)} -> {table}.{', '.join(other)})"
    common = _common(name, default, options)
    return ReferencesExpectation(on=_named(on, "references"), table=table, their=other, **common)


def row_count(
    minimum: int | None = None, maximum: int | None = None, *, name: str | None = None, **options: Any
) -> FigureExpectation:
    """Expect the table (or with `of="batch"` the batch) to have between `minimum` and `maximum` rows."""
    if minimum is None and maximum is None:
        raise DefinitionError("row_count has no bound.", hint="minimum=1")
    bounds: tuple[Any, ...] = (minimum, maximum)
    for bound in bounds:
        if bound is not None and (not isinstance(bound, int) or bound < 0):
            raise DefinitionError(f"row_count: {bound!r} is no number of rows.", hint="minimum=1, maximum=1000")
    default = f"row_count({'' if minimum is None else minimum}..{'' if maximum is None else maximum})"
    return FigureExpectation(figure=Figure.ROWS, minimum=minimum, maximum=maximum, **_common(name, default, options))


def fresh_within(column: str, age: str | timedelta, *, name: str | None = None, **options: Any) -> FigureExpectation:
    """Expect the newest value of a time column to be at most `age` ("2h", "1d") before the end of the run's interval.

    Runs without an interval are judged by the clock. Counting from the interval keeps replays equal.
    """
    within = parse_duration(age)
    return FigureExpectation(
        figure=Figure.AGE,
        maximum=within.total_seconds(),
        column=column,
        **_common(name, f"fresh_within({column}, {within})", options),
    )
