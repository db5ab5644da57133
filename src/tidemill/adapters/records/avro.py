"""An Avro schema for records: each field a union of null and what its values are."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tidemill.model.errors import DataError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def avro_schema(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema that fits every one of `rows`.

    Raises:
        DataError: a name that Avro cannot hold, or values of one field that no Avro type holds together.
    """
    return _record(list(rows), "record")


def _record(rows: list[Mapping[str, Any]], path: str) -> dict[str, Any]:
    values: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in row.items():
            values.setdefault(key, []).append(value)
    fields = []
    for key, found in values.items():
        if not _NAME.fullmatch(key):
            raise DataError(f'Avro cannot hold a field named "{key}".', hint='archive="jsonl"')
        kind = _type([v for v in found if v is not None], f"{path}_{key}")
        fields.append({"name": key, "type": ["null", kind] if kind != "null" else "null", "default": None})
    return {"type": "record", "name": path, "fields": fields}


def _type(values: list[Any], path: str) -> Any:
    """The Avro type of some values that are not None."""
    kinds = {_kind(v) for v in values}
    if not kinds:
        return "null"
    if kinds <= {"long", "double"}:
        return "double" if "double" in kinds else "long"
    if len(kinds) > 1:
        raise DataError(f'Values of "{path}" are {" and ".join(sorted(kinds))}.', hint='archive="jsonl" takes both')
    kind = kinds.pop()
    if kind == "array":
        return {"type": "array", "items": ["null", _type([e for v in values for e in v if e is not None], path)]}
    if kind == "record":
        return _record(values, path)
    if kind == "decimal":
        scale = max(max(0, -int(v.as_tuple().exponent)) for v in values)
        whole = max(len(str(abs(int(v)))) for v in values)
        return {"type": "bytes", "logicalType": "decimal", "precision": max(1, whole + scale), "scale": scale}
    return {
        "date": {"type": "int", "logicalType": "date"},
        "time": {"type": "long", "logicalType": "time-micros"},
        "timestamp": {"type": "long", "logicalType": "local-timestamp-micros"},
        "timestamptz": {"type": "long", "logicalType": "timestamp-micros"},
    }.get(kind, kind)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise DataError(f"{value} does not fit Avro's 64-bit integers.", hint='archive="jsonl" takes it')
        return "long"
    if isinstance(value, dt.datetime):
        return "timestamptz" if value.tzinfo else "timestamp"
    for kind, name in (
        (float, "double"), (str, "string"), (bytes, "bytes"), (Decimal, "decimal"), (dt.date, "date"),
        (dt.time, "time"), (Mapping, "record"), (list | tuple, "array"),
    ):  # fmt: skip
        if isinstance(value, kind):
            return name
    raise DataError(f"Avro cannot hold a {type(value).__name__} ({value!r:.60}).", hint='archive="jsonl"')
