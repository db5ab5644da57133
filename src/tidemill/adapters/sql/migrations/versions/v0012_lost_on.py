"""A run that lost a race begins with the tickets of the tables that it lost on; a ticket lasts as long as its run."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add what runs wait for; take the tickets' own end away."""
    op.add_column("runs", Column("lost_on", Text))
    op.drop_column("tickets", "until")
