"""The archive: every raw input, kept as it came, found by batch (rule 9).

    <pipeline>/<source>/dt=<interval start>/batch=<id>/a<attempt>-<nnnn>-<name>     parts, write-once
                                                       manifest.v<version>.json     written last: it selects the parts
                                                       schema.v<version>.json       what the first load found in them

An attempt that dies leaves parts that no manifest names; they are garbage and never read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, BinaryIO, cast

from tidemill.model.batch import (
    Batch,
    Contents,
    Interval,
    Manifest,
    Part,
    contents_from_json,
    contents_to_json,
)
from tidemill.model.errors import DataError, SettingsError
from tidemill.ports.files import Files, Seals

_CHUNK = 1 << 20
#: `<pipeline>/<source>/dt=.../batch=.../a<attempt>-<nnnn>-<name>`
_PART = re.compile(r"[^/]+/[^/]+/dt=[^/]+/batch=\d+/a\d+-\d{4}-[^/]+")
#: Rows between two reports of progress.
_TELL_EVERY = 1000


class HashingWriter:
    """A binary stream that counts and hashes what is written through it; `told` is called with the count so far."""

    def __init__(self, stream: BinaryIO, told: Callable[[int], None]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self._told = told
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Write on, hashing."""
        self._sha256.update(data)
        self.bytes += len(data)
        self._told(self.bytes)
        return self._stream.write(data)

    def flush(self) -> None:
        """Flush the stream below."""
        self._stream.flush()

    @property
    def sha256(self) -> str:
        """The hash of all that was written, in hex."""
        return self._sha256.hexdigest()


def folder_of(batch: Batch, source: str) -> str:
    """The folder of a batch's input from one source."""
    start = batch.key.interval.start if batch.key.interval else batch.created_at
    stamp = start.strftime("%Y-%m-%d" if (start.hour, start.minute) == (0, 0) else "%Y-%m-%dT%H%M")
    return f"{batch.pipeline}/{source}/dt={stamp}/batch={batch.id}"


