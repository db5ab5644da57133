"""Running a project's streams in this process: a thread for each, until asked to stop."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.flow.metrics import CHECKPOINTS, LAG, OF_PROCESSES, of_processes
from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.measuring import Checkpoint, Counts
from tidemill.flow.stream.observing import Observer
from tidemill.flow.stream.outages import Seldom
from tidemill.model.errors import Conflict, TidemillError, UnknownName, Unreachable
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.feeding import Feeders
from tidemill.wiring.metrics import LagWatch, as_text, open_telemetry, served
from tidemill.wiring.metrics_settings import MetricsSettings
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.project import load_what_loads
from tidemill.wiring.secrets import connections_of
from tidemill.wiring.services import connect
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.stream_past import Archivers, open_archives, with_archives
from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores, streams_of
from tidemill.wiring.topics import open_topics

if TYPE_CHECKING:
    from tidemill.model.metric import Sample
    from tidemill.model.pipeline import PipelineSpec
    from tidemill.model.stream import StreamSpec
    from tidemill.ports.telemetry import Telemetry

_log = logging.getLogger("tidemill")

#: Seconds between two looks whether it is time to stop.
_LOOK = 0.2
#: Seconds between two looks which streams are paused.
_PAUSED = 1.0
#: A stream that has failed is tried again after so many seconds, the later the more often it has failed of late; one
#: that has run for so long is thought well again.
_AGAIN = (1.0, 2.0, 5.0, 15.0, 60.0)
_WELL = 120.0
#: Seconds between two rounds in which embedded topics are compacted, and old messages go.
_TIDY = 60.0
#: What a process has told is forgotten when it has told nothing for so long.
_FORGOTTEN = timedelta(days=1)
#: What checks have found in an hour is kept for so long.
_COUNTED = timedelta(days=90)


@contextmanager
def slot(settings: Settings, stream: str) -> Iterator[str]:
    """A name for this process's part in a stream: the same again after a crash, another for each beside it.

    So a process that begins anew fences, and ends, what the one before it had begun.
    """
    folder = settings.root / STATE_FOLDER / "streams"
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        file = (folder / f"{stream}.{number}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            number += 1
            continue
        try:
            yield f"{socket.gethostname()}-{number}"
        finally:
            file.close()
        return


def run_streams(
    settings: Settings,
    names: Sequence[str],
    stopping: Callable[[], bool],
    told: Callable[[str], None] = lambda _: None,
    metrics: MetricsSettings | None = None,
) -> int:
    """Run streams until it is time to stop. Gives the exit code: 1 where one of them has failed.

    Args:
        settings: the project.
        names: `pipeline.stream`, or a pipeline's for all of its; none: every stream.
        stopping: asked again and again.
        told: is told what happens, a line at a time.
        metrics: where those of this process are served.

    What is wrong with a stream is told before any of them begins, and the others run.

    Raises:
        UserError: there is no such stream, or none that is not declared wrongly.
    """
    chosen, wrong = _chosen(settings, names)
    with Running(settings, stopping, told) as running, served(metrics or MetricsSettings(), running.text, told):
        sound = []
        for pipeline, spec in chosen:
            try:
                running.maker.plan(spec)
                sound.append((pipeline, spec))
            except Unreachable:
                raise
            except Exception as error:  # a user's function may raise anything
                wrong[f"{spec.full_name} cannot run"] = error
        if wrong and not sound:
            raise wrong.pop(next(iter(wrong)))
        for what, why in wrong.items():
            running.tell(what, why)
        for pipeline, spec in sound:
            running.start(pipeline, spec)
        told(f"{', '.join(spec.full_name for _, spec in sound) or 'no streams'} running, process {os.getpid()}")
        running.wait()
        return 1 if running.has_failed else 0


def _chosen(
    settings: Settings, names: Sequence[str]
) -> tuple[list[tuple[PipelineSpec, StreamSpec]], dict[str, Exception]]:
    """The streams that are asked for; where that is all, what is wrong with files that may have more."""
    loaded, errors = load_what_loads(settings)
    pipelines = [pipeline.spec() for pipeline in loaded.values()]
    try:
        chosen = [found for name in names or (None,) for found in streams_of(pipelines, name)]
    except UnknownName:
        for error in errors.values():
            raise error from None
        raise
    return chosen, {} if names else {f"{Path(file).name} cannot be loaded": why for file, why in errors.items()}


class Running:
    """The streams that run in this process, each in a thread of its own. A context that closes what they share.

    Args:
        settings: the project.
        stopping: asked again and again.
        told: is told what happens, a line at a time.
        again: a stream that fails is tried again, later and later; otherwise it stays as it is.
        version: of the code that they are of.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: Callable[[], bool],
        told: Callable[[str], None],
        *,
        again: bool = False,
        version: str = "",
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._told = told
        self._again = again
        self._version = version
        self._services = connect(settings)
        self.clock = self._services.clock
        self.metadata = self._services.metadata
        self._topics = open_topics(settings, self.metadata, self.clock)
        archives = open_archives(settings, self.metadata, self.clock)
        self._archivers = Archivers(settings, self._topics, archives, self.clock)
        registry = registry_of(settings.streams)
        self.maker = StreamMaker(
            with_archives(self._topics, archives),
            open_stores(settings),
            LakeTables(self._services, settings.streams.tables_every),
            self.clock,
            registry,
            OutsideSystems(connections_of(settings), settings.root, settings).destination,
            settings.streams.tables_every,
        )
        self._feeders = Feeders(settings, self._services, self._topics, registry, told)
        self._threads: list[threading.Thread] = []
        self._observers: list[Observer] = []
        self._lag = LagWatch(self.metadata, lambda: self._topics, own=True)
        self._telemetry = open_telemetry(settings)
        if self._telemetry is not None:
            self._telemetry.observe((*OF_PROCESSES, LAG), self.samples)
        self._failed = threading.Event()
        self._paused: frozenset[str] = frozenset()

    def __enter__(self) -> Running:
        with self.metadata.write() as tx:
            tx.streams.forget_before(self.clock.now() - _FORGOTTEN)
            tx.streams.forget_counts(self.clock.now() - _COUNTED)
            self._paused = tx.streams.paused()
        return self

    def __exit__(self, *_: object) -> None:
        self._feeders.stop()
        if self._telemetry is not None:
            self._telemetry.close()
        self._archivers.stop()
        self._topics.close()
        self.metadata.close()

    @property
    def has_failed(self) -> bool:
        """Whether any of them has stopped by an error."""
        return self._failed.is_set()

    def samples(self) -> list[Sample]:
        """The metrics of these streams, as far as they are this process's; any thread may ask."""
        told = [observer.facts for observer in list(self._observers)]
        return [*of_processes(told, self.clock.now()), *self._lag.samples(told)]

    def text(self) -> str:
        """The same as Prometheus reads it."""
        return as_text(self.samples())

    def start(self, pipeline: PipelineSpec, spec: StreamSpec) -> None:
        """Begin one."""
        thread = threading.Thread(target=self._run, args=(pipeline, spec), name=spec.full_name, daemon=True)
        self._threads.append(thread)
        thread.start()
        for topic in spec.topics.values():
            self._feeders.start(topic)

    def wait(self, changed: Callable[[], bool] = lambda: False) -> None:
        """Until all have ended; `changed` is asked meanwhile, and whoever asks may so stop them."""
        tidy = getattr(self._topics, "tidy", None)  # a broker does so itself
        tidied = looked = self.clock.monotonic()
        while any(thread.is_alive() for thread in self._threads):
            self._threads[0].join(_LOOK)
            self._threads.sort(key=lambda thread: not thread.is_alive())
            changed()
            if self.clock.monotonic() - looked >= _PAUSED:
                looked = self.clock.monotonic()
                self._look_at_pauses()
            if tidy is not None and self.clock.monotonic() - tidied >= _TIDY:
                tidied = self.clock.monotonic()
                with suppress(Conflict, Unreachable):
                    tidy(self.clock.now())

    def _look_at_pauses(self) -> None:
        with suppress(Conflict, Unreachable), self.metadata.read() as tx:  # then it is as it was
            self._paused = tx.streams.paused()

    def _run(self, pipeline: PipelineSpec, spec: StreamSpec) -> None:
        """One stream: again and again, if it is to be so. While it is paused, nothing of it is held."""

        def halted() -> bool:
            return self._stopping() or spec.full_name in self._paused

        with slot(self._settings, spec.full_name) as identity:
            now = self.clock.now()
            facts = ProcessFacts(
                spec.full_name, identity, socket.gethostname(), os.getpid(), now, now, version=self._version
            )
            observer = Observer(self.metadata, facts, self.clock)
            self._observers.append(observer)
            counts = Counts()
            falls, seldom, before = 0, Seldom(self.clock), ""
            while not self._stopping():
                if halted():
                    self.clock.sleep(_LOOK)
                    continue
                began = self.clock.monotonic()
                process = None
                try:
                    process = self.maker.process(pipeline, spec, identity, counts=counts)
                    self._archivers.start([*spec.topics.values(), *process.plan.written()])
                    process.looked_at = observer.look
                    if self._telemetry is not None:
                        process.checkpointed = partial(self._checkpointed, self._telemetry, identity)
                    process.run(halted)
                    observer.ended()
                    continue
                except Exception as error:
                    counts.restarts += self._again
                    if self.clock.monotonic() - began > _WELL or type(error).__name__ != before:
                        seldom.reset()
                    before = type(error).__name__
                    if seldom.due():
                        self.tell(f"{spec.full_name} has stopped", error)
                    observer.failed(error, process)
                    if not self._again:
                        return
                    falls = 0 if self.clock.monotonic() - began > _WELL else falls + 1
                self._rest(_AGAIN[min(falls, len(_AGAIN) - 1)], observer, halted)
                if halted():
                    observer.ended()
            observer.ended()

    @staticmethod
    def _checkpointed(telemetry: Telemetry, identity: str, done: Checkpoint) -> None:
        telemetry.ended(done.span())
        if done.error is None:
            telemetry.measured(CHECKPOINTS, (done.stream, identity), done.seconds)

    def tell(self, what: str, why: Exception) -> None:
        """Tell of a stream that does not run, or no longer."""
        self._failed.set()
        if isinstance(why, TidemillError):
            self._told(f"{what}: {why}")
        else:
            _log.error("%s", what, exc_info=why)

    def _rest(self, seconds: float, observer: Observer, halted: Callable[[], bool]) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until and not halted():
            self.clock.sleep(_LOOK)
            observer.still_failed()
