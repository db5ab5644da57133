"""Port `codec`: messages' bytes to typed rows and back. One codec is made for a topic's values, one for its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True, slots=True)
class Undecodable:
    """One message that cannot be read: its index among those given, and why."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of messages.

    Args:
        rows: one row for each message that could be read, in order, with the codec's columns.
        taken: the indices of those messages; None: all of them.
        bad: those that could not. A value of None (a tombstone) is neither: it is in `empty`.
        empty: indices of messages without a value.
    """

    rows: polars.DataFrame
    taken: Sequence[int] | None = None
    bad: tuple[Undecodable, ...] = ()
    empty: Sequence[int] = ()


class Codec(Protocol):
    """Reads and writes one topic's values, or its keys.

    Promises:
      - The same bytes give the same row, whatever they are decoded together with.
      - One bad message harms no other: it is told in `bad`, with a reason that names field and type.
      - `decode(encode(rows))` gives the rows again, as far as the format has their types.
    """

    @property
    def columns(self) -> polars.Schema | None:
        """What `decode` gives, the same for the codec's life; None: the codec only writes.

        Raises:
            UnknownName: neither columns nor a schema are declared, and the registry has none for the topic yet.
            Unreachable: the schema registry does not answer.
        """
        ...

    def only(self, names: Sequence[str]) -> Codec:
        """The same codec for these columns only; it reads no others."""
        ...

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Read messages.

        Raises:
            Unreachable: the schema registry does not answer.
        """
        ...

    def encode(self, rows: polars.DataFrame) -> list[bytes | None]:
        """Write each row as a message.

        Raises:
            DataError: a value does not fit the format's schema; names column and row.
            ContractError: the registry refuses the schema as incompatible.
        """
        ...


class MessageReader(Protocol):
    """Reads one topic's messages, by the codec of their values, and where columns are of the keys by that of these."""

    def read(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Decoded:
        """Read messages; one without a key has nulls in its columns.

        Raises:
            Unreachable: the schema registry does not answer.
        """
        ...
