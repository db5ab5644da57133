"""Taking a user's SQL apart: statements by their semicolons, and values for its parameters.

Texts are cut, never written anew: what the database gets is what the user wrote, but for the names of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.model.errors import DefinitionError, UnknownName

_NAME = re.compile(r"[A-Za-z_]\w*")
#: After one of these a colon is part of something else: a slice `x[1:n]`, an entry `{'a':b}`.
_NOT_BEFORE = re.compile(r"""[\w\])'"}]""")
#: Statements that hold statements between BEGIN and END.
_BODIES = ("TRIGGER", "FUNCTION", "PROCEDURE")


@dataclass(frozen=True, slots=True)
class _Word:
    """A token: its kind for sqlglot, its text, and where it stands."""

    kind: str
    text: str
    start: int
    end: int


def split(text: str, dialect: str) -> list[str]:
    """The statements of a script, without their semicolons. Comments belong to the statement before which they stand.

    Args:
        text: the script.
        dialect: the name by which sqlglot knows its SQL.

    Raises:
        DefinitionError: a quote or a comment does not end.
    """
    made: list[str] = []
    words: list[str] = []
    start = depth = 0
    for word in _words(text, dialect):
        kind = word.text.upper()
        if word.kind == "SEMICOLON" and depth == 0:
            made.append(text[start : word.start] if words else "")
            start, words = word.end + 1, []
            continue
        words.append(kind)
        if words[0] == "CREATE" and any(body in words[:6] for body in _BODIES):
            depth += kind in ("BEGIN", "CASE")
            depth -= kind == "END" and depth > 0
    made.append(text[start:] if words else "")
    return [statement.strip() for statement in made if statement]


def bind(
    statements: Sequence[str], parameters: Mapping[str, Any] | Sequence[Any] | None, dialect: str
) -> list[tuple[str, tuple[Any, ...]]]:
    """Statements with numbered parameters and their values in order.

    Args:
        statements: with `:name` or, for a list, `?` where values go. A colon that is followed by no given name stays.
        parameters: the values.
        dialect: as for `split`.

    Raises:
        UnknownName: a value that no statement uses.
        DefinitionError: a list of values for several statements, or of another length than there are `?`.
    """
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Mapping | Sequence | None):
        raise DefinitionError(f"{parameters!r} are no parameters.", hint='parameters={"day": "{{ ds }}"}')
    if not parameters:
        return [(statement, ()) for statement in statements]
    sign = "?" if dialect == "sqlite" else "$"
    if not isinstance(parameters, Mapping):
        return _by_place(statements, parameters, dialect, sign)
    used: set[str] = set()
    made = []
    for statement in statements:
        names = list(_names(statement, dialect, parameters))
        order = list(dict.fromkeys(name for name, _, _ in names))
        used.update(order)
        for name, start, end in reversed(names):
            statement = f"{statement[:start]}{sign}{order.index(name) + 1}{statement[end:]}"
        made.append((statement, tuple(parameters[name] for name in order)))
    if unused := [name for name in parameters if name not in used]:
        known = [name for statement in statements for name in re.findall(r":([A-Za-z_]\w*)", statement)]
        raise UnknownName.of("parameter of the SQL", unused[0], known)
    return made


def _by_place(
    statements: Sequence[str], values: Sequence[Any], dialect: str, sign: str
) -> list[tuple[str, tuple[Any, ...]]]:
    if len(statements) != 1:
        raise DefinitionError(
            f"A list of parameters is for one statement, and there are {len(statements)}.",
            hint='names: parameters={"day": ...} and :day',
        )
    [text] = statements
    places = [word for word in _words(text, dialect) if word.kind == "PLACEHOLDER"]
    if len(places) != len(values):
        raise DefinitionError(f"There are {len(places)} ? in the SQL, and {len(values)} parameters.")
    for number, word in reversed(list(enumerate(places, 1))):
        text = f"{text[: word.start]}{sign}{number}{text[word.end + 1 :]}"
    return [(text, tuple(values))]


def _names(text: str, dialect: str, given: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Where given names stand as `:name`: name, start, end."""
    for word in _words(text, dialect):
        if word.kind != "COLON" or (word.start and _NOT_BEFORE.match(text[word.start - 1])):
            continue
        found = _NAME.match(text, word.end + 1)
        if found and found.group() in given:
            yield found.group(), word.start, found.end()


def _words(text: str, dialect: str) -> list[_Word]:
    from sqlglot.dialects import Dialect
    from sqlglot.errors import TokenError

    try:
        found = Dialect.get_or_raise(dialect).tokenize(text)
    except TokenError as error:
        raise DefinitionError(
            f"The SQL cannot be taken apart: {error}", hint="does a quote or a comment not end?"
        ) from None
    return [_Word(one.token_type.name, one.text, one.start, one.end) for one in found]
