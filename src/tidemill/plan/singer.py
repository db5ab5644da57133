"""What Singer's messages and catalogs say, as values: types of columns, selected streams and fields, metrics.

Catalogs are what `tap --discover` writes; a stream's `metadata` marks its fields by `breadcrumb`, and what is marked
there is what a tap sends. See https://hub.meltano.com/singer/spec.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.table import Column, Schema
from tidemill.model.types import (
    BOOLEAN,
    DATE,
    DOUBLE,
    LONG,
    STRING,
    TIME,
    TIMESTAMPTZ,
    Decimal,
    Type,
)

_PATTERN = frozenset("*?[")
#: Digits of a decimal that a schema bounds by its step only.
_MOST_DIGITS = 38
_LARGEST_LONG = 2**63 - 1
_METRIC = re.compile(r"METRIC:\s*(\{.*\})\s*$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `select`: `stream`, `stream.field`, either with patterns, after `!` what is left out."""

    stream: str
    field: str = "*"
    leaves: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is about the stream and all its fields."""
        return self.field == "*"


def read_rules(select: Iterable[str]) -> tuple[Rule, ...]:
    r"""The rules of `select`; a dot within a stream's name is written `\.`.

    Raises:
        DefinitionError: an entry names nothing.
    """
    rules = []
    for text in select:
        leaves = text.startswith("!")
        stream, *fields = (part.replace("\0", ".") for part in text[leaves:].replace("\\.", "\0").split("."))
        if not stream or not all(fields):
            raise DefinitionError(
                f'select: "{text}" names no stream or field.', hint='select=["commits.*", "!commits.body"]'
            )
        rules.append(Rule(stream, ".".join(fields) or "*", leaves))
    return tuple(rules)


def streams_of(rules: Sequence[Rule], known: Iterable[str] | None) -> tuple[str, ...]:
    """The streams that rules choose, each once.

    Args:
        rules: in order.
        known: the streams that the tap has; None: nobody has asked it.

    Raises:
        DefinitionError: a pattern, and nobody has asked the tap; or nothing is chosen.
        UnknownName: the tap has no such stream.
    """
    names = None if known is None else list(known)
    found: dict[str, None] = {}
    for rule in rules:
        is_pattern = bool(_PATTERN & set(rule.stream))
        if names is None and is_pattern and not rule.leaves:
            raise DefinitionError(
                f'select: "{rule.stream}" is a pattern, and what fits it is known to the tap only.',
                hint="name the streams, or keep what the tap has in a file: tidemill connections singer discover",
            )
        fitting = [name for name in names or () if fnmatchcase(name, rule.stream)]
        if names is not None and not fitting and not rule.leaves:
            raise UnknownName.of("stream", rule.stream, names)
        if not rule.leaves:
            found.update(dict.fromkeys(fitting if names is not None else [rule.stream]))
        elif rule.whole:
            for name in [name for name in found if fnmatchcase(name, rule.stream)]:
                del found[name]
    if not found and rules:
        raise DefinitionError("select: no stream is chosen.", hint='select=["commits.*", "!commits.body"]')
    return tuple(found) if rules else tuple(names or ())


def table_name(stream: str) -> str:
    """What a stream's table is called: its name, as far as it can name one."""
    found = re.sub(r"[^A-Za-z0-9_]+", "_", stream).strip("_") or "stream"
    return f"t_{found}" if found[0].isdigit() else found


# -- catalogs


def entries(catalog: Any, where: str) -> dict[str, Mapping[str, Any]]:
    """The streams of a catalog by their ids. Raises DefinitionError: it is none."""
    streams = catalog.get("streams") if isinstance(catalog, Mapping) else None
    if not isinstance(streams, list) or not all(isinstance(one, Mapping) and id_of(one) for one in streams):
        raise DefinitionError(
            'This is no catalog of Singer: {"streams": [{"tap_stream_id": ...}]}.', where=where,
            hint="tidemill connections singer discover",
        )  # fmt: skip
    return {id_of(one): one for one in streams}


