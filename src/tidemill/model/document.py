"""What a user has written in a document such as YAML: values, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: `lag="5m"`, `parallel=1`, `new=True`, and `another slot=`, as hints name arguments of code.
_ARGUMENT = re.compile(r"""(?<![\w&?.-])([a-z_]+)=(?:(True|False|None)\b|(?=["'\[{\d])|(?=$|[\s,;)]))""")
_VALUES = {"True": "true", "False": "false", "None": "null"}


def is_document(place: str) -> bool:
    """Whether a place in a user's file is one in a document."""
    return re.search(r"\.ya?ml(:\d+){1,2}$", place) is not None


def as_written(hint: str | None) -> str | None:
    """A hint that names arguments as code has them, as a document has them: `lag="5m"` is `lag: "5m"`."""

    def written(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if value is not None:
            return f"{name}: {_VALUES[value]}"
        return f"{name}: " if found.end() < len(found.string) and found.string[found.end()] not in " ,;)\n" else name

    return None if hint is None else _ARGUMENT.sub(written, hint)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place.

    Args:
        value: None, a bool, an int, a float, a text; a sequence of nodes; or a mapping of names to nodes.
        file, line, column: where it begins, from 1.
        keys: of a mapping: the places of its names, as nodes that hold them.
    """

    value: None | bool | int | float | str | Sequence[Node] | Mapping[str, Node]
    file: str
    line: int
    column: int
    keys: Mapping[str, Node] | None = None

    @property
    def place(self) -> str:
        """`file:line:column`, for errors of the document's own."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def line_place(self) -> str:
        """`file:line`, as of code."""
        return f"{self.file}:{self.line}"

    @property
    def fields(self) -> Mapping[str, Node] | None:
        """The names and values of a mapping; None: it is none."""
        return self.value if isinstance(self.value, Mapping) else None

    @property
    def items(self) -> Sequence[Node] | None:
        """The elements of a sequence; None: it is none."""
        return self.value if isinstance(self.value, Sequence) and not isinstance(self.value, str) else None

    def plain(self) -> Any:
        """The value without places."""
        if (fields := self.fields) is not None:
            return {name: node.plain() for name, node in fields.items()}
        if (items := self.items) is not None:
            return [node.plain() for node in items]
        return self.value

    @property
    def kind(self) -> str:
        """What people call such a value."""
        if self.fields is not None:
            return "a mapping"
        if self.items is not None:
            return "a list"
        names = {type(None): "nothing", bool: "true or false", int: "a number", float: "a number"}
        return names.get(type(self.value), "a text")
