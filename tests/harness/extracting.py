"""Extracting from a declared web service in a test: with a clock that the test holds, and connections that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.api import Api
from harness.decoding import decode, feed
from tidemill.adapters.http.source import RestExtraction, RestSource
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark, Interval
from tidemill.model.pipeline import SourceSpec
from tidemill.model.rest import Rest
from tidemill.ports.source import ExtractRequest, RawFile
from tidemill.testing.clock import ManualClock
from tidemill.wiring.secrets import ProjectConnections, ProjectSecrets

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Extracted:
    """What an extraction gave: files by name, in order, and what a load makes of them."""

    files: dict[str, bytes] = field(default_factory=dict)
    bookmark: Bookmark = None
    rows: list[dict[str, Any]] = field(default_factory=list)


class WaitingClock(ManualClock):
    """A clock that notes how long it was asked to wait."""

    def __init__(self, start: datetime = DAY) -> None:
        super().__init__(start)
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        super().sleep(seconds)


def secret(text: str) -> str:
    """What stands for `env:NAME`."""
    return f"secret-of-{text.removeprefix('env:')}"


def extract(
    rest: Rest,
    *,
    clock: ManualClock | None = None,
    bookmark: Bookmark = None,
    until: Bookmark = None,
    params: Mapping[str, Any] | None = None,
    load: bool = True,
) -> Extracted:
    """Extract one day, and decode what was given."""
    spec = _declared(rest)
    made = Extracted()
    with extracting(rest, clock=clock, bookmark=bookmark, until=until, params=params) as extraction:
        for piece in extraction:
            assert isinstance(piece, RawFile)
            with piece.open() as stream:
                made.files[piece.name] = stream.read()
        made.bookmark = extraction.bookmark_after
    if load:
        made.rows = decode([feed(data, name) for name, data in made.files.items()], **spec.decode).rows
    return made


def extracting(
    rest: Rest,
    *,
    clock: ManualClock | None = None,
    bookmark: Bookmark = None,
    until: Bookmark = None,
    params: Mapping[str, Any] | None = None,
) -> RestExtraction:
    """An extraction of one day that has not begun."""
    batch = Batch(7, BatchKey("shop", Interval(DAY, DAY + timedelta(days=1))), BatchState.OPEN, DAY)
    connections = ProjectConnections(ProjectSecrets([EnvironmentSecrets()]))
    source = RestSource(_declared(rest), rest, connections, secret, clock or WaitingClock())
    return source.extract(ExtractRequest(batch, bookmark, until, params or {}))


def _declared(rest: Rest) -> SourceSpec:
    """The feed `orders` of a pipeline."""
    registry.clear()
    shop = Pipeline("shop", schedule="@daily", start=DAY)
    shop.source(rest, name="orders")
    return shop.spec().sources["orders"]


def paths(api: Api) -> list[str]:
    """What was asked for, in order."""
    return [call.path for call in api.calls]
