"""Metrics of streams say what processes have told, and what offsets say, once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.archiving import TOPIC, Kept
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow import metrics
from tidemill.flow.metrics import METRICS, of_lag, of_processes, of_streams
from tidemill.flow.stream.facts import NodeFacts, ProcessFacts
from tidemill.flow.stream.lag import lag_by_facts
from tidemill.flow.stream.measuring import Counts, Timing
from tidemill.model.metric import Histogram, Metric, Sample
from tidemill.ports.topic import Partition, Position, TopicInfo, TopicSpec
from tidemill.testing.clock import ManualClock
from tidemill.wiring.metrics import LagWatch

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOLD = ProcessFacts(
    "cars.means", "host-0", "host", 17, NOW, NOW, tasks=("1.0", "1.1", "2.1", "0.5"), messages=5, checkpoints=2,
    failed=3, letters=2, late=4, restarts=1, lost=6, seconds=Histogram().having(0.02).having(0.2), state_bytes=100,
    nodes={
        0: NodeFacts(5, stage=1, reads="telemetry"),
        1: NodeFacts(stage=1, watermark=NOW - timedelta(minutes=1)),
        2: NodeFacts(stage=1, watermark=NOW - timedelta(minutes=2)),
        3: NodeFacts(4, stage=2, reads="cars.means.exchange"),
        4: NodeFacts(stage=2, watermark=None),
        5: NodeFacts(7, stage=2, writes="table:means"),
        6: NodeFacts(8, stage=2, writes="alarms"),
    },
)  # fmt: skip


def by_labels(samples: Iterable[Sample], metric: Metric) -> dict[tuple[str, ...], float | Histogram]:
    return {sample.labels: sample.value for sample in samples if sample.metric is metric}


def test_a_process_is_told_by_its_facts() -> None:
    found = list(of_processes([TOLD], NOW))
    mine = ("cars.means", "host-0")
    assert by_labels(found, metrics.READ) == {(*mine, "1", "telemetry"): 5, (*mine, "2", "cars.means.exchange"): 4}
    assert by_labels(found, metrics.WRITTEN) == {(*mine, "table:means"): 7, (*mine, "alarms"): 8}
    assert by_labels(found, metrics.CHECKPOINTS) == {mine: TOLD.seconds}
    for metric, value in (
        (metrics.LATE, 4), (metrics.FAILED, 3), (metrics.LETTERS, 2),
        (metrics.LOST, 6), (metrics.RESTARTS, 1), (metrics.STATE, 100),
        (metrics.TASKS, 4), (metrics.RECOVERED, 1),
    ):  # fmt: skip
        assert by_labels(found, metric) == {mine: value}
    assert by_labels(found, metrics.WATERMARK) == {(*mine, "1"): (NOW - timedelta(minutes=2)).timestamp()}
    assert {sample.metric for sample in found} <= set(METRICS)


def test_of_a_recovery_its_share_is_told() -> None:
    found = of_processes([replace(TOLD, state="recovering", recovering=(3, 12))], NOW)
    assert by_labels(found, metrics.RECOVERED) == {("cars.means", "host-0"): 0.25}


def test_who_has_fallen_silent_is_only_counted() -> None:
    silent = replace(TOLD, process="host-1", at=NOW - timedelta(minutes=1))
    assert {sample.labels[1] for sample in of_processes([TOLD, silent], NOW)} == {"host-0"}
    found = by_labels(of_streams([TOLD, silent], ["cars.fast"], NOW), metrics.PROCESSES)
    assert {key: value for key, value in found.items() if value} == {
        ("cars.means", "running"): 1, ("cars.means", "gone"): 1,
    }  # fmt: skip
    assert found["cars.fast", "running"] == 0, "a stream that nobody runs is there, too"


def test_lag_goes_by_offsets_and_may_be_that_of_own_tasks() -> None:
    topics = MemoryTopics(ManualClock())
    topics.create(TopicSpec("telemetry", 2))
    topics.create(TopicSpec("cars.means.exchange", 2))
    topics.create(TopicSpec("cars.means.means.rows"))
    writer = topics.writer("test")
    for topic, number, count in (("telemetry", 0, 5), ("telemetry", 1, 2), ("cars.means.exchange", 0, 3)):
        writer.send(topic, [b"x"] * count, partitions=number)
    writer.send("cars.means.means.rows", [b"x"] * 4, partitions=0)
    writer.commit({})
    topics.reset("cars.means", {Partition("telemetry", 0): Position(3).offset})

    def loaded(stream: str, table: str) -> int:
        assert (stream, table) == ("cars.means", "means")
        return 1

    lags = lag_by_facts([TOLD, replace(TOLD, process="host-1")], topics, loaded)
    found = {labels[1:]: value for labels, value in by_labels(of_lag({"cars.means": lags}), metrics.LAG).items()}
    assert found == {
        ("telemetry", "0"): 2, ("telemetry", "1"): 2, ("cars.means.exchange", "0"): 3, ("cars.means.exchange", "1"): 0,
        ("cars.means.means.rows", "0"): 3,
    }  # fmt: skip
    own = lag_by_facts([replace(TOLD, tasks=("1.1", "2.0"))], topics, loaded, own=True)
    assert [str(lag.partition) for lag in own] == ["cars.means.exchange[0]", "telemetry[1]"]


def test_a_checkpoint_is_measured_from_its_first_message_until_it_counts() -> None:
    clock = ManualClock()
    counts = Counts()
    timing = Timing(clock, counts)
    clock.advance(100)  # nothing came
    timing.begin(3)
    clock.advance(1)
    timing.spent("decode")
    clock.advance(2)
    timing.spent("engine")
    clock.advance(10)  # it waited
    timing.begin(2)
    clock.advance(4)
    timing.spent("engine")
    counts.given[7] = 9
    for seconds in (0.5, 0.25):
        timing.step()
        clock.advance(seconds)
    timing.step()
    clock.advance(0.125)
    done = timing.made("cars.means", [(1, 0)])
    assert (done.messages, done.rows, done.tasks, done.worked) == (5, 9, ("1.0",), 17)
    assert (done.save, done.commit, done.store, done.seconds) == (0.5, 0.25, 0.125, 0.875)
    assert done.spent == {"decode": 1, "engine": 6, "send": 0}
    span = done.span()
    assert span.began == clock.now() - timedelta(seconds=17.875)
    assert [(part.name, part.seconds) for part in span.parts] == [
        ("process", 17), ("save", 0.5), ("commit", 0.25), ("store", 0.125),
    ]  # fmt: skip
    assert [later.began - part.began for part, later in zip(span.parts, span.parts[1:], strict=False)] == [
        timedelta(seconds=part.seconds) for part in span.parts[:-1]
    ]
    assert (counts.checkpoints, counts.seconds.count) == (1, 1)
    again = timing.made("cars.means", [], "it was fenced")
    assert (again.messages, again.rows, again.worked, again.seconds) == (0, 0, 0, 0), "each begins anew"
    assert (counts.checkpoints, counts.seconds.count) == (1, 1), "one that does not count is not counted"
    assert again.span().error == "it was fenced"


def test_every_metric_is_in_the_documentations_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(tidemill_\w+)` \| (\w+) \|([\w, ]*)\|", page, re.M)
    told = [(name, kind, labels.strip()) for name, kind, labels in rows]
    assert told == [(metric.name, metric.kind, ", ".join(metric.labels)) for metric in METRICS]


def test_names_are_as_prometheus_has_them() -> None:
    """Counters end with `_total`, units stand before that, and nothing else ends so."""
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        unit = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}.get(metric.unit)
        assert unit is None or metric.name.endswith(unit), metric.name
        assert metric.help.endswith(".")


class Silent(MemoryTopics):
    """A broker that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.answers = threading.Event()

    def describe(self, name: str) -> TopicInfo | None:
        assert self.answers.wait(60)
        return super().describe(name)


