"""Port `telemetry` on OpenTelemetry's SDK, over OTLP by HTTP. Where to, how often and how much is said by OTEL_*."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from tidemill.model.metric import SECONDS, Histogram, Metric, Sample
from tidemill.ports.telemetry import Span

_log = logging.getLogger("tidemill")
_theirs = logging.getLogger("opentelemetry")

#: Samples are asked for once in a collection, in which each metric calls back; it takes less than this, in seconds.
_FRESH = 1.0
#: Milliseconds for what is left, at the end.
_LAST = 5_000
#: What OpenTelemetry leaves out of a name, as it says the unit beside it, and a collector puts it in again.
_SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}


#: Where the environment says where metrics and traces go.
_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP{kind}_ENDPOINT" for kind in ("", "_TRACES", "_METRICS"))
_REASON = re.compile(r"\[Errno -?\d+\] ([^\"')]+)")


def names_collector(environment: Mapping[str, str]) -> bool:
    """Whether the environment says where metrics or traces go."""
    return any(map(environment.get, _ENDPOINTS))


def _endpoints() -> str:
    return ", ".join(url for name in _ENDPOINTS if (url := os.environ.get(name)))


def otel_name(metric: Metric) -> str:
    """A metric's name in OpenTelemetry: a collector makes that of Prometheus of it again."""
    bare = metric.name.removesuffix("_total").removesuffix(_SUFFIXES.get(metric.unit, ""))
    first, _, rest = bare.partition("_")
    part, _, last = rest.partition("_")
    return f"{first}.{part}.{last}" if part == "stream" else f"{first}.{rest}"


class OtelTelemetry:
    """Tells a collector; one for each process.

    Args:
        project: the project, told with everything.
        due: asked whether to tell again that a collector takes nothing.
        processors, readers: instead of those that send by OTLP.
    """

    def __init__(
        self,
        project: str,
        due: Callable[[], bool] = lambda: True,
        *,
        processors: Sequence[SpanProcessor] | None = None,
        readers: Sequence[MetricReader] | None = None,
    ) -> None:
        self._complaints = _Complaints(due)
        _theirs.addHandler(self._complaints)
        _theirs.propagate = False
        resource = Resource.create({
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or "tidemill",
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            "tidemill.project": project,
        })  # fmt: skip
        if readers is None:
            readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if _is_wanted("METRICS") else []
        if processors is None:
            processors = [BatchSpanProcessor(OTLPSpanExporter())] if _is_wanted("TRACES") else []
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in processors:
            self._traces.add_span_processor(processor)
        self._meter = self._meters.get_meter("tidemill")
        self._tracer = self._traces.get_tracer("tidemill")
        self._histograms: dict[str, Instrument] = {}
        self._asked: list[_Asked] = []

    def ended(self, span: Span) -> None:
        """Tell of a stretch of work."""
        self._tell(span, None)

    def _tell(self, span: Span, parent: Context | None) -> None:
        begin = _nanoseconds(span.began)
        made = self._tracer.start_span(span.name, parent, attributes=dict(span.attributes), start_time=begin)
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        within = set_span_in_context(made)
        for part in span.parts:
            self._tell(part, within)
        made.end(begin + int(span.seconds * 1e9))

    def measured(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """Count a value into a histogram."""
        if metric.name not in self._histograms:
            self._histograms[metric.name] = self._meter.create_histogram(
                otel_name(metric), metric.unit, metric.help, explicit_bucket_boundaries_advisory=SECONDS
            )
        self._histograms[metric.name].record(value, dict(zip(metric.labels, labels, strict=True)))

    def observe(self, metrics: Sequence[Metric], samples: Callable[[], Iterable[Sample]]) -> None:
        """Make an instrument of each metric, which asks for its samples."""
        asked = _Asked(samples)
        self._asked.append(asked)
        for metric in metrics:
            described = (otel_name(metric), [asked.of(metric)], metric.unit, metric.help)
            if metric.kind == "counter":
                self._meter.create_observable_counter(*described)
            elif metric.kind == "gauge":  # values of a histogram come by `measured`, one by one
                self._meter.create_observable_gauge(*described)

    def close(self) -> None:
        """Send what is left, as it is now."""
        for asked in self._asked:
            asked.forget()
        for provider in (self._meters, self._traces):
            try:
                provider.force_flush(_LAST)
                provider.shutdown()
            except Exception as error:
                _log.warning("telemetry: what was left could not be sent: %s", error)
        _theirs.removeHandler(self._complaints)
        _theirs.propagate = not _theirs.handlers


class _Complaints(logging.Handler):
    """What OpenTelemetry complains about, now and then only: of a collector that is away it tells at each try."""

    def __init__(self, due: Callable[[], bool]) -> None:
        super().__init__(logging.WARNING)
        self._due = due
        self._reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell, if it is time."""
        if record.msg.startswith("Transient error") and isinstance(record.args, tuple):
            found = str(record.args[0])  # the reason stands within what the HTTP client says of each of its layers
            told = _REASON.search(found)
            self._reason = told[1] if told else found
        elif not record.msg.startswith("Failed to export"):
            _log.log(record.levelno, "telemetry: %s", record.getMessage(), exc_info=record.exc_info)
        elif self._due():
            timed_out = "due to timeout" in record.msg and self._reason
            _log.warning(
                "telemetry: the collector at %s takes nothing: %s. Metrics and traces are lost until it does; all else "
                "goes on. Is it up, and is OTEL_EXPORTER_OTLP_ENDPOINT its address?",
                _endpoints(), (self._reason if timed_out else record.getMessage()).removesuffix("."),
            )  # fmt: skip


class _Asked:
    """Asks once for what all instruments are asked for at the same time."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples
        self._at: float | None = None
        self._found: dict[str, list[Sample]] = {}

    def of(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """What one instrument calls back."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(sample.value, dict(zip(metric.labels, sample.labels, strict=True)))
                for sample in self._now().get(metric.name, ())
                if not isinstance(sample.value, Histogram)
            ]

        return observe

    def forget(self) -> None:
        """Ask anew the next time."""
        self._at = None

    def _now(self) -> Mapping[str, list[Sample]]:
        now = time.monotonic()
        if self._at is None or now - self._at > _FRESH:
            self._at, self._found = now, {}
            try:
                for sample in self._samples():
                    self._found.setdefault(sample.metric.name, []).append(sample)
            except Exception as error:
                _log.warning("telemetry: metrics could not be looked at: %s", error)
        return self._found


def _is_wanted(kind: str) -> bool:
    return os.environ.get(f"OTEL_{kind}_EXPORTER", "otlp") != "none"


def _nanoseconds(moment: datetime) -> int:
    # Not by a float: of today's nanoseconds it keeps no more than hundreds.
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000
