"""Port `mirror`: a catalog outside in which engines find the lake's tables, by the pointers that are put there.

It holds entries table by table, so a change of several is not one step there. Each entry has a version, by which one
that somebody else has changed meanwhile is never written over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidemill.model.table import Column


@dataclass(frozen=True, slots=True)
class Entry:
    """A table as the catalog has it.

    Args:
        name: in its database.
        version: changes with each change of the entry; empty: a list does not tell it.
        parameters: all of them.
        comments: that people gave to columns, by name.
        description: that people gave to the table.
    """

    name: str
    version: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A table as the catalog is to have it.

    Args:
        name: in its database.
        location: the folder of its files.
        columns: of the pointer's version, with their field ids.
        parameters: what is to be said of it; others that are there stay.
    """

    name: str
    location: str
    columns: Sequence[Column]
    parameters: Mapping[str, str]


class TableMirror(Protocol):
    """One catalog.

    Raises:
        Unreachable: it does not answer, or has too much to do. Refused: it does not allow what is asked.
        SettingsError: the login or the driver is missing.
    """

    def entries(self, database: str) -> dict[str, Entry] | None:
        """The tables of a database by name; None: there is no such database."""
        ...

    def make_database(self, name: str) -> None:
        """Make a database, unless there is one."""
        ...

    def create(self, database: str, table: Shown) -> None:
        """Add a table. Raises Conflict: there is one of that name."""
        ...

    def replace(self, database: str, table: Shown, before: Entry) -> None:
        """Change a table. Raises Conflict: it is not what `before` says any more."""
        ...

    def remove(self, database: str, name: str) -> None:
        """Take a table out of the catalog, if it is there; its files stay."""
        ...
