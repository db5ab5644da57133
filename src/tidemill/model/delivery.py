"""Deliveries: which tables of a pipeline are mirrored where, and how far the mirror is behind.

A destination holds, in the transaction of its rows, a position: which version of each table it mirrors. So what is to
be delivered is told by two states, and never by a list of things to do that could be lost or done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from tidemill.model.table import INPUT_SUFFIX, TableName

#: Stands where a delivery names its pipeline: the mirror of a catalog has tables of all of them.
EVERY = "*"

#: A delivery that failed is tried again after this, then twice as long, and so on, up to the longest.
AGAIN_AFTER = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class DeliveredTable:
    """One table on its way out.

    Args:
        table: of the lake.
        into: what it is called there: `name` or `schema.name`.
        options: how, where a destination has a choice: `format`, `partition`, `key` ...; JSON values.
    """

    table: TableName
    into: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogMirror:
    """A catalog outside that shows the lake's own tables: their pointers go there, and no rows.

    Args:
        tables: patterns of names, `pipeline.table`; input tables are never shown.
        prefix: before the name of a pipeline that becomes the name of a database.
    """

    tables: tuple[str, ...] = ("*",)
    prefix: str = ""

    def shows(self, name: TableName) -> bool:
        """Whether a table is among them."""
        if name.table.endswith(INPUT_SUFFIX):
            return False
        return any(fnmatchcase(str(name), pattern) for pattern in self.tables)


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """All that a pipeline delivers to one destination: these tables go together.

    Args:
        pipeline: whose tables; `EVERY` of a mirror.
        to: the name of the destination's connection.
        tables: in the order of their names.
        place: where the first of them is declared, as `file:line`.
        mirror: all tables of the lake are shown in a catalog, instead of rows of `tables` being sent.
    """

    pipeline: str
    to: str
    tables: tuple[DeliveredTable, ...]
    place: str = ""
    mirror: CatalogMirror | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON values, without the place."""
        made: dict[str, Any] = {
            "tables": [{"table": str(t.table), "into": t.into, "options": dict(t.options)} for t in self.tables],
        }
        if self.mirror is not None:
            made["mirror"] = {"tables": list(self.mirror.tables), "prefix": self.mirror.prefix}
        return made

    @classmethod
    def from_json(cls, pipeline: str, to: str, found: Mapping[str, Any]) -> DeliverySpec:
        """What `as_json` wrote."""
        tables = (DeliveredTable(TableName.parse(t["table"]), t["into"], t["options"]) for t in found["tables"])
        mirror = found.get("mirror")
        shown = None if mirror is None else CatalogMirror(tuple(mirror["tables"]), mirror["prefix"])
        return cls(pipeline, to, tuple(tables), mirror=shown)


class DeliveryState(StrEnum):
    """How a delivery stands."""

    #: `main` has moved since, or nothing was ever delivered: published, not delivered.
    PENDING = "pending"
    #: The destination mirrors `main`.
    DELIVERED = "delivered"
    #: It is behind, and the last try failed; it is tried again.
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is on record of a delivery.

    Args:
        spec: what goes where.
        delivered: pointer by table, as it was mirrored last.
        delivered_at: when. `rows`: how many were sent then.
        tries: failed ones since. `error`: of the last of them.
        next_at: not before this.
    """

    spec: DeliverySpec
    delivered: Mapping[TableName, str] = field(default_factory=dict)
    delivered_at: datetime | None = None
    rows: int = 0
    tries: int = 0
    error: str | None = None
    next_at: datetime | None = None

    def behind(self, pointers: Mapping[TableName, str]) -> tuple[TableName, ...]:
        """The tables that the destination does not mirror as they are on `main`.

        Args:
            pointers: of `main`. A table that is not there has not been published, and there is nothing to deliver; a
                catalog that shows it still is behind.
        """
        if self.spec.mirror is not None:
            shown = {name: pointer for name, pointer in pointers.items() if self.spec.mirror.shows(name)}
            either = sorted({*shown, *self.delivered})
            return tuple(name for name in either if self.delivered.get(name) != shown.get(name))
        names = (one.table for one in self.spec.tables)
        return tuple(name for name in names if name in pointers and self.delivered.get(name) != pointers[name])

    def state(self, pointers: Mapping[TableName, str]) -> DeliveryState:
        """How it stands, by the pointers of `main`."""
        if self.tries:
            return DeliveryState.FAILING
        return DeliveryState.PENDING if self.behind(pointers) else DeliveryState.DELIVERED

    def is_due(self, pointers: Mapping[TableName, str], now: datetime) -> bool:
        """Whether it is to be tried now."""
        return self.state(pointers) is not DeliveryState.DELIVERED and (self.next_at is None or self.next_at <= now)


def wait_after(tries: int) -> timedelta:
    """How long to wait after so many failed tries in a row."""
    wait: timedelta = AGAIN_AFTER * 2 ** min(max(tries, 1) - 1, 20)
    return min(wait, LONGEST_WAIT)
