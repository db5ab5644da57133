"""What embedded topics need: messages in blocks, groups with their positions, writers."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, LargeBinary, Text
from sqlalchemy import UniqueConstraint as Unique

revision = "0003"
down_revision = "0002"

_LONG = BigInteger().with_variant(Integer(), "sqlite")
_TIME = DateTime(timezone=True)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _long(name: str) -> Column[int]:
    return Column(name, _LONG, nullable=False)


def _part(name: str) -> Column[int]:
    return Column(name, _LONG, primary_key=True, autoincrement=False)


def _topic(**options: Any) -> Column[int]:
    key = ForeignKey("topics.id")
    return Column("topic_id", _LONG, key, primary_key=True, autoincrement=False, nullable=False, **options)


def upgrade() -> None:
    """Make the new tables."""
    op.create_table(
        "topics",
        Column("id", _LONG, primary_key=True),
        _text("project"),
        _text("name"),
        _long("partitions"),
        _text("cleanup"),
        Column("retention", _LONG),
        _text("options"),
        Unique("project", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "topic_partitions",
        _topic(),
        _part("number"),
        _long("first"),
        _long("end"),
        _long("cleaned"),
        _long("settling"),
        Column("settling_at", _TIME),
        _long("settled"),
    )
    op.create_table(
        "topic_blocks",
        _topic(),
        _part("number"),
        _part("last"),
        _long("first"),
        _long("messages"),
        _long("size"),
        _long("newest"),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_table(
        "topic_positions",
        _text("project", primary_key=True),
        _text("group_name", primary_key=True),
        _topic(index=True),
        _part("number"),
        _long("position"),
        _text("note"),
    )
    op.create_table(
        "topic_writers", _text("project", primary_key=True), _text("identity", primary_key=True), _long("epoch")
    )
    op.create_table("topic_groups", _text("project", primary_key=True), _text("name", primary_key=True))
    op.create_table(
        "topic_members",
        _text("project", primary_key=True),
        _text("group_name", primary_key=True),
        _text("member", primary_key=True),
        Column("until", _TIME, nullable=False),
    )
    op.create_table(
        "topic_tasks",
        _text("project", primary_key=True),
        _text("group_name", primary_key=True),
        _part("task"),
        _text("member"),
    )
