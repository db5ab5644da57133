"""What checks of streams have found, by hour."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Integer, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the new table."""
    number = BigInteger().with_variant(Integer(), "sqlite")
    op.create_table(
        "stream_checks",
        Column("project", Text, primary_key=True, nullable=False),
        Column("stream", Text, primary_key=True, nullable=False),
        Column("hour", DateTime(timezone=True), primary_key=True, nullable=False),
        Column("task", Text, primary_key=True, nullable=False),
        Column("since", number, primary_key=True, nullable=False),
        Column("judged", Text, primary_key=True, nullable=False),
        Column("name", Text, primary_key=True, nullable=False),
        Column("severity", Text, nullable=False),
        Column("rows", number, nullable=False),
        Column("failed", number, nullable=False),
    )
