"""What processes of streams tell of themselves."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, DateTime, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the new table."""
    op.create_table(
        "stream_processes",
        Column("project", Text, primary_key=True, nullable=False),
        Column("stream", Text, primary_key=True, nullable=False),
        Column("process", Text, primary_key=True, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("facts", Text, nullable=False),
    )
