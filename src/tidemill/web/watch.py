"""What has changed in a project between two looks at its database: the events of the API.

An event says how something stands now, not what happened to it. So one that nobody saw, because another came soon
after it, loses nothing, and whoever reads the newest of each knows all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidemill.flow.stream.facts import ProcessFacts
from tidemill.model.branch import RefState
from tidemill.model.run import RUN_ENDS, RunState, TaskState
from tidemill.ports.metadata import Tx
from tidemill.ports.runs import ListedRun
from tidemill.wiring.stream_care import state_of

KINDS = ("run", "task", "pipeline", "backfill", "branch", "stream")
#: Runs that are looked through for what changed while nobody was connected.
_BACK = 500
_UNENDED = [state for state in RunState if state not in RUN_ENDS]
#: Clocks of schedulers on several computers differ by so much.
_SKEW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Change:
    """How something stands now.

    Args:
        kind: of KINDS.
        pipeline: whose; None: no pipeline's.
        data: what is told, as JSON values.
    """

    kind: str
    pipeline: str | None
    data: Mapping[str, Any]


class Watch:
    """Looks at the database, and tells what is not as at the last look. The first look tells nothing."""

    def __init__(self) -> None:
        self._last_run: int | None = None
        self._open: dict[int, tuple[str, Any]] = {}
        self._tasks: dict[int, dict[tuple[str, int], tuple[TaskState, int]]] = {}
        self._seen: dict[tuple[str, str], Any] = {}

    def look(self, tx: Tx, now: datetime) -> list[Change]:
        """What has changed."""
        first = self._last_run is None
        made = [*self._runs(tx), *self._others(tx, now)]
        return [] if first else made

    def _runs(self, tx: Tx) -> Iterator[Change]:
        if self._last_run is None:
            newest = tx.runs.listed(limit=1)
            self._last_run = newest[0].run.id if newest else 0
            ids = {one.run.id for one in tx.runs.listed(states=_UNENDED)}
        else:
            ids = {one.run_id for one in tx.runs.watched(self._last_run, self._open)}
        found: dict[int, ListedRun] = {}
        listed = sorted(ids)
        for at in range(0, len(listed), _BACK):
            found |= {one.run.id: one for one in tx.runs.listed(run_ids=listed[at : at + _BACK])}
        self._last_run = max(self._last_run, *ids) if ids else self._last_run
        before, self._open = self._open, {}
        tasks = self._tasks_of(tx, found)
        for run_id in listed:
            one = found.get(run_id)
            if one is None:
                continue
            stands = (one.run.state.value, one.run.started_at)
            if one.run.state not in RUN_ENDS:
                self._open[run_id] = stands
            # Tasks first: whoever hears of a run's end has heard of its tasks'.
            yield from tasks.get(run_id, ())
            if before.get(run_id) != stands:
                yield _run_change(one)

    def _tasks_of(self, tx: Tx, found: Mapping[int, ListedRun]) -> dict[int, list[Change]]:
        """One event a run: its task instances that have changed."""
        stand: dict[int, dict[tuple[str, int], tuple[TaskState, int]]] = {run_id: {} for run_id in found}
        for one in tx.runs.standings(found):
            stand[one.run_id][one.task, one.index] = (one.state, one.tries)
        made: dict[int, list[Change]] = {}
        for run_id, now in stand.items():
            before = self._tasks.get(run_id, {})
            changed = [
                {"task": task, "map_index": index, "state": state.value, "tries": tries}
                for (task, index), (state, tries) in now.items()
                if before.get((task, index)) != (state, tries)
            ]
            if changed:
                pipeline = found[run_id].pipeline
                data = {"run_id": run_id, "pipeline": pipeline, "tasks": changed}
                made[run_id] = [Change("task", pipeline, data)]
        self._tasks = {run_id: now for run_id, now in stand.items() if found[run_id].run.state not in RUN_ENDS}
        return made

    def _others(self, tx: Tx, now: datetime) -> Iterator[Change]:
        changes = [*_pipelines(tx), *_backfills(tx), *_branches(tx), *_streams(tx, now)]
        seen: dict[tuple[str, str], Any] = {}
        for key, change in changes:
            seen[key] = change.data
            if self._seen.get(key) != change.data:
                yield change
        for key in self._seen.keys() - seen.keys():
            yield from _gone(tx, key, self._seen[key])
        self._seen = seen


def caught_up(tx: Tx, since: datetime) -> list[Change]:
    """How runs stand that may have changed since a time, oldest first, for whoever was not there meanwhile."""
    since -= _SKEW
    recent = tx.runs.listed(limit=_BACK)
    ids = {one.run.id for one in recent}
    listed = [*recent, *(one for one in tx.runs.listed(states=_UNENDED, limit=_BACK) if one.run.id not in ids)]
    found = []
    for one in reversed(listed):
        times = [at for at in (one.run.created_at, one.run.started_at, one.run.ended_at) if at is not None]
        if one.run.state not in RUN_ENDS or max(times) >= since:
            found.append(_run_change(one))
    return found


def _run_change(one: ListedRun) -> Change:
    run = one.run
    data = {
        "run_id": run.id, "pipeline": one.pipeline, "batch_id": run.batch_id, "attempt": run.attempt,
        "when": str(one.interval or one.run_key), "state": run.state.value, "created_at": run.created_at,
        "started_at": run.started_at, "ended_at": run.ended_at,
    }  # fmt: skip
    return Change("run", one.pipeline, data)


def _pipelines(tx: Tx) -> Iterator[tuple[tuple[str, str], Change]]:
    for one in tx.definitions.pipelines():
        data = {
            "pipeline": one.name, "paused": one.paused, "definition_id": one.definition_id, "code_version": one.code,
            "active": True,
        }  # fmt: skip
        yield ("pipeline", one.name), Change("pipeline", one.name, data)


def _backfills(tx: Tx) -> Iterator[tuple[tuple[str, str], Change]]:
    for one in tx.backfills.recent(active=True):
        data = {"backfill_id": one.id, "pipeline": one.pipeline, "state": one.state.value}
        yield ("backfill", str(one.id)), Change("backfill", one.pipeline, data)


def _branches(tx: Tx) -> Iterator[tuple[tuple[str, str], Change]]:
    for one in tx.refs.all(states=[RefState.OPEN, RefState.FAILED]):
        data = {"name": one.name, "kind": one.kind.value, "state": one.state.value, "head": one.head}
        yield ("branch", one.name), Change("branch", None, data)


def _streams(tx: Tx, now: datetime) -> Iterator[tuple[tuple[str, str], Change]]:
    told: dict[str, list[ProcessFacts]] = {}
    for found in tx.streams.told():
        one = ProcessFacts.from_json(found)
        told.setdefault(one.stream, []).append(one)
    paused = tx.streams.paused()
    for stream in paused:
        told.setdefault(stream, [])
    for stream, processes in told.items():
        live = [one for one in processes if one.is_live(now)]
        data = {
            "stream": stream, "state": state_of(processes, now, paused=stream in paused), "processes": len(live),
            "messages": sum(one.messages for one in live), "rate": round(sum(one.rate for one in live), 1),
        }  # fmt: skip
        yield ("stream", stream), Change("stream", stream.partition(".")[0], data)


def _gone(tx: Tx, key: tuple[str, str], last: Mapping[str, Any]) -> Iterator[Change]:
    """What is told of something that is not among what was looked at any more."""
    kind, name = key
    if kind == "pipeline":
        yield Change(kind, name, {**last, "active": False})
    elif kind == "backfill":
        found = tx.backfills.get(int(name))
        yield Change(kind, last["pipeline"], {**last, "state": found.state.value if found else "cancelled"})
    elif kind == "branch":
        ref = tx.refs.get(name)
        yield Change(kind, None, {**last, "state": ref.state.value if ref else "dropped"})
    else:
        yield Change(kind, name.partition(".")[0], {**last, "state": "stopped", "processes": 0})
