"""Store `secrets`: encrypted values by name. Nothing here knows a key."""

from __future__ import annotations

import base64

from sqlalchemy import Column, Table, Text, delete, select

from tidemill.adapters.sql.declare import METADATA, text
from tidemill.adapters.sql.session import Session

secrets = Table(
    "secrets",
    METADATA,
    text("project", primary_key=True),
    text("name", primary_key=True),
    #: In base64.
    Column("sealed", Text, nullable=False),
)


class SqlSecrets:
    """The port's `SecretRows` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> bytes | None:
        """One row."""
        c = secrets.c
        row = self._session.first(select(c.sealed).where(c.project == self._session.project, c.name == name))
        return base64.b64decode(row.sealed) if row else None

    def names(self) -> list[str]:
        """All names, sorted."""
        c = secrets.c
        rows = self._session.all(select(c.name).where(c.project == self._session.project))
        return sorted(row.name for row in rows)

    def put(self, name: str, sealed: bytes) -> None:
        """Keep a row."""
        c, kept = secrets.c, base64.b64encode(sealed).decode("ascii")
        insert = self._session.insert(secrets).values(project=self._session.project, name=name, sealed=kept)
        self._session.add(
            insert.on_conflict_do_update(index_elements=[c.project, c.name], set_={"sealed": kept}).returning(c.name)
        )

    def remove(self, name: str) -> bool:
        """Forget a row."""
        c = secrets.c
        return self._session.change(delete(secrets).where(c.project == self._session.project, c.name == name)) == 1
