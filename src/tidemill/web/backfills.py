"""Backfills: the list, one with its intervals; begin, pause, resume, cancel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control
from tidemill.flow.facts.backfills import backfill_facts, found_backfill, range_of
from tidemill.model.backfill import BackfillState, Policy
from tidemill.model.errors import Refused
from tidemill.plan.params import params_of
from tidemill.web.models import Done
from tidemill.web.paging import cut, read_cursor
from tidemill.web.table import Asked, Body, Cursor, Limit, Query


class Progress(Struct):
    """Intervals by how they stand."""

    total: int
    waiting: int
    running: int
    success: int
    failed: int


class BackfillItem(Struct):
    """A backfill in a list."""

    backfill_id: int
    pipeline: str
    range: str
    state: str
    policy: str
    concurrency: int
    tasks: list[str]
    conf: dict[str, Any]
    created_at: datetime
    ended_at: datetime | None
    progress: Progress


class Step(Struct):
    """An interval of a backfill, and its newest run."""

    interval: str
    run_id: int | None
    state: str


class Backfill(BackfillItem):
    """One backfill, with its intervals in the order in which they run."""

    intervals: list[Step]


class BackfillPage(Struct):
    """Backfills, newest first."""

    backfills: list[BackfillItem]
    next: str | None


class Begun(Struct):
    """A backfill that was begun; with `dry_run` what it would run: `spans` are the intervals' beginnings and ends."""

    pipeline: str
    range: str
    intervals: list[str]
    spans: list[list[datetime]]
    tasks: list[str]
    backfill_id: int | None
    dry_run: bool


class BackfillsQuery(Query, frozen=True):
    """Which backfills."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[list[str], Meta(description="only of these")] = []
    active: Annotated[bool, Meta(description="only those that may go on")] = False


class Begin(Body, frozen=True):
    """A backfill to begin."""

    pipeline: str
    range: Annotated[str, Meta(min_length=1, max_length=100, description="2013-01-01..2013-01-31, both included")]
    policy: Annotated[str, Meta(pattern="^(missing|failed|all)$")] = "missing"
    concurrency: Annotated[int, Meta(ge=1, le=1000, description="so many at a time")] = 1
    newest_first: bool = False
    tasks: Annotated[list[str], Meta(description="only these, and what depends on them")] = []
    params: dict[str, Any] = {}


def of_backfill(asked: Asked) -> list[str]:
    """The pipeline of the backfill that the path names."""
    with asked.backend.metadata.read() as tx:
        return [found_backfill(tx, asked.path["backfill_id"]).pipeline]


def of_body(asked: Asked) -> list[str]:
    """The pipeline that the body names."""
    return [asked.body.pipeline]


def list_backfills(asked: Asked) -> dict[str, Any]:
    """Backfills, newest first."""
    query: BackfillsQuery = asked.query
    before = read_cursor(query.cursor, int)
    wanted = asked.visible(query.pipeline)
    with asked.backend.metadata.read() as tx:
        found = [
            one
            for one in tx.backfills.recent(active=query.active)
            if (wanted is None or one.pipeline in wanted) and (before is None or one.id < before)
        ]
        page, further = cut(found, query.limit, lambda one: one.id)
        listed = [backfill_facts(tx, one) for one in page]
    return {"backfills": listed, "next": further}


def show_backfill(asked: Asked) -> dict[str, Any]:
    """One backfill."""
    with asked.backend.metadata.read() as tx:
        return backfill_facts(tx, found_backfill(tx, asked.path["backfill_id"]))


def begin(asked: Asked) -> dict[str, Any]:
    """Begin a backfill."""
    body: Begin = asked.body
    metadata = asked.backend.metadata
    policy = Policy(body.policy)
    intervals = control.preview_backfill(
        metadata, body.pipeline, body.range, policy=policy, newest_first=body.newest_first
    )
    with metadata.read() as tx:
        _, made = control.known(tx, body.pipeline)
    params_of(made.params, body.params, strict=not made.any_params, where=made.place)
    tasks = sorted(control.chosen_tasks(made, body.tasks)) if body.tasks else []
    answer = {
        "pipeline": body.pipeline, "range": range_of(intervals), "intervals": [str(one) for one in intervals],
        "spans": [[one.start, one.end] for one in intervals], "tasks": tasks, "backfill_id": None,
        "dry_run": asked.query.dry_run,
    }  # fmt: skip
    if asked.query.dry_run:
        return answer
    begun = control.start_backfill(
        metadata, body.pipeline, intervals, asked.backend.clock.now(), policy=policy, concurrency=body.concurrency,
        tasks=body.tasks, conf=body.params,
    )  # fmt: skip
    asked.backend.ring()
    return {**answer, "backfill_id": begun.id}


def pause(asked: Asked) -> Done:
    """Begin no more of its runs; those that are under way go on."""
    return _move(asked, BackfillState.PAUSED, "paused")


def resume(asked: Asked) -> Done:
    """Go on with a backfill that was paused."""
    return _move(asked, BackfillState.RUNNING, "resumed")


def cancel(asked: Asked) -> Done:
    """End a backfill, and stop its runs that are under way."""
    return _move(asked, BackfillState.CANCELLED, "cancelled")


def _move(asked: Asked, to: BackfillState, verb: str) -> Done:
    backfill_id, metadata, now = asked.path["backfill_id"], asked.backend.metadata, asked.backend.clock.now()
    with metadata.read() as tx:
        found = found_backfill(tx, backfill_id)
    if found.state is to:  # asked twice: there is nothing left to do
        return Done(verb, [], asked.query.dry_run)
    if not found.active:
        raise Refused(f"Backfill {backfill_id} has ended: {found.state}.", hint="begin another one")
    if not asked.query.dry_run:
        if to is BackfillState.CANCELLED:
            control.cancel_backfill(metadata, backfill_id, now)
        else:
            with metadata.write() as tx:
                tx.backfills.move(backfill_id, to, now)
        asked.backend.ring()
    return Done(verb, [str(backfill_id)], asked.query.dry_run)
