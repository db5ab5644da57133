"""Files as a source: what a pattern finds in a place, new or changed if that is asked for, and complete.

A transfer that breaks is taken up where it broke, a few times; what was changed meanwhile is never joined together.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, TypeVar, cast

from tidemill.model.batch import Batch, Bookmark
from tidemill.model.errors import DataError, Unreachable
from tidemill.model.pipeline import FilesOrigin, SourceSpec
from tidemill.plan.arrivals import (
    Taken,
    files_of_range,
    is_marker,
    marker_of,
    new_files,
    settled,
    unchanged,
)
from tidemill.plan.globs import Glob
from tidemill.ports.clock import Clock
from tidemill.ports.places import Found, Place
from tidemill.ports.source import ExtractRequest, Piece, RawFile

#: What a place that does not answer is asked again, and the seconds in between.
_PAUSES = (1.0, 3.0, 10.0)
#: Between two looks at files that may grow.
_LOOKS_APART = timedelta(seconds=5)
#: How many times `complete_after` a run waits for the files of its interval.
_PATIENCE = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FilesSource:
    """The port `source` over a place.

    Args:
        spec: the feed.
        place: opens the place.
        render: makes the pattern for a batch, of the origin's template.
        clock: waits for what is not complete, and for what does not answer.
    """

    spec: SourceSpec
    place: Callable[[], Place]
    render: Callable[[ExtractRequest], str]
    clock: Clock

    def extract(self, request: ExtractRequest) -> FilesExtraction:
        """Begin; nothing is asked of the place before the first piece."""
        return FilesExtraction(self.spec, self.place(), Glob(self.render(request)), request, self.clock)


class FilesExtraction:
    """Files as pieces."""

    def __init__(self, spec: SourceSpec, place: Place, glob: Glob, request: ExtractRequest, clock: Clock) -> None:
        assert isinstance(spec.origin, FilesOrigin)
        self._spec = spec
        self._origin = spec.origin
        self._place = place
        self._glob = glob
        self._request = request
        self._clock = clock
        self.bookmark_after: Bookmark = None

    def __enter__(self) -> FilesExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        self._place.close()

    def __iter__(self) -> Iterator[Piece]:
        for found in self._chosen():
            yield RawFile(found.name, lambda found=found: self._opened(found))  # type: ignore[misc]

    def _chosen(self) -> list[Found]:
        if self._origin.new:
            return self._new()
        files = self._waited_for()
        if not files and not self._origin.optional:
            raise DataError(
                f'No file matches "{self._glob.text}" for {_named(self._request.batch)}.',
                where=self._spec.place,
                hint=f"looked in {self._place}; optional=True takes a missing file as an empty batch",
            )
        return files

    def _new(self) -> list[Found]:
        """What is new or changed, and complete; it sets the bookmark."""
        before = Taken.of(self._request.bookmark)
        listed, unmarked = self._listed()
        if self._request.until is not None:
            self.bookmark_after = self._request.until
            return files_of_range(listed + unmarked, before, Taken.of(self._request.until))
        took, _ = self._complete(new_files(listed, before))
        # What is not complete yet, or changed since it was taken, stays what it was for the next batch.
        self.bookmark_after = before.after(listed + unmarked, took).bookmark
        return took

    def _waited_for(self) -> list[Found]:
        """The files of an interval, all of them complete. Raises Unreachable: they are not, for all the waiting."""
        age = self._origin.complete_after
        waited = timedelta()
        while True:
            listed, unmarked = self._listed()
            files, growing = self._complete(listed)
            if unmarked:
                one = unmarked[0].path
                raise Unreachable(
                    f'"{one}" is there, and "{marker_of(one, self._origin.done or "")}" is not: it is not complete.',
                    where=f"{self._place}",
                    hint="retries=5 on the pipeline tries again later",
                )
            if not growing or age is None:
                return sorted(files, key=lambda file: file.path.split("/"))
            if waited > _PATIENCE * age:
                raise Unreachable(
                    f'"{growing[0].path}" goes on being written.',
                    where=f"{self._place}",
                    hint="retries=5 on the pipeline tries again later",
                )
            self._clock.sleep(age.total_seconds())
            waited += age

    def _listed(self) -> tuple[list[Found], list[Found]]:
        """Files that match: those that are marked as complete, or need not be, and the others."""
        files = self._asked(lambda: list(self._place.list(self._glob)))
        done = self._origin.done
        if done is None:
            return files, []
        folder, slash, name = self._glob.text.rpartition("/")
        pattern = Glob(folder + slash + done.replace("{name}", name))
        markers = {file.path for file in self._asked(lambda: list(self._place.list(pattern)))}
        paths = frozenset(file.path for file in files)
        data = [file for file in files if not is_marker(file.path, done, paths)]
        marked = [file for file in data if marker_of(file.path, done) in markers]
        return marked, [file for file in data if marker_of(file.path, done) not in markers]

    def _complete(self, files: list[Found]) -> tuple[list[Found], list[Found]]:
        """Files that nobody has changed for a while, also between two looks; and the others."""
        age = self._origin.complete_after
        if age is None or not files:
            return files, []
        old, young = settled(files, self._clock.now(), age)
        if not old:
            return [], young
        self._clock.sleep(min(age, _LOOKS_APART).total_seconds())
        again = self._asked(lambda: list(self._place.list(self._glob)))
        same, moving = unchanged(old, again)
        return same, [*young, *moving]

    def _asked(self, ask: Callable[[], T]) -> T:
        """What the place says; one that does not answer is asked again."""
        for pause in _PAUSES:
            try:
                return ask()
            except Unreachable:
                self._clock.sleep(pause)
        return ask()

    @contextmanager
    def _opened(self, found: Found) -> Iterator[BinaryIO]:
        """A file's bytes; at the end it is sure that they are of one version, and all of them."""
        stream = _Resumed(self._place, found, self._clock)
        try:
            yield cast(BinaryIO, stream)
        finally:
            stream.close()
        now = self._asked(lambda: self._place.look(found.path))
        if found.version is not None and (now is None or now.version != found.version):
            raise changed(self._place, found)


