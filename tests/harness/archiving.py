"""Archives of topics for tests: a broker, a metadata store and files, what archives, and what reads."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tidemill.adapters.arrow.message_files import ParquetMessages
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.flow.archive import Archive
from tidemill.flow.stream.archiving import TopicArchiver
from tidemill.flow.stream.history import ArchivePast, TopicsWithPast
from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.ports.files import Files
from tidemill.ports.metadata import Metadata
from tidemill.ports.topic import Partition, Topics, TopicSpec
from tidemill.testing.clock import ManualClock

TOPIC = "t"
#: Members that died are out of their group by then, in seconds.
SESSION = 11.0
HOUR = timedelta(hours=1)


@dataclass
class Kept:
    """A topic with an archive. Its retention is an hour: `forget` makes it pass for what is old enough.

    Args:
        topics: the broker.
        metadata, files: of the project.
        clock: the time of all.
    """

    topics: Topics
    metadata: Metadata
    files: Files
    clock: ManualClock
    _open: list[TopicArchiver] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.archives = TopicArchives(self.metadata, Archive(self.files), ParquetMessages(), self.clock)
        self.both = TopicsWithPast(self.topics, [ArchivePast(self.archives)])

    def make(self, partitions: int) -> None:
        """Make the topic."""
        self.topics.create(TopicSpec(TOPIC, partitions, retention=HOUR))

    def archiver(self, archives: TopicArchives | None = None, every: float = 60) -> TopicArchiver:
        """What archives the topic."""
        made = TopicArchiver(
            archives or self.archives, self.topics, TOPIC, timedelta(seconds=every), self.clock, "project.t.archive"
        )
        self._open.append(made)
        return made

    def archive(self) -> int:
        """Archive all that there is; gives how many messages that were."""
        archiver, count, quiet = self.archiver(), 0, 0
        while quiet < 2:  # one that finds a batch of a dead one takes it over first, and gives nothing then
            some = archiver.step(0, now=True)
            count, quiet = count + some, 0 if some else quiet + 1
        archiver.close()
        return count

    def send(self, values: list[bytes | None], partition: int | None = None, **more: object) -> None:
        """Send messages."""
        writer = self.topics.writer("feeding")
        writer.send(TOPIC, values, partitions=partition, **more)  # type: ignore[arg-type]  # arguments of `send`
        writer.commit({})
        writer.close()

    def forget(self, age: float) -> None:
        """Let retention remove what is older than so many seconds."""
        self.topics.tidy(self.clock.now() + HOUR - timedelta(seconds=age))  # type: ignore[attr-defined]  # embedded topics only

    def read(
        self, positions: dict[Partition, int], limit: int = 1000
    ) -> dict[Partition, list[tuple[int, bytes | None]]]:
        """All messages from positions on, as a reader gives them."""
        reader = self.both.reader()
        reader.take(positions)
        found: dict[Partition, list[tuple[int, bytes | None]]] = {p: [] for p in positions}
        while some := reader.read(limit, 0):
            assert sum(map(len, some)) <= limit
            for one in some:
                found[one.partition] += zip(one.offsets, one.values, strict=True)
        self.lost = dict(reader.lost())
        reader.close()
        return found


@contextlib.contextmanager
def kept(kind: str, template: Path, folder: Path) -> Iterator[Kept]:
    """A broker in memory, or in the SQLite file that has the metadata."""
    clock = ManualClock()
    url = f"sqlite:///{shutil.copy(template, folder / 'kept.db')}"
    with SqlMetadata(url, "project", clock, durable=False) as metadata:
        topics: Topics = MemoryTopics(clock) if kind == "memory" else SqlTopics(metadata, clock, own_time=False)
        yield Kept(topics, metadata, MemoryFiles(clock), clock)
