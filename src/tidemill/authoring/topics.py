"""`sources.topic(...)`: how a user declares that batches are made of a topic's messages. No broker is asked here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from tidemill.authoring import registry
from tidemill.authoring.place import here
from tidemill.model.codec import NAMED, SINGLE, Avro, CodecSpec, Json, JsonSchema, Protobuf, Raw, Text
from tidemill.model.errors import DefinitionError, TidemillError, UnknownName
from tidemill.model.frame.topic import Topic
from tidemill.model.topic_feed import FIELDS, MessageRows, OnLoss, Start, Tombstones, TopicFeed, Until
from tidemill.model.types import parse_type

#: Codecs of messages that are one value, and its type.
_PLAIN: Mapping[type[CodecSpec], str] = {Text: "string", Raw: "binary"}
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A schema that is a file's name, and no schema's text.
_SCHEMA_FILE = re.compile(r"[^{\[\n]+\.(avsc|json|proto)")


def topic(
    topic: str | Topic,
    *,
    codec: Any = None,
    key_codec: Any = None,
    fields: Iterable[str] | None = None,
    prefix: str = "_",
    connection: str | None = None,
    start: Start = "earliest",
    until: Until = "end",
    max_messages: int | None = None,
    on_loss: OnLoss = "fail",
    tombstones: Tombstones = "skip",
) -> TopicFeed:
    """The messages of a topic, a batch at a time: `shop.source(sources.topic("orders"))`.

    A batch goes on from the offsets of the bookmark, which moves when the batch is published. Messages are archived as
    they came: key, value, headers, partition, offset, timestamp. Messages that cannot be read go to quarantine, with
    the partition as their file and the offset as their line.

    Args:
        topic: its name, or what `tm.topic` gives, with its codecs and columns.
        codec: how values are written: "json", "avro", "json_schema", "text", "bytes", or `Avro(...)` and the like, as
            for streams. "json" needs no columns: types are found as in JSON Lines.
        key_codec: how keys are written, where they are a column: the same words. Left out: as the topic declares; else
            as text.
        fields: what is a column beside the value's: "partition", "offset", "timestamp", "key", "headers". Left out:
            the first three.
        prefix: of the names of these columns, `_offset`.
        connection: the Kafka cluster that has the topic, `TIDEMILL_CONN_<NAME>=kafka://host:9092`; left out, the broker
            of the project's streams.
        start: the first batch begins at the "earliest" message, or takes none and goes on from the "latest".
        until: a batch ends with the messages that there are when it begins, "end", or also, "interval", before the
            first message of each partition that is not older than the end of the data interval.
        max_messages: a batch takes so many at most; the next one goes on after them.
        on_loss: what to do where the topic no longer has messages that were not read, or was made again: "fail", or
            "warn", go on with what there is, and tell what is missing in the quarantine.
        tombstones: messages without a value give no row, "skip"; or "delete" what has their key: the table is then
            written by upsert, with the column `_key` as its key.

    Raises:
        DefinitionError, UnknownName: an argument is wrong.
    """
    place = here()
    name: Any = topic.name if isinstance(topic, Topic) else topic
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):
        raise DefinitionError(f"{name!r} is no name of a topic.", where=place, hint='topic="orders"')
    _one_of("start", start, Start)
    _one_of("until", until, Until)
    _one_of("on_loss", on_loss, OnLoss)
    _one_of("tombstones", tombstones, Tombstones)
    if max_messages is not None and (isinstance(max_messages, bool) or max_messages < 1):
        raise DefinitionError(f"max_messages={max_messages!r} is no number of them.", where=place, hint="1 or more")
    if not _PREFIX.fullmatch(prefix):
        raise DefinitionError(f"prefix={prefix!r} cannot begin a column's name.", where=place, hint='prefix="kafka_"')
    wanted = ("partition", "offset", "timestamp") if fields is None else tuple(fields)
    for field in wanted:
        if field not in FIELDS:
            raise UnknownName.of("field of a message", field, FIELDS, where=place)
    if tombstones == "delete" and "key" not in wanted:
        wanted = ("key", *wanted)
    declared = topic if isinstance(topic, Topic) else Topic(name)
    value = read_codec(topic.codec, topic) if codec is None and declared is topic else read_codec(codec or "json")
    key, keyed = _key_of(declared, value, key_codec)
    rows = MessageRows(name, value, key, tuple(dict.fromkeys(wanted)), prefix, tombstones, keyed)
    return TopicFeed(name, rows, connection, start, until, on_loss, max_messages)


def _key_of(declared: Topic, value: CodecSpec, given: Any) -> tuple[CodecSpec, tuple[str, ...]]:
    """How keys are read, and the columns that are theirs. Values of types that are found have all their columns."""
    if given is not None or declared.key_codec is None:
        return read_codec(given or "text"), ()
    found = isinstance(value, Json) and value.columns is None
    return read_key_codec(declared), () if found else declared.key


def read_codec(given: Any, declared: Topic | None = None) -> CodecSpec:
    """A codec of a name, with the columns of the topic that declares it, or as it is described.

    Raises:
        UnknownName, DefinitionError: it is none, or the file of its schema is missing.
    """
    if isinstance(given, tuple(NAMED.values())):
        return _with_text(cast(CodecSpec, given))
    if not isinstance(given, str) or given not in NAMED:
        raise UnknownName.of("codec", str(given), NAMED, where=here())
    columns = declared.columns if declared is not None else None
    if NAMED[given] in _PLAIN and columns is not None and len(columns) == 1:
        return NAMED[given](column=next(iter(columns)))  # type: ignore[call-arg]
    if given in ("json", "json_schema") and declared is not None:
        return (Json if given == "json" else JsonSchema)(columns=columns, absent=declared.absent)
    if given == "protobuf":
        raise DefinitionError(
            "Which message of Protocol Buffers?",
            where=here(),
            hint='codec=Protobuf("shop_pb2:Order"), of tidemill.model.codec',
        )
    return NAMED[given](columns=columns) if given in ("avro", "json_schema") else NAMED[given]()  # type: ignore[call-arg]


def topic_columns(topic: str, codec: CodecSpec, columns: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The columns of a topic, which need not be declared where its codec says them: messages that are one value have
    one, and a schema has its own. None: only the messages know.

    Raises:
        DefinitionError: others are declared than the codec has; the schema cannot be read.
    """
    kind = _PLAIN.get(type(codec))
    if kind is None:
        return columns if columns is not None else _columns_by_codec(topic, codec)
    if columns is None:
        return {codec.column: kind}  # type: ignore[union-attr]  # both have one
    if len(columns) != 1 or any(
        isinstance(one, str) and parse_type(one) != parse_type(kind) for one in columns.values()
    ):
        raise DefinitionError(
            f'Messages of topic "{topic}" are one column of type {kind}, and others are declared.',
            where=here(),
            hint=f'{{"value": "{kind}"}}, or no columns',
        )
    return columns


