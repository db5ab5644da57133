"""Where metrics come from, and who serves them: of an installation, by what is on record; of a process, its own.

metadata database, broker -> samples -> /metrics of `tidemill up` and `tidemill serve metrics`
observers of this process -> samples -> /metrics of `tidemill stream run --metrics`, OpenTelemetry
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from tidemill.flow.metrics import (
    ANSWERED,
    METRICS,
    OF_INSTALLATION,
    RunWatch,
    of_archives,
    of_lag,
    of_processes,
    of_streams,
)
from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.lag import Lag, archive_lag, lag_by_facts, loaded_until
from tidemill.flow.stream.outages import Seldom
from tidemill.flow.stream.topic_archive import Archived, archived_of
from tidemill.flow.tracing import run_span
from tidemill.model.errors import Conflict, SettingsError, TidemillError, Unreachable
from tidemill.model.metric import Sample
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import FILE, Settings
from tidemill.wiring.stream_serving import WantedStreams
from tidemill.wiring.topics import open_topics

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.telemetry import Telemetry
    from tidemill.ports.topic import Topics
    from tidemill.wiring.metrics_settings import MetricsSettings

_log = logging.getLogger("tidemill")

#: Seconds that a broker may take to say how far it is.
_PATIENCE = 3.0
#: Seconds between two looks whether runs have ended, where they are traced.
_TRACED = 15.0


class InstallationMetrics:
    """The metrics of all that is on record. Threads may share it. Close it at the end.

    Args:
        settings: the project.
        metadata: its database.
        clock: the time.
        telemetry: is told of runs that have ended; None: nobody is.
    """

    def __init__(
        self, settings: Settings, metadata: Metadata, clock: Clock, telemetry: Telemetry | None = None
    ) -> None:
        self._settings = settings
        self._metadata = metadata
        self._clock = clock
        self._telemetry = telemetry
        self._declared = WantedStreams(metadata)
        self._watch = RunWatch()
        self._lag = LagWatch(metadata, lambda: self._topics)
        with metadata.read() as tx:
            self._watch.look(tx)

    @cached_property
    def _topics(self) -> Topics:
        return open_topics(self._settings, self._metadata, self._clock)

    def samples(self) -> list[Sample]:
        """All samples as of now. Where a source does not answer, its samples are missing, and one says so."""
        try:
            told = self._told()
            found = [*of_processes(told, self._clock.now()), *self.of_runs(told)]
        except (Conflict, Unreachable) as error:
            _log.warning("metrics without the metadata database: %s", error)
            return [Sample(ANSWERED, ("metadata",), 0)]
        return [*found, *self._lag.samples(told), Sample(ANSWERED, ("metadata",), 1)]

    def text(self) -> str:
        """The same as Prometheus reads it."""
        return as_text(self.samples())

    def of_runs(self, told: list[ProcessFacts] | None = None) -> list[Sample]:
        """Runs, tasks, and how many processes streams have: what no process of a stream knows of itself."""
        now = self._clock.now()
        known = self._told() if told is None else told
        declared = [f"{one.pipeline}.{name}" for one in self._declared.look() for name in one.streams]
        with self._metadata.read() as tx:
            ended = self._watch.look(tx)
            found = [*of_streams(known, declared, now), *self._watch.samples(tx, now)]
            spans = [run_span(tx, run_id) for run_id in ended] if self._telemetry is not None else []
        for span in spans:
            if span is not None and self._telemetry is not None:
                self._telemetry.ended(span)
        return found

    def close(self) -> None:
        """Let go of the broker; the database is the caller's."""
        if "_topics" in self.__dict__:
            self._topics.close()

    def _told(self) -> list[ProcessFacts]:
        with self._metadata.read() as tx:
            return [ProcessFacts.from_json(found) for found in tx.streams.told()]


