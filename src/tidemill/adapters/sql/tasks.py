"""Tasks of attempts and what attempts read: the lower half of the store `runs`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import literal, select, text, true, update

from tidemill.adapters.sql.schedule_schema import tries, xcoms
from tidemill.adapters.sql.schema import reads as read_records
from tidemill.adapters.sql.schema import runs, tasks
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.graph import WHOLE
from tidemill.model.run import (
    TASK_ENDS,
    DeferredTask,
    IllegalTransition,
    PastTry,
    Read,
    TaskRun,
    TaskState,
    check_task_transition,
)

_MAY_CHANGE = frozenset({"tries", "rows", "bytes", "error"})
_T = TaskState
#: Where a record may begin. A runner within one process goes through the first states without a pause, and need
#: not write each of them; but nothing ends that was never seen running, or decided against.
_FIRST = frozenset({_T.NONE, _T.SCHEDULED, _T.QUEUED, _T.RUNNING, _T.SKIPPED, _T.UPSTREAM_FAILED, _T.REMOVED})
_CLEARED: dict[str, Any] = {"started_at": None, "ended_at": None, "rows": None, "bytes": None, "error": None}


_TAKEN_OVER = (
    "task", "map_index", "state", "tries", "failed", "lost", "started_at", "ended_at", "rows", "bytes", "length",
)  # fmt: skip


class TaskRecords:
    """What `SqlRuns` knows about tasks and reads."""

    _session: Session

    @abstractmethod
    def check(self, run_id: int, fence: int) -> None:
        """See `SqlRuns.check`."""

    def set_task(self, run_id: int, fence: int, task: str, to: TaskState, *, now: datetime, **values: Any) -> None:
        """Create or change a task's record. Raises Fenced; IllegalTransition is a defect of the caller."""
        if unknown := values.keys() - _MAY_CHANGE:
            raise TypeError(f"a task has no field to set called {', '.join(sorted(unknown))}")
        self.check(run_id, fence)  # it also locks the attempt, so that nobody else changes its tasks meanwhile
        mine = (tasks.c.run_id == run_id, tasks.c.task == task, tasks.c.map_index == WHOLE)
        row = self._session.first(select(tasks.c.id, tasks.c.state).where(*mine))
        before = TaskState(row.state) if row else None
        values = {"state": to, **_times(before, to, now), **values}
        if row is None:
            if to not in _FIRST:
                raise IllegalTransition(f"task: a record cannot begin as {to}")
            new = {"run_id": run_id, "task": task, "map_index": WHOLE, "tries": 0, "failed": 0, "lost": 0, **values}
            self._session.add(self._session.insert(tasks).values(**new).returning(tasks.c.id))
            return
        if before is not None and before is not to:
            check_task_transition(before, to)
        self._session.change(update(tasks).where(tasks.c.id == row.id).values(**values))

    def tasks(self, run_id: int) -> list[TaskRun]:
        """The tasks of an attempt, in the order in which they were first seen."""
        query = select(tasks).join(runs).where(self._of(run_id)).order_by(tasks.c.id)
        return [_task(row) for row in self._session.all(query)]

    def deferred(self, run_id: int | None = None) -> list[DeferredTask]:
        """Task instances that wait in the shared loop; of one run, or of all."""
        query = select(tasks.c.run_id, tasks.c.task, tasks.c.map_index, tasks.c.tries, tasks.c.trigger)
        # By a sum, of which no index knows: else SQLite asks each run of a project for its deferred tasks.
        query = query.join(runs, runs.c.id == text("tasks.run_id + 0"))
        # Said literally: a partial index is not used for what is only known when the statement is carried out.
        query = query.where(text("tasks.state = 'deferred'"), runs.c.project == self._session.project)
        query = query if run_id is None else query.where(tasks.c.run_id == run_id)
        return [
            DeferredTask(row.run_id, row.task, row.map_index, row.tries, row.trigger or "{}")
            for row in self._session.all(query)
        ]

    def change_trigger(self, one: DeferredTask, to: str) -> bool:
        """Note what has become of what a deferred instance waits for; False: by now it does not wait for that."""
        mine = (tasks.c.run_id == one.run_id, tasks.c.task == one.task, tasks.c.map_index == one.map_index)
        same = (tasks.c.state == _T.DEFERRED, tasks.c.tries == one.tries, tasks.c.trigger == one.trigger)
        return self._session.change(update(tasks).where(*mine, *same).values(trigger=to)) == 1

    def past_tries(self, run_id: int) -> list[PastTry]:
        """Tries of an attempt that did not end their task, in order."""
        c = tries.c
        query = select(tries).join(runs).where(self._of(run_id)).order_by(c.task, c.map_index, c.number)
        return [
            PastTry(row.task, row.map_index, row.number, row.started_at, row.ended_at, row.error, row.worker)
            for row in self._session.all(query)
        ]

    def add_reads(self, run_id: int, reads: Iterable[Read]) -> None:
        """Record what the attempt read; the same read twice is kept once."""
        known = set(self.reads(run_id))
        new = [read for read in dict.fromkeys(reads) if read not in known]
        rows = [{"run_id": run_id, "table_name": r.table, "snapshot_id": r.snapshot_id, "scope": r.scope} for r in new]
        self._session.add_all(self._session.insert(read_records), rows)

    def reads(self, run_id: int) -> list[Read]:
        """What the attempt read."""
        query = select(read_records).join(runs).where(self._of(run_id)).order_by(read_records.c.id)
        return [Read(row.table_name, row.snapshot_id, row.scope) for row in self._session.all(query)]

    def _hand_on(self, old_run: int, new_run: int, names: Sequence[str]) -> None:
        """Take over ended tasks, and what they handed on, from the attempt before."""
        if not names:
            return
        for table, columns, which in (
            (tasks, _TAKEN_OVER, tasks.c.state.in_(list(TASK_ENDS))),
            (xcoms, ("task", "map_index", "key", "value"), true()),
        ):
            kept = [table.c[name] for name in columns]
            for at in range(0, len(names), 500):
                some = select(literal(new_run), *kept).where(
                    table.c.run_id == old_run, table.c.task.in_(names[at : at + 500]), which
                )
                self._session.copy(table, ("run_id", *columns), some)

    def _end_tasks(self, run_id: int, now: datetime, why: str) -> None:
        """Fail the tasks that a process which is gone had in hand."""
        in_hand = [_T.QUEUED, _T.RUNNING]
        self._session.change(
            update(tasks)
            .where(tasks.c.run_id == run_id, tasks.c.state.in_(in_hand))
            .values(state=_T.FAILED, ended_at=now, error=why)
        )

    def _of(self, run_id: int) -> Any:
        return (runs.c.id == run_id) & (runs.c.project == self._session.project)


def _times(before: TaskState | None, to: TaskState, now: datetime) -> dict[str, Any]:
    if before is to:
        return {}
    if to is _T.NONE:
        return _CLEARED
    if to is _T.RUNNING:
        return _CLEARED | {"started_at": now}
    if to in TASK_ENDS:
        return {"ended_at": now}
    return {}


def _task(row: AnyRow) -> TaskRun:
    return TaskRun(
        run_id=row.run_id,
        task=row.task,
        state=TaskState(row.state),
        tries=row.tries,
        started_at=row.started_at,
        ended_at=row.ended_at,
        rows=row.rows,
        bytes=row.bytes,
        error=row.error,
        map_index=row.map_index,
        queued_at=row.queued_at,
        due=row.due,
        worker=row.worker,
    )
