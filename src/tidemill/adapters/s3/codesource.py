"""Port `codesource` for a prefix of an S3-compatible object store: the way in which managed Airflow reads DAGs.

Each state of the prefix is laid out in a folder of its own, named by the hash of its listing, and appears whole; files
that have not changed are linked from the state before, so that only changes are fetched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tidemill.model.errors import SettingsError, Unreachable

#: States that stay laid out: the present one, and the one before it, of which files may still be read.
_KEPT = 2
#: Larger objects are data that lies beside the code.
_LARGEST = 50 * 1024 * 1024
_MISSING = ("NoSuchBucket", "404")


@dataclass(frozen=True)
class S3Source:
    """Code below a prefix.

    Args:
        url: `s3://bucket/prefix`.
        path: the folder below it.
        folder: where the states are kept.
        every: how often to ask for changes.
        endpoint: another store than Amazon's; None: as the environment says.
    """

    url: str
    path: str
    folder: Path
    every: timedelta | None = timedelta(seconds=60)
    endpoint: str | None = None

    def sync(self) -> Path:
        """List what is there, and fetch what has changed."""
        listing = sorted(self._listed())
        text = "\n".join(f"{name}\t{tag}" for name, tag, _ in listing)
        laid_out = self._states / hashlib.sha256(text.encode()).hexdigest()[:24]
        if not laid_out.is_dir():
            self._lay_out(listing, laid_out)
        os.utime(laid_out)
        self._tidy(laid_out)
        root = laid_out / self.path
        if not root.is_dir() or not root.resolve().is_relative_to(laid_out.resolve()):
            raise SettingsError(f'There is no folder "{self.path}" in {self.url}.', hint='path = "."')
        return root

    def _listed(self) -> Iterable[tuple[str, str, str]]:
        """Paths below the prefix, with their tags and keys; names that lead elsewhere are left out."""
        from botocore.exceptions import BotoCoreError, ClientError

        place = urlsplit(self.url)
        prefix = place.path.strip("/")
        prefix = f"{prefix}/" if prefix else ""
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=place.netloc, Prefix=prefix)
            for page in pages:
                for one in page.get("Contents", ()):
                    name = one["Key"].removeprefix(prefix)
                    parts = PurePosixPath(name).parts
                    inside = name and not name.endswith("/") and not {"..", "."} & set(name.split("/"))
                    if inside and not name.startswith("/") and "" not in parts and one["Size"] <= _LARGEST:
                        yield name, one["ETag"], one["Key"]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                raise SettingsError(
                    f'There is no bucket "{place.netloc}".', hint='url = "s3://bucket/prefix"'
                ) from None
            raise Unreachable(f"The pipelines cannot be listed: {code}.", where=self.url) from None
        except BotoCoreError as error:
            raise Unreachable(f"The pipelines cannot be listed: {error}.", where=self.url) from None

    def _lay_out(self, listing: list[tuple[str, str, str]], folder: Path) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        making = self._states / f".{uuid.uuid4().hex}"
        blobs = self.folder / "objects"
        for made in (making, blobs):
            made.mkdir(parents=True, exist_ok=True)
        try:
            for name, tag, key in listing:
                blob = blobs / hashlib.sha256(f"{key}\t{tag}".encode()).hexdigest()
                if not blob.exists():
                    part = blob.with_suffix(f".{uuid.uuid4().hex}")
                    self._client.download_file(urlsplit(self.url).netloc, key, str(part))
                    part.rename(blob)
                target = making / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # A copy: whoever edits a laid-out file must not change what later states are made of.
                shutil.copyfile(blob, target)
            with suppress(OSError):  # another process was faster
                making.rename(folder)
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(f"The pipelines cannot be fetched: {error}.", where=self.url) from None
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _tidy(self, present: Path) -> None:
        """Delete states that nobody reads any more; what a run needs of them is kept as a version."""
        others = [one for one in present.parent.iterdir() if one != present and not one.name.startswith(".")]
        others.sort(key=lambda one: one.stat().st_mtime, reverse=True)
        for old in others[_KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)

    @property
    def _states(self) -> Path:
        return self.folder / "states"

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
        except ImportError as error:
            raise SettingsError(
                "The pipelines are in an object store, whose driver is not installed.",
                hint='pip install "tidemill[aws]"',
            ) from error
        from botocore.config import Config

        config = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"})
        return boto3.client("s3", endpoint_url=self.endpoint, config=config)
