"""Schemas of destinations: where their revisions are, and which destinations have tables that revisions can change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from tidemill.model.errors import UserError
from tidemill.ports.schemas import HasSchemas
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import connections_of
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.adapters.alembic.revisions import AlembicRevisions
    from tidemill.ports.schemas import TableSchemas

#: The folder of revisions; each destination has one of its name in it.
FOLDER = "migrations"
#: The longest name of a table, in bytes, that every database keeps whole.
_NAME = 63


def revisions_of(settings: Settings, to: str) -> AlembicRevisions:
    """The revisions of a destination; there may be none yet."""
    from tidemill.adapters.alembic.revisions import AlembicRevisions

    return AlembicRevisions(settings.root, f"{FOLDER}/{to}", to, versions_of(settings.name, to))


def kept_revisions(settings: Settings, to: str) -> AlembicRevisions | None:
    """The revisions of a destination whose schema is kept in Git, which is so where it has a folder; None: it is not.

    Nothing of Alembic's is loaded for a destination that has none.
    """
    return revisions_of(settings, to) if (settings.root / FOLDER / to).is_dir() else None


def versions_of(project: str, to: str) -> str:
    """The table that notes the revisions of a destination: projects that share a database have one each."""
    name = re.sub(r"[^a-z0-9_]", "_", f"_tidemill_schema_{project}_{to}".lower())
    return name if len(name) <= _NAME else f"_tidemill_schema_{sha256(name.encode()).hexdigest()[:32]}"


@contextmanager
def opened_schemas(settings: Settings, to: str) -> Iterator[TableSchemas]:
    """The tables of a destination. Raises UserError: it is none that has a schema; and what opening it raises."""
    destination = OutsideSystems(connections_of(settings), settings.root, settings).destination(to)
    try:
        if not isinstance(destination, HasSchemas):
            raise UserError(
                f'"{to}" has no schema that a revision could change: files and messages say themselves what they are.',
                hint="duckdb, postgresql and redshift have one",
            )
        yield destination.schemas()
    finally:
        destination.close()
