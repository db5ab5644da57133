"""The tables of access: users, tokens, sessions, failed logins, the audit log. See `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from tidemill.adapters.sql.columns import BigId, Json, Prose
from tidemill.adapters.sql.declare import METADATA, moment, serial, text

users = Table(
    "access_users",
    METADATA,
    text("project", primary_key=True),
    text("name", primary_key=True),
    text("role"),
    #: The role by pipeline, where it is another one.
    Column("pipelines", Json, nullable=False),
    #: The hash; null: nobody comes in by a password.
    Column("password", Text),
    moment("created_at", nullable=False),
    moment("disabled_at"),
    moment("password_at"),
)

tokens = Table(
    "access_tokens",
    METADATA,
    text("project", primary_key=True),
    text("id", primary_key=True),
    text("user_name"),
    Column("title", Prose, nullable=False),
    text("digest"),
    text("role"),
    Column("pipelines", Json, nullable=False),
    moment("created_at", nullable=False),
    moment("expires_at"),
    moment("used_at"),
    moment("revoked_at"),
    Index(None, "project", "user_name"),
)

sessions = Table(
    "access_sessions",
    METADATA,
    text("project", primary_key=True),
    text("digest", primary_key=True),
    text("user_name"),
    moment("created_at", nullable=False),
    moment("seen_at", nullable=False),
    Column("address", Prose, nullable=False),
    Column("agent", Prose, nullable=False),
    Index(None, "project", "user_name"),
    Index(None, "project", "seen_at"),
    Index(None, "project", "created_at"),
)

failures = Table(
    "access_failures",
    METADATA,
    text("project", primary_key=True),
    #: A digest: what is typed where a name belongs may be a password.
    text("key", primary_key=True),
    Column("tries", BigId, nullable=False),
    moment("last_at", nullable=False),
    moment("until"),
    moment("known_at"),
    Index(None, "project", "last_at"),
)

log = Table(
    "access_log",
    METADATA,
    serial(),
    text("project"),
    moment("at", nullable=False),
    Column("who", Prose, nullable=False),
    text("action"),
    Column("target", Prose, nullable=False),
    text("result"),
    Column("pipeline", Text),
    Column("address", Prose, nullable=False),
    Column("token", Text),
    Column("detail", Json, nullable=False),
    #: The entry that told of the beginning of what this one tells the end of.
    Column("of_id", BigId),
    Index(None, "project", "id"),
    Index(None, "project", "at"),
    Index(None, "of_id"),
    sqlite_autoincrement=True,
)

#: What may come only once.
seen = Table(
    "access_seen",
    METADATA,
    text("project", primary_key=True),
    text("key", primary_key=True),
    moment("until", nullable=False),
    Index(None, "project", "until"),
)
