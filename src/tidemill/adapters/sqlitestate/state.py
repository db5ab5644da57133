"""Port `state` on SQLite: one file for each store, locked by whoever has it open.

The pragmas follow from the promise. WAL with `synchronous=NORMAL` keeps every commit through the death of the process,
and through that of the machine all commits up to some moment; a sync for each checkpoint would add 1 to 10 ms to it for
what the changelog knows anyway. `locking_mode=EXCLUSIVE` is the lock against a second process, and spares the locks of
each read. SQLite checks no sums: damage is told where it breaks the file's structure, not where it hits a value.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tidemill.model.errors import Busy, DataError, Unreachable
from tidemill.ports.state import after, check_name

#: KiB of pages that a store holds in memory.
CACHE = 4_096
#: Bytes that the log may keep on the disk once it is written back; one large `write` makes it as large as itself.
LOG_LIMIT = 16 << 20
#: Keys that one statement asks for: 390,000 keys/s of 1M; a statement for each key gives 250,000.
ASKED_AT_ONCE = 500

_AGAIN = "remove it; it is made again from the changelog"
_SUFFIX = ".state"
_BESIDE = ("-wal", "-shm", "-journal")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteStates:
    """Stores as files of one folder.

    Args:
        folder: made at the first `open`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def open(self, name: str) -> SqliteState:
        """The store of that name."""
        path = self._path(name)
        with _told(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            return SqliteState(name, path)

    def names(self) -> list[str]:
        """All stores in order."""
        found = self._folder.glob(f"*{_SUFFIX}") if self._folder.is_dir() else ()
        return sorted(path.name.removesuffix(_SUFFIX).replace("+", "/") for path in found)

    def remove(self, name: str) -> None:
        """Delete a store, if there is one."""
        path = self._path(name)
        if not path.exists():
            return
        # A damaged file has no user: whoever has a store open has its lock, and we would be told Busy.
        with suppress(DataError), closing(self.open(name)):
            _unlink(path)
        _unlink(path)

    def _path(self, name: str) -> Path:
        # "+" is in no name, so that a folder's stores can be listed without walking folders.
        return self._folder / (check_name(name).replace("/", "+") + _SUFFIX)


class SqliteState:
    """One store. Its folder's `SqliteStates` opens it."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._mark = self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> bytes | None:
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run(f"PRAGMA cache_size=-{CACHE}")
        run(f"PRAGMA journal_size_limit={LOG_LIMIT}")
        run("PRAGMA temp_store=MEMORY")
        # The lock is taken here and held until the file is closed.
        run("BEGIN IMMEDIATE")
        run("CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        run("CREATE TABLE IF NOT EXISTS mark (only_row INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        found = run("SELECT value FROM mark").fetchone()
        run("COMMIT")
        return found[0] if found else None

    @property
    def mark(self) -> bytes | None:
        """What the last `write` said."""
        return self._mark

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys."""
        found: dict[bytes, bytes] = {}
        with _told(self._name):
            for start in range(0, len(keys), ASKED_AT_ONCE):
                asked = keys[start : start + ASKED_AT_ONCE]
                places = ",".join("?" * len(asked))
                found.update(self._connection.execute(f"SELECT key, value FROM state WHERE key IN ({places})", asked))  # noqa: S608 only "?" is put in
        return list(map(found.get, keys))

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, with their values."""
        query, end = "SELECT key, value FROM state WHERE key >= ?", after(prefix)
        with _told(self._name):
            if end is None:
                yield from self._connection.execute(f"{query} ORDER BY key", (prefix,))
            else:
                yield from self._connection.execute(f"{query} AND key < ? ORDER BY key", (prefix, end))

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], mark: bytes) -> None:
        """Set values, and remove those of None."""
        # In the order of keys neighbours share pages: a fifth faster than as they come, and less log.
        last = sorted(dict(changes).items())
        run = self._connection
        with _told(self._name):
            run.execute("BEGIN IMMEDIATE")
            try:
                run.executemany(
                    "REPLACE INTO state VALUES (?, ?)", (change for change in last if change[1] is not None)
                )
                run.executemany("DELETE FROM state WHERE key = ?", ((key,) for key, value in last if value is None))
                run.execute("REPLACE INTO mark VALUES (1, ?)", (mark,))
                run.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        self._mark = mark

    def size(self) -> int:
        """The bytes of its files."""
        total = 0
        for suffix in ("", *_BESIDE):
            with suppress(FileNotFoundError):
                total += os.path.getsize(f"{self._path}{suffix}")
        return total

    def clear(self) -> None:
        """Remove everything."""
        with _told(self._name):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM state")
                self._connection.execute("DELETE FROM mark")
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._mark = None
            # Gives the space back; of an empty store this is the work of a few pages.
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let it go."""
        with _told(self._name):
            self._connection.close()

    def _roll_back(self) -> None:
        # Of some errors (a full disk) SQLite has rolled back by itself.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCKED:
            raise Busy(f'The state "{name}" is in use by another process.') from error
        if code in _DAMAGED:
            raise DataError(f'The state "{name}" is damaged: {error}.', hint=_AGAIN) from error
        if not isinstance(error, sqlite3.OperationalError):
            raise
        raise Unreachable(f'The state "{name}" cannot be reached: {error}.', hint="is the disk full?") from error
    except OSError as error:
        raise Unreachable(f'The state "{name}" cannot be reached: {error}.', hint="is the disk full?") from error


def _unlink(path: Path) -> None:
    for suffix in (*_BESIDE, ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
