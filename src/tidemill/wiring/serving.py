"""`tidemill up` and `tidemill serve`: the processes of an installation, forked from one root that stays small.

root (fork server) -+- scheduler (planner, executor)
+- parser, attendant
+- streams, where a pipeline declares one
'- workers, forked for the scheduler
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import SettingsError, TidemillError
from tidemill.model.masking import hide
from tidemill.wiring.settings import FILE, STATE_FOLDER, Settings
from tidemill.wiring.stream_serving import CHANGED, note_of, serve_streams

if TYPE_CHECKING:
    from tidemill.adapters.celery.executor import CeleryExecutor
    from tidemill.adapters.processes.executor import LocalExecutor
    from tidemill.adapters.processes.forker import Forker
    from tidemill.adapters.processes.forkserver import ForkServer
    from tidemill.ports.bell import Bell
    from tidemill.ports.executor import Job

#: What an installation consists of, each in a process of its own.
PARTS = ("scheduler", "parser", "attendant", "streams")
#: Served where the settings say an address.
METRICS = "metrics"
#: A child that ended is started again after so many seconds, the longer the more often it has ended of late.
_AGAIN_AFTER = (0.5, 1.0, 2.0, 5.0)
#: A child that has lived so long (seconds) is thought well again.
_WELL_AFTER = 60.0
#: The root looks so often (seconds) whether there are streams.
_LOOK = 1.0

_log = logging.getLogger("tidemill")


def open_bell(settings: Settings) -> Bell:
    """The bell of a project: PostgreSQL's where that is the metadata database, else named pipes in the state folder."""
    if settings.metadata_url.startswith("postgres"):
        from tidemill.adapters.sql.bell import NotifyBell

        return NotifyBell(settings.metadata_url, settings.name)
    from tidemill.adapters.localfs.bell import PipeBell

    return PipeBell(settings.root / STATE_FOLDER / "bells")


def ring(settings: Settings) -> None:
    """Wake the project's schedulers."""
    bell = open_bell(settings)
    bell.ring()
    bell.close()


def up(
    settings: Settings,
    *,
    parts: Iterable[str] = PARTS,
    workers: int | None = None,
    queues: Sequence[str] = ("default",),
    told: Callable[[str], None] = lambda _: None,
    others: Mapping[str, Callable[[Settings], int]] | None = None,
) -> int:
    """Run the parts of an installation until this process is asked to end; returns the exit code.

    Args:
        settings: the project.
        parts: which of them.
        workers: the most that work at the same time; None: one for each core, at least four.
        queues: those of tasks that a worker of a broker's serves.
        told: is told what happens, a line at a time.
        others: parts of layers above, each with what its process does.
    """
    _preload()
    from tidemill.adapters.processes.forkserver import ForkServer

    mains: dict[str, Callable[[ForkServer], int]] = {
        "scheduler": lambda server: server.spawn(
            scheduler_main, settings, workers, forking=partial(worker_main, settings)
        ),
        "worker": lambda server: server.spawn(
            consumer_main, settings, workers, queues, forking=partial(worker_main, settings)
        ),
        "parser": lambda server: server.spawn(parser_main, settings),
        "attendant": lambda server: server.spawn(attendant_main, settings),
        "streams": lambda server: server.spawn(streams_main, settings),
        METRICS: lambda server: server.spawn(metrics_main, settings),
    }
    for name, main in (others or {}).items():
        mains[name] = partial(_spawn, main=main, settings=settings)
    chosen = {part: mains[part] for part in (*parts, *(others or ()))}
    # By itself it waits for streams; beside others it is there only while there are any.
    note = note_of(settings) if len(chosen) > 1 and "streams" in chosen else None
    with ForkServer() as server:
        _look_after(server, chosen, told, {} if note is None else {"streams": note.exists})
    told("stopped")
    return 0


def _spawn(server: ForkServer, *, main: Callable[[Settings], int], settings: Settings) -> int:
    return server.spawn(main, settings)


