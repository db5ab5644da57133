"""Let a stream begin anew from chosen offsets: what `tidemill stream reset` does, with the same preview."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.stream.resetting import Reset
from tidemill.web.table import Asked, Body
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.stream_pauses import AT_WORK, state
from tidemill.wiring.stream_reset import begin_anew, preview


class ResetItem(Struct):
    """One partition: where the stream is, and where it would be. `messages` are counted by offsets.

    `before` is null before a first commit; `offset` is null where a first start reads a table.
    """

    topic: str
    partition: int
    before: int | None
    offset: int | None
    messages: int
    direction: str


class WasReset(Struct):
    """What a reset did; with `dry_run` what it would do. `running`: it would be refused now."""

    stream: str
    to: str
    dry_run: bool
    running: bool
    positions: list[ResetItem]
    cleared: list[str]
    stores: list[str]


class ResetBody(Body, frozen=True):
    """Where to begin."""

    to: Annotated[
        str,
        Meta(min_length=1, max_length=60, description="earliest, latest, a time (2026-01-15T12:00Z), or an offset"),
    ]


def reset(asked: Asked) -> dict[str, Any]:
    """Let a stream begin anew: its state and its own topics are emptied, what it has written stays."""
    name, to, dry = asked.path["stream"], asked.body.to.strip(), asked.query.dry_run
    with asked.backend.streams() as care:
        found = preview(care, name, to)
        running = dry and _runs(care, found.stream)
        positions = _positions(care, found)
        if not dry:
            begin_anew(care, name, found)
    return {
        "stream": found.stream, "to": to, "dry_run": dry, "running": running, "positions": positions,
        "cleared": list(found.cleared), "stores": list(found.stores),
    }  # fmt: skip


def _runs(care: StreamCare, stream: str) -> bool:
    return state(care, stream) in AT_WORK


def _positions(care: StreamCare, found: Reset) -> list[dict[str, Any]]:
    """By partition; a stream that has committed nothing is where its topics begin."""
    firsts = {name: care.topics.describe(name) for name in {partition.topic for partition in found.positions}}
    made = []
    for partition, offset in sorted(found.positions.items()):
        before, info = found.before.get(partition), firsts[partition.topic]
        stands = before if before is not None or info is None else info.first[partition.number]
        by = 0 if offset is None or stands is None else offset - stands
        made.append({
            "topic": partition.topic, "partition": partition.number, "before": before, "offset": offset,
            "messages": abs(by), "direction": "again" if by < 0 else "skipped" if by > 0 else "none",
        })  # fmt: skip
    return made
