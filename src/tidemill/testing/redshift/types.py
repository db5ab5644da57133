"""Redshift's types of columns: how they are written, and what PostgreSQL keeps them as.

Pages "Data types", "Character types", "Numeric types", "SUPER type", "VARBYTE type".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.tokens import Parser

_SIMPLE = {
    "smallint": "smallint", "int2": "smallint", "integer": "integer", "int": "integer", "int4": "integer",
    "bigint": "bigint", "int8": "bigint", "real": "real", "float4": "real", "float8": "double precision",
    "float": "double precision", "boolean": "boolean", "bool": "boolean", "date": "date", "super": "super",
    "timetz": "time with time zone", "timestamptz": "timestamp with time zone",
}  # fmt: skip
_ELSEWHERE = ("geometry", "geography", "hllsketch", "interval")
#: Words that types begin with.
TYPE_WORDS = frozenset(_SIMPLE) | frozenset(
    ("double", "decimal", "numeric", "varchar", "nvarchar", "text", "char", "character", "nchar", "bpchar",
     "varbyte", "varbinary", "binary", "time", "timestamp")
)  # fmt: skip
#: What differs in PostgreSQL.
_KEPT_AS = {"super": "jsonb", "varbyte": "bytea"}
_SHOWN = re.compile(r"([a-z ]+?)(?:\((\d+)(?:,(\d+))?\))?( with(?:out)? time zone)?")


@dataclass(frozen=True, slots=True)
class Type:
    """A type.

    Args:
        name: Redshift's own.
        size: bytes of characters, or digits.
        scale: of a NUMERIC.
    """

    name: str
    size: int | None = None
    scale: int | None = None

    @property
    def postgres(self) -> str:
        """As PostgreSQL keeps it. Bytes are counted by a constraint: PostgreSQL would count characters."""
        if self.name == "varbyte":
            return "bytea"
        return _KEPT_AS.get(self.name, str(self))

    def __str__(self) -> str:
        if self.name == "numeric":
            return f"numeric({self.size},{self.scale})"
        return self.name if self.size is None else f"{self.name}({self.size})"


def take_type(parser: Parser) -> Type:
    """Read a type. Raises Fault: Redshift has no such one."""
    word = parser.name()
    if word in _SIMPLE:
        return Type(_SIMPLE[word])
    if word == "double":
        parser.need("precision")
        return Type("double precision")
    if word in ("decimal", "numeric"):
        return _numeric(parser)
    if word in ("varchar", "nvarchar", "text"):
        return _characters(parser, "character varying", 256, 65535, sized=word != "text")
    if word in ("char", "character", "nchar", "bpchar"):
        if word == "character" and parser.took("varying"):
            return _characters(parser, "character varying", 256, 65535)
        return _characters(parser, "character", 256 if word == "bpchar" else 1, 4096, sized=word != "bpchar")
    if word in ("varbyte", "varbinary"):
        return _characters(parser, "varbyte", 64000, 1_024_000)
    if word == "binary":
        parser.need("varying")
        return _characters(parser, "varbyte", 64000, 1_024_000)
    if word in ("time", "timestamp"):
        zoned = parser.took("with", "time", "zone")
        if not zoned:
            parser.took("without", "time", "zone")
        return Type(f"{word} with{'' if zoned else 'out'} time zone")
    if word in _ELSEWHERE:
        raise unknown(f"type {word.upper()}")
    raise wrong(f'type "{word}" does not exist')


def _numeric(parser: Parser) -> Type:
    size, scale = 18, 0
    if parser.took_sign("("):
        size = parser.number()
        if parser.took_sign(","):
            scale = parser.number()
        parser.need_sign(")")
    if not 1 <= size <= 38 or scale > size:
        raise wrong(f"DECIMAL precision {size} must be between 1 and 38")
    return Type("numeric", size, scale)


def _characters(parser: Parser, name: str, default: int, most: int, *, sized: bool = True) -> Type:
    size = default
    if sized and parser.took_sign("("):
        size = most if parser.took("max") else parser.number()
        parser.need_sign(")")
    if not 1 <= size <= most:
        raise wrong(f"length for type {name} must be between 1 and {most}")
    return Type(name, size)


def kept_type(postgres: str, declared: str | None) -> Type:
    """The type of a column that PostgreSQL has.

    Args:
        postgres: as `format_type` gives it.
        declared: as the emulator noted it; None: it noted nothing.
    """
    if postgres == "jsonb":
        return Type("super")
    found = _SHOWN.fullmatch(declared if postgres == "bytea" and declared else postgres)
    if found is None or (postgres == "bytea" and not declared):
        raise unknown(f"a column of PostgreSQL's type {postgres}")
    name = found[1].strip() + (found[4] or "")
    return Type(name, int(found[2]) if found[2] else None, int(found[3]) if found[3] else None)
