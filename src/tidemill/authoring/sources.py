"""Sources that are a user's generator function: what it yields becomes pieces for the archive."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from types import TracebackType
from typing import Any

from tidemill.authoring.context import RunContext
from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.pipeline import FunctionOrigin, SourceSpec
from tidemill.ports.source import ExtractRequest, Piece, RawFile, Records


class BookmarkCursor:
    """What a bookmark source is handed: where to go on (`value`), where to stop (`until`), and `advance`.

    `value` is None at the very first time. `until` is None, or the end of the range of a re-run.
    """

    def __init__(self, value: Bookmark, until: Bookmark = None) -> None:
        self.value = value
        self.until = until

    def advance(self, value: Bookmark) -> None:
        """Say how far the source has been read. It becomes the bookmark when, and only when, the batch publishes."""
        self.value = value


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """The port `source` over a user's generator function."""

    spec: SourceSpec

    def extract(self, request: ExtractRequest) -> FunctionExtraction:
        """Call the function with what its parameters ask for."""
        assert isinstance(self.spec.origin, FunctionOrigin)
        function = self.spec.origin.function
        cursor = BookmarkCursor(request.bookmark, request.until)
        offered = {
            "interval": request.interval,
            "bookmark": cursor,
            "batch": request.batch,
            "context": RunContext.of(request.batch, request.parameters),
        }
        wanted = {name: offered[name] for name in inspect.signature(function).parameters}
        if "interval" in wanted and request.interval is None:
            raise DefinitionError(
                f'Source "{self.spec.name}" asks for an interval, and this run has none.',
                where=self.spec.place,
                hint='give the pipeline a schedule, e.g. schedule="@daily"',
            )
        return FunctionExtraction(self.spec, function, wanted, cursor)


class FunctionExtraction:
    """A running user generator, as pieces: runs of records, and raw files."""

    def __init__(
        self, spec: SourceSpec, function: Callable[..., Any], wanted: dict[str, Any], cursor: BookmarkCursor
    ) -> None:
        self._spec = spec
        self._function = function
        self._wanted = wanted
        self._cursor = cursor
        self._generator: Any = None

    def __enter__(self) -> FunctionExtraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._generator, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[Piece]:
        self._generator = self._function(**self._wanted)
        if self._generator is None:
            return
        items = chain.from_iterable(map(self._flat, self._generator))
        for is_file, run in groupby(items, key=lambda item: isinstance(item, RawFile)):
            if is_file:
                yield from run
            else:
                yield Records(run)

    def _flat(self, item: Any) -> Iterator[Any]:
        """One yielded thing as rows or files: a row, a list of rows, a table of any known kind."""
        if isinstance(item, Mapping | RawFile):
            yield item
        elif isinstance(item, list | tuple):
            for part in item:
                yield from self._flat(part)
        elif hasattr(item, "to_pylist"):  # Arrow
            yield from item.to_pylist()
        elif hasattr(item, "iter_rows"):  # Polars
            yield from item.iter_rows(named=True)
        elif hasattr(item, "to_dict"):  # pandas
            yield from item.to_dict(orient="records")
        else:
            raise DataError(
                f'Source "{self._spec.name}" yielded a {type(item).__name__}, which is no row.',
                where=self._spec.place,
                hint="yield mappings such as {'id': 1}, lists of them, data frames, or tm.RawFile(...)",
            )

    @property
    def bookmark_after(self) -> Bookmark:
        """Where the function said that the next batch goes on."""
        return self._cursor.value
