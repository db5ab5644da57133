"""Port `destination` as topics: a message for each row that is new or has changed, exactly once.

A load is one transaction of the broker: messages of all its tables, and the position, a message of a topic of its
own. Whoever opens a writer fences the one before, whose transaction is aborted, and only then looks at the position.

What a log cannot do is to take messages back. A table with a key gets tombstones for keys that are gone. Of one
without, a batch that is replaced is withdrawn by a message without a value, whose header `tidemill-withdrawn` is the
batch's id, or `*` for all that came before; then its rows come again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from tidemill.adapters.arrow.frames import frame_of
from tidemill.adapters.arrow.json_rows import encode_rows
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.errors import Conflict, ContractError, DefinitionError, Refused, UnknownName
from tidemill.model.table import Schema, WriteMode
from tidemill.ports.destination import Load, MirrorLost, TableLoad
from tidemill.ports.topic import Messages, Topics, TopicSpec, Writer

#: Where positions are: of each source the newest message counts.
POSITIONS = "_tidemill.positions"
#: The header of a message that takes others back.
WITHDRAWN = "tidemill-withdrawn"
#: Rows that are written at a time.
_ROWS = 20_000

#: Gives all messages that a topic holds now; of one that is not there none.
Whole: TypeAlias = "Callable[[str], Iterator[Messages]]"


class TopicDestination:
    """See the port. Values and keys are JSON objects.

    Args:
        topics: the broker.
        whole: reads a topic up to its end.
    """

    by_key = True

    def __init__(self, topics: Topics, whole: Whole) -> None:
        self._topics = topics
        self._whole = whole

    def position(self, source: str) -> str | None:
        """How far a source has come. A broker tells readers of a transaction a moment after its writer: whoever comes
        from what it was until then has a Conflict in `load`, which looks once the one before is known to have ended.
        """
        found: bytes | None = None
        for messages in self._whole(POSITIONS):
            for key, value in zip(messages.keys, messages.values, strict=True):
                if key == source.encode():
                    found = value
        return None if found is None else found.decode()

    def load(self, load: Load) -> int:
        """Load tables in one transaction of the broker."""
        for table in load.tables:
            _check(table)
        self._topics.create(TopicSpec(POSITIONS, cleanup="compact"))
        writer = self._topics.writer(f"tidemill-delivery.{load.source}", "exactly-once")
        try:
            found = self.position(load.source)
            if found != load.before:
                raise Conflict(f'"{load.source}" is at {found}, not at {load.before}.')
            rows = sum(self._send(writer, table) for table in load.tables)
            writer.send(POSITIONS, [load.after.encode()], keys=[load.source.encode()], partitions=0)
            writer.commit({})
        finally:
            writer.close()
        return rows

    def close(self) -> None:
        """Let go of the broker."""
        self._topics.close()

    def _send(self, writer: Writer, table: TableLoad) -> int:
        key = table.key or tuple(table.options.get("key", ()))
        there = self._topics.describe(table.table)
        if there is None:
            if table.mirror and table.write is not WriteMode.REPLACE:
                raise MirrorLost(table.table)
            self._topics.create(TopicSpec(table.table, cleanup="compact" if table.key else "delete"))
        if table.first and any(len(messages) for messages in self._whole(table.table)):
            raise Refused(
                f'Topic "{table.table}" has messages that are not of this delivery.',
                hint="delete it, or deliver into another one by table=",
            )
        if table.gone:
            for batch in table.gone:
                gone = _keys(batch, table, key)
                writer.send(table.table, [None] * len(gone), keys=gone)
        known: set[bytes] = set()
        if table.write is WriteMode.REPLACE and not table.first:
            if table.key:
                known = self._keys_in(table.table)
            elif there is not None:
                self._withdraw(writer, table.table, "*")
        for batch_id in table.batches:
            self._withdraw(writer, table.table, str(batch_id))
        rows = 0
        for batch in table.rows:
            for at in range(0, batch.num_rows, _ROWS):
                part = batch.slice(at, _ROWS)
                keys = _keys(part, table, key) if key else None
                writer.send(table.table, _objects(part, table.columns), keys=keys)
                known.difference_update(keys or ())
                rows += part.num_rows
        if known:
            writer.send(table.table, [None] * len(known), keys=sorted(known))
        return rows

    def _withdraw(self, writer: Writer, topic: str, what: str) -> None:
        writer.send(topic, [None], partitions=0, headers=[[(WITHDRAWN, what.encode())]])

    def _keys_in(self, topic: str) -> set[bytes]:
        """The keys that have a value."""
        found: dict[bytes, bool] = {}
        for messages in self._whole(topic):
            for key, value in zip(messages.keys, messages.values, strict=True):
                if key is not None:
                    found[key] = value is not None
        return {key for key, valued in found.items() if valued}


def _objects(batch: pa.RecordBatch, columns: Schema) -> list[bytes | None]:
    rows = pa.Table.from_batches([batch]).select(columns.names).cast(to_arrow(columns))
    return encode_rows(frame_of(rows), columns)


def _keys(batch: pa.RecordBatch, table: TableLoad, key: Iterable[str]) -> list[bytes]:
    columns = Schema(tuple(table.columns[name] for name in key))
    for column in columns:
        if batch.column(batch.schema.get_field_index(column.name)).null_count:
            raise ContractError(f"Rows for {table.table} have no {column.name}, which is their key.")
    return [one for one in _objects(batch, columns) if one is not None]


def _check(table: TableLoad) -> None:
    TopicSpec(table.table)  # its name
    unknown = [name for name in table.options if name != "key"]
    if unknown:
        raise UnknownName.of("option of topics", unknown[0], ("key",))
    for name in table.options.get("key", ()):
        if name not in table.columns:
            raise UnknownName.of("column", name, table.columns.names)
    if table.key and table.options.get("key"):
        raise DefinitionError(f"{table.table} has a key of its own: {', '.join(table.key)}.", hint="leave key= out")
    if table.write is WriteMode.UPSERT and not (table.mirror and table.order is None):
        raise DefinitionError(f"{table.table} cannot be upserted in a topic: it has no rows to compare with.")
