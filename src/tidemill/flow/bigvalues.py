"""Large values that tasks hand to each other, as files of the archive's store: `xcoms/<run>/<task>-<hash>.json`."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from tidemill.ports.files import Files


class FileValues:
    """The port `BigValues` over write-once files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def put(self, name: str, content: bytes) -> str:
        """Keep a content; returns its address. A file that is there holds the same: its name says the hash."""
        path = f"xcoms/{quote(name)}"
        with contextlib.suppress(FileExistsError), self._files.create(path) as file:
            file.write(content)
        return path

    def get(self, address: str) -> bytes:
        """The content of an address. Raises FileNotFoundError."""
        with self._files.open(address) as file:
            return file.read()
