"""The tables of streams: what their processes tell, which are paused, what checks have found. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, Table

from tidemill.adapters.sql.columns import BigId, Json, Prose
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

#: Streams that are paused: no process of the installation works on them until their row goes.
stream_pauses = Table(
    "stream_pauses",
    METADATA,
    text("project", primary_key=True),
    text("stream", primary_key=True),
    moment("at", nullable=False),
)

#: What checks of streams have found: of each hour, for each task in each of its lives (`since`) and each check.
stream_checks = Table(
    "stream_checks",
    METADATA,
    text("project", primary_key=True),
    text("stream", primary_key=True),
    moment("hour", primary_key=True, nullable=False),
    text("task", primary_key=True),
    Column("since", BigId, primary_key=True, nullable=False),
    text("judged", primary_key=True),
    Column("name", Prose, primary_key=True, nullable=False),
    text("severity"),
    Column("rows", BigId, nullable=False),
    Column("failed", BigId, nullable=False),
)
