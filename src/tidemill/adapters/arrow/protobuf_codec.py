"""The codec of Protocol Buffers messages, read by the message's own description, as the format means it to be.

A field that a message lacks is null where the field tracks that (`optional`, messages, `oneof`), else its default, as
everywhere. In the wire format of a registry, the schema's number is followed by the place of the message in its file.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError as ProtobufError

from tidemill.adapters.arrow import proto_schema
from tidemill.adapters.arrow.frames import frame_of, narrowed
from tidemill.adapters.arrow.registered import Bad, Place, decode_by_schema, fitted, head, number_in
from tidemill.adapters.arrow.types import to_arrow, to_arrow_type
from tidemill.model.codec import Protobuf
from tidemill.model.errors import DataError, DefinitionError, UnknownName
from tidemill.model.table import Column, Schema
from tidemill.ports.codec import Decoded
from tidemill.ports.registry import RegistrySchema

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: More levels than any file has.
_LONGEST_PATH = 64

#: Takes a value out of a message's field.
_Get = Callable[[Any], Any]


class ProtobufCodec:
    """Messages of one Protocol Buffers type."""

    def __init__(self, spec: Protobuf, place: Place, names: Sequence[str] | None = None) -> None:
        self._spec = spec
        self._place = place
        self._names = names
        if spec.schema is None:
            self._class: Any = proto_schema.class_of(spec.message)
        else:
            file = proto_schema.compiled(spec.schema, {})
            self._class = proto_schema.make_class(proto_schema.message_in(file, spec.message))
        self._descriptor: Any = self._class.DESCRIPTOR
        #: By number and place in the file, what is wrong with messages that name them; None: nothing.
        self._judged: dict[tuple[int, tuple[int, ...]], str | None] = {}

    @cached_property
    def _fields(self) -> Schema:
        if self._spec.columns is None:
            return Schema(tuple(Column(name, kind) for name, kind in proto_schema.fields_of(self._descriptor)))
        # Of the declared columns only, so that a field which no column can hold may be left out.
        declared = [field for field in self._descriptor.fields if field.name in self._spec.columns]
        made = [(field.name, proto_schema.type_of_field(field)) for field in declared]
        return Schema(tuple(Column(name, kind) for name, kind in made))

    @cached_property
    def _columns(self) -> Schema:
        whole = self._fields if self._spec.columns is None else Schema.of(self._spec.columns)
        return whole if self._names is None else narrowed(whole, self._names)

    @property
    def columns(self) -> pl.Schema:
        """The message's fields, or the declared columns."""
        return frame_of(to_arrow(self._columns).empty_table()).schema

    def only(self, names: Sequence[str]) -> ProtobufCodec:
        """The codec for some columns, in this order."""
        return ProtobufCodec(self._spec, self._place, tuple(names))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See the port."""
        return decode_by_schema(values, self._columns, self._key, self._read)

    def _key(self, value: bytes) -> int:
        """Where the data begins. The schema is looked at: that it is there, and that it is this message's."""
        if self._spec.framing == "bare":
            return 0
        number = number_in(value)
        path, start = _path_in(value, 5)
        if (number, path) not in self._judged:
            self._judged[number, path] = self._judge(number, path)
        if why := self._judged[number, path]:
            raise Bad(why)
        return start

    def _judge(self, number: int, path: tuple[int, ...]) -> str | None:
        try:
            found = self._place.known.by_id(number)
        except UnknownName as error:
            raise Bad(error.what.rstrip(".")) from None  # it may be there tomorrow
        if found.format != "PROTOBUF":
            return f"the schema with the id {number} is of the format {found.format}, not PROTOBUF"
        imports: dict[str, str] = {}
        self._collect(found, imports)
        try:
            message = proto_schema.at_path(proto_schema.compiled(found.text, imports), path)
        except DefinitionError as error:
            return f"schema {number}: {error.what}"
        if message is None:
            return f"schema {number} has no message at {list(path)}"
        if message.full_name != self._descriptor.full_name:
            return f'it is a message "{message.full_name}", not "{self._descriptor.full_name}"'
        return None

    def _collect(self, schema: RegistrySchema, imports: dict[str, str]) -> None:
        for each in schema.references:
            found = self._place.known.version(each.subject, each.version)
            if found is None:
                raise Bad(f'the schema refers to "{each.subject}" version {each.version}, which is not registered')
            imports[each.name] = found.text
            self._collect(found, imports)

    def _read(self, start: int, values: Sequence[bytes]) -> tuple[pa.RecordBatch, Mapping[int, str]]:
        parse = self._class.FromString
        messages = []
        bad: dict[int, str] = {}
        for i, value in enumerate(values):
            try:
                messages.append(parse(value[start:] if start else value))
            except (ProtobufError, ValueError) as error:
                bad[i] = f'no "{self._descriptor.full_name}": {str(error) or "the bytes are broken"}'
        names = [column.name for column in self._fields if column.name in self._columns]
        arrays = []
        for name in names:
            get = _getter(self._descriptor.fields_by_name[name])
            arrays.append(pa.array(list(map(get, messages)), to_arrow_type(self._fields[name].type)))
        if not names:
            return pa.record_batch([pa.nulls(len(messages))], names=["none"]), bad
        return pa.record_batch(arrays, names=names), bad

    # -- writing

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """See the port. A null in a field that has no such thing is an error: it would be read as the default."""
        # Columns that the rows lack are fields that are not set, not nulls.
        given = tuple(column for column in self._fields if column.name in rows.columns)
        columns = fitted(rows, Schema(given), "Protobuf")
        start = b"" if self._spec.framing == "bare" else self._head()
        fields = {name: self._descriptor.fields_by_name[name] for name in columns}
        made: list[bytes | None] = []
        for i in range(rows.height):
            message = self._class()
            for name, values in columns.items():
                try:
                    _fill(message, fields[name], values[i])
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(f'Column "{name}", row {i}: {error} (Protocol Buffers).') from None
            made.append(start + message.SerializeToString(deterministic=True))
        return made

    def _head(self) -> bytes:
        number = self._place.number(
            self._spec.subject, self._descriptor.full_name, self._registered, register=self._spec.register
        )
        path = proto_schema.path_of(self._descriptor)
        return head(number) + (b"\0" if path == [0] else b"".join(map(_zigzag, [len(path), *path])))

    @cached_property
    def _registered(self) -> RegistrySchema:
        if self._spec.schema is not None:
            return RegistrySchema(self._spec.schema, "PROTOBUF")
        file = self._descriptor.file
        if foreign := [each.name for each in file.dependencies if not each.name.startswith("google/protobuf/")]:
            raise DefinitionError(
                f'The schema of "{self._spec.message}" imports {foreign[0]}, so it is not registered from its class.',
                hint="register it beforehand and set register=False, or give schema=",
            )
        return RegistrySchema(base64.b64encode(file.serialized_pb).decode(), "PROTOBUF")


