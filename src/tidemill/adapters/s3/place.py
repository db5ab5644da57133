"""Port `places` for a bucket, or a prefix of one, of an S3-compatible store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from tidemill.adapters.s3.bucket import Bucket, telling
from tidemill.adapters.s3.reader import ObjectReader
from tidemill.model.errors import Unreachable
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found

_PAGE = 1000


class S3Place:
    """Objects below the prefix of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def list(self, glob: Glob) -> Iterator[Found]:
        """Objects that match; a fixed name is one request, a pattern lists its folder."""
        import obstore

        if glob.is_fixed:
            found = self.look(glob.text)
            if found is not None:
                yield found
            return
        with telling(self._bucket.url):
            pages = obstore.list(self._bucket.store, glob.base or None, chunk_size=_PAGE)
        while True:
            with telling(self._bucket.url):
                page = next(pages, None)
            if page is None:
                return
            for meta in page:
                if glob.matches(meta["path"]):
                    yield _found(meta)

    def look(self, path: str) -> Found | None:
        """One object."""
        import obstore

        try:
            with telling(f"{self._bucket.url}/{path}"):
                return _found(obstore.head(self._bucket.store, path))
        except FileNotFoundError:
            return None

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Open an object, in the version that was found."""
        address = f"{self._bucket.url}/{found.path}"
        stream = ObjectReader(self._bucket.store, found.path, address)
        if found.tag is not None and stream.tag != found.tag:
            raise Unreachable("The file was replaced after it was listed.", where=address)
        stream.seek(at)
        return cast(BinaryIO, stream)

    def close(self) -> None:
        """The driver's connections go with it."""

    def __str__(self) -> str:
        return self._bucket.url


def _found(meta: Any) -> Found:
    return Found(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
