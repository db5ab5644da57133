"""Versions of tables that a Singer tap sends as a whole: what ACTIVATE_VERSION ends, in loads and reverts.

What has been activated is told by the archive's index, batch by batch, so it is known without reading a table, and a
batch that is run again, or reverted, finds what counts today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.flow.stage import Stage, own_files
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Manifest
from tidemill.model.branch import ChangeKind
from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceSpec
from tidemill.model.singer import ACTIVATIONS, VERSION
from tidemill.model.table import Column, Schema, TableName, WriteMode
from tidemill.model.types import LONG
from tidemill.plan.merge import FILE
from tidemill.plan.sql import quote
from tidemill.plan.versions import Activation, activated, ended_within, versions_of
from tidemill.ports.engine import WithFiles

_COLUMN = Column(VERSION, LONG)


def newest_activation(attempt: Attempt, table: TableName, *, with_own: bool = True) -> Activation | None:
    """What the published batches of a feed and, `with_own`, that of the attempt have activated last."""
    batch = attempt.batch.id
    with attempt.services.metadata.read() as tx:
        found = tx.archive.parts_named(table.namespace, table.table, ACTIVATIONS, batch)
    names: dict[int, list[str]] = {}
    for number, name in found:
        names.setdefault(number, []).append(name)
    made = (Activation(n, version) for n, each in names.items() if (version := activated(each)) is not None)
    return max((one for one in made if with_own or one.batch != batch), default=None)


@dataclass(frozen=True, slots=True)
class LoadVersions:
    """Versions of one feed in one load.

    Args:
        of_part: the version of each part.
        ended: parts whose rows are not written.
        activation: what counts last.
        has_column: whether the table keeps the version of each row: one that is replaced need not.
    """

    of_part: tuple[int | None, ...]
    ended: frozenset[int]
    activation: Activation | None
    has_column: bool

    @classmethod
    def of(cls, attempt: Attempt, source: SourceSpec, manifest: Manifest) -> LoadVersions | None:
        """The versions of a feed's parts; None: its table has no versions."""
        write = source.table.write
        if not (isinstance(source.origin, Connector) and source.origin.has_versions) or write is WriteMode.HISTORY:
            return None
        names = [part.name for part in manifest.parts]
        versions = versions_of(names)
        ended = ended_within(names)
        last = None if write is WriteMode.REPLACE else newest_activation(attempt, source.table.name)
        if last is None and all(version is None for version in versions):
            return None
        if write is WriteMode.APPEND and last is not None and last.batch > attempt.batch.id:
            ended |= {at for at, version in enumerate(versions) if version not in (None, last.version)}
        return cls(tuple(versions), frozenset(ended), last, write is not WriteMode.REPLACE)

    def schema(self, schema: Schema) -> Schema:
        """The columns of rows, and their version."""
        return schema.with_columns((_COLUMN,)) if self.has_column else schema

    def without(self, schema: Schema) -> Schema:
        """The columns of rows as the tap sends them."""
        return schema.without((VERSION,))

    def fill(self, part: int | None) -> Mapping[str, Any]:
        """The version of the rows of a part, as a column to fill."""
        return {VERSION: None if part is None else self.of_part[part]} if self.has_column else {}

    def commit(self, stage: Stage) -> str:
        """End an append, as `commit_rows` does; rows of earlier batches that this one ends are taken away."""
        activation = self.activation
        if activation is None or activation.batch != stage.attempt.batch.id or stage.spec.write is not WriteMode.APPEND:
            return commit_rows(stage)
        services = stage.attempt.services
        target = services.catalog.scan(stage.name, stage.shape(Schema((_COLUMN,))))
        files = f'SELECT DISTINCT {quote(FILE)} FROM "t" WHERE {activation.ends}'  # noqa: S608 - quoted, and numbers
        with services.sql.query(files, {"t": WithFiles(target, FILE)}) as found:
            ended = {row[FILE] for batch in found for row in batch.to_pylist()}
        if not ended:
            return commit_rows(stage)
        own, mixed = own_files(stage)
        apart = ended | {file.path for file in (mixed.files if mixed is not None else ())}
        kept = f'SELECT * FROM "t" WHERE NOT {activation.ends} AND "_batch_id" IS DISTINCT FROM $batch'  # noqa: S608
        left = replace(target, files=tuple(file for file in target.files if file.path in apart))
        with Stage(stage.attempt, stage.spec, mixed=True) as others:
            others.pointer = stage.pointer  # which has the columns of this batch
            with services.sql.query(kept, {"t": left}, parameters={"batch": stage.attempt.batch.id}) as rows:
                for batch in rows:
                    others.write(batch, left.schema)
            files_kept = others.close_files()
        return stage.commit(ChangeKind.UPSERT, [*own, *(apart - set(own))], add=files_kept)
