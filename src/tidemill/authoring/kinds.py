"""What can be declared in YAML: each name, and the function whose arguments it takes. A new kind is one line here."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True, slots=True)
class Kind:
    """A name in YAML.

    Args:
        target: `module:function`.
        first: the argument that a text or list alone stands for; empty: there is none.
        leaves: arguments that YAML gives otherwise.
        many: the function gives a list, each of which is a source.
    """

    target: str
    first: str = ""
    leaves: tuple[str, ...] = ()
    many: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        """The function; its module is loaded when it is asked for."""
        module, _, path = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]


_REST, _PARTS = "tidemill.authoring.rest", "tidemill.authoring.rest_parts"
_CHECKS, _CODECS = "tidemill.model.expectation", "tidemill.model.codec"

#: `sources: {orders: {sql: ...}}`
SOURCES: Mapping[str, Kind] = {
    "files": Kind("tidemill.authoring.pipeline:Pipeline.files", "pattern", ("self", "name")),
    "sql": Kind("tidemill.authoring.databases:sql", "", ("name",)),
    "sql_tables": Kind("tidemill.authoring.databases:sql_tables", many=True),
    "rest": Kind(f"{_REST}:rest", "url"),
    "graphql": Kind(f"{_REST}:graphql", "url"),
    "html_table": Kind(f"{_REST}:html_table", "url"),
    "webhook": Kind("tidemill.authoring.webhook:webhook"),
    "cdc": Kind("tidemill.authoring.cdc:cdc", "", ("name",)),
    "singer": Kind("tidemill.authoring.singer:singer", many=True),
    "dlt": Kind("tidemill.authoring.dlt:dlt", "source", many=True),
    "topic": Kind("tidemill.authoring.topics:topic", "topic"),
}

#: Sections whose elements are calls of a pipeline's methods: `deliver: [{tables: [orders], to: warehouse}]`.
SECTIONS: dict[str, Kind] = {
    "deliver": Kind("tidemill.authoring.pipeline:Pipeline.deliver", "", ("self",)),
}

#: Values of arguments that are made by a function: `auth: {bearer: shop_api}`.
PARTS: Mapping[str, Kind] = {
    "basic": Kind(f"{_PARTS}:basic", "connection"),
    "bearer": Kind(f"{_PARTS}:bearer", "connection"),
    "api_key": Kind(f"{_PARTS}:api_key", "name"),
    "oauth2": Kind(f"{_PARTS}:oauth2", "connection"),
    "by_page": Kind(f"{_PARTS}:by_page", "param"),
    "by_offset": Kind(f"{_PARTS}:by_offset", "param"),
    "by_cursor": Kind(f"{_PARTS}:by_cursor", "path"),
    "by_link": Kind(f"{_PARTS}:by_link", "rel"),
    "by_next_url": Kind(f"{_PARTS}:by_next_url", "path"),
    "details": Kind(f"{_PARTS}:details", "url"),
    "json": Kind(f"{_CODECS}:Json", "columns"),
    "avro": Kind(f"{_CODECS}:Avro", "schema"),
    "protobuf": Kind(f"{_CODECS}:Protobuf", "message"),
    "json_schema": Kind(f"{_CODECS}:JsonSchema", "schema"),
    "text": Kind(f"{_CODECS}:Text", "column"),
    "bytes": Kind(f"{_CODECS}:Raw", "column"),
}
_CODEC_NAMES = ("json", "avro", "protobuf", "json_schema", "text", "bytes")
#: Which of them an argument takes.
MADE: Mapping[str, tuple[str, ...]] = {
    "auth": ("basic", "bearer", "api_key", "oauth2"),
    "paginate": ("by_page", "by_offset", "by_cursor", "by_link", "by_next_url"),
    "details": ("details",),
    "codec": _CODEC_NAMES,
    "key_codec": _CODEC_NAMES,
}

#: `checks: [{not_null: id}]`
CHECKS: Mapping[str, Kind] = {
    "expect": Kind(f"{_CHECKS}:expect_sql", "condition"),
    "not_null": Kind(f"{_CHECKS}:not_null", "columns"),
    "unique": Kind(f"{_CHECKS}:unique", "columns"),
    "in_set": Kind(f"{_CHECKS}:in_set"),
    "between": Kind(f"{_CHECKS}:between"),
    "matches": Kind(f"{_CHECKS}:matches"),
    "references": Kind(f"{_CHECKS}:references"),
    "row_count": Kind(f"{_CHECKS}:row_count", "minimum"),
    "fresh_within": Kind(f"{_CHECKS}:fresh_within"),
}
#: Options of every check: not in their signatures, which take them as a whole.
CHECK_OPTIONS: Mapping[str, Any] = {"severity": str, "mostly": float, "max_failed": int, "of": str, "null_fails": bool}
#: Options of the web that `graphql` and `html_table` take as a whole, and of `sql_tables`.
_MORE: Mapping[str, tuple[str, ...]] = {
    "graphql": ("auth", "connection", "headers", "rate", "retries", "patience", "timeout", "max_pages", "largest"),
    "html_table": ("auth", "connection", "headers", "rate", "retries", "patience", "timeout", "max_pages", "largest"),
}
#: Options of a delivery, which its signature takes as a whole, too.
_DELIVERED = {
    "format": str, "compression": str, "partition": str | list[str], "key": str | list[str], "distkey": str,
    "diststyle": str, "sortkey": str | list[str], "encode": Mapping[str, str],
}  # fmt: skip
_TABLES = {"max_rows": int, "chunk_rows": int, "parallel": int}


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument: its type, whether it must be given, and whether it stands for any number of values."""

    hint: Any
    needed: bool = False
    spread: bool = False


