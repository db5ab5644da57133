"""The tables of the metadata database: what is true now. How older databases get there is in `migrations/`.

One database may hold several projects; each root table carries the project's name, the others hang on a root.
`iceberg_tables` and `iceberg_namespace_properties` are PyIceberg's (the layout of Iceberg's JDBC catalog, v1), so
that other engines open the same database: a ref is a `catalog_name` there.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, MetaData, String, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from tidemill.adapters.sql.columns import BigId, Json, Moment, Prose
from tidemill.model.branch import MAIN

#: The newest revision of `migrations/`: what this code needs. Revisions are numbers, so that older < newer.
REVISION = "0002"

#: Deterministic names, so that a later migration can alter a constraint on both databases.
_schema = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def catalog_name(project: str, ref: str) -> str:
    """The `catalog_name` by which PyIceberg and other engines open a ref of a project."""
    return project if ref == MAIN else f"{project}@{ref}"


def _id() -> Column[int]:
    # With `sqlite_autoincrement` on its table an id is never given out twice, also after rows were deleted.
    return Column("id", BigId, primary_key=True)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _to(name: str, target: str, **options: Any) -> Column[int]:
    options.setdefault("nullable", False)
    return Column(name, BigId, ForeignKey(target), **options)


def _moment(name: str, **options: Any) -> Column[Any]:
    return Column(name, Moment, **options)


def _interval() -> tuple[Column[Any], ...]:
    return _moment("interval_start"), _moment("interval_end"), Column("interval_zone", Text)


batches = Table(
    "batches",
    _schema,
    _id(),
    _text("project"),
    _text("pipeline"),
    *_interval(),
    Column("run_key", Text),
    _text("state"),
    _moment("created_at", nullable=False),
    _moment("extracted_at"),
    _moment("archived_at"),
    _moment("loaded_at"),
    _moment("published_at"),
    Column("code_version", Text),
    Unique("project", "pipeline", "interval_start", "interval_end"),
    Unique("project", "pipeline", "run_key"),
    CheckConstraint("(interval_start IS NULL) <> (run_key IS NULL)", name="interval_or_key"),
    Index(None, "project", "id"),
    Index(None, "project", "pipeline", "id"),
    Index(None, "project", "pipeline", "state", "interval_start"),
    sqlite_autoincrement=True,
)

#: Fencing numbers: one row for each that was given out. They grow, and none is given out twice.
fences = Table(
    "fences",
    _schema,
    _id(),
    _text("project"),
    _text("purpose"),
    _moment("at", nullable=False),
    sqlite_autoincrement=True,
)

runs = Table(
    "runs",
    _schema,
    _id(),
    _text("project"),
    _to("batch_id", "batches.id"),
    Column("attempt", BigId, nullable=False),
    _text("state"),
    _to("fence", "fences.id", unique=True),
    Column("branch", Text),
    _moment("created_at", nullable=False),
    _moment("started_at"),
    _moment("ended_at"),
    Column("error", Prose),
    Column("holder", Prose),
    _moment("lease_until"),
    Column("code_version", Text),
    #: Why there is a run; null: it was begun by hand, in the process of whoever did.
    Column("kind", Text),
    #: Parameters that were given for this run.
    Column("conf", Json),
    #: The definition that schedulers go by; null: it is none of theirs.
    _to("definition_id", "definitions.id", nullable=True),
    _to("backfill_id", "backfills.id", nullable=True, index=True),
    #: When a person asked it to stop.
    _moment("cancel_at"),
    #: When it was told that the run is late.
    _moment("late_at"),
    Unique("batch_id", "attempt"),
    Index(None, "project", "id"),
    Index(None, "project", "state", "id"),
    sqlite_autoincrement=True,
)
#: At most one attempt at a batch has not ended: whatever the code does, a second one cannot be inserted.
_unended = Index("uq_runs_unended", runs.c.batch_id, unique=True)

tasks = Table(
    "tasks",
    _schema,
    _id(),
    _to("run_id", "runs.id"),
    _text("task"),
    #: Which instance of a mapped task; -1: it is one.
    Column("map_index", BigId, nullable=False),
    _text("state"),
    Column("tries", BigId, nullable=False),
    _moment("started_at"),
    _moment("ended_at"),
    Column("rows", BigId),
    Column("bytes", BigId),
    Column("error", Prose),
    Column("failed", BigId, nullable=False),
    Column("lost", BigId, nullable=False),
    #: When a wait is over, and what is waited for.
    _moment("due"),
    Column("trigger", Json),
    #: How many instances a task has that is mapped over its result.
    Column("length", BigId),
    _moment("queued_at"),
    Column("worker", Prose),
    Unique("run_id", "task", "map_index"),
)

#: Tries that did not end their task: those that failed and were tried again, and those whose worker went away.
tries = Table(
    "tries",
    _schema,
    _to("run_id", "runs.id", primary_key=True),
    _text("task", primary_key=True),
    Column("map_index", BigId, primary_key=True, autoincrement=False),
    Column("number", BigId, primary_key=True, autoincrement=False),
    _moment("started_at"),
    _moment("ended_at", nullable=False),
    Column("error", Prose),
    Column("worker", Prose),
)

#: What tasks hand to each other; values are JSON as the task wrote it.
xcoms = Table(
    "xcoms",
    _schema,
    _to("run_id", "runs.id", primary_key=True),
    _text("task", primary_key=True),
    Column("map_index", BigId, primary_key=True, autoincrement=False),
    _text("key", primary_key=True),
    _text("value"),
)

#: Pipelines as their code declared them, one row for each different one.
definitions = Table(
    "definitions",
    _schema,
    _id(),
    _text("project"),
    _text("pipeline"),
    _text("hash"),
    Column("body", Json, nullable=False),
    _moment("created_at", nullable=False),
    Unique("project", "pipeline", "hash"),
    sqlite_autoincrement=True,
)

pipelines = Table(
    "pipelines",
    _schema,
    _text("project", primary_key=True),
    _text("name", primary_key=True),
    _to("definition_id", "definitions.id"),
    #: The version of the code that it was read from.
    _text("code_version"),
    _text("file"),
    Column("paused", Boolean, nullable=False),
    #: False: its file makes it no longer; its runs stay.
    Column("active", Boolean, nullable=False),
    #: The newest interval that the schedule has begun a run for.
    *_interval(),
    #: When its schedule is looked at again; null: not by time alone.
    _moment("next_at"),
    _moment("seen_at", nullable=False),
    Index(None, "project", "next_at"),
)

#: Files that could not be read, with what a person is told.
import_errors = Table(
    "import_errors",
    _schema,
    _text("project", primary_key=True),
    _text("file", primary_key=True),
    _text("kind"),
    Column("what", Prose, nullable=False),
    Column("place", Prose),
    Column("hint", Prose),
    _moment("at", nullable=False),
)

pools = Table(
    "pools",
    _schema,
    _text("project", primary_key=True),
    _text("name", primary_key=True),
    Column("slots", BigId, nullable=False),
    Column("doc", Prose),
)

backfills = Table(
    "backfills",
    _schema,
    _id(),
    _text("project"),
    _text("pipeline"),
    _text("state"),
    #: Which intervals: missing, failed or all.
    _text("policy"),
    Column("concurrency", BigId, nullable=False),
    #: Tasks that it is restricted to, with what follows from them; empty: all.
    Column("tasks", Json, nullable=False),
    Column("conf", Json, nullable=False),
    _moment("created_at", nullable=False),
    _moment("ended_at"),
    Index(None, "project", "state"),
    sqlite_autoincrement=True,
)

backfill_intervals = Table(
    "backfill_intervals",
    _schema,
    _to("backfill_id", "backfills.id", primary_key=True),
    Column("position", BigId, primary_key=True, autoincrement=False),
    _moment("interval_start", nullable=False),
    _moment("interval_end", nullable=False),
    Column("interval_zone", Text),
    _to("run_id", "runs.id", nullable=True),
)

#: Assets that were published since a pipeline that waits for several of them last ran.
arrivals = Table(
    "arrivals",
    _schema,
    _text("project", primary_key=True),
    _text("pipeline", primary_key=True),
    #: The asset, or a file's path.
    _text("name", primary_key=True),
    #: Of a file: its size and time, by which a change shows. Of an asset: the event.
    _text("stamp"),
    _moment("at", nullable=False),
)

#: Schedulers, parsers and workers that gave a sign of life.
processes = Table(
    "processes",
    _schema,
    _text("project", primary_key=True),
    _text("holder", primary_key=True),
    _text("kind"),
    _moment("started_at", nullable=False),
    _moment("seen_at", nullable=False),
    Column("detail", Json, nullable=False),
)

reads = Table(
    "reads",
    _schema,
    _id(),
    _to("run_id", "runs.id", index=True),
    _text("table_name"),
    Column("snapshot_id", BigId),
    _text("scope"),
)

refs = Table(
    "refs",
    _schema,
    _id(),
    _text("project"),
    _text("name"),
    _text("kind"),
    _text("state"),
    Column("head", BigId, nullable=False),
    _moment("created_at", nullable=False),
    Column("parent", Text),
    Column("parent_head", BigId),
    _to("run_id", "runs.id", nullable=True),
    _moment("expires_at"),
    Index(None, "project", "id"),
    Index(None, "project", "name", "id"),
    sqlite_autoincrement=True,
)
#: A name is free again once its ref was merged or dropped; the old record stays.
_standing = Index("uq_refs_standing", refs.c.project, refs.c.name, unique=True)

ref_bases = Table(
    "ref_bases",
    _schema,
    _to("ref_id", "refs.id", primary_key=True),
    _text("namespace", primary_key=True),
    _text("table_name", primary_key=True),
    #: The base that counts now; null where it was taken away.
    Column("pointer", Text),
    #: The pointer at the fork, which no later base changes: time travel begins with it.
    Column("forked", Text),
)

views = Table(
    "views",
    _schema,
    _to("ref_id", "refs.id", primary_key=True),
    _text("namespace", primary_key=True),
    _text("table_name", primary_key=True),
    _text("sql"),
)

commits = Table(
    "commits",
    _schema,
    _to("ref_id", "refs.id", primary_key=True),
    Column("seq", BigId, primary_key=True, autoincrement=False),
    _text("kind"),
    _moment("at", nullable=False),
    _to("batch_id", "batches.id", nullable=True),
    _to("run_id", "runs.id", nullable=True),
    Column("detail", Json, nullable=False),
    Index(None, "ref_id", "at"),
    Index(None, "ref_id", "batch_id", "seq"),
)

#: What a commit moved, one row a table: `pointers_at` is then one indexed query, however long the log.
commit_changes = Table(
    "commit_changes",
    _schema,
    _to("ref_id", "refs.id", primary_key=True),
    Column("seq", BigId, primary_key=True, autoincrement=False),
    _text("namespace", primary_key=True),
    _text("table_name", primary_key=True),
    Column("before", Text),
    Column("after", Text),
    Index(None, "ref_id", "namespace", "table_name", "seq"),
)

iceberg_tables = Table(
    "iceberg_tables",
    _schema,
    Column("catalog_name", String(255), primary_key=True),
    Column("table_namespace", String(255), primary_key=True),
    Column("table_name", String(255), primary_key=True),
    Column("metadata_location", String(1000)),
    Column("previous_metadata_location", String(1000)),
    Column("iceberg_type", String(5)),
)

iceberg_namespaces = Table(
    "iceberg_namespace_properties",
    _schema,
    Column("catalog_name", String(255), primary_key=True),
    Column("namespace", String(255), primary_key=True),
    Column("property_key", String(255), primary_key=True),
    Column("property_value", String(1000), nullable=False),
)

bookmarks = Table(
    "bookmarks",
    _schema,
    _text("project", primary_key=True),
    _text("pipeline", primary_key=True),
    _text("source", primary_key=True),
    Column("value", Json, nullable=False),
    Column("version", BigId, nullable=False),
    _to("batch_id", "batches.id"),
)

manifests = Table(
    "manifests",
    _schema,
    _id(),
    _text("project"),
    _to("batch_id", "batches.id"),
    _text("pipeline"),
    _text("source"),
    Column("version", BigId, nullable=False),
    Column("attempt", BigId, nullable=False),
    _moment("extracted_at", nullable=False),
    Column("code_version", Text),
    *_interval(),
    Column("bookmark_before", Json, nullable=False),
    Column("bookmark_after", Json, nullable=False),
    Column("schema", Json, nullable=False),
    Unique("batch_id", "source", "version"),
    Index(None, "project", "batch_id"),
    Index(None, "project", "pipeline", "batch_id"),
)

files = Table(
    "files",
    _schema,
    _to("manifest_id", "manifests.id", primary_key=True),
    Column("position", BigId, primary_key=True, autoincrement=False),
    _text("path"),
    Column("name", Prose, nullable=False),
    _text("sha256"),
    Column("bytes", BigId, nullable=False),
    Column("rows", BigId),
    Column("format", Text),
    Column("compression", Text),
)

leases = Table(
    "leases",
    _schema,
    _id(),
    _text("project"),
    Column("holder", Prose, nullable=False),
    _moment("until", nullable=False),
    Column("pointers", Json, nullable=False),
    Index(None, "project", "until"),
    sqlite_autoincrement=True,
)

doomed = Table(
    "doomed",
    _schema,
    _text("project", primary_key=True),
    _text("path", primary_key=True),
    _moment("noted_at", nullable=False),
    Index(None, "project", "noted_at"),
)

checks = Table(
    "checks",
    _schema,
    _id(),
    _text("project"),
    _to("run_id", "runs.id"),
    _to("batch_id", "batches.id"),
    _text("namespace"),
    _text("table_name"),
    Column("name", Prose, nullable=False),
    _text("severity"),
    Column("passed", Boolean, nullable=False),
    _moment("at", nullable=False),
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
    _schema,
    _id(),
    _text("project"),
    _text("kind"),
    _moment("at", nullable=False),
    Column("payload", Json, nullable=False),
    _moment("done_at"),
    Column("tries", BigId, nullable=False),
    Column("error", Prose),
    sqlite_autoincrement=True,
)
#: The outbox is looked at often and is nearly empty: its index holds only what is not done.
_waiting = Index("ix_events_pending", events.c.project, events.c.kind, events.c.id)

tickets = Table(
    "tickets",
    _schema,
    _text("project", primary_key=True),
    _text("namespace", primary_key=True),
    _text("table_name", primary_key=True),
    _to("run_id", "runs.id", index=True),
    _moment("until", nullable=False),
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
    _waiting.kwargs[f"{dialect}_where"] = events.c.done_at.is_(None)
    return _schema