def _path_in(value: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The place of a message in its file, and where its data begins."""
    count, at = _number_at(value, at)
    if count == 0:
        return (0,), at
    if not 0 < count <= _LONGEST_PATH:
        raise Bad(f"not in the registry's wire format: a message's place of {count} levels")
    path = []
    for _ in range(count):
        number, at = _number_at(value, at)
        path.append(number)
    return tuple(path), at


def _number_at(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(value):
            break
        number |= (value[at] & 0x7F) << shift
        at += 1
        if value[at - 1] < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise Bad("not in the registry's wire format: the message's place in its file is broken")


def _zigzag(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _getter(field: FieldDescriptor) -> _Get:
    """What takes a field's value out of a message, as Arrow takes it; None where it is absent."""
    name = field.name
    if proto_schema.is_map(field):
        value = _plain(field.message_type.fields_by_name["value"])
        return lambda message: [(key, value(part)) for key, part in getattr(message, name).items()]
    plain = _plain(field)
    if field.is_repeated:
        return lambda message: [plain(each) for each in getattr(message, name)]
    if field.has_presence:
        return lambda message: plain(getattr(message, name)) if message.HasField(name) else None
    return lambda message: plain(getattr(message, name))


def _plain(field: FieldDescriptor) -> _Get:
    if field.message_type is not None:
        return _plain_message(field.message_type)
    if field.enum_type is not None:
        symbols = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: symbols.get(number) or str(number)
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64:
        return Decimal
    return lambda value: value


def _plain_message(descriptor: Any) -> _Get:
    if descriptor.full_name == proto_schema.TIMESTAMP_NAME:
        return lambda message: message.seconds * 1_000_000 + message.nanos // 1000
    if descriptor.full_name in proto_schema.WRAPPERS:
        inner = _plain(descriptor.fields_by_name["value"])
        return lambda message: inner(message.value)
    if descriptor.full_name in proto_schema.LOOSE:
        return lambda message: json_format.MessageToJson(message, indent=None, ensure_ascii=False)
    getters = [(field.name, _getter(field)) for field in descriptor.fields]
    return lambda message: {name: get(message) for name, get in getters}


def _fill(message: Any, field: FieldDescriptor, value: Any) -> None:
    """Set a field.

    Raises:
        ValueError, TypeError, KeyError: the field does not take the value.
    """
    name = field.name
    if value is None:
        if not field.has_presence and not field.is_repeated:
            raise ValueError(f'null, which the field "{name}" cannot say: declare it optional')
        return
    if proto_schema.is_map(field):
        inner = field.message_type.fields_by_name["value"]
        for key, part in value:
            if inner.message_type is not None:
                _fill_message(getattr(message, name)[key], part)
            else:
                getattr(message, name)[key] = _scalar(inner, part)
    elif field.is_repeated:
        if field.message_type is not None:
            for each in value:
                _fill_message(getattr(message, name).add(), each)
        else:
            getattr(message, name).extend([_scalar(field, each) for each in value])
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
        _fill_message(getattr(message, name), value)
    else:
        setattr(message, name, _scalar(field, value))


def _fill_message(message: Any, value: Any) -> None:
    descriptor = message.DESCRIPTOR
    if value is None:
        raise ValueError("null in a list or map, which cannot say it")
    if descriptor.full_name == proto_schema.TIMESTAMP_NAME:
        micros = (value - _EPOCH) // _MICROSECOND
        message.seconds, message.nanos = micros // 1_000_000, micros % 1_000_000 * 1000
    elif descriptor.full_name in proto_schema.WRAPPERS:
        message.value = _scalar(descriptor.fields_by_name["value"], value)
    elif descriptor.full_name in proto_schema.LOOSE:
        json_format.Parse(value, message)
    else:
        for field in descriptor.fields:
            _fill(message, field, value.get(field.name))


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if value is None:
        raise ValueError("null in a list or map, which cannot say it")
    if field.enum_type is not None:
        known = field.enum_type.values_by_name.get(value)
        if known is None and not str(value).lstrip("-").isdigit():
            raise ValueError(f'"{value}" is none of {", ".join(field.enum_type.values_by_name)}')
        return int(value) if known is None else known.number
    return int(value) if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64 else value
