"""Columns whose values stand in the names of folders, as Hive writes partitions: `day=2026-01-01/region=eu/x.csv`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import unquote

from tidemill.model.errors import DefinitionError
from tidemill.model.table import Column, Schema
from tidemill.model.types import DATE, INT, LONG, STRING, Type

#: A folder's name that says a value.
KEY = re.compile(r"([A-Za-z_]\w*)=(.*)")
#: What Hive writes where a partition's value is null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def hive_values(path: str) -> dict[str, str | None]:
    """The values that folders of a path say, `day=2026-01-01/region=eu/x.csv`, in their order; None: null."""
    made: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        found = KEY.fullmatch(part)
        if found:
            text = unquote(found[2])
            made[found[1]] = None if text in (_NULL, "") else text
    return made


def type_of_texts(texts: Sequence[str | None]) -> Type:
    """The type of values in paths: dates and whole numbers where all are; `007` is a text."""
    known = [text for text in texts if text is not None]
    for kind in (DATE, LONG):
        if known and all(_reads(text, kind) for text in known):
            return kind
    return STRING


def _reads(text: str, kind: Type) -> bool:
    if kind == LONG and not re.fullmatch(r"-?(0|[1-9]\d{0,17})", text):
        return False
    try:
        path_value(text, kind)
    except ValueError:
        return False
    return True


def path_value(text: str | None, kind: Type) -> Any:
    """A value of a path. Raises ValueError: it is none of that type."""
    if text is None or kind == STRING:
        return text
    if kind == DATE:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError(f'"{text}" is no date')
        return date.fromisoformat(text)
    return int(text)


#: The types that values of paths can have.
PATH_TYPES = (STRING, DATE, LONG, INT)


def path_types(given: Mapping[str, str]) -> dict[str, Type]:
    """The columns of `from_path`. Raises DefinitionError: a type that values of paths do not have."""
    made: dict[str, Type] = {}
    for column in Schema.of(dict(given)):
        if column.type not in PATH_TYPES:
            raise DefinitionError(
                f'from_path: a folder\'s name holds no {column.type} ("{column.name}").',
                hint=f"one of: {', '.join(map(str, PATH_TYPES))}",
            )
        made[column.name] = column.type
    return made


def joined(columns: Schema, keys: Mapping[str, Type]) -> Schema:
    """Columns of files, and those of their paths behind them; what both have is as the path has it."""
    kept = tuple(column for column in columns if column.name not in keys)
    return Schema((*kept, *(Column(name, kind) for name, kind in keys.items())))
