"""Places of every kind that files are taken from, for tests: each real, and each can break."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harness import fileservers
from harness.fileservers import LOGIN, PASSWORD, FileServer
from harness.objectstore import FaultyProxy, ObjectStore, proxying
from harness.s3keys import KEY, SECRET
from tidemill.adapters.fileservers.ftp import FtpPlace, FtpServer
from tidemill.adapters.fileservers.sftp import SftpPlace, SftpServer
from tidemill.adapters.http.place import HttpPlace
from tidemill.adapters.localfs.place import LocalPlace
from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.place import S3Place
from tidemill.ports.places import Place

BIG = bytes(range(256)) * 4000


@dataclass
class There:
    """A place, and how a test puts files there."""

    open: Callable[[], Place]
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    server: FileServer | None = None
    proxy: FaultyProxy | None = None
    lists: bool = True

    def breaks(self, after: int, times: int) -> None:
        """From now on the connection ends in the middle of so many files."""
        if self.server is not None:
            self.server.cut, self.server.cuts = after, times
        elif self.proxy is not None:
            self.proxy.first(times, "cut", lambda request: request.method == "GET")


def in_folder(folder: Path) -> tuple[Callable[[str, bytes], None], Callable[[str], None]]:
    def put(path: str, content: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)

    return put, lambda path: (folder / path).unlink()


@contextlib.contextmanager
def local(folder: Path, _store: ObjectStore) -> Iterator[There]:
    yield There(lambda: LocalPlace(folder, "here"), *in_folder(folder))


@contextlib.contextmanager
def bucket(_folder: Path, store: ObjectStore) -> Iterator[There]:
    name = store.bucket()

    def put(path: str, content: bytes) -> None:
        store.client.put_object(Bucket=name, Key=f"root/{path}", Body=content)

    with proxying(store.endpoint) as proxy:
        made = Bucket(name, "root", proxy.endpoint, "us-east-1", key=KEY, secret=SECRET, patience=timedelta(seconds=1))
        yield There(
            lambda: S3Place(made), put, lambda path: store.client.delete_object(Bucket=name, Key=f"root/{path}"),
            proxy=proxy,
        )  # fmt: skip


@contextlib.contextmanager
def web(folder: Path, _store: ObjectStore) -> Iterator[There]:
    with fileservers.web(folder) as server:
        base = f"http://127.0.0.1:{server.port}"
        yield There(lambda: HttpPlace(base), *in_folder(folder), server, lists=False)


@contextlib.contextmanager
def sftp(folder: Path, _store: ObjectStore) -> Iterator[There]:
    with fileservers.sftp(folder) as server:
        at = SftpServer("127.0.0.1", server.port, LOGIN, PASSWORD, host_key=server.key)
        yield There(lambda: SftpPlace(at), *in_folder(folder), server)


@contextlib.contextmanager
def ftp(folder: Path, _store: ObjectStore) -> Iterator[There]:
    with fileservers.ftp(folder) as server:
        at = FtpServer("127.0.0.1", server.port, LOGIN, PASSWORD)
        yield There(lambda: FtpPlace(at), *in_folder(folder), server)


@contextlib.contextmanager
def old_ftp(folder: Path, _store: ObjectStore) -> Iterator[There]:
    with fileservers.ftp(folder, old=True) as server:
        at = FtpServer("127.0.0.1", server.port, LOGIN, PASSWORD)
        yield There(lambda: FtpPlace(at), *in_folder(folder), server)


KINDS = {"local": local, "s3": bucket, "http": web, "sftp": sftp, "ftp": ftp, "old ftp": old_ftp}
LISTING = [name for name in KINDS if name != "http"]
FAR = [name for name in KINDS if name != "local"]
