"""What OpenTelemetry is told: spans with their times and parts, samples as instruments, values as histograms."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tidemill.adapters.otel.telemetry import OtelTelemetry, names_collector, otel_name
from tidemill.flow.metrics import CHECKPOINTS, LAG, METRICS, READ, RUNS, STATE
from tidemill.model.errors import Unreachable
from tidemill.model.metric import SECONDS, Sample
from tidemill.ports.telemetry import Span

AT = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class Told:
    """Telemetry whose collector is this test."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.telemetry = OtelTelemetry("shop", processors=[SimpleSpanProcessor(self.exporter)], readers=[self.reader])

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        found = data.resource_metrics if data is not None else ()
        return {metric.name: metric for r in found for scope in r.scope_metrics for metric in scope.metrics}


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.telemetry.close()


def test_a_span_has_its_times_its_facts_and_its_parts(told: Told) -> None:
    parts = (Span("save", AT, 0.5), Span("commit", AT + timedelta(seconds=0.5), 1.5, error="fenced"))
    told.telemetry.ended(Span("checkpoint", AT, 2.0, {"tidemill.tasks": ["1.0"], "tidemill.rows": 7}, parts, "fenced"))
    save, commit, whole = told.exporter.get_finished_spans()
    assert (save.name, commit.name, whole.name) == ("save", "commit", "checkpoint")
    assert whole.parent is None
    for part in (save, commit):
        assert part.parent is not None
        assert part.parent.span_id == whole.context.span_id
        assert part.context.trace_id == whole.context.trace_id
    assert dict(whole.attributes or {}) == {"tidemill.tasks": ("1.0",), "tidemill.rows": 7}
    assert whole.start_time == 1_767_268_800_123_456_000
    assert (whole.end_time or 0) - (whole.start_time or 0) == 2_000_000_000
    assert (commit.end_time or 0) == (whole.end_time or 0)
    assert not whole.status.is_ok
    assert whole.status.description == "fenced"
    assert save.status.is_ok
    assert whole.resource.attributes["tidemill.project"] == "shop"


def test_each_ended_span_is_a_trace_of_its_own(told: Told) -> None:
    for _ in range(2):
        told.telemetry.ended(Span("run", AT, 1.0))
    one, other = told.exporter.get_finished_spans()
    assert one.context.trace_id != other.context.trace_id


def test_samples_become_counters_and_gauges(told: Told) -> None:
    samples = [
        Sample(READ, ("cars.means", "host-0", "1", "telemetry"), 5), Sample(LAG, ("cars.means", "telemetry", "0"), 3),
        Sample(LAG, ("cars.means", "telemetry", "1"), 4),
    ]  # fmt: skip
    asked = []

    def look() -> list[Sample]:
        asked.append(1)
        return samples

    told.telemetry.observe((READ, LAG), look)
    found = told.metrics()
    [read] = found["tidemill.stream.messages_read"].data.data_points
    assert (read.value, read.attributes["topic"]) == (5, "telemetry")
    assert found["tidemill.stream.messages_read"].data.is_monotonic
    assert {p.attributes["partition"]: p.value for p in found["tidemill.stream.lag_messages"].data.data_points} == {
        "0": 3, "1": 4,
    }  # fmt: skip
    assert len(asked) == 1, "once for all instruments"


def test_what_cannot_be_looked_at_is_left_out(told: Told) -> None:
    def broken() -> list[Sample]:
        raise Unreachable("The database does not answer.")

    told.telemetry.observe((LAG,), broken)
    told.telemetry.measured(CHECKPOINTS, ("cars.means", "host-0"), 0.02)
    assert set(told.metrics()) == {"tidemill.stream.checkpoint"}


def test_values_of_a_histogram_fall_between_the_same_bounds_as_prometheus_has(told: Told) -> None:
    for value in (0.005, 0.3, 60.0):
        told.telemetry.measured(CHECKPOINTS, ("cars.means", "host-0"), value)
    metric = told.metrics()["tidemill.stream.checkpoint"]
    [point] = metric.data.data_points
    assert metric.unit == "s"
    assert tuple(point.explicit_bounds) == SECONDS
    assert (point.bucket_counts[0], point.bucket_counts[-1], point.count) == (1, 1, 3)


def test_a_collector_makes_prometheus_names_of_the_names_again() -> None:
    """As its Prometheus exporter does: dots become underscores, then the unit, then `_total` of a counter."""
    units = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}
    for metric in METRICS:
        made = otel_name(metric).replace(".", "_") + units.get(metric.unit, "")
        assert made + ("_total" if metric.kind == "counter" else "") == metric.name
    assert (otel_name(RUNS), otel_name(STATE)) == ("tidemill.runs", "tidemill.stream.state")


def test_the_environment_names_a_collector_or_nothing_is_sent() -> None:
    assert not names_collector({"OTEL_SERVICE_NAME": "x"})
    assert names_collector({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here"})


def test_a_collector_that_is_away_is_told_of_now_and_then_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")  # that is too short for a second try
    times = iter([True, False, True])
    telemetry = OtelTelemetry("shop", lambda: next(times), processors=[SimpleSpanProcessor(OTLPSpanExporter())])
    refused = ConnectionError("HTTPConnection(port=9): Failed: [Errno 111] Connection refused'))")
    logging.getLogger("opentelemetry.exporter").warning("Transient error %s encountered", refused)
    for _ in range(3):
        telemetry.ended(Span("x", AT, 1.0))
    telemetry.close()
    said = [record.getMessage() for record in caplog.records if record.name == "tidemill"]
    assert len(said) == 2
    assert said[0].startswith("telemetry: the collector at http://127.0.0.1:9 takes nothing: Connection refused. ")
