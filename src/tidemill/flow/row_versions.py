"""Versions of tables that a Singer tap sends as a whole: what ACTIVATE_VERSION ends or marks, in loads and reverts.

What has been activated is told by the archive's index, batch by batch, so it is known without reading a table, and a
batch that is run again, or reverted, finds what counts today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tidemill.flow.attempt import Attempt
from tidemill.flow.stage import Stage, own_files
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Manifest
from tidemill.model.branch import ChangeKind
from tidemill.model.connector import Connector
from tidemill.model.errors import DefinitionError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.singer import ACTIVATIONS, MARK, ROWS, VERSION
from tidemill.model.table import Column, Schema, TableName, TableSpec, WriteMode
from tidemill.model.types import LONG, TIMESTAMPTZ
from tidemill.plan.merge import FILE
from tidemill.plan.row_versions import AT, Activation, Ended, Marks, activated, ended_within, versions_of
from tidemill.plan.sql import quote
from tidemill.ports.engine import WithFiles

_COLUMN = Column(VERSION, LONG)
_MARK = Column(MARK, TIMESTAMPTZ)


def activations_of(attempt: Attempt, table: TableName, *, with_own: bool = True) -> list[Activation]:
    """What the published batches of a feed and, `with_own`, that of the attempt have activated, in order."""
    batch = attempt.batch.id
    with attempt.services.metadata.read() as tx:
        found = tx.archive.parts_named(table.namespace, table.table, ACTIVATIONS, batch)
    names: dict[int, list[str]] = {}
    times = {}
    for number, name, at in found:
        names.setdefault(number, []).append(name)
        times[number] = at
    return [
        Activation(number, version, times[number])
        for number in sorted(names) if with_own or number != batch
        for version in activated(names[number])
    ]  # fmt: skip


def marks_of(attempt: Attempt, table: TableName, activations: Sequence[Activation]) -> Marks:
    """The marks of all rows that a feed has brought, where those activations count."""
    with attempt.services.metadata.read() as tx:
        found = tx.archive.parts_named(table.namespace, table.table, ROWS, attempt.batch.id)
    versions = versions_of([name for _, name, _ in found])
    rows = {(batch, version) for (batch, _, _), version in zip(found, versions, strict=True) if version is not None}
    return Marks.of(rows, activations)


def without_own(attempt: Attempt, spec: TableSpec) -> dict[str, Any]:
    """For a revert: what ends rows of a keyed table where the attempt's batch does not count; for `write_merged`."""
    before = activations_of(attempt, spec.name, with_own=False)
    had = activations_of(attempt, spec.name)
    return _ends(attempt, spec, before, had)


@dataclass(frozen=True, slots=True)
class LoadVersions:
    """Versions of one feed in one load.

    Args:
        of_part: the version of each part.
        ended: parts whose rows are not written.
        activations: of published batches and this one, in order.
        spec: of the table.
        marks: what rows that are ended get, where they stay.
    """

    of_part: tuple[int | None, ...]
    ended: frozenset[int]
    activations: Sequence[Activation]
    spec: TableSpec
    marks: Marks | None

    @classmethod
    def of(cls, attempt: Attempt, source: SourceSpec, manifest: Manifest) -> LoadVersions | None:
        """The versions of a feed's parts; None: its table has no versions."""
        spec = source.table
        write = spec.write
        if not (isinstance(source.origin, Connector) and source.origin.has_versions) or write is WriteMode.HISTORY:
            return None
        names = [part.name for part in manifest.parts]
        versions = versions_of(names)
        ended = ended_within(names)
        found = [] if write is WriteMode.REPLACE else activations_of(attempt, spec.name)
        if not found and not spec.marks and all(version is None for version in versions):
            return None
        gone = Ended.by(found)
        if write is WriteMode.APPEND and not spec.marks and gone is not None:
            own = attempt.batch.id
            ended |= {at for at, version in enumerate(versions) if version is not None and gone.has(own, version)}
        marks = marks_of(attempt, spec.name, found) if spec.marks else None
        return cls(tuple(versions), frozenset(ended), found, spec, marks)

    @property
    def _columns(self) -> tuple[Column, ...]:
        """What rows get: those of a table that is replaced have no version, and input rows no mark."""
        if self.spec.write is WriteMode.REPLACE:
            return ()
        return (_COLUMN, _MARK) if self.marks is not None and self.spec.write is WriteMode.APPEND else (_COLUMN,)

    def schema(self, schema: Schema) -> Schema:
        """The columns of rows, their version, and their mark.

        Raises:
            DefinitionError: rows are to be marked, and have such a column of their own.
        """
        if self.marks is not None and MARK in schema:
            raise DefinitionError(
                f'Rows of "{self.spec.name}" come with a column "{MARK}", in which those that end were to be marked.',
                hint='ended="delete" for this stream',
            )
        return schema.with_columns(self._columns)

    def without(self, schema: Schema) -> Schema:
        """The columns of rows as the tap sends them."""
        return schema.without((VERSION, MARK) if self.marks is not None else (VERSION,))

    def fill(self, part: int | None, batch: int) -> Mapping[str, Any]:
        """Version and mark of the rows of a part, as columns to fill."""
        version = None if part is None else self.of_part[part]
        time = None if self.marks is None or version is None else self.marks.times.get((batch, version))
        values = {VERSION: version, MARK: time}
        return {column.name: values[column.name] for column in self._columns}

    def ends(self, attempt: Attempt) -> dict[str, Any]:
        """What ends rows of a keyed table; for `merge_input`."""
        return _ends(attempt, self.spec, self.activations, self.activations)

    def commit(self, stage: Stage) -> str:
        """End an append, as `commit_rows` does; rows of earlier batches that this one ends go, or are marked."""
        batch = stage.attempt.batch.id
        if stage.spec.write is not WriteMode.APPEND or all(one.batch != batch for one in self.activations):
            return commit_rows(stage)
        if self.marks is not None:
            return commit_marked(stage, self.marks)
        gone = Ended.by(self.activations)
        assert gone is not None
        return _commit_changed(stage, (_COLUMN,), gone.condition, kept=f"NOT {gone.condition}")


