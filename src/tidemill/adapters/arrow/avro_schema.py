"""What an Avro schema means: for each type, what fastavro decodes and the Arrow column that is built of it.

fastavro gets a schema without logical types and with names of our own. So it gives counts and bytes, from which
whole columns are made (a `datetime` a value cost a third of the time, and has no year 10,000); any field name
works; and which branch of a union a value came from is known, since each branch is a record of one field there, which
is encoded like the field alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.limits import too_deep, too_many_columns
from tidemill.adapters.arrow.normal import DAY, DIGITS, list_of, to_micros
from tidemill.model.errors import DecodeError
from tidemill.ports.decoder import DecodeOptions

#: Makes a column of values as fastavro gives them, None for null.
Build: TypeAlias = Callable[[list[Any]], Any]

_JSON = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Reading:
    """How values of one Avro type become a column.

    Args:
        wire: the schema by which fastavro decodes a value.
        type: the column's type.
        build: makes the column.
        plain: makes one value into what JSON can hold.
        smallest: the fewest bytes that a value takes; a corrupt count is told by it.
        leaves: columns without parts, this one's included.
        fields: of a record its fields, in the order in which they are encoded: `f0`, `f1` ... of what fastavro gives.
    """

    wire: Any
    type: pa.DataType
    build: Build
    plain: Callable[[Any], Any]
    smallest: int
    leaves: int = 1
    fields: tuple[tuple[str, Reading], ...] = ()


def read_schema(schema: Any, name: str, options: DecodeOptions) -> Reading:
    """Read the schema of the file `name`, as parsed from its JSON, into a reading whose type is a struct: the columns.

    - `null` is Arrow's null; a union with null is nullable, as every column is; enums are strings; fixed is binary.
    - Logical types: decimal (of more than 38 digits: a string), date, time-millis and -micros, timestamp-millis,
      -micros and -nanos (microseconds in UTC, rounded down), local-timestamp-* (without zone), uuid (a string),
      duration (a struct of months, days, millis). Unknown ones are read as the type below them.
    - A union of several types: of int and long it is long, of numbers that double holds exactly double; any other
      is a string with the value's JSON text (`"a"`, `1`, `{"b":2}`; bytes in base64).
    - A file of something else than records has one column, `value`.

    Raises:
        DecodeError: no schema, or a record that contains itself.
        LimitError: nested deeper, or more columns, than allowed.
    """
    reader = _SchemaReader(name, options)
    try:
        root = reader.read(schema, "", 0)
        if not (pa.types.is_struct(root.type) and isinstance(root.wire, dict) and "fields" in root.wire):
            root = reader.record([("value", root)])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(
            f"The Avro schema of {name} cannot be read: {type(error).__name__} {error}.", where=name
        ) from error
    return root


@dataclass(slots=True)
class _SchemaReader:
    file: str
    options: DecodeOptions
    known: dict[str, Reading] = field(default_factory=dict)
    #: Records that are being read, outermost first: a reference to one of them is a recursion.
    open: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def read(self, schema: Any, namespace: str, depth: int) -> Reading:
        if isinstance(schema, list):
            return self.union([self.read(branch, namespace, depth) for branch in schema])
        if isinstance(schema, str):
            return _PRIMITIVES[schema] if schema in _PRIMITIVES else self.reference(schema, namespace)
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self.read(kind, namespace, depth)
        if kind in ("record", "error", "array", "map") and depth > self.options.max_depth:
            raise too_deep(self.file, self.options)
        if kind in ("record", "error"):
            return self.read_record(schema, namespace, depth)
        if kind == "array":
            return _array(self.read(schema["items"], namespace, depth + 1), self.file)
        if kind == "map":
            return _map(self.read(schema["values"], namespace, depth + 1))
        if kind in ("enum", "fixed"):
            full, _ = _full_name(schema, namespace)
            made = _enum(schema) if kind == "enum" else _fixed(schema, f"n{next(self.numbers)}")
            return self.keep(full, made)
        if kind in _PRIMITIVES:
            return _logical(schema, _PRIMITIVES[kind])
        return self.reference(kind, namespace)

    def keep(self, name: str, made: Reading) -> Reading:
        """Remember a named type. fastavro wants it defined once and named from then on, as Avro does."""
        named = made.wire["name"] if isinstance(made.wire, dict) and "name" in made.wire else made.wire
        self.known[name] = replace(made, wire=named)
        return made

    def reference(self, name: str, namespace: str) -> Reading:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        for candidate in (full, name):
            if candidate in self.open:
                raise DecodeError(
                    f'The Avro record "{candidate}" contains itself, so no column type can hold it.',
                    where=self.file,
                    hint="write the nested part as JSON text, or as rows of its own with a parent's id",
                )
            if candidate in self.known:
                return self.known[candidate]
        raise DecodeError(f'The Avro schema names a type "{name}" that it does not define.', where=self.file)

    def read_record(self, schema: Any, namespace: str, depth: int) -> Reading:
        full, inner = _full_name(schema, namespace)
        self.open.append(full)
        fields = [(str(each["name"]), self.read(each["type"], inner, depth + 1)) for each in schema["fields"]]
        self.open.pop()
        made = self.record(fields)
        if depth and not fields:
            # Parquet has no struct without fields; that there is one says nothing.
            made = replace(made, type=pa.null(), build=_PRIMITIVES["null"].build)
        return self.keep(full, made)

    def record(self, fields: list[tuple[str, Reading]]) -> Reading:
        """A record of these fields, in the order in which they are encoded."""
        keys = [f"f{i}" for i in range(len(fields))]
        wire = {
            "type": "record",
            "name": f"n{next(self.numbers)}",
            "fields": [{"name": key, "type": each.wire} for key, (_, each) in zip(keys, fields, strict=True)],
        }
        leaves = sum(each.leaves for _, each in fields)
        if leaves > self.options.max_columns:
            raise too_many_columns(self.file, self.options)
        kind = pa.struct([(name, each.type) for name, each in fields])

        def build(values: list[Any]) -> Any:
            whole = None not in values
            mask = None if whole else pa.array([value is None for value in values], pa.bool_())
            columns = [
                each.build([value[key] for value in values] if whole else [v and v[key] for v in values])
                for key, (_, each) in zip(keys, fields, strict=True)
            ]
            if not columns:
                return pa.array([None if value is None else {} for value in values], kind)
            return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)

        def plain(value: Any) -> Any:
            return {name: each.plain(value[key]) for key, (name, each) in zip(keys, fields, strict=True)}

        smallest = sum(each.smallest for _, each in fields)
        return Reading(wire, kind, build, plain, smallest, max(leaves, 1), tuple(fields))

    def union(self, branches: list[Reading]) -> Reading:
        wire = [branch.wire for branch in branches]
        some = [branch for branch in branches if branch.wire != "null"]
        if not some:
            return replace(_PRIMITIVES["null"], wire=wire, smallest=1)
        if len(some) > 1:
            number = _number_for(some)
            return replace(number, wire=wire, smallest=1) if number else self.union_as_json(branches)
        (only,) = some

        def plain(value: Any) -> Any:
            return None if value is None else only.plain(value)

        return replace(only, wire=wire, plain=plain, smallest=1)

    def union_as_json(self, branches: list[Reading]) -> Reading:
        boxes: dict[str, Reading] = {}
        wire: list[Any] = []
        for branch in branches:
            if branch.wire == "null":
                wire.append("null")
                continue
            name = f"n{next(self.numbers)}"
            boxes[name] = branch
            wire.append({"type": "record", "name": name, "fields": [{"name": "v", "type": branch.wire}]})

        def plain(value: Any) -> Any:
            return None if value is None else boxes[value[0]].plain(value[1]["v"])

        def build(values: list[Any]) -> Any:
            return pa.array([None if v is None else _JSON.encode(plain(v)) for v in values], pa.binary()).cast(
                pa.string()
            )

        return Reading(wire, pa.string(), build, plain, 1)


def _full_name(schema: Any, namespace: str) -> tuple[str, str]:
    """A named type's full name, and the namespace that holds within it."""
    name = str(schema["name"])
    if "." not in name:
        space = schema.get("namespace", namespace) or ""
        name = f"{space}.{name}" if space else name
    return name, name.rpartition(".")[0]


