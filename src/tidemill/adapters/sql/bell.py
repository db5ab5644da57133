"""Port `bell` by PostgreSQL's NOTIFY: it is heard on every computer that uses the database."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import make_url

#: After a connection was lost, the next is tried after so many seconds.
_AGAIN = 2.0


class NotifyBell:
    """A bell by LISTEN and NOTIFY, on connections of its own.

    Args:
        url: of the database.
        project: whose bell it is.
    """

    def __init__(self, url: str, project: str) -> None:
        parsed = make_url(url)
        self._dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        self._channel = f"tidemill_{project}"
        self._listener: Any = None
        self._ringer: Any = None
        self._listens = False
        self._try_at = 0.0

    def ring(self) -> None:
        """Wake all that listen; where the server does not answer, they look by themselves after a while."""
        import psycopg

        for _ in range(2):
            try:
                if self._ringer is None:
                    self._ringer = self._connect()
                self._ringer.execute("SELECT pg_notify(%s, '')", (self._channel,))
                return
            except psycopg.OperationalError:
                self._ringer = None

    def listen(self) -> None:
        """Be woken from now on."""
        self._listens = True
        self._hear()

    def wait(self, seconds: float, handles: Iterable[int] = ()) -> bool:
        """Sleep; returns whether somebody rang."""
        import psycopg

        if self._listens and self._listener is None and self._hear():
            return True  # somebody may have rung in between
        ready = select.poll()
        own = self._listener.fileno() if self._listener is not None else -1
        for handle in (*handles, *((own,) if own >= 0 else ())):
            ready.register(handle, select.POLLIN)
        found = ready.poll(max(-(-seconds * 1000 // 1), 0))
        if own < 0 or not any(handle == own for handle, _ in found):
            return False
        try:
            return any(True for _ in self._listener.notifies(timeout=0))
        except psycopg.OperationalError:
            self._listener = None
            return True

    def close(self) -> None:
        """Let go of the connections."""
        for connection in (self._listener, self._ringer):
            if connection is not None:
                connection.close()
        self._listener = self._ringer = None
        self._listens = False

    def _hear(self) -> bool:
        """Connect and listen; False where the server does not answer."""
        import psycopg
        from psycopg import sql

        if time.monotonic() < self._try_at:
            return False
        try:
            self._listener = self._connect()
            self._listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        except psycopg.OperationalError:
            self._listener = None
            self._try_at = time.monotonic() + _AGAIN
            return False
        return True

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self._dsn, autocommit=True, connect_timeout=5, application_name="tidemill bell")
