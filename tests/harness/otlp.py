"""A collector of OpenTelemetry's on a free port of this computer: it keeps what is sent to it, as messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Received:
    """What has come."""

    port: int = 0
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process send here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }

    @property
    def spans(self) -> list[Any]:
        """All spans."""
        return [s for one in self.traces for r in one.resource_spans for scope in r.scope_spans for s in scope.spans]

    @property
    def resources(self) -> list[dict[str, str]]:
        """Who has sent."""
        found = [r.resource for one in self.traces for r in one.resource_spans]
        found += [r.resource for one in self.metrics for r in one.resource_metrics]
        return [attributes(one) for one in found]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Points of a metric, oldest first: attributes, and the value; of a histogram its point."""
        found = []
        for one in self.metrics:
            for metric in (m for r in one.resource_metrics for s in r.scope_metrics for m in s.metrics):
                if metric.name == name:
                    kind = metric.WhichOneof("data")
                    for point in getattr(metric, kind).data_points:
                        plain = point if kind == "histogram" else getattr(point, point.WhichOneof("value"))
                        found.append((attributes(point), plain))
        return found


def attributes(one: Any) -> dict[str, Any]:
    """A message's attributes as plain values."""
    found = {}
    for pair in one.attributes:
        kind = pair.value.WhichOneof("value")
        plain = getattr(pair.value, kind)
        found[pair.key] = [v.string_value for v in plain.values] if kind == "array_value" else plain
    return found


@contextmanager
def collector() -> Iterator[Received]:
    """A collector that listens meanwhile."""
    received = Received()
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "/v1/traces": (ExportTraceServiceRequest, received.traces),
        "/v1/metrics": (ExportMetricsServiceRequest, received.metrics),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            kind, kept = kinds[self.path]
            kept.append(kind.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
