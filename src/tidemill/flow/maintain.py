"""Maintenance: the collector of what nothing needs any more, and the compactor of small files (rule 8).

    roots: pointers and bases of every ref that can still be read, main's log within `keep`, live leases
    mark:  every file that those versions need
    sweep: files that are unmarked and old are doomed; those doomed a grace ago, and still unmarked, are deleted

Nothing is deleted at its first sight, and nothing that is younger than the oldest live attempt: what an attempt has
staged is referred to by nobody yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.flow.services import Services
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.run import RunState
from tidemill.model.table import TableName
from tidemill.ports.metadata import Tx

#: How long a file stays after it was first found to be garbage.
GRACE = timedelta(hours=24)
#: How far back `--at <time>` reaches: pointers that `main` had within this time keep their files.
KEEP = timedelta(days=7)
_BATCH = 1000


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
        expired = _expire_branches(tx, now)
        roots = _roots(tx, now, keep)
        youngest = min([now - grace, *_live_attempts(tx, now)])
    marked = services.catalog.reachable(roots)
    unmarked = [info for info in services.lake.list() if info.path not in marked and info.modified_at <= youngest]
    with services.metadata.write() as tx:
        tx.leases.doom([info.path for info in unmarked], now)
        candidates = set(tx.leases.doomed(now - grace if grace else now + timedelta(microseconds=1)))
    deleted, freed = 0, 0
    # The second check: roots taken anew, after the files were doomed.
    with services.metadata.read() as tx:
        roots_again = _roots(tx, now, keep)
    if roots_again != roots:
        marked = services.catalog.reachable(roots_again)
    sizes = {info.path: info.bytes for info in unmarked}
    gone = sorted(candidates & sizes.keys() - marked)
    for path in gone:
        services.lake.delete(path)
        deleted, freed = deleted + 1, freed + sizes[path]
    with services.metadata.write() as tx:
        tx.leases.pardon([*gone, *(candidates - sizes.keys()), *(candidates & marked)])
    services.lake.sweep(youngest)
    services.archive.files.sweep(youngest)
    return Vacuumed(len(marked), len(unmarked) - deleted, deleted, freed, tuple(expired))


def _expire_branches(tx: Tx, now: datetime) -> list[str]:
    """Failed and abandoned run branches go after their time; those of live runs do not."""
    gone = []
    for ref in tx.refs.all(kinds=[RefKind.RUN], states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED]):
        run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
        live = (
            run is not None and run.state in (RunState.RUNNING, RunState.PUBLISHING) and _leased(run.lease_until, now)
        )
        if ref.expires_at is not None and ref.expires_at <= now and not live:
            tx.refs.remove_pointers(ref.name)
            tx.refs.update(ref.name, state=RefState.DROPPED)
            gone.append(ref.name)
    return gone


def _leased(until: datetime | None, now: datetime) -> bool:
    return until is not None and until > now


def _roots(tx: Tx, now: datetime, keep: timedelta) -> set[tuple[TableName, str]]:
    """Every (table, pointer) that somebody can still read."""
    roots: set[tuple[TableName, str]] = set()
    for ref in tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED]):
        roots |= set(tx.refs.pointers(ref.name).items()) | set(tx.refs.bases(ref.name).items())
    for commit in tx.refs.commits(MAIN):
        for name, (before, after) in commit.changes.items():
            # A pointer that was current at some moment within `keep` was superseded after it began.
            if commit.at >= now - keep:
                roots |= {(name, pointer) for pointer in (before, after) if pointer}
        if commit.at < now - keep:
            break
    for lease in tx.leases.live(now):
        roots |= set(lease.pointers)
    return roots


def _live_attempts(tx: Tx, now: datetime) -> Iterable[datetime]:
    """When each attempt began that may still have staged files."""
    for state in (RunState.RUNNING, RunState.PUBLISHING):
        for run in tx.runs.recent(state=state):
            if _leased(run.lease_until, now):
                yield run.started_at or run.created_at
