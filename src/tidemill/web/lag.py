"""How far behind a stream was in the last hour, as the server remembers it: lines for charts."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tidemill.web.table import Asked
from tidemill.wiring.lag_history import EVERY, KEPT


class LagLine(Struct):
    """Messages that waited in a partition, at the times of the history; null: it was not known yet."""

    topic: str
    partition: int
    lag: list[int | None]


class LagHistory(Struct):
    """The last hour, a sample every few seconds, kept in the server's memory: gone when it ends.

    `times` are seconds since 1970; `left_out` is how many partitions more it reads than are kept.
    """

    stream: str
    every: float
    most: int
    times: list[float]
    partitions: list[LagLine]
    left_out: int
    rate: list[float]
    state_bytes: list[int]


def show_history(asked: Asked) -> dict[str, Any]:
    """What waited in each partition in the last hour; for charts."""
    name = asked.path["stream"]
    found = asked.backend.lag_history.of(name)
    samples = list(found.samples)
    if not samples:  # a stream that nobody knows is told as such
        with asked.backend.streams() as care:
            name = care.find(name)[1].full_name
    lines = [
        {
            "topic": partition.topic, "partition": partition.number,
            "lag": [one.behind[place] if place < len(one.behind) else None for one in samples],
        }
        for place, partition in enumerate(found.partitions)
    ]  # fmt: skip
    return {
        "stream": name, "every": EVERY, "most": KEPT, "times": [round(one.at.timestamp(), 1) for one in samples],
        "partitions": lines, "left_out": found.left_out, "rate": [one.rate for one in samples],
        "state_bytes": [one.state_bytes for one in samples],
    }  # fmt: skip
