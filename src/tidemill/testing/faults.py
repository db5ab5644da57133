"""Fault injection: die, or fail, before or after any external effect of a run.

Every effect goes through two ports: a file becomes visible (or is deleted) through `files`, a transaction commits
through `metadata`. Wrapped ones count these effects; at the chosen one the process ends by `os._exit`, as a power cut
would end it: no handler runs, no buffer is flushed. Deciding which is the caller's:

    points = FaultPoints()                        counts: run once, `points.passed` says how many there are
    points = FaultPoints(at=7)                    the process dies at the eighth
    services = connect(settings, wrap_files=points.files, wrap_metadata=points.metadata)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from tidemill.model.table import Schema
from tidemill.ports.files import FileInfo, Files
from tidemill.ports.metadata import Metadata, Tx

#: The exit code of a process that died at a fault point.
DIED = 137


def die(_name: str) -> None:
    """End the process at once."""
    os._exit(DIED)


@dataclass
class FaultPoints:
    """Counts fault points and does something at one of them.

    Args:
        at: the number of the point, from 0; None: only count.
        fault: what to do there; the default ends the process, tests may raise instead.
    """

    at: int | None = None
    fault: Callable[[str], None] = die
    #: Names of the points that were passed, in order.
    passed: list[str] = field(default_factory=list)

    def point(self, name: str) -> None:
        """Pass a point."""
        number = len(self.passed)
        self.passed.append(name)
        if number == self.at:
            self.fault(name)

    def files(self, inner: Files) -> Files:
        """Wrap a files port."""
        return FaultyFiles(inner, self)

    def metadata(self, inner: Metadata) -> Metadata:
        """Wrap a metadata store."""
        return FaultyMetadata(inner, self)


@dataclass(frozen=True, slots=True)
class FaultyFiles:
    """Files with a fault point before a file is begun, when it is written, when it is visible, and around deletes."""

    inner: Files
    points: FaultPoints

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """See the port."""
        self.points.point(f"begin {path}")
        with self.inner.create(path) as stream:
            yield stream
            self.points.point(f"written {path}")
        self.points.point(f"visible {path}")

    def open(self, path: str) -> BinaryIO:
        """See the port."""
        return self.inner.open(path)

    def info(self, path: str) -> FileInfo | None:
        """See the port."""
        return self.inner.info(path)

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """See the port."""
        return self.inner.list(prefix)

    def delete(self, path: str) -> None:
        """See the port."""
        self.points.point(f"delete {path}")
        self.inner.delete(path)
        self.points.point(f"deleted {path}")

    def url(self, path: str) -> str:
        """See the port."""
        return self.inner.url(path)

    def relative(self, url: str) -> str:
        """See the port."""
        return self.inner.relative(url)

    def sweep(self, older_than: datetime) -> int:
        """See the port."""
        return self.inner.sweep(older_than)


@dataclass(frozen=True, slots=True)
class FaultyMetadata:
    """A metadata store with a fault point before and after each commit."""

    inner: Metadata
    points: FaultPoints

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """See the port."""
        with self.inner.write() as tx:
            yield tx
            self.points.point("before commit")
        self.points.point("after commit")

    def read(self) -> AbstractContextManager[Tx]:
        """See the port."""
        return self.inner.read()

    def migrate(self) -> None:
        """See the port."""
        self.inner.migrate()

    def rows(self, table: str) -> tuple[Schema, list[tuple[Any, ...]]]:
        """See the port."""
        return self.inner.rows(table)

    def close(self) -> None:
        """See the port."""
        self.inner.close()
