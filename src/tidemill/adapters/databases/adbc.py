"""ADBC's connection to PostgreSQL, by its own classes: its DB-API imports pandas, Polars and more of Arrow (0.3 s)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import adbc_driver_manager
import adbc_driver_postgresql
import pyarrow as pa


class AdbcConnection:
    """A connection; each statement outside of a transaction is its own.

    Args:
        info: what libpq takes.
        begin: statements that it begins with.
    """

    def __init__(self, info: str, begin: Sequence[str] = ()) -> None:
        with contextlib.ExitStack() as opened:
            database = opened.enter_context(adbc_driver_postgresql.connect(info))
            self._connection = opened.enter_context(adbc_driver_manager.AdbcConnection(database))
            self._running: adbc_driver_manager.AdbcStatement | None = None
            for text in begin:
                with adbc_driver_manager.AdbcStatement(self._connection) as statement:
                    statement.set_sql_query(text)
                    statement.execute_update()
            self._opened = opened.pop_all()

    def read(self, query: str, size: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query, which come by COPY; `size`: about how many bytes a batch has."""
        with adbc_driver_manager.AdbcStatement(self._connection) as statement:
            statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(size)})
            statement.set_sql_query(query)
            self._running = statement
            try:
                stream, _ = statement.execute_query()
                with pa.RecordBatchReader.from_stream(stream) as reader:
                    yield from reader
            finally:
                self._running = None

    def cancel(self) -> None:
        """Stop the read of another thread."""
        if (running := self._running) is not None:
            with contextlib.suppress(Exception):
                running.cancel()

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(Exception):
            self._opened.close()
