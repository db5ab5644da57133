"""Port `catalog`: versions of tables as immutable metadata files. It writes new versions; it moves no pointer.

Pointers live in the metadata store (`ports/metadata.py`), so that one SQL transaction can move many. A pointer
is the address of a metadata file, as `Files.url` gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.branch import Difference, StagedFile, TableChange
from tidemill.model.table import Scan, Schema, TableName, TableSpec


@dataclass(frozen=True, slots=True)
class TableVersion:
    """What a metadata file says about a table."""

    name: TableName
    pointer: str
    uuid: str
    #: Columns with their field ids, system columns included.
    schema: Schema
    snapshot_id: int | None
    rows: int
    committed_at: datetime | None
    #: Partition transforms and sort columns, as text.
    partition: tuple[str, ...]
    sort: tuple[str, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One snapshot of a table's history."""

    snapshot_id: int
    committed_at: datetime
    operation: str
    batch_id: int | None
    kind: str | None
    rows: int | None
    added_rows: int | None
    removed_rows: int | None
    #: The snapshot that it follows; None: it is the first.
    parent_id: int | None = None
    #: All batches that it says it changed.
    batches: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """Columns that a table has had, system columns included."""

    schema_id: int
    schema: Schema
    #: The first snapshot with these columns that the version still knows; None: it knows none.
    first: SnapshotInfo | None


class FileWriter(Protocol):
    """Takes record batches and makes data files of them.

    Promises: rows keep their order within a partition; files carry field ids and statistics and are durable
    when `finish` returns; memory stays bounded however many rows come; if the context ends without `finish`,
    what was written is garbage that the collector removes.
    """

    def write(self, batch: Any) -> None:
        """Add an Arrow RecordBatch or Table. Columns are matched by name; a missing one is null."""
        ...

    def write_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add a few rows given as mappings from column to value."""
        ...

    def finish(self) -> tuple[StagedFile, ...]:
        """Close the files and tell what they are."""
        ...


class Catalog(Protocol):
    """Reads and makes versions of tables.

    Promises: every method but `load`, `scan`, `difference`, `history` only adds files; nothing that exists is changed
    or removed; the cost of a commit does not grow with the number of earlier commits.
    """

    def load(self, name: TableName, pointer: str) -> TableVersion:
        """Read a version. Raises FileNotFoundError."""
        ...

    def scan(
        self, name: TableName, pointer: str, *, batch_id: int | None = None, snapshot_id: int | None = None
    ) -> Scan:
        """The files to read; with `batch_id` only those that can hold rows of that batch."""
        ...

    def create(self, spec: TableSpec, schema: Schema, *, properties: Mapping[str, str] | None = None) -> str:
        """Write the first, empty version of a table; gives every column a field id. Returns its pointer."""
        ...

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
        """Write a version that has at least the columns of `schema`, matched by name: new ones are added (always
        nullable), others widened. `rename` (old -> new) and `drop` come first. Returns the same pointer where
        nothing changes. A writer of the returned version has the new field ids.

        Raises:
            ContractError: a change that Iceberg does not allow (long -> string ...).
        """
        ...

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
        """Open a writer for data files of that version's schema, partition and sort.

        Args:
            name: the table.
            pointer: its version.
            batch_id: all rows are of that batch (their files are marked so); None: files may mix batches.
            fill: values, the same for every row, of columns that the batches do not bring.
            copies: column -> the column of the batches that it repeats, where the batches do not bring it.
            number: a column to number from `first` in the order of the rows.
            first: the first number.
        """
        ...

    def commit(self, name: TableName, pointer: str, change: TableChange) -> str:
        """Write the version that follows `pointer` by `change`. Returns the new pointer; moves nothing.

        Raises:
            Conflict: a file to remove is not in the version.
        """
        ...

    def compact(self, name: TableName, pointer: str, target_bytes: int) -> str:
        """Write a version whose small files are joined to about `target_bytes`: the same rows in the same order.
        In append tables no file mixes batches. Returns the same pointer where nothing is worth it.
        """
        ...

    def difference(self, name: TableName, base: str, head: str) -> Difference:
        """How `head` differs from `base`, an ancestor of it."""
        ...

    def rebase(self, name: TableName, base: str, branch: str, onto: str) -> str:
        """Put what `branch` changed since `base` on top of `onto`: the branch's data files, no data rewritten.
        `base` may be "" where both sides created the table; columns then match by name.

        Raises:
            Conflict: a file that the branch removed is not in `onto`, or field ids differ.
        """
        ...

    def history(self, name: TableName, pointer: str) -> list[SnapshotInfo]:
        """The snapshots that the version still knows, oldest first."""
        ...

    def schemas(self, name: TableName, pointer: str) -> list[SchemaInfo]:
        """All columns that the table has had until that version, oldest first; the last ones are the version's."""
        ...

    def reachable(self, pointers: Iterable[tuple[TableName, str]]) -> set[str]:
        """Paths (relative to the lake's root) of every file that the versions need: the collector's mark."""
        ...

    def expire(self, name: TableName, pointer: str, *, older_than: datetime, keep: int) -> str:
        """Write a version without the snapshots older than `older_than`, keeping at least `keep`."""
        ...
