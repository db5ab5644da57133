"""Compaction: many small data files become few, and snapshots that are too old to be read are forgotten (rule 8).

    main's pointer -> the same rows in larger files -> swap, if nobody has moved the pointer meanwhile

Each table goes by itself: no row changes, so nothing has to be seen together. A run that forked before rebases its
rows onto the outcome (rule 4). What was replaced stays until the collector takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.errors import Conflict
from tidemill.model.table import TableName

#: What a joined file aims at: large enough for scans, small enough to be read by several workers.
TARGET_BYTES = 128 << 20
#: How long one table may take. Until then the collector leaves alone what was written within this time.
LIMIT = timedelta(hours=1)
#: How often a table that others publish is tried again.
_TRIES = 5
#: Marks the leases of compactions.
_HOLDER = "compaction of "


@dataclass(frozen=True, slots=True)
class Compacted:
    """A table that was compacted: its data files before and after."""

    table: TableName
    before: int
    after: int


def compact_tables(services: Services, *, keep: timedelta, target_bytes: int = TARGET_BYTES) -> list[Compacted]:
    """Compact every table on `main`; those with nothing to join are left as they are.

    Args:
        services: the project.
        keep: snapshots of this age and younger stay readable by their ids.
        target_bytes: the size that joined files aim at.

    Raises:
        Conflict: others published a table again and again while it was being compacted.
    """
    with services.metadata.read() as tx:
        names = sorted(tx.refs.pointers(MAIN))
    found = (_compact(services, name, keep, target_bytes) for name in names)
    return [done for done in found if done is not None]


def _compact(services: Services, name: TableName, keep: timedelta, target_bytes: int) -> Compacted | None:
    for _ in range(_TRIES):
        now = services.clock.now()
        with services.metadata.write() as tx:
            before = tx.refs.pointers(MAIN).get(name)
            if before is None:
                return None
            lease = tx.leases.acquire(_HOLDER + services.holder, [(name, before)], now + LIMIT)
        try:
            after = services.catalog.compact(name, before, target_bytes)
            after = services.catalog.expire(name, after, older_than=now - keep, keep=1)
            if after == before or _swap(services, name, before, after):
                files = (len(services.catalog.scan(name, pointer).files) for pointer in (before, after))
                return None if after == before else Compacted(name, *files)
        finally:
            with services.metadata.write() as tx:
                tx.leases.release(lease)
    raise Conflict(f"{name} was published {_TRIES} times while it was being compacted.", hint="do it when less runs")


def _swap(services: Services, name: TableName, before: str, after: str) -> bool:
    """Move the pointer; False where somebody else has."""
    with services.metadata.write() as tx:
        tx.refs.lock(MAIN)
        if tx.refs.pointers(MAIN).get(name) != before:
            return False
        tx.refs.swap(MAIN, name, before, after)
        tx.refs.log(MAIN, "compact", now=services.clock.now(), changes={name: (before, after)})
    return True


def is_compacting(holder: str) -> bool:
    """Whether a lease's holder is a compaction, whose new files nothing refers to yet."""
    return holder.startswith(_HOLDER)
