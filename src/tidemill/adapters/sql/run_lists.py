"""Lists of runs and of the states of their tasks: the part of the store `runs` that people look at."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, Table, func, select, text

from tidemill.adapters.sql.columns import interval_from
from tidemill.adapters.sql.schema import batches, runs, tasks
from tidemill.adapters.sql.session import AnyRow, Session, in_parts
from tidemill.model.run import Run, RunKind, RunState, TaskState
from tidemill.ports.runs import ListedRun, TaskStanding

#: Lists that are merged, at most; more are looked for in one walk through all runs.
_LISTS = 64
#: Batches of a stretch of time whose runs are sorted; of more, some are met soon on a walk through all runs.
_FEW = 2000

#: The newest runs of each of many pipelines, by an index. In one statement: with one for each, a page of 200 went to
#: the server and back 200 times.
_STRIPS = {
    "sqlite": text("""
        SELECT named.value, runs.id, runs.state FROM json_each(:pipelines) AS named JOIN runs ON runs.id IN
        (SELECT id FROM runs WHERE project = :project AND pipeline = named.value ORDER BY id DESC LIMIT :most)
        ORDER BY runs.id DESC"""),
    "postgresql": text("""
        SELECT named.value, found.id, found.state
        FROM json_array_elements_text(CAST(:pipelines AS json)) AS named(value), LATERAL (
            SELECT id, state FROM runs WHERE project = :project AND pipeline = named.value ORDER BY id DESC LIMIT :most
        ) AS found ORDER BY found.id DESC"""),
}  # fmt: skip
_TASK_STATES = {state.value: state for state in TaskState}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Filters:
    """What is asked of runs beside pipeline and state."""

    kind: RunKind | None
    since: datetime | None
    until: datetime | None
    before: int | None

    def where(self, *, kind: bool = True) -> list[Any]:
        made = self.stretch(runs)
        if kind and self.kind is not None:
            made.append(runs.c.kind == self.kind)
        if self.before is not None:
            made.append(runs.c.id < self.before)
        return made

    def stretch(self, table: Table) -> list[Any]:
        made: list[Any] = []
        if self.since is not None:
            made.append(table.c.interval_start >= self.since)
        if self.until is not None:
            made.append(table.c.interval_start < self.until)
        return made


def _of(run_ids: Collection[int]) -> Any:
    """Tasks of these runs. Said of runs, not of tasks: else PostgreSQL looks through all runs.

    Said of both it compares all of the ids with each task: 600 ms for 500 runs, which take 10.
    """
    return runs.c.id.in_(run_ids)


def _each(given: Collection[T] | None) -> Sequence[T | None]:
    return (None,) if given is None else tuple(dict.fromkeys(given))


def _unindexed(column: Any) -> Any:
    """The same value, for which no index is looked for: without statistics SQLite takes the wrong one of two."""
    return func.coalesce(column, "")


class RunLists:
    """What `SqlRuns` knows about many runs at once."""

    _session: Session

    def listed(
        self,
        *,
        pipelines: Collection[str] | None = None,
        states: Collection[RunState] | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        run_ids: Collection[int] | None = None,
        limit: int | None = None,
    ) -> list[ListedRun]:
        """Attempts with their batches, newest first."""
        key = (batches.c.interval_start, batches.c.interval_end, batches.c.interval_zone, batches.c.run_key)
        query = select(runs, *key).select_from(runs.join(batches)).order_by(runs.c.id.desc())
        query = query.where(runs.c.project == self._session.project)
        if run_ids is not None:
            query = query.where(runs.c.id.in_(list(run_ids)))
        elif limit is not None:
            # Ids first, each from an index that has them in order: however long the history, few rows are read.
            asked = _Filters(kind, since, until, before)
            chosen = self._newest_ids(_each(pipelines), _each(states), asked, limit)
            found = [self._session.all(query.where(runs.c.id.in_(some))) for some in in_parts(chosen)]
            return [_listed(row) for rows in found for row in rows]
        if pipelines is not None:
            query = query.where(runs.c.pipeline.in_(list(pipelines)))
        if states is not None:
            query = query.where(runs.c.state.in_(list(states)))
        query = query.where(*_Filters(kind, since, until, before).where()).limit(limit)
        return [_listed(row) for row in self._session.all(query)]

    def _newest_ids(
        self, pipelines: Sequence[str | None], states: Sequence[RunState | None], asked: _Filters, limit: int
    ) -> list[int]:
        """The ids of the newest attempts that fit, the greatest first."""
        ids: set[int] = set()
        if (in_range := self._few_batches(asked)) is not None:
            for some in in_parts(in_range):
                query = select(runs.c.id).where(*asked.where(), self._mine(), runs.c.batch_id.in_(some))
                if pipelines != (None,):
                    query = query.where(runs.c.pipeline.in_(pipelines))
                if states != (None,):
                    query = query.where(runs.c.state.in_(states))
                ids.update(row.id for row in self._session.all(query))
        elif len(pipelines) * len(states) <= _LISTS:
            for pipeline in pipelines:
                for state in states:
                    query = self._ids(pipeline, state, asked).order_by(runs.c.id.desc()).limit(limit)
                    ids.update(row.id for row in self._session.all(query))
        else:  # of that many some are found soon
            query = self._ids(None, None, asked)
            if pipelines != (None,):
                query = query.where(_unindexed(runs.c.pipeline).in_(pipelines))
            if states != (None,):
                query = query.where(_unindexed(runs.c.state).in_(states))
            ids.update(row.id for row in self._session.all(query.order_by(runs.c.id.desc()).limit(limit)))
        return sorted(ids, reverse=True)[:limit]

    def _few_batches(self, asked: _Filters) -> list[int] | None:
        """The batches of a stretch of time, if they are few; None: they are many, or there is no stretch."""
        if asked.since is None and asked.until is None:
            return None
        query = select(batches.c.id).where(batches.c.project == self._session.project, *asked.stretch(batches))
        found = self._session.all(query.limit(_FEW + 1))
        return [row.id for row in found] if len(found) <= _FEW else None

    def _ids(self, pipeline: str | None, state: RunState | None, asked: _Filters) -> Select[tuple[int]]:
        """Ids of attempts; where one index serves, the other filters must not look like another's."""
        query = select(runs.c.id).where(runs.c.project == self._session.project, *asked.where(kind=False))
        if pipeline is not None:
            query = query.where(runs.c.pipeline == pipeline)
        if state is not None:
            query = query.where((runs.c.state if pipeline is None else _unindexed(runs.c.state)) == state)
        if asked.kind is not None:
            alone = pipeline is None and state is None
            query = query.where((runs.c.kind if alone else _unindexed(runs.c.kind)) == asked.kind)
        return query

    def _mine(self) -> Any:
        """The project's, where ids say which rows."""
        return _unindexed(runs.c.project) == self._session.project

    def strips(self, pipelines: Iterable[str], limit: int) -> dict[str, list[tuple[int, RunState]]]:
        """Ids and states of the newest attempts of each pipeline, newest first; a pipeline without any is left out."""
        given = {"project": self._session.project, "pipelines": json.dumps(list(pipelines)), "most": limit}
        found: dict[str, list[tuple[int, RunState]]] = {}
        for pipeline, run_id, state in self._session.all(_STRIPS[self._session.dialect], given):
            found.setdefault(pipeline, []).append((run_id, RunState(state)))
        return found

    def newest_of(self, batch_ids: Iterable[int]) -> dict[int, Run]:
        """The newest attempt at each of some batches."""
        found: dict[int, Run] = {}
        for some in in_parts(batch_ids):
            query = select(runs).where(self._mine(), runs.c.batch_id.in_(some))
            found |= {row.batch_id: run_of(row) for row in self._session.all(query.order_by(runs.c.attempt))}
        return found

    def row_counts(self, run_ids: Iterable[int]) -> dict[int, dict[str, int]]:
        """Of some attempts the tasks that counted rows, and how many."""
        found: dict[int, dict[str, int]] = {}
        for some in in_parts(run_ids):
            query = select(tasks.c.run_id, tasks.c.task, tasks.c.rows).join(runs).where(self._mine(), _of(some))
            for run_id, task, rows in self._session.all(query.where(tasks.c.rows.is_not(None))):
                counted = found.setdefault(run_id, {})
                counted[task] = counted.get(task, 0) + rows
        return found

    def standings(self, run_ids: Iterable[int]) -> list[TaskStanding]:
        """The state of each task instance of some attempts."""
        found: list[TaskStanding] = []
        chosen = select(tasks.c.run_id, tasks.c.task, tasks.c.map_index, tasks.c.state, tasks.c.tries)
        for some in in_parts(run_ids):
            query = chosen.join(runs).where(self._mine(), _of(some))
            rows = self._session.all(query.order_by(tasks.c.run_id, tasks.c.id))
            found += [
                TaskStanding(run, task, index, _TASK_STATES[state], tries) for run, task, index, state, tries in rows
            ]
        return found


def _listed(row: AnyRow) -> ListedRun:
    ordered = row.definition_id is not None
    return ListedRun(
        run=run_of(row),
        pipeline=row.pipeline,
        interval=interval_from(row),
        run_key=row.run_key,
        kind=RunKind(row.kind) if ordered else None,
        conf=(row.conf or {}) if ordered else {},
        backfill_id=row.backfill_id if ordered else None,
    )


def run_of(row: Any) -> Run:
    """An attempt from its row."""
    return Run(
        id=row.id,
        batch_id=row.batch_id,
        attempt=row.attempt,
        state=RunState(row.state),
        fence=row.fence,
        created_at=row.created_at,
        branch=row.branch,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
        holder=row.holder,
        lease_until=row.lease_until,
        code_version=row.code_version,
    )
