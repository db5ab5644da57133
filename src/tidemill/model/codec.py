"""How the messages of a topic are written: one value for its values, one for its keys. Codecs are made from these.

A codec gives columns of the types that tables have, by the rules of loads: what a table takes from a file of JSON
lines, a stream takes from a topic of JSON messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from tidemill.model.errors import DefinitionError
from tidemill.model.table import Schema

#: What a column is where a message has no such field: null, or the message cannot be read.
Absent = Literal["null", "error"]
#: What becomes of fields that no column was declared for.
Extra = Literal["ignore", "error"]
#: How a schema's subject is called in the registry: `<topic>-value`, the record's full name, or `<topic>-<record>`.
SubjectName = Literal["topic", "record", "topic-record"]
#: What stands before the data of an Avro message: magic byte and schema id (the registry's), Avro's own fingerprint
#: of the schema ("single-object"), or nothing.
Framing = Literal["registry", "single-object", "bare"]
#: Which half of a message a codec is for.
Part = Literal["value", "key"]
#: The column of messages that are one value.
SINGLE = "value"


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON object a message.

    Args:
        columns: name -> type text (`{"id": "long", "at": "timestamptz"}`; ` not null` refuses nulls). None: only for
            writing, which takes the rows' own columns.
        absent: what a column is where a message has no such field: null, or the message is an error. An explicit null
            is null. Absent fields of structs are null.
        extra: fields beyond the columns.
    """

    columns: Mapping[str, str] | None = None
    absent: Absent = "null"
    extra: Extra = "ignore"

    def __post_init__(self) -> None:
        _check_columns(self.columns)


@dataclass(frozen=True, slots=True)
class Avro:
    """An Avro record a message.

    Args:
        schema: the schema's JSON text, or a file with it (`"laps.avsc"`) beside the one that declares it. What it says
            is read and written. None: for reading, the newest version of the subject in the registry; for writing, a
            schema that is made of the rows' columns.
        columns: the columns to have, where they are not the schema's: messages of older and newer schemas are read
            into these. A field that a message's schema lacks is null; types widen (int to long, float to double).
        subject: how the schema is called in the registry.
        record: the name of a record whose schema is made of columns.
        framing: `registry` needs a registry.
        register: write a schema into the registry that is not there; False: only use what is there.
    """

    schema: str | None = None
    columns: Mapping[str, str] | None = None
    subject: SubjectName = "topic"
    record: str = "Row"
    framing: Framing = "registry"
    register: bool = True

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        if self.framing != "registry" and self.schema is None:
            raise DefinitionError(
                f'Avro messages with framing="{self.framing}" do not say which schema they have.',
                hint="give it: Avro(schema=...)",
            )


@dataclass(frozen=True, slots=True)
class Protobuf:
    """A Protocol Buffers message a message.

    Args:
        message: a generated class, as `module:Class`; with `schema` the message's full name.
        schema: the text of a .proto file, or the file. It may import Google's well-known types.
        columns: as for `Avro`. None: the message's fields.
        subject: how the schema is called in the registry.
        framing: `registry` or `bare`.
        register: as for `Avro`.
    """

    message: str
    schema: str | None = None
    columns: Mapping[str, str] | None = None
    subject: SubjectName = "topic"
    framing: Framing = "registry"
    register: bool = True

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        if self.framing == "single-object":
            raise DefinitionError("Single-object framing is Avro's.", hint='framing="registry" or "bare"')
        if self.schema is None and ":" not in self.message:
            raise DefinitionError(
                f'"{self.message}" names no class.', hint='"module:Class", or give schema= with the .proto text'
            )


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON whose schema is in the registry.

    Args:
        schema: the JSON Schema's text, or a file with it. None: as for `Avro`.
        columns: None: the schema's properties.
        absent, extra: as for `Json`.
        subject: how the schema is called in the registry; its `title` is the record's name.
        validate: hold every message against the schema, when reading and when writing (some 30 us a message).
        register: as for `Avro`.
    """

    schema: str | None = None
    columns: Mapping[str, str] | None = None
    absent: Absent = "null"
    extra: Extra = "ignore"
    subject: SubjectName = "topic"
    validate: bool = True
    register: bool = True

    def __post_init__(self) -> None:
        _check_columns(self.columns)


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text, as one column."""

    column: str = field(default="value")


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, as one column."""

    column: str = field(default="value")


CodecSpec: TypeAlias = "Json | Avro | Protobuf | JsonSchema | Text | Raw"


#: Codecs by the names that they have in YAML and in manifests.
NAMED: Mapping[str, type[CodecSpec]] = {
    "json": Json,
    "avro": Avro,
    "protobuf": Protobuf,
    "json_schema": JsonSchema,
    "text": Text,
    "bytes": Raw,
}


def codec_as_json(spec: CodecSpec) -> dict[str, Any]:
    """The codec as a document keeps it: its name as `codec`, and what is not left as it is by default."""
    name = next(name for name, kind in NAMED.items() if isinstance(spec, kind))
    told = {
        each.name: value
        for each in fields(spec)
        if (value := getattr(spec, each.name)) != each.default or each.default is MISSING
    }
    return {"codec": name, **{name: dict(v) if isinstance(v, Mapping) else v for name, v in told.items()}}


def codec_of_json(told: Mapping[str, Any]) -> CodecSpec:
    """The inverse of `codec_as_json`."""
    return NAMED[told["codec"]](**{name: value for name, value in told.items() if name != "codec"})


def subject_of(strategy: SubjectName, topic: str, part: Part, record: str) -> str:
    """The name under which a registry knows a schema, as Confluent's clients make it."""
    if strategy == "record":
        return record
    return f"{topic}-{record}" if strategy == "topic-record" else f"{topic}-{part}"


def _check_columns(columns: Mapping[str, str] | None) -> None:
    if columns is not None:
        Schema.of(columns)
