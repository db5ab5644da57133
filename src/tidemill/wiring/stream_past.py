"""The past of a project's topics: their archives, who archives them, and where a stream begins at first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tidemill.flow.stream.archiving import TopicArchiver
from tidemill.flow.stream.history import ArchivePast, Past, TopicsWithPast
from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.model.errors import UnknownName
from tidemill.model.frame.topic import Topic
from tidemill.model.stream import StreamSpec
from tidemill.wiring.settings import Settings
from tidemill.wiring.storage import open_archive

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.topic import Topics


def open_archives(settings: Settings, metadata: Metadata, clock: Clock) -> TopicArchives:
    """The archives of a project's topics."""
    from tidemill.adapters.arrow.message_files import ParquetMessages

    return TopicArchives(metadata, open_archive(settings), ParquetMessages(), clock)


def with_archives(topics: Topics, archives: TopicArchives) -> TopicsWithPast:
    """Topics that reach back as far as their archives do."""
    return TopicsWithPast(topics, [ArchivePast(archives)])


def with_pasts(topics: Topics, more: Sequence[Past]) -> Topics:
    """Topics that reach back further: what they have already comes first."""
    if not more:
        return topics
    return TopicsWithPast(live(topics), [*(topics.pasts if isinstance(topics, TopicsWithPast) else ()), *more])


def live(topics: Topics) -> Topics:
    """The broker itself."""
    return topics.live if isinstance(topics, TopicsWithPast) else topics


def beginning(spec: StreamSpec, topics: Topics) -> Callable[[str], tuple[int, ...]]:
    """Where a stream begins at first: in the past of topics that it is to be bootstrapped from, else in the topic."""
    back = {spec.topics[parameter].name for parameter in spec.bootstrap}

    def first(topic: str) -> tuple[int, ...]:
        info = (topics if topic in back else live(topics)).describe(topic)
        if info is None:
            raise UnknownName.of("topic", topic, topics.names())
        return info.first

    return first


class Archivers:
    """What archives topics in this process: a thread for each topic, whatever streams use it. Stop it at the end.

    Args:
        settings: the project.
        topics: the broker.
        archives: of its topics.
        clock: the time.
    """

    def __init__(self, settings: Settings, topics: Topics, archives: TopicArchives, clock: Clock) -> None:
        self._settings = settings
        self._topics = topics
        self._archives = archives
        self._clock = clock
        self._running: dict[str, TopicArchiver] = {}
        self._lock = threading.Lock()  # each stream's thread starts those of its topics

    def start(self, topics: Iterable[Topic]) -> None:
        """Archive those of them that are to be, and are not archived here yet."""
        with self._lock:
            for topic in topics:
                if topic.archive is not None and topic.name not in self._running:
                    group = f"{self._settings.name}.{topic.name}.archive"
                    made = TopicArchiver(self._archives, self._topics, topic.name, topic.archive, self._clock, group)
                    self._running[topic.name] = made
                    made.start()

    def stop(self) -> None:
        """End them; what is not archived yet stays in the topics."""
        for one in self._running.values():
            one.stop()
