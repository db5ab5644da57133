"""Tables of a destination as SQL knows them, what they lack of what is declared, and the revisions that bring it.

Types are the database's own texts (`numeric(10,2)`), as it tells them of a table that exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tidemill.model.redshift import Layout
from tidemill.model.table import Schema
from tidemill.model.types import Type


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column.

    Args:
        name: as the table spells it.
        type: as the database calls it.
        nullable: whether it takes nulls.
        kind: the type in the lake that it is made of; None: that is not known.
        distkey: the table is dealt out by it. `sortkey`: its place among the columns that rows are ordered by, from 1;
            those of an interleaved key may be below zero.
        encode: how Redshift packs it; None: that is not known, or not declared.
    """

    name: str
    type: str
    nullable: bool = True
    kind: Type | None = None
    distkey: bool = False
    sortkey: int = 0
    encode: str | None = None


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table: `name` or `schema.name`, its columns, and by which ones its rows are found.

    `style` is how Redshift deals out its rows: `even`, `key`, `all`, `auto`; None: that is not known, or not declared.
    """

    name: str
    columns: tuple[SqlColumn, ...]
    key: tuple[str, ...] = ()
    style: str | None = None


@dataclass(frozen=True, slots=True)
class SqlView:
    """A view.

    Args:
        name: as SQL writes it.
        query: what it shows.
        tables: those that it reads, also by way of other views.
        materialized: whether it keeps its rows.
    """

    name: str
    query: str
    tables: frozenset[str]
    materialized: bool = False


@dataclass(frozen=True, slots=True)
class Existing:
    """What a destination has.

    Args:
        tables: of those that were asked for, by their names.
        views: that read one of them; a view comes after those that it reads.
    """

    tables: Mapping[str, SqlTable] = field(default_factory=dict)
    views: tuple[SqlView, ...] = ()


# -- differences ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table is missing.

    Args:
        table: which.
        first: it is of the first revision, which takes over tables that deliveries have made before there was one.
        adopted: it is one of these in the destination that the revision was written for.
    """

    table: SqlTable
    first: bool = False
    adopted: bool = False

    def __str__(self) -> str:
        listed = "".join(f"\n    {column.name} {column.type}" for column in self.table.columns)
        return f"+ {self.table.name}{listed}"


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column is missing."""

    table: str
    column: SqlColumn

    def __str__(self) -> str:
        return f"+ {self.table}.{self.column.name} {self.column.type}"


@dataclass(frozen=True, slots=True)
class NewType:
    """A column is of a type that does not hold what is declared."""

    table: str
    old: SqlColumn
    new: SqlColumn

    def __str__(self) -> str:
        return f"~ {self.table}.{self.old.name} {self.old.type} -> {self.new.type}"


@dataclass(frozen=True, slots=True)
class GoneColumn:
    """Only the table there has this column. It is left alone, unless it is asked to be dropped."""

    table: str
    column: SqlColumn

    def __str__(self) -> str:
        return f"- {self.table}.{self.column.name} {self.column.type}"


@dataclass(frozen=True, slots=True)
class NewLayout:
    """The table lies otherwise on its Redshift cluster than is declared.

    Args:
        old: the table as it lies. `new`: as it is to lie; both have the same columns.
        told: what is different, for people.
    """

    old: SqlTable
    new: SqlTable
    told: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"~ {self.old.name} {one}" for one in self.told)


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """The table is copied into one with other columns, which gets its name: a key of its rows changes, or comes."""

    old: SqlTable
    new: SqlTable
    changes: tuple[NewColumn | NewType | GoneColumn | NewLayout, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


Change: TypeAlias = "NewTable | NewColumn | NewType | GoneColumn | CopiedTable | NewLayout"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a table is to be in a destination.

    Args:
        into: what it is called there.
        columns: what is declared, or published, of it; None: neither says anything yet.
        key: by which its rows are found; none where rows are found by their batches.
        lengths: bytes of the longest value, where they were measured.
        notes: what cannot be as it is declared, for people.
        layout: how it is to lie on a Redshift cluster.
    """

    into: str
    columns: Schema | None
    key: tuple[str, ...] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layout: Layout = field(default_factory=Layout)


# -- revisions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision: a file of the project that changes tables, up and down.

    Args:
        id: its name. `message`: what it does, for people.
        follows: those that come before it; none: it is the first.
        path: of the file, from the project's folder on.
    """

    id: str
    message: str
    follows: tuple[str, ...]
    path: str

    def __str__(self) -> str:
        return f"{self.id} ({self.message})"


@dataclass(frozen=True, slots=True)
class Written:
    """A revision that is to be written: Python of the two functions, and of what they need above them."""

    upgrade: str
    downgrade: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Statements that are done together, or (`atomic=False`) each by itself, outside of a transaction."""

    statements: tuple[str, ...]
    atomic: bool = True


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, up or down.

    Args:
        revision: which is applied, or taken back.
        versions: the table that says which revisions are applied.
        before: those by which the step begins.
        after: those by which it ends; the last part notes them.
        parts: in their order.
    """

    revision: str
    versions: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    parts: tuple[Part, ...]