class LagWatch:
    """How far behind streams are, by offsets. Threads may share it.

    A broker that does not answer keeps whoever asks for a minute, and Prometheus gives up after ten seconds: so this
    asks in a thread of its own, and does without an answer that takes too long.

    Args:
        metadata: knows how far tables are.
        topics: the broker, opened when it is needed.
        own: only partitions of the tasks of those who have told.
    """

    def __init__(self, metadata: Metadata, topics: Callable[[], Topics], *, own: bool = False) -> None:
        self._metadata = metadata
        self._topics = topics
        self._own = own
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._found: list[Sample] = []

    def samples(self, told: Collection[ProcessFacts]) -> list[Sample]:
        """Lag of all streams that somebody has told of; one sample says whether the broker has answered."""
        if not told:
            return []
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask, args=(told,), name="lag", daemon=True)
                self._asking.start()
            self._asking.join(_PATIENCE)
            if self._asking.is_alive():
                _log.warning("metrics without lag: the broker has not answered for %g s", _PATIENCE)
                return [Sample(ANSWERED, ("topics",), 0)]
            return self._found

    def _ask(self, told: Collection[ProcessFacts]) -> None:
        by_stream: dict[str, list[ProcessFacts]] = {}
        for one in told:
            by_stream.setdefault(one.stream, []).append(one)
        try:
            topics = self._topics()
            lags = {name: lag_by_facts(found, topics, self._loaded, own=self._own) for name, found in by_stream.items()}
            archives = {} if self._own else self._archives(topics, told)
            self._found = [*of_lag(lags), *of_archives(archives), Sample(ANSWERED, ("topics",), 1)]
        except TidemillError as error:
            _log.warning("metrics without lag: %s", error)
            self._found = [Sample(ANSWERED, ("topics",), 0)]

    def _archives(self, topics: Topics, told: Collection[ProcessFacts]) -> dict[str, tuple[Archived, list[Lag]]]:
        """Of topics that streams read or write and that have an archive: whichever process archives them."""
        names = sorted({name for one in told for node in one.nodes.values() for name in (node.reads, node.writes)})
        with self._metadata.read() as tx:
            known = {name: archived_of(tx, name) for name in names if name}
        infos = {name: topics.describe(name) for name, one in known.items() if one.batches}
        return {name: (known[name], archive_lag(info, known[name])) for name, info in infos.items() if info is not None}

    def _loaded(self, stream: str, table: str) -> int:
        with self._metadata.read() as tx:
            return loaded_until(tx, stream, table)


def as_text(samples: Iterable[Sample]) -> str:
    """Samples as Prometheus reads them."""
    from tidemill.adapters.prometheus.text import exposition

    return exposition(METRICS, samples)


@contextmanager
def served(settings: MetricsSettings, text: Callable[[], str], told: Callable[[str], None]) -> Iterator[None]:
    """`/metrics` is served meanwhile, where the settings want it.

    Raises:
        SettingsError: the address is taken.
    """
    if not settings.host:
        yield
        return
    from tidemill.adapters.prometheus.server import MetricsServer

    server = MetricsServer(settings.host, settings.port, text, settings.token)
    told(f"metrics at {server.address}")
    try:
        yield
    finally:
        server.close()


def serve_metrics(settings: Settings, stopping: Callable[[], bool], handle: int) -> int:
    """Serve the installation's metrics until `stopping`; `handle` is readable when that has changed.

    Raises:
        SettingsError: nothing is to be served, the address is taken, or OpenTelemetry is not installed.
    """
    see_wanted(settings)
    clock = system_clock()
    metadata = open_metadata(settings, clock)
    telemetry = open_telemetry(settings)
    metrics = InstallationMetrics(settings, metadata, clock, telemetry)
    try:
        if telemetry is not None:
            telemetry.observe(OF_INSTALLATION, metrics.of_runs)
        with served(settings.metrics, metrics.text, _log.info):
            while not stopping():
                # Traces of runs are told so often, also where nobody asks for metrics.
                if not select.select([handle], [], [], None if telemetry is None else _TRACED)[0]:
                    _tell_of_runs(metrics)
        if telemetry is not None:
            _tell_of_runs(metrics)
            telemetry.close()
    finally:
        metrics.close()
        metadata.close()
    return 0


def _tell_of_runs(metrics: InstallationMetrics) -> None:
    try:
        metrics.of_runs()
    except (Conflict, Unreachable) as error:
        _log.warning("traces of runs have to wait: %s", error)


def is_wanted(settings: Settings) -> bool:
    """Whether anybody is to be told of metrics."""
    return bool(settings.metrics.host) or settings.metrics.otel


def see_wanted(settings: Settings) -> None:
    """Raise SettingsError unless somebody is to be told of metrics."""
    if not is_wanted(settings):
        raise SettingsError(
            "No address is set to serve metrics at.", where=str(settings.root / FILE),
            hint='[metrics] listen = "127.0.0.1:9464"',
        )  # fmt: skip


def open_telemetry(settings: Settings) -> Telemetry | None:
    """Whoever is told of metrics and traces; None: the settings, or the environment, name nobody.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    if not settings.metrics.otel:
        return None
    try:
        from tidemill.adapters.otel.telemetry import OtelTelemetry, names_collector
    except ImportError:
        raise SettingsError(
            "[otel] needs OpenTelemetry, which is not installed.", where=str(settings.root / FILE),
            hint='pip install "tidemill[otel]"',
        ) from None  # fmt: skip
    if not names_collector(os.environ):
        _log.warning("[otel] is enabled, and OTEL_EXPORTER_OTLP_ENDPOINT names no collector: nothing is sent")
        return None
    return OtelTelemetry(settings.name, Seldom(system_clock()).due)