def id_of(entry: Mapping[str, Any]) -> str:
    """What a stream is called in a catalog."""
    return str(entry.get("tap_stream_id") or entry.get("stream") or "")


def names_of(entry: Mapping[str, Any]) -> set[str]:
    """What its messages may call it."""
    return {str(entry[name]) for name in ("tap_stream_id", "stream", "stream_alias") if entry.get(name)}


def key_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The stream's key as the catalog has it; none: ()."""
    own = _metadata(entry).get((), {})
    found = entry.get("key_properties") or own.get("table-key-properties") or own.get("view-key-properties") or ()
    return tuple(map(str, found))


def is_full_table(entry: Mapping[str, Any]) -> bool:
    """Whether each run brings all rows of the stream."""
    own = _metadata(entry).get((), {})
    method = (
        own.get("replication-method") or entry.get("replication_method") or own.get("forced-replication-method") or ""
    )
    return str(method).upper() == "FULL_TABLE"


def chosen(
    catalog: Mapping[str, Any], rules: Sequence[Rule], streams: Iterable[str],
    metadata: Mapping[str, Mapping[str, Any]], where: str,
) -> dict[str, Any]:  # fmt: skip
    """The catalog with exactly these streams selected, and of their fields those that the rules choose.

    Args:
        catalog: as the tap has discovered it.
        rules: of fields; keys and what a tap sends in any case are not left out.
        streams: ids of the streams that are wanted.
        metadata: for streams by pattern, what their metadata says in place of the tap: `replication-method`,
            `replication-key`; beside these `{"schema": {field: ...}}` is not known here.
        where: in the user's file, for errors.

    Raises:
        UnknownName: the tap has no such stream.
    """
    found = deepcopy(dict(catalog))
    known = entries(found, where)
    wanted = set(streams)
    for stream in wanted:
        if stream not in known:
            raise UnknownName.of("stream", stream, known, where=where)
    for name, entry in known.items():
        marks = _metadata(entry)
        top = marks.setdefault((), {})
        top["selected"] = name in wanted
        if isinstance(entry, dict):
            entry["selected"] = name in wanted  # taps of an older kind look here
        for pattern, given in metadata.items():
            if fnmatchcase(name, pattern):
                top.update(given)
                if isinstance(entry, dict) and "replication-method" in given:
                    entry["replication_method"] = given["replication-method"]
                if isinstance(entry, dict) and "replication-key" in given:
                    entry["replication_key"] = given["replication-key"]
        own = [rule for rule in rules if fnmatchcase(name, rule.stream)]
        needed = {*key_of(entry), str(top.get("replication-key") or entry.get("replication_key") or "")}
        for field in (entry.get("schema") or {}).get("properties") or {}:
            mark = marks.setdefault(("properties", field), {})
            inclusion = mark.get("inclusion")
            mark["selected"] = name in wanted and inclusion != "unsupported" and (
                field in needed or inclusion == "automatic" or _takes(own, field)
            )  # fmt: skip
        if isinstance(entry, dict):
            entry["metadata"] = [{"breadcrumb": list(at), "metadata": mark} for at, mark in marks.items()]
    return found


def _takes(rules: Sequence[Rule], field: str) -> bool:
    """Whether the rules of a stream choose a field: rules that only leave out leave the others in."""
    said = [not rule.leaves for rule in rules if fnmatchcase(field, rule.field)]
    if False in said:
        return False
    return True in said or all(rule.leaves for rule in rules)


