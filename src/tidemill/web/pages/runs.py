"""Runs and backfills: all runs by filters, intervals as a calendar, backfills with their progress."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from tidemill.model.run import RunKind
from tidemill.web.pages.ask import Api
from tidemill.web.pages.words import Given

_FILTERS = ("pipeline", "state", "kind", "since", "until", "cursor")
#: Intervals of the calendar.
_INTERVALS = 92
STATES = ("queued", "running", "publishing", "success", "failed", "cancelled")


def runs(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says."""
    kept = {name: query[name] for name in _FILTERS if query.get(name)}
    asked: dict[str, Any] = {**kept}
    for name in ("pipeline", "state"):
        if name in kept:
            asked[name] = [kept[name]]
    for name in ("since", "until"):
        if name in kept and len(kept[name]) == 10:
            asked[name] = f"{kept[name]}T00:00:00Z"
    page = api.get("/runs", limit=100, **asked)
    chosen = kept.get("pipeline")
    return {
        "found": page.runs, "next": page.next, "query": Given(kept), "states": STATES, "kinds": list(RunKind),
        "names": [one.pipeline for one in api.get("/pipelines", limit=500, last=0).pipelines],
        "backfills": api.get("/backfills", limit=20, pipeline=[chosen] if chosen else None).backfills,
        "calendar": calendar(api, chosen) if chosen else [],
    }  # fmt: skip


def calendar(api: Api, pipeline: str) -> list[tuple[str, list[Any]]]:
    """The newest run of each of the last intervals, the oldest first, by months."""
    newest: dict[str, Any] = {}
    for run in api.get("/runs", pipeline=[pipeline], limit=400).runs:
        if run.interval is not None:
            newest.setdefault(run.when, run)
    listed = sorted(newest.values(), key=lambda run: run.interval[0])[-_INTERVALS:]
    return [(month, list(runs)) for month, runs in groupby(listed, lambda run: f"{run.interval[0]:%b %Y}")]


def backfill(api: Api, _query: Mapping[str, Any]) -> dict[str, Any]:
    """One backfill with its intervals."""
    return {"backfill": api.get("/backfills/{backfill_id}", backfill_id=api.request.path_params["backfill_id"])}