def changed(place: Place, found: Found) -> Unreachable:
    """The error for a file that is another one by now."""
    return Unreachable(
        f'"{found.name}" was changed or removed while it was read.',
        where=str(place),
        hint='run again; complete_after="1m" leaves out what is still being written',
    )


class _Resumed(io.RawIOBase):
    """A stream that is opened again, where it broke, a few times."""

    def __init__(self, place: Place, found: Found, clock: Clock) -> None:
        super().__init__()
        self._place = place
        self._found = found
        self._clock = clock
        self._at = 0
        self._pauses = list(_PAUSES)
        self._stream: BinaryIO | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; none only at the end."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        while True:
            try:
                piece = self._piece(size)
            except FileNotFoundError:
                raise changed(self._place, self._found) from None
            except Unreachable as error:
                self._again(error)
                continue
            if self._found.bytes is not None and self._at > self._found.bytes:
                raise changed(self._place, self._found)
            return piece

    def _piece(self, size: int) -> bytes:
        if self._stream is None:
            self._stream = self._place.open(self._found, self._at)
        piece = self._stream.read(size)
        self._at += len(piece)
        wanted = self._found.bytes
        if not piece and size and wanted is not None and self._at < wanted:
            raise Unreachable(
                f'"{self._found.name}" ends after {self._at:,} of {wanted:,} bytes.', where=str(self._place)
            )
        return piece

    def _again(self, error: Unreachable) -> None:
        """Wait, and see whether it is still the same file. Raises `error`: patience is at its end."""
        self._let_go()
        if not self._pauses:
            raise error
        self._clock.sleep(self._pauses.pop(0))
        try:
            now = self._place.look(self._found.path)
        except Unreachable:
            return
        if now is None or now.version != self._found.version:
            raise changed(self._place, self._found)

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except (OSError, Unreachable, EOFError):
                return

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; returns how far."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close it."""
        self._let_go()
        super().close()


def _named(batch: Batch) -> str:
    return f"{batch.key.interval or batch.key.run_key} of {batch.pipeline}"
