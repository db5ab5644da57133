"""A bucket of an S3-compatible store: how it is reached, and its driver's errors in our words.

The driver is obstore: no Python in the way of bytes, retries with backoff, connections that are kept.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidemill.model.errors import Refused, SettingsError, TidemillError, Unreachable

if TYPE_CHECKING:
    from obstore.store import S3Store

#: What object stores answer to requests that they shall not do for whoever asks; and what no store ever gets right
#: by asking again.
_DENIED = (
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "AuthorizationHeaderMalformed", "PermanentRedirect", "403 Forbidden", "401 Unauthorized",
)  # fmt: skip
_NO_KEYS = (
    "instance metadata",
    "CredentialsProvider",
    "169.254.169.254",
    "MissingAccessKeyId",
    "MissingSecretAccessKey",
)


@dataclass(frozen=True)
class Bucket:
    """A bucket, or what lies below a prefix of it.

    Args:
        name: the bucket.
        prefix: without slashes at its ends; empty: the whole bucket.
        endpoint: another store than Amazon's, as `https://host:port`; None: as AWS_ENDPOINT_URL says, else Amazon's.
        region: None: as AWS_REGION or AWS_DEFAULT_REGION say.
        path_style: the bucket is part of the path, not of the host's name; None: so with an endpoint of its own.
        key, secret, token: who asks; None: by the environment, or by what the machine's role gives.
        patience: how long one request is tried again, with pauses that grow to 5 seconds.
        answer: how long one answer may take; a part that is uploaded has so long, too.
    """

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    patience: timedelta = timedelta(seconds=60)
    answer: timedelta = timedelta(seconds=60)

    @classmethod
    def of_url(cls, url: str, **options: Any) -> Bucket:
        """The place of `s3://bucket/prefix`. Raises SettingsError."""
        parts = urlsplit(url, allow_fragments=False)
        prefix = (parts.path + ("?" + parts.query if parts.query else "")).strip("/")
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc:
            raise SettingsError(
                f'"{parts.scheme}://{parts.netloc.rpartition("@")[2]}{parts.path}" is no place in an object store.',
                hint="s3://bucket/prefix; keys come from the environment, or from a connection",
            )
        if any(part in (".", "..", "") for part in prefix.split("/")) and prefix:
            raise SettingsError(f'"{url}" has an empty part, or dots.', hint="s3://bucket/prefix")
        return cls(parts.netloc, prefix, **options)

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.name}/{self.prefix}" if self.prefix else f"s3://{self.name}"

    @cached_property
    def store(self) -> S3Store:
        """The driver's store; its paths begin at the prefix."""
        try:
            from obstore.store import S3Store
        except ImportError:
            raise SettingsError(
                f"The driver of object stores is not installed, which {self.url} needs.",
                hint='pip install "tidemill[s3]"',
            ) from None
        options: Any = {
            "endpoint": self._endpoint,
            "region": self._region,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "session_token": self.token,
        }
        with telling(self.url):
            return S3Store(
                self.name,
                prefix=self.prefix or None,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=10),
                    "timeout": self.answer,
                },
                retry_config={
                    "max_retries": 8,
                    "retry_timeout": self.patience,
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=5),
                        "base": 2,
                    },
                },
                credential_provider=self._profile(),
                copy_if_not_exists="multipart",
                virtual_hosted_style_request=not self._in_path,
                **{name: value for name, value in options.items() if value},
            )

    def polars_options(self) -> dict[str, str]:
        """How Polars reaches the bucket: `storage_options` of its scans."""
        options = {
            "aws_endpoint_url": self._endpoint,
            "aws_region": self._region,
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
            "aws_session_token": self.token,
            "aws_virtual_hosted_style_request": "false" if self._in_path else "true",
            "aws_allow_http": "true",
        }
        return {name: value for name, value in options.items() if value}

    @property
    def _in_path(self) -> bool:
        return self.path_style if self.path_style is not None else self._given_endpoint is not None

    @property
    def _given_endpoint(self) -> str | None:
        env = os.environ
        return self.endpoint or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None

    @property
    def _endpoint(self) -> str | None:
        """The address of the store; where the bucket is part of the host's name, with it."""
        given = self._given_endpoint
        if given is None or self._in_path:
            return given
        parts = urlsplit(given)
        return f"{parts.scheme}://{self.name}.{parts.netloc}"

    @property
    def _region(self) -> str | None:
        return self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None

    def _profile(self) -> Any:
        """Keys by a profile of AWS's own files: only its own library reads them."""
        if self.key or not os.environ.get("AWS_PROFILE") or os.environ.get("AWS_ACCESS_KEY_ID"):
            return None
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError:
            raise SettingsError(
                "AWS_PROFILE is set, and AWS's own library, which reads profiles, is not installed.",
                hint='pip install "tidemill[aws]"',
            ) from None
        return Boto3CredentialProvider()


@contextmanager
def telling(address: str) -> Iterator[None]:
    """Errors of the driver as ours: `address` is where they happened.

    Raises:
        FileNotFoundError, FileExistsError: as they are.
        SettingsError: no such bucket, or keys that are missing or not allowed to.
        Unreachable: the store did not answer, or only with errors, as long as patience lasts; or the object was
            replaced while it was read.
        Refused: a name that no object can have.
    """
    from obstore import exceptions

    try:
        yield
    except (TidemillError, FileExistsError):
        raise
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _no_bucket(address) from None
        raise FileNotFoundError(errno.ENOENT, "there is no such object", address) from None
    except exceptions.AlreadyExistsError:
        raise FileExistsError(errno.EEXIST, "the file exists and is never changed", address) from None
    except exceptions.PreconditionError:
        raise Unreachable("The file was replaced while it was read.", where=address) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise _denied(address, error) from None
    except exceptions.BaseError as error:
        raise _translated(address, error) from None
    except ValueError as error:
        raise Refused(f'"{address}" cannot name an object: {_first(error)}.') from None


def _translated(address: str, error: Exception) -> TidemillError:
    text = str(error)
    if "NoSuchBucket" in text:
        return _no_bucket(address)
    if any(word in text for word in _NO_KEYS):
        return SettingsError(
            f"There are no keys for {address}.",
            hint="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a connection in [s3], or the role of this machine",
        )
    if any(word in text for word in _DENIED):
        return _denied(address, error)
    if "error sending request" in text:  # no answer came, to any of its tries
        asked = re.search(r"https?://[^/\s]+", text)
        at = f" at {asked[0]}" if asked else ""
        return Unreachable(f"The object store{at} does not answer.", where=address, hint="is its endpoint right?")
    return Unreachable(f"The object store does not do what is asked: {_first(error)}.", where=address)


def _denied(address: str, error: Exception) -> SettingsError:
    found = next((word for word in _DENIED if word in str(error)), "403 Forbidden")
    return SettingsError(
        f"The object store refuses: {found}.", where=address, hint="look at the keys, the region, the bucket's policy"
    )


def _no_bucket(address: str) -> SettingsError:
    name = urlsplit(address).netloc
    return SettingsError(f'There is no bucket "{name}".', where=address, hint="it is not made by itself")


def _first(error: Exception) -> str:
    """What the driver says, without its debugging text and the store's own pages."""
    text = str(error).partition("\n")[0].partition(": <")[0].partition(" - Server returned")
    told = text[2].replace("non-2xx", "").strip() if text[1] else text[0]
    return told.rstrip(".: ")
