"""Home: what failed, is late or lags; what comes next; what checks found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.web.pages.ask import Api


def home(api: Api, _query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says."""
    listed = api.get("/pipelines", limit=500, last=1)
    pipelines = listed.pipelines
    failing = [one for one in pipelines if one.last_runs and one.last_runs[-1] == "failed"]
    failed = {run.pipeline: run for run in reversed(api.get("/runs", state=["failed"], limit=100).runs)}
    streams = api.get("/streams", limit=100).streams
    checks = api.get("/checks", limit=200).checks
    newest: dict[tuple[str, str], Any] = {}
    for check in checks:
        newest.setdefault((check.table, check.name), check)
    flowed = api.get("/throughput")
    coming = sorted((one for one in pipelines if one.next_at), key=lambda one: one.next_at)
    return {
        "pipelines": pipelines, "errors": listed.errors,
        "failing": [(one, failed.get(one.pipeline)) for one in failing],
        "late": [one for one in pipelines if one.due and one.state == "active"],
        "running": api.get("/runs", state=["running", "publishing"], limit=20).runs,
        "questions": api.get("/questions").questions, "recent": recent(api, pipelines),
        "streams": streams, "coming": coming[:6],
        "flowed": flowed, "loaded": sum(one.rows for one in flowed.hours),
        "processed": [one.rate for one in flowed.minutes if one.rate is not None],
        "bad_checks": [one for one in newest.values() if not one.passed], "checks": len(newest),
    }  # fmt: skip


#: Latest runs that are listed.
_RECENT = 12


def recent(api: Api, pipelines: list[Any]) -> list[Any]:
    """The latest runs of pipelines with tasks: a stream commits every few seconds, and would leave no room for them."""
    ran = [one for one in pipelines if one.tasks and one.last_run_ids]
    names = [one.pipeline for one in sorted(ran, key=lambda one: one.last_run_ids[-1])[-_RECENT:]]
    return list(api.get("/runs", pipeline=names, limit=_RECENT).runs) if names else []
