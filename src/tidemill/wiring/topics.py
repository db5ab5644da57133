"""Which broker a project's topics are in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from tidemill.model.errors import SettingsError
from tidemill.wiring.services import alive, holder, open_metadata, system_clock
from tidemill.wiring.settings import STATE_FOLDER, Settings

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.topic import Topics

#: How long the brokers of a connection may not answer.
_PATIENCE = timedelta(seconds=30)


def open_topics(settings: Settings, metadata: Metadata, clock: Clock) -> Topics:
    """The broker that the settings name; by default the metadata database.

    Raises:
        SettingsError: Kafka's client is not installed, or an option is wrong.
    """
    address = settings.streams.broker
    if not address:
        from tidemill.adapters.localfs.bell import PipeBell
        from tidemill.adapters.sql.store import SqlMetadata
        from tidemill.adapters.sql.topics import SqlTopics

        assert isinstance(metadata, SqlMetadata)
        bells = partial(PipeBell, settings.root / STATE_FOLDER / "topic-bells")
        return SqlTopics(metadata, clock, bells=bells, holder=f"{_pids()}|{holder()}", alive=_alive)
    try:
        from tidemill.adapters.kafka.topics import KafkaTopics
    except ImportError:
        raise SettingsError("Kafka's client is not installed.", hint='pip install "tidemill[kafka]"') from None
    servers = address.removeprefix("kafka://").rstrip("/")
    return KafkaTopics({"bootstrap.servers": servers, **settings.streams.options})


@contextmanager
def lent_topics(settings: Settings, connection: str | None = None) -> Iterator[Topics]:
    """A broker for as long as it is used: of a connection, or the project's, with what is archived of its topics.

    Raises:
        UnknownName: there is no such connection.
        SettingsError: as `open_topics`.
    """
    with ExitStack() as stack:
        if connection is not None:
            from tidemill.wiring.outside import OutsideSystems
            from tidemill.wiring.secrets import connections_of

            topics = OutsideSystems(connections_of(settings), settings.root).topics(connection, _PATIENCE)
            stack.callback(topics.close)
            yield topics
            return
        from tidemill.wiring.stream_past import open_archives, with_archives

        clock = system_clock()
        metadata = open_metadata(settings, clock, migrate=False)
        stack.callback(metadata.close)
        topics = open_topics(settings, metadata, clock)
        stack.callback(topics.close)
        yield with_archives(topics, open_archives(settings, metadata, clock))


def _alive(other: str) -> bool:
    """Whether a member's process may still run. Containers may share a host's name, and see none of each other's."""
    pids, _, process = other.partition("|")
    return pids != _pids() or alive(process)


def _pids() -> str:
    """Which numbers of processes are meant here; empty where the system does not tell."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
