"""A Redis server of its own for a test session."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.programs import CannotStart, Program, free_port


@contextlib.contextmanager
def running() -> Iterator[tuple[str, str, Program]]:
    """Start a server: its URL, its version, and the program; it writes each change to disk. Raises CannotStart."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise CannotStart("no redis-server on PATH (Debian: apt-get install redis-server)")
    import redis

    with tempfile.TemporaryDirectory(prefix="tidemill-redis-") as folder:
        port, password = free_port(), secrets.token_hex(8)
        settings = Path(folder, "redis.conf")
        settings.touch(mode=0o600)
        settings.write_text(
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nsave ""\nappendonly yes\n'
            "appendfsync no\n"
        )
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        client = redis.Redis.from_url(url)
        program = Program("Redis", [binary, str(settings)], Path(folder, "log"), {}, client.ping)
        try:
            program.start()
            yield url, client.info("server")["redis_version"], program
        finally:
            program.kill()
            client.close()