def commit_marked(stage: Stage, marks: Marks) -> str:
    """End an append, as `commit_rows` does; rows of other batches get the marks that they should have."""
    marked = f'"t".* REPLACE ({AT} AS {quote(MARK)})'
    return _commit_changed(stage, (_COLUMN, _MARK), marks.differs, join=marks.join, chosen=marked)


def _ends(
    attempt: Attempt, spec: TableSpec, activations: Sequence[Activation], had: Sequence[Activation]
) -> dict[str, Any]:
    """What ends rows of a keyed table where `activations` count, and `had` counted so far."""
    # What a batch has ended may not follow from the last activation alone.
    every_key = any(one.batch == attempt.batch.id for one in had)
    if spec.marks:
        return {"marks": marks_of(attempt, spec.name, activations), "every_key": every_key}
    return {"ended": Ended.by(activations), "every_key": every_key}


def _commit_changed(
    stage: Stage, columns: Sequence[Column], condition: str, *, join: str = "", chosen: str = "*", kept: str = "TRUE"
) -> str:
    """End an append, and rewrite the files with rows of other batches that a condition names.

    Args:
        stage: with the batch's rows.
        columns: that the condition needs.
        condition: in SQL, of a row of the table "t".
        join: what the FROM goes on with.
        chosen: what is selected of their rows.
        kept: the condition that a row of them stays.
    """
    services = stage.attempt.services
    target = services.catalog.scan(stage.name, stage.shape(Schema(tuple(columns))))
    files = f'SELECT DISTINCT {quote(FILE)} FROM "t"{join} WHERE {condition}'  # noqa: S608 - quoted, and numbers
    with services.sql.query(files, {"t": WithFiles(target, FILE)}) as found:
        named = {row[FILE] for batch in found for row in batch.to_pylist()}
    if not named:
        return commit_rows(stage)
    own, mixed = own_files(stage)
    apart = named | {file.path for file in (mixed.files if mixed is not None else ())}
    content = f'SELECT {chosen} FROM "t"{join} WHERE {kept} AND "_batch_id" IS DISTINCT FROM $batch'  # noqa: S608
    left = replace(target, files=tuple(file for file in target.files if file.path in apart))
    with Stage(stage.attempt, stage.spec, mixed=True) as others:
        others.pointer = stage.pointer  # which has the columns of this batch
        with services.sql.query(content, {"t": left}, parameters={"batch": stage.attempt.batch.id}) as rows:
            for batch in rows:
                others.write(batch, left.schema)
        files_kept = others.close_files()
    return stage.commit(ChangeKind.UPSERT, [*own, *(apart - set(own))], add=files_kept)
