"""The decoder: feeds in, chunks out. It runs the stages and keeps what is known; the formats' modules do the reading.

Three things happen at once: a thread reads, unpacks and cuts blocks; two more decode the next blocks by what is known
now; the caller's thread takes them in order. A block that was decoded by less than is known at its turn is decoded
again, so the outcome is that of one block after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from tidemill.adapters.arrow.blocks import BLOCK_BYTES, Cutting, ahead
from tidemill.adapters.arrow.csv import CsvOptions, csv_work
from tidemill.adapters.arrow.decoded import BlockError, Decoded, Work
from tidemill.adapters.arrow.detect import Opened, extension, open_feed
from tidemill.adapters.arrow.jsonl import jsonl_work
from tidemill.model.errors import ContractError, DecodeError, LimitError
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

    feed: Feed
    first: bool
    work: Work


class ArrowDecoder:
    """Decodes CSV, JSON Lines, Avro and Parquet with Arrow; see the port for its promises.

    Args:
        block_bytes: how much is decoded at a time. It changes speed and memory, never the outcome.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes

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
        table = tables.get("")
        known = Known.start(table, found, contract)
        emitted: dict[str, Type] = {}
        try:
            for decoded in self._decoded(feeds, known, options):
                known = decoded.known
                if not known.follows(emitted):
                    raise Restart(self._survey(feeds, known, options).found)
                emitted = {column.name: column.type for column in known.columns}
                if decoded.batch.num_rows or decoded.rejected:
                    yield Chunk("", known.schema, decoded.batch, decoded.rejected)
        except Differs:
            raise self._difference(feeds, known, table, contract, options) from None

    def _survey(self, feeds: Sequence[Feed], known: Known, options: DecodeOptions) -> Known:
        """What is known after all feeds."""
        for decoded in self._decoded(feeds, known, options):
            known = decoded.known
        return known

    def _difference(
        self, feeds: Sequence[Feed], known: Known, table: Schema | None, contract: Contract, options: DecodeOptions
    ) -> ContractError:
        """The error under `freeze`: all that differs, from the first feed to the last."""
        start = Known.start(table, Schema(), contract)
        data = self._survey(feeds, start.unfixed(), options)
        lines = difference(start.schema, data.found, contract).text.replace("\n", "\n  ")
        return ContractError(
            f"The data differs from the table, and its contract is freeze:\n  {lines}",
            where=", ".join(feed.name for feed in feeds[:3]) + (" ..." if len(feeds) > 3 else ""),
            hint='change the source, or let the table follow with on_misfit="evolve"',
        )

    # -- the stages

    def _decoded(self, feeds: Sequence[Feed], known: Known, options: DecodeOptions) -> Iterator[Decoded]:
        """Every block, decoded by all that is known at its turn; rejected rows with their lines in the file."""
        line = 0
        with closing(ahead(self._tasks(feeds, options), _WAITING)) as tasks:
            for task, decoded in _in_order(tasks, known):
                line = 0 if task.first else line
                try:
                    if decoded is None or decoded[0] != known:
                        result = task.work(known)
                    else:
                        result = decoded[1].result()
                except BlockError as error:
                    where = f"{task.feed.name} line {line + error.line}"
                    raise DecodeError(error.what, where=where, hint=error.hint) from None
