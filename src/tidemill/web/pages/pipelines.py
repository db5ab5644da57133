"""Pipelines: the list, and one with its grid, graph, tasks, log and code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.model.errors import UnknownName
from tidemill.web.pages.ask import Api
from tidemill.web.pages.words import Given, segment, with_query

VIEWS = ("graph", "gantt", "runs", "code")


def pipelines(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the list says."""
    kept = {name: query[name] for name in ("search", "state", "tag") if query.get(name)}
    page = api.get("/pipelines", limit=200, cursor=query.get("cursor"), **kept)
    return {"found": page.pipelines, "errors": page.errors, "next": page.next, "query": Given(kept)}


def pipeline(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one says: the run that is chosen, and the task."""
    name = api.request.path_params["pipeline"]
    one = api.get("/pipelines/{pipeline}", pipeline=name)
    runs = api.get("/runs", pipeline=[name], limit=25).runs
    chosen = query.get("run") or (runs[0].run_id if runs else None)
    run = None if chosen is None else api.get("/runs/{run_id}", run_id=_number(chosen))
    view = query.get("view") if query.get("view") in VIEWS else "graph"
    task = query.get("task") or (_worst(run) if run is not None else None)
    instances = [] if run is None or task is None else [item for item in run.tasks if item.task == task]
    return {
        "params": given(one.params), "given": given,
        "pipeline": one, "runs": runs, "run": run, "view": view, "task": task, "instances": instances,
        "tries": [] if run is None else [item for item in run.past_tries if item.task == task],
        "failing": None if run is None else failing_rows(run, task, instances),
        "gantt": None if run is None or view != "gantt" else gantt(run),
        "code": code(api, one) if view == "code" else None, "query": query, "views": VIEWS,
    }  # fmt: skip


def given(schemas: Mapping[str, Any]) -> dict[str, Given]:
    """JSON schemas in which what is not said is None, each with the type that its field in a form has."""
    return {name: Given({**schema, "type": _type_of(schema)}) for name, schema in schemas.items()}


def _type_of(schema: Mapping[str, Any]) -> str | None:
    """The one type of a value beside null; where none is said that of the default; None: its field takes JSON."""
    said = schema.get("type", type(schema.get("default")))
    if isinstance(said, type):
        return {bool: "boolean", int: "number", float: "number", str: "string"}.get(said)
    kinds = [one for one in ([said] if isinstance(said, str) else said) if one != "null"]
    return kinds[0] if len(kinds) == 1 else None


def _number(text: Any) -> int:
    if not str(text).isdecimal():
        raise UnknownName(f"There is no run {text!r}.", hint="a run has a number")
    return int(text)


def _worst(run: Any) -> str | None:
    """The task whose error matters: that which failed first."""
    failed = [item for item in run.tasks if item.state == "failed"]
    return min(failed, key=lambda item: (item.ended_at is None, item.ended_at)).task if failed else None


def failing_rows(run: Any, task: str | None, instances: list[Any]) -> str | None:
    """Where the rows are that a check's task has refused; None: it is none, or has refused none."""
    kind, _, table = (task or "").partition(".")
    if kind != "check" or run.branch is None or all(one.state != "failed" for one in instances):
        return None
    return with_query(f"/data/{segment(f'{run.pipeline}.{table}')}", {"branch": run.branch, "view": "failing"})


def gantt(run: Any) -> dict[str, Any] | None:
    """When each task instance ran, in seconds, the first first."""
    done = sorted((one for one in run.tasks if one.started_at is not None), key=lambda one: one.started_at)
    if not done:
        return None
    begin = done[0].started_at.timestamp()
    latest = max((one.ended_at or one.started_at).timestamp() for one in done)
    bars = [
        {
            "id": one.task if one.map_index < 0 else f"{one.task} [{one.map_index}]", "state": one.state,
            "start": one.started_at.timestamp(), "end": (one.ended_at.timestamp() if one.ended_at else latest),
        }
        for one in done
    ]  # fmt: skip
    return {"begin": begin, "end": max(latest, begin + 0.001), "bars": bars}


def code(api: Api, one: Any) -> str | None:
    """The pipeline's file as it is now; None where it cannot be read."""
    root = api.backend.settings.root.resolve()
    path = (root / one.file).resolve()
    if not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > 1 << 20:
        return None
    return Path(path).read_text("utf-8", errors="replace")
