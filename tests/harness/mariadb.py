"""A MariaDB server of its own for a test session: Debian's binaries, a temporary directory, a free loopback port."""

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Debian's package makes this user; as root the server does not run.
USER = "mysql"
START_WAIT = 60
#: Other sessions look for free ports too, and may take one before the server has it.
PORT_TRIES = 3


class CannotStart(Exception):
    """Why there is no server."""


@dataclass(eq=False)
class MariaDB:
    """A running server."""

    port: int
    password: str
    version: str
    process: subprocess.Popen[bytes]
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, database: str = "mysql") -> str:
        """The URL of a database on it."""
        return f"mariadb://tidemill:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.execute("mysql", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    def execute(self, database: str, *statements: str) -> None:
        """Run statements, each committed."""
        with contextlib.closing(self.connected(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def connected(self, database: str) -> Any:
        """A connection of its user."""
        import pymysql

        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="tidemill", password=self.password, database=database,
            autocommit=True, connect_timeout=5, ssl_disabled=True,  # or each reads the certificates of all authorities
        )  # fmt: skip


def _program(*names: str) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"))
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise CannotStart(f"no {names[0]} (Debian: apt-get install mariadb-server)")


@contextlib.contextmanager
def running() -> Iterator[MariaDB]:
    """Start a server, and stop it by its pid.

    Raises:
        CannotStart: the programs are not there.
    """
    install, serve = _program("mariadb-install-db", "mysql_install_db"), _program("mariadbd", "mysqld")
    identity = _identity()
    with tempfile.TemporaryDirectory(prefix="tidemill-mariadb-") as name:
        folder = Path(name)
        if identity:
            shutil.chown(folder, USER, USER)
        _init(install, folder, identity)
        password = secrets.token_hex(8)
        first = folder / "first.sql"
        first.touch(mode=0o600)
        first.write_text(
            f"CREATE OR REPLACE USER tidemill@'127.0.0.1' IDENTIFIED BY '{password}';"
            "\nGRANT ALL ON *.* TO tidemill@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        if identity:
            shutil.chown(first, USER, USER)
        server = _serve(serve, folder, first, password, identity)
        try:
            yield server
        finally:
            stop(server.process)


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise CannotStart(f"running as root, and there is no user {USER!r} to run it as") from None
    return {"user": USER, "group": USER, "extra_groups": []}


def _init(install: str, folder: Path, identity: dict[str, Any]) -> None:
    command = [install, "--no-defaults", f"--datadir={folder / 'data'}", "--auth-root-authentication-method=normal",
               "--skip-test-db"]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, check=False, **identity
    )
    if done.returncode:
        raise CannotStart(f"mariadb-install-db failed: {done.stderr.strip() or done.stdout.strip()}")


def _serve(serve: str, folder: Path, first: Path, password: str, identity: dict[str, Any]) -> MariaDB:
    """Start it on a free port, and wait until it answers; on another one where somebody was faster."""
    for attempt in range(PORT_TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        server = MariaDB(port, password, "", start(serve, folder, port, first, identity), folder)
        try:
            server.version = _wait(server)
        except BaseException:
            stop(server.process)
            if attempt + 1 < PORT_TRIES and "already in use" in (folder / "log").read_text(errors="replace"):
                continue
            raise
        return server
    raise AssertionError("the loop returns or raises")


def start(serve: str, folder: Path, port: int, first: Path, identity: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Begin to serve a folder; nobody but this computer can connect, and nothing waits for a disk."""
    options = [
        f"--datadir={folder / 'data'}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}", f"--init-file={first}", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=32M", "--skip-log-bin", "--skip-name-resolve", "--default-time-zone=+03:00",
    ]  # fmt: skip
    with (folder / "log").open("ab") as output:
        return subprocess.Popen(
            [serve, "--no-defaults", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            **identity,
        )


def _wait(server: MariaDB) -> str:
    """Wait until it answers; returns its version."""
    import pymysql

    until = time.monotonic() + START_WAIT
    while True:
        try:
            with contextlib.closing(server.connected("mysql")) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT version()")
                return str(cursor.fetchone()[0])
        except pymysql.Error as error:
            if server.process.poll() is not None or time.monotonic() > until:
                tail = (server.folder / "log").read_text(errors="replace")[-2000:]
                raise CannotStart(f"{error}\n{tail}") from error
            time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it by its pid."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
