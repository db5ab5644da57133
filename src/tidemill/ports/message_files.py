"""Port `message files`: messages of a topic as one file of columns, and back. Archives of topics are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from tidemill.ports.topic import Messages, Partition


class MessageFiles(Protocol):
    """Writes and reads such files.

    Promises:
      - Nothing of a message is lost: offset, timestamp, key, value and headers come back as they were, None and
        empty told apart.
      - Reading one partition from an offset on reads only the blocks of the file that have some of it.
      - Memory follows the size of a block, not of the file.
    """

    @property
    def extension(self) -> str:
        """How names of such files end, such as `.parquet`."""
        ...

    def write(self, out: BinaryIO, stretches: Sequence[Messages]) -> int:
        """Write messages; returns how many. Stretches of one partition come in the order of offsets."""
        ...

    def read(self, stream: BinaryIO, partition: Partition, offset: int) -> Iterator[Messages]:
        """The messages of a partition from an offset on, in order; `stream` can seek, and is read as they are taken.

        Raises:
            DataError: this is no such file, or it was damaged.
        """
        ...
