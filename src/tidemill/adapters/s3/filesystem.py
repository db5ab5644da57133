"""A bucket as what `fsspec` calls a file system: DuckDB, pandas and others open files by it."""

from __future__ import annotations

from typing import Any

from tidemill.adapters.s3.bucket import Bucket


def filesystem_of(bucket: Bucket) -> Any:
    """The file system of a bucket; its paths are `bucket/key`. Folders are there where a key goes through them.

    Raises:
        SettingsError: the driver is not installed.
    """
    store = bucket.store
    from obstore.fsspec import FsspecStore

    return FsspecStore(
        "s3",
        config=store.config,
        client_options=store.client_options,
        retry_config=store.retry_config,
        credential_provider=store.credential_provider,
    )
