"""Streams can be paused: all processes of an installation look at this table."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, DateTime, Text

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "stream_pauses",
        Column("project", Text, primary_key=True, nullable=False),
        Column("stream", Text, primary_key=True, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )
