"""Publish: one SQL transaction moves the pointers of all changed tables, views, bookmarks, the batch and the run.

    look (pointers of branch, bases and head) -> plan each table -> stage rebased metadata, check again
    -> lock the head, look again: the same? -> swap everything -> or redo

All file work happens before the transaction; if the head moved meanwhile, only the look and the plan are redone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidemill.flow.assets import assets_told
from tidemill.flow.attempt import Attempt, ticket_of_another
from tidemill.flow.services import Services
from tidemill.model.batch import BatchState, Manifest
from tidemill.model.branch import MAIN, Ref, RefState, TableConflict
from tidemill.model.errors import Conflict, Fenced, Refused, UnknownName
from tidemill.model.pipeline import Isolation, SourceKind
from tidemill.model.run import RunState
from tidemill.model.table import TableName
from tidemill.plan.publish import Decision, Step, decide_table, needs_differences
from tidemill.ports.metadata import Tx, View

#: How often a publish is planned again because the head moved between the look and the lock.
_TRIES = 20
#: How often its transaction is tried again where the database has undone it.
_BROKEN = 3

Recheck = Callable[[Mapping[TableName, str]], None]


class PublishConflict(Conflict):
    """The branch and the head changed tables in ways that cannot both stand."""

    def __init__(self, branch: str, conflicts: Iterable[TableConflict]) -> None:
        self.conflicts = tuple(conflicts)
        what = "; ".join(f"{c.table}: {c.reason}" for c in self.conflicts)
        super().__init__(f'Branch "{branch}" conflicts with "{MAIN}" on {what}.', hint=f"tidemill branch diff {branch}")


@dataclass(frozen=True, slots=True)
class Look:
    """What a publish was planned on: it holds only while the head stands where it stood."""

    branch: Ref
    head: Ref
    bases: Mapping[TableName, str]
    ours: Mapping[TableName, str]
    theirs: Mapping[TableName, str]
    our_views: Mapping[TableName, View]
    their_views: Mapping[TableName, View]


@dataclass(slots=True)
class PublishPlan:
    """What will move: table -> (pointer before, pointer after), and the tables that were rebased."""

    moves: dict[TableName, tuple[str | None, str | None]] = field(default_factory=dict)
    rebased: list[TableName] = field(default_factory=list)
    views: dict[TableName, str | None] = field(default_factory=dict)


def look(services: Services, branch: str, onto: str = MAIN) -> Look:
    """Take everything that a plan needs in one consistent read."""
    with services.metadata.read() as tx:
        ref, head = tx.refs.get(branch), tx.refs.get(onto)
        assert head is not None
        if ref is None:
            raise UnknownName.of("branch", branch, (r.name for r in tx.refs.all(states=[RefState.OPEN])))
        if ref.state not in (RefState.OPEN, RefState.FAILED):
            raise Refused(f'Branch "{branch}" cannot be published: it is {ref.state}.', hint="tidemill branch ls --all")
        return Look(
            ref, head, tx.refs.bases(branch), tx.refs.pointers(branch), tx.refs.pointers(onto),
            tx.refs.views(branch), tx.refs.views(onto),
        )  # fmt: skip


def plan_publish(services: Services, seen: Look, only: Iterable[TableName] | None = None) -> PublishPlan:
    """Decide every table and stage the metadata of those to rebase.

    Raises:
        PublishConflict: with the reason for each table that cannot be published.
    """
    plan = PublishPlan()
    conflicts: list[TableConflict] = []
    names = set(only) if only is not None else {*seen.ours, *seen.bases}
    for name in sorted(names):
        base, mine, head = seen.bases.get(name), seen.ours.get(name), seen.theirs.get(name)
        decision = _decide(services, name, base, mine, head)
        if decision.step is Step.CONFLICT:
            conflicts.append(TableConflict(name, decision.reason))
        elif decision.step is Step.TAKE:
            plan.moves[name] = (head, mine)
        elif decision.step is Step.REBASE:
            assert mine is not None
            assert head is not None
            try:
                plan.moves[name] = (head, services.catalog.rebase(name, base or "", mine, head))
                plan.rebased.append(name)
            except Conflict as error:
                conflicts.append(TableConflict(name, error.what))
    if conflicts:
        raise PublishConflict(seen.branch.name, conflicts)
    if only is None:
        for name in {*seen.our_views, *seen.their_views}:
            ours, theirs = seen.our_views.get(name), seen.their_views.get(name)
            if ours is not None and ours != theirs:
                plan.views[name] = ours.sql
    return plan


def _decide(services: Services, name: TableName, base: str | None, mine: str | None, head: str | None) -> Decision:
    if not needs_differences(base, mine, head) or mine is None or head is None:
        return decide_table(base, mine, head)
    return decide_table(
        base,
        mine,
        head,
        services.catalog.difference(name, base or "", mine),
        services.catalog.difference(name, base or "", head),
    )


def publish_run(
    attempt: Attempt,
    manifests: Mapping[str, Manifest],
    *,
    recheck: Recheck = lambda _: None,
    final: bool = True,
    only: Iterable[TableName] | None = None,
    sources: Iterable[str] | None = None,
    kind: str = "publish",
    becomes: BatchState = BatchState.PUBLISHED,
    also: Callable[[Tx], None] = lambda _: None,
) -> PublishPlan:
    """Publish a run's branch to `main`, or with `only` some of its tables (publish mode "table", rule 12).

    Args:
        attempt: the run.
        manifests: source -> manifest of what the run loaded; bookmark sources move their bookmarks.
        recheck: runs whole-table checks on rebased pointers before the swap; raises CheckFailed.
        final: True also ends the run as SUCCESS and marks the batch as published.
        only: the tables to publish; None: all.
        sources: whose bookmarks move along; None: all.
        kind: what the log calls it.
        becomes: the state of the batch afterwards.
        also: more for the same transaction.

    Raises:
        PublishConflict: the tables must be computed again on a fresh fork.
        Fenced: a newer attempt has taken over.
    """
    services = attempt.services
    chosen = list(only) if only is not None else None
    broken = 0
    for _ in range(_TRIES):
        if attempt.run.branch is None:
            seen, plan = None, PublishPlan()
        else:
            seen = look(services, attempt.branch)
            plan = plan_publish(services, seen, chosen)
        if plan.rebased:
            recheck({name: plan.moves[name][1] or "" for name in plan.rebased})
        try:
            if _publish(
                attempt, seen, plan, manifests, final=final, sources=sources, kind=kind, becomes=becomes, also=also
            ):
                return plan
        except (PublishConflict, Fenced):
            raise
        except Conflict:  # the database broke a deadlock, or was locked for long: nothing was done
            broken += 1
            if broken >= _BROKEN:
                raise
    raise Conflict(f'"{MAIN}" moved {_TRIES} times while "{attempt.branch}" was being published.', hint="run it again")


def swap(tx: Tx, onto: str, plan: PublishPlan) -> None:
    """Move every pointer and view of a plan; a pointer that is not where the plan saw it raises Conflict."""
    for name, (before, after) in plan.moves.items():
        tx.refs.swap(onto, name, before, after)
    for name, sql in plan.views.items():
        tx.refs.set_view(onto, name, sql)


def _publish(
    attempt: Attempt,
    seen: Look | None,
    plan: PublishPlan,
    manifests: Mapping[str, Manifest],
    *,
    final: bool,
    sources: Iterable[str] | None,
    kind: str,
    becomes: BatchState,
    also: Callable[[Tx], None],
) -> bool:
    """The transaction. False: the head moved since the look, nothing was done."""
    services, run = attempt.services, attempt.run
    now = services.clock.now()
    with services.metadata.write() as tx:
        # Everywhere in this order (run, main, branch), so that no two transactions wait for each other.
        tx.runs.check(run.id, run.fence)
        head = tx.refs.lock(MAIN)
        if seen is not None and (head.head != seen.head.head or _moved(tx, plan)):
            return False
        blocked = ticket_of_another(tx, plan.moves, run.id, now, services.alive)
        if blocked is not None:
            raise PublishConflict(
                attempt.branch, [TableConflict(blocked, "another run lost on it before and publishes first")]
            )
        if attempt.pipeline.isolation is Isolation.SERIALIZABLE:
            _check_reads(attempt, tx)
        stale = _stale_inputs(attempt, tx, plan)
        swap(tx, MAIN, plan)
        if not final:  # what went ahead is no longer a difference of the branch
            for name, (_, after) in plan.moves.items():
                tx.refs.set_base(attempt.branch, name, after)
        moved = _move_bookmarks(attempt, tx, manifests, sources)
        if plan.moves or plan.views or moved:
            detail: dict[str, Any] = {"bookmarks": moved, "views": sorted(map(str, plan.views))}
            tx.refs.log(MAIN, kind, now=now, changes=plan.moves, batch_id=run.batch_id, run_id=run.id, detail=detail)
        _tell(attempt, tx, plan, stale, now, final=final)
        tx.runs.add_reads(run.id, attempt.reads)
        tx.refs.release_tickets(run.id)
        also(tx)
        if final:
            _finish(attempt, tx, now, becomes)
    return True


def _finish(attempt: Attempt, tx: Tx, now: datetime, becomes: BatchState) -> None:
    run = attempt.run
    if run.branch is not None:
        tx.refs.remove_pointers(attempt.branch)
        tx.refs.update(attempt.branch, state=RefState.MERGED)
    published = {"published_at": now, "code_version": attempt.services.code_version}
    tx.batches.update(run.batch_id, state=becomes, **(published if becomes is BatchState.PUBLISHED else {}))
    tx.runs.move(run.id, run.fence, RunState.SUCCESS, now=now)


def _moved(tx: Tx, plan: PublishPlan) -> bool:
    """True where a table's pointer on `main` is not where the plan saw it: tools that write past our log."""
    pointers = tx.refs.pointers(MAIN)
    return any(pointers.get(name) != before for name, (before, _) in plan.moves.items())


