"""Which broker a project's topics are in."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from tidemill.model.errors import SettingsError
from tidemill.wiring.services import alive, holder
from tidemill.wiring.settings import STATE_FOLDER, Settings

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.topic import Topics


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
