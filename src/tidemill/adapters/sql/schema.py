"""The tables of the metadata database: what is true now. How older databases get there is in `migrations/`.

One database may hold several projects; each root table carries the project's name, the others hang on a root.
`iceberg_tables` and `iceberg_namespace_properties` are PyIceberg's (the layout of Iceberg's JDBC catalog, v1), so
that other engines open the same database: a ref is a `catalog_name` there.
"""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Index, MetaData, String, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from tidemill.adapters.sql import (  # their tables belong to the same database
    access_schema,  # noqa: F401
    delivery_schema,  # noqa: F401
    schedule_schema,  # noqa: F401
    secrets,  # noqa: F401
    stream_schema,  # noqa: F401
    topics_schema,  # noqa: F401
)
from tidemill.adapters.sql.columns import BigId, Json, Prose
from tidemill.adapters.sql.declare import METADATA, interval, moment, serial, text, to
from tidemill.model.branch import MAIN

#: The newest revision of `migrations/`: what this code needs. Revisions are numbers, so that older < newer.
REVISION = "0012"


def catalog_name(project: str, ref: str) -> str:
    """The `catalog_name` by which PyIceberg and other engines open a ref of a project."""
    return project if ref == MAIN else f"{project}@{ref}"


batches = Table(
    "batches",
    METADATA,
    serial(),
    text("project"),
    text("pipeline"),
    *interval(),
    Column("run_key", Text),
    text("state"),
    moment("created_at", nullable=False),
    moment("extracted_at"),
    moment("archived_at"),
    moment("loaded_at"),
    moment("published_at"),
    Column("code_version", Text),
    Unique("project", "pipeline", "interval_start", "interval_end"),
    Unique("project", "pipeline", "run_key"),
    CheckConstraint("(interval_start IS NULL) <> (run_key IS NULL)", name="interval_or_key"),
    Index(None, "project", "id"),
    Index(None, "project", "pipeline", "id"),
    Index(None, "project", "pipeline", "state", "interval_start"),
    Index(None, "project", "interval_start"),
    sqlite_autoincrement=True,
)

#: Fencing numbers: one row for each that was given out. They grow, and none is given out twice.
fences = Table(
    "fences",
    METADATA,
    serial(),
    text("project"),
    text("purpose"),
    moment("at", nullable=False),
    sqlite_autoincrement=True,
)

runs = Table(
    "runs",
    METADATA,
    serial(),
    text("project"),
    to("batch_id", "batches.id"),
    Column("attempt", BigId, nullable=False),
    text("state"),
    to("fence", "fences.id", unique=True),
    Column("branch", Text),
    moment("created_at", nullable=False),
    moment("started_at"),
    moment("ended_at"),
    Column("error", Prose),
    Column("holder", Prose),
    moment("lease_until"),
    Column("code_version", Text),
    #: Why there is a run; null: it was begun by hand, in the process of whoever did.
    Column("kind", Text),
    #: Parameters that were given for this run.
    Column("conf", Json),
    #: The definition that schedulers go by; null: it is none of theirs.
    to("definition_id", "definitions.id", nullable=True),
    to("backfill_id", "backfills.id", nullable=True, index=True),
    #: Tasks that it is restricted to; null: all.
    Column("only", Json),
    #: How often in a row the batch's run was begun anew, because another published first.
    Column("conflicts", BigId),
    #: Tables on which its batch lost so: it begins with their tickets; null: none.
    Column("lost_on", Json),
    #: When a person asked it to stop.
    moment("cancel_at"),
    #: When it was told that the run is late.
    moment("late_at"),
    #: The batch's: so that the newest runs of one pipeline are found without a look at those of others.
    Column("pipeline", Text),
    #: The batch's: so that runs of a time are found by one index; null: its batch has no interval.
    moment("interval_start"),
    Unique("batch_id", "attempt"),
    Index(None, "project", "id", "interval_start"),
    Index(None, "project", "state", "id"),
    Index(None, "project", "kind", "id"),
    Index(None, "project", "pipeline", "id", "state"),
    sqlite_autoincrement=True,
)
#: At most one attempt at a batch has not ended: whatever the code does, a second one cannot be inserted.
_unended = Index("uq_runs_unended", runs.c.batch_id, unique=True)

