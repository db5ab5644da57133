"""Port `queries`: engines outside that people ask by SQL, each in its own dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tidemill.model.types import Type


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gives.

    Args:
        columns: name and type of each. What has parts (lists, JSON ...), or a type of the engine's own, is text.
        rows: with a value for each column, consumed once.
    """

    columns: tuple[tuple[str, Type], ...]
    rows: Iterator[Sequence[Any]]


class QueryEngine(Protocol):
    """One engine.

    Promises: it changes nothing as far as the engine can be told so; whoever calls has looked that the statement only
    reads. A query that is no longer waited for is stopped where the engine can be told.

    Raises:
        Unreachable: it does not answer. SettingsError: the login or the driver. DataError, Refused: it does not take
            the query, and why.
    """

    @property
    def dialect(self) -> str:
        """The name by which sqlglot knows its SQL."""
        ...

    def ask(self, sql: str, most: int | None) -> AbstractContextManager[Answer]:
        """Run one query; rows come while the context is open.

        Args:
            sql: one statement that reads.
            most: so many rows are enough; None: all are wanted.
        """
        ...