def _same(value: Any) -> Any:
    return value


def _simple(wire: str, kind: pa.DataType, smallest: int) -> Reading:
    return Reading(wire, kind, lambda values: pa.array(values, kind), _same, smallest)


_PRIMITIVES = {
    "null": Reading("null", pa.null(), lambda values: pa.nulls(len(values)), _same, 0),
    "boolean": _simple("boolean", pa.bool_(), 1),
    "int": _simple("int", pa.int32(), 1),
    "long": _simple("long", pa.int64(), 1),
    "float": _simple("float", pa.float32(), 4),
    "double": _simple("double", pa.float64(), 8),
    "bytes": _simple("bytes", pa.binary(), 1),
    "string": _simple("string", pa.string(), 1),
}


def _number_for(branches: list[Reading]) -> Reading | None:
    """The number type that holds every value of all branches exactly, where there is one."""
    wires = {branch.wire for branch in branches if branch in _PRIMITIVES.values()}
    if len(wires) != len(branches):
        return None
    if wires == {"int", "long"}:
        return _PRIMITIVES["long"]
    return _PRIMITIVES["double"] if wires <= {"int", "float", "double"} else None


def _derived(below: Reading, kind: pa.DataType, build: Build) -> Reading:
    """A logical type: another column of the same values. JSON gets what Python makes of the column's value."""
    return replace(below, type=kind, build=build, plain=lambda value: build([value])[0].as_py())