tasks = Table(
    "tasks",
    METADATA,
    serial(),
    to("run_id", "runs.id"),
    text("task"),
    #: Which instance of a mapped task; -1: it is one.
    Column("map_index", BigId, nullable=False),
    text("state"),
    Column("tries", BigId, nullable=False),
    moment("started_at"),
    moment("ended_at"),
    Column("rows", BigId),
    Column("bytes", BigId),
    Column("error", Prose),
    Column("failed", BigId, nullable=False),
    Column("lost", BigId, nullable=False),
    #: When a wait is over, and what is waited for.
    moment("due"),
    Column("trigger", Text),
    #: How many instances a task has that is mapped over its result.
    Column("length", BigId),
    moment("queued_at"),
    Column("worker", Prose),
    #: What it takes of which pool while a worker has it, or will have it.
    Column("pool", Text),
    Column("slots", BigId),
    Unique("run_id", "task", "map_index"),
)
#: What counts against pools: few rows, however long the history.
_live = Index("ix_tasks_live", tasks.c.pool)
#: What waits for something in the shared loop: few rows, too.
_deferred = Index("ix_tasks_deferred", tasks.c.run_id)

reads = Table(
    "reads",
    METADATA,
    serial(),
    to("run_id", "runs.id", index=True),
    text("table_name"),
    Column("snapshot_id", BigId),
    text("scope"),
)

refs = Table(
    "refs",
    METADATA,
    serial(),
    text("project"),
    text("name"),
    text("kind"),
    text("state"),
    Column("head", BigId, nullable=False),
    moment("created_at", nullable=False),
    Column("parent", Text),
    Column("parent_head", BigId),
    to("run_id", "runs.id", nullable=True),
    moment("expires_at"),
    Index(None, "project", "id"),
    Index(None, "project", "name", "id"),
    sqlite_autoincrement=True,
)
#: A name is free again once its ref was merged or dropped; the old record stays.
_standing = Index("uq_refs_standing", refs.c.project, refs.c.name, unique=True)

ref_bases = Table(
    "ref_bases",
    METADATA,
    to("ref_id", "refs.id", primary_key=True),
    text("namespace", primary_key=True),
    text("table_name", primary_key=True),
    #: The base that counts now; null where it was taken away.
    Column("pointer", Text),
    #: The pointer at the fork, which no later base changes: time travel begins with it.
    Column("forked", Text),
)

views = Table(
    "views",
    METADATA,
    to("ref_id", "refs.id", primary_key=True),
    text("namespace", primary_key=True),
    text("table_name", primary_key=True),
    text("sql"),
)

commits = Table(
    "commits",
    METADATA,
    to("ref_id", "refs.id", primary_key=True),
    Column("seq", BigId, primary_key=True, autoincrement=False),
    text("kind"),
    moment("at", nullable=False),
    to("batch_id", "batches.id", nullable=True),
    to("run_id", "runs.id", nullable=True),
    Column("detail", Json, nullable=False),
    Index(None, "ref_id", "at"),
    Index(None, "ref_id", "batch_id", "seq"),
)

#: What a commit moved, one row a table: `pointers_at` is then one indexed query, however long the log.
commit_changes = Table(
    "commit_changes",
    METADATA,
    to("ref_id", "refs.id", primary_key=True),
    Column("seq", BigId, primary_key=True, autoincrement=False),
    text("namespace", primary_key=True),
    text("table_name", primary_key=True),
    Column("before", Text),
    Column("after", Text),
    Index(None, "ref_id", "namespace", "table_name", "seq"),
)

iceberg_tables = Table(
    "iceberg_tables",
    METADATA,
    Column("catalog_name", String(255), primary_key=True),
    Column("table_namespace", String(255), primary_key=True),
    Column("table_name", String(255), primary_key=True),
    Column("metadata_location", String(1000)),
    Column("previous_metadata_location", String(1000)),
    Column("iceberg_type", String(5)),
)

iceberg_namespaces = Table(
    "iceberg_namespace_properties",
    METADATA,
    Column("catalog_name", String(255), primary_key=True),
    Column("namespace", String(255), primary_key=True),
    Column("property_key", String(255), primary_key=True),
    Column("property_value", String(1000), nullable=False),
)

