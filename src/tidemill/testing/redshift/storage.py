"""The S3 that COPY and UNLOAD go to, and who may: objects by their whole addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.files import S3Files
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.testing.redshift.authorization import Authorization
from tidemill.testing.redshift.faults import Fault


@dataclass(frozen=True)
class Storage:
    """An S3-compatible store, as the emulated cluster reaches it.

    Args:
        endpoint: `http://host:port`; None: Amazon's.
        key, secret: whose rights the roles stand for.
        region: of the store.
        patience: how long a request is tried again.
    """

    endpoint: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    patience: timedelta = timedelta(seconds=5)

    def read(self, url: str) -> bytes:
        """An object. Raises FileNotFoundError, Fault."""
        files, path = self._of(url)
        with _told(url), files.open(path) as stream:
            return stream.read()

    def size(self, url: str) -> int | None:
        """Bytes of an object; None: there is none."""
        files, path = self._of(url)
        with _told(url):
            found = files.info(path)
        return None if found is None else found.bytes

    def list(self, url: str) -> list[str]:
        """The objects whose address begins so."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        files = self._files(bucket)
        with _told(url):
            return [f"s3://{bucket}/{found.path}" for found in files.list(prefix)]

    def write(self, url: str, content: bytes) -> None:
        """Make an object, or replace it."""
        files, path = self._of(url)
        with _told(url):
            files.delete(path)
            with files.create(path) as stream:
                stream.write(content)

    def delete(self, url: str) -> None:
        """Remove an object."""
        files, path = self._of(url)
        with _told(url):
            files.delete(path)

    def _of(self, url: str) -> tuple[S3Files, str]:
        bucket, _, path = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not path:
            raise Fault(f"The S3 path {url} names no object", "XX000")
        return self._files(bucket), path

    def _files(self, bucket: str) -> S3Files:
        made = Bucket(
            bucket, endpoint=self.endpoint, key=self.key, secret=self.secret, region=self.region, patience=self.patience
        )
        return S3Files(made, conditional=False)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise Fault(f"S3ServiceException:Access Denied or no such bucket,Status 403, {url}: {error.what}") from None
    except Unreachable as error:
        raise Fault(f"S3ServiceException:Internal Error,Status 500, {url}: {error.what}") from None


def check_authorized(who: Authorization, roles: frozenset[str], storage: Storage) -> None:
    """Raises Fault: the role is none of the cluster's, or the keys are none of the store's."""
    for role in who.roles:
        if role != "default" and role not in roles:
            raise Fault(f"User arn:aws:redshift:::dbuser is not authorized to assume IAM Role {role}", "XX000")
    if who.roles == ("default",) and not roles:
        raise Fault("No default IAM role is associated with the cluster", "XX000")
    if not who.roles and (who.key, who.secret) != (storage.key, storage.secret):
        raise Fault("S3ServiceException:The AWS Access Key Id you provided does not exist in our records.,Status 403")
