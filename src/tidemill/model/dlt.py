"""Resources of dlt as sources: what is iterated over, and what its hints say of the table. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind


@dataclass(frozen=True, slots=True)
class DltFeed(Connector):
    """One resource of dlt.

    Args:
        resource: the user's object.
        name: of the table.
        write: how rows enter the table.
        key: by which they are told apart.
        columns: those that hints give a type.
        delete_flag: the column that deletes its row's key.
    """

    resource: Any = field(repr=False)
    name: str = ""
    write: str = "append"
    key: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    delete_flag: str | None = None

    @property
    def called(self) -> str | None:
        """The name of the table that hints give, as far as it can be one."""
        return self.name

    @property
    def kind(self) -> SourceKind:
        """The resource's state is the bookmark."""
        return SourceKind.BOOKMARK

    @property
    def options(self) -> Mapping[str, Any]:
        """What hints say."""
        told = {"write": self.write, "key": self.key, "columns": self.columns, "delete_flag": self.delete_flag}
        return {name: value for name, value in told.items() if value}

    @property
    def merges(self) -> bool:
        """See `Connector.merges`."""
        return True

    def __str__(self) -> str:
        return f"dlt {self.resource.name}"
