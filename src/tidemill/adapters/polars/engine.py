"""The frame engine by Polars: see `tidemill.ports.frame_engine` for what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa

from tidemill.adapters.polars.errors import running
from tidemill.adapters.polars.holding import HELD_IN_MEMORY, Holder
from tidemill.adapters.polars.run import Run, Undeclared
from tidemill.adapters.polars.scan import Scanner
from tidemill.adapters.polars.tables import import_pandas, to_arrow, to_lazy, to_pandas
from tidemill.adapters.polars.types import polars_schema, table_schema
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.frame import Frame, Input, as_frame
from tidemill.model.frame.operation import function_name
from tidemill.model.table import Scan, Schema


class PolarsEngine:
    """Runs frames by Polars' streaming engine.

    Args:
        open_file: opens a data file by its path, where files are not local.
        storage_options: how Polars reaches them, as in `pl.scan_parquet`.
        held_in_memory: bytes of rows that may wait behind a Python function in memory; more go to temporary files.
    """

    def __init__(
        self,
        *,
        open_file: Callable[[str], BinaryIO] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        held_in_memory: int = HELD_IN_MEMORY,
    ) -> None:
        self._scanner = Scanner(open_file, storage_options)
        self._held_in_memory = held_in_memory

    def lazy(self, scan: Scan) -> pl.LazyFrame:
        """The rows of a scan as a Polars query, all columns of its schema, system columns too."""
        return self._scanner.lazy(scan)

    @contextmanager
    def batches(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> Iterator[pa.RecordBatchReader]:
        """Run a frame; gives a reader of its rows."""
        with self._run(inputs) as run:
            schema, rows = run.batches(frame)
            arrow = to_arrow(pl.DataFrame(schema=schema)).schema
            pieces = (batch for rows_ in rows for batch in to_arrow(rows_).to_batches())
            try:
                yield pa.RecordBatchReader.from_batches(arrow, pieces)
            finally:
                pieces.close()

    def columns(self, frame: Frame, inputs: Mapping[str, Scan | Schema | Any]) -> Schema | None:
        """The columns that a frame will give, or None where a function decides."""
        with self._run(inputs, dry=True) as run:
            try:
                schema, _ = run.batches(frame)
            except Undeclared:
                return None
            return table_schema(schema)

    def collect(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> pl.DataFrame:
        """Run a frame; gives all of its rows, in Polars' own types."""
        with self._run(inputs) as run:
            query = run.query(frame)
            if query.nothing:
                return pl.DataFrame()
            with running(query.steps):
                return query.lazy.collect(engine="streaming")

    def to_arrow(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> pa.Table:
        """Run a frame; gives all of its rows, in types that tables can hold."""
        with self.batches(frame, inputs) as reader:
            return reader.read_all()

    def to_pandas(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> Any:
        """Run a frame; gives all of its rows as a pandas DataFrame, see `tables.to_pandas`."""
        import_pandas()
        return to_pandas(self.to_arrow(frame, inputs))

    def call_pandas(
        self, function: Callable[..., Any], arguments: Mapping[str, Frame | Any], inputs: Mapping[str, Scan | Any]
    ) -> Frame:
        """Call a function that takes and returns pandas DataFrames; gives its result as a frame."""
        pd = import_pandas()
        given = {n: self.to_pandas(a, inputs) if isinstance(a, Frame) else a for n, a in arguments.items()}
        name = function_name(function)
        result = function(**given)
        if isinstance(result, pd.DataFrame):
            return Frame.literal(result, name)
        if isinstance(result, Frame):
            raise DefinitionError(
                f'"{name}" takes pandas frames and returned a Tidemill frame.', hint="return a pandas DataFrame"
            )
        return as_frame(result, name)

    @contextmanager
    def _run(self, inputs: Mapping[str, Any], *, dry: bool = False) -> Iterator[Run]:
        holder = Holder(self._held_in_memory)
        try:
            yield Run(lambda source: self._read(source, inputs), holder, dry=dry)
        finally:
            holder.close()

    def _read(self, source: Input, inputs: Mapping[str, Any]) -> pl.LazyFrame:
        if source.scope == "literal":
            return to_lazy(source.data, source.name)
        if source.key not in inputs:
            raise UnknownName.of("input", source.key, inputs)
        rows = inputs[source.key]
        match rows:
            case Scan():
                return self.lazy(rows)
            case Schema():
                return pl.LazyFrame(schema=polars_schema(rows))
            case _:
                return to_lazy(rows, source.name)
