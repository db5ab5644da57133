"""Topics: the list, one with its partitions and readers, and its messages, bounded in number and size.

A topic is no pipeline's. Whoever may see a pipeline with a stream that reads or writes it may see it; one that no
stream knows is seen by those who may see everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.model.errors import UnknownName
from tidemill.model.json_values import jsonable
from tidemill.ports.topic import TopicInfo
from tidemill.web.paging import cut, read_cursor
from tidemill.web.table import Asked, Cursor, Limit, Query
from tidemill.wiring.stream_care import StreamCare, TopicRow
from tidemill.wiring.topic_browse import MOST, Message, browse, consumers_of

#: Bytes of a value that are given, and of a key or header; of more the beginning. Headers of a message that are given.
LARGEST, _SHORT = 16_384, 1_024
_HEADERS = 20


class ConsumerItem(Struct):
    """A stream that reads a topic; `committed` by partition, null where nothing was committed."""

    stream: str
    committed: list[int | None]
    lag: int


class TopicItem(Struct, kw_only=True):
    """A topic in a list. `partitions` is 0 where it is declared and not made yet; `retention` is in seconds.

    `role`: read, written, own (of a stream, for itself), or `-`. `archived`: by partition,
    from which offset up to which.
    """

    topic: str
    partitions: int
    messages: int
    cleanup: str
    retention: float | None
    role: str
    streams: list[str]
    source: str | None
    archived: list[tuple[int, int]]
    unarchived: int | None
    consumers: list[ConsumerItem]


class TopicPage(Struct):
    """Topics by name."""

    topics: list[TopicItem]
    next: str | None


class PartitionItem(Struct):
    """What a partition holds: from its oldest message up to, not including, `end`."""

    partition: int
    first: int
    end: int
    messages: int


class TopicColumn(Struct):
    """A declared column of a topic's messages."""

    name: str
    type: str


class Topic(TopicItem, kw_only=True):
    """One topic, with its partitions, and what it is declared with."""

    parts: list[PartitionItem]
    columns: list[TopicColumn]
    key: list[str]
    time: str | None


class MessageItem(Struct):
    """A message. Key, value and headers: text; `{"base64": ...}` where they are none; `bytes` is the value's length.

    `row` is what the topic's codec makes of it, `error` why it makes nothing; `cut`: not all of it is here.
    """

    partition: int
    offset: int
    at: datetime | None
    key: Any
    value: Any
    bytes: int
    cut: bool
    headers: list[list[Any]]
    row: dict[str, Any] | None
    error: str | None


class Messages(Struct):
    """Messages of a topic: the last ones, newest first; from an offset on, oldest first.

    `next_offset` is where the next look at the same partition begins; null without an offset, and at the end.
    """

    topic: str
    messages: list[MessageItem]
    next_offset: int | None


class TopicsQuery(Query, frozen=True):
    """Which topics."""

    limit: Limit = 50
    cursor: Cursor = None
    own: Annotated[bool, Meta(description="also those that streams have for themselves")] = False


class MessagesQuery(Query, frozen=True):
    """Which messages."""

    limit: Annotated[int, Meta(ge=1, le=MOST, description="at most so many")] = 50
    partition: Annotated[int, Meta(ge=0, le=100_000, description="only of this one")] | None = None
    offset: Annotated[int, Meta(ge=0, le=2**53, description="from this message of the partition on")] | None = None


def list_topics(asked: Asked) -> dict[str, Any]:
    """Topics that there are, and those that are declared."""
    query: TopicsQuery = asked.query
    after = read_cursor(query.cursor, str)
    with asked.backend.streams() as care:
        shown = [
            one
            for one in care.topic_rows()
            if sees_topic(asked, one.streams)
            and (query.own or one.role != "own")
            and (after is None or one.name > after)
        ]
        page, further = cut(shown, query.limit, lambda one: one.name)
        listed = [_item(asked, care, one, _info(care, one.name)) for one in page]
    return {"topics": listed, "next": further}


