"""What feeds topics: from a declaration to the adapter, and how what it gives is written as the topic's messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.authoring.live import texts
from tidemill.flow.live.feeding import Written
from tidemill.model.cdc import Cdc
from tidemill.model.codec import Json
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.model.frame.topic import Topic
from tidemill.model.live import (
    ArchiveReplay,
    CustomSource,
    HttpPush,
    TableChanges,
    TableReplay,
    Tail,
    WebSocket,
)
from tidemill.wiring.databases import of_postgres
from tidemill.wiring.messages import codec_of, key_encoder
from tidemill.wiring.secrets import secret_text
from tidemill.wiring.settings import Settings
from tidemill.wiring.stream_rows import as_line, encoded, keys_of

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.ports.live import LiveSource, Taken
    from tidemill.ports.registry import Registry


def open_live(topic: Topic, settings: Settings, services: Services, registry: Registry | None = None) -> LiveSource:
    """What feeds a topic.

    Args:
        topic: one with a source.
        settings: the project.
        services: of the project.
        registry: where messages name their schemas.

    Raises:
        SettingsError: an extra is not installed, or the environment lacks a secret.
    """
    match topic.source:
        case Tail() as spec:
            from tidemill.adapters.localfs.tail import TailSource

            return TailSource(settings.root, spec.pattern, spec.begin, services.clock)
        case TableChanges() as spec:
            from tidemill.flow.live.tables import TableChangesLive

            return TableChangesLive(services, topic.name, spec)
        case TableReplay() as spec:
            from tidemill.flow.live.tables import TableReplayLive

            return TableReplayLive(services, topic.name, spec)
        case ArchiveReplay() as spec:
            from tidemill.flow.live.archive import ArchiveLive

            return ArchiveLive(services, spec)
        case HttpPush() as spec:
            token = None if spec.token is None else _secret(spec.token, settings)
            try:
                from tidemill.adapters.webhook.live import HttpLive
            except ImportError:
                raise SettingsError("What HTTP needs is not installed.", hint='pip install "tidemill[web]"') from None
            return HttpLive(spec, token, as_json=topic.codec == "json" or isinstance(topic.codec, Json))
        case WebSocket() as spec:
            headers = {name: _secret(value, settings) for name, value in spec.headers.items()}
            try:
                from tidemill.adapters.websocket.live import WebSocketLive
            except ImportError:
                hint = 'pip install "tidemill[websocket]"'
                raise SettingsError("The client of WebSockets is not installed.", hint=hint) from None
            return WebSocketLive(spec, headers, texts)
        case Cdc() as spec:
            from tidemill.adapters.databases.cdc_live import CdcLive

            return CdcLive(spec, of_postgres(spec.connection, settings))
        case CustomSource() as spec:
            from tidemill.flow.live.custom import CustomLive

            def write_rows(rows: Sequence[Mapping[str, Any]]) -> Sequence[bytes | None]:
                return encoded(topic, [as_line(row) for row in rows], strict=False, registry=registry).values

            return CustomLive(spec, write_rows, services.clock)
    raise AssertionError(f"{topic} has no source")


def _secret(text: str, settings: Settings) -> str:
    return secret_text(text, settings)


def writing(topic: Topic, registry: Registry | None = None) -> Callable[[Taken], Written]:
    """What makes messages of a topic of what its source gives.

    Rows are written by the topic's codec; messages stay as they came. Both get keys by the topic's key. Times of rows
    become the messages' own where the topic has no column for the time.
    """
    codec, key = codec_of(topic, registry), key_encoder(topic, registry)

    def write(taken: Taken) -> Written:
        if taken.rows is None:
            return Written(taken.values, _keys(topic, taken, registry), taken.timestamps, taken.headers)
        from tidemill.adapters.polars.topic_rows import fitted

        rows = fitted(taken.rows, codec.columns, topic.name)
        for name in topic.key:
            if name not in rows.columns:
                raise UnknownName.of("column", name, rows.columns)
        keys = None if key is None else key(rows)
        return Written(codec.encode(rows), keys, taken.timestamps if topic.time is None else None)

    return write


def _keys(topic: Topic, taken: Taken, registry: Registry | None) -> Sequence[bytes | None] | None:
    """Those that the source gave, and by the topic's key where it gave none."""
    given = taken.keys
    if given is not None and all(key is not None for key in given):
        return given
    found = keys_of(topic, taken.values, registry)
    if given is None or found is None:
        return found if given is None else given
    return [mine if mine is not None else other for mine, other in zip(given, found, strict=True)]
