"""The parser of a project, put together: what `tidemill up` runs in a process of its own, and commands run once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.adapters.localfs.code import CodeFolder, FolderSource
from tidemill.adapters.localfs.versions import CodeVersions
from tidemill.flow.parse import Parsed, Parser, ParserParts
from tidemill.plan.code import Patterns, folders_of
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.project import ignored_files
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.storage import open_files
from tidemill.wiring.stream_serving import StreamNote

if TYPE_CHECKING:
    from tidemill.ports.codesource import CodeSource
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.reader import Reader
    from tidemill.ports.watch import Watch

Bell = Callable[[Sequence[str]], None]


def parse_forever(settings: Settings, stopping: Callable[[], bool], handle: int, *, changed: Bell | None = None) -> int:
    """Record what the project's pipeline files make, now and whenever they change; returns the exit code.

    Call it in a process that has no threads: it may then fork to read files.

    Args:
        settings: the project.
        stopping: whether to end.
        handle: a file descriptor that becomes readable when `stopping` becomes true.
        changed: is told the names of pipelines that are new, gone or have changed, once that is recorded; None: the
            project's schedulers are woken.
    """
    from tidemill.wiring.serving import open_bell

    watch = open_watch()
    bell = open_bell(settings)
    metadata = open_metadata(settings, system_clock())
    try:
        parts = parser_parts(settings, metadata, changed or (lambda _: bell.ring()), watch)
        with _said_to_run(settings):
            Parser(parts).follow(stopping, handle)
    finally:
        metadata.close()
        bell.close()
        if watch is not None:
            watch.close()
    return 0


def parse_once(settings: Settings, *, changed: Bell | None = None) -> Parsed:
    """Record what the project's pipeline files make now.

    Raises:
        Unreachable: the database, or a Git repository, does not answer.
        SettingsError: a setting is wrong.
    """
    metadata = open_metadata(settings, system_clock())
    try:
        return Parser(parser_parts(settings, metadata, changed or _silent, None)).settle()
    finally:
        metadata.close()


def parser_runs(settings: Settings) -> bool:
    """Whether a parser on this computer follows the project's changes now."""
    try:
        with _lock_of(settings).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _said_to_run(settings: Settings) -> Iterator[None]:
    """Hold the lock by which others know; whoever has it already keeps it, and both follow."""
    path = _lock_of(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _lock_of(settings: Settings) -> Path:
    return settings.root / STATE_FOLDER / "parser.lock"


def code_source(settings: Settings) -> CodeSource:
    """Where the project's pipelines come from."""
    given = settings.code
    if given.source == "git":
        from tidemill.adapters.git.codesource import GitSource

        url = given.url if ":" in given.url else str(settings.root / given.url)
        return GitSource(url, given.ref, given.path, settings.root / STATE_FOLDER / "git", given.every)
    if given.source == "s3":
        from tidemill.adapters.s3.codesource import S3Source

        return S3Source(given.url, given.path, settings.root / STATE_FOLDER / "s3", given.every)
    return FolderSource(settings.root / given.path)


def code_versions(settings: Settings) -> CodeVersions:
    """The kept versions of the project's code."""
    state = settings.root / STATE_FOLDER
    return CodeVersions(open_files(settings, f"{STATE_FOLDER}/code"), state / "checkouts")


def code_settings(settings: Settings, version: str) -> Settings:
    """The settings by which to load pipelines as they were in a version: their root is the folder that it is in."""
    return replace(settings, root=code_versions(settings).materialize(version))


def open_watch() -> Watch | None:
    """What hears of changes on this computer; None where nothing does."""
    from tidemill.adapters.inotify.watch import InotifyWatch

    with suppress(OSError):
        return InotifyWatch()
    return None


def parser_parts(settings: Settings, metadata: Metadata, changed: Bell, watch: Watch | None) -> ParserParts:
    """What a parser of the project is made of."""
    patterns = Patterns(settings.pipelines)
    versions = code_versions(settings)
    return ParserParts(
        metadata=metadata,
        source=code_source(settings),
        folder=partial(CodeFolder, beside=folders_of(settings.pipelines)),
        keep=versions.keep,
        clean=versions.clean,
        reader=partial(_reader, settings, metadata),
        is_pipeline=patterns,
        left_out=partial(ignored_files, settings),
        clock=system_clock(),
        changed=changed,
        recorded=StreamNote(settings, metadata).write,
        watch=watch,
        limit=settings.code.timeout.total_seconds(),
        readers=min(os.cpu_count() or 1, 4),
    )


def _reader(settings: Settings, metadata: Metadata, root: Path) -> Reader:
    """A process that reads files in a folder."""
    from tidemill.adapters.system.reader import ChildReader, may_fork
    from tidemill.wiring.reading_files import command_for, serve

    here, limit = replace(settings, root=root), settings.code.timeout.total_seconds()
    if not may_fork():
        return ChildReader.started(command_for(here, limit, settings.root))
    # A connection must not be open in two processes; it is opened again when it is needed.
    metadata.close()
    return ChildReader.forked(partial(serve, here, limit, reach=reach_of(settings, root)))


def _silent(_names: Sequence[str]) -> None:
    """No bell."""
