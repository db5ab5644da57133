"""The columns of the Lineage page: of a table that was chosen, or near a column that was."""

from __future__ import annotations

from typing import Any

from tidemill.model.errors import TidemillError
from tidemill.web.pages.ask import Api

#: What each kind of edge means, for people.
KINDS = {
    "copied": "its values are taken as they are",
    "computed": "its values are used",
    "decides": "it steers which rows there are, how they are grouped, or which value is taken",
    "unknown": "nobody can tell: Python, or SQL that cannot be looked into, is in between",
}


def near_column(api: Api, column: str, depth: int) -> dict[str, Any]:
    """The graph of the columns near one, and the same as a list."""
    try:
        found = api.get("/lineage/columns", column=column, depth=depth)
    except TidemillError as error:
        return {"why": error.what, "hint": error.hint, "graph": {"nodes": [], "edges": []}, "edges": [], "unknown": {}}
    types = {(one.table, item.name): item.type for one in found.tables for item in one.columns}
    kinds = {one.table: one.kind for one in found.tables}
    ends = {_name(edge.from_table, edge.from_column): edge.from_table for edge in found.edges}
    ends |= {_name(edge.table, edge.column): edge.table for edge in found.edges}
    chosen = next((name for name in ends if name.lower() == column.lower()), column)
    ends.setdefault(chosen, found.tables[0].table)
    nodes = [
        {
            "id": name, "kind": f"{kinds[table]} chosen" if name == chosen else kinds[table],
            "note": types.get((table, name[len(table) + 1 :]), ""),
        }
        for name, table in ends.items()
    ]  # fmt: skip
    edges = [
        {
            "source": _name(edge.from_table, edge.from_column), "target": _name(edge.table, edge.column),
            "kind": edge.kind, "type": types.get((edge.table, edge.column), ""),
        }
        for edge in found.edges
    ]  # fmt: skip
    return {
        "why": None, "hint": None, "chosen": chosen, "table": found.tables[0].table, "edges": edges, "cut": found.cut,
        "graph": {"nodes": nodes, "edges": [[one["source"], one["target"], one["kind"]] for one in edges]},
        "unknown": {one.table: one.unknown for one in found.tables if one.unknown},
    }  # fmt: skip


def of_table(api: Api, table: str) -> dict[str, Any] | None:
    """The columns of a table or topic, with what is right above each; None: it has none, as far as is known."""
    try:
        found = api.get("/lineage/columns", table=table, depth=1, direction="up")
    except TidemillError:
        return None  # a task, or a stream
    one = found.tables[0]
    above: dict[str, list[Any]] = {item.name: [] for item in one.columns}
    for edge in found.edges:
        above.setdefault(edge.column, []).append(edge)
    columns = [{"name": item.name, "type": item.type, "above": above[item.name]} for item in one.columns]
    return {"table": one.table, "unknown": one.unknown, "columns": columns} if columns or one.unknown else None


def _name(table: str, column: str) -> str:
    return f"{table}.{column}"
