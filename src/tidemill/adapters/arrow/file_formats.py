"""Rows into files of a format, batch by batch: Parquet, CSV, JSON lines, Avro."""

from __future__ import annotations

import gzip
import io
from typing import Any, BinaryIO, Protocol, cast

import fastavro
import polars as pl
import pyarrow as pa
import zstandard
from pyarrow import parquet

from tidemill.adapters.arrow.avro_rows import plain_values, schema_of_rows
from tidemill.adapters.arrow.frames import frame_of
from tidemill.adapters.arrow.json_rows import encode_rows
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model import types as t
from tidemill.model.errors import DataError, UnknownName
from tidemill.model.table import Schema

#: Compressions by format, the first of each where none is asked for.
FORMATS = {
    "parquet": ("zstd", "snappy", "gzip", "none"),
    "csv": ("none", "gzip", "zstd"),
    "jsonl": ("none", "gzip", "zstd"),
    "avro": ("deflate", "none"),
}
_ENDINGS = {"gzip": ".gz", "zstd": ".zst", "none": ""}


class RowsWriter(Protocol):
    """Takes rows for one file."""

    def write(self, rows: pa.Table) -> None:
        """Add rows, of the columns that were told."""
        ...

    def close(self) -> None:
        """Write what is left; the stream stays open."""
        ...


def ending(kind: str, compression: str) -> str:
    """How names of files end."""
    return f".{kind}" + (_ENDINGS[compression] if kind in ("csv", "jsonl") else "")


def chosen(options: Any) -> tuple[str, str]:
    """Format and compression that were asked for. Raises UnknownName."""
    kind = options.get("format", "parquet")
    if kind not in FORMATS:
        raise UnknownName.of("format", kind, FORMATS)
    compression = options.get("compression", FORMATS[kind][0])
    if compression not in FORMATS[kind]:
        raise UnknownName.of(f"compression of {kind}", compression, FORMATS[kind])
    return kind, compression


def open_rows(out: BinaryIO, kind: str, compression: str, columns: Schema) -> RowsWriter:
    """A writer of one file."""
    if kind == "parquet":
        return _Parquet(out, compression, columns)
    if kind == "avro":
        return _Avro(out, compression, columns)
    return (_Csv if kind == "csv" else _Jsonl)(out, compression, columns)


class _Through(io.RawIOBase):
    """What writers take for a file, over anything that can be written to; closing it leaves that open."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._out.write(bytes(data))


class _Parquet:
    def __init__(self, out: BinaryIO, compression: str, columns: Schema) -> None:
        self._writer = parquet.ParquetWriter(_Through(out), to_arrow(columns), compression=compression.upper())

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows)

    def close(self) -> None:
        self._writer.close()


class _Text:
    """Lines, packed or not."""

    def __init__(self, out: BinaryIO, compression: str, columns: Schema) -> None:
        self._columns = columns
        self._out: Any = _Through(out)
        if compression == "gzip":
            self._out = gzip.GzipFile(fileobj=self._out, mode="wb", mtime=0, compresslevel=6)
        elif compression == "zstd":
            self._out = zstandard.ZstdCompressor().stream_writer(cast("BinaryIO", self._out))

    def close(self) -> None:
        self._out.close()


class _Csv(_Text):
    """A line of names, then rows. Null is empty, empty text is in quotes; bytes are base64, what nests is JSON."""

    def __init__(self, out: BinaryIO, compression: str, columns: Schema) -> None:
        super().__init__(out, compression, columns)
        self._first = True

    def write(self, rows: pa.Table) -> None:
        frame = frame_of(rows)
        shown = [_text(frame.get_column(column.name), column.type) for column in self._columns]
        buffer = io.BytesIO()
        pl.DataFrame(shown).write_csv(buffer, include_header=self._first, quote_style="necessary", null_value="")
        self._first = False
        self._out.write(buffer.getvalue())


class _Jsonl(_Text):
    """An object a line."""

    def write(self, rows: pa.Table) -> None:
        lines = encode_rows(frame_of(rows), self._columns)
        self._out.write(b"".join(line + b"\n" for line in lines if line is not None))


class _Avro:
    """An object container; each field may be null."""

    def __init__(self, out: BinaryIO, compression: str, columns: Schema) -> None:
        self._columns = columns
        schema = schema_of_rows(frame_of(to_arrow(columns).empty_table()), "Row")
        for one, column in zip(schema["fields"], columns, strict=True):
            if column.type == t.UUID:
                one["type"] = ["null", {"type": "string", "logicalType": "uuid"}]
        codec = "null" if compression == "none" else compression
        self._writer = fastavro.write.Writer(cast("BinaryIO", _Through(out)), fastavro.parse_schema(schema), codec)

    def write(self, rows: pa.Table) -> None:
        names = self._columns.names
        listed = [
            _uuids(rows.column(c.name)) if c.type == t.UUID else plain_values(rows.column(c.name).to_pylist(), c.type)
            for c in self._columns
        ]
        try:
            for row in zip(*listed, strict=True):
                self._writer.write(dict(zip(names, row, strict=True)))
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"A row cannot be written as Avro: {error}.") from None

    def close(self) -> None:
        self._writer.flush()


def _uuids(column: Any) -> list[Any]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _text(values: pl.Series, kind: t.Type) -> pl.Series:
    """A column of a CSV file."""
    if kind == t.UUID:
        digits = values.bin.encode("hex")
        parts = [digits.str.slice(at, long) for at, long in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
        return (parts[0] + "-" + parts[1] + "-" + parts[2] + "-" + parts[3] + "-" + parts[4]).alias(values.name)
    if kind == t.BINARY:
        return values.bin.encode("base64")
    if isinstance(kind, t.List | t.Map | t.Struct):
        cut = len('{"v":')
        lines = encode_rows(pl.DataFrame({"v": values}), Schema())
        written = [None if null else line[cut:-1].decode() for null, line in zip(values.is_null(), lines, strict=True)]  # type: ignore[index]
        return pl.Series(values.name, written, pl.String)
    return values
