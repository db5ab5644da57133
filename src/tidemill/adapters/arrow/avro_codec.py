"""The codec of Avro messages: read into the columns that a load of an Avro file with the same schema has.

fastavro decodes a message by its writer's schema, `avro_schema` makes columns of the values, and these are fitted into
the columns that the topic has: those declared, those of the codec's own schema, or of the newest one registered.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa

from tidemill.adapters.arrow.avro_rows import plain_values, schema_of_rows
from tidemill.adapters.arrow.avro_schema import Reading, read_schema
from tidemill.adapters.arrow.frames import frame_of, narrowed
from tidemill.adapters.arrow.registered import Bad, Place, decode_by_schema, fitted, head, number_in
from tidemill.adapters.arrow.types import from_arrow_type, to_arrow
from tidemill.model.codec import Avro
from tidemill.model.errors import DataError, DecodeError, DefinitionError, LimitError, UnknownName
from tidemill.model.table import Column, Schema
from tidemill.plan.evolve import settled
from tidemill.ports.codec import Decoded
from tidemill.ports.decoder import DecodeOptions
from tidemill.ports.registry import RegistrySchema

_OPTIONS = DecodeOptions()
#: Avro's own frame: two bytes, and the fingerprint of the schema.
_MARKER = b"\xc3\x01"
#: fastavro tells the address of the stream that it reads.
_STREAM = re.compile(r" from <_io\.BytesIO object at 0x[0-9a-f]+>")
#: What fastavro raises on bytes that are not what the schema says, and what the builders of columns raise.
_CORRUPT = (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AssertionError)
_UNFIT = (pa.ArrowException, *_CORRUPT)


class AvroCodec:
    """Messages that are Avro values: records, or a single value as the column `value`."""

    def __init__(self, spec: Avro, place: Place, names: Sequence[str] | None = None) -> None:
        self._spec = spec
        self._place = place
        self._names = names
        self._writers: dict[Any, _Writer] = {}
        # A schema that cannot be read is told where the codec is made.
        self._own = (
            None if spec.schema is None else _Writer(_parsed(spec.schema, "the declared one"), "the declared schema")
        )

    @cached_property
    def _columns(self) -> Schema:
        declared = self._spec.columns
        whole = self._reading.columns if declared is None else Schema.of(declared)
        return whole if self._names is None else narrowed(whole, self._names)

    @property
    def _reading(self) -> _Writer:
        """The schema whose columns are read."""
        if self._own is not None:
            return self._own
        try:
            return self._writer_of(self._place.newest(self._spec.subject), "the newest schema")
        except Bad as error:
            raise DefinitionError(f'The columns of "{self._place.topic}" cannot be known: {error}.') from None

    @property
    def columns(self) -> pl.Schema:
        """The columns. Asks the registry where neither they nor a schema are declared.

        Raises:
            UnknownName: there is no such subject yet.
            Unreachable: the registry does not answer.
        """
        return frame_of(to_arrow(self._columns).empty_table()).schema

    def only(self, names: Sequence[str]) -> AvroCodec:
        """The codec for some columns, in this order."""
        return AvroCodec(self._spec, self._place, tuple(names))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See the port."""
        return decode_by_schema(values, self._columns, self._key, self._read)

    def _key(self, value: bytes) -> Any:
        if self._spec.framing == "registry":
            return number_in(value)
        if self._spec.framing == "single-object":
            assert self._own is not None, "checked by the spec"
            if value[:2] != _MARKER or len(value) < 10:
                raise Bad(f"not an Avro single object: it begins with 0x{value[:2].hex()}, not with 0xc301")
            if value[2:10] != self._own.fingerprint:
                raise Bad(f"the Avro schema with the fingerprint {value[2:10].hex()} is not known")
        return None

    def _read(self, number: int | None, values: Sequence[bytes]) -> tuple[pa.RecordBatch, Mapping[int, str]]:
        if number is None:
            assert self._own is not None, "checked by the spec"
            return self._own.read(values, 10 if self._spec.framing == "single-object" else 0, self._columns)
        return self._writer(number).read(values, 5, self._columns)

    def _writer(self, number: int) -> _Writer:
        if number not in self._writers:
            try:
                found = self._place.known.by_id(number)
            except UnknownName as error:
                raise Bad(error.what.rstrip(".")) from None
            if found.format != "AVRO":
                raise Bad(f"the schema with the id {number} is of the format {found.format}, not AVRO")
            try:
                self._writers[number] = self._writer_of(found, f"schema {number}")
            except (DecodeError, LimitError) as error:
                raise Bad(error.what) from None
        return self._writers[number]

    def _writer_of(self, schema: RegistrySchema, name: str) -> _Writer:
        """A registered schema with those that it refers to in their places."""
        known: dict[str, Any] = {}

        def collect(of: RegistrySchema) -> None:
            for each in of.references:
                found = self._place.known.version(each.subject, each.version)
                if found is None:
                    raise Bad(f'{name} refers to "{each.subject}" version {each.version}, which is not registered')
                collect(found)
                known.setdefault(each.name, _parsed(found.text, each.name))

        collect(schema)
        return _Writer(_inlined(_parsed(schema.text, name), known), name)

    # -- writing

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """See the port. Of times in a schema that counts milliseconds, microseconds are cut."""
        writer = self._own
        text = self._spec.schema
        if writer is None or text is None:
            text = json.dumps(schema_of_rows(rows, self._spec.record))
            writer = self._writers.setdefault(text, _Writer(json.loads(text), "the rows' schema"))
        start = b""
        if self._spec.framing == "single-object":
            start = _MARKER + writer.fingerprint
        elif self._spec.framing == "registry":
            schema = RegistrySchema(text)
            start = head(self._place.number(self._spec.subject, writer.name, schema, register=self._spec.register))
        return writer.write(rows, start)


