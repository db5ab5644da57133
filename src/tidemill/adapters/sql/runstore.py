"""The port `runstore` on the metadata database: who drives which run, and what drivers have decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, text, update

from tidemill.adapters.sql.columns import interval_from
from tidemill.adapters.sql.events import SqlEvents
from tidemill.adapters.sql.progress import end_run, needs_room, write_progress
from tidemill.adapters.sql.refs import SqlRefs
from tidemill.adapters.sql.schedule_schema import definitions, pools
from tidemill.adapters.sql.schema import batches, fences, runs, tasks
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN
from tidemill.model.definition import Definition
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Instance
from tidemill.model.run import RUN_ENDS, RUN_TRANSITIONS, RunInfo, RunKind, RunState, TaskState
from tidemill.model.table import TableName
from tidemill.plan.dispatch import DEFAULT_POOL, DEFAULT_SLOTS
from tidemill.ports.clock import Clock
from tidemill.ports.runstore import NO_PAST, DrivenRun, PoolFull, Progress, RunStore, Saved, Wish, read_wish

_OPEN = [state for state in RUN_TRANSITIONS if state not in RUN_ENDS]
#: Runs that are looked at to find some to take: those of a pipeline that has no room must not hide all others.
_LOOKED_AT = 5_000
_WELL = [TaskState.SUCCESS, TaskState.SKIPPED]
#: Runs that have not ended, said literally so that their partial index is used; project and order as what no index is
#: for: otherwise SQLite, which knows no numbers, goes through all runs that the project ever had.
_NOT_ENDED = text("runs.state IN ('queued', 'running', 'publishing')")
_OWN: Any = func.coalesce(runs.c.project, "")
_IN_ORDER = runs.c.id + 0
#: The statements of each turn are made once: SQLAlchemy takes longer to make one than SQLite to carry it out.
_LOCKED = (
    select(
        runs.c.id, runs.c.fence, runs.c.state, runs.c.branch, runs.c.batch_id, runs.c.definition_id,
        runs.c.code_version, batches.c.pipeline,
    )
    .select_from(runs.join(batches))
    .where(runs.c.id.in_(bindparam("ids", expanding=True)), runs.c.state.in_(_OPEN))
    .order_by(runs.c.id)
)  # fmt: skip
_POOLS = select(pools.c.name, pools.c.slots).where(pools.c.project == bindparam("project"))
_USED = (
    select(tasks.c.pool, func.sum(tasks.c.slots).label("used"))
    .select_from(tasks.join(runs))
    # Said literally: a partial index is not used for what is only known when the statement is carried out.
    .where(text("tasks.state IN ('queued', 'running', 'restarting')"), bindparam("project") == _OWN)
    .group_by(tasks.c.pool)
)
_USED_BY_OTHERS = _USED.where(or_(runs.c.holder.is_(None), runs.c.holder != bindparam("holder")))


class SqlRunStore(RunStore):
    """Runs that schedulers drive: those that have a definition.

    Args:
        metadata: the database.
        clock: the time of leases on SQLite, whose processes share a computer. PostgreSQL has its own, the same for
            schedulers on all computers, unless `own_time` is False.
    """

    def __init__(self, metadata: SqlMetadata, clock: Clock, *, own_time: bool = True) -> None:
        self._metadata = metadata
        self._clock = clock
        self._own_time = own_time
        self._definitions: dict[int, Definition] = {}

    def definition(self, definition_id: int) -> Definition:
        """A definition by its id; read once."""
        if definition_id not in self._definitions:
            with self._metadata.session(writing=False) as session:
                self._load_definitions(session, [definition_id])
        return self._definitions[definition_id]

    # -- the port

    def claim(self, holder: str, lease: timedelta, limit: int, *, only: int | None = None) -> list[DrivenRun]:
        """Take runs that nobody drives."""
        with self._metadata.session(writing=False) as session:
            # Without a lock and without waiting for any writer; mostly there is nothing to take.
            if session.first(self._claimable(session, self._now(session), holder, only).limit(1)) is None:
                return []
        with self._metadata.session(writing=True) as session:
            now = self._now(session)
            refs = SqlRefs(session)
            if self._wants_tickets(session):
                refs.lock(MAIN)  # no publish is half-way: whoever comes after this sees the tickets
            query = self._claimable(session, now, holder, only).order_by(_IN_ORDER).limit(_LOOKED_AT)
            if session.dialect != "sqlite":
                query = query.with_for_update(of=runs, skip_locked=True, key_share=True)
            rows = self._within_limits(session, session.all(query), refs, now)[:limit]
            for row in rows:
                self._take(session, row, holder, now + lease, now)
                for name in _lost_on(row):
                    refs.ticket(name, row.id, now=now)
            return self._read(session, runs.c.id.in_([row.id for row in rows])) if rows else []

    def renew(self, holder: str, lease: timedelta) -> datetime:
        """Prolong the lease on all runs of a driver."""
        with self._metadata.session(writing=True) as session:
            until = self._now(session) + lease
            session.change(update(runs).where(*self._mine(session, holder)).values(lease_until=until))
        return until

    def release(self, holder: str) -> None:
        """Give up all runs of a driver."""
        with self._metadata.session(writing=True) as session:
            session.change(update(runs).where(*self._mine(session, holder)).values(holder=None, lease_until=None))

    def driven(self, holder: str) -> list[DrivenRun]:
        """The runs of a driver as they are recorded."""
        with self._metadata.session(writing=False) as session:
            return self._read(session, and_(*self._mine(session, holder)))

    def save(self, progress: Iterable[Progress]) -> Saved:
        """Record decisions, in one transaction. Raises PoolFull."""
        listed = {one.run_id: one for one in progress}
        with self._metadata.session(writing=True) as session:
            found = self._locked(session, listed)
            mine = {run_id: row for run_id, row in found.items() if row.fence == listed[run_id].fence}
            kept = [listed[run_id] for run_id in mine]
            graphs = {run_id: self._definition_of(session, row).graph for run_id, row in mine.items()}
            check = any(needs_room(one) for one in kept)
            if check:
                self._lock_pools(session)
            write_progress(session, kept, graphs)
            if check and any(room < 0 for room in self._room(session, None).values()):
                raise PoolFull
            publish = set()
            for one in kept:
                row = mine[one.run_id]
                if one.end is not None and end_run(session, one, row, self._definition_of(session, row)):
                    publish.add(one.run_id)
        return Saved(frozenset(listed.keys() - mine.keys()), frozenset(publish))

    def room(self, holder: str) -> Mapping[str, int]:
        """Slots by pool, without those that the runs of other drivers take."""
        with self._metadata.session(writing=False) as session:
            return self._room(session, holder)

    def cancelled(self, holder: str) -> frozenset[int]:
        """Runs of a driver that a person wants to stop."""
        with self._metadata.session(writing=False) as session:
            query = select(runs.c.id).where(*self._mine(session, holder), runs.c.cancel_at.is_not(None))
            return frozenset(row.id for row in session.all(query))

    def wishes(self, holder: str) -> Sequence[Wish]:
        """What is wanted of runs and was not carried out, oldest first; the driver takes those of its own."""
        with self._metadata.session(writing=False) as session:
            pending = SqlEvents(session).pending("wish", 1000)
        return [Wish(one.id, one.payload["run_id"], read_wish(one.payload)) for one in pending]

    def past(self, run_ids: Iterable[int]) -> Mapping[int, frozenset[str]]:
        """Tasks that the runs of the intervals before have ended well by now."""
        with self._metadata.session(writing=False) as session:
            query = self._runs().where(runs.c.id.in_(list(run_ids)))
            return {row.id: self._past_of(session, row) for row in session.all(query)}

    # -- claiming

    def _claimable(self, session: Session, now: datetime, holder: str, only: int | None) -> Any:
        query = self._runs().where(
            session.project == _OWN,
            runs.c.definition_id.is_not(None),
            _NOT_ENDED,
            or_(runs.c.holder.is_(None), runs.c.lease_until.is_(None), runs.c.lease_until <= now),
            or_(runs.c.holder.is_(None), runs.c.holder != holder, runs.c.lease_until <= now),
        )
        return query if only is None else query.where(runs.c.id == only)

    def _wants_tickets(self, session: Session) -> bool:
        """Whether a new run lost a race before."""
        waiting = (session.project == _OWN, _NOT_ENDED, runs.c.state == RunState.QUEUED, runs.c.lost_on.is_not(None))
        return session.first(select(runs.c.id).where(*waiting).limit(1)) is not None

    def _within_limits(self, session: Session, rows: Sequence[AnyRow], refs: SqlRefs, now: datetime) -> list[AnyRow]:
        """New runs wait until their pipeline has room, and until no run has the tickets that they need: one that began
        before would lose again, and again. Those that were begun are under way already.
        """
        under_way: Counter[str] = Counter()
        if any(row.state == RunState.QUEUED for row in rows):
            query = (
                select(batches.c.pipeline, func.count().label("many"))
                .select_from(runs.join(batches))
                .where(
                    session.project == _OWN,
                    runs.c.definition_id.is_not(None),
                    _NOT_ENDED,
                    runs.c.state != RunState.QUEUED,
                )
                .group_by(batches.c.pipeline)
            )
            under_way.update({row.pipeline: row.many for row in session.all(query)})
        promised = {name for row in rows if row.state != RunState.QUEUED for name in _lost_on(row)}
        taken = []
        for row in rows:
            if row.state == RunState.QUEUED:
                definition = self._definition_of(session, row)
                if under_way[row.pipeline] >= (1 if definition.sequential else definition.max_active_runs):
                    continue
                wanted = set(_lost_on(row))
                if wanted & promised or any(refs.ticket_holder(name, now) is not None for name in wanted):
                    continue
                promised |= wanted
                under_way[row.pipeline] += 1
            taken.append(row)
        return taken

    def _take(self, session: Session, row: AnyRow, holder: str, until: datetime, now: datetime) -> None:
        fence = session.add(
            session.insert(fences)
            .values(project=session.project, purpose=f"run {row.id}", at=now)
            .returning(fences.c.id)
        )
        assert fence is not None
        mine = update(runs).where(runs.c.id == row.id)
        session.change(mine.values(fence=fence.id, holder=holder, lease_until=until))
        begun = mine.where(runs.c.state == RunState.QUEUED)
        new = session.change(begun.values(state=RunState.RUNNING, started_at=now))
        if new and "begun" in self._definition_of(session, row).callbacks:
            about = {"event": "begun", "pipeline": row.pipeline, "batch_id": row.batch_id, "run_id": row.id}
            SqlEvents(session).add("notice", about, now)

    # -- reading

    def _runs(self) -> Any:
        return select(
            runs, batches.c.pipeline, batches.c.interval_start, batches.c.interval_end, batches.c.interval_zone,
            batches.c.run_key, batches.c.created_at.label("asked_at"),
        ).select_from(runs.join(batches))  # fmt: skip

    def _read(self, session: Session, which: Any) -> list[DrivenRun]:
        rows = session.all(self._runs().where(which).order_by(_IN_ORDER))
        self._load_definitions(session, [row.definition_id for row in rows])
        instances: dict[int, dict[TaskKey, Instance]] = {row.id: {} for row in rows}
        columns = (tasks.c.run_id, tasks.c.task, tasks.c.map_index, tasks.c.state, tasks.c.tries, tasks.c.failed)
        more = (tasks.c.lost, tasks.c.due, tasks.c.length, tasks.c.trigger)
        begun = [row.id for row in rows]
        for start in range(0, len(begun), 500):
            some = begun[start : start + 500]
            for task in session.all(select(*columns, *more).where(tasks.c.run_id.in_(some)).order_by(tasks.c.id)):
                instances[task.run_id][(task.task, task.map_index)] = Instance(
                    TaskState(task.state), task.tries, task.failed, task.lost, task.due, task.length, task.trigger
                )
        return [self._driven(session, row, instances[row.id]) for row in rows]

    def _driven(self, session: Session, row: AnyRow, instances: Mapping[TaskKey, Instance]) -> DrivenRun:
        definition = self._definitions[row.definition_id]
        waits = any(node.waits_for_past for node in definition.graph.nodes.values())
        return DrivenRun(
            RunInfo(
                id=row.id,
                batch_id=row.batch_id,
                attempt=row.attempt,
                pipeline=row.pipeline,
                code=row.code_version or "",
                file=definition.file,
                kind=RunKind(row.kind or RunKind.MANUAL),
                interval=interval_from(row),
                run_key=row.run_key,
                conf=row.conf or {},
                began=row.started_at or row.created_at,
                asked=row.asked_at,
            ),
            definition_id=row.definition_id,
            fence=row.fence,
            started_at=row.started_at or row.created_at,
            cancel=row.cancel_at is not None,
            publishing=row.state == RunState.PUBLISHING,
            only=frozenset(row.only or ()),
            past=self._past_of(session, row) if waits else NO_PAST,
            instances=instances,
        )

    def _past_of(self, session: Session, row: AnyRow) -> frozenset[str]:
        """Tasks that the newest attempt at the interval before has ended well; `NO_PAST` where there is none."""
        if row.interval_start is None:
            return NO_PAST
        before = session.first(
            select(runs.c.id)
            .select_from(runs.join(batches))
            .where(
                batches.c.project == session.project,
                batches.c.pipeline == row.pipeline,
                batches.c.interval_start < row.interval_start,
            )
            .order_by(batches.c.interval_start.desc(), runs.c.attempt.desc())
            .limit(1)
        )
        if before is None:
            return NO_PAST
        query = select(tasks.c.task, tasks.c.state).where(tasks.c.run_id == before.id)
        found = session.all(query)
        bad = {task.task for task in found if task.state not in _WELL and task.state != TaskState.REMOVED}
        return frozenset({task.task for task in found} - bad)

    def _definition_of(self, session: Session, row: AnyRow) -> Definition:
        self._load_definitions(session, [row.definition_id])
        return self._definitions[row.definition_id]

    def _load_definitions(self, session: Session, ids: Iterable[int]) -> None:
        missing = sorted(set(ids) - self._definitions.keys())
        if missing:
            for row in session.all(select(definitions).where(definitions.c.id.in_(missing))):
                self._definitions[row.id] = Definition.from_json(row.body)

    # -- saving

    def _locked(self, session: Session, listed: Iterable[int]) -> dict[int, AnyRow]:
        """The runs that have not ended, locked in the order of their ids: no two writers wait for each other."""
        query = _LOCKED if session.dialect == "sqlite" else _LOCKED.with_for_update(of=runs, key_share=True)
        return {row.id: row for row in session.all(query.params(ids=sorted(listed)))}

    def _lock_pools(self, session: Session) -> None:
        """On PostgreSQL two schedulers could each see room for one, and both take it."""
        if session.dialect != "sqlite":
            rows = [{"project": session.project, "name": DEFAULT_POOL, "slots": DEFAULT_SLOTS}]
            session.add_all(session.insert(pools).on_conflict_do_nothing(), rows)
            session.all(
                select(pools).where(pools.c.project == session.project).order_by(pools.c.name).with_for_update()
            )

    def _room(self, session: Session, holder: str | None) -> dict[str, int]:
        slots = {DEFAULT_POOL: DEFAULT_SLOTS}
        for row in session.all(_POOLS.params(project=session.project)):
            slots[row.name] = row.slots
        query = _USED if holder is None else _USED_BY_OTHERS.params(holder=holder)
        for row in session.all(query.params(project=session.project)):
            if row.pool in slots:
                slots[row.pool] -= int(row.used)
        return slots

    # -- what all share

    def _mine(self, session: Session, holder: str) -> tuple[Any, ...]:
        return (
            session.project == _OWN,
            _NOT_ENDED,
            runs.c.holder == holder,
            runs.c.definition_id.is_not(None),
        )

    def _now(self, session: Session) -> datetime:
        if session.dialect == "sqlite" or not self._own_time:
            return self._clock.now()
        row = session.first(select(func.clock_timestamp().label("now")))
        assert row is not None
        moment: datetime = row.now
        return moment


def _lost_on(row: AnyRow) -> list[TableName]:
    return [TableName.parse(name) for name in row.lost_on or ()]
