"""Which files of a place a batch takes: those that are new or changed, and complete. Time and listings are arguments.

A bookmark holds 12 bytes for each file: 6 of a hash of its name, 6 of one of its version. Two of a million names are
taken for one with a chance of one in 500, and then only if they are of one version, too: one in 10^17.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError, Refused

_HASH = 6
_RECORD = 2 * _HASH


class Listed(Protocol):
    """What a listing tells of a file."""

    @property
    def path(self) -> str:
        """Its name."""
        ...

    @property
    def version(self) -> str | None:
        """What tells its content from another of the same name."""
        ...

    @property
    def modified_at(self) -> datetime | None:
        """When it was changed last."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """The files that were taken so far, each in one version."""

    records: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, bookmark: Bookmark) -> Taken:
        """What a bookmark says. Raises Refused: it is of another kind of source."""
        if bookmark is None:
            return cls()
        try:
            held: Any = bookmark
            raw = base64.b64decode(held["taken"], validate=True)
        except (TypeError, KeyError, ValueError):
            raise Refused(
                "The bookmark of this source is not one of files.",
                hint="the source was of another kind before: give it another name",
            ) from None
        return cls(frozenset(raw[at : at + _RECORD] for at in range(0, len(raw), _RECORD)))

    @property
    def bookmark(self) -> Bookmark:
        """These as a bookmark."""
        return {"files": len(self.records), "taken": base64.b64encode(b"".join(sorted(self.records))).decode("ascii")}

    def has(self, file: Listed) -> bool:
        """Whether a file was taken as it is now."""
        return record_of(file) in self.records

    def after(self, listed: Iterable[Listed], took: Iterable[Listed]) -> Taken:
        """What has been taken once `took` is. Files that are not there any more are forgotten, unless nothing is:
        then it is rather the place that is away.
        """
        there = {record_of(file) for file in listed}
        kept = self.records & there if there else self.records
        return Taken(frozenset(kept | {record_of(file) for file in took}))


def record_of(file: Listed) -> bytes:
    """The twelve bytes of a file. Raises DataError: nothing tells its versions apart."""
    if file.version is None:
        raise DataError(
            f'Nothing tells whether "{file.path}" was changed: neither a tag, nor a size, nor a time.',
            hint="leave new=True out: each run then takes it as it is",
        )
    return _hash(file.path) + _hash(file.version)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_HASH).digest()


def new_files(listed: Iterable[Any], taken: Taken) -> list[Any]:
    """Those that were not taken as they are now; what was changed first comes first."""
    return sorted((file for file in listed if not taken.has(file)), key=_by_time)


def files_of_range(listed: Sequence[Any], before: Taken, until: Taken) -> list[Any]:
    """The files that a batch took whose range is known. One that was changed since is not its any more: the bookmark
    does not have its new version, so that a later batch takes it.

    Raises:
        DataError: some of them are gone.
    """
    wanted = until.records - before.records
    there = {record_of(file)[:_HASH] for file in listed}
    if missing := sum(record[:_HASH] not in there for record in wanted):
        raise DataError(
            f"{missing} of the {len(wanted)} files that this batch has taken are not there any more.",
            hint="its input is in the archive: tidemill replay, without --refetch",
        )
    return sorted((file for file in listed if record_of(file) in wanted), key=_by_time)


def _by_time(file: Listed) -> tuple[bool, float, str]:
    return file.modified_at is None, file.modified_at.timestamp() if file.modified_at else 0.0, file.path


def settled(files: Iterable[Any], now: datetime, age: timedelta) -> tuple[list[Any], list[Any]]:
    """Files that have not been changed for `age`, and the others. Where no times are told, a second look must do."""
    old: list[Any] = []
    young: list[Any] = []
    for file in files:
        (old if file.modified_at is None or file.modified_at <= now - age else young).append(file)
    return old, young


def unchanged(first: Iterable[Any], second: Iterable[Listed]) -> tuple[list[Any], list[Any]]:
    """Of files at a first look, those that are the same at a second one, and the others."""
    versions = {file.path: file.version for file in second}
    same: list[Any] = []
    moving: list[Any] = []
    for file in first:
        (same if versions.get(file.path) == file.version and file.path in versions else moving).append(file)
    return same, moving


def marker_of(path: str, done: str) -> str:
    """The file that says that another one is complete: `done` with its name, in the same folder."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + done.replace("{name}", name)


def is_marker(path: str, done: str, paths: Sequence[str] | frozenset[str]) -> bool:
    """Whether a file is a marker itself, of another one or of its whole folder."""
    name = path.rpartition("/")[2]
    before, braces, after = done.partition("{name}")
    if not braces:
        return name == done
    inner = name[len(before) : len(name) - len(after)] if after else name[len(before) :]
    fits = name.startswith(before) and name.endswith(after) and bool(inner) and name != inner
    return fits and path[: len(path) - len(name)] + inner in paths
