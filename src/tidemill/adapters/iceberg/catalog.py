"""Port `catalog` on Iceberg tables, format v2: every version is a metadata file, and a pointer is its address.

PyIceberg's table machinery makes the metadata; its catalogs are not used, because a commit here moves nothing:
the pointer that comes back is moved by a transaction of the metadata store, together with others.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import count
from typing import Any

from pyiceberg.exceptions import ValidationError
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSchemaUpdate, SetCurrentSchemaUpdate, SetPropertiesUpdate, TableUpdate

from tidemill.adapters.iceberg import compaction, difference, rebase
from tidemill.adapters.iceberg.changes import BATCH, BATCHES, Changes, summary_of
from tidemill.adapters.iceberg.completion import Completion
from tidemill.adapters.iceberg.evolution import evolved
from tidemill.adapters.iceberg.layout import partition_spec, partition_text, sort_order, sort_text, used_columns
from tidemill.adapters.iceberg.planning import plan_scan
from tidemill.adapters.iceberg.reach import reachable
from tidemill.adapters.iceberg.snapshots import amend, without_snapshots
from tidemill.adapters.iceberg.store import Store
from tidemill.adapters.iceberg.types import from_iceberg_schema, new_field
from tidemill.adapters.iceberg.writer import open_writer
from tidemill.model.branch import Difference, TableChange
from tidemill.model.errors import ContractError
from tidemill.model.table import Scan, Schema, TableName, TableSpec
from tidemill.ports.catalog import FileWriter, SchemaInfo, SnapshotInfo, TableVersion
from tidemill.ports.clock import Clock
from tidemill.ports.files import Files

#: Snapshots that a commit keeps listed. Older versions stay readable by their pointers until they are collected.
SNAPSHOTS_KEPT = 100

#: What every table gets: nothing but our collector deletes, other writers merge manifests and copy on write.
_PROPERTIES = {
    "gc.enabled": "false",
    "write.metadata.delete-after-commit.enabled": "false",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
    "write.delete.mode": "copy-on-write",
    "write.update.mode": "copy-on-write",
    "write.merge.mode": "copy-on-write",
    "write.parquet.compression-codec": "zstd",
    "write.target-file-size-bytes": str(128 << 20),
}


class IcebergCatalog:
    """Versions of tables below the root of `files`.

    Args:
        files: where the lake lives.
        clock: dates the snapshots; on one table they are dated later and later, whatever the clock says.
        snapshots_kept: how many snapshots a commit keeps listed in the metadata.
    """

    def __init__(self, files: Files, clock: Clock, *, snapshots_kept: int = SNAPSHOTS_KEPT) -> None:
        self._files = files
        self._clock = clock
        self._store = Store(files)
        self._changes = Changes(self._store, clock, snapshots_kept)

    def load(self, name: TableName, pointer: str) -> TableVersion:
        """Read a version. Raises FileNotFoundError."""
        metadata = self._store.metadata(pointer)
        schema, snapshot = metadata.schema(), metadata.current_snapshot()
        return TableVersion(
            name=name,
            pointer=pointer,
            uuid=str(metadata.table_uuid),
            schema=from_iceberg_schema(schema),
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            rows=self._rows(snapshot),
            committed_at=_time(snapshot.timestamp_ms) if snapshot else None,
            partition=partition_text(schema, metadata.spec()),
            sort=sort_text(schema, metadata.sort_order()),
            properties=dict(metadata.properties),
        )

    def scan(
        self, name: TableName, pointer: str, *, batch_id: int | None = None, snapshot_id: int | None = None
    ) -> Scan:
        """The files to read; with `batch_id` only those that can hold rows of that batch."""
        return plan_scan(self._store, name, pointer, batch_id, snapshot_id)

    def create(self, spec: TableSpec, schema: Schema, *, properties: Mapping[str, str] | None = None) -> str:
        """Write the first, empty version of a table; gives every column a field id. Returns its pointer."""
        schema.check_unique()
        ids = count(1)
        fields = (new_field(c.name, c.type, ids, required=not c.nullable) for c in schema)
        iceberg = IcebergSchema(*fields)
        name, table_uuid = spec.name, uuid.uuid4()
        folder = f"{name.namespace}/{name.table}-{table_uuid.hex[:8]}"
        metadata = new_table_metadata(
            iceberg,
            partition_spec(name, iceberg, spec.partition),
            sort_order(name, iceberg, spec.sort),
            self._files.url(folder),
            {
                **_PROPERTIES,
                "tidemill.table": str(name),
                "tidemill.write": str(spec.write),
                **_doc(spec),
                **(properties or {}),
            },
            table_uuid,
        )
        metadata = metadata.model_copy(update={"last_updated_ms": _millis(self._clock.now())})
        return self._store.write_metadata(metadata, None)

    def evolve(
        self,
        name: TableName,
        pointer: str,
        schema: Schema,
        *,
        drop: Iterable[str] = (),
        rename: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> str:
        """Write a version that has at least the columns of `schema`; the same pointer where nothing changes."""
        base = self._store.metadata(pointer)
        drop = set(drop)
        if used := drop & used_columns(base.schema(), base.specs().values(), base.sort_order()):
            raise ContractError(
                f'Table "{name}" is partitioned or sorted by {", ".join(sorted(used))}; it cannot be dropped.',
                hint="create a new table with another layout",
            )
        fields = evolved(name, base.schema(), schema, last_id=base.last_column_id, drop=drop, rename=rename)
        updates = _schema_updates(base, IcebergSchema(*fields))
        if new := {k: v for k, v in (properties or {}).items() if base.properties.get(k) != v}:
            updates.append(SetPropertiesUpdate(updates=new))
        if not updates:
            return pointer
        try:
            return amend(self._store, pointer, updates, _millis(self._clock.now()))
        except ValidationError as error:
            raise ContractError(f'Table "{name}" cannot be changed so: {error}') from error

    def writer(
        self,
        name: TableName,
        pointer: str,
        *,
        batch_id: int | None,
        fill: Mapping[str, Any] | None = None,
        copies: Mapping[str, str] | None = None,
        number: str | None = None,
        first: int = 0,
    ) -> AbstractContextManager[FileWriter]:
        """Open a writer for data files of that version's schema, partition and sort."""
        completion = Completion(fill or {}, copies or {}, number, first)
        return open_writer(self._store, self._store.metadata(pointer), batch_id, completion=completion)

    def commit(self, name: TableName, pointer: str, change: TableChange) -> str:
        """Write the version that follows `pointer` by `change`. Returns the new pointer; moves nothing."""
        return self._changes.commit(name, pointer, change)

    def compact(self, name: TableName, pointer: str, target_bytes: int) -> str:
        """Write a version whose small files are joined; the same pointer where nothing is worth it."""
        return compaction.compact(self._store, self._changes, name, pointer, target_bytes)

    def difference(self, name: TableName, base: str, head: str) -> Difference:
        """How `head` differs from `base`, an ancestor of it."""
        return difference.difference(self._store, name, base, head)

    def rebase(self, name: TableName, base: str, branch: str, onto: str) -> str:
        """Put what `branch` changed since `base` on top of `onto`."""
        if not base:
            return rebase.rebase_created(self, self._store, self._changes, name, branch, onto)
        return rebase.rebase(self._store, self._changes, name, base, branch, onto)

    def history(self, name: TableName, pointer: str) -> list[SnapshotInfo]:
        """The snapshots that the version still knows, oldest first."""
        snapshots = self._store.metadata(pointer).snapshots
        return [_info(s) for s in sorted(snapshots, key=lambda s: (s.timestamp_ms, s.sequence_number or 0))]

    def schemas(self, name: TableName, pointer: str) -> list[SchemaInfo]:
        """All columns that the table has had until that version, oldest first; the last ones are the version's."""
        metadata = self._store.metadata(pointer)
        first: dict[int, Snapshot] = {}
        for snapshot in sorted(metadata.snapshots, key=lambda s: (s.timestamp_ms, s.sequence_number or 0)):
            first.setdefault(snapshot.schema_id or 0, snapshot)
        # One that came back is the current one, whatever its number.
        ordered = sorted(metadata.schemas, key=lambda s: (s.schema_id == metadata.current_schema_id, s.schema_id))
        return [
            SchemaInfo(s.schema_id, from_iceberg_schema(s), _info(first[s.schema_id]) if s.schema_id in first else None)
            for s in ordered
        ]

    def reachable(self, pointers: Iterable[tuple[TableName, str]]) -> set[str]:
        """Paths (relative to the lake's root) of every file that the versions need: the collector's mark."""
        return reachable(self._store, (pointer for _, pointer in pointers))

    def expire(self, name: TableName, pointer: str, *, older_than: datetime, keep: int) -> str:
        """Write a version without the snapshots older than `older_than`, keeping at least `keep`."""
        metadata = self._store.metadata(pointer)
        named = {ref.snapshot_id for ref in metadata.refs.values()}
        newest_first = sorted(metadata.snapshots, key=lambda s: s.timestamp_ms, reverse=True)
        old = [
            s.snapshot_id
            for s in newest_first[max(keep, 1) :]
            if s.timestamp_ms < _millis(older_than) and s.snapshot_id not in named
        ]
        if not old:
            return pointer
        return amend(self._store, pointer, [without_snapshots(old)], _millis(self._clock.now()))

    def _rows(self, snapshot: Snapshot | None) -> int:
        total = summary_of(snapshot).get("total-records") if snapshot else "0"
        if total is not None:
            return int(total)
        return sum(e.data_file.record_count for m in self._store.manifests(snapshot) for e in self._store.live(m))


