"""The tables that schedulers need beside runs and tasks: definitions, xcoms, pools, backfills. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from tidemill.adapters.sql.columns import BigId, Json, Prose
from tidemill.adapters.sql.declare import METADATA, interval, moment, serial, text, to

#: Tries that did not end their task: those that failed and were tried again, and those whose worker went away.
tries = Table(
    "tries",
    METADATA,
    to("run_id", "runs.id", primary_key=True),
    text("task", primary_key=True),
    Column("map_index", BigId, primary_key=True, autoincrement=False),
    Column("number", BigId, primary_key=True, autoincrement=False),
    moment("started_at"),
    moment("ended_at", nullable=False),
    Column("error", Prose),
    Column("worker", Prose),
)

#: What tasks hand to each other; values are JSON as the task wrote it.
xcoms = Table(
    "xcoms",
    METADATA,
    to("run_id", "runs.id", primary_key=True),
    text("task", primary_key=True),
    Column("map_index", BigId, primary_key=True, autoincrement=False),
    text("key", primary_key=True),
    text("value"),
)

#: Pipelines as their code declared them, one row for each different one.
definitions = Table(
    "definitions",
    METADATA,
    serial(),
    text("project"),
    text("pipeline"),
    text("hash"),
    Column("body", Json, nullable=False),
    moment("created_at", nullable=False),
    Unique("project", "pipeline", "hash"),
    sqlite_autoincrement=True,
)

pipelines = Table(
    "pipelines",
    METADATA,
    text("project", primary_key=True),
    text("name", primary_key=True),
    to("definition_id", "definitions.id"),
    #: The version of the code that it was read from.
    text("code_version"),
    text("file"),
    Column("paused", Boolean, nullable=False),
    #: False: its file makes it no longer; its runs stay.
    Column("active", Boolean, nullable=False),
    #: The newest interval that the schedule has begun a run for.
    *interval(),
    #: When its schedule is looked at again; null: not by time alone.
    moment("next_at"),
    moment("seen_at", nullable=False),
    Index(None, "project", "next_at"),
    Index(None, "project", "file"),
)

#: Files that could not be read, with what a person is told.
import_errors = Table(
    "import_errors",
    METADATA,
    text("project", primary_key=True),
    text("file", primary_key=True),
    text("kind"),
    Column("what", Prose, nullable=False),
    Column("place", Prose),
    Column("hint", Prose),
    moment("at", nullable=False),
)

pools = Table(
    "pools",
    METADATA,
    text("project", primary_key=True),
    text("name", primary_key=True),
    Column("slots", BigId, nullable=False),
    Column("doc", Prose),
)

backfills = Table(
    "backfills",
    METADATA,
    serial(),
    text("project"),
    text("pipeline"),
    text("state"),
    #: Which intervals: missing, failed or all.
    text("policy"),
    Column("concurrency", BigId, nullable=False),
    #: Tasks that it is restricted to, with what follows from them; empty: all.
    Column("tasks", Json, nullable=False),
    Column("conf", Json, nullable=False),
    moment("created_at", nullable=False),
    moment("ended_at"),
    Index(None, "project", "state"),
    sqlite_autoincrement=True,
)

backfill_intervals = Table(
    "backfill_intervals",
    METADATA,
    to("backfill_id", "backfills.id", primary_key=True),
    Column("position", BigId, primary_key=True, autoincrement=False),
    moment("interval_start", nullable=False),
    moment("interval_end", nullable=False),
    Column("interval_zone", Text),
    to("run_id", "runs.id", nullable=True),
)

#: Assets that were published since a pipeline that waits for several of them last ran.
arrivals = Table(
    "arrivals",
    METADATA,
    text("project", primary_key=True),
    text("pipeline", primary_key=True),
    #: The asset, or a file's path.
    text("name", primary_key=True),
    #: Of a file: its size and time, by which a change shows. Of an asset: the event.
    text("stamp"),
    moment("at", nullable=False),
)
