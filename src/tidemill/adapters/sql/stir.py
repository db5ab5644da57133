"""Whether anything was committed since one last looked: on SQLite that is known without a transaction."""

from __future__ import annotations

from typing import Any

from tidemill.adapters.sql.engine import Engines


class Stir:
    """For one thread. On SQLite `PRAGMA data_version`, on a connection of its own: 5 us, where a transaction that finds
    nothing takes 700. On PostgreSQL it is always told to look.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._connection: Any = None
        self._seen: object = None

    @property
    def cheap(self) -> bool:
        """Whether looking costs next to nothing."""
        return self._engines.sqlite

    def changed(self) -> bool:
        """Whether another connection has committed since the last call; True at first."""
        if not self._engines.sqlite:
            return True
        before = self._seen
        self._seen = self.version()
        return self._seen != before

    def version(self) -> object | None:
        """Another value after each commit of others; None: that is not known without a transaction."""
        if not self._engines.sqlite:
            return None
        if self._connection is None:
            pooled = self._engines.reader.raw_connection()
            self._connection = pooled.driver_connection
            pooled.detach()  # it is kept: the pool's are for transactions
        found: object = self._connection.execute("PRAGMA data_version").fetchone()
        return found

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
