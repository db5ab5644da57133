"""How drivers' decisions are written: one row for each task instance that changed, the ends of runs, what tasks leave.

An instance may have changed several times in a turn; only what it came to is written, with the times at which it was
queued, began and ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from tidemill.adapters.sql.batches import SqlBatches
from tidemill.adapters.sql.events import SqlEvents
from tidemill.adapters.sql.refs import SqlRefs
from tidemill.adapters.sql.runs import SqlRuns, look_again
from tidemill.adapters.sql.schedule_schema import tries, xcoms
from tidemill.adapters.sql.schema import batches, runs, tasks
from tidemill.adapters.sql.session import AnyRow, Session, insert_for
from tidemill.model.asset import TOLD
from tidemill.model.batch import BatchState
from tidemill.model.branch import RefState
from tidemill.model.definition import Definition
from tidemill.model.graph import Graph, TaskKey
from tidemill.model.instance import Change, Report
from tidemill.model.question import ANSWER
from tidemill.model.run import TASK_ENDS, RunState, TaskState, check_run_transition
from tidemill.plan.assets import tells, told_by, told_event
from tidemill.plan.decide import LIVE
from tidemill.plan.partitions import key_of
from tidemill.ports.executor import NOTHING
from tidemill.ports.runstore import Progress

_T = TaskState
#: What a later write without a value leaves as it is.
_KEPT = ("started_at", "queued_at", "worker", "rows", "bytes")
_SET = ("state", "tries", "failed", "lost", "due", "trigger", "length", "error", "ended_at", "pool", "slots")
_PARTS = ("run_id", "task", "map_index")


def needs_room(progress: Progress) -> bool:
    """Whether anything is handed to a worker by it."""
    return any(c.after.state in LIVE and (c.before is None or c.before.state not in LIVE) for c in progress.changes)


def write_progress(session: Session, listed: Sequence[Progress], graphs: Mapping[int, Graph]) -> None:
    """Write what became of instances, and what their tries have left."""
    cleared: list[dict[str, Any]] = []
    forgotten: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    past: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    for one in listed:
        made = _Rows(one, graphs[one.run_id])
        cleared += made.cleared
        forgotten += made.forgotten()
        rows += made.rows.values()
        past += made.past
        for (task, index), number, report in one.reports:
            if number <= made.cleared_after.get((task, index), -1):
                continue  # of a try before the clear, told in the same turn
            left += [
                {"run_id": one.run_id, "task": task, "map_index": index, "key": key, "value": value}
                for key, value in report.xcoms
            ]
    if cleared:
        session.add_all(_forget(), cleared)
    session.add_all(_upsert(session.dialect), rows)
    if forgotten:
        session.add_all(_forget_xcoms(), forgotten)
    if past:
        session.add_all(session.insert(tries).on_conflict_do_nothing(), past)
    if left:
        insert = session.insert(xcoms)
        keyed = [xcoms.c[name] for name in (*_PARTS, "key")]
        session.add_all(insert.on_conflict_do_update(index_elements=keyed, set_={"value": insert.excluded.value}), left)
    events = SqlEvents(session)
    for one in listed:
        for wish in one.wishes:
            events.done(wish, one.at)
        asked = [change for change in one.changes if change.after.state is _T.DEFERRED]
        for about in _asked(session, one.run_id, asked):
            events.add("notice", about, one.at)


def _asked(session: Session, run_id: int, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What is told of tasks that ask people from now on."""
    found = [(change.key, json.loads(change.after.trigger or "{}")) for change in changes]
    asked = [(key, waits["arguments"]) for key, waits in found if waits.get("trigger") == ANSWER]
    if not asked:
        return []
    row = session.first(select(runs.c.batch_id, batches.c.pipeline).join(batches).where(runs.c.id == run_id))
    assert row is not None
    about = {"event": "asked", "pipeline": row.pipeline, "batch_id": row.batch_id, "run_id": run_id}
    return [
        {**about, "task": task, "map_index": index, "subject": question["subject"], "options": question["options"]}
        for (task, index), question in asked
    ]


def end_run(session: Session, one: Progress, row: AnyRow, definition: Definition) -> bool:
    """Record a run's end; True where it is not the end yet, because a worker must publish it."""
    assert one.end is not None
    to = one.end
    if to is RunState.PUBLISHING and not one.publish and row.branch is None:
        to = RunState.SUCCESS  # there is nothing to move: being recorded is being published
        check_run_transition(RunState.PUBLISHING, to)
    check_run_transition(RunState(row.state), RunState.PUBLISHING if to is RunState.SUCCESS else to)
    values: dict[str, Any] = {"state": to}
    if to is not RunState.PUBLISHING:
        values |= {"ended_at": one.at, "lease_until": None, "holder": None, "error": one.error}
    session.change(update(runs).where(runs.c.id == one.run_id).values(**values))
    if to is not RunState.PUBLISHING:
        look_again(session, one.run_id, one.at)
    about = {"pipeline": row.pipeline, "batch_id": row.batch_id, "run_id": one.run_id}
    if to is RunState.SUCCESS:
        batch = SqlBatches(session)
        published = {"state": BatchState.PUBLISHED, "published_at": one.at, "code_version": row.code_version}
        batch.update(row.batch_id, **published)
        SqlEvents(session).add("published", {**about, **_told(session, row, definition)}, one.at)
    elif to in (RunState.FAILED, RunState.CANCELLED):
        if row.branch is not None:
            SqlRefs(session).update(row.branch, state=RefState.FAILED)
        SqlEvents(session).add("ended", {**about, "state": str(to), "error": one.error}, one.at)
    return to is RunState.PUBLISHING


