"""Branches made by people: create, tag, merge, drop; and undoing a published batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from tidemill.flow.attempt import Attempt, open_attempt
from tidemill.flow.merge import write_merged
from tidemill.flow.publish import Look, PublishConflict, PublishPlan, look, plan_publish, publish_run, swap
from tidemill.flow.row_versions import activations_of, commit_marked, marks_of, without_own
from tidemill.flow.services import Services
from tidemill.flow.stage import Stage, spec_from
from tidemill.flow.write import commit_rows
from tidemill.model.batch import Batch, BatchState, topic_of
from tidemill.model.branch import (
    MAIN,
    REF_ENDS,
    ChangeKind,
    Ref,
    RefKind,
    RefState,
    StagedFile,
    ref_name,
    taken_name,
)
from tidemill.model.errors import Conflict, Fenced, Refused, UnknownName
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.run import RunState
from tidemill.model.table import (
    BATCH_ID,
    DELETED,
    INPUT_SUFFIX,
    LOADED_AT,
    ORDER,
    ROW,
    DataFile,
    TableName,
    TableSpec,
    WriteMode,
)
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata, Tx

#: How often a merge is planned again because the target moved meanwhile.
_TRIES = 20


class Records(Protocol):
    """The database and the time, which is all that refs need; `Services` are more."""

    @property
    def metadata(self) -> Metadata:
        """Where refs are."""
        ...

    @property
    def clock(self) -> Clock:
        """When they were made."""
        ...


def create_branch(services: Records, name: str, *, kind: RefKind = RefKind.BRANCH, source: str = MAIN) -> Ref:
    """Make a branch or a tag of `source` as it is now: pointers are copied, no data.

    Raises:
        UserError: nothing can be called `name`.
        UnknownName: there is no ref `source`.
        Refused: `name` exists.
    """
    now = services.clock.now()
    with services.metadata.write() as tx:
        origin = _origin(tx, source)
        return tx.refs.create(
            ref_name(name),
            kind,
            now=now,
            pointers=tx.refs.pointers(source),
            views=tx.refs.views(source).values(),
            parent=source,
            parent_head=origin.head,
        )


def preview_branch(services: Records, name: str, *, source: str = MAIN) -> int:
    """How many tables `create_branch` would put on it. Raises the same."""
    ref_name(name)
    with services.metadata.read() as tx:
        _origin(tx, source)
        here = tx.refs.get(name)
        if here is not None and here.state not in REF_ENDS:
            raise taken_name(name)
        return len(tx.refs.pointers(source))


def _origin(tx: Tx, source: str) -> Ref:
    origin = tx.refs.get(source)
    if origin is None or origin.state not in (RefState.OPEN, RefState.FAILED):
        raise UnknownName.of("branch", source, (r.name for r in tx.refs.all(states=[RefState.OPEN])))
    return origin


def drop_branch(services: Records, name: str) -> None:
    """Drop a branch or tag: its pointers go, its record stays; the collector takes what nobody else needs.

    Raises:
        UnknownName: there is none of that name, or none any more.
        Refused: it is `main`, or a live run writes it.
    """
    with services.metadata.write() as tx:
        _droppable(tx, name, services.clock.now())
        tx.refs.remove_pointers(name)
        tx.refs.update(name, state=RefState.DROPPED)


def preview_drop(services: Records, name: str) -> Ref:
    """What `drop_branch` would drop. Raises the same."""
    with services.metadata.read() as tx:
        return _droppable(tx, name, services.clock.now())


def _droppable(tx: Tx, name: str, now: datetime) -> Ref:
    ref = tx.refs.get(name)
    if ref is None or ref.state in REF_ENDS:
        raise UnknownName.of("branch", name, (r.name for r in tx.refs.all(states=[RefState.OPEN, RefState.FAILED])))
    if ref.kind is RefKind.MAIN:
        raise Refused(f'"{MAIN}" cannot be dropped.')
    run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
    live = run is not None and run.state in (RunState.RUNNING, RunState.PUBLISHING)
    if live and run is not None and run.lease_until is not None and run.lease_until > now:
        raise Refused(f'Branch "{name}" is being written by run {run.id}.', hint="wait for it, or stop it")
    return ref


def merge_branch(services: Services, name: str, onto: str = MAIN) -> PublishPlan:
    """Merge a person's branch into another ref, all tables in one transaction, by the same rules as a publish.

    Raises:
        PublishConflict: both sides changed a table in ways that cannot both stand.
        Refused: the branch belongs to a run, or was merged or dropped.
    """
    for _ in range(_TRIES):
        seen, plan = _planned(services, name, onto)
        if _merge(services, seen, plan):
            return plan
    raise Conflict(f'"{onto}" moved {_TRIES} times while "{name}" was being merged.', hint="merge it again")


def preview_merge(services: Services, name: str, onto: str = MAIN) -> PublishPlan:
    """What `merge_branch` would move now. Raises the same."""
    return _planned(services, name, onto)[1]


def _planned(services: Services, name: str, onto: str) -> tuple[Look, PublishPlan]:
    seen = look(services, name, onto)
    if seen.branch.kind is not RefKind.BRANCH:
        raise Refused(
            f'"{name}" is a {seen.branch.kind} and cannot be merged.',
            hint="a run's branch is published by running its batch again: tidemill replay <batch>",
        )
    return seen, plan_publish(services, seen)


def _merge(services: Services, seen: Look, plan: PublishPlan) -> bool:
    """The transaction of a merge; False: the target moved since the look, nothing was done."""
    now = services.clock.now()
    name, onto = seen.branch.name, seen.head.name
    with services.metadata.write() as tx:
        head = tx.refs.lock(onto)
        pointers = tx.refs.pointers(onto)
        ours = tx.refs.pointers(name)
        if head.head != seen.head.head or pointers != seen.theirs or ours != seen.ours:
            return False
        swap(tx, onto, plan)
        tx.refs.log(onto, "merge", now=now, changes=plan.moves, detail={"branch": name})
        if plan.moves or plan.views:
            tables = sorted(str(n) for n in {*plan.moves, *plan.views})
            tx.events.add("published", {"branch": name, "tables": tables}, now)
        tx.refs.remove_pointers(name)
        tx.refs.update(name, state=RefState.MERGED)
    return True


def revert_batch(services: Services, batch_id: int) -> PublishPlan:
    """Undo a published batch on all its tables, as one transaction.

    Append tables lose the batch's rows; upsert and history tables get the keys that it touched as they would be
    without it; a table that it replaced gets back what it held before, unless a later batch has replaced it since.

    Raises:
        UnknownName: there is no such batch.
        Refused: it is not published.
    """
    batch, touched = revertible(services, batch_id)
    past = [(name, before) for name, befores in touched.items() for before in befores if before]
    bare = PipelineSpec(batch.pipeline, None, None, None, False, {}, {}, {})
    lost_on: tuple[TableName, ...] = ()
    while True:
        with open_attempt(services, bare, batch, tickets=lost_on, past=past) as attempt:
            try:
                return _revert(attempt, batch, touched)
            except PublishConflict as conflict:
                attempt.end(RunState.FAILED, conflict, keep=False)
                if lost_on:  # with the tickets of the first time, only a schema or a drop can be in the way
                    raise
                lost_on = tuple(c.table for c in conflict.conflicts)
            except Fenced:
                raise
            except BaseException as error:
                attempt.end(RunState.FAILED, error, keep=False)
                raise


def revertible(services: Services, batch_id: int) -> tuple[Batch, dict[TableName, list[str | None]]]:
    """A batch that can be reverted, and the tables that it touched, with their versions before each time.

    Raises:
        UnknownName: there is no such batch.
        Refused: it is not published.
    """
    with services.metadata.read() as tx:
        batch = tx.batches.get(batch_id)
        if batch is None:
            raise UnknownName.of("batch", str(batch_id), (str(b.id) for b in tx.batches.recent(limit=50)))
        if (topic := topic_of(batch.pipeline)) is not None:
            raise Refused(
                f'Batch {batch_id} is raw messages of topic "{topic}": it is on no table.',
                hint="tidemill stream topics",
            )
        if batch.state is not BatchState.PUBLISHED:
            raise Refused(
                f"Batch {batch_id} ({batch.key}) is not on {MAIN}: it is {batch.state}.", hint="tidemill data batches"
            )
        commits = [c for c in tx.refs.commits(MAIN, batch_id=batch_id) if c.kind == "publish"]
    touched: dict[TableName, list[str | None]] = {}
    for commit in commits:
        for name, (before, _) in commit.changes.items():
            touched.setdefault(name, []).append(before)
    return batch, touched


def _revert(attempt: Attempt, batch: Batch, touched: Mapping[TableName, Sequence[str | None]]) -> PublishPlan:
    """One try: every table without the batch, and the publish."""
    services = attempt.services
    moves = {
        name: pointer
        for name in touched
        if name in attempt.fork and (pointer := _without(attempt, name, batch, touched)) is not None
    }
    attempt.commit(moves)
    with services.metadata.write() as tx:
        tx.runs.move(attempt.run.id, attempt.run.fence, RunState.PUBLISHING, now=services.clock.now())
    return publish_run(attempt, {}, kind="revert", becomes=BatchState.REVERTED)


def _without(
    attempt: Attempt, name: TableName, batch: Batch, touched: Mapping[TableName, Sequence[str | None]]
) -> str | None:
    """The version of a table without the batch; None where it is handled together with another one."""
    spec = spec_from(name, attempt.services.catalog.load(name, attempt.fork[name]).properties)
    if name.table.endswith(INPUT_SUFFIX) and TableName(name.namespace, name.table[: -len(INPUT_SUFFIX)]) in touched:
        return None
    if spec.write is WriteMode.APPEND:
        with Stage(attempt, spec) as stage:
            if not spec.marks:
                return commit_rows(stage)
            feed = spec.parent or name
            return commit_marked(stage, marks_of(attempt, feed, activations_of(attempt, feed, with_own=False)))
    if spec.write is WriteMode.REPLACE:
        return _replaced_before(attempt, spec, batch, touched[name])
    given = attempt.services.catalog.load(spec.name.input, attempt.fork[spec.name.input])
    schema = given.schema.without((BATCH_ID, LOADED_AT, ORDER, ROW, DELETED))
    moves, _ = write_merged(attempt, spec, schema, (), **without_own(attempt, spec))
    attempt.commit({n: p for n, p in moves.items() if n != name})
    return moves[name]


def _replaced_before(attempt: Attempt, spec: TableSpec, batch: Batch, befores: Iterable[str | None]) -> str | None:
    """A replaced table as it was before the batch; None where a later batch's content stands there now.

    The batch may have replaced it several times, others in between: of what stood there before each time, newest
    first, the first comes back that is neither the batch's own nor of one that was reverted since.
    """
    with Stage(attempt, spec, mixed=True) as stage:
        now = stage.base_scan()
        assert now is not None
        if any(f.batch_id != batch.id for f in now.files):
            return None
        older: Sequence[DataFile] = ()
        for before in befores:
            older = _older(attempt, spec.name, before, batch) if before else ()
            if _stands(attempt.services, {f.batch_id for f in older}, batch):
                break
        files = [StagedFile(f.path, f.rows, f.bytes, f.batch_id) for f in older]
        return stage.commit(ChangeKind.REPLACE, [f.path for f in now.files], add=files)


def _older(attempt: Attempt, name: TableName, before: str, batch: Batch) -> Sequence[DataFile]:
    """The files of an older version.

    Raises:
        Refused: a vacuum has collected it, or is about to.
    """
    services = attempt.services
    lake = services.lake
    path = lake.relative(before)
    if path not in attempt.doomed and lake.info(path) is not None:
        with suppress(FileNotFoundError):  # collected while it was read
            files = services.catalog.scan(name, before).files
            paths = [lake.relative(f.path) for f in files]
            if not attempt.doomed.intersection(paths) and all(lake.info(p) is not None for p in paths):
                return files
    with services.metadata.read() as tx:
        log = tx.refs.commits(MAIN)
    writer = next((c.batch_id for c in log if name in c.changes and c.changes[name][1] == before), None)
    raise Refused(
        f'Batch {batch.id} replaced "{name}", and what stood there before has been collected by a vacuum.',
        hint=f"tidemill replay {writer} writes it again"
        if writer
        else "run an earlier interval again, which replaces it",
    )


def _stands(services: Services, batches: Iterable[int | None], reverting: Batch) -> bool:
    """True where all the batches are published and none is the one that is being reverted."""
    with services.metadata.read() as tx:
        found = [tx.batches.get(number) for number in batches if number is not None]
    return all(b is not None and b.state is BatchState.PUBLISHED and b.id != reverting.id for b in found)
