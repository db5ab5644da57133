"""Section `[streams]` of a project's settings.

[streams]
broker = "kafka://host:9092,other:9092"      TIDEMILL_STREAMS_BROKER; left out, topics are in the metadata database
state = "sqlite"                             or "rocksdb" (extra `rocksdb`), "memory"; on this computer's disk
tables_every = "10s"                         rows for tables wait at most so long for others of their batch
registry = "https://registry:8081"           of schemas; with registry_user, registry_password, registry_token,
                                             registry_ca, registry_certificate, registry_key (files in PEM)
[kafka]                                      any setting of librdkafka
"security.protocol" = "SASL_SSL"
"sasl.password" = "env:KAFKA_PASSWORD"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tidemill.model.errors import DefinitionError, SettingsError, UnknownName
from tidemill.model.timetable import parse_duration

#: The settings that are about the schema registry.
REGISTRY = (
    "registry", "registry_user", "registry_password", "registry_token", "registry_ca", "registry_certificate",
    "registry_key",
)  # fmt: skip
_STATES = ("sqlite", "rocksdb", "memory")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Where topics are, and where tasks keep their state; see the module's text.

    Args:
        broker: an address; empty: the metadata database.
        state: the technology of state stores.
        options: of Kafka's client.
        tables_every: how long rows for tables wait for others of their batch; None: as long as loaders have it.
        registry: addresses of the schema registry, separated by commas; empty: there is none.
        registry_user, registry_password, registry_token: who asks it.
        registry_ca, registry_certificate, registry_key: files in PEM: who has signed the registry's certificate, and
            the one by which the asker is known; empty: as the system has it, none.
    """

    broker: str = ""
    state: str = "sqlite"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    tables_every: timedelta | None = None
    registry: str = ""
    registry_user: str = ""
    registry_password: str = ""
    registry_token: str = ""
    registry_ca: str = ""
    registry_certificate: str = ""
    registry_key: str = ""


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
    asked = {name: secret(str(given[name])) for name in REGISTRY if name in given}
    try:
        every = parse_duration(str(given["tables_every"])) if "tables_every" in given else None
    except DefinitionError as error:
        raise SettingsError(error.what, where=where, hint=error.hint) from None
    return StreamSettings(broker, state, options, every, **asked)
