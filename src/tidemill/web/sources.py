"""What feeds topics: the list of sources, how far each is, and having one begin anew.

Whoever may see a stream of a topic may see what feeds it; whoever may act on all that use the topic may have it fed
anew.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.model.json_values import jsonable
from tidemill.web.table import Asked
from tidemill.wiring.stream_sources import fed_topics, progress_before, refeed


class SourceItem(Struct):
    """A topic, and what feeds it. `state`: running, failed (it is tried again), or stopped (nobody feeds it).

    `messages`: given in all, the last ones at `at`; it goes on from `position`. `before`: another source that the topic
    was fed from last. `error`: why it gives nothing now, since `error_at`.
    """

    topic: str
    source: str
    state: str
    process: str | None
    messages: int
    at: datetime | None
    position: Any
    before: str | None
    error: str | None
    error_at: datetime | None


class Sources(Struct):
    """By topic."""

    sources: list[SourceItem]


class Refed(Struct):
    """How far a source was that begins anew, or would: `source` is null where it has given nothing yet."""

    topic: str
    source: str | None
    messages: int
    why: str
    dry_run: bool


def list_sources(asked: Asked) -> dict[str, Any]:
    """All topics with a source that streams read."""
    with asked.backend.streams() as care:
        seen = {
            topic.name for pipeline, spec in care.streams if asked.sees(pipeline.name) for topic in spec.topics.values()
        }
        found = [one for one in fed_topics(care) if one.topic in seen]
    return {"sources": [{**asdict(one), "position": jsonable(one.position)} for one in found]}


def begin_anew(asked: Asked) -> Refed:
    """Have a topic's source begin anew; the topic keeps what it has."""
    name, dry = asked.path["topic"], asked.query.dry_run
    with asked.backend.streams() as care:
        found = (progress_before if dry else refeed)(care, name)
    why = "The topic keeps what it has: messages that the source gives again are in it twice."
    if found is None:
        return Refed(name, None, 0, why, dry)
    return Refed(name, found.source, found.messages, why, dry)
