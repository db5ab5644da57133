"""Revisions for tests: tables that are asked for, and a destination that is brought to them and back."""

from __future__ import annotations

from pathlib import Path

from harness.landing import Landing
from tidemill.adapters.alembic.revisions import AlembicRevisions
from tidemill.model.migration import Change, Declared, GoneColumn, Revision
from tidemill.model.redshift import Layout
from tidemill.model.table import Schema
from tidemill.plan.migration import asked_table, changes
from tidemill.plan.revision_text import written
from tidemill.ports.schemas import HasSchemas, TableSchemas

VERSIONS = "_tidemill_schema_shop_there"


class Revising:
    """One destination under revisions.

    Args:
        root: of the project.
        landing: the destination.
    """

    def __init__(self, root: Path, landing: Landing) -> None:
        self.landing = landing
        #: How tables are to lie on a cluster, by their names.
        self.layouts: dict[str, Layout] = {}
        self.revisions = AlembicRevisions(root, "migrations/there", "there", VERSIONS)

    @property
    def schemas(self) -> TableSchemas:
        opened = self.landing.opened()
        assert isinstance(opened, HasSchemas)
        return opened.schemas()

    def lacks(self, tables: dict[str, dict[str, str]], key: tuple[str, ...] = (), first: bool = False) -> list[Change]:
        """What is to be done; columns are `{"name": "type"}`, keys those of all tables."""
        schemas = self.schemas
        redshift = schemas.dialect == "redshift"
        asked = [
            asked_table(
                Declared(into, Schema.of(columns), key, layout=self.layouts.get(into, Layout())),
                schemas.type_name,
                required_keys=redshift,
            )
            for into, columns in tables.items()
        ]
        return changes(asked, schemas.existing(tables), schemas.type_name, copies=redshift, first=first)

    def write(
        self, tables: dict[str, dict[str, str]], key: tuple[str, ...] = (), *, drop: bool = True, message: str = "m"
    ) -> Revision:
        """Write what is lacking as a revision."""
        found = self.lacks(tables, key, first=not self.revisions.all())
        done = [one for one in found if drop or not isinstance(one, GoneColumn)]
        schemas = self.schemas
        return self.revisions.write(message, written(done, schemas.existing(tables).views, schemas.dialect))

    def go(self, target: str | None = None, *, down: bool = False) -> None:
        """Apply, or take back."""
        schemas = self.schemas
        for step in self.revisions.steps(schemas.applied(VERSIONS), target, down=down):
            schemas.apply(step)

    def applied(self) -> tuple[str, ...]:
        return self.schemas.applied(VERSIONS)