def _metadata(entry: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    marks = entry.get("metadata")
    return {
        tuple(map(str, one.get("breadcrumb", ()))): dict(one.get("metadata", {}))
        for one in (marks if isinstance(marks, list) else ())
        if isinstance(one, Mapping)
    }


# -- messages


def columns_of(lines: Iterable[bytes]) -> Schema:
    """The columns that SCHEMA messages of one stream declare; where they differ, what holds both.

    A column whose type is not one of JSON Schema's simple ones is left out, so that its values say what it is: lists,
    objects with properties, several types at once.
    """
    found: dict[str, tuple[str, Type | None]] = {}
    for line in lines:
        try:
            message = json.loads(line.decode("utf-8-sig"))
            properties = message["schema"]["properties"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if message.get("type") != "SCHEMA" or not isinstance(properties, Mapping):
            continue
        for name, schema in properties.items():
            kind = type_of(schema)
            older = found.get(name.lower())
            if older is not None and older[0] != name:
                continue
            found[name.lower()] = (name, kind if older is None else _both(older[1], kind))
    return Schema(tuple(Column(name, kind) for name, kind in found.values() if kind is not None))


def type_of(schema: Any) -> Type | None:
    """The type of a column that a JSON Schema describes; None: its values decide."""
    kinds = [kind for one in _variants(schema) if (kind := _simple(one)) is not _NULL]
    if not kinds:
        return None
    first = kinds[0]
    for kind in kinds[1:]:
        first = _both(first, kind)
    return first


_NULL = Decimal(1, 0)


def _variants(schema: Any) -> list[Mapping[str, Any]]:
    """Every type that a schema allows, each by itself."""
    if not isinstance(schema, Mapping):
        return [{}]
    several = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(several, list):
        return [one for each in several for one in _variants(each)]
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return [schema]


def _simple(schema: Mapping[str, Any]) -> Type | None:
    kind, form = schema.get("type"), schema.get("format")
    if kind == "null":
        return _NULL
    if kind == "string":
        if form == "singer.decimal":
            digits, scale = schema.get("precision"), schema.get("scale")
            return _decimal(digits, scale) if isinstance(digits, int) and isinstance(scale, int) else None
        return {"date-time": TIMESTAMPTZ, "date": DATE, "time": TIME}.get(str(form), STRING)
    if kind == "integer":
        bounds = [schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")]
        large = any(isinstance(b, int | float) and abs(b) > _LARGEST_LONG + 1 for b in bounds)
        return Decimal(_MOST_DIGITS, 0) if large else LONG
    if kind == "number":
        return _of_step(schema.get("multipleOf"))
    if kind == "boolean":
        return BOOLEAN
    if kind == "object" and not schema.get("properties") and not schema.get("patternProperties"):
        return STRING
    return None


def _decimal(digits: int, scale: int) -> Type | None:
    return Decimal(digits, scale) if 0 <= scale <= digits and 1 <= digits <= _MOST_DIGITS else None


def _of_step(step: object) -> Type:
    """A number of which the schema says the smallest step: 0.01 for two digits after the point."""
    if not isinstance(step, int | float) or isinstance(step, bool) or not 0 < step < 1:
        return DOUBLE
    scale = round(-math.log10(step))
    if not 0 < scale <= _MOST_DIGITS or not math.isclose(10.0**-scale, step, rel_tol=1e-9):
        return DOUBLE
    return Decimal(_MOST_DIGITS, scale)


def _both(one: Type | None, other: Type | None) -> Type | None:
    """The type that holds values of two; None: they decide."""
    if one == other:
        return one
    numbers = {LONG, DOUBLE}
    if one in numbers and other in numbers:
        return DOUBLE
    texts = {STRING, DATE, TIME, TIMESTAMPTZ}
    if one in texts and other in texts:
        return STRING
    return None


@dataclass(frozen=True, slots=True)
class Metric:
    """What a tap tells of its work: a counter or a timer."""

    kind: str
    name: str
    value: float
    tags: Mapping[str, Any]

    def __str__(self) -> str:
        about = " ".join(f"{name}={value}" for name, value in self.tags.items() if isinstance(value, str | int))
        return f"{self.name} {self.value:,.6g}{' s' if self.kind == 'timer' else ''}{' ' + about if about else ''}"


def metric_of(line: str) -> Metric | None:
    """The metric that a line of a tap's log tells; None: it tells none."""
    if "METRIC" not in line:
        return None
    found = _METRIC.search(line)
    try:
        told = json.loads(found[1]) if found else None
        return Metric(
            str(told["type"]), str(told["metric"]), float(told["value"]), dict(told.get("tags") or {})
        ) if told else None  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None