def _look_after(
    server: ForkServer,
    mains: Mapping[str, Callable[[ForkServer], int]],
    told: Callable[[str], None],
    only_if: Mapping[str, Callable[[], bool]],
) -> None:
    """Start the children, and start again those that end, until this process is asked to end.

    Args:
        server: forks them.
        mains: starts each.
        told: is told of ends.
        only_if: what must hold for a child to be started; it ends by itself when it has nothing to do.
    """
    names: dict[int, str] = {}
    began: dict[str, float] = {}
    falls: dict[str, int] = dict.fromkeys(mains, 0)
    due: dict[str, float] = dict.fromkeys(mains, 0.0)
    while not server.stopping:
        now = time.monotonic()
        for name in [name for name, at in due.items() if at <= now]:
            if name in only_if and not only_if[name]():
                due[name] = now + _LOOK
                continue
            del due[name]
            names[mains[name](server)] = name
            began[name] = now
        timeout = min(due.values()) - now if due else None
        for ended in server.wait(timeout):
            name = names.pop(ended.pid)
            if ended.status == CHANGED:
                due[name] = now
                told(f"the {name} begin anew: they have changed")
                continue
            falls[name] = 0 if time.monotonic() - began[name] > _WELL_AFTER else falls[name] + 1
            pause = _AGAIN_AFTER[min(falls[name], len(_AGAIN_AFTER) - 1)]
            due[name] = time.monotonic() + pause
            if not server.stopping:
                told(f"the {name} ended ({_how(ended.status)}); it is started again in {pause:g} s")


def _how(status: int) -> str:
    return f"exit code {status}" if status >= 0 else signal.Signals(-status).name


def _preload() -> None:
    """What children share. Nothing of it executes Polars, DuckDB or Arrow."""
    import tidemill.adapters.processes.executor
    import tidemill.adapters.sql.runstore
    import tidemill.flow.serving
    import tidemill.flow.shared
    import tidemill.wiring.attending
    import tidemill.wiring.performing
    import tidemill.wiring.project  # noqa: F401


def worker_main(settings: Settings, channel: socket.socket) -> int:
    """A worker's process; returns its exit code."""
    from tidemill.adapters.processes.worker import work
    from tidemill.flow.perform import stop_current
    from tidemill.flow.tasklog import Spool
    from tidemill.wiring.performing import Performer

    spool = Spool.redirect()
    return work(Performer(settings, spool=spool), channel, spool.readers, stop_current)


def consumer_main(forker: Forker, settings: Settings, workers: int | None, queues: Sequence[str]) -> int:
    """The process that takes jobs from the broker for the workers of this machine; returns its exit code."""
    from tidemill.adapters.celery.worker import Consumer
    from tidemill.wiring.services import system_clock

    log_to_stderr("worker")
    slots = workers or settings.workers or max(4, os.cpu_count() or 1)
    executor = _local(forker, settings, slots, backlog=0)
    consumer = Consumer(_broker(settings), settings.name, executor, system_clock(), queues=queues, slots=slots)
    return consumer.run()


def _broker(settings: Settings) -> str:
    if not settings.broker:
        raise SettingsError(
            "There is no broker.", where=str(settings.root / FILE), hint='[scheduler] broker = "amqp://guest@host//"'
        )
    return settings.broker


def _local(forker: Forker, settings: Settings, workers: int | None, backlog: int | None = None) -> LocalExecutor:
    from tidemill.adapters.processes.executor import LocalExecutor
    from tidemill.flow.tasklog import write_last_words
    from tidemill.wiring.performing import open_logs, place_of
    from tidemill.wiring.secrets import masker_of
    from tidemill.wiring.services import system_clock

    logs = open_logs(settings)

    def last_words(job: Job, why: str, rests: Sequence[bytes]) -> None:
        masker = masker_of(settings, everything=True)
        write_last_words(logs.open(place_of(job)), masker, why, rests)

    return LocalExecutor(forker, system_clock(), workers=workers, backlog=backlog, on_lost=last_words)


