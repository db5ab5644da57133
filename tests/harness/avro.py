"""Avro files for tests: written by fastavro, or put together by hand where fastavro would refuse."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import fastavro
import pyarrow as pa
import zstandard

from tidemill.adapters.arrow.avro import read_avro
from tidemill.ports.decoder import DecodeOptions, Feed


def feed_of(data: bytes, name: str = "a.avro") -> Feed:
    return Feed(name, lambda: io.BytesIO(data), len(data))


def written(schema: Any, rows: list[Any], **how: Any) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, fastavro.parse_schema(schema), rows, **how)
    return sink.getvalue()


def read(data: bytes, **options: Any) -> pa.Table:
    batches = []
    expected = 1
    for batch, first in read_avro(feed_of(data), DecodeOptions(**options)):
        assert first == expected
        batch.validate(full=True)
        batches.append(batch)
        expected += batch.num_rows
    return pa.Table.from_batches(batches)


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def long(value: int) -> bytes:
    """A zigzag varint, written here once more so that the reader is not its own judge."""
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


SYNC = b"0123456789abcdef"


def container(schema: Any, blocks: list[tuple[int, bytes]], codec: str = "null") -> bytes:
    """A container file put together by hand; the blocks' bytes are packed already."""
    meta = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": codec.encode()}
    head = b"Obj\x01" + long(len(meta))
    for key, value in meta.items():
        head += long(len(key)) + key + long(len(value)) + value
    head += long(0) + SYNC
    return head + b"".join(long(count) + long(len(data)) + data + SYNC for count, data in blocks)


def snappy(data: bytes) -> bytes:
    return bytes(pa.Codec("snappy").compress(data, asbytes=True)) + zlib.crc32(data).to_bytes(4, "big")


def streamed(data: bytes) -> bytes:
    """Packed as Java does it: without the size in the frame."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()
