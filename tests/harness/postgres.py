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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: PostgreSQL refuses to run as root; Debian's package makes this user.
USER = "postgres"
START_WAIT = 60


class CannotStart(Exception):
    """Why there is no server."""


@dataclass(eq=False)
class Postgres:
    """A running server."""

    port: int
    password: str
    version: str
    process: subprocess.Popen[bytes]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, database: str = "postgres") -> str:
        """The URL of a database on it."""
        return f"postgresql://tidemill:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str | None = None) -> str:
        """Make a database, a copy of the database `template` if given; returns its name."""
        name = f"test_{next(self._numbers)}"
        copy = f" TEMPLATE {template}" if template else ""
        with _connect(self.url()) as connection:
            connection.execute(f"CREATE DATABASE {name}{copy}")
        return name


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url, autocommit=True, connect_timeout=5)


def find_binaries() -> Path:
    """The newest folder that has `initdb` and `postgres`. Raises CannotStart."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found.sort(key=lambda folder: [int(n) for n in folder.parent.name.split(".") if n.isdecimal()], reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    for folder in found:
        if (folder / "postgres").exists():
            return folder
    raise CannotStart("no initdb under /usr/lib/postgresql or on PATH (Debian: apt-get install postgresql)")


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Start a server, and stop it by its pid. Raises CannotStart."""
    binaries = find_binaries()
    identity = _identity()
    with tempfile.TemporaryDirectory(prefix="tidemill-postgres-") as folder:
        if identity:
            shutil.chown(folder, USER, USER)
        data, log = Path(folder, "data"), Path(folder, "log")
        password = secrets.token_hex(8)
        _init(binaries, data, password, identity)
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-p", str(port), *_SETTINGS],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                **identity,
            )
        try:
            server = Postgres(port, password, "", process)
            server.version = _wait(server, log)
            yield server
        finally:
            _stop(process)


#: Data is thrown away, so nothing waits for a disk; nobody but this computer can connect.
_SETTINGS = [
    f"-c{setting}"
    for setting in (
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "shared_buffers=32MB",
        "max_connections=60",
        "autovacuum=off",
        "log_timezone=UTC",
    )
]


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
