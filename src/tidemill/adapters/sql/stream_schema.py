"""The table of what processes of streams tell of themselves. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, Table

from tidemill.adapters.sql.columns import Json
from tidemill.adapters.sql.declare import METADATA, moment, text

#: One row for each process's part in a stream, written again every few seconds.
stream_processes = Table(
    "stream_processes",
    METADATA,
    text("project", primary_key=True),
    text("stream", primary_key=True),
    text("process", primary_key=True),
    moment("at", nullable=False),
    Column("facts", Json, nullable=False),
)