def _told(session: Session, row: AnyRow, definition: Definition) -> dict[str, Any]:
    """What others are told: of a DAG the outlets of the tasks that ended well, and what these named in the run."""
    if not tells(definition):
        return {"tables": sorted({asset for info in definition.tasks.values() for asset in info.outlets})}
    run_id = row.id
    ended = select(tasks.c.task, tasks.c.map_index).where(tasks.c.run_id == run_id, tasks.c.state == _T.SUCCESS)
    said = select(xcoms.c.task, xcoms.c.map_index, xcoms.c.value).where(xcoms.c.run_id == run_id, xcoms.c.key == TOLD)
    texts = {(row.task, row.map_index): row.value for row in session.all(said)}
    order, batch = SqlRuns(session).order(run_id), SqlBatches(session).get(row.batch_id)
    key = None
    if order is not None and batch is not None:
        key = key_of(definition.schedule, batch.key.interval, order.conf)
    well = [(row.task, row.map_index) for row in session.all(ended)]
    return told_event(told_by(definition, well, texts, key), key)


class _Rows:
    """What is written about the instances of one run."""

    def __init__(self, progress: Progress, graph: Graph) -> None:
        self._progress = progress
        self._graph = graph
        self._reports = {(key, number): report for key, number, report in progress.reports}
        self.rows: dict[TaskKey, dict[str, Any]] = {}
        self.cleared: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        #: The number of the last try before an instance was cleared: what that one handed over is forgotten.
        self.cleared_after: dict[TaskKey, int] = {}
        for change in progress.changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        key, after, at = change.key, change.after, self._progress.at
        place = {"run_id": self._progress.run_id, "task": key[0], "map_index": key[1]}
        row = self.rows.setdefault(key, {**place, **dict.fromkeys((*_KEPT, *_SET))})
        before = None if change.before is None else change.before.state
        report = self._reports.get((key, after.tries), NOTHING)
        if after.state is _T.NONE and before is not None:
            self.cleared.append({f"of_{name}": value for name, value in place.items()})
            row.update(dict.fromkeys(_KEPT))
            self.cleared_after[key] = after.tries
        elif before is _T.NONE and after.state is _T.SUCCESS:
            # Only a person marks so. The instance does not run again: what it has handed over is all there will be.
            self.cleared_after.pop(key, None)
        elif after.state is _T.QUEUED:
            row.update(queued_at=at, ended_at=None)
        elif after.state is _T.RUNNING:
            row.update(started_at=at - timedelta(seconds=report.seconds))
        node = self._graph.nodes[key[0]]
        live = after.state in LIVE
        row.update(
            state=after.state,
            tries=after.tries,
            failed=after.failed,
            lost=after.lost,
            due=after.due,
            trigger=after.trigger,
            length=after.length,
            error=change.error,
            ended_at=at if after.state in TASK_ENDS else None,
            pool=node.pool if live else None,
            slots=node.slots if live else None,
        )
        if before in LIVE and not live:
            self._leave(row, report)
            if after.state in (_T.UP_FOR_RETRY, _T.SCHEDULED):
                self.past.append(self._try(place, change, report))

    def forgotten(self) -> list[dict[str, Any]]:
        """The instances that hand over anew, each as a place."""
        run_id = self._progress.run_id
        return [{"of_run_id": run_id, "of_task": key[0], "of_map_index": key[1]} for key in self.cleared_after]

    def _leave(self, row: dict[str, Any], report: Report) -> None:
        if report.worker:
            row["worker"] = report.worker
        if report.rows is not None:
            row["rows"] = report.rows
        if report.bytes is not None:
            row["bytes"] = report.bytes

    def _try(self, place: Mapping[str, Any], change: Change, report: Report) -> dict[str, Any]:
        at = self._progress.at
        assert change.before is not None
        return {
            **place,
            "number": change.before.tries,
            "started_at": at - timedelta(seconds=report.seconds) if report is not NOTHING else None,
            "ended_at": at,
            "error": change.error,
            "worker": report.worker or None,
        }


@cache
def _upsert(dialect: str) -> Any:
    insert = insert_for(dialect, tasks)
    new = insert.excluded
    values = {name: new[name] for name in _SET} | {name: func.coalesce(new[name], tasks.c[name]) for name in _KEPT}
    return insert.on_conflict_do_update(index_elements=[tasks.c[name] for name in _PARTS], set_=values)


def _forget() -> Any:
    """Take from an instance that was cleared what its last try had left."""
    place = [tasks.c[name] == bindparam(f"of_{name}") for name in _PARTS]
    return update(tasks).where(*place).values(dict.fromkeys(_KEPT))


def _forget_xcoms() -> Any:
    """Take from an instance that was cleared what it had handed over: a sensor's memory of its wait is among it."""
    return delete(xcoms).where(*(xcoms.c[name] == bindparam(f"of_{name}") for name in _PARTS))