def _executor(forker: Forker, settings: Settings, workers: int | None) -> LocalExecutor | CeleryExecutor:
    """The executor that the settings name."""
    if settings.broker:
        from tidemill.adapters.celery.executor import CeleryExecutor
        from tidemill.wiring.services import system_clock

        forker.close()
        return CeleryExecutor(settings.broker, settings.name, system_clock())
    return _local(forker, settings, workers or settings.workers)


def scheduler_main(forker: Forker, settings: Settings, workers: int | None) -> int:
    """The scheduler's process; returns its exit code."""
    from tidemill.adapters.processes.forker import ServerGone
    from tidemill.adapters.sql.runstore import SqlRunStore
    from tidemill.adapters.sql.store import SqlMetadata
    from tidemill.flow.planner import Planner
    from tidemill.flow.scheduler import Scheduler
    from tidemill.flow.serving import serve
    from tidemill.wiring.services import holder, open_metadata, system_clock

    log_to_stderr("scheduler")
    clock = system_clock()
    metadata = open_metadata(settings, clock)
    assert isinstance(metadata, SqlMetadata)
    store = SqlRunStore(metadata, clock)
    if settings.pools:
        with metadata.write() as tx:
            tx.runs.pools(settings.pools)
    executor = _executor(forker, settings, workers)
    scheduler = Scheduler(store, executor, clock, store.definition, holder())
    planner = Planner(metadata, clock, partial(files_of, settings.root))
    with asked_to_stop() as (stopping, handle):
        try:
            serve(scheduler, planner, executor, open_bell(settings), stopping, handles=(handle,))
        except ServerGone:
            return 1
        finally:
            executor.close()
            metadata.close()
    return 0


def parser_main(settings: Settings) -> int:
    """The parser's process; returns its exit code."""
    from tidemill.wiring.parsing import parse_forever

    log_to_stderr("parser")
    with asked_to_stop() as (stopping, handle):
        return parse_forever(settings, stopping, handle)


def attendant_main(settings: Settings) -> int:
    """The attendant's process; returns its exit code."""
    from tidemill.wiring.attending import attend_forever

    log_to_stderr("attendant")
    with asked_to_stop() as (stopping, handle):
        return attend_forever(settings, open_bell(settings), stopping, handle)


def streams_main(settings: Settings) -> int:
    """The process of the streams; returns its exit code."""
    log_to_stderr("streams")
    with asked_to_stop() as (stopping, _):
        return serve_streams(settings, stopping)


def metrics_main(settings: Settings) -> int:
    """The process that serves metrics; returns its exit code."""
    from tidemill.wiring.metrics import serve_metrics

    log_to_stderr(METRICS)
    with asked_to_stop() as (stopping, handle):
        try:
            return serve_metrics(settings, stopping, handle)
        except TidemillError as error:  # an address that is taken may be free the next time
            _log.error("%s", error)
            return error.exit_code


def files_of(root: Path, pattern: str) -> dict[str, str]:
    """The project's files that match a pattern, each with a stamp by which a change shows; none outside of it."""
    found = {}
    for path in root.glob(pattern):
        inside = path.resolve().is_relative_to(root.resolve())
        if inside and path.is_file():
            stat = path.stat()
            found[str(path.relative_to(root))] = f"{stat.st_size}-{stat.st_mtime_ns}"
    return found


@contextmanager
def asked_to_stop() -> Iterator[tuple[Callable[[], bool], int]]:
    """Whether SIGTERM or SIGINT came, and a file descriptor that is readable then."""
    asked: list[int] = []
    mine, waker = os.pipe()
    os.set_blocking(waker, False)

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        os.write(waker, b"!")

    before: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked), mine
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(mine)
        os.close(waker)


def log_to_stderr(part: str) -> None:
    """Let this process log for people, without the secrets that it was given."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Hiding(f"%(asctime)s {part} %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Hiding(logging.Formatter):
    """Writes lines without the secrets that this process was given."""

    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record))
