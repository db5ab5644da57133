"""Where the values of columns come from: what is known of one table, and of all of them as a graph.

plan/sql_lineage, plan/frame_lineage -> Derivation -> flow/lineage -> API, page, `tidemill data lineage`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Origin(StrEnum):
    """What a column is to another that comes from it, the strongest first."""

    #: Nothing is known of what happens in between: a Python function's own code, SQL that cannot be looked into.
    UNKNOWN = "unknown"
    #: Its values are used: `price * amount`, `sum(price)`.
    COMPUTED = "computed"
    #: Its values are taken as they are, perhaps under another name.
    COPIED = "copied"
    #: It steers which rows there are, how they are grouped, or which of several values is taken; none of its own is.
    DECIDES = "decides"


_STRENGTH = {kind: -at for at, kind in enumerate(Origin)}


class ColumnName(NamedTuple):
    """A column of a table, a view or a topic."""

    table: str
    column: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


#: What something comes from, and how.
Origins: TypeAlias = "Mapping[ColumnName, Origin]"


@dataclass(frozen=True, slots=True)
class Derived:
    """A column of a result.

    Args:
        name: empty where the engine makes one up (`count(*)` without a name).
        origins: what it comes from; what decides on the rows as a whole is told once, of the result.
    """

    name: str
    origins: Origins = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Derivation:
    """What is known of where a result comes from.

    Args:
        columns: in order.
        decides: columns that steer which rows the result has, and how they are grouped.
        unknown: why nothing is known of the columns; empty: they are known.
    """

    columns: tuple[Derived, ...] = ()
    decides: frozenset[ColumnName] = frozenset()
    unknown: str = ""

    def of(self, name: str) -> Origins | None:
        """What the column of that name comes from, what decides on its rows included; None: there is no such one.

        Names are the same in whatever case, as in SQL.
        """
        found = next((one for one in self.columns if one.name.lower() == name.lower()), None)
        return None if found is None else joined(dict.fromkeys(self.decides, Origin.DECIDES), found.origins)


def joined(*some: Origins) -> dict[ColumnName, Origin]:
    """Origins of something that comes from all of these: of each column the strongest counts."""
    made: dict[ColumnName, Origin] = {}
    for origins in some:
        for column, kind in origins.items():
            if column not in made or _STRENGTH[kind] > _STRENGTH[made[column]]:
                made[column] = kind
    return made


def computed(*some: Origins) -> dict[ColumnName, Origin]:
    """Origins of what is computed of these."""
    return {c: Origin.COMPUTED if kind is Origin.COPIED else kind for c, kind in joined(*some).items()}


def deciding(*some: Origins) -> dict[ColumnName, Origin]:
    """Origins of what these only steer."""
    return {c: Origin.UNKNOWN if kind is Origin.UNKNOWN else Origin.DECIDES for c, kind in joined(*some).items()}


def unknown_of(columns: Iterable[ColumnName]) -> dict[ColumnName, Origin]:
    """Origins of what may come from any of these, nobody knows how."""
    return dict.fromkeys(columns, Origin.UNKNOWN)
