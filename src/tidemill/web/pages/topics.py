"""Topics: what they hold, who reads them and how far, and their messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidemill.web.pages.ask import Api

VIEWS = ("messages", "partitions", "columns")
#: Letters of a message in its row.
_SHOWN = 160


def topics(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the list says."""
    own = True if query.get("own") else None
    page = api.get("/topics", limit=200, own=own, cursor=query.get("cursor"))
    return {"found": page.topics, "next": page.next, "query": query}


def topic(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one says; filters that are no numbers are as if they were not there."""
    name = api.request.path_params["topic"]
    view = query.get("view") if query.get("view") in VIEWS else "messages"
    told: dict[str, Any] = {"topic": api.get("/topics/{topic}", topic=name), "view": view, "views": VIEWS}
    told |= {"query": query, "limit": min(_number(query, "limit") or 50, 200)}
    if view == "messages":
        partition, offset = _number(query, "partition"), _number(query, "offset")
        partition = 0 if partition is None and offset is not None else partition
        found = api.get("/topics/{topic}/messages", topic=name, limit=told["limit"], partition=partition, offset=offset)
        told |= {"messages": found.messages, "next_offset": found.next_offset}
        told["heads"] = [_head(one) for one in found.messages]
    return told


def _head(message: Any) -> str:
    """The beginning of a message on one line: as columns where its codec is known."""
    if message.value is None:
        return "no value: its key is gone"
    if message.row is not None:
        text = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in message.row.items())
    else:
        text = message.value if isinstance(message.value, str) else "bytes"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _number(query: Mapping[str, Any], name: str) -> int | None:
    text = (query.get(name) or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