bookmarks = Table(
    "bookmarks",
    METADATA,
    text("project", primary_key=True),
    text("pipeline", primary_key=True),
    text("source", primary_key=True),
    Column("value", Json, nullable=False),
    Column("version", BigId, nullable=False),
    to("batch_id", "batches.id"),
)

manifests = Table(
    "manifests",
    METADATA,
    serial(),
    text("project"),
    to("batch_id", "batches.id"),
    text("pipeline"),
    text("source"),
    Column("version", BigId, nullable=False),
    Column("attempt", BigId, nullable=False),
    moment("extracted_at", nullable=False),
    Column("code_version", Text),
    *interval(),
    Column("bookmark_before", Json, nullable=False),
    Column("bookmark_after", Json, nullable=False),
    Column("schema", Json, nullable=False),
    Unique("batch_id", "source", "version"),
    Index(None, "project", "batch_id"),
    Index(None, "project", "pipeline", "batch_id"),
)

files = Table(
    "files",
    METADATA,
    to("manifest_id", "manifests.id", primary_key=True),
    Column("position", BigId, primary_key=True, autoincrement=False),
    text("path"),
    Column("name", Prose, nullable=False),
    text("sha256"),
    Column("bytes", BigId, nullable=False),
    Column("rows", BigId),
    Column("format", Text),
    Column("compression", Text),
    #: Which key has encrypted it; null: none.
    Column("key", Text),
)

leases = Table(
    "leases",
    METADATA,
    serial(),
    text("project"),
    Column("holder", Prose, nullable=False),
    moment("until", nullable=False),
    Column("pointers", Json, nullable=False),
    Index(None, "project", "until"),
    sqlite_autoincrement=True,
)

doomed = Table(
    "doomed",
    METADATA,
    text("project", primary_key=True),
    text("path", primary_key=True),
    moment("noted_at", nullable=False),
    Index(None, "project", "noted_at"),
)

checks = Table(
    "checks",
    METADATA,
    serial(),
    text("project"),
    to("run_id", "runs.id"),
    to("batch_id", "batches.id"),
    text("namespace"),
    text("table_name"),
    Column("name", Prose, nullable=False),
    text("severity"),
    Column("passed", Boolean, nullable=False),
    moment("at", nullable=False),
    Column("rows", BigId),
    Column("failed", BigId),
    Column("observed", Prose),
    Column("expected", Prose),
    Column("failures", Prose),
    Column("error", Prose),
    Index(None, "project", "id"),
    Index(None, "run_id", "id"),
    Index(None, "project", "namespace", "table_name", "id"),
)

events = Table(
    "events",
    METADATA,
    serial(),
    text("project"),
    text("kind"),
    moment("at", nullable=False),
    Column("payload", Json, nullable=False),
    moment("done_at"),
    Column("tries", BigId, nullable=False),
    Column("error", Prose),
    sqlite_autoincrement=True,
)
#: The outbox is looked at often and is nearly empty: its index holds only what is not done.
_waiting = Index("ix_events_pending", events.c.project, events.c.kind, events.c.id)

tickets = Table(
    "tickets",
    METADATA,
    text("project", primary_key=True),
    text("namespace", primary_key=True),
    text("table_name", primary_key=True),
    to("run_id", "runs.id", index=True),
)

#: Which revision the database has; a name of its own, for databases that are shared with another Alembic user.
version = Table("tidemill_version", MetaData(), Column("version_num", String(32), primary_key=True))


def schema_for(dialect: str) -> MetaData:
    """The schema with what its partial indexes are partial to, which each database's dialect has its own option for.

    Said here and not at the indexes, because naming PostgreSQL's option loads its dialect: 110 ms at import, which
    a project on SQLite need not pay.
    """
    _unended.kwargs[f"{dialect}_where"] = runs.c.state.in_(["queued", "running", "publishing"])
    _standing.kwargs[f"{dialect}_where"] = refs.c.state.in_(["open", "failed", "absorbed"])
    _live.kwargs[f"{dialect}_where"] = tasks.c.state.in_(["queued", "running", "restarting"])
    _deferred.kwargs[f"{dialect}_where"] = tasks.c.state == "deferred"
    _waiting.kwargs[f"{dialect}_where"] = events.c.done_at.is_(None)
    return METADATA
