"""Stores `backfills` and `arrivals`: ranges of intervals to run, and what pipelines wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from tidemill.adapters.sql.columns import interval_columns, interval_from
from tidemill.adapters.sql.schedule_schema import arrivals, backfill_intervals, backfills
from tidemill.adapters.sql.schema import batches, runs
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.backfill import Backfill, BackfillState, BackfillStep, Policy
from tidemill.model.batch import Interval
from tidemill.model.errors import Refused, UnknownName

_ACTIVE = [BackfillState.RUNNING, BackfillState.PAUSED]


class SqlBackfills:
    """The port's `Backfills` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        pipeline: str,
        intervals: Sequence[Interval],
        now: datetime,
        *,
        policy: Policy,
        concurrency: int,
        tasks: Iterable[str] = (),
        conf: Mapping[str, Any] | None = None,
    ) -> Backfill:
        """Begin one."""
        session = self._session
        made = session.add(
            session.insert(backfills)
            .values(
                project=session.project, pipeline=pipeline, state=BackfillState.RUNNING, policy=policy,
                concurrency=concurrency, tasks=list(tasks), conf=dict(conf or {}), created_at=now,
            )
            .returning(backfills)
        )  # fmt: skip
        assert made is not None
        rows = [
            {"backfill_id": made.id, "position": position, **interval_columns(interval)}
            for position, interval in enumerate(intervals)
        ]
        session.add_all(session.insert(backfill_intervals), rows)
        return _backfill(made)

    def get(self, backfill_id: int) -> Backfill | None:
        """One of them."""
        row = self._session.first(select(backfills).where(self._own(), backfills.c.id == backfill_id))
        return _backfill(row) if row else None

    def recent(self, *, active: bool = False, limit: int | None = None) -> list[Backfill]:
        """Backfills, newest first."""
        query = select(backfills).where(self._own()).order_by(backfills.c.id.desc()).limit(limit)
        if active:
            query = query.where(backfills.c.state.in_(_ACTIVE))
        return [_backfill(row) for row in self._session.all(query)]

    def steps(self, backfill_id: int) -> list[BackfillStep]:
        """Its intervals in order, each with its newest run."""
        c = backfill_intervals.c
        newest = (
            select(batches.c.interval_start, batches.c.interval_end, func.max(runs.c.id).label("run_id"))
            .select_from(runs.join(batches))
            .where(runs.c.backfill_id == backfill_id)
            .group_by(batches.c.interval_start, batches.c.interval_end)
        )
        last = {(row.interval_start, row.interval_end): row.run_id for row in self._session.all(newest)}
        query = select(backfill_intervals).where(c.backfill_id == backfill_id).order_by(c.position)
        return [
            BackfillStep(row.position, interval, last.get((row.interval_start, row.interval_end), row.run_id))
            for row in self._session.all(query)
            if (interval := interval_from(row)) is not None
        ]

    def started(self, backfill_id: int, position: int, run_id: int) -> None:
        """An interval has a run."""
        c = backfill_intervals.c
        mine = (c.backfill_id == backfill_id, c.position == position)
        self._session.change(update(backfill_intervals).where(*mine).values(run_id=run_id))

    def move(self, backfill_id: int, state: BackfillState, now: datetime) -> None:
        """Pause it, go on with it, or end it. Raises UnknownName, Refused where it has ended."""
        values: dict[str, Any] = {"state": state, "ended_at": None if state in _ACTIVE else now}
        mine = (self._own(), backfills.c.id == backfill_id)
        open_ = backfills.c.state.in_(_ACTIVE)
        if self._session.change(update(backfills).where(*mine, open_).values(**values)):
            return
        found = self.get(backfill_id)
        if found is None:
            raise UnknownName.of("backfill", str(backfill_id), (str(one.id) for one in self.recent(limit=50)))
        raise Refused(f"Backfill {backfill_id} has ended: {found.state}.", hint="begin another one")

    def _own(self) -> Any:
        return backfills.c.project == self._session.project


class SqlArrivals:
    """The port's `Arrivals` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, pipeline: str) -> Mapping[str, str]:
        """Names and stamps that are noted."""
        query = select(arrivals.c.name, arrivals.c.stamp).where(self._own(), arrivals.c.pipeline == pipeline)
        return {row.name: row.stamp for row in self._session.all(query.order_by(arrivals.c.name))}

    def note(self, pipeline: str, arrived: Mapping[str, str], now: datetime) -> None:
        """Note names; a name that is there gets the newer stamp."""
        session = self._session
        insert = session.insert(arrivals)
        key = [arrivals.c.project, arrivals.c.pipeline, arrivals.c.name]
        upsert = insert.on_conflict_do_update(
            index_elements=key, set_={"stamp": insert.excluded.stamp, "at": insert.excluded.at}
        )
        place = {"project": session.project, "pipeline": pipeline, "at": now}
        session.add_all(upsert, [{**place, "name": name, "stamp": stamp} for name, stamp in arrived.items()])

    def forget(self, pipeline: str, names: Iterable[str]) -> None:
        """They have been acted on."""
        c = arrivals.c
        one = delete(arrivals).where(self._own(), c.pipeline == pipeline, c.name == bindparam("gone"))
        self._session.add_all(one, [{"gone": name} for name in names])

    def _own(self) -> Any:
        return arrivals.c.project == self._session.project


def _backfill(row: AnyRow) -> Backfill:
    return Backfill(
        row.id,
        row.pipeline,
        BackfillState(row.state),
        Policy(row.policy),
        row.concurrency,
        row.created_at,
        row.ended_at,
        tuple(row.tasks),
        row.conf,
    )
