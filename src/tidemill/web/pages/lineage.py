"""Lineage: sources, tables, tasks and streams in one graph, near what one looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.web.pages.ask import Api
from tidemill.web.pages.lineage_columns import KINDS, near_column, of_table

_MOST = 400


def lineage(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says: all tables where they are few, else those near the one that was chosen."""
    tasks = query.get("tasks") is not None
    nodes, edges = whole(api, tasks=tasks)
    focus, column = query.get("focus"), query.get("column") or None
    depth = max(1, min(int(query["depth"]), 12)) if str(query.get("depth", "")).isdecimal() else 1
    if column is not None:
        near_one = near_column(api, str(column), depth)
        return {
            "graph": near_one["graph"], "focus": None, "depth": depth, "count": 0, "names": sorted(nodes),
            "tasks": tasks, "column": column, "near_column": near_one, "columns": None, "kinds": KINDS,
        }  # fmt: skip
    if focus in nodes:
        kept = near(str(focus), edges, depth)
    else:
        focus, kept = None, set(list(nodes)[:_MOST])
    drawn = {
        "nodes": [{"id": name, "kind": nodes[name], "note": nodes[name]} for name in nodes if name in kept],
        "edges": [[a, b] for a, b in edges if a in kept and b in kept],
    }
    columns = None if focus is None else of_table(api, str(focus).removesuffix(" (table)"))
    return {
        "graph": drawn, "focus": focus, "depth": depth, "count": len(nodes), "names": sorted(nodes), "tasks": tasks,
        "column": None, "near_column": None, "columns": columns, "kinds": KINDS,
    }  # fmt: skip


def whole(api: Api, *, tasks: bool) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """All nodes with their kinds, and what comes from what; with `tasks` also what makes it."""
    nodes: dict[str, str] = {}
    edges: dict[tuple[str, str], None] = {}

    def joined(ins: Iterable[str], by: str | None, outs: Iterable[str], kind: str) -> None:
        ins, outs = list(ins), list(outs)
        for name in (*ins, *outs):
            nodes.setdefault(name, kind)
        if by is not None:
            edges.update({(name, by): None for name in ins} | {(by, name): None for name in outs})
        else:
            edges.update({(a, b): None for a in ins for b in outs if a != b})

    for one in api.get("/flows").flows:
        name = f"{one.pipeline}.{one.task}" if tasks else None
        if name is not None:
            nodes[name] = "task"
        joined(one.inlets, name, one.outlets, "table")
    for stream in api.every("/streams", "streams"):
        nodes[stream.stream] = "stream"
        made = [_table(stream.pipeline, name) or name for name in stream.writes]
        nodes.update({name: "table" for name in made if name not in stream.writes})
        joined(stream.reads, stream.stream, made, "topic")
    return nodes, list(edges)


def _table(pipeline: str, written: str) -> str | None:
    """The table that a stream writes; None: it writes a topic. A stream may be called as its table is."""
    kind, _, name = written.partition(":")
    return f"{pipeline}.{name} (table)" if kind == "table" and name else None


def near(start: str, edges: Iterable[tuple[str, str]], depth: int) -> set[str]:
    """What is at most so many steps above or below."""
    found = {start}
    for way in (0, 1):
        following: dict[str, list[str]] = {}
        for edge in edges:
            following.setdefault(edge[way], []).append(edge[1 - way])
        front = {start}
        for _ in range(depth):
            front = {other for name in front for other in following.get(name, ())} - found
            found |= front
    return found