def _check_reads(attempt: Attempt, tx: Tx) -> None:
    """isolation="serializable": what the run read must not have moved."""
    pointers = tx.refs.pointers(MAIN)
    moved = [
        TableConflict(name, "it was read by the run and has moved")
        for name in {TableName.parse(r.table) for r in attempt.reads}
        if name not in attempt.written and pointers.get(name) != attempt.fork.get(name)
    ]
    if moved:
        raise PublishConflict(attempt.branch, moved)


def _stale_inputs(attempt: Attempt, tx: Tx, plan: PublishPlan) -> list[str]:
    """Tables that the run read and that have moved since its fork: its outputs are stale (rule 2)."""
    pointers = tx.refs.pointers(MAIN)
    return sorted(
        r.table
        for r in attempt.reads
        if (name := TableName.parse(r.table)) not in plan.moves
        and name not in attempt.written
        and pointers.get(name) != attempt.fork.get(name)
    )


def _move_bookmarks(
    attempt: Attempt, tx: Tx, manifests: Mapping[str, Manifest], sources: Iterable[str] | None
) -> dict[str, Any]:
    """Compare-and-set the bookmarks of the sources; a batch that was published before never moves them (rule 6)."""
    batch = tx.batches.get(attempt.batch.id)
    assert batch is not None
    if batch.state is BatchState.ABSORBED:
        raise Refused(f"Batch {batch.id} was absorbed by a later one and cannot be published.")
    if batch.published_at is not None:
        return {}
    moved: dict[str, Any] = {}
    chosen = set(sources) if sources is not None else set(manifests)
    for name, manifest in manifests.items():
        if name not in chosen or attempt.pipeline.sources[name].kind is not SourceKind.BOOKMARK:
            continue
        here = tx.bookmarks.get(attempt.pipeline.name, name)
        if here.batch_id == attempt.batch.id:
            continue  # moved already, by an earlier partial publish of this batch
        if here.value != manifest.bookmark_before:
            raise Refused(
                f'The bookmark of "{attempt.pipeline.name}.{name}" is {here.value!r}, and batch {batch.id} was '
                f"extracted from {manifest.bookmark_before!r}.",
                hint="a later batch was published in between; run this one with --refetch",
            )
        tx.bookmarks.swap(attempt.pipeline.name, name, here.version, manifest.bookmark_after, batch.id)
        moved[name] = manifest.bookmark_after
    return moved


def _tell(attempt: Attempt, tx: Tx, plan: PublishPlan, stale: list[str], now: datetime, *, final: bool) -> None:
    """Events that other runs may wait for, in the transaction of what they tell (rules 2 and 11)."""
    about = {"pipeline": attempt.pipeline.name, "batch_id": attempt.batch.id, "run_id": attempt.run.id}
    if attempt.pipeline.deliveries is not None:
        tx.deliveries.declare(attempt.pipeline.name, attempt.pipeline.deliveries)
    told = assets_told(tx, attempt.run.id) if final else {"tables": []}
    tables = sorted({*map(str, plan.moves), *map(str, plan.views), *told["tables"]})
    if tables:
        tx.events.add("published", {**about, **told, "tables": tables}, now)
    if stale:
        tx.events.add("stale", {**about, "inputs": stale, "tables": sorted(str(n) for n in plan.moves)}, now)
