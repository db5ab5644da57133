"""Deliveries: which tables are mirrored where, and how far."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Integer, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the new table."""
    number = BigInteger().with_variant(Integer(), "sqlite")
    op.create_table(
        "deliveries",
        Column("project", Text, primary_key=True, nullable=False),
        Column("pipeline", Text, primary_key=True, nullable=False),
        Column("destination", Text, primary_key=True, nullable=False),
        Column("spec", Text, nullable=False),
        Column("delivered", Text, nullable=False),
        Column("delivered_at", DateTime(timezone=True)),
        Column("rows", number, nullable=False),
        Column("tries", number, nullable=False),
        Column("error", Text),
        Column("next_at", DateTime(timezone=True)),
    )
