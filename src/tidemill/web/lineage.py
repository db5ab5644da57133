"""Column lineage: which columns come from which, some steps around one column or one table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tidemill.flow.query import reading
from tidemill.model.lineage import ColumnName
from tidemill.web.problems import bad_request
from tidemill.web.table import Asked
from tidemill.web.tables import ColumnItem, RefQuery
from tidemill.wiring.lineage import column_graph


class LineageTable(Struct):
    """A table, view or topic with its columns; a type is empty where nothing has been published yet.

    `unknown` says why nobody can tell what its columns come from; empty: it can be told, or nothing here makes it.
    """

    table: str
    kind: Literal["table", "view", "topic"]
    columns: list[ColumnItem]
    unknown: str


class ColumnEdge(Struct):
    """A column (`table`, `column`) that comes from another.

    `copied`: its values are taken as they are. `computed`: they are used. `decides`: the other only steers which rows
    there are, how they are grouped, or which value is taken. `unknown`: Python, or SQL that cannot be looked into, is
    in between.
    """

    from_table: str
    from_column: str
    table: str
    column: str
    kind: Literal["copied", "computed", "decides", "unknown"]


class ColumnLineage(Struct):
    """What is near: tables, and which of their columns come from which; `cut`: some of it was left out."""

    tables: list[LineageTable]
    edges: list[ColumnEdge]
    cut: bool


class ColumnsQuery(RefQuery, frozen=True, kw_only=True):
    """Near what, how far."""

    column: Annotated[str, Meta(max_length=1000, description="pipeline.table.column, or topic.column")] | None = None
    table: Annotated[str, Meta(max_length=500, description="instead: all columns of a table or topic")] | None = None
    depth: Annotated[int, Meta(ge=1, le=12, description="steps each way")] = 1
    direction: Annotated[
        Literal["both", "up", "down"], Meta(description="up: what it comes from; down: what comes from it")
    ] = "both"


def show_columns(asked: Asked) -> dict[str, Any]:
    """Which columns come from which, near a column or a table.

    Looked up in the code as it is now, with the columns that tables have on the branch. How rows are kept in a table
    (by key, order, contract and checks) is not among it.
    """
    wanted: ColumnsQuery = asked.query
    if (wanted.column is None) == (wanted.table is None):
        raise bad_request("One of column and table is wanted.", hint="?column=pipeline.table.column")
    with (
        asked.backend.streams() as care,
        asked.backend.lake() as services,
        reading(services, wanted.branch, wanted.at) as seen,
    ):
        graph = column_graph(care.pipelines, services, seen, asked.sees)
        if wanted.column is not None:
            starts = [graph.column(wanted.column)]
        else:
            one = graph.table(str(wanted.table))
            starts = [ColumnName(one.name, name) for name, _ in one.columns]
        near = graph.near(starts, wanted.depth, wanted.direction)
        tables = near.tables if starts else (one,)
    return {
        "tables": [
            {"table": one.name, "kind": one.kind, "unknown": one.unknown,
             "columns": [{"name": name, "type": kind} for name, kind in one.columns]}
            for one in tables
        ],
        "edges": [
            {"from_table": edge.source.table, "from_column": edge.source.column, "table": edge.target.table,
             "column": edge.target.column, "kind": edge.kind.value}
            for edge in near.edges
        ],
        "cut": near.cut,
    }  # fmt: skip
