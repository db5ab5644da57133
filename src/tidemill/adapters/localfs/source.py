"""The port `source` for files on this machine: a rendered pattern, read byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.model.batch import Batch, Bookmark
from tidemill.model.errors import DataError, Refused
from tidemill.model.pipeline import FilesOrigin, SourceSpec
from tidemill.ports.source import ExtractRequest, Piece, RawFile

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class LocalFilesSource:
    """Files below a root. `render` turns the pattern's template into a path for a batch."""

    spec: SourceSpec
    root: Path
    render: Callable[[str, ExtractRequest], str]

    def extract(self, request: ExtractRequest) -> FilesExtraction:
        """Find the files of a batch."""
        assert isinstance(self.spec.origin, FilesOrigin)
        pattern = self.render(self.spec.origin.pattern, request)
        found = self._find(pattern)
        if not found and not self.spec.origin.optional:
            raise DataError(
                f'No file matches "{pattern}" for {_named(request.batch)}.',
                where=self.spec.place,
                hint=f"looked in {self.root}; files(..., optional=True) takes a missing file as an empty batch",
            )
        return FilesExtraction(self.root, found)

    def _find(self, pattern: str) -> list[Path]:
        """Files that match, in the order of their paths; each must lie below the root."""
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise Refused(
                f'The pattern "{pattern}" leaves the project.', where=self.spec.place, hint="a path inside the project"
            )
        if _GLOB & set(pattern):
            found = sorted(p for p in self.root.glob(pattern) if p.is_file())
        else:
            found = [self.root / pattern] if (self.root / pattern).is_file() else []
        for path in found:
            if not path.resolve().is_relative_to(self.root.resolve()):
                inside = path.relative_to(self.root)
                raise Refused(f'"{inside}" is a link out of the project.', where=self.spec.place, hint="copy the file")
        return found


def _named(batch: Batch) -> str:
    return f"{batch.key.interval or batch.key.run_key} of {batch.pipeline}"


class FilesExtraction:
    """Files as pieces."""

    bookmark_after: Bookmark = None

    def __init__(self, root: Path, paths: list[Path]) -> None:
        self._root = root
        self._paths = paths

    def __enter__(self) -> FilesExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Piece]:
        for path in self._paths:
            yield RawFile(path.relative_to(self._root).as_posix(), lambda path=path: path.open("rb"))  # type: ignore[misc]
