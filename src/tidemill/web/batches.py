"""Batches: the list, everything about one with its archived files; revert one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control
from tidemill.flow.branches import revert_batch, revertible
from tidemill.flow.facts.batches import BatchDetails, batches_facts, found_batch, waiting_batches
from tidemill.flow.facts.runs import listed_run, run_facts
from tidemill.flow.facts.tables import is_inner, moved_tables
from tidemill.model.batch import Batch as StoredBatch
from tidemill.model.batch import topic_of
from tidemill.model.run import RunKind
from tidemill.web.models import CheckItem, Moved, RunItem, TableMove
from tidemill.web.paging import cut, read_cursor
from tidemill.web.table import Asked, Body, Cursor, Limit, Query


class BatchItem(Struct):
    """A batch in a list."""

    batch_id: int
    pipeline: str
    when: str
    interval: list[datetime] | None
    run_key: str | None
    state: str
    attempts: int
    rows: int | None
    created_at: datetime
    extracted_at: datetime | None
    archived_at: datetime | None
    loaded_at: datetime | None
    published_at: datetime | None
    code_version: str | None


class Part(Struct):
    """An archived file: raw bytes as they were received, or records in the archive's own format."""

    path: str
    name: str
    sha256: str
    bytes: int
    rows: int | None
    format: str | None
    compression: str | None
    key: str | None


class Extraction(Struct):
    """What one extraction of a source put into the archive."""

    source: str
    version: int
    extracted_at: datetime
    bookmark_before: Any
    bookmark_after: Any
    code_version: str | None
    bytes: int
    rows: int | None
    rejected: int | None
    schema: dict[str, str]
    options: dict[str, Any] | None
    parts: list[Part]


class Attempt(Struct):
    """An attempt at the batch."""

    id: int
    batch_id: int
    attempt: int
    state: str
    branch: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    code_version: str | None


class BatchTask(Struct):
    """A task of the newest attempt; `map_index` is -1 for one that is not mapped."""

    run_id: int
    task: str
    state: str
    tries: int
    started_at: datetime | None
    ended_at: datetime | None
    rows: int | None
    bytes: int | None
    error: str | None
    map_index: int
    queued_at: datetime | None
    due: datetime | None
    worker: str | None


class Batch(BatchItem):
    """Everything about one batch; `tables` are those of main that it changed."""

    archive: list[Extraction]
    runs: list[Attempt]
    tasks: list[BatchTask]
    checks: list[CheckItem]
    tables: list[str]
    branch: str | None


class BatchPage(Struct):
    """Batches, newest first."""

    batches: list[BatchItem]
    next: str | None


class Replay(Body, frozen=True):
    """How a batch is run again: what is archived is not asked for again, unless this says so."""

    refetch: Annotated[bool, Meta(description="ask the sources again; the archive keeps both versions")] = False


class Replayed(Struct):
    """The run that was asked for; with `dry_run` the batch, and the parameters that it would have."""

    batch_id: int
    pipeline: str
    when: str
    params: dict[str, Any]
    why: str
    dry_run: bool
    run: RunItem | None


class WaitingBatch(Struct):
    """A batch whose newest attempt failed; without a branch it failed before it wrote a table."""

    batch_id: int
    branch: str | None


class WaitingBatches(Struct):
    """Batches that wait for a repair, newest failure first."""

    batches: list[WaitingBatch]


class BatchesQuery(Query, frozen=True):
    """Which batches."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[str, Meta(description="only of this one")] | None = None


def of_batch(asked: Asked) -> list[str]:
    """The pipeline of the batch that the path names."""
    with asked.backend.metadata.read() as tx:
        return [found_batch(tx, asked.path["batch_id"]).pipeline]


def list_batches(asked: Asked) -> dict[str, Any]:
    """Batches, newest first."""
    query: BatchesQuery = asked.query
    before = read_cursor(query.cursor, int)
    found: list[StoredBatch] = []
    with asked.backend.metadata.read() as tx:
        while len(found) <= query.limit:
            some = tx.batches.recent(query.pipeline, before=before, limit=query.limit + 1)
            found += [one for one in some if asked.sees(None if topic_of(one.pipeline) else one.pipeline)]
            if len(some) <= query.limit:
                break
            before = some[-1].id
        page, further = cut(found, query.limit, lambda one: one.id)
        listed = batches_facts(tx, page)
    return {"batches": listed, "next": further}


def list_waiting(asked: Asked) -> dict[str, Any]:
    """Batches that wait for a repair: the newest fifty failures are looked at."""
    with asked.backend.metadata.read() as tx:
        found = waiting_batches(tx)
        seen = [one for one in found if asked.sees(found_batch(tx, one["batch_id"]).pipeline)]
    return {"batches": seen}


def show_batch(asked: Asked) -> dict[str, Any]:
    """Everything about one batch."""
    with asked.backend.metadata.read() as tx:
        return BatchDetails(tx, asked.path["batch_id"]).facts()


def replay(asked: Asked) -> dict[str, Any]:
    """Run all of a batch again, from its archive or from its sources."""
    batch_id, dry, metadata = asked.path["batch_id"], asked.query.dry_run, asked.backend.metadata
    kind = RunKind.REFETCH if asked.body.refetch else RunKind.MANUAL
    batch, order = control.preview_replay(metadata, batch_id, kind)
    why = "The sources are asked again; the archive keeps both versions." if asked.body.refetch else (
        "What is archived is loaded again, by today's code; the sources are not asked for it."
    )  # fmt: skip
    answer = {
        "batch_id": batch_id, "pipeline": batch.pipeline, "when": str(batch.key.interval or batch.key.run_key),
        "params": dict(order.conf), "why": why, "dry_run": dry,
    }  # fmt: skip
    if dry:
        return {**answer, "run": None}
    run = control.replay(metadata, batch_id, asked.backend.clock.now(), kind)
    asked.backend.ring()
    with metadata.read() as tx:
        return {**answer, "run": run_facts(listed_run(tx, run.id))}


def revert(asked: Asked) -> Moved:
    """Undo a published batch on all its tables, in one transaction."""
    batch_id, dry = asked.path["batch_id"], asked.query.dry_run
    with asked.backend.lake() as services:
        if dry:
            _, touched = revertible(services, batch_id)
            tables = [TableMove(str(name), "changed") for name in sorted(touched) if not is_inner(name)]
            return Moved(f"would revert batch {batch_id}", tables, [], dry)
        plan = revert_batch(services, batch_id)
    verbs = moved_tables(plan.moves, plan.rebased)
    tables = [TableMove(str(name), verb) for name, verb in verbs.items() if not is_inner(name)]
    return Moved(f"reverted batch {batch_id}", tables, [str(view) for view in plan.views], dry)
