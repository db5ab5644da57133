"""What the stores of one transaction share: its connection, the project, and whether it may write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Delete, Row, Select, Table, TextClause, Update
from sqlalchemy.sql.dml import ReturningInsert

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert

    from tidemill.model.definition import Definition

#: A row as it comes from a query: its columns are attributes.
AnyRow: TypeAlias = Row[*tuple[Any, ...]]

T = TypeVar("T")

#: Values that one statement names at most.
_AT_ONCE = 500


class Session:
    """One transaction on the metadata database.

    Args:
        connection: with the transaction begun.
        project: whose rows the stores show and change.
        writing: False for a read transaction, which changes and locks nothing.
        definitions: those that this process has read, by id; None: nothing is kept.
    """

    def __init__(
        self, connection: Connection, project: str, *, writing: bool, definitions: dict[int, Definition] | None = None
    ) -> None:
        self._connection = connection
        self.project = project
        self.writing = writing
        self.definitions = definitions

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return str(self._connection.dialect.name)

    def all(
        self, query: Select[*tuple[Any, ...]] | TextClause, given: Mapping[str, Any] | None = None
    ) -> Sequence[AnyRow]:
        """Every row of a query; `given`: values of parameters, where it was made before."""
        return self._connection.execute(query, given).all()

    def first(self, query: Select[*tuple[Any, ...]], *, lock: bool = False) -> AnyRow | None:
        """The first row of a query; with `lock`, no other transaction changes that row before this one ends.

        SQLite has one writer at a time and needs no row locks. On PostgreSQL it is FOR NO KEY UPDATE, which lets
        others insert rows that refer to this one.
        """
        if lock and self.writing:
            query = query.with_for_update(key_share=True)
        return self._connection.execute(query).first()

    def change(self, statement: Update | Delete) -> int:
        """Run an UPDATE or DELETE; returns how many rows it met."""
        self._must_write()
        return self._connection.execute(statement).rowcount

    def add(self, statement: ReturningInsert[*tuple[Any, ...]]) -> AnyRow | None:
        """Run an INSERT ... RETURNING; None where ON CONFLICT kept it from adding the row."""
        self._must_write()
        return self._connection.execute(statement).first()

    def add_each(self, statement: ReturningInsert[*tuple[Any, ...]], rows: Sequence[Mapping[str, Any]]) -> list[AnyRow]:
        """Run an INSERT ... RETURNING for each of `rows`, many at a time; what it returns, in no certain order."""
        self._must_write()
        return list(self._connection.execute(statement, rows)) if rows else []

    def add_all(self, statement: Insert | Delete | Update, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each of `rows`; nothing where there are none."""
        self._must_write()
        if rows:
            self._connection.execute(statement, rows)

    def copy(self, table: Table, columns: Sequence[str], rows: Select[*tuple[Any, ...]]) -> None:
        """Insert what a query gives."""
        self._must_write()
        self._connection.execute(table.insert().from_select(list(columns), rows))

    def insert(self, table: Table) -> Insert:
        """See `insert_for`."""
        return insert_for(self.dialect, table)

    def _must_write(self) -> None:
        assert self.writing, "a read transaction cannot write: begin it with write()"


def in_parts(things: Iterable[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one statement may name, in their order."""
    every = list(things)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]


def insert_for(dialect: str, table: Table) -> Insert:
    """An INSERT that knows ON CONFLICT: both databases spell it alike, SQLAlchemy has a class for each."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        # Imported only here: 90 ms that a project on SQLite need not pay.
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)
