"""Figures of tables and checks over time, and which of their values are anomalies. They inform, and fail no run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.facts.anomalies import anomalies, figures, series_facts
from tidemill.web.paging import cursor_of, read_cursor
from tidemill.web.table import Asked, Cursor, Limit, Query
from tidemill.web.tables import read_name, table_of


class Value(Struct):
    """A value of a figure, of a batch, and what those before it say; null where they are too few to judge."""

    at: datetime
    when: str
    pipeline: str
    run_id: int
    batch_id: int
    value: float
    usual: float | None
    low: float | None
    high: float | None
    score: float | None
    anomalous: bool


class Anomaly(Value):
    """An anomaly: of a table's `rows`, or of what a check of it counts; `newest`: it is the last that was told."""

    table: str
    check: str | None
    metric: str
    newest: bool


class Anomalies(Struct):
    """Anomalies, of the newest run first; `judged`: figures that were looked at and have enough values."""

    anomalies: list[Anomaly]
    judged: int
    next: str | None


class Series(Struct):
    """A figure over time: `rows`, `failing` (a share) or `age` (seconds), one value for each batch."""

    table: str
    check: str | None
    metric: str
    values: list[Value]


class Figures(Struct):
    """The figures of a table, its own first."""

    table: str
    figures: list[Series]


class AnomaliesQuery(Query, frozen=True):
    """Which anomalies."""

    limit: Limit = 50
    cursor: Cursor = None
    table: Annotated[str, Meta(description="pipeline.table")] | None = None
    newest: Annotated[bool, Meta(description="only what the last run has told")] = False


def list_anomalies(asked: Asked) -> dict[str, Any]:
    """Anomalies of all figures, or of a table's; see `plan/anomalies.py` for what makes a value one."""
    wanted: AnomaliesQuery = asked.query
    skip = read_cursor(wanted.cursor, int) or 0
    series = []
    table = read_name(wanted.table) if wanted.table is not None else None
    if table is None or asked.sees(table.namespace):
        with asked.backend.metadata.read() as tx:
            series = figures(tx, table, asked.sees)
    found = [one for one in anomalies(series) if one["newest"] or not wanted.newest]
    upto = skip + wanted.limit
    return {
        "anomalies": found[skip:upto], "judged": sum(one.judged[-1].usual is not None for one in series),
        "next": cursor_of(upto) if upto < len(found) else None,
    }  # fmt: skip


def show_figures(asked: Asked) -> dict[str, Any]:
    """The figures of a table over time."""
    table = table_of(asked)
    with asked.backend.metadata.read() as tx:
        found = figures(tx, table)
    return {"table": str(table), "figures": [series_facts(one) for one in found]}
