"""Port `metadata`: the one database of a project. Its transactions are what makes a run a transaction.

`Tx` is a bundle of small stores that share one SQL transaction: batches, runs, refs with their table pointers
(the `iceberg_tables` rows that other engines read), bookmarks, leases, the archive's index, checks, events.

No store does file I/O, and none decides: guards (expected value, fence, state) make a stale writer fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark, Manifest
from tidemill.model.branch import CommitRecord, Ref, RefKind, RefState
from tidemill.model.table import Schema, TableName
from tidemill.ports.access import Access
from tidemill.ports.arrivals import Arrivals
from tidemill.ports.backfills import Backfills
from tidemill.ports.definitions import Definitions
from tidemill.ports.deliveries import Deliveries
from tidemill.ports.runs import Runs
from tidemill.ports.streams import Streams
from tidemill.ports.xcoms import XComs


class Batches(Protocol):
    """The batches of the project (rule 1)."""

    def open(self, key: BatchKey, now: datetime) -> Batch:
        """The batch of that key, made on first use with the next id of the sequence. A run key whose batch took nothing
        and stepped aside (rule 6) means a new batch; the older one is then called by its id, too.

        Raises:
            Refused: the key's interval overlaps, without being equal to, that of a published batch of the
                pipeline (the schedule was changed).
        """
        ...

    def get(self, batch_id: int) -> Batch | None:
        """The batch of that id."""
        ...

    def find(self, key: BatchKey) -> Batch | None:
        """The batch of that key, without making it."""
        ...

    def recent(
        self,
        pipeline: str | None = None,
        *,
        state: BatchState | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Batch]:
        """Batches, newest id first; with `before` only those with smaller ids."""
        ...

    def update(self, batch_id: int, **values: Any) -> None:
        """Set fields of the record: state, extracted_at, archived_at, loaded_at, published_at, code_version.

        Raises:
            Refused: the state cannot follow (BATCH_TRANSITIONS), or a batch whose interval overlaps was published
                since this one was opened.
            UnknownName: there is no such batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class View:
    """A view on a ref: its SQL is resolved on the ref of the reader (rule 10)."""

    name: TableName
    sql: str


