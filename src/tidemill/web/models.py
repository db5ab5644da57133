"""Types of answers that several resources share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct


class RunItem(Struct):
    """A run in a list: one attempt at a batch."""

    run_id: int
    batch_id: int
    attempt: int
    pipeline: str
    when: str
    interval: list[datetime] | None
    run_key: str | None
    state: str
    kind: str
    conf: dict[str, Any]
    backfill_id: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    branch: str | None
    code_version: str | None
    holder: str | None
    error: str | None


class TaskItem(Struct):
    """A task instance of a run; `map_index` is -1 for one that is not mapped."""

    task: str
    map_index: int
    state: str
    tries: int
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    rows: int | None
    bytes: int | None
    worker: str | None
    error: str | None


class CheckItem(Struct):
    """The result of one check on one table in one run."""

    table: str
    name: str
    severity: str
    passed: bool
    at: datetime
    run_id: int
    batch_id: int
    rows: int | None
    failed: int | None
    observed: str | None
    expected: str | None
    failures: str | None
    error: str | None


class Done(Struct):
    """What an action has done to what; with `dry_run` what it would do. What is so already is not named."""

    done: str
    names: list[str]
    dry_run: bool


class TableMove(Struct):
    """What happens to a table: created, dropped, changed, or rebased onto what main has now."""

    table: str
    change: str


class Moved(Struct):
    """What a merge or a revert has moved on main; with `dry_run` what it would move."""

    done: str
    tables: list[TableMove]
    views: list[str]
    dry_run: bool
