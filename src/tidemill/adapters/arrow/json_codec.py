"""The codec of JSON messages: rows by the rules by which loads read JSON lines, and rows written so as to come back.

A batch of messages is read by msgspec where that is certain to be right (`json_fast`), else as a block of JSON lines
(`jsonl`), which finds the bad ones.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.decoded import BlockError, batch_of, has_system_name
from tidemill.adapters.arrow.frames import frame_of, narrowed
from tidemill.adapters.arrow.json_fast import FastReader
from tidemill.adapters.arrow.json_rows import encode_rows
from tidemill.adapters.arrow.jsonl import decode_block
from tidemill.adapters.arrow.slow import Misfit, Pairs, read_record, to_json
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.codec import Json
from tidemill.model.errors import DefinitionError
from tidemill.model.table import Contract, OnMisfit, Schema
from tidemill.plan.known import SYSTEM_NAMES, Known
from tidemill.ports.codec import Decoded, Undecodable
from tidemill.ports.decoder import DecodeOptions

_SPACE = b" \t\r\n"
_OPTIONS = DecodeOptions()
#: Messages that are read in one go (what msgspec makes of them stays in the cache), and where a doubt is among them.
_PIECE, _SMALL = 8192, 512
#: Bytes that are read in one go, one message beyond that apart: Arrow counts to 2 GB.
_MOST = 64 << 20
#: Rows; the indices of their messages (None: all); the messages that cannot be read.
Read: TypeAlias = "tuple[pa.RecordBatch, Sequence[int] | None, list[Undecodable]]"


class _Empty(Exception):
    """A message has no value."""


class JsonCodec:
    """Messages that are JSON objects. A field that was not declared is ignored, or an error; types never change."""

    def __init__(self, spec: Json, names: Sequence[str] | None = None) -> None:
        self._spec = spec
        self._names = names
        self._all = Schema() if spec.columns is None else Schema.of(spec.columns)
        wanted = self._all if names is None else narrowed(self._all, names)
        closed = spec.extra == "error"
        # What is not declared can only be told apart from what is not wanted by reading all that is declared.
        self._schema = self._all if closed else wanted
        self._wanted = wanted
        rule = OnMisfit.DISCARD_ROWS if closed else OnMisfit.DISCARD_COLUMNS
        self._known = replace(Known.start(None, Schema(), Contract(rule, self._schema)), closed=True)
        further = [column for column in self._all if column.name not in self._schema]
        suits = FastReader.suits(self._schema)
        self._fast = FastReader(self._schema, closed=closed, further=further) if suits else None

    @property
    def columns(self) -> pl.Schema | None:
        """The declared columns."""
        if self._spec.columns is None:
            return None
        return frame_of(to_arrow(self._wanted).empty_table()).schema

    def only(self, names: Sequence[str]) -> JsonCodec:
        """The codec for some columns, in this order."""
        return JsonCodec(self._spec, tuple(names))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See the port.

        Raises:
            DefinitionError: no columns are declared.
        """
        if self._spec.columns is None:
            raise DefinitionError(
                "JSON messages cannot be read without their columns.", hint='Json({"id": "long", "name": "string"})'
            )
        try:
            batch, taken, bad = self.read(cast("Sequence[bytes]", values))
        except _Empty:
            return self._decode_around(values)
        return Decoded(frame_of(batch, batch.num_rows), taken, tuple(bad))

    def _decode_around(self, values: Sequence[bytes | None]) -> Decoded:
        """What the messages that have a value say."""
        places = [i for i, value in enumerate(values) if value is not None]
        made = self.decode([value for value in values if value is not None])
        return Decoded(
            made.rows,
            places if made.taken is None else [places[i] for i in made.taken],
            tuple(replace(each, index=places[each.index]) for each in made.bad),
            [i for i, value in enumerate(values) if value is None],
        )

    def encode(self, rows: pl.DataFrame) -> list[bytes | None]:
        """A compact object for each row; see `json_rows` for how values are written."""
        return encode_rows(rows, self._all)

    def read(self, values: Sequence[bytes]) -> Read:
        """Messages as Arrow's columns; the indices of those that could be read (None: all); the others."""
        batch, taken, bad = self._read(values)
        return (batch if self._schema is self._wanted else _selected(batch, self._wanted)), taken, bad

    def _read(self, values: Sequence[bytes]) -> Read:
        made = [self._read_piece(values[at : at + _PIECE], at) for at in range(0, len(values), _PIECE)]
        if not made:
            return batch_of(self._schema, [pa.nulls(0, kind) for kind in to_arrow(self._schema).types], 0), None, []
        return _joined(made)

    def _read_piece(self, values: Sequence[bytes], at: int) -> Read:
        """The messages that begin with number `at`. Where they are in doubt, those around the doubt are."""
        batch = None
        if self._fast is not None:
            try:
                batch = self._fast.read(values)
            except TypeError:
                if None in values:
                    raise _Empty from None
                raise
        if batch is None and self._fast is not None and len(values) > _SMALL:
            return _joined([self._read_piece(values[i : i + _SMALL], at + i) for i in range(0, len(values), _SMALL)])
        read = self._read_exactly(values) if batch is None else (batch, None, [])
        batch, taken, bad = self._without_absent(read, values) if self._spec.absent == "error" else read
        if taken is None:
            return batch, range(at, at + len(values)), bad
        return batch, [at + i for i in taken], [replace(each, index=at + each.index) for each in bad]

    def _read_exactly(self, values: Sequence[bytes]) -> Read:
        if None in values:
            raise _Empty
        if len(values) > 1 and sum(map(len, values)) > _MOST:
            half = len(values) // 2
            return _joined([self._read_piece(values[:half], 0), self._read_piece(values[half:], half)])
        lines, refused = message_lines(values)
        # The line feed at the end keeps an empty message a line.
        try:
            made = decode_block(b"\n".join(lines) + b"\n", self._known, "messages", _OPTIONS)
        except BlockError:  # a name that only Tidemill writes, in escapes
            lines, refused = message_lines(values, escaped=True)
            made = decode_block(b"\n".join(lines) + b"\n", self._known, "messages", _OPTIONS)
        refused |= {row.line - 1: row.error for row in made.rejected}
        bad = [Undecodable(i, refused[i]) for i in sorted(refused)]
        return made.batch, list(made.places) if refused else None, bad

    def _without_absent(self, read: Read, values: Sequence[bytes]) -> Read:
        """What was read without the messages in which a column has no field."""
        batch, taken, bad = read
        indices = range(len(values)) if taken is None else taken
        lacking: dict[int, str] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name not in self._wanted or not column.null_count:
                continue
            for row in pc.indices_nonzero(column.is_null()).to_pylist():
                if row not in lacking and (why := _absence(values[indices[row]], name)):
                    lacking[row] = why
        if not lacking:
            return read
        bad = sorted([*bad, *(Undecodable(indices[row], why) for row, why in lacking.items())], key=lambda b: b.index)
        kept = [row for row in range(batch.num_rows) if row not in lacking]
        return batch.take(pa.array(kept, pa.int64())), [indices[row] for row in kept], bad


