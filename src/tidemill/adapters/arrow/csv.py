"""CSV: blocks of records, cut by Arrow into columns of text, and typed from there by the rules of `text`.

Arrow's own typing is not used: it reads "00123", " 5" and "0x1F" as integers and types each block by itself. Reading
text and typing it column-wise costs some 30 ns a value more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from tidemill.adapters.arrow import commas, text
from tidemill.adapters.arrow.blocks import Cutting, cut_blocks, text_stream
from tidemill.adapters.arrow.compression import Peekable
from tidemill.adapters.arrow.csvtypes import Notation, Typing
from tidemill.adapters.arrow.decoded import (
    BlockError,
    Decoded,
    Work,
    batch_of,
    check_system_names,
    is_utf8,
    raw_text,
)
from tidemill.adapters.arrow.quoting import Grammar, Record, grammar
from tidemill.model.errors import DecodeError, LimitError, SettingsError, UnknownName
from tidemill.model.types import UNKNOWN
from tidemill.plan.known import Known
from tidemill.ports.decoder import Rejected

#: Bytes in which a header's delimiter is looked for.
_HEAD = 64 * 1024
_OPTIONS = ("delimiter", "quote", "header", "column_names", "null_values", "encoding", "decimal")


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How a CSV file is written.

    Args:
        delimiter: one ASCII character. None: tab for `.tsv` files, else what parts the header: a comma, or where it
            has none outside of quotes, a semicolon, a tab or a bar.
        quote: one ASCII character, or None where quotes mean nothing.
        header: the first record holds the columns' names.
        column_names: names instead of the header's; without header and names they are `column_1`, `column_2` ...
        null_values: unquoted texts that mean null, beside the empty one.
        encoding: of the file; None: by its byte order mark, else UTF-8.
        decimal: what parts a number's fraction, a point or a comma.
    """

    delimiter: str | None = ","
    quote: str | None = '"'
    header: bool = True
    column_names: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    encoding: str | None = None
    decimal: str = "."

    @classmethod
    def of(cls, options: Mapping[str, Any], extension: str) -> CsvOptions:
        """Read the options of a source.

        Raises:
            UnknownName: no such option.
            SettingsError: a value that cannot be.
        """
        for name in options:
            if name not in _OPTIONS:
                raise UnknownName.of("csv option", name, _OPTIONS)
        header = bool(options.get("header", True))
        delimiter = options.get("delimiter", "\t" if extension == "tsv" else None if header else ",")
        quote = options.get("quote", '"') or None
        for name, mark in (("delimiter", delimiter), ("quote", quote)):
            if mark is not None and not (
                isinstance(mark, str) and len(mark) == 1 and mark.isascii() and mark not in "\r\n"
            ):
                raise SettingsError(f"The csv option {name} must be one ASCII character, not {mark!r}.")
        if delimiter is not None and delimiter == quote:
            raise SettingsError("The csv options delimiter and quote must differ.")
        decimal = options.get("decimal", ".")
        if decimal not in (".", ","):
            raise SettingsError(f"The csv option decimal must be a point or a comma, not {decimal!r}.")
        return cls(
            delimiter,
            quote,
            header,
            tuple(options.get("column_names", ())),
            tuple(options.get("null_values", ())),
            options.get("encoding"),
            decimal,
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the blocks of one file share."""

    names: tuple[str, ...]
    options: CsvOptions
    grammar: Grammar
    cutting: Cutting


def csv_work(stream: Peekable, cutting: Cutting, options: CsvOptions) -> Iterator[Work]:
    """The blocks of a CSV stream, ready to be decoded.

    Raises:
        DecodeError: columns that collide, a quote that is never closed.
        LimitError: too many columns, a record without end.
    """
    if options.delimiter is None:
        options = replace(options, delimiter=_delimiter(stream.peek(_HEAD)))
    assert options.delimiter is not None
    rules = grammar(options.delimiter, options.quote)
    lines = text_stream(stream, options.encoding, cutting.name)
    layout: _Layout | None = None
    skipped = 0
    for data, last in _with_last(cut_blocks(lines, rules.cut, cutting)):
        start = 0
        if layout is None:
            first = next(rules.records(data), None)
            if first is None and rules.unclosed(data) is None:
                skipped += data.count(b"\n")
                continue
            names = rules.fields(first.raw) if first else [""]
            start = first.end if first and options.header else 0
            layout = _Layout(_names(names, options, cutting), options, rules, cutting)
        yield _work(data, start, skipped, last, layout)
        skipped = 0


def _delimiter(head: bytes) -> str:
    """What parts the fields of a header."""
    line = re.sub(rb'"[^"]*"', b"", head.replace(b"\0", b"").lstrip(b"\r\n").partition(b"\n")[0])
    found = max(b";\t|", key=line.count)
    return chr(found) if b"," not in line and found in line else ","


def _work(data: bytes, start: int, skipped: int, last: bool, layout: _Layout) -> Work:
    return lambda known: _Block(data, start, skipped, last, layout).decode(known)


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    held = next(blocks, None)
    while held is not None:
        following = next(blocks, None)
        yield held, following is None
        held = following


def _names(header: Sequence[str], options: CsvOptions, cutting: Cutting) -> tuple[str, ...]:
    """The columns' names; columns without one are named by their place."""
    where = f"{cutting.name} line 1"
    names = list(options.column_names) or (list(header) if options.header else [""] * len(header))
    if len(names) > cutting.options.max_columns:
        raise LimitError(
            f"{cutting.name} has {len(names):,} columns, at most {cutting.options.max_columns:,} are read.",
            where=where,
            hint="check the delimiter, or raise max_columns",
        )
    if options.header and len(names) != len(header):
        raise DecodeError(f"{cutting.name} has {len(header)} columns, but column_names has {len(names)}.", where=where)
    names = [name or f"column_{i}" for i, name in enumerate(names, 1)]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        other = seen.setdefault(name.lower(), i)
        if other != i:
            same = f'two columns "{name}"' if names[other] == name else f'columns "{names[other]}" and "{name}"'
            raise DecodeError(
                f"{cutting.name} has {same} (number {other + 1} and {i + 1}); case is ignored.",
                where=where,
                hint="give column_names in the csv options, or rename one in the source",
            )
    try:
        check_system_names(names)
    except BlockError as error:
        raise DecodeError(error.what, where=where, hint=error.hint) from None
    return tuple(names)


class _Block:
    """A block of whole records."""

    def __init__(self, data: bytes, start: int, skipped: int, last: bool, layout: _Layout) -> None:
        self._data = data[start:] if start else data
        self._before = skipped + data.count(b"\n", 0, start)
        self._last = last
        self._layout = layout
        #: Why rows are rejected, by their place among the block's records.
        self._errors: dict[int, str] = {}

    def decode(self, known: Known) -> Decoded:
        """Decode by what is known, learning as needed.

        Raises:
            BlockError: a quote that is never closed, a column that collides with a known one.
            Differs: data that does not fit, under `freeze`.
        """
        line = self._layout.grammar.unclosed(self._data) if self._last else None
        if line is not None:
            raise BlockError(
                "A quote is opened and never closed.", "check the quote in the csv options", self._before + line
            )
        known = self._named(known)
        texts, places = self._read()
        structural = dict(self._errors)
        quote = (self._layout.options.quote or "").encode()
        # Looking for one byte is thirty times as fast as looking for two.
        empties = bool(quote) and quote in self._data and quote * 2 in self._data
        notation: Notation = commas if self._layout.options.decimal == "," else text
        while True:
            self._errors = dict(structural)
            typing = Typing(self._layout.names, known, texts, places, self._errors, notation, empties=empties)
            columns, after = typing.run()
            if after == known:
                break
            known = after
        if len(self._errors) > len(structural):
            kept = pa.array([place not in self._errors for place in places])
            columns = [column.filter(kept) for column in columns]
        rows = texts.num_rows - (len(self._errors) - len(structural))
        lines = self._before + (self._data.count(b"\n") or self._data.count(b"\r"))
        return Decoded(batch_of(known.schema, columns, rows), known, self._rejected(), lines)

    def _named(self, known: Known) -> Known:
        """What is known with the file's columns, whatever they hold."""
        for name in self._layout.names:
            other = known.by_folded.get(name.lower(), name)
            if other != name:
                raise BlockError(
                    f'The file has a column "{name}", but "{other}" is known; they differ only in case.',
                    "give column_names in the csv options, or rename one in the source",
                )
        return known.offer([(name, UNKNOWN) for name in self._layout.names])[0]

    # -- records

    @cached_property
    def _records(self) -> list[Record]:
        return list(self._layout.grammar.records(self._data))

    def _rejected(self) -> tuple[Rejected, ...]:
        return tuple(
            Rejected(
                self._layout.cutting.name,
                self._before + self._records[place].line,
                raw_text(self._records[place].raw),
                error,
            )
            for place, error in sorted(self._errors.items())
        )

    def _read(self) -> tuple[pa.Table, list[int]]:
        """The records as columns of text, and which record each row is. Records that cannot be read are noted."""
        if not is_utf8(self._data) or b"\0" in self._data:
            for place, record in enumerate(self._records):
                if b"\0" in record.raw:
                    self._errors[place] = "a NUL byte"
                elif not is_utf8(record.raw):
                    self._errors[place] = _not_utf8(record.raw)
        table, odd = self._parse(self._data if not self._errors else self._join())
        if odd or self._errors:
            places = [place for place in range(len(self._records)) if place not in self._errors]
            for number, fields in odd:
                self._errors[places[number - 1]] = (
                    f"{fields} {'field' if fields == 1 else 'fields'}, {len(self._layout.names)} expected"
                )
            places = [place for place in places if place not in self._errors]
        else:
            places = list(range(table.num_rows))
        if len(self._data) > self._layout.cutting.options.max_field:
            self._note_long(table, places)
            kept = [place not in self._errors for place in places]
            table, places = table.filter(pa.array(kept, pa.bool_())), [p for p in places if p not in self._errors]
        return table, places

    def _join(self) -> bytes:
        return b"\n".join([r.raw for place, r in enumerate(self._records) if place not in self._errors])

    def _parse(self, data: bytes) -> tuple[pa.Table, list[tuple[int, int]]]:
        """Columns of text, and the records with a wrong number of fields: their number from 1, and that of fields."""
        odd: list[tuple[int, int]] = []
        names = list(self._layout.names)
        texts = {name: pa.string() for name in names}
        if not data:
            return pa.table({name: pa.array([], pa.string()) for name in names}), odd

        def note(row: pc_csv.InvalidRow) -> str:
            odd.append((row.number, row.actual_columns))
            return "skip"

        options = self._layout.options
        table = pc_csv.read_csv(
            pa.BufferReader(data),
            read_options=pc_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            parse_options=pc_csv.ParseOptions(
                delimiter=options.delimiter,
                quote_char=options.quote or False,
                newlines_in_values=options.quote is not None and options.quote.encode() in data,
                invalid_row_handler=note,
            ),
            convert_options=pc_csv.ConvertOptions(
                check_utf8=False,
                column_types=texts,
                null_values=["", *options.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        return table, odd

    def _note_long(self, table: pa.Table, places: Sequence[int]) -> None:
        limit = self._layout.cutting.options.max_field
        for name, column in zip(table.column_names, table.columns, strict=True):
            long = pc.greater(pc.binary_length(column), limit)
            for row in pc.indices_nonzero(long).to_pylist():
                size = len(column[row].as_py().encode())
                self._errors[places[row]] = f"{name}: {size:,} bytes, at most {limit:,} are read (max_field)"


def _not_utf8(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}"
    return "not UTF-8"
