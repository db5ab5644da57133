"""How two versions of a table differ: files by their manifests, kinds and batches by the snapshots in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.manifest import ManifestEntry
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from tidemill.adapters.iceberg.changes import BATCH, BATCHES, KIND, summary_of
from tidemill.adapters.iceberg.planning import Batches
from tidemill.adapters.iceberg.snapshots import in_order
from tidemill.adapters.iceberg.store import Store, data_manifests
from tidemill.model.branch import ChangeKind, Difference
from tidemill.model.table import TableName

#: A file of another tool whose batch ids span more than this is taken to change rows of any batch.
_MAX_SPAN = 1000


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Live entries that one version has and the other has not, in the table's order."""

    added: list[ManifestEntry]
    removed: list[ManifestEntry]


def file_changes(store: Store, name: TableName, base: TableMetadata | None, head: TableMetadata) -> FileChanges:
    """The files that `head` has and `base` has not, and the other way round. Reads only manifests that differ."""
    ours, theirs = (
        {m.manifest_path: m for m in data_manifests(name, store.manifests(version.current_snapshot()))}
        if version
        else {}
        for version in (base, head)
    )
    before = in_order(store, (m for path, m in ours.items() if path not in theirs))
    after = in_order(store, (m for path, m in theirs.items() if path not in ours))
    old, new = ({e.data_file.file_path for e in entries} for entries in (before, after))
    return FileChanges(
        added=[e for e in after if e.data_file.file_path not in old],
        removed=[e for e in before if e.data_file.file_path not in new],
    )


def difference(store: Store, name: TableName, base: str, head: str) -> Difference:
    """How the version at `head` differs from that at `base`; "" is the version before the table was created."""
    if base == head:
        return Difference(frozenset(), frozenset(), False, False, frozenset(), frozenset())
    old, new = store.metadata(base) if base else None, store.metadata(head)
    changes = file_changes(store, name, old, new)
    kinds, batches = _commits(old, new, changes)
    return Difference(
        added=frozenset(e.data_file.file_path for e in changes.added),
        removed=frozenset(e.data_file.file_path for e in changes.removed),
        schema_changed=old is None or old.schema().as_struct() != new.schema().as_struct(),
        layout_changed=old is None or not same_layout(old, new),
        kinds=frozenset(kinds),
        batches=frozenset(batches),
    )


def same_layout(one: TableMetadata, other: TableMetadata) -> bool:
    """True where partition fields and sort fields are the same."""
    return one.spec().fields == other.spec().fields and one.sort_order().fields == other.sort_order().fields


def _commits(base: TableMetadata | None, head: TableMetadata, changes: FileChanges) -> tuple[set[ChangeKind], set[int]]:
    """Kinds of the commits in between, and the batches that those of kind BATCH changed."""
    snapshots, complete = _between(base, head)
    known = Batches(head.schema())
    kinds: set[ChangeKind] = set()
    batches: set[int] = set()
    for snapshot in snapshots:
        summary = summary_of(snapshot)
        if KIND not in summary:
            files = [e for e in changes.added if e.snapshot_id == snapshot.snapshot_id]
            kind, touched = _judged(known, files, removes=_removes(snapshot))
        else:
            kind = ChangeKind(summary[KIND])
            touched = {int(b) for b in summary.get(BATCHES, summary.get(BATCH, "")).split(",") if b}
        kinds.add(kind)
        batches |= touched if kind is ChangeKind.BATCH else set()
    if not complete:
        kind, touched = _judged(known, changes.added, removes=bool(changes.removed))
        kinds.add(kind)
        batches |= touched
    return kinds, batches


def _between(base: TableMetadata | None, head: TableMetadata) -> tuple[list[Snapshot], bool]:
    """The snapshots after `base` up to `head`, newest first, and whether none of them is missing.

    A commit drops the oldest snapshots from the metadata and cuts the chain of parents there.
    """
    start = base.current_snapshot() if base else None
    first = (start.sequence_number or 0) + 1 if start else 1
    found = []
    snapshot = head.current_snapshot()
    while snapshot is not None and not (start and snapshot.snapshot_id == start.snapshot_id):
        found.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = head.snapshot_by_id(parent) if parent is not None else None
    reached = snapshot is not None or (start is None and (not found or found[-1].sequence_number == first))
    return found, reached


def _removes(snapshot: Snapshot) -> bool:
    summary = summary_of(snapshot)
    only_adds = snapshot.summary is not None and snapshot.summary.operation is Operation.APPEND
    return not only_adds or "deleted-data-files" in summary or "added-delete-files" in summary


def _judged(batches: Batches, added: Iterable[ManifestEntry], *, removes: bool) -> tuple[ChangeKind, set[int]]:
    """Kind and batches of commits that do not say what they did, from the files that they added."""
    if removes:
        return ChangeKind.UPSERT, set()
    touched: set[int] = set()
    for item in added:
        bounds = batches.bounds(item.data_file)
        if bounds is None:
            continue  # rows without a batch: nobody re-runs them
        if bounds[1] - bounds[0] > _MAX_SPAN:
            return ChangeKind.UPSERT, set()
        touched.update(range(bounds[0], bounds[1] + 1))
    return ChangeKind.BATCH, touched
