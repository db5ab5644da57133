"""What a destination lacks of a table: from the version that it mirrors to that of `main`.

    position of the destination -> versions held --+
                                                   +-> for each table: nothing, batches, keys, or all of it
    versions of `main`, files of both -------------+

All of it is told by data files: a file that both versions have holds the same rows in both.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from tidemill.model.branch import ChangeKind
from tidemill.model.delivery import DeliveredTable
from tidemill.model.table import DataFile, Schema, TableName, WriteMode
from tidemill.model.types import UNKNOWN
from tidemill.plan.sql import quote, quote_all

#: Relations of the queries: the rows of files that are gone, and of those that are new.
OLD, NEW = "old", "new"
#: Column of history tables that tells versions of one key apart.
_VALID_FROM = "valid_from"


@dataclass(frozen=True, slots=True)
class Held:
    """The version of a table that a destination mirrors.

    Args:
        uuid: of the table: one that was dropped and made again is another.
        snapshot: its version; None: it had no rows yet.
        columns: name by field id.
        into: what the table is called there.
        options: how it was asked to be there.
    """

    uuid: str
    snapshot: int | None
    columns: Mapping[int, str]
    into: str
    options: Mapping[str, Any] = field(default_factory=dict)


Position: TypeAlias = "Mapping[TableName, Held]"


def position_text(held: Position) -> str:
    """A position as a destination keeps it: the same for the same versions."""
    found = {
        str(name): [one.uuid, one.snapshot, {str(k): v for k, v in one.columns.items()}, one.into, dict(one.options)]
        for name, one in held.items()
    }
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def read_position(text: str | None) -> dict[TableName, Held]:
    """What `position_text` wrote; nothing where there is none."""
    found = json.loads(text or "{}")
    return {
        TableName.parse(name): Held(uuid, snapshot, {int(k): v for k, v in columns.items()}, into, options)
        for name, (uuid, snapshot, columns, into, options) in found.items()
    }


@dataclass(frozen=True, slots=True)
class Commit:
    """One snapshot of a table: what it did, and to which batches; None: that is not known."""

    kind: ChangeKind | None
    batches: frozenset[int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A table as `main` has it.

    Args:
        uuid, snapshot: of its version.
        columns: all of them, with their field ids.
        write, key: how it is written.
        files: of its version. `before`: of the version that is mirrored; None: that is not known any more.
        since: the snapshots after that one; None: not all of them are known.
    """

    uuid: str
    snapshot: int | None
    columns: Schema
    write: WriteMode
    key: tuple[str, ...]
    files: tuple[DataFile, ...]
    before: tuple[DataFile, ...] | None = None
    since: Sequence[Commit] | None = None

    def held(self, asked: DeliveredTable) -> Held:
        """The version, once it is mirrored."""
        ids = {c.field_id: c.name for c in self.columns if c.field_id is not None}
        return Held(self.uuid, self.snapshot, ids, asked.into, asked.options)

    @property
    def row_key(self) -> tuple[str, ...]:
        """The columns that tell its rows apart; none where it has no key, or one that is not among its columns."""
        key = self.key
        if self.write is WriteMode.HISTORY and _VALID_FROM in self.columns:
            key = (*key, _VALID_FROM)
        return key if key and all(name in self.columns for name in key) else ()


class What(Enum):
    """What is to be done to a table of the destination."""

    #: Its rows are right; the position moves.
    NOTHING = auto()
    #: Batches are removed, and others inserted.
    BATCHES = auto()
    #: Rows of changed keys are replaced, rows of keys that are gone are removed.
    KEYS = auto()
    #: All rows are replaced.
    FRESH = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """What one table needs.

    Args:
        what: see there.
        reason: why all rows are sent again; for people.
        remove: batches whose rows go.
        files: of which rows come.
        old: files whose rows were there and may be gone; of KEYS.
        first: the destination has never had the table: it must not hold rows of others.
    """

    what: What
    reason: str = ""
    remove: tuple[int, ...] = ()
    files: tuple[DataFile, ...] = ()
    old: tuple[DataFile, ...] = ()
    first: bool = False


def delivered_columns(columns: Schema) -> Schema:
    """The columns that go out: all that have a type. One that has held only nulls gets there when it has one."""
    return Schema(tuple(column for column in columns if column.type != UNKNOWN))


