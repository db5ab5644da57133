"""Column types: Iceberg's, by Iceberg's names, and how they are written as text (`list<struct<a:long>>`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from tidemill.model.errors import DefinitionError

PRIMITIVES = (
    "boolean", "int", "long", "float", "double", "date", "time",
    "timestamp", "timestamptz", "string", "binary", "uuid", "unknown",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Primitive:
    """A type without parts. `unknown` is the type of a column that has held only nulls so far."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Decimal:
    """An exact number of `precision` digits (1 to 38), `scale` of them after the point."""

    precision: int
    scale: int

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})"


@dataclass(frozen=True, slots=True)
class List:
    """A list of values of one type."""

    element: Type

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class Map:
    """Keys and values, each of one type."""

    key: Type
    value: Type

    def __str__(self) -> str:
        return f"map<{self.key},{self.value}>"


@dataclass(frozen=True, slots=True)
class Struct:
    """Named fields, in order."""

    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return "struct<" + ",".join(f"{_quoted(n)}:{t}" for n, t in self.fields) + ">"


Type: TypeAlias = "Primitive | Decimal | List | Map | Struct"

BOOLEAN = Primitive("boolean")
INT = Primitive("int")
LONG = Primitive("long")
FLOAT = Primitive("float")
DOUBLE = Primitive("double")
DATE = Primitive("date")
TIME = Primitive("time")
TIMESTAMP = Primitive("timestamp")
TIMESTAMPTZ = Primitive("timestamptz")
STRING = Primitive("string")
BINARY = Primitive("binary")
UUID = Primitive("uuid")
UNKNOWN = Primitive("unknown")

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_]*|\d+|[<>(),:])')
_ALIASES = {
    "bool": "boolean", "integer": "int", "bigint": "long", "int64": "long", "int32": "int",
    "float64": "double", "float32": "float", "str": "string", "text": "string", "varchar": "string",
    "bytes": "binary", "datetime": "timestamp",
}  # fmt: skip


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def parse_type(text: str) -> Type:
    """Read a type from its text form.

    Accepts Iceberg's names and the usual aliases (`bigint`, `text`, `bool` ...), in any case.

    Raises:
        DefinitionError: the text is not a type.
    """
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if not found:
            raise _not_a_type(text)
        tokens.append(found.group(1))
        at = found.end()
    tokens.reverse()
    parsed = _parse(tokens, text)
    if tokens:
        raise _not_a_type(text)
    return parsed


def _not_a_type(text: str) -> DefinitionError:
    return DefinitionError(
        f'"{text}" is not a column type.',
        hint="one of " + ", ".join(PRIMITIVES[:-1]) + ", decimal(p,s), list<t>, map<k,v>, struct<name:t,...>",
    )


def _parse(tokens: list[str], text: str) -> Type:
    def take(expected: str | None = None) -> str:
        if not tokens or (expected is not None and tokens[-1] != expected):
            raise _not_a_type(text)
        return tokens.pop()

    word = take()
    name = _ALIASES.get(word.lower(), word.lower())
    if name in PRIMITIVES:
        return Primitive(name)
    if name in ("decimal", "numeric"):
        take("(")
        precision, _, scale, _ = take(), take(","), take(), take(")")
        if not (precision.isdigit() and scale.isdigit() and 1 <= int(precision) <= 38 and int(scale) <= int(precision)):
            raise _not_a_type(text)
        return Decimal(int(precision), int(scale))
    if name == "list":
        take("<")
        element = _parse(tokens, text)
        take(">")
        return List(element)
    if name == "map":
        take("<")
        key = _parse(tokens, text)
        take(",")
        value = _parse(tokens, text)
        take(">")
        return Map(key, value)
    if name == "struct":
        take("<")
        fields: list[tuple[str, Type]] = []
        while True:
            label = take()
            if label.startswith('"'):
                label = label[1:-1].replace('""', '"')
            take(":")
            fields.append((label, _parse(tokens, text)))
            if take() == ">":
                return Struct(tuple(fields))
    raise _not_a_type(text)
