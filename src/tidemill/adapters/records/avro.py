"""An Avro schema for records, and the test that every record fits it: each field is null or what its values are.

fastavro would take some values that do not fit and change them (the time of day of a datetime in a date field, the
digits of a long in a double field, a naive time read as local), so each value is judged here before it is written.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Integers up to this are exact as doubles.
_EXACT = 1 << 53

_SCHEMAS: dict[str, Any] = {
    "date": {"type": "int", "logicalType": "date"},
    "time": {"type": "long", "logicalType": "time-micros"},
    "naive datetime": {"type": "long", "logicalType": "local-timestamp-micros"},
    "datetime": {"type": "long", "logicalType": "timestamp-micros"},
    "uuid": {"type": "string", "logicalType": "uuid"},
}
_KINDS: dict[type, str] = {
    bool: "boolean", int: "long", float: "double", str: "string", bytes: "bytes", Decimal: "decimal",
    dt.date: "date", dt.time: "time", dt.datetime: "datetime", UUID: "uuid", dict: "record", list: "array",
}  # fmt: skip


class Misfit(Exception):
    """A value that the schema cannot hold: where it stands in the record, and why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


@dataclass(slots=True)
class Shape:
    """What the values of one field have been so far. It grows while `grow` says so, then it judges.

    Args:
        path: where the field stands, for messages.
        kind: null, boolean, long, double, string, bytes, decimal, date, time, datetime, uuid, record, array.
    """

    path: str
    kind: str = "null"
    #: Of decimals: most digits before and after the point.
    whole: int = 1
    scale: int = 0
    #: Of longs: one is not exact as a double.
    large: bool = False
    fields: dict[str, Shape] = field(default_factory=dict)
    items: Shape | None = None

    def take(self, value: Any, grow: bool) -> None:
        """Make sure that the field can hold `value`, a plain one.

        Raises:
            Misfit: it cannot.
        """
        if value is None:
            return
        kind = self._kind_of(value)
        if kind != self.kind:
            self._turn(kind, grow)
        if kind == "long" and not -_EXACT <= value <= _EXACT:
            self._take_large(value, grow)
        elif kind == "decimal":
            self._take_decimal(value, grow)
        elif kind == "record":
            self.take_record(value, grow)
        elif kind == "array":
            if self.items is None:
                self.items = Shape(self.path)
            for each in value:
                self.items.take(each, grow)

    def take_record(self, record: Mapping[Any, Any], grow: bool) -> None:
        """Make sure that the fields of a record can hold `record`.

        Raises:
            Misfit: a value, or a name, cannot be held.
        """
        self.kind = "record"
        for key, value in record.items():
            shape = self.fields.get(key)
            if shape is None:
                shape = self.fields[key] = self._new_field(key, grow)
            shape.take(value, grow)

    def schema(self, numbers: Iterator[int] | None = None) -> Any:
        """The Avro type of what was taken, without the null beside it."""
        numbers = numbers or count()
        if self.kind == "record":
            name = f"record{next(numbers)}"
            fields = [{"name": key, "type": each.nullable(numbers)} for key, each in self.fields.items()]
            return {"type": "record", "name": name, "fields": fields}
        if self.kind == "array":
            # A union, also where nothing but null is known: items without bytes make a length that nobody can check.
            items = self.items.nullable(numbers) if self.items else "null"
            return {"type": "array", "items": items if isinstance(items, list) else [items]}
        if self.kind == "decimal":
            precision = self.whole + self.scale
            return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": self.scale}
        return _SCHEMAS.get(self.kind, self.kind)

    def nullable(self, numbers: Iterator[int]) -> Any:
        """The Avro type with null."""
        return "null" if self.kind == "null" else ["null", self.schema(numbers)]

    def _kind_of(self, value: Any) -> str:
        kind = _KINDS.get(type(value))
        if kind is None:
            raise Misfit(self.path, f"is {value!r:.60} ({type(value).__name__}), which Avro cannot hold")
        if kind == "datetime" and value.tzinfo is None:
            return "naive datetime"
        if kind == "time" and value.tzinfo is not None:
            raise Misfit(self.path, f"is a time with an offset ({value}), which Avro cannot hold")
        if kind == "long" and not -(1 << 63) <= value < 1 << 63:
            raise Misfit(self.path, f"is {value}, which does not fit Avro's 64-bit integers")
        return kind

    def _turn(self, kind: str, grow: bool) -> None:
        """Change the field's kind where both can be held by one without a loss."""
        if self.kind == "double" and kind == "long":
            return  # written as a double; large ones are refused beside it
        if not grow:
            was = "had no value" if self.kind == "null" else f"was {_named(self.kind)}"
            raise Misfit(self.path, f"is {_named(kind)}, and {was} in all records from which the schema was made")
        if self.kind != "null" and {self.kind, kind} != {"long", "double"}:
            raise Misfit(self.path, f"is {_named(kind)}, and was {_named(self.kind)} before")
        if self.large:
            raise Misfit(self.path, "is a double, and was before an integer that a double cannot hold exactly")
        self.kind = kind

    def _take_large(self, value: int, grow: bool) -> None:
        if self.kind == "double":
            raise Misfit(self.path, f"is {value}, which cannot be held exactly beside doubles")
        self.large = self.large or grow

    def _take_decimal(self, value: Decimal, grow: bool) -> None:
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int):
            raise Misfit(self.path, f"is {value}, which Avro's decimals cannot hold")
        whole, scale = max(1, value.adjusted() + 1), max(0, -exponent)
        if grow:
            self.whole, self.scale = max(self.whole, whole), max(self.scale, scale)
        elif whole > self.whole or scale > self.scale:
            room = f"{self.whole} digits before and {self.scale} after the point"
            raise Misfit(self.path, f"is {value}, and the records from which the schema was made need {room}")

    def _new_field(self, key: Any, grow: bool) -> Shape:
        path = f"{self.path}.{key}" if self.path else str(key)
        if not isinstance(key, str) or not _NAME.fullmatch(key):
            raise Misfit(path, "is a name that Avro cannot hold (letters, digits and _)")
        if not grow:
            raise Misfit(path, "is not in the records from which the schema was made")
        return Shape(path)


def _named(kind: str) -> str:
    return f"{'an' if kind[0] in 'ao' else 'a'} {kind}"
