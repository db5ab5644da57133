"""Quality: what checks found, table by table, over time, which rows failed, and which figures are far from usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.plan.anomalies import in_words, usual_in_words
from tidemill.web.pages.ask import Api
from tidemill.web.pages.words import Given


def quality(api: Api, query: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says: the newest result of each check with its last ones, those that fail first."""
    kept = {name: query[name] for name in ("table", "name") if query.get(name)}
    found = api.every("/checks", "checks", most=2000, **kept)
    history: dict[tuple[str, str], list[Any]] = {}
    for check in found:
        history.setdefault((check.table, check.name), []).append(check)
    listed = [
        {"newest": results[0], "strip": [one.passed for one in reversed(results[:20])], "count": len(results)}
        for results in history.values()
    ]
    listed.sort(key=lambda one: (one["newest"].passed, one["newest"].table, one["newest"].name))
    only = next(iter(history.values())) if len(history) == 1 and "name" in kept else None
    failing: list[Any] = []
    if only is not None and any(not one.passed for one in only):
        failing = api.get("/tables/{table}/failing", table=kept["table"], limit=50).checks if "table" in kept else []
        failing = [one for one in failing if one.name == kept["name"]]
    figures = _figures(api, kept)
    return {
        "failing": failing, "checks": listed, "query": Given(kept), "only": only, "figures": figures,
        "chart": None if only is None or figures else chart(only), "anomalies": _anomalies(api, kept, figures),
    }  # fmt: skip


#: Anomalies that are listed.
_LISTED = 20
#: Of a metric: what a plot calls it, and what its values are divided by.
_DRAWN = {"rows": ("rows", 1.0), "failing": ("failing rows, %", 0.01), "age": ("age, hours", 3600.0)}


def _figures(api: Api, kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plots of a table's rows over time, or of a check's figure."""
    if kept.get("table", "").count(".") != 1:
        return []
    found = api.get("/tables/{table}/figures", table=kept["table"]).figures
    chosen = [one for one in found if one.check == kept.get("name") and len(one.values) > 1]
    return [{"series": one, "title": _DRAWN[one.metric][0], "plot": plot(one)} for one in chosen]


def _anomalies(api: Api, kept: Mapping[str, Any], figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of one figure, or of all, of the newest run first."""
    if "name" in kept:
        listed = []
        for figure in figures:
            told = figure["series"]
            newest = max(value.run_id for value in told.values)
            listed += [
                {"one": value, "table": told.table, "check": told.check, "metric": told.metric,
                 "newest": value.run_id == newest}
                for value in reversed(told.values) if value.anomalous
            ]  # fmt: skip
    else:
        found = api.get("/checks/anomalies", limit=_LISTED, table=kept.get("table")).anomalies
        listed = [
            {"one": one, "table": one.table, "check": one.check, "metric": one.metric, "newest": one.newest}
            for one in found
        ]
    for one in listed:
        value, metric = one["one"], one["metric"]
        one["value"] = in_words(metric, value.value)
        one["usual"] = usual_in_words(metric, value.low, value.high)
    return listed[:_LISTED]


def plot(series: Any) -> dict[str, Any]:
    """A figure over time, between the bounds of what is usual; anomalies are marked."""
    title, unit = _DRAWN[series.metric]

    def drawn(value: float | None) -> float | None:
        return None if value is None else value / unit

    values = series.values
    lines = [{"name": title, "values": [drawn(one.value) for one in values]}]
    for name, bounds in (("usually at least", [one.low for one in values]), ("at most", [one.high for one in values])):
        if any(bound is not None for bound in bounds):
            lines.append({"name": name, "values": [drawn(bound) for bound in bounds], "look": "bound"})
    marked = [drawn(one.value) if one.anomalous else None for one in values]
    return {
        "times": [one.at.timestamp() for one in values],
        "series": [*lines, {"name": "unusual", "values": marked, "look": "mark"}],
    }


def docs(api: Api, _query: Mapping[str, Any]) -> dict[str, Any]:
    """What a table promises, and how that was met."""
    return {"docs": api.get("/tables/{table}/docs", table=api.request.path_params["table"])}


def chart(results: list[Any]) -> dict[str, Any]:
    """Rows that failed, over time."""
    oldest = list(reversed(results))
    series = [
        {"name": "failing rows", "values": [one.failed for one in oldest]},
        {"name": "rows", "values": [one.rows for one in oldest]},
    ]
    return {"times": [one.at.timestamp() for one in oldest], "series": series}
