"""Extracting from topics in a test, and decoding what was archived; whole runs of them in processes that die."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.crashing import guarded
from harness.decoding import feed as bytes_feed
from harness.project import START, Project
from harness.topics import Place
from tidemill import sources
from tidemill.adapters.arrow.decoder import ArrowDecoder
from tidemill.adapters.arrow.topic_source import TopicSource
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark, Interval
from tidemill.model.pipeline import SourceSpec
from tidemill.model.table import Contract, Schema
from tidemill.model.topic_feed import TopicFeed
from tidemill.ports.clock import Clock
from tidemill.ports.decoder import DecodeOptions, Restart
from tidemill.ports.source import ExtractRequest, RawFile
from tidemill.ports.topic import Topics, TopicSpec
from tidemill.testing.faults import FaultPoints
from tidemill.wiring.codecs import open_codec
from tidemill.wiring.topics import lent_topics


@dataclass
class Taken:
    """What a batch took: rows and rejected ones (file, line, raw, error) of its parts."""

    parts: dict[str, bytes] = field(default_factory=dict)
    bookmark: Bookmark = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[str, int, str, str]] = field(default_factory=list)
    schema: Schema = field(default_factory=Schema)


def spec_of(feed: TopicFeed, **options: Any) -> SourceSpec:
    """The feed in a pipeline, as its table `messages`."""
    registry.clear()
    shop = Pipeline("shop", schedule="@daily", start=START)
    shop.source(feed, name="messages", **options)
    return shop.spec().sources["messages"]


def take(
    place: Place | tuple[Topics, Clock],
    feed: TopicFeed,
    bookmark: Bookmark = None,
    until: Bookmark = None,
    *,
    end: datetime = datetime(2026, 1, 2, tzinfo=UTC),
    **options: Any,
) -> Taken:
    """Extract a batch, and decode it."""
    topics, clock = (place.topics, place.clock) if isinstance(place, Place) else place
    spec = spec_of(feed, **options)

    @contextlib.contextmanager
    def lent() -> Iterator[Topics]:
        yield topics

    batch = Batch(7, BatchKey("shop", Interval(START, end)), BatchState.OPEN, START)
    made = Taken()
    with TopicSource(spec, feed, lent, clock).extract(ExtractRequest(batch, bookmark, until)) as extraction:
        for piece in extraction:
            assert isinstance(piece, RawFile)
            with piece.open() as stream:
                made.parts[piece.name] = stream.read()
        made.bookmark = extraction.bookmark_after
    return decoded(made, spec)


def decoded(taken: Taken, spec: SourceSpec, registry: Any = None) -> Taken:
    """The rows of the parts, by what a feed is declared to be."""
    contract: Contract = spec.table.contract
    found = Schema()
    while True:
        made = replace(taken, rows=[], rejected=[])
        try:
            decoder = ArrowDecoder(open_codec=lambda spec, topic, part: open_codec(spec, topic, part, registry))
            feeds = [bytes_feed(data, name) for name, data in taken.parts.items()]
            options = DecodeOptions(**spec.decode)
            for chunk in decoder.decode(feeds, tables={}, found=found, contract=contract, options=options):
                chunk.batch.validate(full=True)
                made.rows += chunk.batch.to_pylist() if not chunk.child else []
                made.rejected += [(one.file, one.line, one.raw, one.error) for one in chunk.rejected]
                made.schema = chunk.schema if not chunk.child else made.schema
            return made
        except Restart as restart:
            found = restart.found


def told(rows: Sequence[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row.get(name) for name in columns) for row in rows]


# -- what runs in processes of its own


def declare(project: Project) -> Pipeline:
    """The topic `orders` as a table."""
    p = project.pipeline("shop")
    p.source(sources.topic("orders"))
    return p


def send(project: Project, first: int, many: int) -> None:
    """Messages with the numbers from `first` on, over the partitions of the topic, which is made if need be."""
    with lent_topics(project.settings) as topics:
        topics.create(TopicSpec("orders", 2))
        writer = topics.writer("shop")
        numbers = range(first, first + many)
        writer.send("orders", [b'{"id": %d}' % n for n in numbers], partitions=[n % 2 for n in numbers])
        writer.commit({})
        writer.close()


def run_to_death(root: Path, day: str, at: int | None, report: Path) -> None:
    """Run a day, and die at a fault point; without one tell how many there are."""

    def work() -> None:
        points = FaultPoints(at)
        project = Project(root, wrap_files=points.files, wrap_metadata=points.metadata)
        assert project.run(declare(project), day).ok
        report.write_text(str(len(points.passed)), encoding="utf-8")

    guarded(work, report)


def recover(root: Path, days: Sequence[str], wanted: int, report: Path) -> None:
    """Run days, and see that the numbers of all messages up to `wanted` are there once."""

    def work() -> None:
        project = Project(root)
        for day in days:
            assert project.run(declare(project), day).ok
        numbers = sorted(row["id"] for row in project.rows("select id from shop.orders"))
        assert numbers == list(range(wanted)), numbers
        report.write_text("whole", encoding="utf-8")

    os.environ.pop("TIDEMILL_PROJECT", None)
    guarded(work, report)
