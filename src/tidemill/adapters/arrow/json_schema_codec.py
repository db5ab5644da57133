"""The codec of JSON messages whose schema is in a registry: the JSON codec behind the wire format, and validation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import polars as pl
import pyarrow as pa
from jsonschema import ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from tidemill.adapters.arrow.frames import frame_of, narrowed
from tidemill.adapters.arrow.json_codec import JsonCodec
from tidemill.adapters.arrow.json_schema import columns_of, schema_of
from tidemill.adapters.arrow.normal import normal_type
from tidemill.adapters.arrow.registered import Bad, Place, decode_by_schema, head, number_in
from tidemill.adapters.arrow.types import from_arrow_type, to_arrow
from tidemill.model.codec import Json, JsonSchema
from tidemill.model.errors import DataError, DefinitionError, UnknownName
from tidemill.model.table import Column, Schema
from tidemill.ports.codec import Decoded
from tidemill.ports.registry import RegistrySchema

_SHOWN = 60


class JsonSchemaCodec:
    """JSON objects that name their schema. A message is held against the schema that it names."""

    def __init__(self, spec: JsonSchema, place: Place, names: Sequence[str] | None = None) -> None:
        self._spec = spec
        self._place = place
        self._names = names
        self._validators: dict[int, Any] = {}
        self._own = None if spec.schema is None else _parsed(spec.schema)
        if self._own is not None:
            _validator(self._own, {})

    @cached_property
    def _whole(self) -> Schema:
        if self._spec.columns is not None:
            return Schema.of(self._spec.columns)
        return columns_of(self._own or _parsed(self._place.newest(self._spec.subject).text))

    @cached_property
    def _json(self) -> JsonCodec:
        declared = {column.name: f"{column.type}{'' if column.nullable else ' not null'}" for column in self._whole}
        made = JsonCodec(Json(declared, self._spec.absent, self._spec.extra))
        return made if self._names is None else made.only(self._names)

    @property
    def columns(self) -> pl.Schema:
        """The columns. Asks the registry where neither they nor a schema are declared.

        Raises:
            UnknownName: there is no such subject yet.
            Unreachable: the registry does not answer.
        """
        wanted = self._whole if self._names is None else narrowed(self._whole, self._names)
        return frame_of(to_arrow(wanted).empty_table()).schema

    def only(self, names: Sequence[str]) -> JsonSchemaCodec:
        """The codec for some columns, in this order. Messages are still held against their whole schema."""
        return JsonSchemaCodec(self._spec, self._place, tuple(names))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See the port."""
        wanted = self._whole if self._names is None else narrowed(self._whole, self._names)
        return decode_by_schema(values, wanted, number_in, self._read)

    def _read(self, number: int, values: Sequence[bytes]) -> tuple[pa.RecordBatch, Mapping[int, str]]:
        validator = self._validator_of(number)
        texts = [value[5:] for value in values]
        batch, taken, bad = self._json.read(texts)
        refused = {each.index: each.error for each in bad}
        if not self._spec.validate:
            return batch, refused
        indices = range(len(texts)) if taken is None else taken
        invalid = {row: why for row, i in enumerate(indices) if (why := _complaint(validator, texts[i]))}
        if invalid:
            kept = [row for row in range(batch.num_rows) if row not in invalid]
            batch = batch.take(pa.array(kept, pa.int64()))
        return batch, refused | {indices[row]: why for row, why in invalid.items()}

    def _validator_of(self, number: int) -> Any:
        if number not in self._validators:
            try:
                found = self._place.known.by_id(number)
            except UnknownName as error:
                raise Bad(error.what.rstrip(".")) from None
            if found.format != "JSON":
                raise Bad(f"the schema with the id {number} is of the format {found.format}, not JSON")
            try:
                self._validators[number] = _validator(_parsed(found.text), dict(self._referred(found)))
            except DefinitionError as error:
                raise Bad(f"schema {number}: {error.what}") from None
        return self._validators[number]

    def _referred(self, schema: RegistrySchema) -> Iterator[tuple[str, Any]]:
        for each in schema.references:
            found = self._place.known.version(each.subject, each.version)
            if found is None:
                raise Bad(f'the schema refers to "{each.subject}" version {each.version}, which is not registered')
            yield each.name, _parsed(found.text)
            yield from self._referred(found)

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """See the port."""
        schema = self._own
        text = self._spec.schema
        if schema is None or text is None:
            kinds = zip(rows.columns, rows.head(0).to_arrow().schema.types, strict=True)
            schema = schema_of(Schema(tuple(Column(name, from_arrow_type(normal_type(kind))) for name, kind in kinds)))
            text = json.dumps(schema)
        written = JsonCodec(Json(self._spec.columns)).encode(rows)
        if self._spec.validate:
            validator = _validator(schema, {})
            for i, message in enumerate(written):
                if why := _complaint(validator, message or b""):
                    raise DataError(f"Row {i}: {why}.")
        record = str(schema.get("title") or "Row") if isinstance(schema, dict) else "Row"
        registered = RegistrySchema(text, "JSON")
        number = self._place.number(self._spec.subject, record, registered, register=self._spec.register)
        start = head(number)
        return [start + (message or b"") for message in written]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DefinitionError(f"The JSON Schema is no JSON: {error}.") from None


def _validator(schema: Any, referred: Mapping[str, Any]) -> Any:
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise DefinitionError(f"This is no JSON Schema: {error.message}.") from None
    made = partial(Resource.from_contents, default_specification=DRAFT7)
    return kind(schema, registry=Registry().with_resources((name, made(part)) for name, part in referred.items()))


def _complaint(validator: Any, message: bytes) -> str | None:
    """The first thing that a message's schema says against it."""
    try:
        error: ValidationError | None = next(
            validator.iter_errors(json.loads(message.removeprefix(b"\xef\xbb\xbf"))), None
        )
    except (ValueError, RecursionError) as broken:
        return f"not JSON: {broken}"
    if error is None:
        return None
    path = ".".join(map(str, error.absolute_path))
    said = error.message if len(error.message) <= 2 * _SHOWN else f"{error.message[: 2 * _SHOWN]}..."
    return f"{path}: {said}" if path else said
