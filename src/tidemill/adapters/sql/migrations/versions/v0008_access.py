"""Access: users, tokens, sessions, failed logins, the audit log."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Integer, Text

revision = "0008"
down_revision = "0007"


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _moment(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Make the new tables."""
    number = BigInteger().with_variant(Integer(), "sqlite")
    op.create_table(
        "access_users",
        _text("project", key=True),
        _text("name", key=True),
        _text("role"),
        _text("pipelines"),
        Column("password", Text),
        _moment("created_at", nullable=False),
        _moment("disabled_at"),
        _moment("password_at"),
    )
    op.create_table(
        "access_tokens",
        _text("project", key=True),
        _text("id", key=True),
        *(_text(name) for name in ("user_name", "title", "digest", "role", "pipelines")),
        _moment("created_at", nullable=False),
        *(_moment(name) for name in ("expires_at", "used_at", "revoked_at")),
    )
    op.create_table(
        "access_sessions",
        _text("project", key=True),
        _text("digest", key=True),
        _text("user_name"),
        _moment("created_at", nullable=False),
        _moment("seen_at", nullable=False),
        _text("address"),
        _text("agent"),
    )
    op.create_table(
        "access_failures",
        _text("project", key=True),
        _text("key", key=True),
        Column("tries", number, nullable=False),
        _moment("last_at", nullable=False),
        _moment("until"),
        _moment("known_at"),
    )
    op.create_table(
        "access_log",
        Column("id", number, primary_key=True),
        _text("project"),
        _moment("at", nullable=False),
        *(_text(name) for name in ("who", "action", "target", "result")),
        Column("pipeline", Text),
        _text("address"),
        Column("token", Text),
        _text("detail"),
        Column("of_id", number),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "access_seen",
        _text("project", key=True),
        _text("key", key=True),
        _moment("until", nullable=False),
    )
    for table, columns in (
        ("access_tokens", ("project", "user_name")),
        ("access_sessions", ("project", "user_name")),
        ("access_sessions", ("project", "seen_at")),
        ("access_sessions", ("project", "created_at")),
        ("access_failures", ("project", "last_at")),
        ("access_log", ("project", "id")),
        ("access_log", ("project", "at")),
        ("access_log", ("of_id",)),
        ("access_seen", ("project", "until")),
    ):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
