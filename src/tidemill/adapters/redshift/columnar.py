"""Avro and Parquet files, and Zstandard, as what COPY reads and UNLOAD writes: records of Python values."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidemill.model.errors import DecodeError


def avro_records(content: bytes) -> Iterator[dict[str, Any]]:
    """The records of an Avro file.

    Raises:
        DecodeError: it is damaged, or has types that COPY gives no meaning to.
    """
    import fastavro

    try:
        reader = fastavro.reader(io.BytesIO(content))
        schema: Any = reader.writer_schema
        if not isinstance(schema, Mapping) or schema.get("type") != "record":
            raise DecodeError("The Avro schema is no record.")
        logical = [field["name"] for field in schema["fields"] if "logicalType" in str(field["type"])]
        if logical:
            raise DecodeError(f"The Avro field {logical[0]} has a logical type, for which COPY has no rule.")
        for record in reader:
            assert isinstance(record, dict)
            yield record
    except (EOFError, ValueError, KeyError, TypeError) as error:
        raise DecodeError(f"The Avro file is damaged: {error}.") from None


def write_avro(fields: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """An Avro file.

    Args:
        fields: name -> boolean, long, float, double or string; each may be null.
        rows: the records.
    """
    import fastavro

    schema = {
        "type": "record",
        "name": "row",
        "fields": [{"name": name, "type": ["null", kind]} for name, kind in fields.items()],
    }
    buffer = io.BytesIO()
    # Blocks of at most 4 MB are what COPY takes.
    fastavro.writer(buffer, fastavro.parse_schema(schema), rows, codec="deflate", sync_interval=1 << 20)
    return buffer.getvalue()


def parquet_columns(content: bytes) -> tuple[list[tuple[str, str]], Iterator[tuple[Any, ...]]]:
    """The columns of a Parquet file, as (name, Arrow's type), and its rows.

    Raises:
        DecodeError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(io.BytesIO(content))
        schema = opened.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DecodeError(f"The Parquet file is damaged: {error}.") from None

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch in opened.iter_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    return [(field.name, str(field.type)) for field in schema], rows()


def write_parquet(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> bytes:
    """A Parquet file.

    Args:
        columns: name and type: `int16`, `int32`, `int64`, `float`, `double`, `bool`, `string`, `binary`,
            `decimal(p, s)`, `date`, `timestamp`.
        rows: of values that Arrow takes for these types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(name: str) -> Any:
        if name.startswith("decimal("):
            precision, scale = name[8:-1].split(",")
            return pa.decimal128(int(precision), int(scale))
        known = {"float": pa.float32(), "double": pa.float64(), "date": pa.date32(), "timestamp": pa.timestamp("us")}
        return known.get(name) or getattr(pa, {"bool": "bool_"}.get(name, name))()

    schema = pa.schema([(name, kind(text)) for name, text in columns])
    taken = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    arrays = [pa.array(values, field.type) for values, field in zip(taken, schema, strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="snappy")
    return bytes(sink.getvalue())


def unzstd(content: bytes) -> bytes:
    """Unpack. Raises DecodeError."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True).read()
    except zstandard.ZstdError as error:
        raise DecodeError(f"The Zstandard file is damaged: {error}.") from None


def zstd(content: bytes) -> bytes:
    """Pack."""
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(content)
