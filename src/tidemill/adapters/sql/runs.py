"""Store `runs`: attempts at batches, their leases and fences (rule 5). Their tasks are in `tasks.py`,
lists of them in `run_lists.py`.

Every fenced write locks the attempt's row first, and `start` locks the row of the attempt that it ends: so a write
of a stale attempt either commits before the new attempt exists, or fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update

from tidemill.adapters.sql.columns import interval_from
from tidemill.adapters.sql.run_lists import RunLists, run_of
from tidemill.adapters.sql.schedule_schema import pipelines, pools
from tidemill.adapters.sql.schema import batches, fences, runs, tasks
from tidemill.adapters.sql.session import Session, in_parts
from tidemill.adapters.sql.tasks import TaskRecords
from tidemill.model.batch import BatchState, Interval
from tidemill.model.errors import Busy, Fenced, UnknownName
from tidemill.model.run import RUN_ENDS, RUN_TRANSITIONS, Order, Run, RunKind, RunState, check_run_transition
from tidemill.ports.runs import UnderWay, WatchedRun, always

#: Literally: a partial index is not used for what is only known when the statement is carried out.
_OPEN = "runs.state IN ('queued', 'running', 'publishing')"
_LIVE = [state for state in RUN_TRANSITIONS if state not in RUN_ENDS]


class SqlRuns(TaskRecords, RunLists):
    """The port's `Runs` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(
        self,
        batch_id: int,
        *,
        holder: str,
        now: datetime,
        lease_until: datetime,
        code_version: str | None = None,
        alive: Callable[[str], bool] = always,
    ) -> Run:
        """Open the next attempt, and end an abandoned one. Raises Busy, UnknownName."""
        self._must_exist(batch_id)
        last = self.end_abandoned(batch_id, now, alive)
        if last is not None and last.state not in RUN_ENDS:
            raise _busy(batch_id, last)
        return self._open(
            batch_id,
            last,
            now,
            state=RunState.RUNNING,
            started_at=now,
            holder=holder,
            lease_until=lease_until,
            code_version=code_version,
        )

    def end_abandoned(self, batch_id: int, now: datetime, alive: Callable[[str], bool] = always) -> Run | None:
        """End the newest attempt at a batch where it is abandoned; returns it as it then is."""
        last = self._newest(batch_id, lock=True)
        why = None if last is None or last.state in RUN_ENDS else _why_abandoned(last, now, alive)
        if last is None or why is None:
            return last
        self.move(last.id, last.fence, RunState.FAILED, now=now, error=why)
        self._end_tasks(last.id, now, why)
        return self.get(last.id)

    def queue(self, batch_id: int, order: Order, now: datetime, *, keep: Iterable[str] = ()) -> Run:
        """Ask schedulers for the next attempt, in state QUEUED. Raises Busy, UnknownName."""
        self._must_exist(batch_id)
        last = self._newest(batch_id, lock=True)
        if last is not None and last.state not in RUN_ENDS:
            raise _busy(batch_id, last)
        made = self._open(
            batch_id,
            last,
            now,
            state=RunState.QUEUED,
            code_version=order.code,
            kind=order.kind,
            conf=dict(order.conf),
            definition_id=order.definition_id,
            backfill_id=order.backfill_id,
            only=sorted(order.only) or None,
            conflicts=order.conflicts,
            lost_on=list(order.lost_on) or None,
        )
        if last is not None:
            self._hand_on(last.id, made.id, sorted(keep))
        return made

    def order(self, run_id: int) -> Order | None:
        """What schedulers were asked for; None: it is no run of theirs."""
        row = self._session.first(select(runs).where(self._own(), runs.c.id == run_id))
        if row is None or row.definition_id is None:
            return None
        return Order(
            row.definition_id,
            row.code_version or "",
            RunKind(row.kind),
            row.conf or {},
            row.backfill_id,
            tuple(row.only or ()),
            row.conflicts or 0,
            tuple(row.lost_on or ()),
        )

    def cancel(self, run_id: int, now: datetime) -> bool:
        """Ask for a run to be stopped; False where it has ended, or is nobody's to stop."""
        open_ = (self._own(), runs.c.id == run_id, runs.c.state.in_(_LIVE), runs.c.definition_id.is_not(None))
        return bool(self._session.change(update(runs).where(*open_).values(cancel_at=now)))

    def renew(self, run_id: int, fence: int, lease_until: datetime) -> None:
        """Prolong the lease. Raises Fenced."""
        self._change(run_id, fence, lease_until=lease_until)

    def check(self, run_id: int, fence: int) -> None:
        """Raise `Fenced` unless that attempt is the newest of its batch, has that fence, and has not ended.

        An attempt that was replaced has ended: `start` ends it, and an index forbids two that have not.
        """
        query = select(runs.c.id).where(*self._live(run_id, fence))
        if self._session.first(query, lock=True) is None:
            raise self._fenced(run_id)

    def move(self, run_id: int, fence: int, to: RunState, *, now: datetime, error: str | None = None) -> None:
        """Change the state along RUN_TRANSITIONS; an end also ends the lease. Raises Fenced."""
        before = [state for state in _LIVE if to in RUN_TRANSITIONS[state]]
        values: dict[str, Any] = {"state": to}
        if error is not None:
            values["error"] = error
        if to in RUN_ENDS:
            values |= {"ended_at": now, "lease_until": None}
        guard = (*self._live(run_id, fence), runs.c.state.in_(before))
        if self._session.change(update(runs).where(*guard).values(**values)):
            if to in RUN_ENDS:
                look_again(self._session, run_id, now)
        else:
            self.check(run_id, fence)
            row = self.get(run_id)
            assert row is not None
            check_run_transition(row.state, to)

    def set_branch(self, run_id: int, fence: int, branch: str) -> None:
        """Note the branch that the attempt writes. Raises Fenced."""
        self._change(run_id, fence, branch=branch)

    def get(self, run_id: int) -> Run | None:
        """The attempt of that id."""
        row = self._session.first(select(runs).where(self._own(), runs.c.id == run_id))
        return run_of(row) if row else None

    def last(self, batch_id: int) -> Run | None:
        """The newest attempt at a batch."""
        return self._newest(batch_id)

    def recent(
        self,
        *,
        batch_id: int | None = None,
        pipeline: str | None = None,
        state: RunState | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Attempts, newest first."""
        # Without an index for the project where the batch says which rows: see `runstore.py`.
        mine = self._own() if batch_id is None else func.coalesce(runs.c.project, "") == self._session.project
        query = select(runs).where(mine).order_by(runs.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(runs.c.pipeline == pipeline)
        if batch_id is not None:
            query = query.where(runs.c.batch_id == batch_id)
        if state is not None:
            query = query.where(runs.c.state == state)
        return [run_of(row) for row in self._session.all(query)]

    def under_way(self, pipeline: str | None = None) -> list[UnderWay]:
        """Runs of schedulers that have not ended, oldest first."""
        # Without an index for the project: see `runstore.py`.
        mine = func.coalesce(runs.c.project, "") == self._session.project
        query = _with_batches().where(mine, text(_OPEN), runs.c.definition_id.is_not(None))
        if pipeline is not None:
            query = query.where(batches.c.pipeline == pipeline)
        return [
            UnderWay(
                row.id,
                row.batch_id,
                row.pipeline,
                row.definition_id,
                RunState(row.state),
                row.created_at,
                interval_from(row),
                row.late_at,
            )
            for row in self._session.all(query.order_by(runs.c.id + 0))
        ]

    def pools(self, slots: Mapping[str, int]) -> None:
        """Set the slots of pools."""
        session = self._session
        insert = session.insert(pools)
        upsert = insert.on_conflict_do_update(
            index_elements=[pools.c.project, pools.c.name], set_={"slots": insert.excluded.slots}
        )
        rows = [{"project": session.project, "name": name, "slots": count} for name, count in slots.items()]
        session.add_all(upsert, rows)

    def watched(self, after: int, run_ids: Iterable[int]) -> list[WatchedRun]:
        """Runs with greater ids than `after`, and those of `run_ids`."""
        chosen = select(runs.c.id, batches.c.pipeline, runs.c.state, runs.c.created_at).select_from(runs.join(batches))
        found = self._session.all(chosen.where(self._own(), runs.c.id > after))
        for some in in_parts(run_ids):
            found = [*found, *self._session.all(chosen.where(self._own(), runs.c.id.in_(some)))]
        ended = {row.id: WatchedRun(row.id, row.pipeline, RunState(row.state), row.created_at) for row in found}
        return [ended[run_id] for run_id in sorted(ended)]

    def task_counts(self) -> dict[tuple[str, str], int]:
        """How many tasks of runs that have not ended there are."""
        # In two steps: in one, SQLite begins with all tasks there ever were.
        mine = func.coalesce(runs.c.project, "") == self._session.project
        open_ = self._session.all(select(runs.c.id, runs.c.pipeline).where(mine, text(_OPEN)))
        pipelines = {row.id: row.pipeline for row in open_}
        found: dict[tuple[str, str], int] = {}
        for some in in_parts(pipelines):
            query = select(tasks.c.run_id, tasks.c.state, func.count().label("number"))
            query = query.where(tasks.c.run_id.in_(some)).group_by(tasks.c.run_id, tasks.c.state)
            for row in self._session.all(query):
                key = (pipelines[row.run_id], row.state)
                found[key] = found.get(key, 0) + row.number
        return dict(sorted(found.items()))

    def late(self, run_id: int, now: datetime) -> None:
        """Note that it was told that the run is late."""
        self._session.change(update(runs).where(self._own(), runs.c.id == run_id).values(late_at=now))

    def states(self, run_ids: Iterable[int]) -> dict[int, RunState]:
        """The states of runs."""
        found: dict[int, RunState] = {}
        for some in in_parts(run_ids):
            query = select(runs.c.id, runs.c.state).where(self._own(), runs.c.id.in_(some))
            found |= {row.id: RunState(row.state) for row in self._session.all(query)}
        return found

    def last_of(self, pipeline: str, since: datetime, until: datetime) -> dict[Interval, RunState]:
        """The state of the newest attempt at each interval that begins between two times."""
        query = (
            select(batches, runs.c.state.label("run_state"))
            .select_from(batches.join(runs))
            .where(
                batches.c.project == self._session.project,
                batches.c.pipeline == pipeline,
                batches.c.interval_start >= since,
                batches.c.interval_start < until,
            )
            .order_by(batches.c.interval_start, runs.c.attempt)
        )
        found: dict[Interval, RunState] = {}
        for row in self._session.all(query):
            interval = interval_from(row)
            if interval is not None:
                published = row.state == BatchState.PUBLISHED
                found[interval] = RunState.SUCCESS if published else RunState(row.run_state)
        return found

    def _open(self, batch_id: int, last: Run | None, now: datetime, **values: Any) -> Run:
        """Insert the attempt after `last`, with the next fencing number. Raises Busy."""
        session = self._session
        given = {"project": session.project, "purpose": f"batch {batch_id}", "at": now}
        fence = session.add(session.insert(fences).values(**given).returning(fences.c.id))
        assert fence is not None
        attempt = last.attempt + 1 if last else 1
        its = {
            name: select(batches.c[name]).where(batches.c.id == batch_id).scalar_subquery()
            for name in ("pipeline", "interval_start")
        }
        made = session.add(
            session.insert(runs)
            .values(
                project=session.project,
                batch_id=batch_id,
                attempt=attempt,
                fence=fence.id,
                created_at=now,
                **its,
                **values,
            )
            .on_conflict_do_nothing()
            .returning(runs)
        )
        if made is None:  # another process opened the same attempt between our look and our insert
            raise _busy(batch_id, self.last(batch_id))
        return run_of(made)

    def _must_exist(self, batch_id: int) -> None:
        query = select(batches.c.id).where(batches.c.project == self._session.project, batches.c.id == batch_id)
        if self._session.first(query) is None:
            raise UnknownName(f"There is no batch {batch_id}.", hint="tidemill data batches")

    def _newest(self, batch_id: int, *, lock: bool = False) -> Run | None:
        query = select(runs).where(self._own(), runs.c.batch_id == batch_id).order_by(runs.c.attempt.desc()).limit(1)
        row = self._session.first(query, lock=lock)
        return run_of(row) if row else None

    def _change(self, run_id: int, fence: int, **values: Any) -> None:
        if not self._session.change(update(runs).where(*self._live(run_id, fence)).values(**values)):
            raise self._fenced(run_id)

    def _live(self, run_id: int, fence: int) -> tuple[Any, ...]:
        return (self._own(), runs.c.id == run_id, runs.c.fence == fence, runs.c.state.in_(_LIVE))

    def _fenced(self, run_id: int) -> Fenced:
        run = self.get(run_id)
        if run is None:
            return Fenced(f"There is no run {run_id}.")
        last = self._newest(run.batch_id)
        if last is not None and last.id != run.id:
            what = f"Attempt {run.attempt} at batch {run.batch_id} was replaced by attempt {last.attempt}"
            return Fenced(f"{what}: it must stop.", where=f"run {run_id}, {last.holder} holds the newer one")
        if run.state in RUN_ENDS:
            return Fenced(
                f"Attempt {run.attempt} at batch {run.batch_id} has ended: {run.state}.", where=f"run {run_id}"
            )
        return Fenced(f"Run {run_id} is held under another fence than the one given.", where=f"run {run_id}")

    def _own(self) -> Any:
        return runs.c.project == self._session.project


def _why_abandoned(run: Run, now: datetime, alive: Callable[[str], bool]) -> str | None:
    """Why nobody is at work on an attempt that has not ended; None: somebody is, or a scheduler will be."""
    if run.state is RunState.QUEUED:
        return None
    if run.holder is None or run.lease_until is None:
        return "abandoned: a scheduler gave it back, and none has taken it"
    if run.lease_until <= now:
        return f"abandoned by {run.holder}: its lease ended at {run.lease_until}"
    return None if alive(run.holder) else f"abandoned: its process {run.holder} is gone"


def look_again(session: Session, run_id: int, now: datetime) -> None:
    """A run has ended: the schedule of its pipeline, if it waited for room, is due to be looked at."""
    pipeline = select(batches.c.pipeline).join(runs).where(runs.c.id == run_id).scalar_subquery()
    waits = (pipelines.c.project == session.project, pipelines.c.name == pipeline, pipelines.c.next_at.is_(None))
    session.change(update(pipelines).where(*waits).values(next_at=now))


def _with_batches() -> Any:
    interval = (batches.c.interval_start, batches.c.interval_end, batches.c.interval_zone)
    return select(runs, batches.c.pipeline, *interval).select_from(runs.join(batches))


def _busy(batch_id: int, run: Run | None) -> Busy:
    holder = run.holder if run else None
    until = f" until {run.lease_until:%H:%M:%S} UTC" if run and run.lease_until else ""
    return Busy(
        f"Batch {batch_id} is being run by another process{until}.",
        where=holder,
        hint="wait for it, or stop that process",
    )