def show_topic(asked: Asked) -> dict[str, Any]:
    """One topic, with how far its readers are in each partition."""
    with asked.backend.streams() as care:
        row = _found(asked, care)
        info, declared = _info(care, row.name), care.declared(row.name)
        made = _item(asked, care, row, info)
    parts = [
        {"partition": number, "first": first, "end": end, "messages": end - first}
        for number, (first, end) in enumerate(zip(info.first, info.end, strict=True))
    ]
    columns = {} if declared is None else declared.columns or {}
    return {
        **made, "parts": parts, "columns": [{"name": name, "type": str(kind)} for name, kind in columns.items()],
        "key": list(declared.key) if declared else [], "time": declared.time if declared else None,
    }  # fmt: skip


def show_messages(asked: Asked) -> dict[str, Any]:
    """Some messages of a topic; no group's position moves."""
    query: MessagesQuery = asked.query
    with asked.backend.streams() as care:
        name = _found(asked, care).name
        found = browse(care, name, query.limit, query.partition, query.offset)
    full = query.offset is not None and len(found) == query.limit
    further = found[-1].seen.offset + 1 if full else None
    return {"topic": name, "messages": [_message(one) for one in found], "next_offset": further}


def _found(asked: Asked, care: StreamCare) -> TopicRow:
    """The topic that the path names. What the asker may not see is not there."""
    seen = {one.name: one for one in care.topic_rows() if sees_topic(asked, one.streams)}
    name = asked.path["topic"]
    if name not in seen:
        raise UnknownName.of("topic", name, seen)
    return seen[name]


def sees_topic(asked: Asked, streams: Iterable[str]) -> bool:
    """Whether the asker may see a topic of these streams."""
    pipelines = [stream.partition(".")[0] for stream in streams]
    return any(map(asked.sees, pipelines)) if pipelines else asked.sees(None)


def _info(care: StreamCare, name: str) -> TopicInfo:
    return care.topics.live.describe(name) or TopicInfo(name, (), ())


def _item(asked: Asked, care: StreamCare, row: TopicRow, info: TopicInfo) -> dict[str, Any]:
    declared = care.declared(row.name)
    retention = declared.retention if declared is not None else None
    readers = [one for one in consumers_of(care, row.name) if asked.sees(one.stream.partition(".")[0])]
    return {
        "topic": row.name, "partitions": row.partitions, "messages": row.messages, "cleanup": row.cleanup,
        "retention": None if retention is None else retention.total_seconds(), "role": row.role,
        "streams": [one for one in row.streams if asked.sees(one.partition(".")[0])], "source": row.source,
        "archived": row.archived, "unarchived": row.unarchived, "consumers": [asdict(one) for one in readers],
    }  # fmt: skip


def _message(one: Message) -> dict[str, Any]:
    seen = one.seen
    length = len(seen.value or b"")
    small = [seen.key, *(value for _, value in seen.headers)]
    shortened = length > LARGEST or any(len(part or b"") > _SHORT for part in small) or len(seen.headers) > _HEADERS
    return {
        "partition": seen.partition, "offset": seen.offset, "at": seen.at, "key": _content(seen.key, _SHORT),
        "value": _content(seen.value, LARGEST), "bytes": length, "cut": shortened,
        "headers": [[name[:_SHORT], _content(value, _SHORT)] for name, value in seen.headers[:_HEADERS]],
        "row": jsonable(one.row) if length <= LARGEST else None, "error": one.error,
    }  # fmt: skip


def _content(content: bytes | None, most: int) -> Any:
    """Text, or base64 of what is none; of what is long the beginning, up to a whole letter."""
    if content is None:
        return None
    some = content[:most]
    try:
        return some.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) > most and error.start >= most - 3:
            return some[: error.start].decode("utf-8")
        return {"base64": jsonable(some)}
