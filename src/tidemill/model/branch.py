"""Refs of the lake: branches, tags, what changed on them, and why two changes cannot be joined.

A ref is a set of table pointers. `main` is what readers see; a run's branch is what it writes; a tag never
moves. A pointer is the location of an Iceberg metadata file: moving it publishes the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tidemill.model.errors import Refused, UserError
from tidemill.model.table import TableName

#: The ref that readers see unless they ask for another.
MAIN = "main"
#: What attempts call their branches: `batch-17`, `batch-17.2`.
_OF_RUNS = re.compile(r"batch-\d+(\.\d+)?", re.ASCII)


class RefKind(StrEnum):
    """What a ref is for."""

    #: `main`.
    MAIN = "main"
    #: Written by one attempt of a run; hidden in listings unless asked for.
    RUN = "run"
    #: Made by a person with `branch create`.
    BRANCH = "branch"
    #: Never moves.
    TAG = "tag"


class RefState(StrEnum):
    """Whether a ref can still be published."""

    #: It can be written and published.
    OPEN = "open"
    #: It was published (merged); its pointers are gone, its record stays.
    MERGED = "merged"
    #: Its run failed; it stays for inspection until it expires.
    FAILED = "failed"
    #: Another batch took over its range: it must never be published (rule 6).
    ABSORBED = "absorbed"
    #: Dropped by a person or by expiry.
    DROPPED = "dropped"


_S = RefState
#: Which state may follow which. An absorbed branch can only be dropped; merged and dropped ones are records.
REF_TRANSITIONS: Mapping[RefState, frozenset[RefState]] = {
    _S.OPEN: frozenset({_S.MERGED, _S.FAILED, _S.ABSORBED, _S.DROPPED}),
    _S.FAILED: frozenset({_S.OPEN, _S.MERGED, _S.ABSORBED, _S.DROPPED}),
    _S.ABSORBED: frozenset({_S.DROPPED}),
    _S.MERGED: frozenset(),
    _S.DROPPED: frozenset(),
}

REF_ENDS = frozenset(state for state, after in REF_TRANSITIONS.items() if not after)


@dataclass(frozen=True, slots=True)
class Ref:
    """The record of a ref. `head` counts the commits on it; a publish locks this row (rule 3)."""

    name: str
    kind: RefKind
    state: RefState
    head: int
    created_at: datetime
    #: The ref that it was forked from, and that ref's head at that time.
    parent: str | None = None
    parent_head: int | None = None
    run_id: int | None = None
    expires_at: datetime | None = None


def ref_name(given: str) -> str:
    """A name that a person may give to a branch or a tag, as it is.

    Raises:
        UserError: nothing can be called so, or only what runs make.
    """
    wrong = given != given.strip() or any(unicodedata.category(one).startswith("C") for one in given)
    if wrong or any(part in ("", ".", "..") for part in given.split("/")):
        shown = given.encode("unicode_escape").decode("ascii")
        raise UserError(
            f'"{shown}" cannot name a branch or a tag.',
            hint='letters that can be seen, no spaces around them, no empty part, "." or ".." between slashes',
        )
    if _OF_RUNS.fullmatch(given):
        raise UserError(f'"{given}" is what a run calls its own branch.', hint="another name")
    return given


def taken_name(name: str) -> Refused:
    """Why a ref cannot be made: there is one of that name."""
    return Refused(f'A ref "{name}" exists.', hint=f"another name, or first: tidemill branch drop {name}")


class ChangeKind(StrEnum):
    """What a commit did to a table: the publish rules judge by it (rule 4)."""

    #: Rows of the writer's own batch were added or removed; nothing else.
    BATCH = "batch"
    #: Keys were updated, or rows of several batches rewritten.
    UPSERT = "upsert"
    #: The whole content was replaced.
    REPLACE = "replace"
    #: Files were rewritten with the same rows (compaction).
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A data file that was written and belongs to no table yet. Its footer holds statistics and field ids.

    `path` is an address, as `Files.url` gives it and `DataFile.path` shows it.
    """

    path: str
    rows: int
    bytes: int
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class TableChange:
    """One commit on one table.

    Args:
        kind: what it does to the rows.
        add: files to add.
        remove: addresses of files to remove, as a scan or a difference gives them.
        batch_id: the batch that writes.
        attempt: its attempt.
        properties: table properties to set (Tidemill's own start with `tidemill.`).
    """

    kind: ChangeKind
    add: tuple[StagedFile, ...] = ()
    remove: tuple[str, ...] = ()
    batch_id: int | None = None
    attempt: int | None = None
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """How one version of a table differs from another that it descends from.

    `schema_changed`: field ids, names or types differ. `layout_changed`: partition or sort differ. `kinds`: the
    kinds of the commits in between, from their snapshots; a commit by a tool that does not say what it did
    counts as BATCH where it only added files and as UPSERT where it removed any. `added` and `removed` are
    addresses of data files.
    """

    added: frozenset[str]
    removed: frozenset[str]
    schema_changed: bool
    layout_changed: bool
    kinds: frozenset[ChangeKind]
    #: Batches whose rows were added or removed by commits of kind BATCH.
    batches: frozenset[int]

    @property
    def empty(self) -> bool:
        """True where both versions are the same."""
        return not (self.added or self.removed or self.schema_changed or self.layout_changed or self.kinds)


@dataclass(frozen=True, slots=True)
class TableConflict:
    """One table that cannot be published, and why."""

    table: TableName
    reason: str


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One entry of a ref's log: what moved together.

    `changes` maps table -> (pointer before, pointer after); None before: created, None after: dropped.
    `detail` holds what else moved (bookmarks, views) and is JSON.
    """

    ref: str
    seq: int
    kind: str
    at: datetime
    batch_id: int | None
    run_id: int | None
    changes: dict[TableName, tuple[str | None, str | None]]
    detail: dict[str, Any]
