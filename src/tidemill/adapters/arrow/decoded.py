"""What decoding a block gives, whatever its format, before it becomes a chunk."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.table import Schema
from tidemill.plan.known import SYSTEM_NAMES, Known
from tidemill.ports.decoder import Rejected

#: The quarantine keeps so much of a row's raw text; the archive keeps all of it.
_RAW_KEPT = 1 << 20


@dataclass(frozen=True, slots=True)
class Decoded:
    """A block, decoded.

    Args:
        batch: the rows that were taken in, typed as `known.schema`.
        known: what is known after the block.
        rejected: the others; lines count from the block's start.
        lines: how many lines (or records) of the file the block spans.
        places: the line of each row of `batch`, from 0. CSV leaves it empty: rows of its kind are not taken apart.
        raw: the text of the record at such a place.
    """

    batch: pa.RecordBatch
    known: Known
    rejected: tuple[Rejected, ...]
    lines: int
    places: Sequence[int] = ()
    raw: Callable[[int], str] | None = None

    def moved(self, lines: int) -> Decoded:
        """The same with rejected rows whose lines count from `lines` lines before the block's start."""
        if not lines or not self.rejected:
            return self
        return replace(self, rejected=tuple(replace(row, line=row.line + lines) for row in self.rejected))


#: A block to decode by what is known at its turn. It may run ahead, and again, so it depends on nothing else.
Work: TypeAlias = Callable[[Known], Decoded]


class BlockError(Exception):
    """A record that ends the decoding of its feed; whoever knows where the block begins makes it a DecodeError."""

    def __init__(self, what: str, hint: str, line: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.line = line


def check_system_names(names: Iterable[str]) -> None:
    """Raise `BlockError` where input brings a column that only Tidemill writes."""
    for name in names:
        if name.lower() in SYSTEM_NAMES:
            raise BlockError(
                f'The input has a column "{name}", which Tidemill adds to every table itself.',
                "rename it in the source",
            )


def has_system_name(data: bytes) -> bool:
    """Whether such a name may be in JSON text: it is looked for in any case, and not in escapes."""
    lowered = data.lower()
    return any(name.encode() in lowered for name in SYSTEM_NAMES)


def array_of(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table that was read in one call: its only chunk, without the copy that combining makes."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def batch_of(schema: Schema, columns: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """A batch of `columns`; it keeps its number of rows also where there are none."""
    if not columns:
        return pa.record_batch([pa.nulls(rows)], names=["none"]).select([])
    return pa.record_batch(list(columns), schema=to_arrow(schema))


def raw_text(raw: bytes) -> str:
    """A rejected row's bytes as text: what is not UTF-8 escaped, and the end left out where it is very long."""
    text = raw[:_RAW_KEPT].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return text if len(raw) <= _RAW_KEPT else f"{text}... ({len(raw):,} bytes in all)"


def is_utf8(data: bytes) -> bool:
    """Checked by Arrow, which is thirty times as fast as decoding where not all is ASCII."""
    if data.isascii():
        return True
    try:
        as_value(data, pa.string()).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def occurrences(data: bytes, text: bytes) -> int:
    """`data.count(text)` by Arrow: up to seven times as fast, and outside the interpreter's lock."""
    return int(pc.count_substring_regex(as_value(data, pa.binary()), re.escape(text))[0].as_py())


def as_value(data: bytes, kind: pa.DataType) -> pa.Array:
    """An array whose only value is `data`, not copied."""
    offsets = pa.py_buffer(struct.pack("=ii", 0, len(data)))
    return pa.Array.from_buffers(kind, 1, [None, offsets, pa.py_buffer(data)])
