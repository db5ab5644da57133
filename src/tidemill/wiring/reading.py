"""`tm.read` and `tm.query`: published tables as frames, in scripts and notebooks."""

from __future__ import annotations

import html
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.model.branch import MAIN
from tidemill.wiring.runner import services_of
from tidemill.wiring.settings import load_settings

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


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
        import polars

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


def query(
    sql: str, *, branch: str = MAIN, at: str | datetime | None = None, project: str | Path | None = None
) -> Result:
    """Run one SELECT over the project's tables.

    Args:
        sql: DuckDB SQL; tables are `pipeline.table`, or a bare name that only one pipeline has; Tidemill's own are
            `tidemill.batches, runs, tasks, checks, files`.
        branch: the branch or tag to read.
        at: a time, or a snapshot id where the query reads one table.
        project: the project's folder; None: the one at or above the current folder.

    Raises:
        UnknownName, UserError: the query names what is not there, or cannot be read.
    """
    from tidemill.flow import query as flow

    services = services_of(load_settings(Path(project) if project else None))
    with flow.reading(services, branch, at) as seen, flow.query(services, sql, seen) as reader:
        return Result(reader.read_all(), "query")


def read(
    table: str, *, branch: str = MAIN, at: str | datetime | None = None, project: str | Path | None = None
) -> Result:
    """Read a whole table; the arguments are those of `query`."""
    from tidemill.plan.sql import quote

    name = ".".join(quote(part) for part in table.split("."))
    found = query(f"SELECT * FROM {name}", branch=branch, at=at, project=project)  # noqa: S608 - quoted above
    return Result(found.to_arrow(), table)
