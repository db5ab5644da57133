"""Secrets, encrypted; and which key has encrypted an archived part."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the new table, and the new column."""
    op.create_table(
        "secrets",
        Column("project", Text, primary_key=True, nullable=False),
        Column("name", Text, primary_key=True, nullable=False),
        Column("sealed", Text, nullable=False),
    )
    op.add_column("files", Column("key", Text))
