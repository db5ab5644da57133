"""Plans scans: which files of a version hold the rows that are asked for, and how their columns are found."""

from __future__ import annotations

from pyiceberg.manifest import DataFile as ManifestDataFile
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import IcebergType

from tidemill.adapters.iceberg.snapshots import in_order
from tidemill.adapters.iceberg.store import Store, data_manifests
from tidemill.adapters.iceberg.types import NO_VALUE_YET, from_iceberg_schema, nested_ids, parts_of
from tidemill.model.errors import UnknownName
from tidemill.model.table import BATCH_ID, DataFile, Scan, TableName


def plan_scan(store: Store, name: TableName, pointer: str, batch_id: int | None, snapshot_id: int | None) -> Scan:
    """The scan of a version, of one batch, or of an earlier snapshot with the schema that it had.

    Raises:
        UnknownName: the version does not know the snapshot.
        Refused: another tool wrote row-level deletes.
    """
    metadata = store.metadata(pointer)
    schema, snapshot = metadata.schema(), metadata.current_snapshot()
    if snapshot_id is not None:
        snapshot = metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            known = (str(s.snapshot_id) for s in metadata.snapshots)
            raise UnknownName.of("snapshot", str(snapshot_id), known, where=f"table {name}")
        schema = metadata.schema_by_id(snapshot.schema_id or 0) or schema
    batches = Batches(schema)
    entries = in_order(store, data_manifests(name, store.manifests(snapshot)))
    wanted = (e.data_file for e in entries if batch_id is None or batches.may_hold(e.data_file, batch_id))
    files = (DataFile(f.file_path, f.record_count, f.file_size_in_bytes, batches.only(f)) for f in wanted)
    return Scan(
        name=name,
        schema=from_iceberg_schema(schema),
        files=tuple(files),
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        batch_id=batch_id,
        nested_ids=tuple(nested_ids(schema.fields)),
        nested_by_id_only=_names_mislead(metadata),
    )


class Batches:
    """What the statistics of a file tell about the batches in it."""

    def __init__(self, schema: IcebergSchema) -> None:
        self._field = next((f.field_id for f in schema.fields if f.name == BATCH_ID), -1)

    def bounds(self, file: ManifestDataFile) -> tuple[int, int] | None:
        """The least and the greatest batch id; None where the statistics do not tell."""
        low, high = (bounds.get(self._field) for bounds in (file.lower_bounds or {}, file.upper_bounds or {}))
        if low is None or high is None:
            return None
        return int.from_bytes(low, "little", signed=True), int.from_bytes(high, "little", signed=True)

    def may_hold(self, file: ManifestDataFile, batch_id: int) -> bool:
        """False where no row can be of that batch: other batches' only, or rows of another tool's that have none."""
        if file.record_count and (file.null_value_counts or {}).get(self._field) == file.record_count:
            return False
        bounds = self.bounds(file)
        return bounds is None or bounds[0] <= batch_id <= bounds[1]

    def only(self, file: ManifestDataFile) -> int | None:
        """The one batch of which all rows are; None where there are several, or rows without one."""
        bounds = self.bounds(file)
        if bounds is None or bounds[0] != bounds[1] or (file.null_value_counts or {}).get(self._field) != 0:
            return None
        return bounds[0]


def _names_mislead(metadata: TableMetadata) -> bool:
    """True where a part of a nested column had another name once, or its name belonged to another part.

    Engines that match nested parts by name would then read wrong values. `evolve` changes no names below the
    columns, so only other tools bring this about; a part that never held a value misleads nobody.
    """
    names: dict[int, str] = {}
    holders: dict[tuple[int, str], int] = {}

    def misleads(parent: int, kind: IcebergType) -> bool:
        for part in parts_of(kind):
            if names.setdefault(part.field_id, part.name) != part.name:
                return True
            if part.doc != NO_VALUE_YET and holders.setdefault((parent, part.name), part.field_id) != part.field_id:
                return True
            if misleads(part.field_id, part.field_type):
                return True
        return False

    return any(misleads(f.field_id, f.field_type) for schema in metadata.schemas for f in schema.fields)
