"""Port `files` below a prefix of an S3-compatible store.

A file appears by one request that the store refuses where the name is taken (`If-None-Match: *`): for small files the
request that brings the content; for larger ones, whose parts are uploaded under a temporary name first, the one that
completes a copy which the store makes itself. (A file of more than 5 GB, which no store copies so, is treated as in a
store without conditional requests.) What is written waits in memory up to 1 MB and beyond in a local
temporary file, so that 200 files in the making take no more memory than one.

A store without conditional requests is refused, unless the project says that it knows: then the name is looked at just
before the content is given it, and of two writers who do so at the same moment the last one wins.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import IO, Any, BinaryIO, cast

from tidemill.adapters.s3.bucket import Bucket, telling
from tidemill.adapters.s3.reader import ObjectReader
from tidemill.model.errors import Refused, SettingsError, TidemillError, Unreachable
from tidemill.ports.files import TEMPORARY_PREFIX, FileInfo, check_path

#: Beyond this a file in the making waits on the local disk.
_IN_MEMORY = 1 << 20
#: Up to this a file is one request, and in memory for it.
_ONE_REQUEST = 8 << 20
#: Bytes of a part, and how many are on their way at once. A store takes 10,000 parts: 160 GB.
_PART, _AT_ONCE = 16 << 20, 3
#: What a store copies by one request.
_LARGEST_COPY = 5 << 30
#: Names in an answer to a listing.
_PAGE = 1000
#: What every file carries, so that a writer knows its own when an answer got lost.
_MARK = "tidemill-writer"
_TEMPORARY = f"{TEMPORARY_PREFIX}uploads"
_PROBE = f"{TEMPORARY_PREFIX}conditional"


class S3Files:
    """Files below the prefix of a bucket.

    Args:
        bucket: the place.
        conditional: False: the store has no conditional writes, and the project knows; see above.
        largest_copy: bytes that the store copies by one request.
    """

    def __init__(self, bucket: Bucket, *, conditional: bool = True, largest_copy: int = _LARGEST_COPY) -> None:
        self.bucket = bucket
        self._conditional = conditional
        self._largest_copy = largest_copy
        self._lock = threading.Lock()
        self._probed = False

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Open a new file for writing; it appears when the context ends well."""
        check_path(path)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
            yield cast(BinaryIO, _Unclosed(kept))
            self._probe()
            size = kept.seek(0, os.SEEK_END)
            kept.seek(0)
            if size <= _ONE_REQUEST:
                self._put(path, kept.read())
            else:
                self._upload(path, kept, size)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; seekable."""
        return cast(BinaryIO, ObjectReader(self.bucket.store, check_path(path), self.url(path)))

    def info(self, path: str) -> FileInfo | None:
        """Size and age, or None where there is no such file."""
        import obstore

        check_path(path)
        try:
            with telling(self.url(path)):
                found = obstore.head(self.bucket.store, path)
        except FileNotFoundError:
            return None
        return FileInfo(path, found["size"], _until(found["last_modified"]))

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Every file whose path starts with `prefix`, in the order of paths: as the store gives them."""
        import obstore

        folder, _, name = prefix.rpartition("/")
        if folder:
            check_path(folder)
        # The driver lists folders; what comes before the name in one need not be sent.
        offset = prefix[:-1] if len(name) > 1 and name[:-1] not in (".", "..") else None
        with telling(self.bucket.url):
            pages = obstore.list(self.bucket.store, folder or None, offset=offset, chunk_size=_PAGE)
        while True:
            with telling(self.bucket.url):
                page = next(pages, None)
            if page is None:
                return
            for found in page:
                path = found["path"]
                if path.startswith(prefix) and not _is_temporary(path):
                    yield FileInfo(path, found["size"], _until(found["last_modified"]))
                elif name and path > prefix and not path.startswith(prefix):
                    return

    def delete(self, path: str) -> None:
        """Remove a file."""
        self._delete(check_path(path))

    def url(self, path: str) -> str:
        """`s3://bucket/prefix/path`."""
        return f"{self.bucket.url}/{check_path(path)}"

    def relative(self, url: str) -> str:
        """The path of an address that `url` gave; `s3a://` and `s3n://` are what some tools write for `s3://`."""
        scheme, _, rest = url.partition("://")
        known = f"s3://{rest}" if scheme in ("s3a", "s3n") else url
        if not known.startswith(self.bucket.url + "/"):
            raise Refused(f'"{url}" is not below "{self.bucket.url}".')
        return check_path(known[len(self.bucket.url) + 1 :])

    def sweep(self, older_than: datetime) -> int:
        """Remove uploads of writers that died before they were given their names.

        Parts of an upload that was never completed are listed by no one but the store: a rule of the bucket's removes
        them (`AbortIncompleteMultipartUpload`).
        """
        import obstore

        with telling(self.bucket.url):
            found = [one for page in obstore.list(self.bucket.store, _TEMPORARY) for one in page]
        old = [one["path"] for one in found if one["last_modified"] < older_than]
        for path in old:
            self._delete(path)
        return len(old)

    def _delete(self, path: str) -> None:
        import obstore

        with suppress(FileNotFoundError), telling(f"{self.bucket.url}/{path}"):
            obstore.delete(self.bucket.store, path)

    # -- giving content its name

    def _put(self, path: str, content: bytes) -> None:
        """Small content: one request."""
        mark = uuid.uuid4().hex
        try:
            self._put_marked(path, content, mark)
        except FileExistsError:
            # An answer that got lost makes the driver ask again, and the store refuses what it has done already.
            if self._mark_of(path) != mark:
                raise FileExistsError(errno.EEXIST, "somebody else created the file first", path) from None

    def _put_marked(self, path: str, content: bytes, mark: str) -> None:
        import obstore

        if not self._conditional and self.info(path) is not None:
            raise FileExistsError(errno.EEXIST, "somebody else created the file first", path)
        with telling(self.url(path)):
            obstore.put(
                self.bucket.store,
                path,
                content,
                mode="create" if self._conditional else "overwrite",
                attributes={_MARK: mark},
                use_multipart=False,
            )

    def _mark_of(self, path: str) -> str | None:
        import obstore

        try:
            with telling(self.url(path)):
                return str(obstore.get(self.bucket.store, path).attributes.get(_MARK))
        except FileNotFoundError:
            return None

    def _upload(self, path: str, kept: IO[bytes], size: int) -> None:
        """Large content: parts under a temporary name, then a copy that the store makes."""
        if self.info(path) is not None:
            raise FileExistsError(errno.EEXIST, "the file exists and is never changed", path)
        if not self._conditional or size > self._largest_copy:
            self._send(path, kept)
            return
        temporary = f"{_TEMPORARY}/{uuid.uuid4().hex}"
        try:
            self._send(temporary, kept)
            self._copy(temporary, path, kept)
        finally:
            with suppress(TidemillError):  # what is left is swept
                self._delete(temporary)

    def _send(self, path: str, kept: IO[bytes]) -> None:
        import obstore

        with telling(f"{self.bucket.url}/{path}"):
            obstore.put(
                self.bucket.store,
                path,
                cast(Any, iter(lambda: kept.read(_PART), b"")),
                use_multipart=True,
                chunk_size=_PART,
                max_concurrency=_AT_ONCE,
            )

    def _copy(self, temporary: str, path: str, kept: IO[bytes]) -> None:
        import obstore

        try:
            with telling(self.url(path)):
                obstore.copy(self.bucket.store, temporary, path, overwrite=False)
        except FileExistsError:
            if not self._same(path, kept):
                raise FileExistsError(errno.EEXIST, "somebody else created the file first", path) from None
        except FileNotFoundError:
            raise Unreachable(
                "What was uploaded is gone before it got its name: it was swept.", where=self.url(path)
            ) from None

    def _same(self, path: str, kept: IO[bytes]) -> bool:
        """Whether what has the name is this very content: an answer got lost, and the name was not taken before."""
        kept.seek(0)
        with self.open(path) as there:
            while piece := there.read(_PART):
                if kept.read(len(piece)) != piece:
                    return False
        return not kept.read(1)

    def _probe(self) -> None:
        """Once in a process: whether the store refuses a name that is taken. One that does not would lose files.

        Raises:
            SettingsError: it has no conditional writes.
        """
        import obstore

        if self._probed or not self._conditional:
            return
        with self._lock:
            for _ in range(2):
                try:
                    with telling(f"{self.bucket.url}/{_PROBE}"):
                        obstore.put(self.bucket.store, _PROBE, b"", mode="create", use_multipart=False)
                except FileExistsError:
                    self._probed = True
                    return
                except Unreachable as error:
                    if not any(code in str(error) for code in ("501", "NotImplemented", "400 ")):
                        raise
                    break
        raise SettingsError(
            f"The object store of {self.bucket.url} has no conditional writes: of two writers of one file the last "
            "would win, and nobody would know.",
            hint="another version of the store; or conditional_writes = false in [s3], if one machine alone writes",
        )


def _until(told: datetime) -> datetime:
    """The end of the second that a store tells: nothing may look older than it is."""
    return told.replace(microsecond=999_999)


def _is_temporary(path: str) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in path.split("/"))


class _Unclosed:
    """What a writer is given: it may close it, and what it has written stays to be published."""

    def __init__(self, kept: IO[bytes]) -> None:
        self._kept = kept
        self.closed = False

    def write(self, data: Any) -> int:
        """Write on."""
        if self.closed:
            raise ValueError("write to closed file")
        view = memoryview(data)
        self._kept.write(view)
        return view.nbytes

    def tell(self) -> int:
        """Bytes written."""
        return self._kept.tell()

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """End writing."""
        self.closed = True

    def writable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Never."""
        return False

    def seekable(self) -> bool:
        """Never."""
        return False
