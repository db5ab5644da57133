"""What people ask of runs: begin one, clear, mark, stop, backfill. Commands and pages call it; schedulers carry it out.

Each first shows what it would do: `preview` functions read, and decide with the same pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidemill.flow.chain import absorbed
from tidemill.flow.facts.batches import found_batch
from tidemill.model.backfill import Backfill, BackfillState, Policy
from tidemill.model.batch import Batch, BatchKey, BatchState, Interval
from tidemill.model.definition import Definition, Kind
from tidemill.model.errors import Refused, UnknownName, UserError
from tidemill.model.graph import WHOLE, TaskKey
from tidemill.model.instance import Cleared, Marked
from tidemill.model.pipeline import TaskKind
from tidemill.model.run import RUN_ENDS, Order, Run, RunKind, RunState, TaskState
from tidemill.plan import backfill as backfilling
from tidemill.plan.schedule import interval_at, key_of_moment, parse_intervals
from tidemill.ports.definitions import PipelineRecord
from tidemill.ports.metadata import Metadata, Tx
from tidemill.ports.runstore import wish_json

#: Intervals of one backfill: more is most often a slip in the year.
MOST_INTERVALS = 100_000


@dataclass(frozen=True, slots=True)
class Clearing:
    """What clearing tasks of a run does.

    Args:
        run: it.
        tasks: that run again, in the order of the graph.
        same_attempt: the run has not ended: it goes on; otherwise the next attempt at its batch begins.
        why: tasks that run again though nobody asked for them: why so.
    """

    run: Run
    tasks: tuple[str, ...]
    same_attempt: bool
    why: str = ""


def known(tx: Tx, pipeline: str) -> tuple[PipelineRecord, Definition]:
    """A pipeline that is there, and its newest definition. Raises UnknownName."""
    record = tx.definitions.pipeline(pipeline)
    if record is None or not record.active:
        raise UnknownName.of("pipeline", pipeline, (one.name for one in tx.definitions.pipelines()))
    definition = tx.definitions.get(record.definition_id)
    assert definition is not None
    return record, definition


def trigger(
    metadata: Metadata,
    pipeline: str,
    now: datetime,
    *,
    interval: Interval | None = None,
    run_key: str | None = None,
    conf: Mapping[str, Any] | None = None,
    only: Iterable[str] = (),
    kind: RunKind = RunKind.MANUAL,
) -> Run:
    """Ask schedulers for a run of a batch: its first attempt, or all of it again.

    Args:
        metadata: the database.
        pipeline: its name.
        now: the time.
        interval: of the batch; without one the run key, or the time, tells it from others.
        run_key: see there. The same key is the same batch (rule 1).
        conf: parameters.
        only: tasks that it is restricted to.
        kind: why.

    Raises:
        UnknownName: there is no such pipeline, or task.
        Busy: the batch has a run that has not ended.
        Refused: a later batch of its chain has passed it, or it has no sources to ask again.
    """
    with metadata.write() as tx:
        record, definition = known(tx, pipeline)
        check_sources(definition, kind)
        chosen = chosen_tasks(definition, only) if only else frozenset()
        if interval is None and run_key is None:
            run_key = f"{kind}-{now:%Y-%m-%dT%H:%M:%S.%f}"
        batch = tx.batches.open(BatchKey(pipeline, interval, None if interval else run_key), now)
        if batch.state is BatchState.ABSORBED:
            raise absorbed(batch)
        order = Order(record.definition_id, record.code, kind, dict(conf or {}), only=tuple(sorted(chosen)))
        return tx.runs.queue(batch.id, order, now)


def preview_replay(metadata: Metadata, batch_id: int, kind: RunKind = RunKind.MANUAL) -> tuple[Batch, Order]:
    """The batch, and what `replay` would ask schedulers for.

    Args:
        metadata: the database.
        batch_id: the batch.
        kind: REFETCH: its sources are asked again; otherwise only for what is not archived.

    Raises:
        UnknownName: there is no such batch, or its pipeline is gone.
        Refused: a later batch of its chain has passed it, or it has no sources to ask again.
    """
    with metadata.read() as tx:
        return _again(tx, batch_id, kind)


def replay(metadata: Metadata, batch_id: int, now: datetime, kind: RunKind = RunKind.MANUAL) -> Run:
    """Ask schedulers for all of a batch again: today's code, the parameters of its last run.

    Raises:
        UnknownName, Refused: see `preview_replay`.
        Busy: the batch has a run that has not ended.
    """
    with metadata.write() as tx:
        _, order = _again(tx, batch_id, kind)
        return tx.runs.queue(batch_id, order, now)


def _again(tx: Tx, batch_id: int, kind: RunKind) -> tuple[Batch, Order]:
    batch = found_batch(tx, batch_id)
    if batch.state is BatchState.ABSORBED:
        raise absorbed(batch)
    record, definition = known(tx, batch.pipeline)
    check_sources(definition, kind)
    last = tx.runs.last(batch_id)
    before = tx.runs.order(last.id) if last is not None else None
    return batch, Order(record.definition_id, record.code, kind, before.conf if before is not None else {})


def check_sources(definition: Definition, kind: RunKind) -> None:
    """Raise Refused for a run that is to ask sources again, of a pipeline that has none."""
    if kind is RunKind.REFETCH and definition.kind is not Kind.TABLES:
        raise Refused(
            f'DAG "{definition.name}" has no sources that could be asked again: its tasks fetch for themselves.',
            where=definition.place,
            hint="run it again",
        )


# -- clearing and marking


def preview_clearing(metadata: Metadata, run_id: int, tasks: Sequence[str], *, downstream: bool = True) -> Clearing:
    """What `clear` would do.

    Args:
        metadata: the database.
        run_id: the run: the newest attempt at its batch.
        tasks: ids; none: every task that failed, or could not run because of that.
        downstream: also all that depends on them.

    Raises:
        UnknownName: there is no such run, or task.
        Refused: a newer attempt is there, or no scheduler drives such runs.
    """
    with metadata.read() as tx:
        run, order, definition = _of_scheduler(tx, run_id)
        states = {task.task: task.state for task in tx.runs.tasks(run_id)}
        published = run.state is RunState.SUCCESS
    ids = list(definition.graph.nodes)
    if not tasks:
        bad = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
        tasks = [id_ for id_ in ids if states.get(id_) in bad or id_ not in states] or ids
    chosen = chosen_tasks(definition, tasks) if downstream else _named(definition, tasks)
    why = ""
    if definition.kind is Kind.TABLES and run.state in RUN_ENDS and not published:
        # What the failed attempt wrote is on its branch only, and the next one forks `main`.
        more = {id_ for id_ in ids if not id_.startswith(f"{TaskKind.EXTRACT}.")} - chosen
        why = "their tables are on the failed branch; what was archived is not asked for again" if more else ""
        chosen |= more
    if order.only:
        chosen &= set(order.only)
    return Clearing(run, tuple(id_ for id_ in ids if id_ in chosen), run.state not in RUN_ENDS, why)


def clear(metadata: Metadata, clearing: Clearing, now: datetime) -> Run:
    """Let tasks run again: within the run while it goes on, otherwise by the next attempt (rule 11).

    Raises:
        Busy: the run goes on in the meantime.
    """
    run = clearing.run
    with metadata.write() as tx:
        if clearing.same_attempt:
            _wish(tx, run.id, Cleared(clearing.tasks), now)
            return run
        _, order, definition = _of_scheduler(tx, run.id)
        keep = definition.graph.nodes.keys() - set(clearing.tasks)
        return tx.runs.queue(run.batch_id, order, now, keep=keep)


def mark(metadata: Metadata, run_id: int, key: TaskKey, state: TaskState, now: datetime) -> Run:
    """Let a task count as ended, whatever became of it; what depends on it is judged anew.

    Raises:
        UnknownName: there is no such run, or task.
        UserError: the state is none that a person may choose.
    """
    if state not in (TaskState.SUCCESS, TaskState.FAILED, TaskState.SKIPPED):
        raise UserError(f'A task cannot be marked "{state}".', hint="success, failed or skipped")
    clearing = preview_clearing(metadata, run_id, [key[0]])
    run = clearing.run
    if not clearing.same_attempt:
        run = clear(metadata, clearing, now)
    with metadata.write() as tx:
        _wish(tx, run.id, Marked(key, state), now)
    return run


def cancel(metadata: Metadata, run_id: int, now: datetime) -> Run:
    """Ask for a run to be stopped; its branch stays.

    Raises:
        UnknownName: there is no such run.
        Refused: it has ended, or no scheduler drives it.
    """
    with metadata.write() as tx:
        run = _run(tx, run_id)
        if not tx.runs.cancel(run_id, now):
            raise _not_cancelled(run)
    return run


def preview_cancelling(metadata: Metadata, run_id: int) -> Run:
    """The run that `cancel` would ask to stop. Raises UnknownName, Refused."""
    with metadata.read() as tx:
        run = _run(tx, run_id)
        if run.state in RUN_ENDS or tx.runs.order(run_id) is None:
            raise _not_cancelled(run)
    return run


def _not_cancelled(run: Run) -> Refused:
    ended = run.state in RUN_ENDS
    what = f"has ended: {run.state}" if ended else f"is driven by {run.holder}, which is no scheduler"
    return Refused(f"Run {run.id} {what}.", hint=f"tidemill runs show {run.id}")


# -- backfills


def preview_backfill(
    metadata: Metadata, pipeline: str, when: str, *, policy: Policy = Policy.MISSING, newest_first: bool = False
) -> list[Interval]:
    """The intervals that a backfill would run, in order.

    Args:
        metadata: the database.
        pipeline: its name.
        when: a date or a range, `2013-01-01..2013-01-31`, both ends included.
        policy: which of the range.
        newest_first: the order.

    Raises:
        UserError: the pipeline has no timetable, the range is none, or is too long.
        Refused: a source of it goes on from a bookmark (rule 6).
    """
    with metadata.read() as tx:
        _, definition = known(tx, pipeline)
        timetable = definition.schedule.timetable
        if definition.sequential:
            raise Refused(
                f'Pipeline "{pipeline}" cannot be filled back: a source of it goes on from a bookmark.',
                where=definition.place,
                hint="tidemill replay BATCH runs a batch again from its archived input",
            )
        if timetable is None:
            raise UserError(
                f'Pipeline "{pipeline}" has no intervals: it does not run by time.',
                where=definition.place,
                hint=f"tidemill run {pipeline} KEY",
            )
        intervals = parse_intervals(when, timetable, definition.start)
        start, end = definition.start, definition.end
        intervals = [i for i in intervals if (start is None or i.start >= start) and (end is None or i.end <= end)]
        if not intervals or len(intervals) > MOST_INTERVALS:
            limits = f"{start or '...'} .. {end or '...'}"
            raise UserError(f'"{when}" means {len(intervals):,} intervals of "{pipeline}".', hint=f"within {limits}")
        seen = tx.runs.last_of(pipeline, intervals[0].start, intervals[-1].end)
    return backfilling.chosen(intervals, seen, policy, newest_first=newest_first)


def start_backfill(
    metadata: Metadata,
    pipeline: str,
    intervals: Sequence[Interval],
    now: datetime,
    *,
    policy: Policy = Policy.MISSING,
    concurrency: int = 1,
    tasks: Iterable[str] = (),
    conf: Mapping[str, Any] | None = None,
) -> Backfill:
    """Begin a backfill of these intervals, in this order.

    Raises:
        UnknownName: there is no such pipeline, or task.
        UserError: no interval, or a concurrency below 1.
    """
    if not intervals:
        raise UserError("There is nothing to fill back.", hint="--policy failed, or --policy all")
    if concurrency < 1:
        raise UserError(f"A backfill cannot run {concurrency} at a time.", hint="--concurrency 1")
    with metadata.write() as tx:
        _, definition = known(tx, pipeline)
        chosen = sorted(chosen_tasks(definition, tasks)) if tasks else ()
        return tx.backfills.add(
            pipeline, intervals, now, policy=policy, concurrency=concurrency, tasks=chosen, conf=conf
        )


def cancel_backfill(metadata: Metadata, backfill_id: int, now: datetime) -> None:
    """End a backfill, and stop what of it is under way. Raises UnknownName, Refused."""
    with metadata.write() as tx:
        tx.backfills.move(backfill_id, BackfillState.CANCELLED, now)
        steps = [step.run_id for step in tx.backfills.steps(backfill_id) if step.run_id is not None]
        for run_id, state in tx.runs.states(steps).items():
            if state not in RUN_ENDS:
                tx.runs.cancel(run_id, now)


# -- what they share


def interval_of(definition: Definition, moment: datetime) -> Interval:
    """The data interval of a pipeline that holds a moment. Raises UserError."""
    if definition.schedule.timetable is None:
        raise UserError(f'Pipeline "{definition.name}" does not run by time.', where=definition.place)
    return interval_at(definition.schedule.timetable, moment, definition.start)


def key_at(definition: Definition, moment: datetime) -> BatchKey:
    """The batch of a pipeline at a moment: of the interval that holds it, or by it as run key if none runs by time."""
    if definition.schedule.timetable is None:
        return BatchKey(definition.name, run_key=key_of_moment(moment))
    return BatchKey(definition.name, interval_of(definition, moment))


def _run(tx: Tx, run_id: int) -> Run:
    run = tx.runs.get(run_id)
    if run is None:
        raise UnknownName.of("run", str(run_id), (str(one.id) for one in tx.runs.recent(limit=50)))
    return run


def _of_scheduler(tx: Tx, run_id: int) -> tuple[Run, Order, Definition]:
    """A run, what schedulers are asked for with its next attempt, and the definition of that."""
    run = _run(tx, run_id)
    last = tx.runs.last(run.batch_id)
    if last is not None and last.id != run.id:
        raise Refused(
            f"Run {run_id} is attempt {run.attempt} at batch {run.batch_id}; attempt {last.attempt} came after it.",
            hint=f"run {last.id}",
        )
    order = tx.runs.order(run_id)
    if order is None:
        raise Refused(
            f"Run {run_id} was begun by hand, without a scheduler.", hint=f"tidemill replay {run.batch_id} --from TASK"
        )
    if run.state in RUN_ENDS:
        # The next attempt is by today's code: what was wrong with it may be mended by now.
        batch = tx.batches.get(run.batch_id)
        if batch is not None and batch.state is BatchState.ABSORBED:
            raise absorbed(batch)
        record = tx.definitions.pipeline(batch.pipeline) if batch is not None else None
        if record is not None and record.active:
            order = replace(order, definition_id=record.definition_id, code=record.code)
    definition = tx.definitions.get(order.definition_id)
    assert definition is not None
    return run, order, definition


def _named(definition: Definition, tasks: Iterable[str]) -> set[str]:
    """Tasks by id, or all of a group, or all of a table. Raises UnknownName."""
    found: set[str] = set()
    ids = definition.graph.nodes
    for name in tasks:
        inside = {id_ for id_, info in definition.tasks.items() if name in info.group}
        if definition.kind is Kind.TABLES:
            inside |= {id_ for id_ in ids if id_.partition(".")[2] == name}
        if name in ids:
            inside.add(name)
        if not inside:
            raise UnknownName.of("task", name, ids, where=definition.place)
        found |= inside
    return found


def chosen_tasks(definition: Definition, tasks: Iterable[str]) -> set[str]:
    """Tasks by id, group or table, with all that depends on them. Raises UnknownName."""
    named = _named(definition, tasks)
    return named | definition.graph.below(named)


def _wish(tx: Tx, run_id: int, event: Cleared | Marked, now: datetime) -> None:
    tx.events.add("wish", {**wish_json(event), "run_id": run_id}, now)


def whole(task: str, index: int | None) -> TaskKey:
    """The key of a task, or of one instance of a mapped one."""
    return (task, WHOLE if index is None else index)
