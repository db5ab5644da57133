"""Port `source` on a resource of dlt: it is iterated over with the state of the last published batch.

dlt has the state of a resource in a context that a pipeline of its own injects. Here it is injected from the bookmark,
and what the resource has made of it is the next one: nothing of dlt's is kept anywhere else. Records are archived as
they were yielded; tables of Arrow, pandas and Polars as Parquet, so that they keep their types.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, cast

from tidemill.model.batch import Bookmark
from tidemill.model.dlt import DltFeed
from tidemill.model.errors import DataError, SettingsError, TidemillError
from tidemill.model.pipeline import SourceSpec
from tidemill.ports.source import ExtractRequest, Piece, RawFile, Records

#: Bytes of tables in one part, as Arrow counts them, and of the part that are held in memory.
_PART, _IN_MEMORY = 64 << 20, 8 << 20


class DltSource:
    """A resource.

    Args:
        spec: the feed.
        feed: its origin.
    """

    def __init__(self, spec: SourceSpec, feed: DltFeed) -> None:
        self._spec = spec
        self._feed = feed

    def extract(self, request: ExtractRequest) -> DltExtraction:
        """Go on from the state of the last batch."""
        return DltExtraction(self._spec, self._feed, request.bookmark)


class DltExtraction:
    """A resource that runs, as pieces."""

    def __init__(self, spec: SourceSpec, feed: DltFeed, bookmark: Bookmark) -> None:
        self._spec = spec
        self._feed = feed
        self._state: dict[str, Any] = {} if bookmark is None else _from_json(bookmark)
        self._items: Any = None

    def __enter__(self) -> DltExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    @property
    def bookmark_after(self) -> Bookmark:
        """The state as the resource has left it."""
        made: Bookmark = _as_json(self._state)
        return made

    def __iter__(self) -> Iterator[Piece]:
        self._items = _Items(self._feed.resource, self._state, self._spec)
        waiting: Iterator[Any] = chain.from_iterable(map(self._parts_of, self._items))
        first = next(waiting, None)
        while first is not None:
            if isinstance(first, Mapping):
                run = _Run(first, waiting, lambda one: isinstance(one, Mapping))
                yield Records(run)
            else:
                schema = first.schema
                run = _Run(first, waiting, lambda one, s=schema: not isinstance(one, Mapping) and one.schema == s)
                yield from _files(run)
            first = run.next()

    def _parts_of(self, item: Any) -> Iterator[Any]:
        """One yielded thing as records and tables of Arrow."""
        if isinstance(item, Mapping):
            yield item
        elif isinstance(item, list | tuple):
            for part in item:
                yield from self._parts_of(part)
        elif (table := _table(item)) is not None:
            yield table
        elif hasattr(item, "model_dump"):  # Pydantic
            yield item.model_dump()
        elif item is not None:
            raise DataError(
                f'The resource "{self._feed.resource.name}" yielded a {type(item).__name__}, which is no row.',
                where=self._spec.place,
                hint="yield mappings, lists of them, or tables of Arrow, pandas or Polars",
            )


class _Items:
    """What a resource yields, with its state in place; what it raises is told with the place of the feed."""

    def __init__(self, resource: Any, state: dict[str, Any], spec: SourceSpec) -> None:
        try:
            from dlt.common.configuration.container import Container
            from dlt.common.pipeline import StateInjectableContext
        except ImportError:
            raise SettingsError("dlt is not installed.", where=spec.place, hint='pip install "tidemill[dlt]"') from None
        self._spec = spec
        self._name = resource.name
        with Container().injectable_context(StateInjectableContext(state=cast(Any, state))):
            self._inner = self._guarded(lambda: iter(resource))

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        return self._guarded(lambda: next(self._inner))

    def close(self) -> None:
        """Let the resource end."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()

    def _guarded(self, act: Any) -> Any:
        try:
            return act()
        except (StopIteration, TidemillError):
            raise
        except Exception as error:
            cause = error.__cause__ or error
            raise DataError(
                f'The resource "{self._name}" failed: {type(cause).__name__}: {cause}', where=self._spec.place
            ) from error


class _Run:
    """Neighbours of one kind; `next` gives the first that is of another, once they are taken."""

    def __init__(self, first: Any, others: Iterator[Any], alike: Any) -> None:
        self._first = first
        self._others = others
        self._alike = alike
        self._after: Any = None

    def __iter__(self) -> Iterator[Any]:
        yield self._first
        for one in self._others:
            if not self._alike(one):
                self._after = one
                return
            yield one

    def next(self) -> Any:
        """What comes after them."""
        return self._after


def _table(item: Any) -> Any:
    """A table of Arrow that has the rows of a table of some kind; None: it is none."""
    import pyarrow as pa

    if isinstance(item, pa.RecordBatch):
        return pa.Table.from_batches([item])
    if isinstance(item, pa.Table):
        return item
    if hasattr(item, "iter_rows") and hasattr(item, "to_arrow"):  # Polars
        return item.to_arrow()
    if hasattr(item, "to_dict") and hasattr(item, "columns"):  # pandas
        return pa.Table.from_pandas(item, preserve_index=False).replace_schema_metadata(None)
    return None


def _files(tables: Iterable[Any]) -> Iterator[RawFile]:
    """Tables of one schema, as files of bounded size."""
    import pyarrow.parquet as pq

    left = iter(tables)
    number = 0
    while (table := next(left, None)) is not None:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
            size = 0
            with pq.ParquetWriter(kept, table.schema, compression="zstd") as writer:
                while table is not None:
                    writer.write_table(table)
                    size += table.nbytes
                    table = next(left, None) if size < _PART else None
            kept.seek(0)
            yield RawFile(f"tables-{number:04d}.parquet", partial(_lent, cast(BinaryIO, kept)))
        number += 1


@contextmanager
def _lent(kept: BinaryIO) -> Iterator[BinaryIO]:
    """The file for as long as it is read; whoever made it closes it."""
    yield kept


def _as_json(state: dict[str, Any]) -> Any:
    """The state as a bookmark: dlt's own JSON, which marks times, decimals and the like."""
    from dlt.common.json import json as dlt_json

    return json.loads(dlt_json.typed_dumps(state))


def _from_json(bookmark: Bookmark) -> dict[str, Any]:
    from dlt.common.json import json as dlt_json

    found = dlt_json.typed_loads(json.dumps(bookmark))
    return found if isinstance(found, dict) else {}
