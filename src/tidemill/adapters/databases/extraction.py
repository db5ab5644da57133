"""What reads of databases have in common: a folder for pieces that are not in the archive yet, a bookmark, a place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tidemill.model.batch import Bookmark
from tidemill.model.errors import TidemillError
from tidemill.ports.source import ExtractRequest


class PiecesExtraction:
    """A running read whose pieces are files. Use as a context: nothing of it is left behind.

    Args:
        request: what is asked for.
        place: where the source was declared, for errors.
    """

    def __init__(self, request: ExtractRequest, place: str) -> None:
        self._request = request
        self._place = place
        self._stack = ExitStack()
        self._folder = Path()
        self._after: Bookmark = request.bookmark

    @property
    def bookmark_after(self) -> Bookmark:
        """How far it has read."""
        return self._after

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tidemill-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Errors say where the source was declared."""
        try:
            yield
        except TidemillError as error:
            error.where = error.where or self._place
            raise
