"""Send messages to a topic: what `tidemill stream feed` does. Whoever may act on all that use the topic may."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Raw, Struct

from tidemill.flow.live.progress import progress_topic
from tidemill.model.errors import Refused
from tidemill.web.problems import bad_request
from tidemill.web.table import Asked, Body
from tidemill.wiring.stream_care import StreamCare


class FeedBody(Body, frozen=True):
    """What to send: `rows`, JSON objects, or `lines`, a text for each message. All of it is sent, or nothing.

    A row that does not fit what the topic is declared with is refused; with `raw` it is sent as it is.
    """

    rows: Annotated[list[Raw], Meta(description="JSON objects")] = []
    lines: Annotated[list[str], Meta(description="JSON objects as text; with `raw` any text")] = []
    key: Annotated[list[str], Meta(description="columns of the key; left out, those that the topic declares")] = []
    raw: Annotated[bool, Meta(description="send what does not fit, too")] = False


class Fed(Struct):
    """How many messages were sent; with `dry_run` how many would be."""

    topic: str
    messages: int
    why: str
    dry_run: bool


def users(asked: Asked) -> Iterable[str] | None:
    """The pipelines that read or write the topic; None: there are none, or the asker may not see them all."""
    with asked.backend.streams() as care:
        found, _ = _users(care, asked.path["topic"])
    return found if found and all(asked.sees(name) for name in found) else None


def feed(asked: Asked) -> Fed:
    """Send messages to a topic. A declared topic that is missing is made."""
    body: FeedBody = asked.body
    name, dry = asked.path["topic"], asked.query.dry_run
    if bool(body.rows) == bool(body.lines):
        raise bad_request("Give rows, or lines.", hint='{"rows": [{"id": 1}]}')
    lines = [bytes(row) for row in body.rows] or [line.encode("utf-8", "surrogatepass") for line in body.lines]
    with asked.backend.streams() as care:
        if _users(care, name)[1]:
            raise Refused(f'Topic "{name}" is a stream\'s own: only that stream writes it.', hint="GET /api/v1/topics")
        sent = care.feed(name, lines, body.key, strict=not body.raw, dry_run=dry)
    told = f"{sent} message{'' if sent == 1 else 's'}"
    why = f"{told}, which every stream that reads the topic gets. They cannot be taken back."
    return Fed(name, sent, why, dry)


def _users(care: StreamCare, name: str) -> tuple[list[str], bool]:
    """Pipelines with streams that read or write a topic, and whether it is one that a stream has for itself."""
    found: dict[str, None] = {}
    own = False
    for pipeline, spec in care.streams:
        plan = care.plan(spec)
        used = {topic.name for topic in (*spec.topics.values(), *plan.written())}
        if name in used:
            found[pipeline.name] = None
        mine = {topic.name for topic in plan.own_topics()}
        mine |= {progress_topic(topic.name).name for topic in spec.topics.values() if topic.source is not None}
        if name in mine:
            found[pipeline.name] = None
            own = own or name not in used
    return list(found), own
