"""The decoder: feeds in, chunks out. It runs the stages and keeps what is known; the formats' modules do the reading.

Three things happen at once: a thread reads, unpacks and cuts blocks; two more decode the next blocks by what is known
now; the caller's thread takes them in order. A block that was decoded by less than is known at its turn is decoded
again, so the outcome is that of one block after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from tidemill.adapters.arrow.apart import Apart, survey
from tidemill.adapters.arrow.archives import opened_feeds
from tidemill.adapters.arrow.blocks import BLOCK_BYTES, Cutting, ahead
from tidemill.adapters.arrow.conform import decode_typed
from tidemill.adapters.arrow.csv import CsvOptions, csv_work
from tidemill.adapters.arrow.decoded import BlockError, Decoded, Work
from tidemill.adapters.arrow.detect import IsArchive, Opened, extension, open_feed, unpacked_feed
from tidemill.adapters.arrow.from_path import with_path, without
from tidemill.adapters.arrow.jsonl import jsonl_work
from tidemill.adapters.arrow.parquet import read_parquet
from tidemill.adapters.arrow.refused import refused_work
from tidemill.adapters.arrow.types import from_arrow
from tidemill.model.errors import ContractError, DecodeError
from tidemill.model.table import Contract, Schema
from tidemill.model.types import Type
from tidemill.plan.evolve import difference
from tidemill.plan.known import Differs, Known
from tidemill.plan.path_columns import path_types
from tidemill.ports.decoder import Chunk, DecodeOptions, Feed, Restart

if TYPE_CHECKING:
    from tidemill.adapters.arrow.message_rows import OpenCodec

#: Blocks that are decoded at the same time, and blocks that wait for it.
_WORKERS = 2
_WAITING = 2


@dataclass(frozen=True, slots=True)
class _Task:
    """A block to decode, and the feed that it is from."""

    part: int
    feed: Feed
    first: bool
    work: Work


@dataclass(frozen=True, slots=True)
class _Turn:
    """A decoded block in its place: lines count from the start of its feed."""

    feed: Feed
    part: int
    line: int
    decoded: Decoded


class ArrowDecoder:
    """Decodes CSV, JSON Lines, Avro and Parquet with Arrow; see the port for its promises.

    Args:
        block_bytes: how much text is decoded at a time. It changes speed and memory, never the outcome.
        open_codec: makes the codecs of topics' messages; None: there are none, and no such feeds.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES, open_codec: OpenCodec | None = None) -> None:
        self._block_bytes = block_bytes
        self._open_codec = open_codec

    def schema_of(self, columns: pa.Schema) -> Schema:
        """See `tidemill.ports.decoder.Decoder.schema_of`."""
        schema = from_arrow(columns)
        schema.check_unique()
        return schema

    def look(self, feed: Feed, size: int) -> tuple[str, bytes]:
        """See `tidemill.ports.decoder.Decoder.look`."""
        try:
            opened = open_feed(feed, DecodeOptions())
        except IsArchive:
            return "archive", b""
        with closing(opened.stream):
            return opened.format, opened.stream.peek(size)

    def decode(
        self,
        feeds: Sequence[Feed],
        *,
        tables: Mapping[str, Schema],
        found: Schema,
        contract: Contract,
        options: DecodeOptions,
    ) -> Iterator[Chunk]:
        """See `tidemill.ports.decoder.Decoder.decode`."""
        keys = path_types(options.from_path) if options.from_path else {}
        if not keys:
            yield from self._decoded(feeds, tables, found, contract, options)
            return
        chunks = self._decoded(feeds, without(tables, keys), found, contract, options)
        yield from with_path(chunks, feeds, keys)

    def _decoded(
        self,
        feeds: Sequence[Feed],
        tables: Mapping[str, Schema],
        found: Schema,
        contract: Contract,
        options: DecodeOptions,
    ) -> Iterator[Chunk]:
        """What the feeds hold."""
        apart = options.flatten or bool(options.jsonpaths)
        try:
            if apart:
                yield from self._apart(feeds, Apart(tables, contract, options, found), options)
            elif options.children:
                yield from self._side_by_side(feeds, tables, found, contract, options)
            else:
                yield from self._whole(feeds, Known.start(tables.get(""), found, contract), options)
        except Differs:
            lines = (self._survey_parts if apart else self._survey)(feeds, tables, contract, options)
            raise _differing(lines, feeds) from None

    def _whole(
        self, feeds: Sequence[Feed], known: Known, options: DecodeOptions, *, always: bool = False
    ) -> Iterator[Chunk]:
        """Rows as they are in the feeds; `always`: a chunk without rows tells their columns where there are none."""
        emitted: dict[str, Type] = {}
        restart = False
        for turn in self._turns(feeds, known, options):
            decoded = turn.decoded
            known = decoded.known
            # Once types turn out too narrow, the rest is read for its types only: one restart finds them all.
            restart = restart or not known.follows(emitted)
            if not restart and (decoded.batch.num_rows or decoded.rejected):
                emitted = {column.name: column.type for column in known.columns}
                yield Chunk("", known.schema, decoded.batch, decoded.rejected, turn.part)
        if restart:
            raise Restart(known.found)
        if always and not emitted and len(known.schema):
            yield Chunk("", known.schema, None)

    def _side_by_side(
        self,
        feeds: Sequence[Feed],
        tables: Mapping[str, Schema],
        found: Schema,
        contract: Contract,
        options: DecodeOptions,
    ) -> Iterator[Chunk]:
        """Rows of tables that have parts of their own. What a restart has found is called `<child>.<column>`."""
        for child in ("", *options.children):
            mine = [at for at, feed in enumerate(feeds) if _child_of(feed.name, options.children) == child]
            own, prefix = [feeds[at] for at in mine], f"{child}."
            begun = (replace(c, name=c.name[len(prefix) :]) for c in found if c.name.startswith(prefix))
            known = Known.start(tables.get(child), Schema(tuple(begun)), contract)
            try:
                for chunk in self._whole(own, known, options, always=bool(child)):
                    yield replace(chunk, child=child, part=None if chunk.part is None else mine[chunk.part])
            except Restart as restart:
                others = tuple(c for c in found if not c.name.startswith(prefix))
                wider = (replace(c, name=prefix + c.name) for c in restart.found)
                raise Restart(Schema((*others, *wider))) from None
            except Differs:
                mapped = {"": tables[child]} if child in tables else {}
                raise _differing(self._survey(own, mapped, contract, options), own) from None

    def _apart(self, feeds: Sequence[Feed], apart: Apart, options: DecodeOptions) -> Iterator[Chunk]:
        """Rows of the tables that records are taken apart into."""
        known = apart.records
        restart = False
        for turn in self._turns(feeds, known, options, apart.seeded):
            known = turn.decoded.known
            if restart:
                continue
            try:
                chunks = apart.chunks(turn.decoded, turn.feed.name, turn.line)
            except BlockError as error:
                raise _failed(error, turn.feed, turn.line) from None
            restart = not apart.follows(known)
            for chunk in () if restart else chunks:
                apart.emit(chunk, known)
                yield replace(chunk, part=turn.part)
        if restart:
            raise Restart(known.found)

    def _survey(
        self, feeds: Sequence[Feed], tables: Mapping[str, Schema], contract: Contract, options: DecodeOptions
    ) -> str:
        """All that differs, from the first feed to the last."""
        start = Known.start(tables.get(""), Schema(), contract)
        data = start.unfixed()
        for turn in self._turns(feeds, data, options):
            data = turn.decoded.known
        return difference(start.schema, data.found, contract).text

    def _survey_parts(
        self, feeds: Sequence[Feed], tables: Mapping[str, Schema], contract: Contract, options: DecodeOptions
    ) -> str:
        apart = Apart(tables, contract, options, Schema())
        turns = self._turns(feeds, apart.records, options, apart.seeded)
        return survey((turn.decoded for turn in turns), tables, contract, options)

    # -- the stages

    def _turns(
        self,
        feeds: Sequence[Feed],
        known: Known,
        options: DecodeOptions,
        refine: Callable[[Known], Known] = lambda known: known,
    ) -> Iterator[_Turn]:
        """Every block, decoded by all that is known at its turn; rows and rejected rows with their lines in the feed.

        `refine` may change what is known after a block, which is then decoded again.
        """
        line = 0
        with closing(ahead(self._tasks(feeds, options), _WAITING)) as tasks:
            for task, decoded in _in_order(tasks, known, refine):
                line = 0 if task.first else line
                if isinstance(decoded, BlockError):
                    raise _failed(decoded, task.feed, line)
                yield _Turn(task.feed, task.part, line, decoded.moved(line))
                line += decoded.lines

    def _tasks(self, feeds: Sequence[Feed], options: DecodeOptions) -> Iterator[_Task]:
        if options.messages is not None:
            from tidemill.adapters.arrow.message_rows import message_work  # codecs load Polars

            work_of = message_work(enumerate(feeds), options, self._open_codec)
            yield from (_Task(part, feed, True, work) for part, feed, work in work_of)
            return
        for part, feed in enumerate(feeds):
            if options.parts is not None and not fnmatchcase(feed.name, options.parts):
                continue
            if options.refused is not None and fnmatchcase(feed.name, options.refused):
                yield from (_Task(part, feed, first, work) for first, work in refused_work(feed, options))
                continue
            plain = options.plain is not None and fnmatchcase(feed.name, options.plain)
            here = replace(options, records=None) if plain else options
            for opened in opened_feeds(feed, here):
                with closing(opened.stream):
                    first = True
                    for work in self._work(opened, here):
                        yield _Task(part, opened.feed, first, work)
                        first = False

    def _work(self, opened: Opened, options: DecodeOptions) -> Iterator[Work]:
        cutting = Cutting(opened.feed.name, options, self._block_bytes)
        if options.records is not None and opened.format != "jsonl":
            raise DecodeError(
                f"{opened.feed.name} is {opened.format}, which has no records at {options.records}.",
                where=opened.feed.name,
                hint="leave records out",
            )
        if opened.format == "avro":
            from tidemill.adapters.arrow.avro import read_avro  # loading fastavro takes 20 ms

            return _typed_work(read_avro(unpacked_feed(opened, seekable=False), options), opened.feed.name)
        if opened.format == "parquet":
            return _typed_work(read_parquet(unpacked_feed(opened, seekable=True), options), opened.feed.name)
        if opened.format == "jsonl":
            return jsonl_work(opened.stream, cutting)
        if opened.format == "html":
            from tidemill.adapters.arrow.html_table import html_work  # lxml is an extra

            return html_work(opened.stream, cutting)
        if options.flatten or options.jsonpaths:
            raise DecodeError(
                f"{opened.feed.name} is {'Excel' if opened.format == 'xlsx' else 'CSV'}, whose rows are flat.",
                where=opened.feed.name,
                hint=f"leave {'flatten' if options.flatten else 'jsonpaths'} out",
            )
        if opened.format == "xlsx":
            from tidemill.adapters.arrow.excel import ExcelOptions, excel_text

            wanted = ExcelOptions.of(options.excel)
            return csv_work(
                excel_text(opened.feed, options, wanted),
                cutting,
                CsvOptions.of({"delimiter": ",", **wanted.csv}, "csv"),
            )
        return csv_work(opened.stream, cutting, CsvOptions.of(options.csv, extension(opened.feed.name)))


