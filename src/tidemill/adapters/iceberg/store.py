"""The metadata files of tables: metadata, manifest lists, manifests. Read through a cache, written through `Files`.

All of them are immutable, so what was read once is never stale; the caches are bounded by what they hold.
"""

from __future__ import annotations

import io
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, BinaryIO, Generic, Literal, TypeVar

import pyarrow.parquet as pq
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.manifest import (
    UNASSIGNED_SEQ,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.snapshots import Snapshot

from tidemill.adapters.iceberg.footers import FileFacts, read_facts
from tidemill.model.errors import Refused
from tidemill.ports.files import Files

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

#: Bytes of metadata kept parsed: a hundred versions with 100 snapshots each. Objects take about ten times as much.
_METADATA_BYTES_KEPT = 8 << 20
#: Manifests in kept lists, and columns in kept footers: some 20 MB each.
_LISTED_KEPT = 20_000
_FACTS_KEPT = 50_000
#: Bytes of manifests kept parsed. Parsed, they take about 20 times as much: 80 MB at most.
_MANIFEST_BYTES_KEPT = 4 << 20
_VERSION = re.compile(r"(\d+)-[0-9a-f-]{36}\.metadata\.json$")
#: Every Iceberg reader knows deflate, and PyIceberg writes an entry a block, where the others gain nothing.
_CODEC: Literal["deflate"] = "deflate"


class Store:
    """Reads and writes the metadata files of all tables below one root."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._io = _PortIO(files)
        self._metadata: _Cache[str, TableMetadata] = _Cache(_METADATA_BYTES_KEPT)
        self._lists: _Cache[str, tuple[ManifestFile, ...]] = _Cache(_LISTED_KEPT)
        self._entries: _Cache[str, tuple[ManifestEntry, ...]] = _Cache(_MANIFEST_BYTES_KEPT)
        self._facts: _Cache[str, FileFacts] = _Cache(_FACTS_KEPT)

    def metadata(self, pointer: str) -> TableMetadata:
        """The table metadata at `pointer`. Raises FileNotFoundError."""

        def read() -> tuple[TableMetadata, int]:
            with self.files.open(self.files.relative(pointer)) as stream:
                content = stream.read()
            return TableMetadataUtil.parse_raw(content.decode()), len(content)

        return self._metadata.get(pointer, read)

    def write_metadata(self, metadata: TableMetadata, previous: str | None) -> str:
        """Write table metadata beside the version that it follows; returns its pointer."""
        found = _VERSION.search(previous) if previous else None
        number = int(found[1]) + 1 if found else 0
        pointer = f"{metadata.location}/metadata/{number:05d}-{uuid.uuid4()}.metadata.json"
        content = metadata.model_dump_json().encode()
        with self.files.create(self.files.relative(pointer)) as stream:
            stream.write(content)
        self._metadata.put(pointer, metadata, len(content))
        return pointer

    def manifests(self, snapshot: Snapshot | None) -> tuple[ManifestFile, ...]:
        """The manifests of a snapshot, newest first."""
        if snapshot is None:
            return ()
        address = snapshot.manifest_list

        def read() -> tuple[tuple[ManifestFile, ...], int]:
            manifests = tuple(read_manifest_list(self._io.new_input(address)))
            return manifests, len(manifests)

        return self._lists.get(address, read)

    def write_manifests(self, metadata: TableMetadata, snapshot: Snapshot, manifests: list[ManifestFile]) -> None:
        """Write the manifest list of a new snapshot."""
        assert metadata.format_version == 2
        with write_manifest_list(
            2,
            self._io.new_output(snapshot.manifest_list),
            snapshot.snapshot_id,
            snapshot.parent_snapshot_id,
            snapshot.sequence_number,
            _CODEC,
        ) as writer:
            writer.add_manifests(manifests)
        self._lists.put(snapshot.manifest_list, tuple(manifests), len(manifests))

    def live(self, manifest: ManifestFile) -> tuple[ManifestEntry, ...]:
        """The entries of a manifest that are not deleted, in its order. They are shared: never change them."""

        def read() -> tuple[tuple[ManifestEntry, ...], int]:
            entries = tuple(manifest.fetch_manifest_entry(self._io, discard_deleted=True))
            return entries, manifest.manifest_length

        return self._entries.get(manifest.manifest_path, read)

    def is_parsed(self, manifest: ManifestFile) -> bool:
        """True where `live` needs no file."""
        return manifest.manifest_path in self._entries

    def write_manifest(
        self, metadata: TableMetadata, spec_id: int, snapshot: Snapshot, entries: Iterable[ManifestEntry]
    ) -> ManifestFile:
        """Write a manifest of the new `snapshot` with `entries` as they are."""
        address = f"{metadata.location}/metadata/{uuid.uuid4()}-m0.avro"
        output = self._io.new_output(address)
        spec = metadata.specs()[spec_id]
        entries = list(entries)
        with write_manifest(2, spec, metadata.schema(), output, snapshot.snapshot_id, _CODEC) as writer:
            for item in entries:
                writer.add_entry(item)
        manifest = writer.to_manifest_file()
        sequence = snapshot.sequence_number or 0
        manifest.sequence_number = sequence
        if manifest.min_sequence_number == UNASSIGNED_SEQ:
            manifest.min_sequence_number = sequence
        live = tuple(_inherited(e, sequence) for e in entries if e.status != ManifestEntryStatus.DELETED)
        self._entries.put(address, live, manifest.manifest_length)
        return manifest

    def facts(self, address: str) -> FileFacts:
        """What the footer of a data file tells. Raises FileNotFoundError."""

        def read() -> tuple[FileFacts, int]:
            with self.files.open(self.files.relative(address)) as stream:
                facts = read_facts(pq.read_metadata(stream))
            return facts, len(facts.columns)

        return self._facts.get(address, read)

    def keep_facts(self, address: str, facts: FileFacts) -> None:
        """Remember the facts of a file that was just written, so that its commit need not open it."""
        self._facts.put(address, facts, len(facts.columns))


def data_manifests(name: object, manifests: Iterable[ManifestFile]) -> list[ManifestFile]:
    """The manifests, once it is sure that none of them deletes single rows of files.

    Raises:
        Refused: another tool wrote row-level deletes, which would come back to life when the files are read.
    """
    manifests = list(manifests)
    if any(m.content == ManifestContent.DELETES for m in manifests):
        raise Refused(
            f'Table "{name}" has row-level deletes that another tool wrote; they cannot be read here.',
            hint='set "write.delete.mode", "write.update.mode" and "write.merge.mode" to "copy-on-write" there '
            "and rewrite the table's files",
        )
    return manifests


def has_live(manifest: ManifestFile) -> bool:
    """False for a manifest that only tells what an earlier snapshot deleted."""
    return manifest.has_added_files() or manifest.has_existing_files()


def entry(
    status: ManifestEntryStatus,
    snapshot_id: int | None,
    data_file: Any,
    *,
    sequence: int | None = None,
    file_sequence: int | None = None,
) -> ManifestEntry:
    """A manifest entry; without sequence numbers it inherits those of the snapshot that adds it."""
    return ManifestEntry.from_args(
        status=status,
        snapshot_id=snapshot_id,
        sequence_number=sequence,
        file_sequence_number=file_sequence,
        data_file=data_file,
    )


def _inherited(item: ManifestEntry, sequence: int) -> ManifestEntry:
    """The entry as it will be read: what it left open is the snapshot's sequence number."""
    return entry(
        item.status,
        item.snapshot_id,
        item.data_file,
        sequence=sequence if item.sequence_number is None else item.sequence_number,
        file_sequence=sequence if item.file_sequence_number is None else item.file_sequence_number,
    )


class _Cache(Generic[_K, _V]):
    """A map that forgets what was used longest ago once the weights go over `capacity`. Safe for threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = 0
        self._items: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: _K) -> bool:
        return key in self._items

    def get(self, key: _K, read: Callable[[], tuple[_V, int]]) -> _V:
        """What is kept under `key`, or what `read` gives, with its weight. Two threads may read; they read the same."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key][0]
        value, weight = read()
        self.put(key, value, weight)
        return value

    def put(self, key: _K, value: _V, weight: int) -> None:
        """Keep `value`, unless it alone is over the capacity."""
        with self._lock:
            if key in self._items or weight > self._capacity:
                return
            self._items[key] = (value, weight)
            self._held += weight
            while self._held > self._capacity:
                _, (_, gone) = self._items.popitem(last=False)
                self._held -= gone


class _PortIO(FileIO):
    """PyIceberg's way to files, over the port."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self._files = files

    def new_input(self, location: str) -> InputFile:
        return _Input(location, self._files)

    def new_output(self, location: str) -> OutputFile:
        return _Output(location, self._files)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        raise Refused("Only the collector deletes files of the lake.")


class _Input(InputFile):
    def __init__(self, location: str, files: Files) -> None:
        super().__init__(location)
        self._files = files

    def __len__(self) -> int:
        info = self._files.info(self._files.relative(self.location))
        if info is None:
            raise FileNotFoundError(self.location)
        return info.bytes

    def exists(self) -> bool:
        return self._files.info(self._files.relative(self.location)) is not None

    def open(self, seekable: bool = True) -> InputStream:
        stream: BinaryIO = self._files.open(self._files.relative(self.location))
        return stream


class _Output(OutputFile):
    """A file that is gathered in memory and stored when it is closed: manifests are small."""

    def __init__(self, location: str, files: Files) -> None:
        super().__init__(location)
        self._files = files
        self._stream: _Gathered | None = None

    def __len__(self) -> int:
        return self._stream.length if self._stream else 0

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        return _Input(self.location, self._files)

    def create(self, overwrite: bool = False) -> OutputStream:
        self._stream = _Gathered(self._files, self._files.relative(self.location))
        return self._stream


class _Gathered(io.BytesIO):
    def __init__(self, files: Files, path: str) -> None:
        super().__init__()
        self._files = files
        self._path = path
        self.length = 0

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            self.length = len(content)
            with self._files.create(self._path) as stream:
                stream.write(content)
        super().close()
