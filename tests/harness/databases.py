"""Databases that are read from, for the suites of `sources.sql`: how to fill one, and what a read of it archives."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.mariadb import MariaDB
from harness.redshift import Redshift
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark, Interval
from tidemill.model.databases import DatabaseSource
from tidemill.ports.source import ExtractRequest, RawFile
from tidemill.wiring.connectors import open_connector
from tidemill.wiring.settings import Settings

DAY = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
#: The connection's name in tests.
NAME = "shop_db"


@dataclass
class Shop:
    """One empty database, which the connection `shop_db` leads to."""

    kind: str
    url: str
    root: Path
    server: Any = None
    last: Any = field(default=None)

    def execute(self, *statements: str) -> None:
        """Run statements, each committed."""
        match self.kind:
            case "postgresql":
                import psycopg

                with psycopg.connect(self.url, autocommit=True) as connection:
                    for statement in statements:
                        connection.execute(statement.encode())
            case "redshift":
                self.server.ask(*statements)
            case "mariadb":
                self.server.execute(self.url.rpartition("/")[2], *statements)
            case "sqlite":
                with contextlib.closing(sqlite3.connect(self.root / "shop.db")) as connection:
                    for statement in statements:
                        connection.execute(statement)
                    connection.commit()
            case _:
                import duckdb

                with duckdb.connect(str(self.root / "shop.db")) as connection:
                    for statement in statements:
                        connection.execute(statement)

    def extraction(
        self, source: DatabaseSource, bookmark: Bookmark = None, until: Bookmark = None, **params: Any
    ) -> Any:
        """A read that has not begun."""
        registry.clear()
        pipeline = Pipeline("shop", schedule="@daily", start=DAY.start)
        pipeline.source(source, name="t")
        batch = Batch(1, BatchKey("shop", DAY), BatchState.OPEN, DAY.end)
        spec = pipeline.spec().sources["t"]
        feed = open_connector(spec, source, Settings(self.root, "test"), lambda text, _request: text)
        return feed.extract(ExtractRequest(batch, bookmark, until, params))

    def pieces(self, source: DatabaseSource, bookmark: Bookmark = None, **more: Any) -> list[pa.Table]:
        """What a read gives, file by file; `last` is then its bookmark."""
        found = []
        with self.extraction(source, bookmark, **more) as extraction:
            for piece in extraction:
                assert isinstance(piece, RawFile)
                with piece.open() as stream:
                    found.append(pq.read_table(io.BytesIO(stream.read())))
            self.last = extraction.bookmark_after
        return found

    def read(self, source: DatabaseSource, bookmark: Bookmark = None, **more: Any) -> list[tuple[Any, ...]]:
        """The rows of a read."""
        found = self.pieces(source, bookmark, **more)
        return [tuple(row.values()) for piece in found for row in piece.to_pylist()]


@contextlib.contextmanager
def shop(kind: str, root: Path, server: Any) -> Iterator[Shop]:
    """An empty database of a kind."""
    if isinstance(server, Redshift):
        url = server.connection
    elif isinstance(server, MariaDB):
        url = server.url(server.new_database())
    else:
        url = f"{kind}:///{root / 'shop.db'}" if server is None else server.new_database()
    before = os.environ.get(f"TIDEMILL_CONN_{NAME.upper()}")
    os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = url
    try:
        yield Shop(kind, url, root, server)
    finally:
        os.environ.pop(f"TIDEMILL_CONN_{NAME.upper()}")
        if before is not None:
            os.environ[f"TIDEMILL_CONN_{NAME.upper()}"] = before


def values(rows: Sequence[Sequence[Any]]) -> str:
    """Rows after VALUES: numbers and texts without a quote."""
    return ", ".join("(" + ", ".join(map(_literal, row)) + ")" for row in rows)


def _literal(value: Any) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int | float) else f"'{value}'"
