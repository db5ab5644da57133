"""Keeps batches until all have come, in memory while they are few, in temporary files when they are many.

Needed between a Python function and the steps behind it: its columns are known once all of its rows are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import polars as pl

from tidemill.adapters.polars.building import mixed
from tidemill.adapters.polars.meeting import NoMeeting, align, meet
from tidemill.model.frame.operation import Operation

_Piece: TypeAlias = "tuple[pl.Schema, pl.LazyFrame]"

#: Bytes of rows kept in memory before they are written out.
HELD_IN_MEMORY = 128 << 20


class Holder:
    """Holds the rows of one run. Its files live in a temporary folder that `close` removes."""

    def __init__(self, limit: int = HELD_IN_MEMORY) -> None:
        self._limit = limit
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def hold(self, batches: Iterable[pl.DataFrame], step: Operation) -> pl.LazyFrame | None:
        """All rows of `batches`, in order; None where not even one batch came.

        Raises:
            DefinitionError: batches have types that do not meet; `step` is whose they are.
        """
        pieces: list[_Piece] = []
        waiting: list[pl.DataFrame] = []
        size = 0
        for batch in batches:
            waiting.append(batch)
            size += int(batch.estimated_size())
            if size > self._limit:
                pieces += [self._written(rows) for rows in _together(waiting)]
                waiting, size = [], 0
        pieces += [(rows.schema, rows.lazy()) for rows in _together(waiting)]
        if not pieces:
            return None
        try:
            schema = meet([found for found, _ in pieces])
        except NoMeeting as error:
            raise mixed(error.column, str(error), step) from None
        aligned = [align(lazy, found, schema) for found, lazy in pieces]
        return aligned[0] if len(aligned) == 1 else pl.concat(aligned, how="vertical")

    def _written(self, rows: pl.DataFrame) -> _Piece:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="tidemill-rows-")
        path = Path(self._folder.name) / f"{self._files}.arrow"
        self._files += 1
        rows.write_ipc(path, compression="lz4")
        return rows.schema, pl.scan_ipc(path)

    def close(self) -> None:
        """Remove the temporary files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _together(batches: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Neighbouring batches of the same columns as one."""
    for _, same in groupby(batches, key=lambda batch: batch.schema):
        yield pl.concat(list(same), how="vertical", rechunk=False)
