"""The table of deliveries: which tables are mirrored where, and how far. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, Table

from tidemill.adapters.sql.columns import BigId, Json, Prose
from tidemill.adapters.sql.declare import METADATA, moment, text

deliveries = Table(
    "deliveries",
    METADATA,
    text("project", primary_key=True),
    text("pipeline", primary_key=True),
    text("destination", primary_key=True),
    #: What goes there, and how.
    Column("spec", Json, nullable=False),
    #: Pointer by table, as it was mirrored last.
    Column("delivered", Json, nullable=False),
    moment("delivered_at"),
    Column("rows", BigId, nullable=False),
    #: Failed tries since, and the error of the last.
    Column("tries", BigId, nullable=False),
    Column("error", Prose),
    moment("next_at"),
)
