"""The port `metadata` on SQLAlchemy Core: SQLite in a file, or PostgreSQL by URL.

`SqlMetadata` opens transactions; each gives the small stores (`batches.py`, `runs.py`, `refs.py`, ...) that share it.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, select

from tidemill.adapters.sql.access import SqlAccess
from tidemill.adapters.sql.archive import SqlArchiveIndex
from tidemill.adapters.sql.backfills import SqlArrivals, SqlBackfills
from tidemill.adapters.sql.batches import SqlBatches
from tidemill.adapters.sql.bookmarks import SqlBookmarks
from tidemill.adapters.sql.checks import SqlChecks
from tidemill.adapters.sql.definitions import SqlDefinitions
from tidemill.adapters.sql.deliveries import SqlDeliveries
from tidemill.adapters.sql.engine import LOCK_WAIT, open_engines
from tidemill.adapters.sql.events import SqlEvents
from tidemill.adapters.sql.failures import told_apart
from tidemill.adapters.sql.leases import SqlLeases
from tidemill.adapters.sql.refs import SqlRefs
from tidemill.adapters.sql.runs import SqlRuns
from tidemill.adapters.sql.schema import REVISION, refs
from tidemill.adapters.sql.secrets import SqlSecrets
from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.stir import Stir
from tidemill.adapters.sql.streams import SqlStreams
from tidemill.adapters.sql.system_tables import system_table
from tidemill.adapters.sql.upgrade import bring_up_to_date, must_be_current, revision_of
from tidemill.adapters.sql.xcoms import SqlXComs
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.definition import Definition
from tidemill.model.errors import SettingsError
from tidemill.model.table import Schema
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata, Tx

#: Without "@", which parts project and branch in a catalog's name; short, as both must fit into 255 characters.
_PROJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class SqlTx(Tx):
    """The port's `Tx`: stores that share one transaction."""

    def __init__(self, session: Session) -> None:
        self.batches = SqlBatches(session)
        self.runs = SqlRuns(session)
        self.refs = SqlRefs(session)
        self.bookmarks = SqlBookmarks(session)
        self.archive = SqlArchiveIndex(session)
        self.leases = SqlLeases(session)
        self.checks = SqlChecks(session)
        self.events = SqlEvents(session)
        self.backfills = SqlBackfills(session)
        self.arrivals = SqlArrivals(session)
        self.definitions = SqlDefinitions(session)
        self.xcoms = SqlXComs(session)
        self.streams = SqlStreams(session)
        self.deliveries = SqlDeliveries(session)
        self.secrets = SqlSecrets(session)
        self.access = SqlAccess(session)


class SqlMetadata(Metadata):
    """The metadata store of one project in a SQL database. Threads may share it; processes open their own.

    Args:
        url: `sqlite:///path/to/metadata.db` or `postgresql://user:password@host/database`.
        project: whose rows to show; one database may hold many projects.
        clock: the time at which `main` begins.
        durable: False lets SQLite lose the last commits in a power failure (for databases of tests).
        lock_wait: seconds that a writer waits for another one before it gets a Conflict.

    Raises:
        SettingsError: the URL or the project's name cannot be used. Nothing is connected to before first use.
    """

    def __init__(
        self, url: str, project: str, clock: Clock, *, durable: bool = True, lock_wait: float = LOCK_WAIT
    ) -> None:
        if not _PROJECT.fullmatch(project):
            raise SettingsError(
                f'"{project}" cannot name a project.', hint='letters, digits, "_", "-" and "."; at most 100'
            )
        self.project = project
        self._clock = clock
        self._engines = open_engines(url, durable=durable, lock_wait=lock_wait)
        self._has_main = False
        self._definitions: dict[int, Definition] = {}
        self._mine = threading.local()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def temporary(cls, clock: Clock, project: str = "project") -> Self:
        """A migrated store in a SQLite file that goes away on `close`: the same code on the same kind of database."""
        folder = tempfile.TemporaryDirectory(prefix="tidemill-")
        store = cls(f"sqlite:///{Path(folder.name, 'metadata.db')}", project, clock, durable=False)
        store._folder = folder
        store.migrate()
        return store

    @contextmanager
    def write(self) -> Iterator[SqlTx]:
        """Begin a write transaction: serial against others, durable when it ends, undone by an exception."""
        with self.session(writing=True) as session:
            yield SqlTx(session)

    @contextmanager
    def read(self) -> Iterator[SqlTx]:
        """Begin a read-only transaction: one snapshot of everything."""
        with self.session(writing=False) as session:
            yield SqlTx(session)

    @contextmanager
    def session(self, *, writing: bool) -> Iterator[Session]:
        """Begin a transaction for the stores of this folder."""
        if not writing:
            with self._begin(self._engines.reader) as connection:
                yield Session(connection, self.project, writing=False, definitions=self._definitions)
            return
        assert not getattr(self._mine, "writes", False), (
            "this thread is in a write transaction: it would wait for itself"
        )
        self._mine.writes = True
        try:
            with self._begin(self._engines.writer) as connection:
                yield Session(connection, self.project, writing=True)
        finally:
            self._mine.writes = False

    def migrate(self) -> None:
        """Bring the schema up to date; one SELECT where it is."""
        with self._told_apart():
            with self._engines.reader.connect() as connection:
                current = revision_of(connection)
            if current != REVISION:
                bring_up_to_date(self._engines)

    def stir(self) -> Stir:
        """Tells one thread whether anything was committed meanwhile."""
        return Stir(self._engines)

    def rows(self, table: str) -> tuple[Schema, list[tuple[Any, ...]]]:
        """Columns and rows of a system table, of those that `Metadata.rows` names. Raises UnknownName."""
        wanted = system_table(table)
        with self._begin(self._engines.reader) as connection:
            return wanted.schema, [tuple(row) for row in connection.execute(wanted.query(self.project))]

    def close(self) -> None:
        """Let go of connections."""
        self._engines.writer.dispose()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SqlMetadata({self._engines.where!r}, project={self.project!r})"

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[Connection]:
        with self._told_apart():
            if not self._has_main:
                self._make_main()
            with engine.connect() as connection, connection.begin():
                # Looked at in each transaction: a newer Tidemill may migrate under a process that runs for weeks.
                # It is also the first read, so a snapshot is of the moment at which it was begun.
                must_be_current(revision_of(connection), self._engines.where)
                yield connection

    def _make_main(self) -> None:
        main = select(refs.c.id).where(refs.c.project == self.project, refs.c.name == MAIN)
        with self._engines.reader.connect() as connection, connection.begin():
            must_be_current(revision_of(connection), self._engines.where)
            found = connection.execute(main).first()
        if found is None:
            with self._engines.writer.connect() as connection, connection.begin():
                session = Session(connection, self.project, writing=True)
                values = {"kind": RefKind.MAIN, "state": RefState.OPEN, "head": 0, "created_at": self._clock.now()}
                row = session.insert(refs).values(project=self.project, name=MAIN, **values)
                session.add(row.on_conflict_do_nothing().returning(refs.c.id))
        self._has_main = True

    def _told_apart(self) -> Any:
        return told_apart(self._engines.where, self._engines.password)
