"""A PostgreSQL server of its own for a test session: Debian's binaries, a temporary directory, a free loopback port."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: PostgreSQL refuses to run as root; Debian's package makes this user.
USER = "postgres"
START_WAIT = 60
#: Other sessions look for free ports too, and may take one before the server has it.
PORT_TRIES = 3
#: Where Debian puts them, a folder a version.
PACKAGES = Path("/usr/lib/postgresql")


class CannotStart(Exception):
    """Why there is no server."""


@dataclass(eq=False)
class Postgres:
    """A running server."""

    port: int
    password: str
    version: str
    process: subprocess.Popen[bytes]
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _idle: list[str] = field(default_factory=list)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database on it."""
        return f"postgresql://tidemill:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"test_{next(self._numbers)}"
        with _connect(self.url()) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextlib.contextmanager
    def lend(self, prepare: Callable[[str], object]) -> Iterator[str]:
        """The URL of a database with the tables that `prepare` makes, without rows, for one user at a time.

        Databases are emptied and lent again: each has 300 files, and 200 of them took a minute to make and remove.
        """
        if self._idle:
            url = self._idle.pop()
        else:
            url = self.new_database()
            prepare(url)
        yield url
        if _empty(url):
            self._idle.append(url)


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url, autocommit=True, connect_timeout=5)


def _empty(url: str) -> bool:
    """Remove every row; False where a connection that was left open stands in the way."""
    import psycopg

    with _connect(url) as connection:
        # A replica's session does not ask for foreign keys, so the order of the tables is no matter.
        connection.execute("SET session_replication_role = replica; SET lock_timeout = '2s'")
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        sequences = connection.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'").fetchall()
        steps = [f'DELETE FROM "{name}"' for (name,) in tables if name != "tidemill_version"]
        steps += [f'ALTER SEQUENCE "{name}" RESTART' for (name,) in sequences]
        try:
            connection.execute(";".join(steps))
        except psycopg.errors.LockNotAvailable:
            return False
    return True


def find_binaries() -> Path:
    """The newest folder that has `initdb` and `postgres`. Raises CannotStart."""
    found = [path.parent for path in PACKAGES.glob("*/bin/initdb")]
    found.sort(key=lambda folder: [int(n) for n in folder.parent.name.split(".") if n.isdecimal()], reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    for folder in found:
        if (folder / "postgres").exists():
            return folder
    raise CannotStart(f"no initdb under {PACKAGES} or on PATH (Debian: apt-get install postgresql)")


@contextlib.contextmanager
def running(*, durable: bool = False) -> Iterator[Postgres]:
    """Start a server, and stop it by its pid; `durable`: as in earnest, what is committed is on the disk.

    Raises:
        CannotStart: the programs are not there.
    """
    binaries = find_binaries()
    identity = _identity()
    with tempfile.TemporaryDirectory(prefix="tidemill-postgres-") as folder:
        if identity:
            shutil.chown(folder, USER, USER)
        data, log = Path(folder, "data"), Path(folder, "log")
        password = secrets.token_hex(8)
        _init(binaries, data, password, identity)
        server = _serve(binaries, data, password, log, identity, _LASTING if durable else _FLEETING)
        try:
            yield server
        finally:
            _stop(server.process)


@contextlib.contextmanager
def away(server: Postgres, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """The server is down, as for an upgrade, and comes back on the same port with the same data.

    SIGQUIT: it goes down as if it crashed, and recovers.
    """
    server.process.send_signal(how)
    server.process.wait(30)
    try:
        yield
    finally:
        folder = server.folder
        process = _start(find_binaries(), folder / "data", server.port, folder / "log", _identity(), _FLEETING)
        server.process = process
        _wait(server, folder / "log")


def _start(
    binaries: Path, data: Path, port: int, log: Path, identity: dict[str, Any], settings: list[str]
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), *_SETTINGS, *settings],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=data.parent,
            **identity,
        )


def _serve(
    binaries: Path, data: Path, password: str, log: Path, identity: dict[str, Any], settings: list[str]
) -> Postgres:
    """Start it on a free port, and wait until it answers; on another one where somebody was faster."""
    for attempt in range(PORT_TRIES):
        port = _free_port()
        process = _start(binaries, data, port, log, identity, settings)
        server = Postgres(port, password, "", process, data.parent)
        try:
            server.version = _wait(server, log)
        except BaseException:
            _stop(process)
            if attempt + 1 < PORT_TRIES and "already in use" in log.read_text(errors="replace"):
                continue
            raise
        return server
    raise AssertionError("the loop returns or raises")


#: Nobody but this computer can connect.
_SETTINGS = [
    f"-c{setting}"
    for setting in (
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "shared_buffers=32MB",
        "max_connections=60",
        "autovacuum=off",
        "log_timezone=UTC",
        "wal_level=logical",
        "max_replication_slots=40",
    )
]
#: Data of tests is thrown away, so nothing waits for a disk.
_FLEETING = ["-cfsync=off", "-csynchronous_commit=off", "-cfull_page_writes=off"]
_LASTING: list[str] = []


def _identity() -> dict[str, Any]:
    """How to start a program as the user that PostgreSQL accepts; the process then is the server, not a wrapper."""
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise CannotStart(f"running as root, and there is no user {USER!r} to run it as") from None
    return {"user": USER, "group": USER, "extra_groups": []}


def _init(binaries: Path, data: Path, password: str, identity: dict[str, Any]) -> None:
    secret = data.parent / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if identity:
        shutil.chown(secret, USER, USER)
    options = ["--username=tidemill", f"--pwfile={secret}", "--auth=password", "--encoding=UTF8", "--no-locale"]
    done = subprocess.run(
        [binaries / "initdb", "-D", data, "--no-sync", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=data.parent,
        check=False,
        **identity,
    )
    if done.returncode:
        raise CannotStart(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Postgres, log: Path) -> str:
    """Wait until it answers; returns its version."""
    import psycopg

    until = time.monotonic() + START_WAIT
    while True:
        try:
            with _connect(server.url()) as connection:
                return str(connection.info.parameter_status("server_version"))
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace")[-2000:]
                raise CannotStart(f"{error}\n{tail}") from error
            time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # "fast": ends sessions, then itself
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
