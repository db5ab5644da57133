"""SQL that is sent to a database outside: pieces of text, and values that stay values.

A template of a query may write dates and names into its text. Whatever could end a literal or begin another statement
is refused there; `{{ params.region | bind }}` hands any value over as a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from jinja2 import Undefined

from tidemill.model.errors import Refused
from tidemill.plan.template import Sandbox, render_in


@dataclass(frozen=True, slots=True)
class Bound:
    """A value, for whose place the database has a word of its own."""

    value: Any


#: A statement: texts and values in turn.
Sql: TypeAlias = "tuple[str | Bound, ...]"

#: What a value may add to the text of a statement: words, numbers, dates, names with dots.
_HARMLESS = re.compile(r"[\w.:+ -]*")
_MARK = "\x00"
_MARKED = re.compile(f"{_MARK}(\\d+){_MARK}")


def render_sql(template: str, variables: Mapping[str, Any], *, where: str) -> Sql:
    """A template as a statement.

    Args:
        template: the user's text.
        variables: from `variables_of`.
        where: its place, for errors.

    Raises:
        Refused: a value could be more than a value; UserError: the template is wrong.
    """
    if _MARK in template:
        raise Refused("The SQL has a byte that no text has.", where=where)
    values: list[Any] = []

    def bind(value: Any) -> Bound:
        if isinstance(value, Undefined):
            str(value)  # raises: there is no such name
        return Bound(value)

    def shown(value: Any) -> Any:
        if isinstance(value, Bound):
            values.append(value.value)
            return f"{_MARK}{len(values) - 1}{_MARK}"
        text = str(value)
        if not _HARMLESS.fullmatch(text) or "--" in text:
            raise Refused(
                f"The value {text[:40]!r} is not written into SQL.",
                where=where,
                hint="hand it over as a value, without quotes around it: {{ params.region | bind }}",
            )
        return value

    sandbox = Sandbox()
    sandbox.filters["bind"] = bind
    sandbox.finalize = shown
    text = render_in(sandbox, template, variables, where)
    parts = _MARKED.split(text)
    return tuple(Bound(values[int(part)]) if at % 2 else part for at, part in enumerate(parts) if part)