def test_a_broker_that_does_not_answer_keeps_nobody_from_the_other_metrics(
    store: SqlMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.wiring.metrics._PATIENCE", 0.05)
    topics = Silent()
    topics.create(TopicSpec("telemetry", 2))
    watch = LagWatch(store, lambda: topics)
    for _ in range(2):
        assert by_labels(watch.samples([TOLD]), metrics.ANSWERED) == {("topics",): 0}
    assert sum(thread.name == "lag" for thread in threading.enumerate()) == 1, "it is asked once, however often we are"
    topics.answers.set()
    monkeypatch.setattr("tidemill.wiring.metrics._PATIENCE", 60.0)
    found = watch.samples([TOLD])
    assert by_labels(found, metrics.ANSWERED) == {("topics",): 1}
    assert by_labels(found, metrics.LAG)["cars.means", "telemetry", "0"] == 0


def test_how_far_a_topic_is_archived_is_told_by_its_bookmark(store: SqlMetadata) -> None:
    clock = ManualClock()
    a = Kept(MemoryTopics(clock), store, MemoryFiles(), clock)
    a.make(2)
    told = [replace(TOLD, nodes={0: NodeFacts(5, stage=1, reads=TOPIC), 1: NodeFacts(5, stage=1, writes=TOPIC)})]
    watch = LagWatch(store, lambda: a.topics)
    a.send([b"x"] * 3, 0)
    assert not by_labels(watch.samples(told), metrics.ARCHIVE_LAG), "it has no archive"
    assert a.archive() == 3
    a.send([b"x"] * 2, 0)
    a.send([b"x"], 1)
    found = watch.samples(told)
    assert by_labels(found, metrics.ARCHIVE_LAG) == {(TOPIC, "0"): 2, (TOPIC, "1"): 1}
    assert by_labels(found, metrics.ARCHIVED) == {(TOPIC,): 1}
    own = LagWatch(store, lambda: a.topics, own=True)
    assert not by_labels(own.samples(told), metrics.ARCHIVED), "a process tells of its own work alone"
