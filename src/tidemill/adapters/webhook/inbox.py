"""What was posted and waits for its batch: a SQLite file in the state folder. A body is on the disk before it counts.

Numbers follow the order of commits: SQLite has one writer at a time, so no reader sees a number before all that are
less, and a bookmark is one number. Bodies go when the batch that took them is published; their keys stay for a month,
so that what is sent again late still counts once.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tidemill.model.errors import Refused, Unreachable

_SCHEMA = """
create table if not exists bodies (
  number integer primary key autoincrement,
  pipeline text not null, source text not null,
  key text, digest text not null, body blob, came text not null,
  unique (pipeline, source, key)
);
create index if not exists bodies_of on bodies (pipeline, source, number);
"""
_KEPT = timedelta(days=30)
#: Seconds that a writer waits for another.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Posted:
    """A body that waits."""

    number: int
    body: bytes


class Inbox:
    """The inbox of a project; several processes may use it.

    Args:
        file: where it is; made when it is first used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Whoever takes bodies in keeps its connection: the last one that is closed empties the log, which takes 10 ms.
        self._kept: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def put(
        self, pipeline: str, source: str, key: str | None, body: bytes, now: datetime, *, named: bool = False
    ) -> int:
        """Keep a body; gives its number, or that of the first body with its key.

        `named`: the key is the sender's name for what happened, which may be told in other words the second time.

        Raises:
            Refused: the key was another body's. Unreachable: it cannot be kept now.
        """
        digest = hashlib.sha256(body).hexdigest()
        with self._lock, self._writing() as db:
            db.execute("begin immediate")
            if key is not None:
                found = db.execute(
                    "select number, digest from bodies where pipeline = ? and source = ? and key = ?",
                    (pipeline, source, key),
                ).fetchone()
                if found is not None:
                    db.execute("rollback")
                    if found[1] != digest and not named:
                        raise Refused("This Idempotency-Key was that of another body.", hint="a key of its own")
                    return int(found[0])
            made = db.execute(
                "insert into bodies (pipeline, source, key, digest, body, came) values (?, ?, ?, ?, ?, ?)",
                (pipeline, source, key, digest, body, now.isoformat()),
            )
            number = made.lastrowid
            db.execute("commit")
        assert number is not None
        return number

    def came(self, number: int) -> datetime | None:
        """When a body came, for the first time; None: it is not known any more."""
        with self._open() as db:
            found = db.execute("select came from bodies where number = ?", (number,)).fetchone()
        return None if found is None else datetime.fromisoformat(found[0])

    def last(self, pipeline: str, source: str) -> int:
        """The number of the newest body; 0 where there was none."""
        with self._open() as db:
            sql = "select max(number) from bodies where pipeline = ? and source = ?"
            return int(db.execute(sql, (pipeline, source)).fetchone()[0] or 0)

    def taken(self, pipeline: str, source: str, after: int, until: int) -> Iterator[Posted]:
        """The bodies with numbers beyond `after` up to `until`, in order.

        Raises:
            Refused: some of them are kept no more.
        """
        with self._open() as db:
            rows = db.execute(
                "select number, body from bodies where pipeline = ? and source = ? and number > ? and number <= ? "
                "order by number",
                (pipeline, source, after, until),
            )
            for number, body in rows:
                if body is None:
                    raise Refused(
                        f"What was posted to {pipeline}.{source} up to number {until} is in the archive, and in the "
                        "inbox no more.",
                        hint="replay the batch; it cannot be fetched again",
                    )
                yield Posted(number, body)

    def forget(self, pipeline: str, source: str, until: int, now: datetime) -> None:
        """Let bodies go that were published, and the keys of old ones."""
        with self._open() as db:
            db.execute("begin immediate")
            db.execute(
                "update bodies set body = null where pipeline = ? and source = ? and number <= ? and body is not null",
                (pipeline, source, until),
            )
            # The newest number stays: bookmarks count on from it.
            db.execute(
                "delete from bodies where pipeline = ? and source = ? and number < ? and body is null "
                "and (key is null or came < ?)",
                (pipeline, source, until, (now - _KEPT).isoformat()),
            )
            db.execute("commit")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._kept is None:
                self._kept = self._connect()
            yield self._kept
        except BaseException as error:
            if self._kept is not None:
                self._kept.close()  # which rolls back
            self._kept = None
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from None
            raise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as db:
                yield db
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _connect(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = full")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _failed(self, error: sqlite3.Error) -> Unreachable:
        return Unreachable(f"The inbox cannot be used: {error}.", where=str(self._file))
