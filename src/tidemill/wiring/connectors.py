"""Declared sources: from their description to the adapter that extracts. The only place that chooses.

Drivers are imported by the adapters, when they are used; an adapter whose extra is not installed says which one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.model.cdc import Cdc
from tidemill.model.connector import Connector
from tidemill.model.databases import DatabaseSource
from tidemill.model.dlt import DltFeed
from tidemill.model.errors import DefinitionError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.rest import Rest
from tidemill.model.singer import SingerStream, Tap
from tidemill.model.table import TableName, TableSpec
from tidemill.model.topic_feed import TopicFeed
from tidemill.model.webhook import Webhook
from tidemill.ports.environments import PythonEnvironments
from tidemill.ports.source import ExtractRequest, Source
from tidemill.wiring.secrets import connections_of, secret_text
from tidemill.wiring.services import system_clock
from tidemill.wiring.settings import STATE_FOLDER, Settings

if TYPE_CHECKING:
    from tidemill.adapters.singer.source import TapSource
    from tidemill.adapters.webhook.inbox import Inbox


def open_connector(
    spec: SourceSpec, connector: Connector, settings: Settings, render: Callable[[str, ExtractRequest], str]
) -> Source:
    """The adapter of a declared source.

    Args:
        spec: the feed.
        connector: its origin.
        settings: the project; with its connections.
        render: fills a text of the user's, with `{{ ds }}` and the like, for a batch.
    """
    match connector:
        case DatabaseSource():
            from tidemill.wiring.databases import open_database_feed

            return open_database_feed(spec, connector, settings)
        case Cdc():
            from tidemill.wiring.databases import open_changes

            return open_changes(spec, connector, settings)
        case Rest():
            from tidemill.adapters.http.source import RestSource

            return RestSource(spec, connector, connections_of(settings), partial(_secret, settings), system_clock())
        case SingerStream():
            return open_tap(spec, connector.tap, settings)
        case Webhook():
            from tidemill.adapters.webhook.source import WebhookSource

            return WebhookSource(spec, open_inbox(settings), system_clock())
        case DltFeed():
            from tidemill.adapters.dlt.source import DltSource

            return DltSource(spec, connector)
        case TopicFeed():
            from tidemill.adapters.arrow.topic_source import TopicSource
            from tidemill.wiring.topics import lent_topics

            return TopicSource(spec, connector, partial(lent_topics, settings, connector.connection), system_clock())
        case _:
            raise DefinitionError(f"No adapter extracts {connector}.", where=spec.place)


def open_tap(spec: SourceSpec, tap: Tap, settings: Settings) -> TapSource:
    """What runs a tap; environments are kept in the project's state folder."""
    from tidemill.adapters.singer.source import TapSource

    environments = tap_environments(settings.root / STATE_FOLDER / "taps")
    return TapSource(spec, tap, settings.root, environments, partial(_secret, settings))


def tap_environments(folder: Path) -> PythonEnvironments:
    """Environments of taps, kept in a folder."""
    from tidemill.adapters.venv.environments import VirtualEnvironments

    hint = 'another version, "tap-shop==1.2"; an older Python, python="3.12"; or packages that it lacks'
    return VirtualEnvironments(folder, hint)


def tap_of(tap: Tap, settings: Settings) -> TapSource:
    """A tap by itself, without a feed."""
    spec = SourceSpec(str(tap), TableSpec(TableName("singer", "tap")), SingerStream(tap, "", ""))
    return open_tap(spec, tap, settings)


def open_inbox(settings: Settings) -> Inbox:
    """What was posted for the project's feeds, and waits for a batch."""
    from tidemill.adapters.webhook.inbox import Inbox

    return Inbox(settings.root / STATE_FOLDER / "inbox.db")


def _secret(settings: Settings, text: str) -> str:
    return secret_text(text, settings)