@dataclass
class PartsWriter:
    """Adds parts to one extraction and seals them with a manifest."""

    files: Files
    folder: str
    attempt: int
    parts: list[Part] = field(default_factory=list)
    #: The key that encrypts what is written; None: none does.
    key: str | None = None
    #: Called with the rows and the bytes of all parts so far, as they are written.
    progress: Callable[[int, int], None] = lambda _rows, _bytes: None
    rows: int = 0
    bytes: int = 0

    def counted(self, rows: Iterable[Any]) -> Iterator[Any]:
        """The rows, counted as they pass."""
        for row in rows:
            self.rows += 1
            if not self.rows % _TELL_EVERY:
                self.progress(self.rows, self.bytes)
            yield row

    def add(self, name: str, write: Callable[[BinaryIO], int | None], **known: Any) -> Part:
        """Add a part by letting `write` fill a stream; what it returns is the number of rows, if it knows."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("\\", "/").rsplit("/", 1)[-1]).lstrip(".") or "part"
        path = f"{self.folder}/a{self.attempt}-{len(self.parts):04d}-{safe[-120:]}"
        # A dead attempt of the same number cannot be in the way: attempts are never reused.
        before = self.bytes

        def told(written: int) -> None:
            self.bytes = before + written
            self.progress(self.rows, self.bytes)

        with self.files.create(path) as stream:
            hashing = HashingWriter(stream, told)
            rows = write(cast(BinaryIO, hashing))
        part = Part(path, name, hashing.sha256, hashing.bytes, rows=rows, key=self.key, **known)
        self.parts.append(part)
        return part

    def copy(self, name: str, stream: BinaryIO) -> Part:
        """Add a file byte for byte."""

        def write(out: BinaryIO) -> None:
            shutil.copyfileobj(stream, out, _CHUNK)

        return self.add(name, write)


class Archive:
    """Parts and manifests over the files port.

    Args:
        files: where they lie.
        seals: tells of their encryption; None: there is none.
    """

    def __init__(self, files: Files, seals: Seals | None = None) -> None:
        self.files = files
        self._seals = seals

    @property
    def key(self) -> str | None:
        """The key that encrypts what is written now; None: none does."""
        return self._seals.key_name if self._seals is not None else None

    def writer(self, batch: Batch, source: str, attempt: int) -> PartsWriter:
        """Begin an extraction."""
        return PartsWriter(self.files, folder_of(batch, source), attempt, key=self.key)

    def seal(self, batch: Batch, manifest: Manifest) -> None:
        """Write the manifest: from now on the extraction exists."""
        path = f"{folder_of(batch, manifest.source)}/manifest.v{manifest.version}.json"
        with self.files.create(path) as stream:
            stream.write(json.dumps(_to_json(manifest), indent=1, ensure_ascii=False).encode())

    def describe(self, batch: Batch, manifest: Manifest, contents: Contents) -> Manifest:
        """Keep beside the manifest what a load has found in its parts: rows and schema of raw files are known only
        then. The first load's words stand; gives the manifest with them.
        """
        path = _contents_path(folder_of(batch, manifest.source), manifest.version)
        try:
            with self.files.create(path) as stream:
                stream.write(json.dumps(contents_to_json(contents), indent=1, ensure_ascii=False).encode())
        except FileExistsError:
            return self._described(path, manifest)
        return manifest.described(contents)

    def sealed(self, batch: Batch, source: str) -> Manifest | None:
        """The newest sealed manifest, read from the archive itself: the index may lag behind after a crash."""
        folder = folder_of(batch, source)
        found = list(self._manifests(folder))
        return self._described(_contents_path(folder, found[-1].version), found[-1]) if found else None

    def _described(self, path: str, manifest: Manifest) -> Manifest:
        """The manifest with what its first load found, if there was one."""
        if self.files.info(path) is None:
            return manifest
        with self.files.open(path) as stream:
            contents = contents_from_json(json.load(stream))
        return manifest.described(contents) if contents else manifest

    def sealed_paths(self, folder: str) -> set[str]:
        """Paths of the parts that the manifests of a folder name."""
        return {part.path for manifest in self._manifests(folder) for part in manifest.parts}

    @staticmethod
    def is_part(path: str) -> bool:
        """True for an archived part of a batch; false for manifests and for the failing rows that checks keep."""
        return _PART.fullmatch(path) is not None

    def _manifests(self, folder: str) -> Iterator[Manifest]:
        """The manifests of a folder, oldest first."""
        for version in count(1):
            path = f"{folder}/manifest.v{version}.json"
            if self.files.info(path) is None:
                return
            with self.files.open(path) as stream:
                yield _from_json(json.load(stream))

    def open(self, part: Part) -> BinaryIO:
        """Open a part after checking that it still has the size that its manifest says.

        Raises:
            DataError: the part is missing or was changed.
            SettingsError: it is encrypted, and its key is not here.
        """
        if part.key is not None and (self._seals is None or not self._seals.is_sealed(part.path)):
            name = part.key.partition("/")[0]
            if self._seals is None:
                raise SettingsError(
                    f'The archived file "{part.path}" is encrypted by "{name}", which the settings do not name.',
                    hint=f'[archive] keys = ["{name}"]',
                )
            if self.files.info(part.path) is not None:
                raise DataError(f'The archived file "{part.path}" was encrypted, and what lies there now is not.')
        info = self.files.info(part.path)
        if info is None or info.bytes != part.bytes:
            found = "is missing" if info is None else f"has {info.bytes} bytes instead of {part.bytes}"
            raise DataError(
                f'The archived file "{part.path}" {found}.',
                hint="restore it from a backup, or extract again: tidemill run ... --refetch",
            )
        return self.files.open(part.path)


def _contents_path(folder: str, version: int) -> str:
    return f"{folder}/schema.v{version}.json"


def _to_json(manifest: Manifest) -> dict[str, Any]:
    interval = manifest.interval
    return {
        "batch_id": manifest.batch_id,
        "pipeline": manifest.pipeline,
        "source": manifest.source,
        "version": manifest.version,
        "attempt": manifest.attempt,
        "interval": [interval.start.isoformat(), interval.end.isoformat()] if interval else None,
        "extracted_at": manifest.extracted_at.isoformat(),
        "code_version": manifest.code_version,
        "bookmark_before": manifest.bookmark_before,
        "bookmark_after": manifest.bookmark_after,
        "bytes": manifest.bytes,
        "rows": manifest.rows,
        "parts": [
            {
                "path": p.path,
                "name": p.name,
                "sha256": p.sha256,
                "bytes": p.bytes,
                "rows": p.rows,
                "format": p.format,
                "compression": p.compression,
                **({"key": p.key} if p.key else {}),
            }
            for p in manifest.parts
        ],
    }


def _from_json(data: dict[str, Any]) -> Manifest:
    interval = data["interval"]
    return Manifest(
        batch_id=data["batch_id"],
        pipeline=data["pipeline"],
        source=data["source"],
        version=data["version"],
        attempt=data["attempt"],
        parts=tuple(Part(**p) for p in data["parts"]),
        extracted_at=datetime.fromisoformat(data["extracted_at"]),
        code_version=data["code_version"],
        interval=Interval(*(datetime.fromisoformat(t) for t in interval)) if interval else None,
        bookmark_before=data["bookmark_before"],
        bookmark_after=data["bookmark_after"],
    )