def _columns_by_codec(topic: str, codec: CodecSpec) -> Mapping[str, Any] | None:
    declared: Mapping[str, Any] | None = getattr(codec, "columns", None)
    if declared is not None or getattr(codec, "schema", None) is None:
        return declared
    try:
        return registry.columns_of(codec, topic)
    except TidemillError as error:  # of data elsewhere; here it is the schema that is declared
        raise DefinitionError(error.what, where=here(), hint=error.hint) from None


def _with_text(codec: CodecSpec) -> CodecSpec:
    """The codec with its schema's text, where a file was named; its path is relative to the file that declares it."""
    if not isinstance(codec, Avro | Protobuf | JsonSchema) or not _SCHEMA_FILE.fullmatch(codec.schema or ""):
        return codec
    place = here()
    path = Path(place.rpartition(":")[0]).parent / str(codec.schema)
    if not path.is_file():
        raise DefinitionError(f'There is no schema file "{codec.schema}".', where=place, hint=f"looked for {path}")
    return replace(codec, schema=path.read_text(encoding="utf-8"))


def read_key_codec(topic: Topic, key: tuple[str, ...] | None = None) -> CodecSpec:
    """How the keys of a topic's messages are written, of the columns of `key`, or of others that make its keys."""
    columns = topic.key if key is None else key
    given = read_codec(topic.key_codec)
    if isinstance(given, Text | Raw):
        if len(columns) != 1:
            raise _no_key(topic.name, f"is one value, and its key {len(columns)} columns", 'key_codec="json"')
        return replace(given, column=columns[0])
    if isinstance(given, Protobuf) or given.columns is not None or getattr(given, "schema", None) is not None:
        return given
    known = topic.columns or {}
    types = {name: known[name] for name in columns if name in known}
    if len(types) < len(columns):
        return given  # it is only written
    if isinstance(given, Avro) and len(columns) == 1:
        types[SINGLE] = types[columns[0]]  # a key may be a value that is no record
    return replace(given, columns=types)


def check_key_codec(topic: str, key: tuple[str, ...], given: Any, columns: Mapping[str, Any] | None) -> None:
    """Whether keys of these columns can be written so. Raises DefinitionError, UnknownName."""
    if given is None:
        return
    if not key:
        raise _no_key(topic, "is of no column", 'key="id"')
    spec = read_key_codec(Topic(topic, columns, key, key_codec=given))
    kind = None if columns is None else columns[key[0]]
    wanted = _PLAIN.get(type(spec))
    if wanted is not None and isinstance(kind, str) and parse_type(kind) != parse_type(wanted):
        raise _no_key(topic, f'is of type {wanted}, and its column "{key[0]}" of type {kind}', 'key_codec="json"')


def _no_key(topic: str, why: str, hint: str) -> DefinitionError:
    return DefinitionError(f'The key of topic "{topic}" cannot be written so: it {why}.', where=here(), hint=hint)


def _one_of(option: str, value: Any, kind: Any) -> None:
    known = get_args(kind)
    if value not in known:
        raise DefinitionError(
            f"{option}={value!r} is not known.", where=here(), hint=" or ".join(f'{option}="{one}"' for one in known)
        )
