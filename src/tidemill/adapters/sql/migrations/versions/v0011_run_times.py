"""Runs of a stretch of time are found by one index, without a look at their batches."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, DateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column, with what the batches say; its index takes the place of the one that it begins with."""
    op.add_column("runs", Column("interval_start", DateTime(timezone=True)))
    op.execute("UPDATE runs SET interval_start = (SELECT interval_start FROM batches WHERE batches.id = runs.batch_id)")
    op.create_index("ix_runs_project_id_interval_start", "runs", ["project", "id", "interval_start"])
    op.drop_index("ix_runs_project_id", "runs")
