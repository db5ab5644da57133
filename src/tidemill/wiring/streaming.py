"""Running a project's streams in this process: a thread for each, until asked to stop."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tidemill.model.errors import SettingsError, TidemillError
from tidemill.wiring.codecs import open_registry
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.services import connect
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores, streams_of

if TYPE_CHECKING:
    from tidemill.flow.stream.process import StreamProcess
    from tidemill.model.stream import StreamSpec
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.registry import Registry
    from tidemill.ports.topic import Topics
    from tidemill.wiring.stream_settings import StreamSettings

_log = logging.getLogger("tidemill")

#: Seconds between two looks whether it is time to stop, and before a stream that has stopped by an error is told of.
_LOOK = 0.2


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
    services = connect(settings)
    topics = open_topics(settings, services.metadata, services.clock)
    maker = StreamMaker(
        topics, open_stores(settings), LakeTables(services), services.clock, registry_of(settings.streams)
    )
    failed = threading.Event()
    threads = []
    for pipeline, spec in chosen:
        maker.plan(spec)  # what is wrong with a stream is told before any of them begins
        make = partial(maker.process, pipeline, spec)
        thread = threading.Thread(
            target=_run_one, args=(settings, spec, make, stopping, failed, told), name=spec.full_name, daemon=True
        )
        threads.append(thread)
    for thread in threads:
        thread.start()
    told(f"{', '.join(spec.full_name for _, spec in chosen) or 'no streams'} running, process {os.getpid()}")
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK)
    topics.close()
    services.metadata.close()
    return 1 if failed.is_set() else 0


def _run_one(
    settings: Settings,
    spec: StreamSpec,
    make: Callable[[str], StreamProcess],
    stopping: Callable[[], bool],
    failed: threading.Event,
    told: Callable[[str], None],
) -> None:
    try:
        with slot(settings, spec.full_name) as identity:
            make(identity).run(stopping)
    except TidemillError as error:
        failed.set()
        told(f"{spec.full_name} has stopped: {error}")
    except Exception:
        failed.set()
        _log.exception("%s has stopped", spec.full_name)
