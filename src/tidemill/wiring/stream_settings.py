"""Section `[streams]` of a project's settings.

[streams]
broker = "kafka://host:9092,other:9092"      TIDEMILL_STREAMS_BROKER; left out, topics are in the metadata database
state = "sqlite"                             or "rocksdb" (extra `rocksdb`), "memory"; on this computer's disk
[kafka]                                      any setting of librdkafka
"security.protocol" = "SASL_SSL"
"sasl.password" = "env:KAFKA_PASSWORD"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.errors import SettingsError, UnknownName

_STATES = ("sqlite", "rocksdb", "memory")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Where topics are, and where tasks keep their state; see the module's text.

    Args:
        broker: an address; empty: the metadata database.
        state: the technology of state stores.
        options: of Kafka's client.
    """

    broker: str = ""
    state: str = "sqlite"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_stream_settings(
    data: Mapping[str, Any], env: Mapping[str, str], where: str, secret: Callable[[str], str]
) -> StreamSettings:
    """The section, with the environment before it.

    Raises:
        SettingsError: an address or a technology is not known.
    """
    given = data.get("streams", {})
    broker = str(env.get("TIDEMILL_STREAMS_BROKER") or given.get("broker", ""))
    if broker and not broker.startswith("kafka://"):
        raise SettingsError(f'streams.broker = "{broker}" is no broker.', where=where, hint="kafka://host:9092")
    state = str(given.get("state", "sqlite"))
    if state not in _STATES:
        raise UnknownName.of("technology of state", state, _STATES, where=where)
    options = {name: secret(str(value)) for name, value in data.get("kafka", {}).items()}
    return StreamSettings(broker, state, options)
