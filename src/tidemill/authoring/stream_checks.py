"""Checks of topics and streams as users declare them: those that judge a row by itself; the others are refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import (
    ConditionExpectation,
    Expectation,
    Figure,
    FigureExpectation,
    Of,
    ReferencesExpectation,
    RowExpectation,
    Severity,
    UniqueExpectation,
    expect,
)


def read_checks(given: Iterable[Any] | None, of: str) -> tuple[Expectation, ...]:
    """The checks of a topic or a stream: expectations, or boolean expressions.

    Raises:
        DefinitionError: one cannot be judged row by row, or two have one name.
    """
    if given is None:
        return ()
    if isinstance(given, Expectation) or not isinstance(given, Iterable):
        raise DefinitionError("checks= takes a list.", where=here(), hint='checks=[tm.not_null("id")]')
    made = tuple(one if isinstance(one, Expectation) else expect(one) for one in given)
    for check in made:
        _see_row_by_row(check)
    names = [check.name for check in made]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DefinitionError(f'{of} has two checks named "{twice}".', where=here(), hint="name= names a check")
    return made


def _see_row_by_row(check: Expectation) -> None:
    if not isinstance(check, RowExpectation):
        raise DefinitionError(
            f'Check "{check.name}" is about many rows, and a stream has no end at which to count them.',
            where=here(),
            hint=_instead(check),
        )
    if check.of is Of.WHOLE:
        raise DefinitionError(
            f'Check "{check.name}": a stream judges each row once, there is no whole table.',
            where=here(),
            hint='leave of="whole" out',
        )
    if check.threshold and check.severity is Severity.ERROR:
        raise DefinitionError(
            f'Check "{check.name}": whether a row goes on cannot depend on how many others fail ({check.threshold}).',
            where=here(),
            hint='severity="warn" lets rows go on, and holds the share of all rows against it',
        )
    if isinstance(check, ConditionExpectation) and not check.columns:
        raise DefinitionError(f'Check "{check.name}" looks at no column.', where=here(), hint='tm.col("x") > 0')


def _instead(check: Expectation) -> str:
    """The verb that does it."""
    match check:
        case UniqueExpectation():
            keys = ", ".join(f'"{name}"' for name in check.on)
            return f'f.unique([{keys}], within="1h", on=time) lets the first row of a key through'
        case ReferencesExpectation():
            return f'f.join_lookup(tm.whole("{check.table}"), on=...), then tm.not_null of one of its columns'
        case FigureExpectation(figure=Figure.ROWS):
            return 'f.tumbling_window("1h", on=time).agg(n=tm.agg.count()).final(), then tm.between("n", ...)'
    return 'tm.expect(tm.col("received") - tm.col("at") < timedelta(...)) judges each row by its own age'