class Refs(Protocol):
    """Refs, the pointers on them, their views, and their logs. `main` always exists.

    Every change of a ref locks its record until the transaction ends, so commits on one ref are serial. What
    changes a ref's pointers, bases, views or log raises Refused for a tag and for a ref that was merged, dropped
    or absorbed, and UnknownName for one that never was. A transaction that changes several locks `main` first.
    """

    def create(
        self,
        name: str,
        kind: RefKind,
        *,
        now: datetime,
        pointers: Mapping[TableName, str],
        views: Iterable[View] = (),
        parent: str | None = None,
        parent_head: int | None = None,
        run_id: int | None = None,
        expires_at: datetime | None = None,
    ) -> Ref:
        """Make a ref that holds `pointers`, which are also kept as its bases. Raises Refused where it exists;
        the name of a merged or dropped one is free again, and then means the newest.
        """
        ...

    def get(self, name: str) -> Ref | None:
        """The newest ref of that name, dropped and merged ones included."""
        ...

    def all(self, *, kinds: Iterable[RefKind] | None = None, states: Iterable[RefState] | None = None) -> list[Ref]:
        """Refs, oldest first."""
        ...

    def lock(self, name: str) -> Ref:
        """Lock the ref's row until the transaction ends: publishes on one ref are serial (rule 3).

        Raises UnknownName.
        """
        ...

    def update(self, name: str, **values: Any) -> None:
        """Set fields of the record: state, expires_at. Raises Refused where the state cannot follow
        (REF_TRANSITIONS; `main` is always open), UnknownName.
        """
        ...

    def remove_pointers(self, name: str) -> None:
        """Take away the ref's pointers, bases and views (after merge, drop, expiry); record and log stay.
        Raises Refused for `main`.
        """
        ...

    def pointers(self, name: str) -> dict[TableName, str]:
        """All pointers of a ref, in one SELECT (rule 10)."""
        ...

    def bases(self, name: str) -> dict[TableName, str]:
        """The pointers that the ref was forked with; a table that is a base and no pointer was dropped."""
        ...

    def swap(self, name: str, table: TableName, before: str | None, after: str | None) -> None:
        """Move one pointer: None before creates, None after drops, both None asks that there is no such table.

        Raises:
            Conflict: the pointer is not `before` (somebody else committed, plain PyIceberg included).
        """
        ...

    def set_base(self, name: str, table: TableName, pointer: str | None) -> None:
        """Set or remove the base of a table (a run's branch adopts a new fork point for that table)."""
        ...

    def views(self, name: str) -> dict[TableName, View]:
        """The views of a ref."""
        ...

    def set_view(self, name: str, table: TableName, sql: str | None) -> None:
        """Create, replace, or with None drop a view."""
        ...

    def log(
        self,
        name: str,
        kind: str,
        *,
        now: datetime,
        changes: Mapping[TableName, tuple[str | None, str | None]],
        batch_id: int | None = None,
        run_id: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> CommitRecord:
        """Append to the ref's log and raise its head. `at` is `now`, or just after the last entry's time if that
        is not earlier: commit times are monotonic on a ref.
        """
        ...

    def commits(
        self, name: str, *, since: int = 0, batch_id: int | None = None, limit: int | None = None
    ) -> list[CommitRecord]:
        """Log entries with seq > since, newest first."""
        ...

    def pointers_at(self, name: str, at: datetime) -> dict[TableName, str]:
        """The ref's pointers as of a moment, from its log (time travel over the whole lake); none before it was made.

        Commits by other tools (plain PyIceberg) write no log: they show from the next logged change of that table.
        """
        ...

    def ticket(self, table: TableName, run_id: int, *, now: datetime) -> bool:
        """Take the publish ticket of a table, by which a run that lost once cannot lose again; False: another run that
        is under way (it has not ended, its lease is not over) holds it.
        """
        ...

    def ticket_holder(self, table: TableName, now: datetime) -> int | None:
        """The run that holds the table's ticket: one that has ended, or whose lease is over, holds none."""
        ...

    def release_tickets(self, run_id: int) -> None:
        """Give back all tickets of a run."""
        ...


@dataclass(frozen=True, slots=True)
class BookmarkRecord:
    """The bookmark of a source on `main`: what the last published batch left."""

    value: Bookmark
    version: int
    batch_id: int | None


class Bookmarks(Protocol):
    """Bookmarks of bookmark sources; they move only in a publish (rule 6)."""

    def get(self, pipeline: str, source: str) -> BookmarkRecord:
        """The current one; value None and version 0 where there is none."""
        ...

    def swap(self, pipeline: str, source: str, version: int, value: Bookmark, batch_id: int) -> None:
        """Compare-and-set. Raises Conflict where the version is not `version`."""
        ...


class ArchiveIndex(Protocol):
    """What the archive holds, so that nobody lists folders. The manifest files stay the truth."""

    def add(self, manifest: Manifest) -> None:
        """Record a sealed manifest; recording the same again is no error. Raises Refused where that version is
        recorded with other parts.
        """
        ...

    def describe(self, manifest: Manifest) -> None:
        """Record the `contents` of a manifest that is recorded already, and the rows of its parts; those that are
        known stay. Raises UnknownName where the manifest is not recorded.
        """
        ...

    def get(self, batch_id: int, source: str, version: int | None = None) -> Manifest | None:
        """The manifest of that version, or the newest."""
        ...

    def recent(self, *, batch_id: int | None = None, pipeline: str | None = None) -> list[Manifest]:
        """Manifests, newest batch first."""
        ...

    def of(self, batch_ids: Collection[int]) -> list[Manifest]:
        """Manifests of some batches, newest batch first."""
        ...

    def parts_named(self, pipeline: str, source: str, prefix: str, batch_id: int) -> list[tuple[int, str, datetime]]:
        """Batch, name and `extracted_at` of the parts whose names begin so, by batch and in order; of each batch's
        newest manifest.

        Only published batches count, and `batch_id` whatever its state.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to the collector: the files that these pointers need must stay until `until`."""

    id: int
    holder: str
    until: datetime
    pointers: tuple[tuple[TableName, str], ...]


class Leases(Protocol):
    """Leases of readers and attempts (rule 8), and intents to delete files."""

    def acquire(self, holder: str, pointers: Iterable[tuple[TableName, str]], until: datetime) -> int:
        """Take a lease; returns its id."""
        ...

    def renew(self, lease_id: int, until: datetime) -> None:
        """Prolong it. Raises Conflict where it was over and a collector has taken it away: files may be gone."""
        ...

    def release(self, lease_id: int) -> None:
        """End it; ending it twice is no error."""
        ...

    def live(self, now: datetime) -> list[Lease]:
        """Leases that are not over; a write transaction removes those over."""
        ...

    def doom(self, paths: Iterable[str], now: datetime) -> None:
        """Note files as garbage, seen first at `now`; a path that is noted keeps its first time."""
        ...

    def doomed(self, before: datetime) -> list[str]:
        """Paths noted before that time."""
        ...

    def pardon(self, paths: Iterable[str]) -> None:
        """Forget paths: they were deleted, or are in use again."""
        ...


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """The result of one check on one table in one attempt."""

    run_id: int
    batch_id: int
    table: TableName
    name: str
    severity: str
    passed: bool
    at: datetime
    #: Rows looked at, rows that failed, and the share that was allowed to fail.
    rows: int | None = None
    failed: int | None = None
    observed: str | None = None
    expected: str | None = None
    #: Where failing rows are kept, relative to the lake's root.
    failures: str | None = None
    error: str | None = None


class Checks(Protocol):
    """Results of checks."""

    def add(self, records: Iterable[CheckRecord]) -> None:
        """Keep results."""
        ...

    def recent(
        self, *, run_id: int | None = None, table: TableName | None = None, skip: int = 0, limit: int | None = None
    ) -> list[CheckRecord]:
        """Results, newest first, without the first `skip`."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something that others may wait for: a publish, a stale output, a delivery to make (the outbox)."""

    id: int
    kind: str
    at: datetime
    payload: dict[str, Any]
    done_at: datetime | None
    tries: int
    error: str | None


class Events(Protocol):
    """Events and the outbox (rule 11): written in the transaction of what they tell, handled later."""

    def add(self, kind: str, payload: Mapping[str, Any], now: datetime) -> int:
        """Append an event; returns its id."""
        ...

    def pending(self, kind: str, limit: int = 100) -> Sequence[Event]:
        """Events not done, oldest first."""
        ...

    def done(self, event_id: int, now: datetime, error: str | None = None) -> None:
        """Mark as handled, or with `error` count a failed try; what is done stays done."""
        ...

    def forget(self, prefix: str, before: datetime) -> int:
        """Let events go that nobody handles, of kinds that begin so, from before a time; says how many."""
        ...


class SecretRows(Protocol):
    """Secrets as they are kept: encrypted, by name."""

    def get(self, name: str) -> bytes | None:
        """One; None: there is none."""
        ...

    def names(self) -> list[str]:
        """All names, sorted."""
        ...

    def put(self, name: str, sealed: bytes) -> None:
        """Keep one; one of that name is replaced."""
        ...

    def remove(self, name: str) -> bool:
        """Forget one; False: there was none."""
        ...


class Tx(Protocol):
    """One transaction: all of these move together or not at all."""

    batches: Batches
    runs: Runs
    refs: Refs
    bookmarks: Bookmarks
    archive: ArchiveIndex
    leases: Leases
    checks: Checks
    events: Events
    backfills: Backfills
    arrivals: Arrivals
    definitions: Definitions
    xcoms: XComs
    streams: Streams
    deliveries: Deliveries
    secrets: SecretRows
    access: Access


class Metadata(Protocol):
    """The metadata store.

    Promises: `write` gives a transaction that is serial against other writers of the same rows (SQLite: begun
    IMMEDIATE; PostgreSQL: row locks), durable when its context ends, undone when it ends by an exception;
    `read` gives one consistent snapshot; neither may be held while files are read or written. A store on an
    older schema is migrated by `migrate`, and refused by the others with the command to run.

    Raises:
        Unreachable: the database does not answer. Out of the end of `write` it leaves open whether the
            transaction was done: look before doing it again.
        Conflict: another writer was in the way for too long, or a deadlock was broken; nothing was done.
        SettingsError: the URL, the login or the schema is wrong.
        DefinitionError: a bookmark, payload or detail is not JSON.
    """

    def write(self) -> AbstractContextManager[Tx]:
        """Begin a write transaction; not within another one of the same thread."""
        ...

    def read(self) -> AbstractContextManager[Tx]:
        """Begin a read-only transaction."""
        ...

    def migrate(self) -> None:
        """Bring the schema up to date (Alembic)."""
        ...

    def rows(self, table: str) -> tuple[Schema, list[tuple[Any, ...]]]:
        """Columns and rows of a system table: batches, runs, tasks, checks, files, stream_checks. The types are needed
        where there are no rows yet. Raises UnknownName.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