class _Writer:
    """A schema by which messages were written, or are.

    Raises:
        DecodeError, LimitError: see `read_schema`.
    """

    def __init__(self, schema: Any, name: str) -> None:
        self._schema = schema
        self._reading: Reading = read_schema(schema, name, _OPTIONS)
        self._wire = fastavro.parse_schema(self._reading.wire)
        self._title = name

    @cached_property
    def columns(self) -> Schema:
        """The columns of its fields; fields that are only ever null are none."""
        found = ((name, settled(from_arrow_type(each.type))) for name, each in self._reading.fields)
        return Schema(tuple(Column(name, kind) for name, kind in found if kind is not None))

    @cached_property
    def fingerprint(self) -> bytes:
        """Avro's own, of the schema in its canonical form; the least byte first."""
        canonical = fastavro.schema.to_parsing_canonical_form(self._schema)
        return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))

    @property
    def name(self) -> str:
        """The record's full name."""
        if not isinstance(self._schema, dict) or "name" not in self._schema:
            return str(self._schema if isinstance(self._schema, str) else self._schema.get("type"))
        space = self._schema.get("namespace", "")
        name = str(self._schema["name"])
        return f"{space}.{name}" if space and "." not in name else name

    def read(self, values: Sequence[bytes], skip: int, wanted: Schema) -> tuple[pa.RecordBatch, Mapping[int, str]]:
        """Messages as rows of the fields that are wanted, and those that cannot be read."""
        rows: list[Any] = []
        bad: dict[int, str] = {}
        read = partial(fastavro.schemaless_reader, return_named_type=True, return_named_type_override=True)
        for i, value in enumerate(values):
            stream = io.BytesIO(value)
            stream.seek(skip)
            try:
                row = read(stream, self._wire, None)
                if rest := len(value) - stream.tell():
                    raise ValueError(f"{rest} bytes are left over")
            except _CORRUPT as error:
                bad[i] = self._misfit(error)
                continue
            rows.append(row)
        try:
            return self._batch(rows, wanted), bad
        except _UNFIT:
            return self._batch_but(rows, wanted, bad, len(values))

    def _batch(self, rows: list[Any], wanted: Schema) -> pa.RecordBatch:
        columns = {
            name: each.build([row[f"f{i}"] for row in rows])
            for i, (name, each) in enumerate(self._reading.fields)
            if name in wanted
        }
        if not columns:
            return pa.record_batch([pa.nulls(len(rows))], names=["none"])
        return pa.record_batch(list(columns.values()), names=list(columns))

    def _batch_but(
        self, rows: list[Any], wanted: Schema, bad: dict[int, str], messages: int
    ) -> tuple[pa.RecordBatch, Mapping[int, str]]:
        """A column says only that some value has no place in it; which one is found one by one."""
        places = [i for i in range(messages) if i not in bad]
        kept: list[Any] = []
        for place, row in zip(places, rows, strict=True):
            try:
                self._batch([row], wanted)
            except _UNFIT as error:
                bad[place] = self._misfit(error)
            else:
                kept.append(row)
        return self._batch(kept, wanted), bad

    def _misfit(self, error: BaseException) -> str:
        why = _STREAM.sub("", str(error).partition("\n")[0]).rstrip(".") or "it ends too early"
        return f"does not fit {self._title}: {why}"

    def write(self, rows: pl.DataFrame, start: bytes) -> list[bytes | None]:
        """Rows as messages that begin with `start`."""
        columns = fitted(rows, self.columns, "Avro")
        single = not (isinstance(self._schema, dict) and self._schema.get("type") in ("record", "error"))
        values = {name: plain_values(column, self.columns[name].type) for name, column in columns.items()}
        schema = fastavro.parse_schema(self._schema, {}, _force=True)
        made: list[bytes | None] = []
        records = zip(*values.values(), strict=True) if values else iter([()] * rows.height)
        for i, row in enumerate(records):
            record = row[0] if single else dict(zip(values, row, strict=True))
            out = io.BytesIO()
            out.write(start)
            try:
                fastavro.schemaless_writer(out, schema, record)
            except (*_CORRUPT, AttributeError) as error:
                raise self._refused(i, record, schema, error) from None
            made.append(out.getvalue())
        return made

    @staticmethod
    def _refused(row: int, record: Any, schema: Any, error: BaseException) -> DataError:
        if isinstance(record, dict):
            for each in schema["fields"]:
                value = record.get(each["name"])
                with suppress(*_CORRUPT, fastavro.schema.UnknownType):  # a named type is not known by its name alone
                    if not fastavro.validate(value, each["type"], raise_errors=False):
                        what = f'Column "{each["name"]}", row {row}: {value!r:.60} does not fit the Avro schema.'
                        return DataError(what)
        return DataError(f"Row {row} does not fit the Avro schema: {error}.")


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if text.strip().replace("_", "a").replace(".", "a").isalnum():
            return text.strip()  # a bare name is Avro for a primitive type
        raise DefinitionError(f"The Avro schema is no JSON: {name}.") from None


def _inlined(schema: Any, known: dict[str, Any]) -> Any:
    """A schema with the named ones in the place where each is named first."""
    if isinstance(schema, str):
        return _inlined(known.pop(schema), known) if schema in known else schema
    if isinstance(schema, list):
        return [_inlined(each, known) for each in schema]
    if isinstance(schema, dict):
        return {
            key: _inlined(part, known) if key in ("type", "items", "values", "fields") else part
            for key, part in schema.items()
        }
    return schema
