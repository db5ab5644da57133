"""Puts what a branch changed on top of another version of the table: its data files, no data rewritten (rule 4)."""

from __future__ import annotations

from itertools import groupby
from typing import Protocol

from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.schema import index_by_id
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import DecimalType, DoubleType, FloatType, IcebergType, IntegerType, LongType, NestedField

from tidemill.adapters.iceberg.changes import ATTEMPT, BATCH, BATCHES, Changes, summary_of
from tidemill.adapters.iceberg.difference import difference, file_changes, same_layout
from tidemill.adapters.iceberg.layout import partition_text, sort_text
from tidemill.adapters.iceberg.planning import Batches
from tidemill.adapters.iceberg.rows import read_rows
from tidemill.adapters.iceberg.snapshots import Edit
from tidemill.adapters.iceberg.store import Store
from tidemill.adapters.iceberg.types import NO_VALUE_YET, from_iceberg_schema
from tidemill.adapters.iceberg.writer import open_writer
from tidemill.model.branch import ChangeKind, StagedFile
from tidemill.model.errors import Conflict, ContractError
from tidemill.model.table import Schema, TableName

#: From the gentlest to the most far-reaching: a rebased snapshot says the latter of what it joins.
_BY_REACH = (ChangeKind.COMPACT, ChangeKind.BATCH, ChangeKind.UPSERT, ChangeKind.REPLACE)
_HINT = "the run's table tasks run again on a fresh fork"


class Evolves(Protocol):
    """What re-basing needs of the catalog beyond the store."""

    def evolve(self, name: TableName, pointer: str, schema: Schema) -> str:
        """Write a version that has at least the columns of `schema`."""
        ...


def rebase(store: Store, changes: Changes, name: TableName, base: str, branch: str, onto: str) -> str:
    """One snapshot on `onto` with what changed from `base` to `branch`.

    Raises:
        Conflict: field ids, layout or a property differ, or a file that the branch removed is not in `onto`.
    """
    if branch in (base, onto):
        return onto
    if onto == base:
        return branch
    old, ours, theirs = (store.metadata(pointer) for pointer in (base, branch, onto))
    if not old.table_uuid == ours.table_uuid == theirs.table_uuid:
        raise Conflict(f'Table "{name}" was dropped and created again.', hint=_HINT)
    if ours.schema().as_struct() != theirs.schema().as_struct():
        raise Conflict(
            f'The columns of "{name}" were changed on one side and not, or differently, on the other.', hint=_HINT
        )
    if not same_layout(ours, theirs):
        raise Conflict(f'Partition or sort order of "{name}" were changed on one side.', hint=_HINT)
    files = file_changes(store, name, old, ours)
    edit = Edit(
        added=tuple(item.data_file for item in files.added),
        replaced={item.data_file.file_path: () for item in files.removed},
    )
    kind, summary = _told(store, name, base, branch)
    return changes.apply(name, onto, edit, kind, summary, _properties(name, old, ours, theirs))


def rebase_created(catalog: Evolves, store: Store, changes: Changes, name: TableName, branch: str, onto: str) -> str:
    """The rows of `branch` added to `onto`, where both created the table: columns match by name.

    Declared alike, both gave the same ids, and files are taken as they are. Where ids or types differ, the rows
    are written again under the ids of `onto`: files carry ids and cannot be re-labelled, and a table that was
    just created is small.

    Raises:
        Conflict: a column has types that cannot be joined, or the layouts differ.
    """
    if branch == onto:
        return onto
    ours = store.metadata(branch)
    if _layout(ours) != _layout(store.metadata(onto)):
        raise Conflict(f'Table "{name}" was created twice with different partitions or sort orders.', hint=_HINT)
    try:
        onto = catalog.evolve(name, onto, from_iceberg_schema(ours.schema()))
    except ContractError as error:
        raise Conflict(f'Table "{name}" was created twice: {error.what}', hint=_HINT) from error
    theirs = store.metadata(onto)
    files = [item.data_file for item in file_changes(store, name, None, ours).added]
    if not (_same_ids(ours.schema(), theirs.schema()) and same_layout(ours, theirs)):
        files = list(changes.data_files(name, theirs, _rewritten(store, ours, theirs, files)))
    kind, summary = _told(store, name, "", branch)
    return changes.apply(name, onto, Edit(added=tuple(files)), kind, summary, _new_properties(ours, theirs))


def _told(store: Store, name: TableName, base: str, branch: str) -> tuple[ChangeKind, dict[str, str]]:
    """Kind and summary of the one snapshot that stands for all commits of the branch."""
    changed = difference(store, name, base, branch)
    kind = max(changed.kinds, key=_BY_REACH.index, default=ChangeKind.BATCH)
    last = summary_of(store.metadata(branch).current_snapshot())
    summary = {key: last[key] for key in (BATCH, ATTEMPT) if key in last}
    if len(changed.batches) > 1:
        summary[BATCHES] = ",".join(str(b) for b in sorted(changed.batches))
    return kind, summary


def _properties(name: TableName, old: TableMetadata, ours: TableMetadata, theirs: TableMetadata) -> dict[str, str]:
    """Properties that the branch set. Set differently on both sides they are a conflict, not a race."""
    set_here = {k: v for k, v in ours.properties.items() if old.properties.get(k) != v}
    for key, value in set_here.items():
        if theirs.properties.get(key) not in (old.properties.get(key), value):
            raise Conflict(f'The property "{key}" of "{name}" was set differently on both sides.', hint=_HINT)
    return set_here


def _new_properties(ours: TableMetadata, theirs: TableMetadata) -> dict[str, str]:
    return {k: v for k, v in ours.properties.items() if k not in theirs.properties}


def _layout(metadata: TableMetadata) -> tuple[tuple[str, ...], tuple[str, ...]]:
    schema = metadata.schema()
    return partition_text(schema, metadata.spec()), sort_text(schema, metadata.sort_order())


def _same_ids(ours: IcebergSchema, theirs: IcebergSchema) -> bool:
    """True where files written under `ours` read right under `theirs`: same ids by name, types equal or widened."""
    by_id = index_by_id(theirs)
    return all(
        ours.find_column_name(field_id) == theirs.find_column_name(field_id) and _reads_as(field, by_id[field_id])
        for field_id, field in index_by_id(ours).items()
    )


def _reads_as(ours: NestedField, theirs: NestedField) -> bool:
    if (ours.doc == NO_VALUE_YET) != (theirs.doc == NO_VALUE_YET):
        return False
    return not ours.field_type.is_primitive or ours.field_type == theirs.field_type or _promotes(ours, theirs)


def _promotes(ours: NestedField, theirs: NestedField) -> bool:
    kinds: tuple[IcebergType, IcebergType] = (ours.field_type, theirs.field_type)
    match kinds:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType() as narrow, DecimalType() as wide:
            return narrow.scale == wide.scale and narrow.precision <= wide.precision
    return False


def _rewritten(store: Store, ours: TableMetadata, theirs: TableMetadata, files: list[DataFile]) -> list[StagedFile]:
    """The rows of the files once more, under the field ids of `theirs`; files of one batch stay such files."""
    batches = Batches(ours.schema())
    staged: list[StagedFile] = []
    for batch_id, group in groupby(files, key=batches.only):
        with open_writer(store, theirs, batch_id) as writer:
            for rows in read_rows(store, ours.schema(), (file.file_path for file in group)):
                writer.write(rows)
            staged += writer.finish()
    return staged
