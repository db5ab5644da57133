"""Streams: what flows where, what waits, who works on it, and letters that nobody could take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidemill.web.pages.ask import Api

VIEWS = ("topology", "lag", "letters", "late", "reset")


def streams(api: Api, _query: Mapping[str, Any]) -> dict[str, Any]:
    """What the list says."""
    return {"found": api.every("/streams", "streams")}


def stream(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one says."""
    name = api.request.path_params["stream"]
    shown = api.get("/streams/{stream}", stream=name)
    view = query.get("view") if query.get("view") in VIEWS else "topology"
    told: dict[str, Any] = {"name": name, "stream": shown, "view": view, "views": VIEWS, "query": query}
    item = [one for one in api.every("/streams", "streams") if one.stream == name]
    told["item"] = item[0] if item else None
    if view == "lag":
        told["lag"] = api.get("/streams/{stream}/lag", stream=name).lag
        told["tasks"] = tasks(shown)
    elif view in ("letters", "late"):
        late = True if view == "late" else None
        told["letters"] = api.get(
            "/streams/{stream}/letters", stream=name, late=late, limit=50, cursor=query.get("cursor")
        )
    return told


def tasks(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks that processes work on: a stage's part of a partition, with how far its event time is."""
    reads = {stage["stage"]: stage["reads"] for stage in shown["stages"]}
    made = []
    for process in shown["processes"]:
        for task, part in process["parts"].items():
            stage, number = (int(text) for text in task.split("."))
            mark = part["watermark"]
            made.append({
                **part, "stage": stage, "number": number, "process": process["process"], "reads": reads.get(stage, []),
                "watermark": None if mark is None else datetime.fromisoformat(mark),
            })  # fmt: skip
    return sorted(made, key=lambda one: (one["stage"], one["number"]))
