"""Branches: what each changed against main, row by row, the checks that gate it, merge and revert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.model.errors import TidemillError
from tidemill.web.pages.ask import Api


def branches(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the list says."""
    every = query.get("all") is not None
    page = api.get("/branches", limit=200, all=every or None, cursor=query.get("cursor"))
    return {"found": page.branches, "hidden": page.hidden, "next": page.next, "all": every}


def branch(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one says."""
    name = api.request.path_params["branch"]
    told: dict[str, Any] = {"name": name, "diff": None, "why": None, "query": query, "columns_of": columns_of}
    told["gates"] = api.get("/branches/{branch}/gates", branch=name)
    try:
        told["diff"] = api.get("/branches/{branch}/diff", branch=name, limit=25)
    except TidemillError as error:
        told["why"] = error.what
    return told


def columns_of(table: Any) -> list[str]:
    """The columns of the rows that a table's difference shows, the key first; of a changed row those that differ."""
    found = [name for row in table.rows for name in {**(row.before or {}), **(row.after or {})}]
    return list(dict.fromkeys((*table.key, *found)))
