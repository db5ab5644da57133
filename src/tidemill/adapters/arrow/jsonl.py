"""JSON Lines: blocks of lines, read by Arrow and checked; the lines that it refuses or may misread go the exact path.

Arrow's reader is fast and not strict: it takes several objects on a line or one over several, bytes that are no
UTF-8, a number too long for 64 bits as a rounded double, and drops time zones. Each block is therefore checked before
(its bytes and the shape of its lines) and after (`shape`); what is doubtful is examined record by record (`slow`).

A block is read in one call that is told all columns and accepts no others. Only where that fails is it explored, in
small pieces: Arrow sets aside a cell for each row and new key, so that a feed with ids for keys would take gigabytes
if it were free to infer over a whole block.

An attempt at a block that learns something new about the columns ends there, and the next one knows it: what is
yielded was read, and what is rejected was judged, by one and the same knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from tidemill.adapters.arrow import shape
from tidemill.adapters.arrow.blocks import Cutting, array_blocks, cut_blocks, cut_lines, text_stream
from tidemill.adapters.arrow.compression import Peekable
from tidemill.adapters.arrow.decoded import (
    BlockError,
    Decoded,
    Work,
    array_of,
    batch_of,
    has_system_name,
    is_utf8,
    occurrences,
    raw_text,
)
from tidemill.adapters.arrow.documents import record_blocks
from tidemill.adapters.arrow.slow import HARD_DEPTH, Exam, examine
from tidemill.adapters.arrow.types import from_arrow_type, to_arrow_type
from tidemill.model.errors import LimitError
from tidemill.model.table import OnMisfit
from tidemill.model.types import Type
from tidemill.plan.evolve import settled
from tidemill.plan.known import SYSTEM_NAMES, Known
from tidemill.ports.decoder import DecodeOptions, Rejected

#: Arrow crashes on some 100,000 levels and takes seconds for 10,000, but is fine with so many.
_ARROW_DEPTH = 1000
#: A piece to explore: at most so many lines and, beyond one line, bytes.
_PIECE_LINES = 256
_PIECE_BYTES = 1 << 16
#: Looking for the bad lines of a piece by halving it ends after so many calls; all of them are examined then.
_MAX_CALLS = 32
_SPACE = b" \t\r\n"
_EMPTY = pa.table({})


def jsonl_work(stream: Peekable, cutting: Cutting) -> Iterator[Work]:
    """The blocks of a JSON Lines stream, of a document that is one array, or of what `records` says, to be decoded."""
    text = Peekable(text_stream(stream, None, cutting.name))
    if cutting.options.records is not None:
        blocks = record_blocks(text, cutting)
    else:
        blocks = array_blocks(text, cutting) if _is_array(text) else cut_blocks(text, cut_lines, cutting)
    for data in blocks:
        yield _work(data, cutting)


def _is_array(text: Peekable) -> bool:
    head = text.peek(1 << 16).lstrip(_SPACE)
    if not head.startswith(b"["):
        return False
    first, newline, _ = head.partition(b"\n")
    # `[...]` alone on a line is a record of the wrong kind, unless the file ends there: then it is the array.
    return not (newline and first.rstrip(_SPACE).endswith(b"]") and head[len(first) :].lstrip(_SPACE))


def _work(data: bytes, cutting: Cutting) -> Work:
    return lambda known: decode_block(data, known, cutting.name, cutting.options)


def decode_block(data: bytes, known: Known, name: str, options: DecodeOptions) -> Decoded:
    """Decode whole lines by what is known, learning as needed.

    Raises:
        DecodeError: a system column in the input.
        LimitError: too many columns.
    """
    while True:
        attempt = _Attempt(data, known, name, options)
        done = attempt.run()
        if done is not None:
            return done
        known = attempt.known


class _Attempt:
    """One attempt at a block. Once `known` has changed, the attempt is over."""

    def __init__(self, data: bytes, known: Known, name: str, options: DecodeOptions) -> None:
        self.known = known
        self._start = known
        self._data = data
        self._name = name
        self._options = options
        self._exams: dict[int, Exam] = {}

    def run(self) -> Decoded | None:
        """The block decoded, or None where `known` has changed."""
        suspects = self._first_suspects()
        while True:
            self._examine(suspects)
            if self.known != self._start:
                return None
            places = self._accepted()
            table, error = self._read(places, self.known, strict=True) if places else (_EMPTY, "")
            if table is None:
                suspects = self._explore(places, error)
            else:
                columns, suspects, wider = self._convert(table, places)
                if not suspects and not wider:
                    return self._decoded(columns, places)
                if not suspects:
                    self.known, _ = self.known.offer(wider)
            if self.known != self._start:
                return None

    # -- lines

    @cached_property
    def _shapely(self) -> int:
        """The number of lines if each line is `{...}`, so that rows are lines; else 0."""
        data = self._data
        for end in (b"\n", b"\r\n"):
            if data.startswith(b"{"):
                inner = occurrences(data, b"}" + end + b"{")
                closed = data.endswith(b"}" + end)
                if data.count(b"\n") == inner + closed and (closed or data.endswith(b"}")):
                    return inner + 1
        return 0

    @cached_property
    def _lines(self) -> list[bytes]:
        lines = self._data.split(b"\n")
        return lines[:-1] if not lines[-1] else lines

    @cached_property
    def _places(self) -> Sequence[int]:
        """The lines that hold something: row i of the block is line `_places[i]`."""
        if self._shapely:
            return range(self._shapely)
        return [i for i, line in enumerate(self._lines) if line.strip(_SPACE)]

    def _first_suspects(self) -> set[int]:
        """The lines that Arrow must not see, or that it would misread."""
        if self._ignoring and has_system_name(self._data):
            return set(self._places)
        if any(shape.needs_exam(column.type, column.base is not None) for column in self.known.columns):
            return set(self._places)
        suspects: set[int] = set()
        if not self._shapely:
            suspects.update(i for i in self._places if not _is_object(self._lines[i]))
        if not is_utf8(self._data):
            suspects.update(i for i in self._places if not is_utf8(self._lines[i]))
        if b"\0" in self._data:
            suspects.update(i for i in self._places if b"\0" in self._lines[i])
        if len(self._data) > self._options.max_field:
            suspects.update(i for i in self._places if len(self._lines[i]) > self._options.max_field)
        depth = HARD_DEPTH if self._ignoring else _ARROW_DEPTH
        if _has_line_longer(self._data, depth) and not self._flat(depth):
            suspects.update(i for i in self._places if _brackets(self._lines[i]) > depth)
        return suspects

    def _flat(self, depth: int) -> bool:
        """Whether no line can have more than `depth` brackets: each opens one, and too few are left for such a line."""
        return bool(self._shapely) and _brackets(self._data) < self._shapely + depth

    @property
    def _ignoring(self) -> bool:
        return self.known.closed and self.known.on_misfit == OnMisfit.DISCARD_COLUMNS

    # -- the exact path

    def _examine(self, places: set[int]) -> None:
        """Look at some lines. If they bring new names, all lines are looked at: names count in the order of rows."""
        if not places:
            return
        known = self._examine_in_order(sorted(places), self._start)
        if _names(known) != _names(self._start):
            self._exams.clear()
            known = self._examine_in_order(self._places, self._start)
        self._check_width(known)
        self.known = known

    def _examine_in_order(self, places: Iterable[int], known: Known) -> Known:
        for i in places:
            try:
                exam = examine(self._lines[i], known, self._options)
            except BlockError as error:
                raise BlockError(error.what, error.hint, i + 1) from None
            self._exams[i] = exam
            known = exam.known
        return known

    def _check_width(self, known: Known) -> None:
        limit = max(self._options.max_columns, _width(self._start))
        if _width(known) > limit:
            raise LimitError(
                f"{self._name} has more than {limit:,} columns, fields of structs included.",
                where=self._name,
                hint="declare a column whose keys are data map<string,...> or string, or raise max_columns",
            )

    # -- Arrow

    def _accepted(self) -> Sequence[int]:
        """The lines that are not rejected."""
        if not self._exams:
            return self._places
        return [i for i in self._places if i not in self._exams or self._exams[i].error is None]

    def _read(self, places: Sequence[int], known: Known, *, strict: bool) -> tuple[pa.Table | None, str]:
        """Some lines as a table of carriers, a row for each; or None and what Arrow says against them."""
        whole = not self._exams and len(places) == len(self._places)
        data = self._data if whole else b"\n".join([self._as_read(i) for i in places])
        told = {column.name: shape.carrier(column.type) for column in known.columns}
        if not strict:
            told = {name: read for name, kind in told.items() if (read := shape.without_nulls(kind)) is not None}
        unexpected = "ignore" if self._ignoring else "error" if strict or known.closed else "infer"
        try:
            table = _call(data, told, unexpected)
            times = {f.name: kind for f in table.schema if (kind := shape.times_as_text(f.type)) != f.type}
            if times:
                table = _call(data, told | times, unexpected).select(table.column_names)
        except pa.ArrowException as error:
            return None, str(error)
        if table.num_rows != len(places):
            return None, "several records on a line, or a record over several lines"
        return table, ""

    def _as_read(self, place: int) -> bytes:
        exam = self._exams.get(place)
        return self._lines[place] if exam is None else exam.line

    def _explore(self, places: Sequence[int], why: str) -> set[int]:
        """Find out why a block cannot be read: lines to examine, or else new types, which are then known."""
        known = self.known
        suspects: set[int] = set()
        done = 0
        for piece in self._pieces(places):
            parts, refused = self._halve(piece)
            suspects |= refused
            before = known
            for part, table in parts:
                offers, doubts = self._offers(table)
                suspects |= self._convert(table, part)[1]
                suspects |= self._too_deep(table, part)
                known, turned_down = known.offer(offers)
                self._check_width(known)
                if doubts or turned_down or self._collide(known):
                    return set(self._places) - self._exams.keys() or self._give_up(part, why)
            done += len(piece)
            # Most often one piece tells it all, and what is left of the block can be read knowing it.
            if known != before and not suspects and self._read(places[done:], known, strict=True)[0] is not None:
                break
        if suspects:
            return suspects
        if known == self.known:
            return set(self._places) - self._exams.keys() or self._give_up(places, why)
        self.known = known
        return set()

    def _pieces(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        first, size = 0, 0
        for at, place in enumerate(places):
            size += len(self._lines[place])
            if at > first and (at - first >= _PIECE_LINES or size > _PIECE_BYTES):
                yield places[first:at]
                first, size = at, len(self._lines[place])
        yield places[first:]

    def _halve(self, piece: Sequence[int]) -> tuple[list[tuple[Sequence[int], pa.Table]], set[int]]:
        """What of a piece can be read, in order, and the lines that cannot."""
        parts: list[tuple[Sequence[int], pa.Table]] = []
        refused: set[int] = set()
        todo, calls = [piece], 0
        while todo:
            part = todo.pop()
            calls += 1
            if calls > _MAX_CALLS and self._exams.keys().isdisjoint(piece):
                return [], set(piece)
            table, error = self._read(part, self.known, strict=False)
            if table is not None:
                parts.append((part, table))
            elif len(part) > 1:
                todo += [part[len(part) // 2 :], part[: len(part) // 2]]
            elif part[0] in self._exams:
                self._give_up(part, error)
            else:
                refused.add(part[0])
        return parts, refused

    def _give_up(self, places: Sequence[int], why: str) -> set[int]:
        """Reject lines on which the two paths differ, though none is known: rather that than guess or turn for ever."""
        for place in places:
            self._exams[place] = Exam(self._start, error=f"not readable: {why}")
        return set()

    def _offers(self, table: pa.Table) -> tuple[list[tuple[str, Type]], bool]:
        """The types of a table beyond those known, and whether they are to be doubted."""
        offers = []
        doubts = False
        for name, column in zip(table.column_names, table.columns, strict=True):
            kind, array = self.known.get(name), array_of(column)
            doubts = doubts or shape.doubtful(array, kind) or name.lower() in SYSTEM_NAMES
            doubts = doubts or shape.colliding(from_arrow_type(array.type)) is not None
            if (found := shape.discover(array, kind)) != kind or name not in self.known.by_name:
                offers.append((name, found))
        return offers, doubts

    def _too_deep(self, table: pa.Table, places: Sequence[int]) -> set[int]:
        limit = self._options.max_depth
        if shape.depth_of_type(pa.struct(list(table.schema))) <= limit:
            return set()
        return {i for i in places if _brackets(self._lines[i]) > limit} - self._exams.keys()

    def _collide(self, known: Known) -> bool:
        """Whether new names differ from others only in case, on any level."""
        changed = (column for column in known.columns if column is not self.known.by_name.get(column.name))
        return len(known.by_folded) < len(known.columns) or any(shape.colliding(c.type) for c in changed)

    def _convert(
        self, table: pa.Table, places: Sequence[int]
    ) -> tuple[list[pa.Array], set[int], list[tuple[str, Type]]]:
        """The columns; the lines with values that Arrow may have misread or that do not fit; wider types."""
        columns = []
        suspects: set[int] = set()
        wider: list[tuple[str, Type]] = []
        for column in self.known.columns:
            kind = settled(column.type)
            if kind is None:
                continue
            if not table.num_rows:
                columns.append(pa.nulls(0, to_arrow_type(kind)))
                continue
            read = array_of(table.column(column.name))
            made = shape.convert(read, column.type, column.base is not None)
            columns.append(made.array)
            if made.kind != column.type:
                wider.append((column.name, made.kind))
            suspects.update(places[row] for row in made.doubts)
            if not column.nullable and read.null_count:
                suspects.update(places[row] for row in pc.indices_nonzero(read.is_null()).to_pylist())
        return columns, suspects - self._exams.keys(), wider

    def _decoded(self, columns: list[pa.Array], places: Sequence[int]) -> Decoded:
        rejected = tuple(
            Rejected(self._name, i + 1, self._raw(i), exam.error)
            for i, exam in sorted(self._exams.items())
            if exam.error is not None
        )
        lines = self._shapely or len(self._lines)
        batch = batch_of(self.known.schema, columns, len(places))
        return Decoded(batch, self.known, rejected, lines, places, self._raw)

    def _raw(self, place: int) -> str:
        return raw_text(self._lines[place].rstrip(b"\r"))


def _call(data: bytes, told: dict[str, pa.DataType], unexpected: str) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema(list(told.items())), unexpected_field_behavior=unexpected
        ),
    )


def _is_object(line: bytes) -> bool:
    line = line.strip(_SPACE)
    return line.startswith(b"{") and line.endswith(b"}")


def _brackets(line: bytes) -> int:
    return line.count(b"{") + line.count(b"[")


def _has_line_longer(data: bytes, length: int) -> bool:
    """Whether a line is longer than `length`, looking only at every `length`-th byte or so."""
    at, end = 0, len(data)
    while at + length < end:
        feed = data.rfind(b"\n", at, at + length)
        if feed < 0:
            return True
        at = feed + 1
    return False


def _names(known: Known) -> list[object]:
    """Every name in the columns, nested ones too."""
    return [(column.name, shape.names_in(column.type)) for column in known.columns]


def _width(known: Known) -> int:
    """The number of columns and fields."""
    return sum(1 + shape.fields_in(column.type) for column in known.columns)
