"""A full disk under a Kafka broker that is a destination: it stops, which is told; back again, all comes once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import kafka, services
from harness.delivering import TO, deliver_to
from harness.disks import Disk, small_disk
from harness.programs import CannotStart
from harness.project import Project
from tidemill.adapters.arrow.topic_destination import TopicDestination
from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.deliver import Report
from tidemill.flow.stream.stretch import whole
from tidemill.model.errors import Unreachable

#: Messages of 1 kB of text that does not become smaller, on a disk of 12 MB.
ROWS, TEXT = 15_000, 500

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", 12) as made:
        yield made


@pytest.fixture
def broker(disk: Disk, request: pytest.FixtureRequest) -> Iterator[kafka.Kafka]:
    """A broker all whose files are on the disk."""
    settings = {
        "log.dirs": str(disk.folder / "data"),
        "log.index.size.max.bytes": "4096",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
    }
    with ExitStack() as opened:
        try:
            made = opened.enter_context(kafka.running(settings=settings))
        except CannotStart as error:
            services.missing("Kafka", str(error))
        services.note_used(request, "Kafka", kafka.VERSION)
        yield made


def test_a_full_disk_stops_the_broker_and_with_room_again_each_row_is_there_once(
    broker: kafka.Kafka, disk: Disk, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project")
    chance, feed = random.Random(11), list[dict[str, Any]]()
    shop = project.pipeline("shop")

    @shop.source(columns={"n": "long", "text": "string"})
    def big(interval: Any) -> Iterator[Any]:
        yield feed

    shop.deliver(big, to=TO)

    def topics() -> KafkaTopics:
        return KafkaTopics({"bootstrap.servers": broker.servers}, patience=timedelta(seconds=5))

    def deliver() -> Report:
        there = topics()
        destination = TopicDestination(there, partial(whole, there, SystemClock()))
        try:
            return deliver_to(project, shop, destination)
        finally:
            destination.close()

    def there() -> list[int]:
        read = (message for messages in whole(topics(), SystemClock(), "shop.big") for message in messages.values)
        return sorted(json.loads(value)["n"] for value in read if value is not None)

    def rows(first: int, number: int) -> list[dict[str, Any]]:
        return [{"n": first + n, "text": chance.randbytes(TEXT).hex()} for n in range(number)]

    try:
        feed[:] = rows(0, 5)
        assert project.run(shop, "2026-01-01").ok
        assert deliver().error is None
        feed[:] = rows(5, ROWS)
        assert project.run(shop, "2026-01-02").ok
        for tries in (1, 2):
            report = deliver()
            assert isinstance(report.error, Unreachable), repr(report.error)
            assert report.tries == tries
        assert broker.brokers[0].process.wait(60) != 0, "Kafka goes on with its disk full"
        disk.grow(128)
        broker.brokers[0].start()
        assert deliver().error is None
        assert there() == list(range(5 + ROWS))
        again = deliver()
        assert (again.error, again.rows) == (None, 0)
    finally:
        project.close()
