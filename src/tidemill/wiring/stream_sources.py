"""What feeds a project's topics, seen from outside; and having a source begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.flow.live.progress import Progress, forget_progress, progress_of
from tidemill.flow.stream.facts import ProcessFacts
from tidemill.model.errors import UnknownName
from tidemill.model.frame.topic import Topic
from tidemill.wiring.feeding import FEEDS
from tidemill.wiring.stream_care import StreamCare


@dataclass(frozen=True, slots=True)
class FedTopic:
    """A topic, and what feeds it.

    Args:
        topic: its name.
        source: as it is declared.
        state: `running`, `failed`: it is tried again; `stopped`: nobody feeds it.
        process: the one that feeds it.
        messages: how many it has given in all.
        at: when it gave the last ones.
        position: from where it goes on.
        before: another source that the topic was fed from last; its position is not this one's.
        error: why it gives nothing now, and since when.
    """

    topic: str
    source: str
    state: str
    process: str | None
    messages: int
    at: datetime | None
    position: Any
    before: str | None = None
    error: str | None = None
    error_at: datetime | None = None


def fed_topics(care: StreamCare) -> list[FedTopic]:
    """All topics with a source that streams read."""
    told: dict[str, list[ProcessFacts]] = {}
    for one in care.told():
        told.setdefault(one.stream, []).append(one)
    return [_fed(care, topic, told.get(f"{FEEDS}{name}", [])) for name, topic in sorted(_with_sources(care).items())]


def refeed(care: StreamCare, name: str) -> Progress | None:
    """Have a topic's source begin anew; the topic keeps what it has. Gives how far it was.

    Raises:
        UnknownName: no topic of that name has a source.
    """
    see_source(care, name)
    return forget_progress(care.topics, care.clock, name)


def progress_before(care: StreamCare, name: str) -> Progress | None:
    """How far a topic's source is, which `refeed` would forget. Raises as `refeed`."""
    see_source(care, name)
    return progress_of(care.topics, care.clock, name)


def see_source(care: StreamCare, name: str) -> None:
    """Whether a topic has a source. Raises UnknownName."""
    known = _with_sources(care)
    if name not in known:
        raise UnknownName.of("topic with a source", name, known)


def _with_sources(care: StreamCare) -> dict[str, Topic]:
    found: dict[str, Topic] = {}
    for _, spec in care.streams:
        for topic in spec.topics.values():
            if topic.source is not None:
                found.setdefault(topic.name, topic)
    return found


def _fed(care: StreamCare, topic: Topic, told: list[ProcessFacts]) -> FedTopic:
    now = care.clock.now()
    live = [one for one in told if one.is_live(now) and (one.tasks or one.state == "failed")]
    chosen = live[0] if live else None
    called = str(topic.source)
    progress = progress_of(care.topics, care.clock, topic.name)
    mine = progress is not None and progress.source == called
    return FedTopic(
        topic.name,
        called,
        "stopped" if chosen is None else chosen.state,
        None if chosen is None else chosen.process,
        progress.messages if progress is not None and mine else 0,
        progress.at if progress is not None and mine else None,
        progress.position if progress is not None and mine else None,
        progress.source if progress is not None and not mine else None,
        None if chosen is None else chosen.error,
        None if chosen is None else chosen.error_at,
    )
