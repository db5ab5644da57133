"""Turns a `TableChange` into a snapshot, and writes into its summary what Tidemill wants to know of it later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import SetPropertiesUpdate

from tidemill.adapters.iceberg.footers import FileFacts, data_file, measured_types
from tidemill.adapters.iceberg.snapshots import Edit, Next, amend, commit
from tidemill.adapters.iceberg.store import Store
from tidemill.model.branch import ChangeKind, StagedFile, TableChange
from tidemill.model.errors import Refused
from tidemill.model.table import BATCH_ID, TableName
from tidemill.ports.clock import Clock

KIND = "tidemill.kind"
BATCH = "tidemill.batch-id"
ATTEMPT = "tidemill.attempt"
#: All batches of a snapshot that joins several, comma-separated.
BATCHES = "tidemill.batches"


def summary_of(snapshot: Snapshot | None) -> Mapping[str, str]:
    """The snapshot's summary, the operation apart."""
    return snapshot.summary.additional_properties if snapshot and snapshot.summary else {}


class Changes:
    """Commits changes to tables."""

    def __init__(self, store: Store, clock: Clock, snapshots_kept: int) -> None:
        self._store = store
        self._clock = clock
        self._kept = snapshots_kept

    def commit(self, name: TableName, pointer: str, change: TableChange) -> str:
        """Write the version that follows `pointer` by `change`.

        Raises:
            Conflict: a file to remove is not in the version.
            Refused: a file to add was staged for another table, or twice.
        """
        added = self.data_files(name, self._store.metadata(pointer), change.add)
        summary = {KIND: str(change.kind)}
        if change.batch_id is not None:
            summary[BATCH] = str(change.batch_id)
        if change.attempt is not None:
            summary[ATTEMPT] = str(change.attempt)
        edit = Edit(added, dict.fromkeys(change.remove, ()))
        return self.apply(name, pointer, edit, change.kind, summary, dict(change.properties))

    def apply(
        self,
        name: TableName,
        pointer: str,
        edit: Edit,
        kind: ChangeKind,
        summary: Mapping[str, str],
        properties: Mapping[str, str] | None = None,
    ) -> str:
        """Write the version that follows `pointer` by `edit`; without files to change there is no snapshot."""
        plan = Next(
            now_ms=int(self._clock.now().timestamp() * 1000),
            keep=self._kept,
            summary={**summary, KIND: str(kind)},
            properties=properties or {},
            rewrite=kind is ChangeKind.COMPACT,
        )
        if not edit.empty:
            return commit(self._store, name, pointer, edit, plan)
        known = self._store.metadata(pointer).properties
        if new := {key: value for key, value in plan.properties.items() if known.get(key) != value}:
            return amend(self._store, pointer, [SetPropertiesUpdate(updates=new)], plan.now_ms)
        return pointer

    def data_files(self, name: TableName, base: TableMetadata, staged: Iterable[StagedFile]) -> tuple[DataFile, ...]:
        """The manifest entries of staged files, rebuilt from their footers."""
        staged = list(staged)
        if len({file.path for file in staged}) < len(staged):
            raise Refused(f'A data file was staged twice for "{name}".')
        schema = base.schema()
        needed = {f.source_id for f in base.spec().fields} | {f.source_id for f in base.sort_order().fields}
        needed |= {f.field_id for f in schema.fields if f.name == BATCH_ID}
        kinds = measured_types(schema, needed)
        files = []
        for file in staged:
            facts = self._store.facts(file.path)
            _check_origin(name, base, file, facts)
            spec = base.specs()[facts.marks.get("spec", base.default_spec_id)]
            files.append(data_file(facts, file.path, file.bytes, kinds=kinds, schema=schema, spec=spec))
        return tuple(files)


def _check_origin(name: TableName, base: TableMetadata, file: StagedFile, facts: FileFacts) -> None:
    """Refuse files whose field ids mean something else here: they would be read as other columns."""
    stranger = facts.marks.get("table", str(base.table_uuid)) != str(base.table_uuid)
    if stranger or any(column.field_id > base.last_column_id for column in facts.columns):
        raise Refused(f'A data file was not written for this version of "{name}".', where=file.path)
    if base.spec().fields and "partition" not in facts.marks:
        raise Refused(f'A data file does not say which partition of "{name}" it holds.', where=file.path)
