"""Port `frame engine`: runs frames over scans of tables and rows in memory, and gives Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tidemill.model.frame import Frame
from tidemill.model.table import Scan, Schema


class FrameEngine(Protocol):
    """Runs frames.

    `inputs` maps each `Input.key` of the frame to its rows: a `Scan`, or a table in memory (Polars, Arrow,
    pandas). Literal inputs bring their rows along.

    Promises:
      - The rows are those that the steps say, whatever the files look like inside: a column that a file lacks is
        null, one that it holds under an older name or in a narrower type is found by its field id, a dropped one
        does not come back. A scan's rows come in the order of its files.
      - Stateless steps keep the order of rows. A stateful step's result has an order that depends on its input
        only, so that a replay gives the same table.
      - Memory is bounded by a few batches, however many rows there are, for scanning, stateless steps, and
        functions at the end of a frame that declare what they return. What stands behind another function waits
        in memory up to a limit, then in temporary files. Group-by and tumbling and hopping windows hold their
        groups (with their values where all are needed: quantile, collect, reduce); joins the right frame;
        `unique` the rows it keeps; `reduce` its states. Sliding, session and count windows, `unique(within=)`,
        `join_asof`, `join_interval` and `map_with_state` sort: they hold the columns in use, the last one its states.
      - The user's Python functions run in the thread that reads the result, so that breakpoints and debuggers
        stop in them; each is called once per row. Their exceptions come out as they are, with a note that says
        step, row number and row. (Functions inside expressions, `pl.Expr.map_elements`, run in engine threads.)
      - A mistake in the frame is a UserError with the user's line, before any row is read where the columns
        tell; a value that does not fit is a DataError.
    """

    def batches(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> AbstractContextManager[Any]:
        """Run a frame; gives a pyarrow.RecordBatchReader, whose columns have types that tables can hold.

        A frame whose Python functions got no rows, and did not declare what they return, gives a reader without
        columns: nothing is known and there is nothing to write.

        Raises:
            UserError, DataError: see above; also while reading.
        """
        ...

    def collect(self, frame: Frame, inputs: Mapping[str, Scan | Any]) -> Any:
        """Run a frame; gives all of its rows as a polars.DataFrame. Raises as `batches`."""
        ...

    def columns(self, frame: Frame, inputs: Mapping[str, Scan | Schema | Any]) -> Schema | None:
        """The columns that the frame will give, without reading rows or calling functions.

        None: a Python function that declares nothing decides. Also checks the steps before that.

        Raises:
            UserError: a step names a column that is not there, or does what its type cannot.
        """
        ...

    def call_pandas(
        self, function: Callable[..., Any], arguments: Mapping[str, Frame | Any], inputs: Mapping[str, Scan | Any]
    ) -> Frame:
        """Call a function that takes and returns pandas DataFrames, frames among `arguments` run and converted;
        gives its result as a literal frame. All of it is in memory.

        Raises:
            SettingsError: pandas is not installed.
        """
        ...