def _schema_updates(base: TableMetadata, new: IcebergSchema) -> list[TableUpdate]:
    if new.fields == base.schema().fields:
        return []
    for known in base.schemas:
        if known.fields == new.fields:
            return [SetCurrentSchemaUpdate.model_validate({"schema-id": known.schema_id})]
    number = max(s.schema_id for s in base.schemas) + 1
    added = IcebergSchema(*new.fields, schema_id=number)
    return [
        AddSchemaUpdate.model_validate({"schema": added}),
        SetCurrentSchemaUpdate.model_validate({"schema-id": number}),
    ]


def _info(snapshot: Snapshot) -> SnapshotInfo:
    summary = summary_of(snapshot)

    def number(key: str) -> int | None:
        return int(summary[key]) if key in summary else None

    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        committed_at=_time(snapshot.timestamp_ms),
        operation=snapshot.summary.operation.value if snapshot.summary else "unknown",
        batch_id=number("tidemill.batch-id"),
        kind=summary.get("tidemill.kind"),
        rows=number("total-records"),
        added_rows=number("added-records"),
        removed_rows=number("deleted-records"),
        parent_id=snapshot.parent_snapshot_id,
        batches=frozenset(int(b) for b in summary.get(BATCHES, summary.get(BATCH, "")).split(",") if b),
    )


def _doc(spec: TableSpec) -> dict[str, str]:
    return {"comment": spec.doc} if spec.doc else {}


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
