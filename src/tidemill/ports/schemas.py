"""Port `schemas`: the tables of a destination as SQL knows them, and the revisions that change them, kept as files.

A destination that is a database gives a `TableSchemas` by its method `schemas()`; files and topics have none. Which
revisions are applied stands in the destination, in a table of Alembic's form, and changes in their transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from tidemill.model.migration import Existing, Migration, Revision, Written
from tidemill.model.types import Type


class TableSchemas(Protocol):
    """Tables of one database.

    Raises:
        Unreachable, SettingsError: as the port `destination`.
    """

    #: What SQL it speaks: `postgresql`, `duckdb`, `redshift`.
    dialect: str

    def type_name(self, kind: Type, length: int = 0) -> str:
        """What it calls a type. `length`: bytes of the longest value, where it has lengths."""
        ...

    def existing(self, tables: Iterable[str]) -> Existing:
        """Those of the tables that there are, and the views that keep their columns from changing."""
        ...

    def applied(self, versions: str) -> tuple[str, ...]:
        """The revisions that a table of versions notes; none where there is no such table. Makes nothing."""
        ...

    def apply(self, migration: Migration) -> None:
        """Do one step: its last part with the note of it, all of it or nothing.

        Raises:
            Conflict: other revisions are applied than those by which it begins; nothing is done. DataError: the
            database refuses a statement; the part that it is of is not done.
        """
        ...


@runtime_checkable
class HasSchemas(Protocol):
    """A destination whose tables have schemas that revisions can change."""

    def schemas(self) -> TableSchemas:
        """Them."""
        ...


class Revisions(Protocol):
    """The revisions of one destination, as files of the project.

    Raises:
        DefinitionError: a file cannot be read, or two revisions follow one and nothing joins them.
    """

    #: Their folder, from the project's on.
    place: str
    #: The table, in the destination, that says which are applied.
    versions: str

    def all(self) -> list[Revision]:
        """All of them, each after those that it follows."""
        ...

    def write(self, message: str, written: Written) -> Revision:
        """Write the next one; the folder is made if it is missing. Raises DefinitionError: it cannot be named so."""
        ...

    def steps(self, applied: Sequence[str], target: str | None = None, *, down: bool = False) -> list[Migration]:
        """The steps from some applied revisions to a target.

        Args:
            applied: those that the destination notes.
            target: an id or its beginning, `+1`, `-1` or `base`; None: the newest.
            down: back to it.

        Raises:
            UnknownName: there is no such revision.
        """
        ...
