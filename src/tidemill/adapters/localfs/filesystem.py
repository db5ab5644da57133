"""This computer's files as what `fsspec` calls a file system."""

from __future__ import annotations

from typing import Any


def local_filesystem() -> Any:
    """The file system; folders above a file that is written are made."""
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(auto_mkdir=True)
