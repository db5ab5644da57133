"""Choosing the adapters of a project: the only place that does."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tidemill.model.connector import Connector
from tidemill.model.errors import SettingsError
from tidemill.model.pipeline import FilesOrigin, FunctionOrigin, SourceSpec
from tidemill.wiring.codecs import codec_opener
from tidemill.wiring.loading import loading
from tidemill.wiring.project import code_version
from tidemill.wiring.settings import FILE, STATE_FOLDER, Settings, origins
from tidemill.wiring.storage import Reach, open_archive, open_files

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.ports.auditor import Auditor
    from tidemill.ports.clock import Clock
    from tidemill.ports.engine import SqlEngine
    from tidemill.ports.files import Files
    from tidemill.ports.frame_engine import FrameEngine
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.policies import ColumnPolicies
    from tidemill.ports.records import RecordEncoder
    from tidemill.ports.source import ExtractRequest, Source

T = TypeVar("T")


def connect(
    settings: Settings,
    *,
    wrap_files: Callable[[Files], Files] | None = None,
    wrap_metadata: Callable[[Metadata], Metadata] | None = None,
) -> Services:
    """Open a project: its metadata store (brought up to date), files, and engines.

    Args:
        settings: the project.
        wrap_files: put around the files of lake and archive (fault injection).
        wrap_metadata: put around the metadata store.

    Raises:
        SettingsError: an address that no adapter takes.
        Unreachable: a server does not answer.
    """
    with loading():
        from tidemill.adapters.arrow.decoder import ArrowDecoder
        from tidemill.adapters.iceberg.catalog import IcebergCatalog
        from tidemill.adapters.sql import store as _store  # noqa: F401  # `open_metadata` needs it
        from tidemill.flow.services import Services

    clock = system_clock()
    lake, archive = open_files(settings, settings.lake_url), open_archive(settings, wrap_files)
    reach = Reach.of(lake)
    metadata = open_metadata(settings, clock)
    if wrap_files is not None:
        lake = wrap_files(lake)
    if wrap_metadata is not None:
        metadata = wrap_metadata(metadata)
    return Services(
        project=settings.name,
        metadata=metadata,
        archive=archive,
        lake=lake,
        catalog=IcebergCatalog(lake, clock),
        decoder=ArrowDecoder(open_codec=codec_opener(settings.streams)),
        records=late(_records),
        frames=late(partial(_frames, reach)),
        auditor=late(partial(_auditor, reach)),
        sql=late(partial(_sql, reach)),
        source=source_maker(settings, clock),
        clock=clock,
        holder=holder(),
        alive=alive,
        policies=late(partial(_policies, settings)),
        code_version=code_version(settings),
    )


def late(make: Callable[[], T]) -> T:
    """What `make` gives, made when it is first used: loading Polars and DuckDB takes 0.2 s, and not every run does."""
    return cast("T", _Late(make))


class _Late:
    """Stands for an adapter that does not exist yet."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> object:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def _records() -> RecordEncoder:
    from tidemill.adapters.records.encoder import ArchiveRecordEncoder

    return ArchiveRecordEncoder()


def _frames(reach: Reach) -> FrameEngine:
    from tidemill.adapters.polars.engine import PolarsEngine

    return PolarsEngine(open_file=reach.open_file, storage_options=reach.storage_options)


def _auditor(reach: Reach) -> Auditor:
    from tidemill.adapters.polars.checks import PolarsAuditor

    return PolarsAuditor(reach.scanner())


def _sql(reach: Reach) -> SqlEngine:
    from tidemill.adapters.duckdb.engine import DuckDBEngine

    return DuckDBEngine(open_file=reach.open_file)


def limited_engine(settings: Settings) -> SqlEngine:
    """An SQL engine whose queries take no more than `[console]` says."""
    from tidemill.wiring.console_settings import said_size

    limits = settings.console

    def make() -> SqlEngine:
        from tidemill.adapters.duckdb.engine import DuckDBEngine

        open_file = Reach.of(open_files(settings, settings.lake_url)).open_file
        memory, disk = said_size(limits.memory), said_size(limits.disk)
        return DuckDBEngine(memory_limit=memory, temp_limit=disk, seconds=limits.seconds, open_file=open_file)

    return late(make)


def _policies(settings: Settings) -> ColumnPolicies:
    from tidemill.adapters.crypto.columns import ArrowPolicies
    from tidemill.wiring.secrets import secrets_of

    return ArrowPolicies(secrets_of(settings))


def system_clock() -> Clock:
    """The clock of this computer."""
    from tidemill.adapters.system.clock import SystemClock

    return SystemClock()


def open_metadata(settings: Settings, clock: Clock, *, migrate: bool = True) -> Metadata:
    """Open the metadata store, bringing its schema up to date unless told not to."""
    from tidemill.adapters.sql.store import SqlMetadata

    url = settings.metadata_url
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        file = settings.root / url.removeprefix("sqlite:///")
        file.parent.mkdir(parents=True, exist_ok=True)
        _ignore_state(settings.root)
        url = f"sqlite:///{file}"
    try:
        store = SqlMetadata(url, settings.name, clock)
    except SettingsError as error:
        error.where = error.where or _origin(settings, "metadata.url")
        raise
    if migrate:
        store.migrate()
    return store


def _origin(settings: Settings, setting: str) -> str:
    """Where a setting was made: the environment variable, or the settings file."""
    origin = origins(settings)[setting]
    return str(settings.root / origin) if origin == FILE else origin


def _ignore_state(root: Path) -> None:
    """The state folder keeps itself out of Git."""
    ignore = root / STATE_FOLDER / ".gitignore"
    if ignore.parent.is_dir() and not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def source_maker(settings: Settings, clock: Clock | None = None) -> Callable[[SourceSpec], Source]:
    """What turns a source's spec into the adapter that extracts it; the clock is that of its waiting."""

    def make(spec: SourceSpec) -> Source:
        if isinstance(spec.origin, FunctionOrigin):
            from tidemill.authoring.sources import FunctionSource

            return FunctionSource(spec)
        if isinstance(spec.origin, Connector):
            from tidemill.wiring.connectors import open_connector

            return open_connector(spec, spec.origin, settings, partial(_render, where=spec.place))
        assert isinstance(spec.origin, FilesOrigin)
        from tidemill.wiring.places import open_feed
        from tidemill.wiring.secrets import connections_of

        return open_feed(spec, spec.origin, settings, connections_of(settings), clock or system_clock())

    return make


def _render(pattern: str, request: ExtractRequest, *, where: str) -> str:
    from tidemill.plan.template import render_path

    return render_path(pattern, request.batch, request.parameters, where=where)


def holder() -> str:
    """This process, as `host:pid:start`: the start time tells a reused pid apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid()) or 0}"


def alive(other: str) -> bool:
    """Whether the process of a holder can still be running; True where it cannot be known (another host)."""
    host, pid, started = [*other.rsplit(":", 2), "", ""][:3]
    if host != socket.gethostname() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = _stat(int(pid))
    if stat[:1] in (["Z"], ["X"]):  # dead, and kept by a parent that has not asked how it ended
        return False
    now = _started(int(pid))
    return now is None or not started.isdigit() or int(started) == 0 or now == int(started)


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; None where the system does not tell."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on; nothing where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