def _logical(schema: Any, below: Reading) -> Reading:
    """The reading of a primitive with its logical type; one that does not fit is ignored, as Avro asks."""
    kind = (below.wire, schema.get("logicalType"))
    if kind == ("bytes", "decimal"):
        return _decimal(schema, below)
    if kind == ("int", "date"):
        return _derived(below, pa.date32(), lambda values: pa.array(values, pa.int32()).cast(pa.date32()))
    if kind == ("int", "time-millis"):
        return _derived(below, pa.time64("us"), lambda values: _time_of_day(values, "ms"))
    if kind == ("long", "time-micros"):
        return _derived(below, pa.time64("us"), lambda values: _time_of_day(values, "us"))
    if below.wire == "long" and kind[1] in _TIMESTAMPS:
        unit, zone = _TIMESTAMPS[kind[1]]
        target = pa.timestamp("us", zone)
        return _derived(below, target, lambda values: to_micros(pa.array(values, pa.int64()), unit).cast(target))
    return below


_TIMESTAMPS = {
    "timestamp-millis": ("ms", "UTC"),
    "timestamp-micros": ("us", "UTC"),
    "timestamp-nanos": ("ns", "UTC"),
    "local-timestamp-millis": ("ms", None),
    "local-timestamp-micros": ("us", None),
    "local-timestamp-nanos": ("ns", None),
}


def _time_of_day(values: list[Any], unit: str) -> Any:
    counts = to_micros(pa.array(values, pa.int64()), unit)
    least_most = pc.min_max(counts).as_py()
    if least_most["min"] is not None and (least_most["min"] < 0 or least_most["max"] >= DAY):
        raise ValueError("a time of day is not between 00:00 and 24:00")
    return counts.cast(pa.time64("us"))


