"""Port `codesource`: where a project's pipelines come from (a folder, a Git repository), as a folder to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeAlias

#: What changes when a file does: its size, its time of change in nanoseconds, its inode.
Stamp: TypeAlias = tuple[int, int, int]
#: A project's code: stamps by path, relative to its folder, with `/`.
Code: TypeAlias = Mapping[str, Stamp]


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that was kept, and the SHA-256 of each of its files by path, without those that cannot be read."""

    name: str
    digests: Mapping[str, bytes]


class CodeSource(Protocol):
    """Where code comes from.

    Promises: `sync` brings the folder up to date, whole or not at all: who reads files in it while that happens sees
    either the old or the new ones of each; a source that cannot be reached leaves the folder as it was. No path in it
    leads out of it.
    """

    @property
    def every(self) -> timedelta | None:
        """How often it should be brought up to date; None: its files change by themselves."""
        ...

    def sync(self) -> Path:
        """Bring the code up to date; returns the folder that it is in.

        Raises:
            Unreachable: the source does not answer; what was there stays.
            SettingsError: there is no such folder, repository, ref or path.
        """
        ...
