"""Rows that were read, handed to other libraries and shown in notebooks: what `tm.read` and `tm.query` give."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import polars
import pyarrow

if TYPE_CHECKING:
    import pandas


class Result:
    """Rows that were read. They are in memory.

    `to_polars()`, `to_pandas()` and `to_arrow()` give them to other libraries; notebooks show the first ones.
    """

    _SHOWN = 10

    def __init__(self, table: pyarrow.Table, title: str) -> None:
        self._table = table
        self._title = title

    def to_arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table."""
        return self._table

    def to_polars(self) -> polars.DataFrame:
        """The rows as a Polars frame."""
        made = polars.from_arrow(self._table)
        assert isinstance(made, polars.DataFrame)
        return made

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas frame. Needs `pip install 'tidemill[pandas]'`."""
        return self._table.to_pandas()

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return list(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"{self._title}: {len(self):,} rows\n{self.to_polars()}"

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th>{html.escape(f.name)}<br><small>{html.escape(str(f.type))}</small></th>" for f in self._table.schema
        )
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>"
            for row in self._table.slice(0, self._SHOWN).to_pylist()
        )
        more = f"first {self._SHOWN} of " if len(self) > self._SHOWN else ""
        return (
            f"<table><caption>{html.escape(self._title)}: {more}{len(self):,} rows</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _cell(value: Any) -> str:
    return "<i>null</i>" if value is None else html.escape(str(value))