def _decimal(schema: Any, below: Reading) -> Reading:
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not (isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision and precision > 0):
        return below
    if precision > DIGITS:
        return _derived(
            below,
            pa.string(),
            lambda values: pa.array([v if v is None else _digits(_integer(v), scale) for v in values], pa.string()),
        )
    kind = pa.decimal128(precision, scale)

    def build(values: list[Any]) -> Any:
        # 16 bytes a value, the least first, is how Arrow stores them.
        data = b"".join((0 if v is None else _integer(v)).to_bytes(16, "little", signed=True) for v in values)
        valid = pa.array([v is not None for v in values], pa.bool_()).buffers()[1]
        array = pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(data)])
        array.validate(full=True)
        return array

    return _derived(below, kind, build)


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _digits(unscaled: int, scale: int) -> str:
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if unscaled < 0 else text


def _fixed(schema: Any, name: str) -> Reading:
    size = int(schema["size"])
    wire = {"type": "fixed", "name": name, "size": size}
    below = Reading(wire, pa.binary(), lambda values: pa.array(values, pa.binary()), _same, size)
    logical = schema.get("logicalType")
    if logical == "decimal":
        return _decimal(schema, below)
    if logical == "uuid" and size == 16:
        return _derived(
            below,
            pa.string(),
            lambda values: pa.array([v if v is None else str(uuid.UUID(bytes=v)) for v in values], pa.string()),
        )
    if logical == "duration" and size == 12:
        return _derived(below, _DURATION, _durations)
    return below


_DURATION = pa.struct([("months", pa.int64()), ("days", pa.int64()), ("millis", pa.int64())])


def _durations(values: list[Any]) -> Any:
    parts = [None if v is None else [int.from_bytes(v[at : at + 4], "little") for at in (0, 4, 8)] for v in values]
    columns = [pa.array([p and p[at] for p in parts], pa.int64()) for at in range(3)]
    return pa.StructArray.from_arrays(columns, fields=list(_DURATION), mask=pa.array([p is None for p in parts]))


def _enum(schema: Any) -> Reading:
    symbols = [str(symbol) for symbol in schema["symbols"]]
    dictionary = pa.array(symbols, pa.string())

    def build(values: list[Any]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), dictionary).dictionary_decode()

    # Read as the int that it is encoded as: fastavro would take -1 for the last symbol.
    return _derived(_PRIMITIVES["int"], pa.string(), build)


def _array(items: Reading, file: str) -> Reading:
    if items.smallest == 0:
        raise DecodeError(
            "The Avro schema has an array of items that take no bytes, so its length is anyone's claim.", where=file
        )
    kind = list_of(items.type)

    def build(values: list[Any]) -> Any:
        elements = items.build(list(chain.from_iterable(value for value in values if value is not None)))
        return pa.ListArray.from_arrays(_offsets(values), elements, type=kind, mask=_nulls(values))

    def plain(value: Any) -> Any:
        return [items.plain(each) for each in value]

    return Reading({"type": "array", "items": items.wire}, kind, build, plain, 1, items.leaves)


def _map(items: Reading) -> Reading:
    kind = pa.map_(pa.string(), items.type)

    def build(values: list[Any]) -> Any:
        entries = [value for value in values if value is not None]
        keys = pa.array(list(chain.from_iterable(entries)), pa.string())
        elements = items.build(list(chain.from_iterable(entry.values() for entry in entries)))
        return pa.MapArray.from_arrays(_offsets(values), keys, elements, type=kind, mask=_nulls(values))

    def plain(value: Any) -> Any:
        return {key: items.plain(each) for key, each in value.items()}

    return Reading({"type": "map", "values": items.wire}, kind, build, plain, 1, items.leaves + 1)


def _offsets(values: list[Any]) -> Any:
    lengths = pa.array([0, *(0 if value is None else len(value) for value in values)], pa.int32())
    return pc.cumulative_sum(lengths)


def _nulls(values: list[Any]) -> Any:
    return pa.array([value is None for value in values], pa.bool_())
