"""Port `documents` on YAML.

Values are those of YAML 1.2 as people mean them: `on` and `yes` are texts, `012` is one, and so is `2026-01-01`.
"""

from __future__ import annotations

import re
from typing import Any

from tidemill.model.document import Node
from tidemill.model.errors import DefinitionError, SettingsError

#: A document may be so long, and aliases may make so many values of it.
_LARGEST, _MOST = 1 << 20, 100_000
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)?\.?[0-9]+(?:[eE][-+]?[0-9]+)?")
_STANDARD = "tag:yaml.org,2002:"
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


class YamlDocuments:
    """Reads YAML."""

    def read(self, text: str, file: str) -> Node:
        """One document."""
        try:
            import yaml
        except ImportError:
            raise SettingsError("PyYAML is not installed.", where=file, hint='pip install "tidemill[yaml]"') from None
        if len(text) > _LARGEST:
            raise DefinitionError(f"The file has more than {_LARGEST:,} characters.", where=file)
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark, what = error.problem_mark or error.context_mark, error.problem or error.context
            if error.context_mark is not None and "end of stream" in str(error.problem):
                mark, what = error.context_mark, f"{error.context}, {error.problem}"  # what was left open begins there
            where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
            raise DefinitionError(f"This is no YAML: {what}.", where=where) from None
        except yaml.YAMLError as error:
            raise DefinitionError(f"This is no YAML: {str(error).splitlines()[0]}.", where=file) from None
        if root is None:
            raise DefinitionError("The file is empty.", where=file, hint="pipeline: shop")
        return _Reading(file).node(root, 0)


class _Reading:
    """One document."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def node(self, made: Any, depth: int) -> Node:
        line, column = made.start_mark.line + 1, made.start_mark.column + 1
        self._count += 1
        if self._count > _MOST or depth > 50:
            raise DefinitionError("The document is too large or too deep.", where=f"{self._file}:{line}:{column}")
        if not made.tag.startswith(_STANDARD) or made.tag.startswith(f"{_STANDARD}python"):
            raise DefinitionError(
                f'A value has the tag "{made.tag}", which means nothing here.', where=f"{self._file}:{line}:{column}"
            )
        if made.id == "scalar":
            return Node(_scalar(made), self._file, line, column)
        if made.id == "sequence":
            return Node([self.node(one, depth + 1) for one in made.value], self._file, line, column)
        fields: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        for key, value in made.value:
            where = f"{self._file}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
            if key.id != "scalar":
                raise DefinitionError("A name is a text.", where=where)
            name = str(key.value)
            if name in fields:
                raise DefinitionError(f'"{name}" stands here twice.', where=where, hint=f"also at {keys[name].place}")
            keys[name] = Node(name, self._file, key.start_mark.line + 1, key.start_mark.column + 1)
            fields[name] = self.node(value, depth + 1)
        return Node(fields, self._file, line, column, keys)


def _scalar(made: Any) -> None | bool | int | float | str:
    text = str(made.value)
    if made.style is not None:  # quoted, or a block
        return text
    if text.lower() in _CONSTANTS and text in (text.lower(), text.title(), text.upper()):
        return _CONSTANTS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and any(sign in text for sign in ".eE"):
        return float(text)
    return text