def found_columns(messages: Sequence[bytes]) -> dict[str, str]:
    """The columns that a load of some messages would find: name -> type text, to be declared. Bad ones are passed over.

    Raises:
        LimitError: too many columns.
    """
    lines, _ = message_lines(messages, escaped=True)
    made = decode_block(b"\n".join(lines) + b"\n", Known(), "messages", _OPTIONS)
    return {column.name: str(column.type) for column in made.known.schema}


def message_lines(values: Sequence[bytes], *, escaped: bool = False) -> tuple[Sequence[bytes], dict[int, str]]:
    """Messages as lines; empty where one cannot be, with the reason. `escaped`: look for names in escapes, too."""
    data = b"".join(values)
    # Names that loads refuse, since tables have such columns themselves, mean nothing here.
    system = escaped or has_system_name(data)
    if b"\n" not in data and not system and codecs.BOM_UTF8 not in data and all(map(_has_text, values)):
        return values, {}
    lines: list[bytes] = []
    refused: dict[int, str] = {}
    for i, value in enumerate(values):
        value = value.removeprefix(codecs.BOM_UTF8)
        if not value.strip(_SPACE):
            refused[i] = "not JSON: the message is empty"
            value = b""
        elif b"\n" in value or has_system_name(value) or (escaped and b"\\u" in value):
            try:
                record = read_record(value, _OPTIONS)
                known = [(key, part) for key, part in record if key.lower() not in SYSTEM_NAMES]
                value = to_json(Pairs(known)).encode()
            except Misfit as misfit:
                refused[i] = str(misfit)
                value = b""
        lines.append(value)
    return lines, refused


def _selected(batch: pa.RecordBatch, wanted: Schema) -> pa.RecordBatch:
    return batch_of(wanted, [batch.column(name) for name in wanted.names], batch.num_rows)


def _absence(message: bytes, name: str) -> str | None:
    """Why a message gives nothing for a column; None where it says null."""
    try:
        record = read_record(message.removeprefix(codecs.BOM_UTF8), _OPTIONS)
    except Misfit as misfit:  # Arrow takes an `Inf` where nobody asks for it
        return str(misfit)
    return (
        None if any(key == name for key, _ in record) else f'{name}: absent, and the codec is declared absent="error"'
    )


def _joined(parts: list[Read]) -> Read:
    """Pieces, put together. All of them say which messages they took."""
    bad = [each for _, _, part in parts for each in part]
    batch = parts[0][0] if len(parts) == 1 else pa.concat_batches([batch for batch, _, _ in parts])
    if not bad:
        return batch, None, bad
    return batch, [i for _, taken, _ in parts for i in taken or ()], bad


def _has_text(value: bytes) -> bool:
    return bool(value.strip(_SPACE))