def _child_of(name: str, children: Sequence[str]) -> str:
    """The table that a part of that name is of."""
    child, dot, _ = name.partition(".")
    return child if dot and child in children else ""


def _differing(lines: str, feeds: Sequence[Feed]) -> ContractError:
    return ContractError(
        "The data differs from the table, and its contract is freeze:\n  " + lines.replace("\n", "\n  "),
        where=", ".join(feed.name for feed in feeds[:3]) + (" ..." if len(feeds) > 3 else ""),
        hint="change the source, or let the table follow: contract evolve",
    )


def _failed(error: BlockError, feed: Feed, line: int) -> DecodeError:
    """The error with its place in the feed, of which `line` lines came before the block."""
    return DecodeError(error.what, where=f"{feed.name} line {line + error.line}", hint=error.hint)


def _typed_work(batches: Iterator[tuple[pa.RecordBatch, int]], name: str) -> Iterator[Work]:
    for rows, _ in batches:
        yield partial(decode_typed, rows, name=name)


def _in_order(
    tasks: Iterator[_Task], known: Known, refine: Callable[[Known], Known]
) -> Iterator[tuple[_Task, Decoded | BlockError]]:
    """Decode tasks ahead of their turn, and again where more is known by then."""
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="tidemill-decode")
    waiting: deque[tuple[_Task, Future[Decoded | BlockError]]] = deque()

    def begin(task: _Task) -> None:
        waiting.append((task, pool.submit(_attempt, task.work, known)))

    try:
        while True:
            # The first block brings most columns: what is decoded beside it would be decoded again.
            wanted = _WORKERS if known.columns else 1
            while len(waiting) < wanted and (coming := next(tasks, None)) is not None:
                begin(coming)
            if not waiting:
                return
            task, running = waiting.popleft()
            result = running.result()
            while isinstance(result, Decoded) and (refined := refine(result.known)) != result.known:
                result = _attempt(task.work, refined)
            if isinstance(result, Decoded) and result.known != known:
                known = result.known
                for _ in range(len(waiting)):
                    held, stale = waiting.popleft()
                    stale.cancel()
                    begin(held)
            yield task, result
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(work: Work, known: Known) -> Decoded | BlockError:
    try:
        return work(known)
    except BlockError as error:
        return error
