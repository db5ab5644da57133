"""Databases whose changes are followed, for `sources.cdc`: what is written there, and what must be here."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from harness.postgres import Postgres
from harness.project import Project
from tidemill import sources
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.observe import RunReport
from tidemill.flow.run import RunOptions, run_batch

NAME = "shop_db"
SLOT = "tidemill_shop"


@dataclass
class Followed:
    """A database, and a project that follows it."""

    url: str
    project: Project
    slot: str

    def execute(self, *statements: str) -> None:
        """Run statements, each committed."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = on")
            for statement in statements:
                connection.execute(statement.encode())

    def together(self, *statements: str) -> None:
        """Run statements in one transaction."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SET synchronous_commit = on")
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database answers."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def pipeline(
        self, tables: Sequence[str] = ("public.orders",), *, feed: dict[str, Any] | None = None, **options: Any
    ) -> Pipeline:
        """A pipeline without a schedule that follows tables."""
        made = self.project.pipeline("shop", schedule=None, start=None)
        made.source(sources.cdc(NAME, list(tables), **{"slot": self.slot, **options}), **(feed or {}))
        return made

    def run(self, tables: Sequence[str] = ("public.orders",), **options: Any) -> RunReport:
        """Run it once more; a new batch."""
        report = self.project.run(self.pipeline(tables, **options))
        if report.error is not None:
            raise report.error
        return report

    def again(self, report: RunReport, refetch: bool = False, **options: Any) -> RunReport:
        """Run a batch once more."""
        spec = self.pipeline(**options).spec()
        return run_batch(self.project.services, spec, report.batch.key, RunOptions(refetch=refetch))

    def bookmark(self) -> Any:
        """How far it is."""
        with self.project.services.metadata.read() as tx:
            return tx.bookmarks.get("shop", "changes").value

    def difference(self, table: str, columns: str = "*", of: str | None = None) -> tuple[int, int]:
        """Rows of the database that are not here, and rows here that are not there: `EXCEPT ALL`, both ways."""
        theirs = self._there(table, columns)
        here = [tuple(row.values()) for row in self.project.rows(f"select {columns} from {of or f'shop.{table}'}")]
        return _except(theirs, here), _except(here, theirs)

    def _there(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(f"SELECT {columns} FROM {table}".encode()).fetchall()


def _except(one: Iterable[tuple[Any, ...]], other: Iterable[tuple[Any, ...]]) -> int:
    return sum((Counter(map(_shown, one)) - Counter(map(_shown, other))).values())


def _shown(row: tuple[Any, ...]) -> str:
    """A row; times of one moment are one, whatever object is their zone."""
    return repr([value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value for value in row])


@contextlib.contextmanager
def followed(server: Postgres, root: Path, *statements: str, publication: str | None = None) -> Iterator[Followed]:
    """An empty database with the statements' tables, all of them published, which the connection `shop_db` leads to."""
    url = server.new_database()
    slot = f"{SLOT}_{url.rpartition('_')[2]}"
    before = os.environ.get(f"TIDEMILL_CONN_{NAME.upper()}")
    os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = url
    project = Project(root)
    found = Followed(url, project, slot)
    try:
        found.execute(*statements, publication or f"CREATE PUBLICATION {slot} FOR ALL TABLES")
        yield found
    finally:
        project.close()
        os.environ.pop(f"TIDEMILL_CONN_{NAME.upper()}")
        if before is not None:
            os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = before
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE database = %s AND NOT active",
                [url.rpartition("/")[2]],
            )
