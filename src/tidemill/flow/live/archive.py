"""Port `live` over the archive: what a source has brought, once more, batch by batch, as it came.

Batches come in the order of their intervals, rows within them as they were archived; what no row could be made of
comes as it was, so that a stream can put it aside. Those are given that were archived when this began: it has an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

from tidemill.flow.live.pieces import Piece, PieceReading, Pieces, Playback
from tidemill.flow.policies import as_policies_say
from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.batch import Manifest, Part
from tidemill.model.branch import MAIN
from tidemill.model.errors import Refused, UnknownName
from tidemill.model.live import ArchiveReplay
from tidemill.model.policy import Policy
from tidemill.model.table import Contract, OnMisfit, Schema, TableName
from tidemill.ports.decoder import Chunk, DecodeOptions, Feed, Restart


class ArchiveLive:
    """The port over what a source has archived.

    The position: `until`, the last batch that counts; `batch` and `version`, what is being given; `rows` of it so far;
    `done`: that was all.
    """

    def __init__(self, services: Services, spec: ArchiveReplay) -> None:
        self._services = services
        self._spec = spec
        self._pipeline, _, self._source = spec.source.partition(".")

    def open(self, position: Any) -> PieceReading:
        """Begin to read. Raises UnknownName: the source has archived nothing."""
        clock = self._services.clock
        pieces = self._pieces(position)
        return PieceReading(pieces, Playback(self._spec.time, self._spec.speed, clock), clock)

    def _pieces(self, position: Any) -> Pieces:
        if position is not None and position["done"]:
            return
        manifests = self._manifests(position)
        until = max(manifest.batch_id for manifest in manifests)
        done = 0 if position is None else position["rows"]
        for manifest in manifests:
            yield from self._batch(manifest, until, done)
            done = 0
        last = manifests[-1]
        yield Piece(0, lambda _: _position(until, last, 0, True))

    def _manifests(self, position: Any) -> list[Manifest]:
        """What is still to be given; the first one perhaps in part."""
        with self._services.metadata.read() as tx:
            all_of = tx.archive.recent(pipeline=self._pipeline)
            found = [one for one in all_of if one.source == self._source]
            if not found:
                known = {f"{self._pipeline}.{one.source}" for one in all_of}
                raise UnknownName.of("archived source", self._spec.source, known)
            newest = {one.batch_id: one for one in sorted(found, key=lambda one: one.version)}
            if position is None:
                return sorted(newest.values(), key=_order)
            current = tx.archive.get(position["batch"], self._source, position["version"])
            assert current is not None, "manifests are never removed"
        left = [
            one for one in newest.values()
            if one.batch_id <= position["until"] and _order(one) > _order(current)
        ]  # fmt: skip
        return [current, *sorted(left, key=_order)]

    def _batch(self, manifest: Manifest, until: int, done: int) -> Pieces:
        """What is left of a batch after the first `done` rows."""

        def placed(before: int, count: int, **more: Any) -> Piece:
            return Piece(count, lambda n: _position(until, manifest, before + n, False), **more)

        at = 0
        policies = self._policies(bool(manifest.contents and manifest.contents.options.get("flatten")))
        for chunk in self._decoded(manifest):
            if chunk.child:
                continue
            if policies:
                chunk = as_policies_say(self._services, chunk, policies)
            raw = tuple(one.raw.encode() for one in chunk.rejected)
            skip = min(len(raw), max(0, done - at))
            if len(raw) > skip:
                yield placed(at + skip, len(raw) - skip, values=raw[skip:])
            at += len(raw)
            if chunk.batch is None:
                continue
            skip = min(chunk.batch.num_rows, max(0, done - at))
            if chunk.batch.num_rows > skip:
                yield placed(at + skip, chunk.batch.num_rows - skip, rows=chunk.batch.slice(skip))
            at += chunk.batch.num_rows

    def _policies(self, flat: bool) -> dict[str, Policy]:
        """Policies of the source's table on main: a topic is given no more than the table.

        Raises:
            Refused: they are of columns that records are taken apart into, which here are whole.
        """
        name = TableName(self._pipeline, self._source)
        with self._services.metadata.read() as tx:
            pointer = tx.refs.pointers(MAIN).get(name)
        if pointer is None:
            return {}
        found = spec_from(name, self._services.catalog.load(name, pointer).properties).policies
        if found and flat:
            raise Refused(
                f'Columns of "{name}" have policies, and its records would come whole.',
                hint="feed the topic from the table: live.table(...)",
            )
        return dict(found)

    def _decoded(self, manifest: Manifest) -> Iterator[Chunk]:
        """The rows of a batch, lists and structs within them as they came."""
        contents = manifest.contents
        known: dict[str, Any] = {} if contents is None else dict(contents.options)
        flat = known.pop("flatten", False)
        known.pop("key", None)
        options = DecodeOptions(**known)
        columns = Schema() if flat or contents is None else Schema.of(manifest.schema)
        feeds = [self._feed(part) for part in manifest.parts]
        if columns:
            # The types that the first load has found: what did not fit then does not fit now.
            contract, found = Contract(OnMisfit.DISCARD_COLUMNS), Schema()
            tables = {"": columns}
        else:
            contract, tables = Contract(), {}
            found = self._types(feeds, options)
        return self._services.decoder.decode(feeds, tables=tables, found=found, contract=contract, options=options)

    def _types(self, feeds: list[Feed], options: DecodeOptions) -> Schema:
        """The types of rows that were never loaded as they are: all must be read before one can be given."""
        found = Schema()
        while True:
            try:
                for _ in self._services.decoder.decode(
                    feeds, tables={}, found=found, contract=Contract(), options=options
                ):
                    pass
            except Restart as restart:
                found = restart.found
            else:
                return found

    def _feed(self, part: Part) -> Feed:
        def opened() -> BinaryIO:
            return self._services.archive.open(part)

        return Feed(part.name, opened, part.bytes, part.format, part.compression)


def _order(manifest: Manifest) -> tuple[datetime, int]:
    begin = manifest.interval.start if manifest.interval is not None else manifest.extracted_at
    return begin, manifest.batch_id


def _position(until: int, manifest: Manifest, rows: int, done: bool) -> dict[str, Any]:
    return {"until": until, "batch": manifest.batch_id, "version": manifest.version, "rows": rows, "done": done}
