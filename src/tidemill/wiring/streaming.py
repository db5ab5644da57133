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
from typing import TYPE_CHECKING

from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.observing import Observer
from tidemill.model.errors import Conflict, SettingsError, TidemillError, Unreachable
from tidemill.wiring.codecs import open_registry
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.services import connect
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores, streams_of

if TYPE_CHECKING:
    from tidemill.model.pipeline import PipelineSpec
    from tidemill.model.stream import StreamSpec
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.registry import Registry
    from tidemill.ports.topic import Topics
    from tidemill.wiring.stream_settings import StreamSettings

_log = logging.getLogger("tidemill")

#: Seconds between two looks whether it is time to stop.
_LOOK = 0.2
#: A stream that has failed is tried again after so many seconds, the later the more often it has failed of late; one
#: that has run for so long is thought well again.
_AGAIN = (1.0, 2.0, 5.0, 15.0, 60.0)
_WELL = 120.0
#: Seconds between two rounds in which embedded topics are compacted, and old messages go.
_TIDY = 60.0
#: What a process has told is forgotten when it has told nothing for so long.
_FORGOTTEN = timedelta(days=1)


def open_topics(settings: Settings, metadata: Metadata, clock: Clock) -> Topics:
    """The broker that the settings name; by default the metadata database.

    Raises:
        SettingsError: Kafka's client is not installed, or an option is wrong.
    """
    address = settings.streams.broker
    if not address:
        from tidemill.adapters.localfs.bell import PipeBell
        from tidemill.adapters.sql.store import SqlMetadata
        from tidemill.adapters.sql.topics import SqlTopics

        assert isinstance(metadata, SqlMetadata)
        bells = partial(PipeBell, settings.root / STATE_FOLDER / "topic-bells")
        return SqlTopics(metadata, clock, bells=bells)
    try:
        from tidemill.adapters.kafka.topics import KafkaTopics
    except ImportError:
        raise SettingsError("Kafka's client is not installed.", hint='pip install "tidemill[kafka]"') from None
    servers = address.removeprefix("kafka://").rstrip("/")
    return KafkaTopics({"bootstrap.servers": servers, **settings.streams.options})


def registry_of(settings: StreamSettings) -> Registry | None:
    """The schema registry, if the settings name one."""
    if not settings.registry:
        return None
    return open_registry(settings.registry, settings.registry_user, settings.registry_password, settings.registry_token)


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
) -> int:
    """Run streams until it is time to stop. Gives the exit code: 1 where one of them has failed.

    Args:
        settings: the project.
        names: `pipeline.stream`, or a pipeline's for all of its; none: every stream.
        stopping: asked again and again.
        told: is told what happens, a line at a time.

    Raises:
        UserError: there is no such stream, or one is declared wrongly.
    """
    pipelines = [pipeline.spec() for pipeline in load_pipelines(settings).values()]
    chosen = [found for name in names or (None,) for found in streams_of(pipelines, name)]
    with Running(settings, stopping, told) as running:
        for _, spec in chosen:
            running.maker.plan(spec)  # what is wrong with a stream is told before any of them begins
        for pipeline, spec in chosen:
            running.start(pipeline, spec)
        told(f"{', '.join(spec.full_name for _, spec in chosen) or 'no streams'} running, process {os.getpid()}")
        running.wait()
        return 1 if running.has_failed else 0


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
        self.maker = StreamMaker(
            self._topics, open_stores(settings), LakeTables(self._services), self.clock, registry_of(settings.streams)
        )
        self._threads: list[threading.Thread] = []
        self._failed = threading.Event()

    def __enter__(self) -> Running:
        with self.metadata.write() as tx:
            tx.streams.forget_before(self.clock.now() - _FORGOTTEN)
        return self

    def __exit__(self, *_: object) -> None:
        self._topics.close()
        self.metadata.close()

    @property
    def has_failed(self) -> bool:
        """Whether any of them has stopped by an error."""
        return self._failed.is_set()

    def start(self, pipeline: PipelineSpec, spec: StreamSpec) -> None:
        """Begin one."""
        thread = threading.Thread(target=self._run, args=(pipeline, spec), name=spec.full_name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, changed: Callable[[], bool] = lambda: False) -> None:
        """Until all have ended; `changed` is asked meanwhile, and whoever asks may so stop them."""
        tidy = getattr(self._topics, "tidy", None)  # a broker does so itself
        tidied = self.clock.monotonic()
        while any(thread.is_alive() for thread in self._threads):
            self._threads[0].join(_LOOK)
            self._threads.sort(key=lambda thread: not thread.is_alive())
            changed()
            if tidy is not None and self.clock.monotonic() - tidied >= _TIDY:
                tidied = self.clock.monotonic()
                with suppress(Conflict, Unreachable):
                    tidy(self.clock.now())

    def _run(self, pipeline: PipelineSpec, spec: StreamSpec) -> None:
        """One stream: again and again, if it is to be so."""
        with slot(self._settings, spec.full_name) as identity:
            now = self.clock.now()
            facts = ProcessFacts(
                spec.full_name, identity, socket.gethostname(), os.getpid(), now, now, version=self._version
            )
            observer = Observer(self.metadata, facts, self.clock)
            falls = 0
            while not self._stopping():
                began = self.clock.monotonic()
                try:
                    process = self.maker.process(pipeline, spec, identity)
                    process.looked_at = observer.look
                    process.run(self._stopping)
                    break
                except Exception as error:
                    self._tell(spec, error)
                    observer.failed(error)
                    if not self._again:
                        return
                    falls = 0 if self.clock.monotonic() - began > _WELL else falls + 1
                self._rest(_AGAIN[min(falls, len(_AGAIN) - 1)], observer)
            observer.ended()

    def _tell(self, spec: StreamSpec, error: Exception) -> None:
        self._failed.set()
        if isinstance(error, TidemillError):
            self._told(f"{spec.full_name} has stopped: {error}")
        else:
            _log.error("%s has stopped", spec.full_name, exc_info=error)

    def _rest(self, seconds: float, observer: Observer) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until and not self._stopping():
            self.clock.sleep(_LOOK)
            observer.still_failed()
