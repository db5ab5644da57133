"""The first schema: batches and runs, refs with their pointers and logs, bookmarks, archive index, checks, events."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy import UniqueConstraint as Unique

revision = "0001"
down_revision = None

_LONG = BigInteger().with_variant(Integer(), "sqlite")
_TIME = DateTime(timezone=True)


def _id() -> Column[int]:
    return Column("id", _LONG, primary_key=True)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _to(name: str, target: str, **options: Any) -> Column[int]:
    options.setdefault("nullable", False)
    return Column(name, _LONG, ForeignKey(target), **options)


def _moment(name: str, **options: Any) -> Column[Any]:
    return Column(name, _TIME, **options)


def _interval() -> tuple[Column[Any], ...]:
    return _moment("interval_start"), _moment("interval_end"), Column("interval_zone", Text)


def _only(where: str) -> dict[str, Any]:
    return {"sqlite_where": text(where), "postgresql_where": text(where)}


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "batches",
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
    op.create_table(
        "fences",
        _id(),
        _text("project"),
        _text("purpose"),
        _moment("at", nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "runs",
        _id(),
        _text("project"),
        _to("batch_id", "batches.id"),
        Column("attempt", _LONG, nullable=False),
        _text("state"),
        _to("fence", "fences.id", unique=True),
        Column("branch", Text),
        _moment("created_at", nullable=False),
        _moment("started_at"),
        _moment("ended_at"),
        Column("error", Text),
        Column("holder", Text),
        _moment("lease_until"),
        Column("code_version", Text),
        Unique("batch_id", "attempt"),
        Index(None, "project", "id"),
        Index(None, "project", "state", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_runs_unended", "runs", ["batch_id"], unique=True, **_only("state IN ('queued', 'running', 'publishing')")
    )
    op.create_table(
        "tasks",
        _id(),
        _to("run_id", "runs.id"),
        _text("task"),
        _text("state"),
        Column("tries", _LONG, nullable=False),
        _moment("started_at"),
        _moment("ended_at"),
        Column("rows", _LONG),
        Column("bytes", _LONG),
        Column("error", Text),
        Unique("run_id", "task"),
    )
    op.create_table(
        "reads",
        _id(),
        _to("run_id", "runs.id", index=True),
        _text("table_name"),
        Column("snapshot_id", _LONG),
        _text("scope"),
    )
    op.create_table(
        "refs",
        _id(),
        _text("project"),
        _text("name"),
        _text("kind"),
        _text("state"),
        Column("head", _LONG, nullable=False),
        _moment("created_at", nullable=False),
        Column("parent", Text),
        Column("parent_head", _LONG),
        _to("run_id", "runs.id", nullable=True),
        _moment("expires_at"),
        Index(None, "project", "id"),
        Index(None, "project", "name", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_refs_standing", "refs", ["project", "name"], unique=True, **_only("state IN ('open', 'failed', 'absorbed')")
    )
    op.create_table(
        "ref_bases",
        _to("ref_id", "refs.id", primary_key=True),
        _text("namespace", primary_key=True),
        _text("table_name", primary_key=True),
        Column("pointer", Text),
        Column("forked", Text),
    )
    op.create_table(
        "views",
        _to("ref_id", "refs.id", primary_key=True),
        _text("namespace", primary_key=True),
        _text("table_name", primary_key=True),
        _text("sql"),
    )
    op.create_table(
        "commits",
        _to("ref_id", "refs.id", primary_key=True),
        Column("seq", _LONG, primary_key=True, autoincrement=False),
        _text("kind"),
        _moment("at", nullable=False),
        _to("batch_id", "batches.id", nullable=True),
        _to("run_id", "runs.id", nullable=True),
        Column("detail", Text, nullable=False),
        Index(None, "ref_id", "at"),
        Index(None, "ref_id", "batch_id", "seq"),
    )
    op.create_table(
        "commit_changes",
        _to("ref_id", "refs.id", primary_key=True),
        Column("seq", _LONG, primary_key=True, autoincrement=False),
        _text("namespace", primary_key=True),
        _text("table_name", primary_key=True),
        Column("before", Text),
        Column("after", Text),
        Index(None, "ref_id", "namespace", "table_name", "seq"),
    )
    op.create_table(
        "iceberg_tables",
        Column("catalog_name", String(255), primary_key=True),
        Column("table_namespace", String(255), primary_key=True),
        Column("table_name", String(255), primary_key=True),
        Column("metadata_location", String(1000)),
        Column("previous_metadata_location", String(1000)),
        Column("iceberg_type", String(5)),
    )
    op.create_table(
        "iceberg_namespace_properties",
        Column("catalog_name", String(255), primary_key=True),
        Column("namespace", String(255), primary_key=True),
        Column("property_key", String(255), primary_key=True),
        Column("property_value", String(1000), nullable=False),
    )
    op.create_table(
        "bookmarks",
        _text("project", primary_key=True),
        _text("pipeline", primary_key=True),
        _text("source", primary_key=True),
        Column("value", Text, nullable=False),
        Column("version", _LONG, nullable=False),
        _to("batch_id", "batches.id"),
    )
    op.create_table(
        "manifests",
        _id(),
        _text("project"),
        _to("batch_id", "batches.id"),
        _text("pipeline"),
        _text("source"),
        Column("version", _LONG, nullable=False),
        Column("attempt", _LONG, nullable=False),
        _moment("extracted_at", nullable=False),
        Column("code_version", Text),
        *_interval(),
        Column("bookmark_before", Text, nullable=False),
        Column("bookmark_after", Text, nullable=False),
        Column("schema", Text, nullable=False),
        Unique("batch_id", "source", "version"),
        Index(None, "project", "batch_id"),
        Index(None, "project", "pipeline", "batch_id"),
    )
    op.create_table(
        "files",
        _to("manifest_id", "manifests.id", primary_key=True),
        Column("position", _LONG, primary_key=True, autoincrement=False),
        _text("path"),
        Column("name", Text, nullable=False),
        _text("sha256"),
        Column("bytes", _LONG, nullable=False),
        Column("rows", _LONG),
        Column("format", Text),
        Column("compression", Text),
    )
    op.create_table(
        "leases",
        _id(),
        _text("project"),
        Column("holder", Text, nullable=False),
        _moment("until", nullable=False),
        Column("pointers", Text, nullable=False),
        Index(None, "project", "until"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "doomed",
        _text("project", primary_key=True),
        _text("path", primary_key=True),
        _moment("noted_at", nullable=False),
        Index(None, "project", "noted_at"),
    )
    op.create_table(
        "checks",
        _id(),
        _text("project"),
        _to("run_id", "runs.id"),
        _to("batch_id", "batches.id"),
        _text("namespace"),
        _text("table_name"),
        Column("name", Text, nullable=False),
        _text("severity"),
        Column("passed", Boolean, nullable=False),
        _moment("at", nullable=False),
        Column("rows", _LONG),
        Column("failed", _LONG),
        Column("observed", Text),
        Column("expected", Text),
        Column("failures", Text),
        Column("error", Text),
        Index(None, "project", "id"),
        Index(None, "run_id", "id"),
        Index(None, "project", "namespace", "table_name", "id"),
    )
    op.create_table(
        "events",
        _id(),
        _text("project"),
        _text("kind"),
        _moment("at", nullable=False),
        Column("payload", Text, nullable=False),
        _moment("done_at"),
        Column("tries", _LONG, nullable=False),
        Column("error", Text),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_pending", "events", ["project", "kind", "id"], **_only("done_at IS NULL"))
    op.create_table(
        "tickets",
        _text("project", primary_key=True),
        _text("namespace", primary_key=True),
        _text("table_name", primary_key=True),
        _to("run_id", "runs.id", index=True),
        _moment("until", nullable=False),
    )
