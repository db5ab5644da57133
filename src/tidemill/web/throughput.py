"""Throughput: rows that runs have loaded by the hour, and messages that streams have processed by the minute.

What it goes by: the counts of tasks of the newest published runs, and the samples that this server has of streams.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tidemill.flow.facts.batches import LOADS
from tidemill.model.run import RunState
from tidemill.web.table import Asked

#: Hours and minutes that are told.
_HOURS, _MINUTES = 24, 60
#: Published runs that are looked through, newest first: a page asks for it each time that it is made.
_RUNS = 300
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


class HourItem(Struct):
    """An hour, by its beginning: runs that were published in it, and the rows that these have loaded."""

    at: datetime
    runs: int
    rows: int


class MinuteItem(Struct):
    """A minute, by its beginning: messages a second that streams have processed; null: nothing was told then."""

    at: datetime
    rate: float | None


class Throughput(Struct):
    """The last 24 hours, and the last hour of streams, oldest first; the newest of each is not over.

    `whole`: false where more runs were published in these hours than are looked through: early hours may have more.
    Minutes are kept in the memory of the server, and begin with it.
    """

    hours: list[HourItem]
    whole: bool
    minutes: list[MinuteItem]


def show_throughput(asked: Asked) -> dict[str, Any]:
    """What was loaded and processed of late, by what the asker may see."""
    now = asked.backend.clock.now()
    hours, whole = _hours(asked, now)
    return {"hours": hours, "whole": whole, "minutes": _minutes(asked, now)}


def _hours(asked: Asked, now: datetime) -> tuple[list[dict[str, Any]], bool]:
    last = now.replace(minute=0, second=0, microsecond=0)
    told = {last - _HOUR * back: {"runs": 0, "rows": 0} for back in range(_HOURS - 1, -1, -1)}
    begin = min(told)
    with asked.backend.metadata.read() as tx:
        found = tx.runs.listed(pipelines=asked.visible(), states=[RunState.SUCCESS], limit=_RUNS)
        ended = {one.run.id: one.run.ended_at for one in found if one.run.ended_at and one.run.ended_at >= begin}
        counted = tx.runs.row_counts(ended)
    for run_id, at in ended.items():
        hour = told.get(at.replace(minute=0, second=0, microsecond=0), {"runs": 0, "rows": 0})
        hour["runs"] += 1
        hour["rows"] += sum(rows for task, rows in counted.get(run_id, {}).items() if task.startswith(LOADS))
    whole = len(found) < _RUNS or len(ended) < len(found)
    return [{"at": at, **hour} for at, hour in told.items()], whole


def _minutes(asked: Asked, now: datetime) -> list[dict[str, Any]]:
    """The mean of each stream in each minute, added up."""
    last = now.replace(second=0, microsecond=0)
    told: dict[datetime, float | None] = {last - _MINUTE * back: None for back in range(_MINUTES - 1, -1, -1)}
    history = asked.backend.lag_history
    for stream in history.streams():
        if not asked.sees(stream.partition(".")[0]):
            continue
        rates: dict[datetime, list[float]] = defaultdict(list)
        for sample in history.of(stream).samples:
            rates[sample.at.replace(second=0, microsecond=0)].append(sample.rate)
        for minute, some in rates.items():
            if minute in told:
                told[minute] = (told[minute] or 0.0) + sum(some) / len(some)
    return [{"at": at, "rate": None if rate is None else round(rate, 1)} for at, rate in told.items()]
