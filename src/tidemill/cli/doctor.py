"""`tidemill doctor`: what the project stands on, looked at one by one; each finding says what to try."""

from __future__ import annotations

import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata as packages
from typing import TYPE_CHECKING

import click

from tidemill.cli.command import Command
from tidemill.cli.failure import explain
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, size
from tidemill.model.errors import TidemillError
from tidemill.model.run import RunState
from tidemill.version import __version__

if TYPE_CHECKING:
    from tidemill.ports.metadata import Metadata
    from tidemill.wiring.settings import Settings

OK, WARNING, ERROR = "ok", "warning", "error"
_STYLES = {OK: "good", WARNING: "warn", ERROR: "bad"}
#: Below this a run of some size may fail, and below that almost any.
_LITTLE_SPACE, _NO_SPACE = 2 << 30, 100 << 20
_LIBRARIES = ("duckdb", "polars", "pyarrow", "pyiceberg", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `code` is the exit code that an error asks for."""

    state: str
    subject: str
    detail: str
    hint: str | None = None
    code: int = 1


@click.command(cls=Command)
@click.option("--migrate", is_flag=True, help="Bring the metadata database's schema up to date first.")
@pass_invocation
def doctor(invocation: Invocation, migrate: bool) -> int:
    """Look for what is wrong with the project's surroundings.

    Versions, settings and where they come from, the metadata database, archive and lake, work left by dead processes,
    disk space. Each line is ok, a warning or an error, with what to try.
    """
    findings = list(_findings(invocation, migrate))
    if invocation.json:
        invocation.out.object({"findings": [{f: getattr(x, f) for f in ("state", "subject", "detail", "hint")}
                                            for x in findings]})  # fmt: skip
    else:
        _print(invocation, findings)
    errors = [f.code for f in findings if f.state == ERROR]
    return max(errors, default=0)


def _print(invocation: Invocation, findings: list[Finding]) -> None:
    out = invocation.out
    widest = max(len(f.subject) for f in findings)
    for finding in findings:
        state = out.styled(f"{finding.state:<7}", _STYLES[finding.state])
        out.line(f"{state}  {finding.subject:<{widest}}  {finding.detail}")
        if finding.hint:
            out.line(f"{'':7}  {'':{widest}}  try: {finding.hint}")


def _findings(invocation: Invocation, migrate: bool) -> Iterator[Finding]:
    yield from _versions()
    try:
        settings = invocation.known_settings()
    except TidemillError as error:
        yield _failed("settings", error, invocation)
        return
    yield from _settings(settings)
    store = None if _is_new(settings) and not migrate else _open(settings, migrate)
    if store is None:
        yield Finding(OK, "metadata", "not there yet: the first command that needs it makes it")
    elif isinstance(store, TidemillError):
        yield _failed("metadata", store, invocation)
    else:
        try:
            yield from _metadata(store, settings, migrate)
        except TidemillError as error:
            yield _failed("metadata", error, invocation)
        finally:
            store.close()
    for subject, url in (("archive", settings.archive_url), ("lake", settings.lake_url)):
        yield _guarded(subject, lambda url=url, subject=subject: _files(settings, subject, url), invocation)  # type: ignore[misc]
    yield _space(settings)


def _guarded(subject: str, look: Callable[[], Finding], invocation: Invocation) -> Finding:
    try:
        return look()
    except (TidemillError, OSError) as error:
        return _failed(subject, error, invocation)


def _failed(subject: str, error: Exception, invocation: Invocation) -> Finding:
    failure = explain(error, invocation)
    where = f" ({failure.where})" if failure.where else ""
    return Finding(ERROR, subject, failure.what + where, failure.hint, failure.exit_code)


def _versions() -> Iterator[Finding]:
    yield Finding(OK, "tidemill", f"{__version__}, Python {platform.python_version()} on {platform.system()}")
    found, missing = [], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {packages.version(name)}")
        except packages.PackageNotFoundError:
            missing.append(name)
    yield Finding(OK, "libraries", ", ".join(found))
    if missing:
        yield Finding(
            ERROR, "libraries", f"not installed: {', '.join(missing)}", f"{sys.executable} -m pip install tidemill"
        )


def _settings(settings: Settings) -> Iterator[Finding]:
    from tidemill.wiring.settings import origins

    values = {
        "project.name": settings.name,
        "project.pipelines": ", ".join(settings.pipelines),
        "metadata.url": _without_password(settings.metadata_url),
        "archive.url": settings.archive_url,
        "lake.url": settings.lake_url,
    }
    source = origins(settings)
    yield Finding(OK, "project", str(settings.root))
    for name, value in values.items():
        yield Finding(OK, name, f"{value}  ({source[name]})")
    files = [f for pattern in settings.pipelines for f in settings.root.glob(pattern)]
    if not files:
        yield Finding(WARNING, "pipelines", f"no file matches {', '.join(settings.pipelines)}",
                      "tidemill init writes an example")  # fmt: skip


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        password = urlsplit(url).password
    except ValueError:
        return "(not shown: it cannot be read as a URL)"
    return url.replace(f":{password}@", ":***@") if password else url


def _is_new(settings: Settings) -> bool:
    """True where the metadata is a SQLite file that nobody has made yet."""
    file = settings.metadata_url.removeprefix("sqlite:///")
    return file != settings.metadata_url and not (settings.root / file).exists()


def _open(settings: Settings, migrate: bool) -> Metadata | TidemillError:
    from tidemill.wiring.services import open_metadata, system_clock

    try:
        return open_metadata(settings, system_clock(), migrate=migrate)
    except TidemillError as error:
        return error


def _metadata(store: Metadata, settings: Settings, migrate: bool) -> Iterator[Finding]:
    """The store answers and has the schema of this code; no work was left by a process that is gone."""
    from tidemill.wiring.services import alive, system_clock

    now = system_clock().now()
    with store.read() as tx:
        newest = tx.batches.recent(limit=1)
        running = [r for state in (RunState.RUNNING, RunState.PUBLISHING) for r in tx.runs.recent(state=state)]
        leases = tx.leases.live(now)
    done = ", migrated" if migrate else ""
    yield Finding(OK, "metadata", f"answers, schema is current{done}; newest batch {newest[0].id if newest else '-'}")
    left = [r for r in running if (r.holder and not alive(r.holder)) or _over(r.lease_until, now)]
    for run in left:
        yield Finding(
            WARNING, "runs", f"batch {run.batch_id} was left by a process that is gone (run {run.id}, {run.holder})",
            f"tidemill replay {run.batch_id}",
        )  # fmt: skip
    dead_runs = {f"run {r.id}" for r in left}
    orphans = [x for x in leases if x.holder in dead_runs or not alive(x.holder.removeprefix("reader "))]
    if orphans:
        last = max(x.until for x in orphans)
        detail = f"{count(len(orphans), 'leases')} of processes that are gone keep files until {last:%H:%M} UTC"
        yield Finding(WARNING, "leases", detail, "nothing to do: they end by themselves")
    else:
        yield Finding(OK, "leases", f"{count(len(leases), 'leases')}, none orphaned")


def _over(until: datetime | None, now: datetime) -> bool:
    return until is None or until < now


def _files(settings: Settings, subject: str, url: str) -> Finding:
    """A file can be written, read and removed."""
    from tidemill.wiring.storage import open_files

    files = open_files(settings, url)
    path = f"doctor-{uuid.uuid4().hex}"
    try:
        with files.create(path) as stream:
            stream.write(b"tidemill")
        with files.open(path) as back:
            whole = back.read() == b"tidemill"
    finally:
        files.delete(path)
    if not whole:
        return Finding(ERROR, subject, f"{url} gives back other bytes than were written")
    return Finding(OK, subject, f"{url} is writable")


def _space(settings: Settings) -> Finding:
    usage = shutil.disk_usage(settings.root)
    detail = f"{size(usage.free)} of {size(usage.total)} free"
    if usage.free < _NO_SPACE:
        return Finding(ERROR, "disk", detail, "tidemill data vacuum, or a larger disk")
    if usage.free < _LITTLE_SPACE:
        return Finding(WARNING, "disk", detail, "tidemill data vacuum --keep 1d")
    return Finding(OK, "disk", detail)
