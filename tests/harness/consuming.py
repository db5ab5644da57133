"""Consumers of a broker for tests: a fork server with a Celery worker, as another machine would have it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.executing import PATIENCE, perform
from harness.forking import started
from tidemill.adapters.processes.executor import LocalExecutor
from tidemill.adapters.processes.forker import Forker
from tidemill.adapters.processes.forkserver import ForkServer
from tidemill.adapters.processes.worker import work
from tidemill.adapters.system.clock import SystemClock

#: Signs of life come so often in tests, and a consumer without one for so long is gone (seconds).
ALIVE_EVERY, SILENT = 0.3, 3.0


def _consume(forker: Forker, url: str, options: dict[str, Any]) -> int:
    from tidemill.adapters.celery.worker import Consumer

    values = {"workers": 2, "grace": 5.0, "queues": ("default", "a"), "project": "tests", **options}
    clock = SystemClock()
    workers = values["workers"]
    settings = {"most_jobs": values["most_jobs"]} if "most_jobs" in values else {}
    executor = LocalExecutor(
        forker, clock, workers=workers, backlog=0, grace=timedelta(seconds=values["grace"]), **settings
    )
    consumer = Consumer(
        url,
        values["project"],
        executor,
        clock,
        queues=values["queues"],
        slots=workers,
        alive_every=ALIVE_EVERY,
        answer_wait=1.0,
    )
    return consumer.run()


def _serve(url: str, note: Path, options: dict[str, Any]) -> None:
    with ForkServer() as server:
        pid = server.spawn(_consume, url, options, forking=partial(work, perform))
        note.with_suffix(".part").write_text(f"{os.getpid()} {pid}")
        note.with_suffix(".part").rename(note)
        while not server.stopping and not server.wait():
            pass
    sys.exit(0)


@contextlib.contextmanager
def consuming(url: str, note: Path, **options: Any) -> Iterator[BaseProcess]:
    """A consumer of this broker; its process ids, root's first, are written to `note`."""
    server = started(_serve, url, note, options)
    try:
        yield server
    finally:
        server.terminate()
        server.join(PATIENCE)
