"""The decoder: feeds in, chunks out. It runs the stages and keeps what is known; the formats' modules do the reading.

Three things happen at once: a thread reads, unpacks and cuts blocks; two more decode the next blocks by what is known
now; the caller's thread takes them in order. A block that was decoded by less than is known at its turn is decoded
again, so the outcome is that of one block after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import pyarrow as pa

from tidemill.adapters.arrow.blocks import BLOCK_BYTES, Cutting, ahead
from tidemill.adapters.arrow.csv import CsvOptions, csv_work
from tidemill.adapters.arrow.decoded import BlockError, Decoded, Work
from tidemill.adapters.arrow.detect import Opened, extension, open_feed
from tidemill.adapters.arrow.jsonl import jsonl_work
from tidemill.adapters.arrow.types import from_arrow
from tidemill.model.errors import ContractError, DecodeError, DefinitionError
from tidemill.model.table import Contract, Schema
from tidemill.model.types import Type
from tidemill.plan.evolve import difference
from tidemill.plan.known import Differs, Known
from tidemill.ports.decoder import Chunk, DecodeOptions, Feed, Restart

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


class ArrowDecoder:
    """Decodes CSV and JSON Lines with Arrow; see the port for its promises.

    Avro and Parquet feeds, flattening and JSONPaths have readers of their own in this folder; they do not take part in
    contracts yet, so asking for them is refused instead of giving rows that nobody has judged.

    Args:
        block_bytes: how much is decoded at a time. It changes speed and memory, never the outcome.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes

    def schema_of(self, columns: pa.Schema) -> Schema:
        """See `tidemill.ports.decoder.Decoder.schema_of`."""
        schema = from_arrow(columns)
        schema.check_unique()
        return schema

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
        if options.flatten or options.jsonpaths:
            asked = "flatten" if options.flatten else "jsonpaths"
            raise DefinitionError(
                f"A feed cannot be loaded with {asked} yet.",
                hint="load it nested, and take it apart in a table: explode, unnest",
            )
        table = tables.get("")
        known = Known.start(table, found, contract)
        emitted: dict[str, Type] = {}
        restart = False
        try:
            for decoded in self._decoded(feeds, known, options):
                known = decoded.known
                # Once types turn out too narrow, the rest is read for its types only: one restart finds them all.
                restart = restart or not known.follows(emitted)
                if not restart and (decoded.batch.num_rows or decoded.rejected):
                    emitted = {column.name: column.type for column in known.columns}
                    yield Chunk("", known.schema, decoded.batch, decoded.rejected, decoded.part)
        except Differs:
            raise self._difference(feeds, table, contract, options) from None
        if restart:
            raise Restart(known.found)

    def _difference(
        self, feeds: Sequence[Feed], table: Schema | None, contract: Contract, options: DecodeOptions
    ) -> ContractError:
        """The error under `freeze`: all that differs, from the first feed to the last."""
        start = Known.start(table, Schema(), contract)
        data = start.unfixed()
        for decoded in self._decoded(feeds, data, options):
            data = decoded.known
        lines = difference(start.schema, data.found, contract).text.replace("\n", "\n  ")
        return ContractError(
            f"The data differs from the table, and its contract is freeze:\n  {lines}",
            where=", ".join(feed.name for feed in feeds[:3]) + (" ..." if len(feeds) > 3 else ""),
            hint="change the source, or let the table follow: contract evolve",
        )

    # -- the stages

    def _decoded(self, feeds: Sequence[Feed], known: Known, options: DecodeOptions) -> Iterator[Decoded]:
        """Every block, decoded by all that is known at its turn; rejected rows with their lines in the file."""
        line = 0
        with closing(ahead(self._tasks(feeds, options), _WAITING)) as tasks:
            for task, decoded in _in_order(tasks, known):
                line = 0 if task.first else line
                if isinstance(decoded, BlockError):
                    where = f"{task.feed.name} line {line + decoded.line}"
                    raise DecodeError(decoded.what, where=where, hint=decoded.hint)
                rejected = tuple(replace(r, line=r.line + line) for r in decoded.rejected)
                yield replace(decoded, rejected=rejected, part=task.part)
                line += decoded.lines

    def _tasks(self, feeds: Sequence[Feed], options: DecodeOptions) -> Iterator[_Task]:
        for part, feed in enumerate(feeds):
            opened = open_feed(feed, options)
            with closing(opened.stream):
                first = True
                for work in self._work(opened, options):
                    yield _Task(part, feed, first, work)
                    first = False

    def _work(self, opened: Opened, options: DecodeOptions) -> Iterator[Work]:
        cutting = Cutting(opened.feed.name, options, self._block_bytes)
        if opened.format == "csv":
            return csv_work(opened.stream, cutting, CsvOptions.of(options.csv, extension(opened.feed.name)))
        if opened.format in ("avro", "parquet"):
            raise DecodeError(
                f"{opened.feed.name} is {opened.format.capitalize()}, which feeds cannot be yet.",
                where=opened.feed.name,
                hint="CSV or JSON Lines",
            )
        return jsonl_work(opened.stream, cutting)


def _in_order(tasks: Iterator[_Task], known: Known) -> Iterator[tuple[_Task, Decoded | BlockError]]:
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
