"""Messages of a topic as rows: what codecs make of their values, and columns of what else a message has.

JSON of no declared columns is read as JSON Lines are, so that its types are those of the whole batch, and the contract
judges it line by line; any other codec gives typed rows, which are judged as those of Parquet are. A message becomes
one row, or is rejected with its partition as the file and its offset as the line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import pyarrow as pa

from tidemill.adapters.arrow.conform import Conformed
from tidemill.adapters.arrow.decoded import BlockError, Decoded, Work, batch_of, raw_text
from tidemill.adapters.arrow.frames import batches_of
from tidemill.adapters.arrow.json_codec import message_lines
from tidemill.adapters.arrow.jsonl import decode_block
from tidemill.adapters.arrow.message_files import blocks_of
from tidemill.adapters.arrow.messages import KeyCodec, TopicMessages
from tidemill.adapters.arrow.types import from_arrow_type, to_arrow, to_arrow_type
from tidemill.model.codec import CodecSpec, Json, Part, Raw, Text
from tidemill.model.errors import DefinitionError
from tidemill.model.table import Schema
from tidemill.model.topic_feed import LOST, MessageRows
from tidemill.model.types import parse_type
from tidemill.plan.known import Known, KnownColumn
from tidemill.ports.codec import Codec
from tidemill.ports.codec import Decoded as Read
from tidemill.ports.decoder import DecodeOptions, Feed, Rejected
from tidemill.ports.topic import Messages

#: Makes the codec of a topic's values, or keys.
OpenCodec: TypeAlias = "Callable[[CodecSpec, str, Part], Codec]"

_TYPES = {
    "partition": parse_type("int"),
    "offset": parse_type("long"),
    "timestamp": parse_type("timestamptz"),
    "headers": parse_type("list<struct<name: string, value: binary>>"),
    "deleted": parse_type("boolean"),
}


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of a block's messages as rows.

    Args:
        batch: the rows.
        known: what is known of their columns.
        row: message -> its row, for those that have one.
        bad: message -> why it has none.
    """

    batch: pa.RecordBatch
    known: Known
    row: dict[int, int]
    bad: dict[int, str]


