"""Port `state` on RocksDB: one folder for each store, all stores of a process share one cache.

A process of a stream has a store for each task of each stateful step, so each must be small at rest: 4 MiB of
memtable, one log file, index and filter blocks in the shared cache instead of beside it. A `write` is one batch through
the log without a sync: it survives the process, and after a power failure RocksDB gives the state after some earlier
batch (`point_in_time`), which is what the port promises.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rocksdict as rocks

from tidemill.model.errors import Busy, DataError, Unreachable
from tidemill.ports.state import after, check_name

#: Bytes of uncompressed blocks that all stores of a process hold together.
CACHE = 64 << 20
#: Bytes of changes that a store holds before it writes them to a sorted file; there may be two of these.
MEMTABLE = 8 << 20
#: A store's own key, and what stands before the user's: so `clear` is one range.
_MARK, _KEYS, _END = b"\x00", b"\x01", b"\x02"
_AGAIN = "remove it; it is made again from the changelog"


class RocksStates:
    """Stores as folders of one folder.

    Args:
        folder: made at the first `open`.
        cache: bytes of blocks that the stores of this object share.
    """

    def __init__(self, folder: str | os.PathLike[str], cache: int = CACHE) -> None:
        self._folder = Path(folder)
        self._cache = rocks.Cache(cache)

    def open(self, name: str) -> RocksState:
        """The store of that name."""
        path = self._path(name)
        with _told(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            return RocksState(name, path, self._cache)

    def names(self) -> list[str]:
        """All stores in order."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(path.name.replace("+", "/") for path in found if path.is_dir())

    def remove(self, name: str) -> None:
        """Delete a store, if there is one."""
        path = self._path(name)
        if not path.exists():
            return
        with _told(name):
            try:
                # Takes the lock first, and fails where somebody has it.
                rocks.Rdict.destroy(str(path), _options(self._cache))
            except Exception as error:
                if _is_busy(error):
                    raise
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, name: str) -> Path:
        # "+" is in no name, so that a folder's stores can be listed without walking folders.
        return self._folder / check_name(name).replace("/", "+")


class RocksState:
    """One store. Its folder's `RocksStates` opens it."""

    def __init__(self, name: str, path: Path, cache: rocks.Cache) -> None:
        self._name, self._path, self._cache = name, path, cache
        self._failed = False
        self._database = self._open()
        self._mark: bytes | None = self._database.get(_MARK)

    def _open(self) -> rocks.Rdict:
        return rocks.Rdict(str(self._path), _options(self._cache))

    @property
    def mark(self) -> bytes | None:
        """What the last `write` said."""
        return self._mark

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys."""
        with _told(self._name):
            found: Any = self._database.get([_KEYS + key for key in keys])
        values: list[bytes | None] = found
        return values

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, with their values."""
        # The iterators keep no hold of the options, whose bound they read: these must live as long.
        options = _within(prefix)
        last = start = _KEYS + prefix
        with _told(self._name):
            found: Any = self._database.items(from_key=start, read_opt=options)
            for last, value in found:
                yield last[1:], value
            self._see_end(last, options)

    def _see_end(self, last: bytes, options: rocks.ReadOptions) -> None:
        """The driver's iteration ends at a damaged block as it does at the end: look which it was."""
        rest = self._database.iter(options)
        rest.seek(last)
        if rest.valid() and rest.key() == last:
            rest.next()
        rest.status()
        if rest.valid():
            raise DataError(f'The state "{self._name}" is damaged: keys end early.', hint=_AGAIN)

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], mark: bytes) -> None:
        """Set values, and remove those of None."""
        batch = rocks.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in changes:
            if value is None:
                delete(_KEYS + key)
            else:
                put(_KEYS + key, value)
        batch.put(_MARK, mark)
        self._apply(batch)
        self._mark = mark

    def _apply(self, batch: rocks.WriteBatch) -> None:
        with _told(self._name):
            if self._failed:
                # After a failed write RocksDB takes no more until it is opened again.
                self._let_go()
                self._database = self._open()
                self._failed = False
            try:
                self._database.write(batch)
            except BaseException:
                self._failed = True
                raise

    def size(self) -> int:
        """The bytes of its files."""
        with os.scandir(self._path) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())

    def clear(self) -> None:
        """Remove everything."""
        batch = rocks.WriteBatch(raw_mode=True)
        batch.delete_range(_KEYS, _END)
        batch.delete(_MARK)
        self._apply(batch)
        self._mark = None
        with _told(self._name):
            self._database.compact_range(None, None)

    def close(self) -> None:
        """Let it go."""
        with _told(self._name):
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._database.close()
        except Exception:
            # What could not be written was told by `write`; it is closed all the same.
            if not self._failed:
                raise


def _within(prefix: bytes) -> rocks.ReadOptions:
    options = rocks.ReadOptions()
    options.set_iterate_upper_bound(after(_KEYS + prefix) or _END)
    # A scan of a large state must not push the keys in use out of the cache.
    options.fill_cache(False)  # type: ignore[call-arg]  # the driver's types have forgotten the argument
    return options


def _options(cache: rocks.Cache) -> rocks.Options:
    blocks = rocks.BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # Most keys that a stream asks for and does not find are new ones: 10 bits spare 99 % of these reads.
    blocks.set_bloom_filter(10, False)
    blocks.set_format_version(5)
    options = rocks.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(MEMTABLE)
    options.set_max_write_buffer_number(3)
    options.set_max_total_wal_size(4 * MEMTABLE)
    options.set_target_file_size_base(4 * MEMTABLE)
    options.set_max_bytes_for_level_base(16 * MEMTABLE)
    options.set_compression_type(rocks.DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_max_open_files(256)
    options.set_wal_recovery_mode(rocks.DBRecoveryMode.point_in_time())
    options.set_manifest_preallocation_size(64 << 10)
    # Its diary: one small file instead of a growing heap of them.
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _is_busy(error: Exception) -> bool:
    return "lock" in str(error).lower() and "IO error" in str(error)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """RocksDB's errors, which are texts, as ours."""
    try:
        yield
    except (Busy, DataError, Unreachable):
        raise
    except OSError as error:
        raise Unreachable(f'The state "{name}" cannot be reached: {error}.', hint="is the disk full?") from error
    except Exception as error:
        # The driver raises the bare class, but for a database that could not be opened again after a failed write.
        if type(error) not in (Exception, rocks.DbClosedError):
            raise
        if _is_busy(error):
            raise Busy(f'The state "{name}" is in use by another process.') from error
        if str(error).startswith("IO error") or isinstance(error, rocks.DbClosedError):
            raise Unreachable(f'The state "{name}" cannot be reached: {error}.', hint="is the disk full?") from error
        raise DataError(f'The state "{name}" is damaged: {error}.', hint=_AGAIN) from error
