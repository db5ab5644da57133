"""JSONPaths: how a place in a JSON document is written, and what stands there.

The part of RFC 9535 that names places: `$`, `.name`, `['any name']`, `[0]`, `[-1]`, `[*]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tidemill.model.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Each:
    """The step `[*]`: every element of a list."""


#: A member's name, an element's index (from the end where negative), or every element.
Step: TypeAlias = "str | int | Each"

#: Paths by the column that they give, in order.
CompiledPaths: TypeAlias = tuple[tuple[str, tuple[Step, ...]], ...]

_NAME = re.compile(r"\.([^\W\d]\w*)")
_INDEX = re.compile(r"\[\s*(-?(?:0|[1-9][0-9]{0,17}))\s*\]")
_EACH = re.compile(r"\[\s*\*\s*\]")
_QUOTED = re.compile(r"""\[\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*\]""", re.DOTALL)

#: What may stand where a step should, and what to say about it: the first that fits.
_REASONS = (
    (re.compile(r"\.\."), 'the search at any depth ("..") is not supported'),
    (re.compile(r"\.\*"), 'the wildcard ".*" over members is not supported'),
    (re.compile(r"\[\s*\?"), 'filters ("[?...]") are not supported'),
    (re.compile(r"\[[^\]'\"]*:"), 'slices ("[1:3]") are not supported'),
    (re.compile(r"\[[^\]]*,"), 'several selectors in one pair of brackets ("[0,1]") are not supported'),
    (re.compile(r"\[\s*['\"]"), "the quoted name does not end"),
    (re.compile(r"\["), "there is no index, quoted name or * in the brackets"),
    (re.compile(r"\."), "no name follows the point"),
    (re.compile(r""), "a name after a point has letters, digits and _ only; write another one as ['my-name']"),
)
_SUPPORTED = "use $, .name, ['any name'], [0], [-1] and [*]"


def compile_paths(paths: Mapping[str, str]) -> CompiledPaths:
    """Read the paths of a mapping column -> JSONPath.

    Raises:
        DefinitionError: a path cannot be read; names the column, the path and the position (from 1).
    """
    return tuple((column, _steps(column, path)) for column, path in paths.items())


def _steps(column: str, path: str, kind: str = "column") -> tuple[Step, ...]:
    text = path.rstrip()
    at = len(text) - len(text.lstrip())
    if not text.startswith("$", at):
        rest = text.strip()
        point = "" if rest.startswith((".", "[")) else "."
        raise _unreadable(
            kind, column, path, at, "a path begins with $", hint=f'"${point}{rest}"' if rest else _SUPPORTED
        )
    at += 1
    steps: list[Step] = []
    while at < len(text):
        if found := _NAME.match(text, at):
            steps.append(found[1])
        elif found := _INDEX.match(text, at):
            steps.append(int(found[1]))
        elif found := _EACH.match(text, at):
            steps.append(Each())
        elif found := _QUOTED.match(text, at):
            steps.append(_unquoted(kind, column, path, found))
        else:
            raise _unreadable(
                kind, column, path, at, next(says for pattern, says in _REASONS if pattern.match(text, at))
            )
        at = found.end()
    return tuple(steps)


def _unquoted(kind: str, column: str, path: str, found: re.Match[str]) -> str:
    body = found[1][1:-1]
    if found[1][0] == "'":
        # As in RFC 9535: the escapes are JSON's, but for the quotes.
        body = re.sub(r'\\(.)|"', lambda m: "'" if m[0] == "\\'" else '\\"' if m[0] == '"' else m[0], body)
    try:
        name = str(json.loads(f'"{body}"', strict=False))
        name.encode()  # half a surrogate pair is no text: no column has such a name
    except ValueError:
        raise _unreadable(kind, column, path, found.start(1), "the quoted name has an escape that JSON lacks") from None
    return name


def _unreadable(kind: str, column: str, path: str, at: int, reason: str, hint: str = _SUPPORTED) -> DefinitionError:
    return DefinitionError(
        f'The JSONPath "{path}" of {kind} "{column}" cannot be read at position {at + 1}: {reason}.', hint=hint
    )


def compile_path(path: str, name: str) -> tuple[Step, ...]:
    """Read one path, the argument called `name`. Raises DefinitionError."""
    return _steps(name, path, "argument")


def find_all(document: Any, steps: Sequence[Step]) -> Iterator[Any]:
    """What stands at a path in a decoded document, in order; nothing where it leads nowhere."""
    if not steps:
        yield document
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Each):
        if isinstance(document, list):
            for one in document:
                yield from find_all(one, rest)
    elif isinstance(step, str):
        if isinstance(document, dict) and step in document:
            yield from find_all(document[step], rest)
    elif isinstance(document, list) and -len(document) <= step < len(document):
        yield from find_all(document[step], rest)


def find(document: Any, steps: Sequence[Step]) -> Any:
    """The first value at a path; None where there is none."""
    return next(find_all(document, steps), None)
