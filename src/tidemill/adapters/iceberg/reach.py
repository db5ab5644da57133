"""Every file that versions of tables need: what the collector must not touch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyiceberg.table.metadata import TableMetadata

from tidemill.adapters.iceberg.store import Store
from tidemill.model.errors import Refused


def reachable(store: Store, pointers: Iterable[str]) -> set[str]:
    """Paths of metadata, manifest lists, manifests, data and statistics files of all snapshots that are listed.

    Versions share most of their files: each manifest list and each manifest is read once.
    """
    addresses: set[str] = set()
    for pointer in set(pointers):
        metadata = store.metadata(pointer)
        addresses.add(pointer)
        addresses.update(_statistics(metadata))
        for snapshot in metadata.snapshots:
            if snapshot.manifest_list in addresses:
                continue
            addresses.add(snapshot.manifest_list)
            for manifest in store.manifests(snapshot):
                if manifest.manifest_path not in addresses:
                    addresses.add(manifest.manifest_path)
                    addresses.update(item.data_file.file_path for item in store.live(manifest))
    return set(_below_root(store, addresses))


def _statistics(metadata: TableMetadata) -> Iterator[str]:
    for statistics in metadata.statistics:
        yield statistics.statistics_path
    for partition_statistics in metadata.partition_statistics:
        yield partition_statistics.statistics_path


def _below_root(store: Store, addresses: Iterable[str]) -> Iterator[str]:
    """Addresses as paths; what another tool keeps elsewhere is out of the collector's reach anyway."""
    for address in addresses:
        try:
            yield store.files.relative(address)
        except Refused:
            continue
