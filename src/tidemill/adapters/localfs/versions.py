"""Versions of a project's code, kept by their contents, so that a run goes on with the code that it began with.

A version is a list of paths and contents (`versions/<version>.json.gz`); contents that no version had before go into
one file together (`packs/`), as writing a file durably takes 0.5 ms, and a new project may have 5,000. Both are files
of the port `files`, so that other computers can have them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from tidemill.model.errors import DataError, UnknownName
from tidemill.plan.code import version_of
from tidemill.ports.codesource import Code, KeptVersion, Stamp
from tidemill.ports.files import Files, check_path

#: A version that would have to look into more packs gets one of its own.
_MOST_PACKS = 30
#: Looks at files that change while they are kept; then it is left to the next change to be heard of.
_TRIES = 5
#: Where a file's content is: its hash, the pack, where it begins there, how long it is there.
_Place: TypeAlias = tuple[str, str, int, int]


class CodeVersions:
    """Keeps versions of a project's code and gives them back as folders.

    Args:
        files: where they are kept.
        cache: the folder in which they are laid out for this computer's processes.
    """

    def __init__(self, files: Files, cache: Path) -> None:
        self._files = files
        self._cache = cache
        self._seen: dict[str, tuple[Stamp, bytes]] = {}
        self._seen_in: Path | None = None
        self._places: dict[str, _Place] | None = None

    def keep(self, root: Path, code: Code) -> KeptVersion:
        """Keep the code that is in a folder now; only files whose stamps have changed are read.

        Args:
            root: the folder.
            code: the stamps of its files.
        """
        for _ in range(_TRIES):
            digests = self._digests(root, code)
            name = version_of(digests)
            if self._files.info(_list_of(name)) is not None:
                if self._places is None:
                    self._places = {place[0]: place for place in self._read(name).values()}
                break
            if self._write(name, root, digests):
                break
        return KeptVersion(name, digests)

    def materialize(self, version: str) -> Path:
        """The folder with a version's files; made at first use, whole, whoever else does the same.

        Raises:
            UnknownName: there is no such version.
            DataError: what was kept is damaged.
        """
        folder = self._cache / _checked(version)
        if folder.is_dir():
            return folder
        making = self._cache / f".{version}-{uuid.uuid4().hex}"
        try:
            for path, content in self._contents(version):
                file = making / check_path(path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            making.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # somebody else was faster
                making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        if not folder.is_dir():
            raise DataError(f"The code of version {version} could not be laid out.", where=str(folder))
        return folder

    def clean(self, needed: frozenset[str], before: datetime) -> int:
        """Delete versions, and laid out folders, that nobody needs and that were kept before a time.

        Returns:
            How many versions were deleted.
        """
        lists = [info for info in self._files.list("versions/") if info.path.endswith(".json.gz")]
        names = {info.path: info.path.removeprefix("versions/").removesuffix(".json.gz") for info in lists}
        old = [info.path for info in lists if names[info.path] not in needed and info.modified_at < before]
        for path in old:
            self._files.delete(path)
        if old:
            # Lists are read only then: with 5,000 files each takes 8 ms.
            self._clean_packs({names[path] for path in names.keys() - set(old)}, before)
        for folder in self._cache.iterdir() if self._cache.is_dir() else ():
            aged = datetime.fromtimestamp(folder.stat().st_mtime, UTC) < before
            if folder.name not in needed and aged:
                shutil.rmtree(folder, ignore_errors=True)
        return len(old)

    def _clean_packs(self, versions: set[str], before: datetime) -> None:
        """Delete packs that none of these versions looks into."""
        left = {place[1] for version in versions for place in self._read(version).values()}
        for info in list(self._files.list("packs/")):
            if info.path not in left and info.modified_at < before:
                self._files.delete(info.path)

    def _digests(self, root: Path, code: Code) -> dict[str, bytes]:
        """Hashes of all files that can be read, in a new folder as in the same one by their stamps."""
        if root != self._seen_in:
            self._seen, self._seen_in = {}, root
        seen: dict[str, tuple[Stamp, bytes]] = {}
        for path, stamp in code.items():
            known = self._seen.get(path)
            if known is not None and known[0] == stamp:
                seen[path] = known
                continue
            with suppress(OSError):
                seen[path] = (stamp, hashlib.sha256((root / path).read_bytes()).digest())
        self._seen = seen
        return {path: digest for path, (_, digest) in seen.items()}

    def _write(self, name: str, root: Path, digests: dict[str, bytes]) -> bool:
        """Keep a version. False where files have changed since they were looked at: look again."""
        known = self._newest() if self._places is None else self._places
        wanted = {digest.hex(): path for path, digest in digests.items()}
        if len({known[sha][1] for sha in wanted if sha in known}) > _MOST_PACKS:
            known = {}
        new, packed = _packed(root, {sha: path for sha, path in wanted.items() if sha not in known})
        if packed:
            pack = f"packs/{hashlib.sha256(packed).hexdigest()}"
            new = {sha: (sha, pack, start, length) for sha, (_, _, start, length) in new.items()}
            self._put(pack, packed)
        places = {sha: new[sha] if sha in new else known[sha] for sha in wanted if sha in new or sha in known}
        self._places = places
        changed = [path for path, digest in digests.items() if digest.hex() not in places]
        for path in changed:
            del self._seen[path]
        if not changed:
            entries = {path: places[digest.hex()] for path, digest in sorted(digests.items())}
            text = json.dumps(entries, separators=(",", ":")).encode()
            self._put(_list_of(name), gzip.compress(text, 1, mtime=0))
        return not changed

    def _put(self, path: str, content: bytes) -> None:
        """Keep a file whose name says what is in it: another process may have done so."""
        try:
            with self._files.create(path) as stream:
                stream.write(content)
        except FileExistsError:
            if self._files.info(path) is None:
                raise

    def _newest(self) -> dict[str, _Place]:
        """The places of contents that another process has kept last."""
        lists = [info for info in self._files.list("versions/") if info.path.endswith(".json.gz")]
        if not lists:
            return {}
        newest = max(lists, key=lambda info: info.modified_at).path
        return {place[0]: place for place in self._entries(newest).values()}

    def _read(self, version: str) -> dict[str, _Place]:
        return self._entries(_list_of(_checked(version)))

    def _entries(self, path: str) -> dict[str, _Place]:
        with self._files.open(path) as stream:
            found: dict[str, Any] = json.loads(gzip.decompress(stream.read()))
        return {name: (place[0], place[1], place[2], place[3]) for name, place in found.items()}

    def _contents(self, version: str) -> Iterator[tuple[str, bytes]]:
        try:
            entries = self._read(version)
        except FileNotFoundError:
            known = (info.path[len("versions/") :].removesuffix(".json.gz") for info in self._files.list("versions/"))
            raise UnknownName.of("version of the code", version, known) from None
        packs: dict[str, bytes] = {}
        for path, (sha, pack, start, length) in entries.items():
            try:
                if pack not in packs:
                    with self._files.open(pack) as stream:
                        packs[pack] = stream.read()
                content = zlib.decompress(packs[pack][start : start + length])
            except (zlib.error, FileNotFoundError):
                content = b""
            if hashlib.sha256(content).hexdigest() != sha:
                raise DataError(f'"{path}" of version {version} is damaged.', where=self._files.url(pack))
            yield path, content


def _packed(root: Path, wanted: Mapping[str, str]) -> tuple[dict[str, _Place], bytes]:
    """The contents of files, one after the other; those that are not what they were by now are left out."""
    parts: list[bytes] = []
    places: dict[str, _Place] = {}
    at = 0
    for sha, path in wanted.items():
        with suppress(OSError):
            content = (root / path).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha:
                parts.append(zlib.compress(content, 1))
                places[sha] = (sha, "", at, len(parts[-1]))
                at += len(parts[-1])
    return places, b"".join(parts)


def _list_of(version: str) -> str:
    return f"versions/{version}.json.gz"


def _checked(version: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{12}", version):
        raise UnknownName(f'"{version}" is no version of code.')
    return version
