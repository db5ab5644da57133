"""The emulator's server: listens on loopback, lets clients in, and gives each a session over PostgreSQL."""

from __future__ import annotations

import hmac
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from types import TracebackType
from urllib.parse import unquote, urlsplit

from tidemill.testing.redshift import catalog
from tidemill.testing.redshift.faults import Fault
from tidemill.testing.redshift.session import Session
from tidemill.testing.redshift.storage import Storage
from tidemill.testing.redshift.wire import GSS, PROTOCOL, TLS, Backend, Closed, Stream, cut, error_frame, frame, text

__all__ = ["RedshiftEmulator", "Storage"]

#: What a client is told of the server.
_PARAMETERS = {"server_version": "8.0.2", "client_encoding": "UTF8", "DateStyle": "ISO, MDY", "TimeZone": "UTC",
               "integer_datetimes": "on", "is_superuser": "on", "padb_version": "1.0 emulated"}  # fmt: skip
#: As Redshift: a transaction sees the database as of its first statement.
_SESSION = "SET TimeZone = 'UTC'; SET default_transaction_isolation = 'repeatable read'; SET bytea_output = 'hex'"


class RedshiftEmulator:
    """A server that speaks as Redshift does. Use it as a context; it listens on `host` and `port` meanwhile.

    Args:
        postgres: the PostgreSQL behind it, `postgresql://user:password@host:port/database`: a user that may create
            schemas. The emulator adds the schema `redshift_system` to each database that a client names.
        storage: the S3 that COPY and UNLOAD go to.
        roles: names of the roles (ARNs) that the emulated cluster may assume.
        user, password: who may log in.
        slices: how many the cluster has.
        fault: is asked with each statement before it is done, and with `-- done` before it afterwards; "drop" ends
            the connection there.
    """

    def __init__(
        self,
        postgres: str,
        storage: Storage,
        *,
        roles: Iterable[str] = (),
        user: str = "awsuser",
        password: str = "Emulated1",  # noqa: S107 - of an emulator on loopback
        slices: int = 2,
        fault: Callable[[str], str | None] | None = None,
    ) -> None:
        parts = urlsplit(postgres)
        self._postgres = (parts.hostname or "127.0.0.1", parts.port or 5432, unquote(parts.username or ""),
                          unquote(parts.password or ""))  # fmt: skip
        self._default = parts.path.lstrip("/") or "postgres"
        self.storage = storage
        self.roles = frozenset(roles)
        self.user, self.password = user, password
        self.slices = slices
        self.fault = fault
        self.host, self.port = "127.0.0.1", 0
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._ready: set[str] = set()
        self._databases: dict[int, str] = {}
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The address for a connection of Tidemill's, without options."""
        return f"redshift://{self.user}:{self.password}@{self.host}:{self.port}/{self._default}"

    def __enter__(self) -> RedshiftEmulator:
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        for one in (self._listener, *self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def next_number(self) -> int:
        """A number for a COPY."""
        return next(self._numbers)

    def database_of(self, session: Session) -> str:
        """The database of a session."""
        return self._databases[id(session)]

    def note(self, database: str, statements: Sequence[str]) -> None:
        """Write to system tables, whatever becomes of anybody's transaction."""
        if not statements:
            return
        backend = Backend(*self._postgres, database)
        try:
            backend.ask(";".join(statements))
        finally:
            backend.close()

    # -- clients

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True, name="redshift-emulator")
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        assert self._listener is not None
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(made)
            self._start(self._serve, made)

    def _serve(self, connection: socket.socket) -> None:
        client = Stream(connection)
        backend: Backend | None = None
        try:
            backend, database = self._let_in(client)
            session = Session(self, client, backend)
            self._databases[id(session)] = database
            session.run()
        except Closed:
            pass
        except Fault as fault:
            self._refuse(client, fault)
        finally:
            self._open.discard(connection)
            connection.close()
            if backend is not None:
                backend.close()

    def _refuse(self, client: Stream, fault: Fault) -> None:
        try:
            client.send(error_frame(fault, "FATAL"))
        except Closed:
            return

    def _let_in(self, client: Stream) -> tuple[Backend, str]:
        code, body = client.opening()
        while code in (TLS, GSS):
            client.send(b"N")
            code, body = client.opening()
        if code != PROTOCOL:
            raise Closed
        given: dict[str, str] = {}
        at = 0
        while body[at : at + 1] not in (b"\0", b""):
            name, at = cut(body, at)
            given[name], at = cut(body, at)
        client.send(frame(b"R", struct.pack("!I", 3)))
        kind, answer = client.frame()
        password = answer.rstrip(b"\0") if kind == b"p" else b""
        if given.get("user") != self.user or not hmac.compare_digest(password, self.password.encode()):
            raise Fault(f'password authentication failed for user "{given.get("user")}"', "28000")
        database = given.get("database") or self._default
        backend = self._opened(database)
        client.send(
            frame(b"R", struct.pack("!I", 0)),
            *(frame(b"S", text(name) + text(value)) for name, value in _PARAMETERS.items()),
            frame(b"K", struct.pack("!II", backend.pid, 0)),
            frame(b"Z", b"I"),
        )
        return backend, database

    def _opened(self, database: str) -> Backend:
        try:
            backend = Backend(*self._postgres, database)
        except Closed:
            raise Fault("the PostgreSQL behind the emulator does not answer", "08006") from None
        with self._lock:
            if database not in self._ready:
                if not backend.ask(f"SELECT 1 FROM pg_namespace WHERE nspname = '{catalog.SCHEMA}'").rows:  # noqa: S608
                    backend.ask(catalog.statements(self.slices))
                self._ready.add(database)
        backend.ask(_SESSION)
        return backend