@cache
def arguments_of(name: str, kind: Kind) -> Mapping[str, Argument]:
    """The arguments of a kind, by name."""
    function = kind.function
    found: dict[str, Argument] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in kind.leaves or parameter.kind is parameter.VAR_KEYWORD:
            continue
        spread = parameter.kind is parameter.VAR_POSITIONAL
        needed = parameter.default is parameter.empty and not spread
        found[parameter.name] = Argument(_hint(parameter.annotation, function), needed, spread)
    if kind.target.startswith(_CHECKS):
        found |= {option: Argument(hint) for option, hint in CHECK_OPTIONS.items()}
    if name in _MORE:
        rest = arguments_of("rest", SOURCES["rest"])
        found |= {option: rest[option] for option in _MORE[name]}
    if name == "sql_tables":
        found |= {option: Argument(hint) for option, hint in _TABLES.items()}
    if name == "deliver":
        found["tables"] = Argument(str, needed=True, spread=True)
        found |= {option: Argument(hint) for option, hint in _DELIVERED.items()}
    return found


def _hint(annotation: Any, function: Callable[..., Any]) -> Any:
    """The type of an argument; Any where its name is known to type checkers only."""
    code = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    names = getattr(inspect.unwrap(code), "__globals__", {})
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
    except NameError:
        return Any


def fits(hint: Any, value: Any) -> bool:
    """Whether a value of YAML can be an argument of a type; what cannot be told fits."""
    if hint is Any or hint is None:
        return True
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return any(value is None if one is type(None) else fits(one, value) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    kind = origin or hint
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (str, timedelta, datetime):
        return isinstance(value, str)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, dict)
    if isinstance(kind, type) and (kind in (list, tuple) or issubclass(kind, Sequence) or kind is Iterable or
                                   issubclass(kind, Iterable)):  # fmt: skip
        return isinstance(value, list)
    return True


def told(hint: Any) -> str:
    """What people call values of a type."""
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return " or ".join(dict.fromkeys(told(one) for one in get_args(hint) if one is not type(None)))
    if origin is Literal:
        return " or ".join(f'"{one}"' for one in get_args(hint))
    kind = origin or hint
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", timedelta: 'a time such as "5m"'}
    if kind in names:
        return names[kind]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    return "a list"
