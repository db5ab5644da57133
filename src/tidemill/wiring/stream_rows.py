"""Rows that people write, as messages of a topic: from JSON lines, whatever codec the topic has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from tidemill.model.codec import Json, Raw, Text
from tidemill.model.errors import DataError
from tidemill.model.frame.topic import Topic
from tidemill.wiring.codecs import open_codec
from tidemill.wiring.messages import codec_of, key_encoder

if TYPE_CHECKING:
    from tidemill.ports.registry import Registry


@dataclass(frozen=True, slots=True)
class Encoded:
    """Messages to be sent, in columns."""

    keys: list[bytes | None] | None
    values: list[bytes | None]


def as_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON; times in ISO form, what JSON does not have as text."""
    return json.dumps(dict(row), default=_plain, ensure_ascii=False).encode()


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def encoded(topic: Topic, lines: Sequence[bytes], *, strict: bool = True, registry: Registry | None = None) -> Encoded:
    """Lines of JSON as messages of a topic.

    Args:
        topic: its columns, key and codec count.
        lines: an object each.
        strict: False sends what does not fit as it is: the stream shall see it.
        registry: where messages name their schemas.

    Raises:
        DataError: a line does not fit; the place is its number.
    """
    if topic.columns is None:
        if topic.key_codec is not None:
            raise DataError(
                f'The keys of topic "{topic.name}" cannot be written without the types of its columns.',
                hint="declare them: tm.topic(..., {...})",
            )
        return Encoded(_loose_keys(topic.key, lines, strict), list(lines))
    is_one_value = topic.codec in ("text", "bytes") or isinstance(topic.codec, Text | Raw)
    absent = "error" if is_one_value else topic.absent  # a row without it would be a message without a value
    decoded = open_codec(Json(topic.columns, absent), topic.name).decode(lines)
    if decoded.bad and strict:
        bad = decoded.bad[0]
        raise DataError(
            f'A row does not fit topic "{topic.name}": {bad.error}',
            where=f"line {bad.index + 1}",
            hint="--raw sends lines as they are",
        )
    taken = range(len(lines)) if decoded.taken is None else decoded.taken
    values: list[bytes | None] = list(lines)
    if topic.codec != "json" and not isinstance(topic.codec, Json):
        for place, value in zip(taken, codec_of(topic, registry).encode(decoded.rows), strict=True):
            values[place] = value
    key = key_encoder(topic, registry)
    if key is None:
        return Encoded(None, values)
    keys: list[bytes | None] = [None] * len(lines)
    for place, value in zip(taken, key(decoded.rows), strict=True):
        keys[place] = value
    for each in decoded.bad if topic.key_codec is None else ():
        keys[each.index] = _loose_key(topic.key, lines[each.index], each.index + 1, strict=False)
    return Encoded(keys, values)


def keys_of(
    topic: Topic, values: Sequence[bytes | None], registry: Registry | None = None
) -> list[bytes | None] | None:
    """Keys of messages as they came, by the topic's key; of one that cannot be read, none. None: the topic has no key.

    Raises:
        Unreachable: the schema registry does not answer.
    """
    if not topic.key:
        return None
    if topic.key_codec is None and topic.columns is None and (topic.codec == "json" or isinstance(topic.codec, Json)):
        return [None if value is None else _loose_key(topic.key, value, 0, strict=False) for value in values]
    keys: list[bytes | None] = [None] * len(values)
    key = key_encoder(topic, registry)
    assert key is not None
    decoded = codec_of(topic, registry).only(topic.key).decode(values)
    taken = decoded.taken if decoded.taken is not None else range(len(values))
    for place, written in zip(taken, key(decoded.rows), strict=True):
        keys[place] = written
    return keys


def _loose_keys(columns: tuple[str, ...], lines: Sequence[bytes], strict: bool) -> list[bytes | None] | None:
    """Keys of rows whose columns nobody has declared, written as `key_encoder` has it."""
    keys = [_loose_key(columns, line, number, strict) for number, line in enumerate(lines, 1)]
    return keys if columns else None


def _loose_key(columns: tuple[str, ...], line: bytes, number: int, strict: bool) -> bytes | None:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("this is no object")  # told like what JSON itself refuses
    except ValueError as error:
        if strict:
            hint = "one JSON object a line; --raw sends lines as they are"
            raise DataError(f"A line is no JSON object: {error}.", where=f"line {number}", hint=hint) from None
        return None
    if not columns:
        return None
    if len(columns) > 1:
        return json.dumps([row.get(name) for name in columns], separators=(",", ":"), ensure_ascii=False).encode()
    value = row.get(columns[0])
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()
