"""Port `sqlclient`: SQL of tasks in databases outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, with the values of its numbered parameters (`$1`, or `?1` in SQLite) in order."""

    text: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gave: column names and rows; `more` than were asked for were left."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    more: bool = False


class SqlClient(Protocol):
    """One database.

    Promises: a call is one transaction: all of its statements or none, unless `autocommit`. Each call has a connection
    of its own, which it closes.
    """

    @property
    def dialect(self) -> str:
        """The name by which sqlglot knows its SQL."""
        ...

    def run(self, statements: Sequence[Statement], *, most: int, autocommit: bool = False) -> Rows | None:
        """Execute statements one after another.

        Returns:
            What the last one that gives rows gave, `most` of them at most; None where none does.

        Raises:
            Unreachable: the database does not answer. DataError: it does not take a statement.
        """
        ...

    def interrupt(self) -> None:
        """Stop what is being executed, from another thread or a handler of a signal."""
        ...
