"""Flights as they leave: the days after the story's, as messages in the order of their departures.

Read with the standard library alone, so that the process that sends them stays small.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.demo.folder import BAD_DAY, DemoFolder


@dataclass(frozen=True, slots=True, order=True)
class Departure:
    """A message of the topic.

    Args:
        at: when the flight left, or should have.
        key, value: of the message.
    """

    at: datetime
    key: bytes
    value: bytes


def departures(folder: DemoFolder) -> list[Departure]:
    """Those of the days after the story's, in their order; of a day that was spoilt the good feed counts."""
    found = []
    for day in folder.days():
        if day > BAD_DAY:
            kept = folder.original_of(day)
            packed = (kept if kept.exists() else folder.feed_of(day)).read_bytes()
            text = gzip.decompress(packed).decode("utf-8")
            found += [_departure(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    return sorted(found)


def _departure(row: dict[str, str]) -> Departure:
    scheduled = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    delay = int(row["dep_delay"]) if row["dep_delay"] else None
    message = {
        "scheduled_at": scheduled.isoformat(), "origin": row["origin"], "carrier": row["carrier"],
        "flight": int(row["flight"]), "dep_delay": delay,
    }  # fmt: skip
    return Departure(scheduled + timedelta(minutes=delay or 0), row["origin"].encode(), json.dumps(message).encode())
