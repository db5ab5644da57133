"""Which partition a message goes to, and columns of messages cut by partition; the same for every kind of topic.

Keys are placed as Kafka's own producers place them (murmur2), so that a topic which is filled by one of them and by
Tidemill has each key in one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tidemill.model.errors import DataError, LimitError

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

Keys: TypeAlias = "Sequence[bytes | None]"


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit hash of a key (`org.apache.kafka.common.utils.Utils.murmur2`), as an unsigned number."""
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's DefaultPartitioner says."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class KnownPlaces(dict[bytes, int]):
    """Partitions of keys that were met: a look-up takes 50 ns, a hash of 20 bytes 2 us. Bounded.

    Args:
        partitions: how many the topic has.
        most: when so many keys are known, all are forgotten.
    """

    def __init__(self, partitions: int, most: int = 100_000) -> None:
        super().__init__()
        self.partitions = partitions
        self._most = most

    def __missing__(self, key: bytes) -> int:
        if len(self) >= self._most:
            self.clear()
        found = self[key] = partition_of(key, self.partitions)
        return found


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages that go to one partition, in columns; `headers` is None where none has any."""

    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def pick(self, places: Sequence[int]) -> Columns:
        """Those at these places."""

        def of(column: Sequence[Any]) -> list[Any]:
            return [column[i] for i in places]

        return Columns(
            of(self.timestamps), of(self.keys), of(self.values), None if self.headers is None else of(self.headers)
        )

    def slice(self, start: int, stop: int) -> Columns:
        """Those from `start` up to `stop`."""
        return Columns(
            self.timestamps[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            None if self.headers is None else self.headers[start:stop],
        )


def split(
    columns: Columns, wanted: Sequence[int] | int | None, known: KnownPlaces, in_turn: Callable[[], int]
) -> Mapping[int, Columns]:
    """Cut columns by partition, in their order.

    Args:
        columns: the messages.
        wanted: the partition of each, or of all; None: by key.
        known: of the topic.
        in_turn: the next partition for messages without a key.

    Raises:
        DataError: there is no such partition.
    """
    if not len(columns):
        return {}
    many = known.partitions
    if wanted is None and many == 1:
        wanted = 0
    if isinstance(wanted, int):
        _must_be_there(wanted, many)
        return {wanted: columns}
    if wanted is None:
        wanted = [in_turn() % many if key is None else known[key] for key in columns.keys]
    _must_be_there(min(wanted), many)
    _must_be_there(max(wanted), many)
    places: MutableMapping[int, list[int]] = {number: [] for number in range(many)}
    for at, number in enumerate(wanted):
        places[number].append(at)
    return {number: columns.pick(found) for number, found in places.items() if found}


def _must_be_there(number: int, partitions: int) -> None:
    if not 0 <= number < partitions:
        raise DataError(f"There is no partition {number}: the topic has {partitions}.")


def fair_shares(waiting: Mapping[Any, int], limit: int, turn: int = 0) -> dict[Any, int]:
    """How many messages each partition gives when `limit` may be read in all: none is passed over for long.

    Args:
        waiting: how many each has.
        limit: of all.
        turn: grows with each read; who comes first when there is not even one for each.
    """
    have = [(name, many) for name, many in waiting.items() if many]
    shares: dict[Any, int] = {}
    first = turn % len(have) if have else 0
    left = limit
    # The smallest first: what they leave of their share goes to those that have more.
    order = sorted(have[first:] + have[:first], key=lambda one: one[1])
    if limit < len(have):
        order = have[first:] + have[:first]
    for at, (name, many) in enumerate(order):
        share = min(many, -(-left // (len(order) - at)))
        if share:
            shares[name] = share
            left -= share
    return shares


#: The topic's option for the largest message, and what it is where it is not given: as in Kafka.
LARGEST_OPTION = "max.message.bytes"
LARGEST = 1_048_588


def largest(options: Mapping[str, str]) -> int:
    """Bytes that a message of a topic with these options may have."""
    return int(options.get(LARGEST_OPTION, LARGEST))


def must_fit(columns: Columns, options: Mapping[str, str], topic: str) -> None:
    """Raise LimitError where a message is larger than the topic takes."""
    most = largest(options)
    if columns.headers is None and _longest(columns.keys) + _longest(columns.values) <= most:
        return
    for at in range(len(columns)):
        size = len(columns.keys[at] or b"") + len(columns.values[at] or b"")
        if columns.headers is not None:
            size += sum(len(name.encode()) + len(value or b"") for name, value in columns.headers[at])
        if size > most:
            raise LimitError(
                f'A message of {size:,} bytes is larger than topic "{topic}" takes ({most:,}).',
                hint=f'give the topic the option "{LARGEST_OPTION}"',
            )


def _longest(column: Keys) -> int:
    return max((len(one) for one in column if one is not None), default=0)
