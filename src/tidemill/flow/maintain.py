"""Maintenance: the collector of what nothing needs any more (rule 8).

    roots: pointers and bases of every ref that can still be read, main's log within `keep`, live leases
    mark:  every file that those versions need
    sweep: files that are unmarked and old are doomed; those doomed a grace ago, and still unmarked, are deleted

Nothing is deleted at its first sight, and nothing that is younger than the oldest live attempt: what an attempt has
staged is referred to by nobody yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.flow.compact import LIMIT, is_compacting
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.run import RUN_ENDS, Run, RunState
from tidemill.model.table import TableName
from tidemill.ports.files import FileInfo
from tidemill.ports.metadata import Tx

#: How long a file stays after it was first found to be garbage.
GRACE = timedelta(hours=24)
#: How far back `--at <time>` reaches: pointers that `main` had within this time keep their files.
KEEP = timedelta(days=7)

#: Whether the process of a holder can still be running.
Alive = Callable[[str], bool]
Root = tuple[TableName, str]


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum did: counts of files, and bytes freed."""

    live: int
    doomed: int
    deleted: int
    bytes: int
    expired: tuple[str, ...]


def vacuum(services: Services, *, grace: timedelta = GRACE, keep: timedelta = KEEP) -> Vacuumed:
    """Expire old branches, mark what is needed, and delete what was garbage a grace ago and still is.

    Args:
        services: the project.
        grace: how long garbage stays; zero deletes at once what no live attempt can have staged.
        keep: how long superseded versions of `main` can be read with `--at`.
    """
    now = services.clock.now()
    with services.metadata.write() as tx:
        expired = _expire_branches(tx, now, services.alive)
        roots, past = _roots(tx, now, keep, services.alive)
        compacting = [now - LIMIT for lease in tx.leases.live(now) if is_compacting(lease.holder)]
        youngest = min([now - grace, *compacting, *_live_attempts(tx, now, services.alive)])
    marked = services.catalog.reachable(roots | _still_there(services, past))
    unmarked = [info for info in services.lake.list() if info.path not in marked and info.modified_at <= youngest]
    with services.metadata.write() as tx:
        tx.leases.doom([info.path for info in unmarked], now)
        candidates = set(tx.leases.doomed(now - grace if grace else now + timedelta(microseconds=1)))
    deleted, freed = 0, 0
    # The second check: roots taken anew, after the files were doomed.
    with services.metadata.read() as tx:
        again = _roots(tx, now, keep, services.alive)
    if again != (roots, past):
        marked = services.catalog.reachable(again[0] | _still_there(services, again[1]))
    sizes = {info.path: info.bytes for info in unmarked}
    gone = sorted(candidates & sizes.keys() - marked)
    for path in gone:
        services.lake.delete(path)
        deleted, freed = deleted + 1, freed + sizes[path]
    with services.metadata.write() as tx:
        tx.leases.pardon([*gone, *(candidates - sizes.keys()), *(candidates & marked)])
    abandoned = _abandoned_parts(services, youngest)
    for info in abandoned:
        services.archive.files.delete(info.path)
    services.lake.sweep(youngest)
    services.archive.files.sweep(youngest)
    freed += sum(info.bytes for info in abandoned)
    return Vacuumed(len(marked), len(unmarked) - deleted, deleted + len(abandoned), freed, tuple(expired))


def _abandoned_parts(services: Services, older_than: datetime) -> list[FileInfo]:
    """Archived parts of attempts that died before they sealed a manifest: nothing will ever read them.

    Sealed parts stay for ever. The manifests themselves are asked, and not only the index: it lags after a crash.
    """
    with services.metadata.read() as tx:
        sealed = {part.path for manifest in tx.archive.recent() for part in manifest.parts}
    unknown = [
        info
        for info in services.archive.files.list()
        if info.path not in sealed and info.modified_at <= older_than and services.archive.is_part(info.path)
    ]
    folders = {info.path.rpartition("/")[0] for info in unknown}
    sealed |= {path for folder in folders for path in services.archive.sealed_paths(folder)}
    return [info for info in unknown if info.path not in sealed]


def _expire_branches(tx: Tx, now: datetime, alive: Alive) -> list[str]:
    """Failed and abandoned run branches go after their time; those of live runs do not."""
    gone = []
    for ref in tx.refs.all(kinds=[RefKind.RUN], states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED]):
        run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
        live = run is not None and _is_live(run, now, alive)
        if ref.expires_at is not None and ref.expires_at <= now and not live:
            tx.refs.remove_pointers(ref.name)
            tx.refs.update(ref.name, state=RefState.DROPPED)
            gone.append(ref.name)
    return gone


def _is_live(run: Run, now: datetime, alive: Alive) -> bool:
    """Whether an attempt can still be at work: not ended, its lease not over, its process not known to be gone."""
    leased = run.lease_until is not None and run.lease_until > now
    return run.state not in RUN_ENDS and leased and (run.holder is None or alive(run.holder))


def _roots(tx: Tx, now: datetime, keep: timedelta, alive: Alive) -> tuple[set[Root], set[Root]]:
    """Every (table, pointer) that somebody can still read: those of refs and leases, and those of `main`'s past."""
    roots: set[Root] = set()
    past: set[Root] = set()
    for ref in tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED]):
        roots |= set(tx.refs.pointers(ref.name).items()) | set(tx.refs.bases(ref.name).items())
    for commit in tx.refs.commits(MAIN):
        for name, (before, after) in commit.changes.items():
            # A pointer that was current at some moment within `keep` was superseded after it began.
            if commit.at >= now - keep:
                past |= {(name, pointer) for pointer in (before, after) if pointer}
        if commit.at < now - keep:
            break
    for lease in tx.leases.live(now):
        if alive(lease.holder):
            roots |= set(lease.pointers)
    return roots, past - roots


def _still_there(services: Services, past: set[Root]) -> set[Root]:
    """Versions of the past that an earlier vacuum, with a shorter `keep`, has not deleted yet."""
    lake = services.lake
    return {(name, pointer) for name, pointer in past if lake.info(lake.relative(pointer)) is not None}


def _live_attempts(tx: Tx, now: datetime, alive: Alive) -> Iterable[datetime]:
    """When each attempt began that may still have staged files."""
    for state in (RunState.RUNNING, RunState.PUBLISHING):
        for run in tx.runs.recent(state=state):
            if _is_live(run, now, alive):
                yield run.started_at or run.created_at
