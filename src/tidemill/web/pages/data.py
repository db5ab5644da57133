"""Data: tables, their rows, columns, versions, the batches and raw files behind them, and SQL over all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.model.errors import TidemillError
from tidemill.plan.narrowing import COMPARISONS
from tidemill.plan.sql import quote
from tidemill.web.pages.ask import Api
from tidemill.web.pages.words import Given

#: Fields of the form of conditions.
_FIELDS = ("column", "is", "value")
VIEWS = ("preview", "schema", "versions", "batches", "checks", "failing")


def data(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the list says."""
    branch = query.get("branch") or "main"
    page = api.get("/tables", limit=200, branch=branch, cursor=query.get("cursor"))
    text = (query.get("search") or "").lower()
    return {
        "found": [one for one in page.tables if text in one.table.lower()], "next": page.next, "branch": branch,
        "query": query,
    }  # fmt: skip


def table(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one says."""
    name = api.request.path_params["table"]
    where = {"table": name, "branch": query.get("branch") or "main", "at": query.get("at")}
    one = api.get("/tables/{table}", **where)
    view = query.get("view") if query.get("view") in VIEWS else "preview"
    namespace, _, bare = name.partition(".")
    told: dict[str, Any] = {"table": one, "view": view, "views": VIEWS, "query": query, "where": where}
    told["sql"] = f"SELECT *\nFROM {quote(namespace)}.{quote(bare)}"
    if view == "preview":
        told |= _preview(api, where, query)
    elif view == "schema":
        told["schemas"] = api.get("/tables/{table}/schemas", **where).schemas if one.kind != "view" else []
    elif view == "versions":
        told["versions"] = api.get("/tables/{table}/versions", **where, limit=200)
    elif view == "batches":
        pipeline = name.partition(".")[0]
        told["batches"] = api.get("/batches", pipeline=pipeline, limit=100).batches
    elif view == "failing":
        told["failing"] = api.get("/tables/{table}/failing", table=name, branch=where["branch"], limit=100).checks
    elif view == "checks":
        told["checks"] = api.get("/checks", table=name, limit=200).checks
    return told


def _preview(api: Api, where: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by conditions, and the conditions: a form's fields come thrice for each."""
    given = [api.request.query_params.getlist(name) for name in _FIELDS]
    conditions = [one for one in zip(*given, strict=False) if one[0]]
    fields = {name: [one[at] for one in conditions] for at, name in enumerate(_FIELDS)}
    told: dict[str, Any] = {
        "query": Given({**query, **fields}), "conditions": conditions, "comparisons": COMPARISONS, "rows": None,
        "why": None,
    }  # fmt: skip
    filters = [f"{column}:{comparison}:{value}" for column, comparison, value in conditions]
    chosen = {name: query.get(name) or None for name in ("batch", "sort", "cursor")}
    try:
        told["rows"] = api.get("/tables/{table}/rows", **where, limit=100, filter=filters, **chosen)
    except TidemillError as error:  # a value that does not fit: what was typed stays
        if not (conditions or query.get("sort")):
            raise
        told["why"] = error
    return told


def console(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """SQL: nothing is run before somebody presses Run, so that a link from elsewhere runs nothing."""
    branch = query.get("branch") or "main"
    tables = api.every("/tables", "tables", most=500, branch=branch)
    limits = api.backend.settings.console
    return {"tables": tables, "branch": branch, "at": query.get("at") or "", "sql": query.get("sql") or "",
            "limits": limits}  # fmt: skip


def batch(api: Api, _query: Mapping[str, Any]) -> dict[str, Any]:
    """One batch: what was archived, its attempts, checks, and the tables that it changed."""
    return {"batch": api.get("/batches/{batch_id}", batch_id=api.request.path_params["batch_id"])}
