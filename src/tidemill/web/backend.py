"""What handlers work with: a project's database, lake, streams and logs, opened when they are first needed.

Reads of the database go on side by side, in threads. The lake and the streams have a lock each: their engines belong
to one thread at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import Unreachable
from tidemill.wiring.lag_history import LagHistory
from tidemill.wiring.metrics import InstallationMetrics
from tidemill.wiring.performing import open_logs
from tidemill.wiring.services import limited_engine, open_metadata, system_clock
from tidemill.wiring.serving import ring

if TYPE_CHECKING:
    from tidemill.flow.archive import Archive
    from tidemill.flow.services import Services
    from tidemill.ports.engine import SqlEngine
    from tidemill.ports.metadata import Tx
    from tidemill.ports.tasklogs import TaskLogs
    from tidemill.web.asking import Asking
    from tidemill.wiring.settings import Settings
    from tidemill.wiring.stream_care import StreamCare

_log = logging.getLogger("tidemill")

#: Seconds that a request waits for the lake or the streams, which another one holds.
_PATIENCE = 30.0


class Backend:
    """A project as the API sees it. Close it at the end.

    Args:
        settings: the project.

    Raises:
        SettingsError, Unreachable: its database cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = system_clock()
        self.metadata: Any = open_metadata(settings, self.clock)
        self._lake_lock = threading.Lock()
        self._streams_lock = threading.Lock()
        self._metrics_lock = threading.Lock()
        self._care: tuple[object, StreamCare] | None = None
        self._lake: Services | None = None
        #: How far behind streams were in the last hour; whoever serves lets it begin.
        self.lag_history = LagHistory(settings, self.metadata, self.clock)

    @cached_property
    def logs(self) -> TaskLogs:
        """What tasks have said."""
        return open_logs(self.settings)

    @cached_property
    def archive(self) -> Archive:
        """Raw input, as it came; decrypted where it is encrypted."""
        from tidemill.wiring.storage import open_archive

        return open_archive(self.settings)

    @cached_property
    def asking(self) -> Asking:
        """Queries of people."""
        from tidemill.web.asking import Asking

        return Asking(self.settings.console)

    @cached_property
    def bounded_sql(self) -> SqlEngine:
        """For what pages look at: a query takes no more than `[console]` says. Several threads may use it."""
        return limited_engine(self.settings)

    @contextmanager
    def lake(self) -> Iterator[Services]:
        """Tables and engines, for this thread alone. Raises Unreachable."""
        with _held(self._lake_lock, "the lake"):
            if self._lake is None:
                from tidemill.wiring.loading import own_process
                from tidemill.wiring.services import connect

                own_process()
                self._lake = connect(self.settings)
            yield self._lake

    @contextmanager
    def streams(self) -> Iterator[StreamCare]:
        """The project's streams as their files are now, for this thread alone. Raises Unreachable."""
        with _held(self._streams_lock, "the streams"):
            with self.metadata.read() as tx:
                code = _code_of(tx)
            if self._care is None or self._care[0] != code:
                if self._care is not None:
                    self._care[1].close()
                    self._care = None
                from tidemill.wiring.loading import own_process
                from tidemill.wiring.stream_care import StreamCare

                own_process()
                self._care = (code, StreamCare(self.settings, self.metadata))
            yield self._care[1]

    def metrics(self) -> str:
        """The installation's metrics, as Prometheus reads them."""
        with self._metrics_lock:
            return self._metrics.text()

    @cached_property
    def _metrics(self) -> InstallationMetrics:
        return InstallationMetrics(self.settings, self.metadata, self.clock)

    def ring(self) -> None:
        """Wake the schedulers: there is something to do."""
        ring(self.settings)

    def close(self) -> None:
        """Let go of everything."""
        self.lag_history.close()
        if self._care is not None:
            self._care[1].close()
        if "_metrics" in self.__dict__:
            self._metrics.close()
        if self._lake is not None:
            self._lake.metadata.close()
        self.metadata.close()


def _code_of(tx: Tx) -> object:
    """Changes when a file of a pipeline that declares streams may have."""
    return frozenset((record.name, record.code) for record in tx.definitions.pipelines())


@contextmanager
def _held(lock: threading.Lock, what: str) -> Iterator[None]:
    if not lock.acquire(timeout=_PATIENCE):
        raise Unreachable(f"Other requests have held {what} for {_PATIENCE:g} s.", hint="ask again")
    try:
        yield
    finally:
        lock.release()