class MessageReader:
    """Reads parts of a topic's feed. Codecs are made when the first message needs one.

    Args:
        options: with `messages`.
        open_codec: makes codecs.
    """

    def __init__(self, options: DecodeOptions, open_codec: OpenCodec | None) -> None:
        assert options.messages is not None
        self._rows = MessageRows.of_json(options.messages)
        self._options = options
        self._open = open_codec
        self._codecs: dict[Part, Codec] = {}

    def blocks(self, feed: Feed) -> Iterator[tuple[str, Work]]:
        """The blocks of a part, each with what it is called: `orders[0]`."""
        with closing(feed.open()) as stream:
            if feed.name.startswith(LOST):
                for line in stream:
                    told = json.loads(line)
                    yield told["file"], partial(_lost, told)
                return
            for messages in blocks_of(stream, self._rows.topic):
                yield str(messages.partition), self._work(messages)

    def _work(self, messages: Messages) -> Work:
        """What decodes a block. Codecs have done their part by then: they are not made for several threads."""
        own, keys_bad = self._own(messages)
        kept = [at for at, value in enumerate(messages.values) if value is not None]
        values: Callable[[Known], _Values]
        if isinstance(self._rows.value, Json) and self._rows.value.columns is None:
            lines, refused = message_lines([v for v in messages.values if v is not None])
            values = partial(_by_lines, lines, refused, kept, str(messages.partition), self._options)
        else:
            values = partial(_by_codec, self._reader().read(messages.keys, messages.values))
        return partial(_decode, messages, self._rows, values, own, keys_bad)

    def _reader(self) -> TopicMessages:
        """What reads typed rows, with the columns that are the key's."""
        values, keyed = self._codec("value"), self._rows.keyed
        if not keyed:
            return TopicMessages(values)
        known = values.columns
        if known is None:
            return TopicMessages(values, self._of_keys())
        names = [*known, *(name for name in keyed if name not in known)]
        return TopicMessages(values.only([name for name in known if name not in keyed]), self._of_keys(), names)

    def _of_keys(self) -> KeyCodec:
        codec, rows = self._codec("key"), self._rows
        of_schema = getattr(rows.key, "schema", None) is not None
        return KeyCodec.of_schema(codec, rows.keyed, rows.topic) if of_schema else KeyCodec(codec, rows.keyed)

    def _codec(self, part: Part) -> Codec:
        if part not in self._codecs:
            if self._open is None:
                raise DefinitionError("Messages cannot be read here: there are no codecs.")
            spec = self._rows.value if part == "value" else self._rows.key
            self._codecs[part] = self._open(spec, self._rows.topic, part)
        return self._codecs[part]

    def _own(self, messages: Messages) -> tuple[pa.RecordBatch, dict[int, str]]:
        """What messages have beside their values, as columns; and those whose key cannot be read."""
        many = len(messages)
        bad: dict[int, str] = {}
        columns: dict[str, pa.Array] = {}
        for field in self._rows.fields:
            if field == "key":
                columns[field], bad = self._keys(messages.keys)
                continue
            kind = to_arrow_type(_TYPES[field])
            if field == "partition":
                columns[field] = pa.array([messages.partition.number] * many, kind)
            elif field == "offset":
                columns[field] = pa.array(messages.offsets, kind)
            elif field == "timestamp":
                stamps = [None if stamp == -1 else stamp * 1000 for stamp in messages.timestamps]
                columns[field] = pa.array(stamps, pa.int64()).cast(kind)
            else:
                headers = messages.headers or [[]] * many
                columns[field] = pa.array([[{"name": n, "value": v} for n, v in one] for one in headers], kind)
        if self._rows.tombstones == "delete":
            columns["deleted"] = pa.array([value is None for value in messages.values])
        names = [f"{self._rows.prefix}{name}" for name in columns]
        return (pa.record_batch(list(columns.values()), names=names) if names else _no_columns(many)), bad

    def _keys(self, keys: Sequence[bytes | None]) -> tuple[pa.Array, dict[int, str]]:
        read = (self._of_keys() if self._rows.keyed else self._codec("key")).decode(keys)
        rows = _joined(read)
        plain = isinstance(self._rows.key, Text | Raw)
        column = rows.column(0) if plain else pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema))
        taken = read.taken if read.taken is not None else range(rows.num_rows)
        place: list[int | None] = [None] * len(keys)
        for row, at in enumerate(taken):
            place[at] = row
        return column.take(pa.array(place, pa.int64())), {one.index: f"key: {one.error}" for one in read.bad}


def _decode(
    messages: Messages,
    rows: MessageRows,
    values: Callable[[Known], _Values],
    own: pa.RecordBatch,
    keys_bad: dict[int, str],
    known: Known,
) -> Decoded:
    """A block by what is known. The lines of rejected messages, and of errors, are their offsets."""
    names = set(own.schema.names)
    mine = tuple(known.by_name.get(f.name) or _declared(f) for f in own.schema)
    made = Conformed(own, replace(known, columns=mine, closed=False))
    theirs = replace(known, columns=tuple(column for column in known.columns if column.name not in names))
    try:
        given = values(theirs)
    except BlockError as error:
        raise BlockError(error.what, error.hint, messages.offsets[min(error.line, len(messages)) - 1]) from None
    lowered = {name.lower() for name in names}
    if taken := next((c.name for c in given.known.columns if c.name.lower() in lowered), None):
        raise BlockError(
            f'Messages have a field "{taken}", and the column "{taken}" is the message\'s own.',
            'another prefix="kafka_", or other fields=',
            messages.offsets[0],
        )
    bad = {**given.bad, **keys_bad}
    if made.bad is not None:
        bad |= {at: made.complaint(at) for at, is_bad in enumerate(made.bad.to_pylist()) if is_bad}
    places: list[int] = []
    source: list[int | None] = []
    for at, value in enumerate(messages.values):
        if at in bad or (value is None and rows.tombstones == "skip"):
            continue
        places.append(at)
        source.append(given.row.get(at))
    whole = source == list(range(given.batch.num_rows))
    kept = given.batch if whole else given.batch.take(pa.array(source, pa.int64()))
    mine_kept = pa.record_batch(made.columns, schema=to_arrow(made.known.schema)) if names else None
    if mine_kept is not None and len(places) < len(messages):
        mine_kept = mine_kept.take(pa.array(places, pa.int64()))
    after = _together(known, given.known, made.known)
    columns = [
        mine_kept.column(column.name) if mine_kept is not None and column.name in names else kept.column(column.name)
        for column in after.schema
    ]
    raw = partial(_raw, messages)
    rejected = tuple(
        Rejected(str(messages.partition), messages.offsets[at], raw(messages.offsets[at] - 1), why)
        for at, why in sorted(bad.items())
    )
    batch = batch_of(after.schema, columns, len(places))
    return Decoded(batch, after, rejected, 0, [messages.offsets[at] - 1 for at in places], raw)


