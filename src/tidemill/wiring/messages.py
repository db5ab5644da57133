"""How the messages of a topic are written and read: codecs of its values, and of its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tidemill.authoring.topics import read_codec, read_key_codec
from tidemill.flow.stream.outlets import EncodeKeys
from tidemill.model.codec import CodecSpec
from tidemill.model.frame.topic import Topic
from tidemill.wiring.codecs import open_codec

if TYPE_CHECKING:
    from tidemill.adapters.arrow.messages import KeyCodec
    from tidemill.ports.codec import Codec, MessageReader
    from tidemill.ports.registry import Registry


def codec_of(topic: Topic, registry: Registry | None = None) -> Codec:
    """How a topic's values are written. What their schema has no field for, and the keys have, they do not have.

    Raises:
        DefinitionError: its columns or its schema cannot be read.
    """
    spec = read_codec(topic.codec, topic)
    codec = open_codec(spec, topic.name, registry=registry)
    if topic.key_codec is None or getattr(spec, "schema", None) is None:
        return codec
    from tidemill.adapters.arrow.messages import Leaving

    known = codec.columns
    return codec if known is None else Leaving(codec, [name for name in topic.key if name not in known])


def columns_of(codec: CodecSpec, topic: str) -> Mapping[str, str] | None:
    """See `tidemill.authoring.registry.columns_of`."""
    from tidemill.adapters.polars.types import table_type

    columns = open_codec(codec, topic).columns
    return None if columns is None else {name: str(table_type(kind)) for name, kind in columns.items()}


def key_encoder(
    topic: Topic, registry: Registry | None = None, key: tuple[str, ...] | None = None
) -> EncodeKeys | None:
    """How the keys of rows are written; None: messages have no key.

    Args:
        topic: whose messages.
        registry: where its keys name their schemas.
        key: the columns that they are made of; None: the topic's.
    """
    columns = topic.key if key is None else key
    if not columns:
        return None
    if topic.key_codec is not None:
        return _keys(topic, registry, columns).encode
    from tidemill.adapters.arrow.keys import encode_keys

    return partial(encode_keys, columns)


def reader_of(topic: Topic, registry: Registry | None = None, names: Sequence[str] | None = None) -> MessageReader:
    """What reads a topic's messages.

    Args:
        topic: whose messages.
        registry: where they name their schemas.
        names: the columns to read, in this order; None: all.

    Raises:
        DefinitionError: columns or a schema cannot be read.
    """
    from tidemill.adapters.arrow.messages import TopicMessages

    codec = codec_of(topic, registry)
    if topic.key_codec is None:
        return TopicMessages(codec if names is None else codec.only(names))
    wanted = tuple(topic.columns or topic.key) if names is None else tuple(names)
    keys = _keys(topic, registry, topic.key) if set(wanted) & set(topic.key) else None
    values = [name for name in wanted if name not in topic.key]
    every = names is None and topic.columns is None
    return TopicMessages(codec if every else codec.only(values), keys, None if every else wanted)


def _keys(topic: Topic, registry: Registry | None, columns: tuple[str, ...]) -> KeyCodec:
    from tidemill.adapters.arrow.messages import KeyCodec

    spec = read_key_codec(topic, columns)
    codec = open_codec(spec, topic.name, "key", registry)
    if getattr(spec, "schema", None) is None:
        return KeyCodec(codec, columns)
    return KeyCodec.of_schema(codec, columns, topic.name)
