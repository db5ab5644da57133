"""Lists of runs stay fast with a million of them: a run knows its pipeline, and there is an index for each filter."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, with what the batches say, and the indexes."""
    op.add_column("runs", Column("pipeline", Text))
    op.execute("UPDATE runs SET pipeline = (SELECT pipeline FROM batches WHERE batches.id = runs.batch_id)")
    op.create_index("ix_runs_project_kind_id", "runs", ["project", "kind", "id"])
    op.create_index("ix_runs_project_pipeline_id_state", "runs", ["project", "pipeline", "id", "state"])
    op.create_index("ix_batches_project_interval_start", "batches", ["project", "interval_start"])
