"""Joins small data files: the same rows in the same order, in fewer files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyiceberg.manifest import DataFile, ManifestEntry
from pyiceberg.table.metadata import TableMetadata

from tidemill.adapters.iceberg.changes import Changes
from tidemill.adapters.iceberg.planning import Batches
from tidemill.adapters.iceberg.rows import read_rows
from tidemill.adapters.iceberg.snapshots import Edit, in_order
from tidemill.adapters.iceberg.store import Store, data_manifests
from tidemill.adapters.iceberg.writer import open_writer
from tidemill.model.branch import ChangeKind
from tidemill.model.table import TableName, WriteMode

#: A file of this share of the target is big enough: joining it would rewrite much and gain little.
_BIG_ENOUGH = 0.75
#: What a run makes is one file: runs end at the target already.
_NO_SPLIT = 1 << 62


def compact(store: Store, changes: Changes, name: TableName, pointer: str, target_bytes: int) -> str:
    """Write the version in which runs of small files are joined; the same pointer where there are none.

    Only neighbours are joined (in the table's order, within a partition), and in append tables only those of
    one batch: a re-run must find its batch's rows in files of their own (rules 4 and 8).
    """
    base = store.metadata(pointer)
    entries = in_order(store, data_manifests(name, store.manifests(base.current_snapshot())))
    replaced: dict[str, tuple[DataFile, ...]] = {}
    for batch_id, run in _runs(base, entries, target_bytes):
        addresses = [file.file_path for file in run]
        with open_writer(store, base, batch_id, target_bytes=_NO_SPLIT) as writer:
            for rows in read_rows(store, base.schema(), addresses):
                writer.write(rows)
            staged = writer.finish()
        replaced[addresses[0]] = changes.data_files(name, base, staged)
        replaced.update((address, ()) for address in addresses[1:])
    return changes.apply(name, pointer, Edit(replaced=replaced), ChangeKind.COMPACT, {})


def _runs(
    base: TableMetadata, entries: Iterable[ManifestEntry], target_bytes: int
) -> Iterator[tuple[int | None, list[DataFile]]]:
    """Runs of at least two neighbouring small files, with the batch that they share in append tables."""
    by_batch = base.properties.get("tidemill.write") == WriteMode.APPEND
    batches = Batches(base.schema())
    partitions: dict[str, list[DataFile]] = {}
    for item in entries:
        if item.data_file.spec_id == base.default_spec_id:
            partitions.setdefault(str(item.data_file.partition), []).append(item.data_file)
    for files in partitions.values():
        run: list[DataFile] = []
        size, batch_id = 0, None
        for file in [*files, None]:
            only = batches.only(file) if file is not None and by_batch else None
            joins = file is not None and file.file_size_in_bytes < target_bytes * _BIG_ENOUGH
            joins = joins and not (by_batch and only is None)
            full = file is not None and size + file.file_size_in_bytes > target_bytes
            if not joins or full or only != batch_id:
                if len(run) > 1:
                    yield batch_id, run
                run, size = [], 0
            batch_id = only
            if joins and file is not None:
                run.append(file)
                size += file.file_size_in_bytes
