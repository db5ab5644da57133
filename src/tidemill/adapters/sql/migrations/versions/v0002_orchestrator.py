"""What schedulers need: definitions, mapped tasks, tries, xcoms, pools, backfills, arrivals."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy import UniqueConstraint as Unique

from tidemill.adapters.sql.columns import Json

revision = "0002"
down_revision = "0001"

_LONG = BigInteger().with_variant(Integer(), "sqlite")
_TIME = DateTime(timezone=True)


def _id() -> Column[int]:
    return Column("id", _LONG, primary_key=True)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _long(name: str, **options: Any) -> Column[int]:
    options.setdefault("nullable", False)
    return Column(name, _LONG, **options)


def _part(name: str) -> Column[int]:
    return Column(name, _LONG, primary_key=True, autoincrement=False)


def _to(name: str, target: str, **options: Any) -> Column[int]:
    options.setdefault("nullable", False)
    return Column(name, _LONG, ForeignKey(target), **options)


def _moment(name: str, **options: Any) -> Column[Any]:
    return Column(name, _TIME, **options)


def _interval(**options: Any) -> tuple[Column[Any], ...]:
    return (
        _moment("interval_start", **options),
        _moment("interval_end", **options),
        Column("interval_zone", Text),
    )


def upgrade() -> None:
    """Make the new tables, and give runs and tasks their new columns."""
    _definitions()
    _backfills()
    _runs()
    _tasks()
    op.create_table(
        "backfill_intervals",
        _to("backfill_id", "backfills.id", primary_key=True),
        _part("position"),
        *_interval(nullable=False),
        _to("run_id", "runs.id", nullable=True),
    )
    op.create_table(
        "tries",
        _to("run_id", "runs.id", primary_key=True),
        _text("task", primary_key=True),
        _part("map_index"),
        _part("number"),
        _moment("started_at"),
        _moment("ended_at", nullable=False),
        Column("error", Text),
        Column("worker", Text),
    )
    op.create_table(
        "xcoms",
        _to("run_id", "runs.id", primary_key=True),
        _text("task", primary_key=True),
        _part("map_index"),
        _text("key", primary_key=True),
        _text("value"),
    )
    op.create_table(
        "import_errors",
        _text("project", primary_key=True),
        _text("file", primary_key=True),
        _text("kind"),
        _text("what"),
        Column("place", Text),
        Column("hint", Text),
        _moment("at", nullable=False),
    )
    op.create_table(
        "pools",
        _text("project", primary_key=True),
        _text("name", primary_key=True),
        _long("slots"),
        Column("doc", Text),
    )
    op.create_table(
        "arrivals",
        _text("project", primary_key=True),
        _text("pipeline", primary_key=True),
        _text("name", primary_key=True),
        _text("stamp"),
        _moment("at", nullable=False),
    )


def _definitions() -> None:
    op.create_table(
        "definitions",
        _id(),
        _text("project"),
        _text("pipeline"),
        _text("hash"),
        Column("body", Json, nullable=False),
        _moment("created_at", nullable=False),
        Unique("project", "pipeline", "hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pipelines",
        _text("project", primary_key=True),
        _text("name", primary_key=True),
        _to("definition_id", "definitions.id"),
        _text("code_version"),
        _text("file"),
        Column("paused", Boolean, nullable=False),
        Column("active", Boolean, nullable=False),
        *_interval(),
        _moment("next_at"),
        _moment("seen_at", nullable=False),
        Index(None, "project", "next_at"),
        Index(None, "project", "file"),
    )


def _backfills() -> None:
    op.create_table(
        "backfills",
        _id(),
        _text("project"),
        _text("pipeline"),
        _text("state"),
        _text("policy"),
        _long("concurrency"),
        Column("tasks", Json, nullable=False),
        Column("conf", Json, nullable=False),
        _moment("created_at", nullable=False),
        _moment("ended_at"),
        Index(None, "project", "state"),
        sqlite_autoincrement=True,
    )


def _runs() -> None:
    with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as runs:
        runs.add_column(Column("kind", Text))
        runs.add_column(Column("conf", Json))
        runs.add_column(Column("definition_id", _LONG))
        runs.add_column(Column("backfill_id", _LONG))
        runs.add_column(Column("only", Json))
        runs.add_column(_long("conflicts", nullable=True))
        runs.add_column(_moment("cancel_at"))
        runs.add_column(_moment("late_at"))
        runs.create_foreign_key("fk_runs_definition_id", "definitions", ["definition_id"], ["id"])
        runs.create_foreign_key("fk_runs_backfill_id", "backfills", ["backfill_id"], ["id"])
        runs.create_index("ix_runs_backfill_id", ["backfill_id"])


def _tasks() -> None:
    with op.batch_alter_table("tasks") as tasks:
        for name in ("map_index", "failed", "lost"):
            tasks.add_column(_long(name, nullable=True))
        tasks.add_column(_moment("due"))
        tasks.add_column(Column("trigger", Text))
        tasks.add_column(_long("length", nullable=True))
        tasks.add_column(_moment("queued_at"))
        tasks.add_column(Column("worker", Text))
        tasks.add_column(Column("pool", Text))
        tasks.add_column(_long("slots", nullable=True))
    op.execute("UPDATE tasks SET map_index = -1, failed = 0, lost = 0")
    with op.batch_alter_table("tasks") as tasks:
        for name in ("map_index", "failed", "lost"):
            tasks.alter_column(name, existing_type=_LONG, nullable=False)
        tasks.drop_constraint("uq_tasks_run_id_task", type_="unique")
        tasks.create_unique_constraint("uq_tasks_run_id_task_map_index", ["run_id", "task", "map_index"])
    live = text("state IN ('queued', 'running', 'restarting')")
    op.create_index("ix_tasks_live", "tasks", ["pool"], sqlite_where=live, postgresql_where=live)
    deferred = text("state = 'deferred'")
    op.create_index("ix_tasks_deferred", "tasks", ["run_id"], sqlite_where=deferred, postgresql_where=deferred)
