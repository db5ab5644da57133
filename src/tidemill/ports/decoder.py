"""Port `decoder`: archived bytes in, typed columns out, in bounded memory; misfits are told apart, never lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from tidemill.model.errors import UnknownName
from tidemill.model.table import Contract, Schema

#: What is read: JSON is JSON Lines, or one document.
FORMATS = ("csv", "jsonl", "avro", "parquet", "html", "xlsx")


def check_format(name: str, where: str | None = None) -> None:
    """Raise UnknownName unless it is a format of feeds."""
    if name not in FORMATS:
        raise UnknownName.of("format", name, FORMATS, where=where)


@dataclass(frozen=True, slots=True)
class Feed:
    """One archived part to decode: how it is called for messages, how to open it, what is known of its format.

    `open` returns a fresh binary stream each time. `format` and `compression` None: found by content, then by
    the name's extension.
    """

    name: str
    open: Callable[[], BinaryIO]
    bytes: int
    format: str | None = None
    compression: str | None = None


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to read feeds.

    Args:
        format: csv, jsonl, avro, parquet, html, xlsx; None finds out. Of archives, that of their members.
        csv: delimiter, quote, header (bool), column_names, null_values, encoding, decimal.
        excel: sheet, header (row or bool), range, column_names, null_values.
        members: a pattern of the names of an archive's members that are read; None: all.
        flatten: nested lists become child tables `<table>__<field>`, structs become columns `<field>_<sub>`.
        key: the parent's key columns that child rows carry (default: the parent's position in the batch, `_row` in the
            parent and `_parent_row` in its children).
        jsonpaths: column -> JSONPath, for JSON feeds mapped by hand.
        records: JSONPath of the records in a JSON document, such as `$.data[*]`; None: the document's own lines, or
            its array's elements.
        records_optional: a document without that place has no records; otherwise it is an error.
        html: of web pages `match` (a text in the table, or its id) and `number` (from 0) of the tables that match.
        children: tables beside the feed's own, each of parts of its own: those whose names begin with `<child>.`. Such
            a table is made even where no row comes.
        parts: a pattern such as `details*`: only parts with such names have rows; None: all.
        plain: a pattern of the parts whose documents are records themselves, whatever `records` says; None: no part.
        refused: a pattern of the parts whose lines are no records: all of them are rejected; None: no part.
        from_path: column -> type, of values that folders of the part's name say: `day=2026-01-01`.
        messages: the parts are messages of a topic, and this says how they become rows (`MessageRows.as_json`); None:
            they are not.
        max_unpacked: bytes one feed may unpack to; max_ratio: unpacked/packed bytes; max_depth: of nesting;
        max_field: bytes of one field; max_columns; max_members: of an archive.
    """

    format: str | None = None
    csv: Mapping[str, Any] = field(default_factory=dict)
    excel: Mapping[str, Any] = field(default_factory=dict)
    members: str | None = None
    flatten: bool = False
    key: tuple[str, ...] = ()
    jsonpaths: Mapping[str, str] = field(default_factory=dict)
    records: str | None = None
    records_optional: bool = False
    html: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    parts: str | None = None
    plain: str | None = None
    refused: str | None = None
    from_path: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, Any] | None = None
    max_unpacked: int = 64 << 30
    max_ratio: float = 1000.0
    max_depth: int = 64
    max_field: int = 16 << 20
    max_columns: int = 10_000
    max_members: int = 10_000


@dataclass(frozen=True, slots=True)
class Rejected:
    """One input row that did not fit: goes to `<table>__quarantine`."""

    file: str
    #: 1-based line (CSV, JSON Lines) or record number (Avro, Parquet).
    line: int
    raw: str
    error: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some decoded rows of one table.

    `child` is "" for the feed's own table, else the child's suffix (`items`, `items__tags`). `batch` is an Arrow
    RecordBatch whose columns are named and typed as `schema` says. `schema` is all that is known by then: the table's
    and the declared columns, and what the data has brought; a column, or a part of one, that has held only nulls is
    left out until it is typed, so that later chunks may have more columns than earlier ones. `part` is the position
    among `feeds` of the one that the rows are from; None: not told.
    """

    child: str
    schema: Schema
    batch: Any
    rejected: tuple[Rejected, ...] = ()
    part: int | None = None


class Restart(Exception):
    """Raised by `decode`: rows that were yielded already were typed too narrowly.

    The caller throws away what it staged and decodes again, with `found` as it comes here. Each restart widens at
    least one column, so their number is bounded by the lattice of types (in practice one or two).
    """

    def __init__(self, found: Schema) -> None:
        super().__init__("types were widened")
        self.found = found


class Decoder(Protocol):
    """Decodes feeds block by block.

    Promises:
      - Types are those of the whole batch, wherever it is cut into blocks: the first block proposes, every later one
        proves or widens. A widening that Iceberg allows (int -> long, float -> double, longer decimals, a new
        column) goes on; any other raises `Restart` for columns that no table holds yet, and is a misfit, which
        follows `contract`, for those that one does.
      - Every input row is in exactly one chunk's `batch` or `rejected`. Order is the input's.
      - Memory is bounded by a few blocks, whatever the input's size.
      - Bytes that no row can be cut from (truncated gzip, not Avro at all) raise DecodeError naming file and place.
    """

    def schema_of(self, columns: Any) -> Schema:
        """The columns that a pyarrow.Schema would have as a table.

        Raises:
            DefinitionError: a type that no table can hold, or two names that differ only in case.
        """
        ...

    def look(self, feed: Feed, size: int) -> tuple[str, bytes]:
        """The format of a feed, "archive" of one that has members, and its first unpacked bytes.

        Raises:
            DecodeError: a format that is not read.
        """
        ...

    def decode(
        self,
        feeds: Sequence[Feed],
        *,
        tables: Mapping[str, Schema],
        found: Schema,
        contract: Contract,
        options: DecodeOptions,
    ) -> Iterator[Chunk]:
        """Decode `feeds` in order.

        Args:
            feeds: the batch's parts.
            tables: the columns of the tables that exist, by child suffix ("" is the table itself); a table that is
                missing here is new. Their types only widen as Iceberg allows and the contract says.
            found: an empty schema at first; `Restart.found` when decoding again.
            contract: what to do with what does not fit.
            options: how to read.

        Raises:
            ContractError: contract `freeze` and the data differs; the message shows the difference.
            DecodeError, LimitError, Restart.
        """
        ...