def _by_lines(
    lines: Sequence[bytes],
    refused: dict[int, str],
    places: Sequence[int],
    name: str,
    options: DecodeOptions,
    known: Known,
) -> _Values:
    """JSON as a load reads it. An empty line is one that was refused."""
    made = decode_block(b"".join(line + b"\n" for line in lines), known, name, options)
    bad = {row.line - 1: row.error for row in made.rejected} | refused
    rows = {places[line]: row for row, line in enumerate(made.places)}
    return _Values(made.batch, made.known, rows, {places[line]: why for line, why in bad.items()})


def _by_codec(read: Read, known: Known) -> _Values:
    """Typed rows, held against the contract."""
    rows = _joined(read)
    made = Conformed(rows, known)
    taken = read.taken if read.taken is not None else range(rows.num_rows)
    misfits = made.bad.to_pylist() if made.bad is not None else [False] * rows.num_rows
    bad = {one.index: one.error for one in read.bad}
    bad |= {taken[row]: made.complaint(row) for row, misfit in enumerate(misfits) if misfit}
    batch = batch_of(made.known.schema, made.columns, rows.num_rows)
    return _Values(batch, made.known, {taken[row]: row for row, misfit in enumerate(misfits) if not misfit}, bad)


def _joined(read: Read) -> pa.RecordBatch:
    """A codec's rows, in the types that tables have, as one batch."""
    schema, batches = batches_of(read.rows)
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return batch_of(schema, [pa.nulls(0, kind) for kind in to_arrow(schema).types], 0)
    return pa.concat_batches(batches)


def _together(known: Known, values: Known, own: Known) -> Known:
    """What is known of all columns: in the order in which they came, those of values before the message's own."""
    found = {column.name: column for column in (*values.columns, *own.columns)}
    old = tuple(found.pop(column.name) for column in known.columns)
    return replace(known, columns=(*old, *found.values()))


def _declared(field: pa.Field) -> KnownColumn:
    kind = from_arrow_type(field.type)
    return KnownColumn(field.name, kind, kind)


def _lost(told: dict[str, object], known: Known) -> Decoded:
    """A row of quarantine for messages that the topic no longer had."""
    columns = [pa.nulls(0, kind) for kind in to_arrow(known.schema).types]
    rejected = Rejected(str(told["file"]), int(str(told["line"])), json.dumps(told["lost"]), str(told["error"]))
    return Decoded(batch_of(known.schema, columns, 0), known, (rejected,), 0)


def _raw(messages: Messages, place: int) -> str:
    """The value of a message, by its offset less one."""
    return raw_text(messages.values[messages.offsets.index(place + 1)] or b"")


def _no_columns(rows: int) -> pa.RecordBatch:
    return batch_of(Schema(), [], rows)


def message_work(
    feeds: Iterable[tuple[int, Feed]], options: DecodeOptions, open_codec: OpenCodec | None
) -> Iterator[tuple[int, Feed, Work]]:
    """The blocks of a topic's parts, each as if it were a feed of its own, called as its partition is."""
    reader = MessageReader(options, open_codec)
    for part, feed in feeds:
        for name, work in reader.blocks(feed):
            yield part, replace(feed, name=name), work