def next_step(asked: DeliveredTable, held: Held | None, seen: Seen) -> Step | None:
    """What a table needs; None: it is mirrored as it is.

    Args:
        asked: how it is to be there.
        held: what the destination mirrors of it; None: nothing.
        seen: the table.
    """
    if held is None or held.into != asked.into:
        return Step(What.FRESH, "it is new there", files=seen.files, first=True)
    if held == seen.held(asked):
        return None
    reason = _incomparable(asked, held, seen)
    if reason:
        return Step(What.FRESH, reason, files=seen.files)
    assert seen.before is not None
    paths, earlier = {f.path for f in seen.files}, {f.path for f in seen.before}
    added = tuple(f for f in seen.files if f.path not in earlier)
    removed = tuple(f for f in seen.before if f.path not in paths)
    real = None if seen.since is None else [c for c in seen.since if c.kind is not ChangeKind.COMPACT]
    if not (added or removed) or real == []:
        return Step(What.NOTHING)
    if seen.write is WriteMode.APPEND:
        return _batches(seen, added, removed, real)
    if seen.row_key and (seen.write is not WriteMode.REPLACE or len(added) == len(seen.files)):
        return Step(What.KEYS, files=added, old=removed)
    return Step(What.FRESH, "its rows have no key", files=seen.files)


def _incomparable(asked: DeliveredTable, held: Held, seen: Seen) -> str:
    """Why what is there cannot be changed into what shall be; "" where it can."""
    if held.uuid != seen.uuid:
        return "it was dropped and made again"
    if dict(held.options) != dict(asked.options):
        return "it is to be there in another way"
    names = {c.field_id: c.name for c in seen.columns}
    if any(names.get(id_) != name for id_, name in held.columns.items()):
        return "columns were dropped or renamed"
    return "the version that is there is not known any more" if seen.before is None else ""


def _batches(seen: Seen, added: Sequence[DataFile], removed: Sequence[DataFile], real: Sequence[Commit] | None) -> Step:
    """Of a table that is appended to: files hold rows of one batch, and a batch is replaced as a whole."""
    touched = [f.batch_id for f in (*added, *removed)]
    if None in touched:
        return Step(What.FRESH, "another tool has written files that mix batches", files=seen.files)
    changed = set(touched)
    if real is not None and all(commit.batches and commit.kind is ChangeKind.BATCH for commit in real):
        # What was only compacted holds the same rows. An activated version ends rows of other batches than its own.
        changed &= frozenset[int]().union(*(commit.batches for commit in real))
    assert seen.before is not None
    had = {f.batch_id for f in seen.before}
    remove = tuple(sorted(b for b in changed if b is not None and b in had))
    return Step(What.BATCHES, remove=remove, files=tuple(f for f in seen.files if f.batch_id in changed))


# -- rows of changed keys ----------------------------------------------------------------------------------------


def has_equal_keys(key: Sequence[str]) -> str:
    """Whether, in either relation, two rows have one key, or a row has none."""
    keys, null = quote_all(key), " OR ".join(f"{quote(k)} IS NULL" for k in key)
    some = " UNION ALL ".join(
        f"(SELECT 1 AS x FROM {side} GROUP BY {keys} HAVING count(*) > 1 OR {null} LIMIT 1)" for side in (OLD, NEW)
    )
    return f"SELECT count(*) > 0 AS equal FROM ({some})"


def changed_rows(key: Sequence[str], columns: Sequence[str]) -> str:
    """The rows of NEW that OLD has not, or otherwise."""
    same = " AND ".join(f"o.{quote(k)} IS NOT DISTINCT FROM n.{quote(k)}" for k in columns)
    on = " AND ".join(f"o.{quote(k)} = n.{quote(k)}" for k in key)
    return (
        f"SELECT {quote_all(columns, of='n')} FROM {NEW} AS n"
        f" WHERE NOT EXISTS (SELECT 1 FROM {OLD} AS o WHERE {on} AND {same})"
    )


def gone_keys(key: Sequence[str]) -> str:
    """The keys of OLD that NEW has not."""
    on = " AND ".join(f"o.{quote(k)} = n.{quote(k)}" for k in key)
    return f"SELECT {quote_all(key, of='o')} FROM {OLD} AS o WHERE NOT EXISTS (SELECT 1 FROM {NEW} AS n WHERE {on})"
