"""The tables of embedded topics: messages in blocks, groups with their positions, writers. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, Table
from sqlalchemy import UniqueConstraint as Unique

from tidemill.adapters.sql.columns import BigId, Json, Prose
from tidemill.adapters.sql.declare import METADATA, moment, serial, text, to


def _long(name: str) -> Column[int]:
    return Column(name, BigId, nullable=False)


def _part(name: str) -> Column[int]:
    return Column(name, BigId, primary_key=True, autoincrement=False)


#: A topic that is deleted and made again has another id.
topics = Table(
    "topics",
    METADATA,
    serial(),
    text("project"),
    text("name"),
    _long("partitions"),
    text("cleanup"),
    #: Milliseconds; null: messages stay.
    Column("retention", BigId),
    Column("options", Json, nullable=False),
    Unique("project", "name"),
    sqlite_autoincrement=True,
)

#: A partition's row is locked by whoever appends, until its transaction ends: so offsets appear in order.
topic_partitions = Table(
    "topic_partitions",
    METADATA,
    to("topic_id", "topics.id", primary_key=True, autoincrement=False),
    _part("number"),
    #: Below it nothing is kept.
    _long("first"),
    #: The offset of the next message.
    _long("end"),
    #: Up to where the last compaction came; up to where the one before it had come, and when; and up to where
    #: tombstones have been there for long enough to go.
    _long("cleaned"),
    _long("settling"),
    moment("settling_at"),
    _long("settled"),
)

#: Messages of one partition, packed (`topic_blocks.py`), by the offset of the last.
topic_blocks = Table(
    "topic_blocks",
    METADATA,
    to("topic_id", "topics.id", primary_key=True, autoincrement=False),
    _part("number"),
    _part("last"),
    _long("first"),
    _long("messages"),
    _long("size"),
    #: The newest timestamp in it, milliseconds.
    _long("newest"),
    Column("body", LargeBinary, nullable=False),
)

topic_positions = Table(
    "topic_positions",
    METADATA,
    text("project", primary_key=True),
    text("group_name", primary_key=True),
    to("topic_id", "topics.id", primary_key=True, autoincrement=False, index=True),
    _part("number"),
    _long("position"),
    Column("note", Prose, nullable=False),
)

#: The epoch of the newest exactly-once writer of each identity.
topic_writers = Table(
    "topic_writers",
    METADATA,
    text("project", primary_key=True),
    text("identity", primary_key=True),
    _long("epoch"),
)

#: Whoever changes who is a member or who has a task locks the group's row.
topic_groups = Table(
    "topic_groups",
    METADATA,
    text("project", primary_key=True),
    text("name", primary_key=True),
)

topic_members = Table(
    "topic_members",
    METADATA,
    text("project", primary_key=True),
    text("group_name", primary_key=True),
    text("member", primary_key=True),
    moment("until", nullable=False),
)

#: Who has which task; a task without a row is nobody's.
topic_tasks = Table(
    "topic_tasks",
    METADATA,
    text("project", primary_key=True),
    text("group_name", primary_key=True),
    _part("task"),
    text("member"),
)
