"""Many partitions, and members that come and go: progress at every stage, each row once, and no task for ever
on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import tidemill as tm
from harness import services
from harness.poison import Driven, pipeline, topic_name
from harness.topics import Place
from tidemill.adapters.memory.state import MemoryStates

PARTITIONS = 24
MEMBERS = 3


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


class Part:
    """A process's part in the stream, in a thread of its own, with state of its own."""

    def __init__(self, place: Place, stream: tm.Stream, name: str) -> None:  # type: ignore[name-defined]
        self.driven = Driven(place, stream, MemoryStates())
        self.process = self.driven.begin(name)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.process.run(self.stop.is_set)
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.thread.join()


def test_members_that_come_and_go_share_many_partitions_and_get_on(
    kafka_topics: Place, p: tm.Pipeline, request: pytest.FixtureRequest
) -> None:
    place = kafka_topics
    source = tm.topic(topic_name(), {"car": "string", "v": "long"}, key="car", partitions=PARTITIONS)

    @p.stream(source, to=tm.topic(topic_name()), every="500ms")
    def sums(t: tm.Frame) -> tm.Frame:
        return t.count_window(1, by="car").agg(v=tm.agg.sum("v")).final()

    feeding = Driven(place, sums)
    sent = 0

    def feed() -> None:
        nonlocal sent
        rows = [{"car": f"c{n % 1_000}", "v": n} for n in range(sent, sent + 1_000)]
        feeding.feed(source.name, rows, keys=[row["car"].encode() for row in rows])
        sent += 1_000

    def done() -> bool:
        assert not [part.error for part in parts if part.error]
        threading.Event().wait(0.3)  # a look costs the others time
        return len(feeding.values(written)) >= sent

    parts = [Part(place, sums, "m0")]
    written = feeding.written()
    try:
        began = place.clock.monotonic()
        feed()
        place.until(done, "for the first alone")
        alone = place.clock.monotonic() - began
        for number in range(1, MEMBERS):
            parts.append(Part(place, sums, f"m{number}"))
            feed()
        place.until(done, "for three")
        place.until(
            lambda: all(PARTITIONS // 6 < len(part.process.works) < PARTITIONS // 2 for part in parts),
            "for the tasks to be shared",
        )
        for part in parts[:2]:
            part.end()
            feed()
        place.until(done, "for the last")
        place.until(lambda: len(parts[2].process.works) == PARTITIONS, "for all tasks")
    finally:
        for part in parts:
            part.end()
    assert not [part.error for part in parts if part.error]
    values = sorted(row["v"] for row in feeding.rows(written))
    assert values == list(range(sent)), "each row once"
    restarts = sum(part.process.counts.restarts for part in parts)
    services.tell(
        request, f"{PARTITIONS} tasks with state made in {alone:.1f} s, {restarts} restarts while members moved"
    )
    assert restarts <= 10


def test_two_processes_share_two_stages_of_three_tasks_and_wait_for_no_partition_that_is_silent(
    kafka_topics: Place, p: tm.Pipeline
) -> None:
    """Tasks have other numbers than the partitions that they read; nothing is refused for that."""
    place = kafka_topics
    columns = {"ts": "timestamptz", "car": "string", "zone": "string"}
    source = tm.topic(topic_name(), columns, key="car", time="ts", partitions=3, idle="1s")

    @p.stream(source, to=tm.topic(topic_name()), every="500ms")
    def counts(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="zone").agg(n=tm.agg.count()).final()

    feeding = Driven(place, counts)
    parts = [Part(place, counts, name) for name in ("one", "two")]
    try:
        place.until(lambda: all(len(part.process.works) == 3 for part in parts), "for both to share")
        for second in range(60):
            row = {"ts": f"2026-01-01T00:00:{second:02}Z", "car": "a", "zone": f"z{second % 5}"}
            feeding.feed(source.name, [row], partitions=second % 2)
        place.until(lambda: len(feeding.values(feeding.written())) >= 25, "for windows of five zones to close")
        assert sum(part.process.counts.restarts for part in parts) < 2  # one, if the machine stood still
    finally:
        for part in parts:
            part.end()
    assert [part.error for part in parts] == [None, None]
    assert sorted((row["zone"], row["n"]) for row in feeding.rows(feeding.written())) == [
        (f"z{zone}", 2) for zone in range(5) for _ in range(5)
    ]
