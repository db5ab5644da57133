"""The planner's loop: it asks for the runs that are due, by time, by what was published, by files, by backfills.

    schedules, events, files, backfills -> what is due (plan.due, plan.backfill) -> queued runs, which schedulers claim

Any number of planners may work on one database: what each asks for is unique by its batch, so the second one to come
finds it there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from tidemill.flow.chain import may_step_aside, settled, step_aside, unpublished
from tidemill.model.backfill import Backfill, BackfillState, Policy
from tidemill.model.batch import BatchKey
from tidemill.model.condition import FilesArrive
from tidemill.model.definition import Definition, Schedule
from tidemill.model.errors import Busy, Conflict, Refused, Unreachable
from tidemill.model.place import told
from tidemill.model.run import RUN_ENDS, Order, Run, RunKind, RunState
from tidemill.plan import backfill as backfilling
from tidemill.plan.due import due_for, late_at
from tidemill.plan.partitions import arrived, asset_in, is_whole, names_for, run_key
from tidemill.ports.clock import Clock
from tidemill.ports.definitions import PipelineRecord
from tidemill.ports.metadata import Event, Metadata, Tx

#: The planner looks at the database at least so often, whatever wakes it otherwise.
POLL = timedelta(seconds=5)
#: How often it looks for runs that are late.
_LATE_EVERY = timedelta(seconds=15)
#: After a batch of a chain that took nothing, the next one waits so long: what is wrong may be so for all of them, and
#: the clock of a computer that gives no sign of life may be slow.
_AFTER_FAILURE = timedelta(minutes=1)

_log = logging.getLogger("tidemill")


class Planner:
    """Asks for runs; call `turn` again and again, at the latest at the time that it returns.

    Args:
        metadata: the database.
        clock: the time.
        files: the project's files that match a pattern, each with a stamp by which a change shows.
    """

    def __init__(
        self, metadata: Metadata, clock: Clock, files: Callable[[str], Mapping[str, str]] = lambda _: {}
    ) -> None:
        self._metadata = metadata
        self._clock = clock
        self._files = files
        self._definitions: dict[int, Definition] = {}
        self._late_at: datetime | None = None

    def turn(self) -> tuple[timedelta, bool]:
        """Ask for what is due now.

        Returns:
            How long nothing will be due, unless something wakes the loop; and whether runs were asked for.
        """
        try:
            return self._turn()
        except (Unreachable, Conflict) as error:
            _log.warning("The planner waits: %s", told(error))
            return timedelta(seconds=1), False

    def _turn(self) -> tuple[timedelta, bool]:
        now = self._clock.now()
        with self._metadata.read() as tx:
            due_now = tx.definitions.due(now)
            published = tx.events.pending("published")
            backfills = [one for one in tx.backfills.recent(active=True) if one.state is BackfillState.RUNNING]
            self._learn(tx, (record.definition_id for record in due_now))
            next_at = tx.definitions.next_due()
        asked = 0
        for record in due_now:
            asked += self._look_at(record, now)
        if published:
            asked += self._published(published, now)
        for one in backfills:
            asked += self._go_on(one, now)
        self._look_for_late(now)
        if due_now or asked:
            with self._metadata.read() as tx:
                next_at = tx.definitions.next_due()
        pause = POLL if next_at is None else min(max(next_at - self._clock.now(), timedelta(0)), POLL)
        return pause, asked > 0

    def _learn(self, tx: Tx, ids: Iterable[int]) -> None:
        missing = set(ids) - self._definitions.keys()
        if missing:
            self._definitions |= tx.definitions.get_all(missing)

    # -- schedules

    def _look_at(self, record: PipelineRecord, now: datetime) -> int:
        """Ask for the intervals of one pipeline that are due, and note when to look again."""
        definition = self._definitions[record.definition_id]
        if definition.schedule.files is not None:
            return self._files_for(record, definition, definition.schedule.files, now)
        with self._metadata.write() as tx:
            most = 1 if definition.schedule.continuous else definition.max_active_runs
            room = most - len(tx.runs.under_way(record.name))
            free_at = self._chain_free_at(tx, definition, now) if definition.sequential else now
            if definition.sequential:
                room = min(room, 1 if free_at == now else 0)
            wanted = due_for(definition, now, record.newest, room)
            made, refused = 0, None
            for interval in wanted.intervals:
                try:
                    made += self._ask(tx, record, BatchKey(record.name, interval), RunKind.SCHEDULED, now)
                except Refused as error:
                    refused = error
            newest = wanted.intervals[-1] if wanted.intervals else None
            later = [at for at in (wanted.next_at, free_at) if at is not None and at > now]
            # One that was run already leaves room, and there is no run whose end would tell so.
            next_at = now if made < len(wanted.intervals) else min(later, default=wanted.next_at)
            tx.definitions.advance(record.name, newest, next_at)
        if refused is not None:
            _log.error("%s", told(refused))
        return made

    def _chain_free_at(self, tx: Tx, definition: Definition, now: datetime) -> datetime | None:
        """When the next batch of a bookmark chain may begin (rule 6): those before it are published, or step aside.

        None: not by time alone.
        """
        free_at, aside = now, []
        for batch, last in unpublished(tx, definition.name):
            gone_at = last.ended_at or _silent_at(tx, last)
            if gone_at is None:
                return None
            if gone_at + _AFTER_FAILURE <= now:
                batch, last = settled(tx, batch, last, now)
            if last.state not in RUN_ENDS:
                free_at = max(free_at, now + POLL)
            elif not may_step_aside(batch, last, absorb=definition.absorb, bookmarks_only=definition.bookmarks_only):
                return None
            elif not definition.absorb:
                free_at = max(free_at, gone_at + _AFTER_FAILURE)
            aside.append((batch, last))
        if free_at <= now:
            for batch, last in aside:
                step_aside(tx, batch, last)
        return free_at

    def _ask(
        self,
        tx: Tx,
        record: PipelineRecord,
        key: BatchKey,
        kind: RunKind,
        now: datetime,
        *,
        conf: Mapping[str, object] | None = None,
    ) -> int:
        """Ask for the first run of a batch; one that has a run already is let be."""
        batch = tx.batches.open(key, now)
        if tx.runs.last(batch.id) is not None:
            return 0
        order = Order(record.definition_id, record.code, kind, dict(conf or {}))
        tx.runs.queue(batch.id, order, now)
        return 1

    # -- files

    def _files_for(self, record: PipelineRecord, definition: Definition, wanted: FilesArrive, now: datetime) -> int:
        """Ask for a run for files that are new, or have changed, since the last one."""
        seen = self._files(wanted.pattern)
        made = 0
        with self._metadata.write() as tx:
            known = tx.arrivals.of(record.name)
            new = {path: stamp for path, stamp in seen.items() if known.get(path) != stamp}
            if new:
                text = "\n".join(f"{path} {stamp}" for path, stamp in sorted(new.items()))
                key = BatchKey(record.name, run_key=f"files-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
                made = self._ask(tx, record, key, RunKind.TRIGGERED, now, conf={"files": sorted(new)})
                tx.arrivals.note(record.name, new, now)
            gone = known.keys() - seen.keys()
            if gone:
                tx.arrivals.forget(record.name, sorted(gone))
            tx.definitions.advance(record.name, None, now + wanted.every)
        return made

    # -- assets

    def _published(self, events: Sequence[Event], now: datetime) -> int:
        """Ask for runs of pipelines that wait for what was published, once all that they wait for has been.

        However many publishes are told of at once, a pipeline runs once: it reads what is there.
        """
        # What is told by partitions is for those who wait for partitions.
        assets = {
            str(name): str(event.id)
            for event in events
            for name in event.payload.get("tables", ())
            if name not in event.payload.get("keys", {})
        }
        made = 0
        with self._metadata.write() as tx:
            keyed = any(event.payload.get("keys") for event in events)
            records = [r for r in tx.definitions.pipelines() if not r.paused] if assets or keyed else []
            self._learn(tx, (record.definition_id for record in records))
            for record in records:
                schedule = self._definitions[record.definition_id].schedule
                condition = schedule.on
                if schedule.mappers:
                    made += self._partitions(tx, record, schedule, events, now)
                    continue
                if condition is None or not assets.keys() & set(condition.assets()):
                    continue
                tx.arrivals.note(record.name, {a: assets[a] for a in condition.assets() if a in assets}, now)
                there = tx.arrivals.of(record.name)
                if condition.holds(there):
                    last = max(map(int, there.values()))
                    key = BatchKey(record.name, run_key=f"published-{last}")
                    cause = {"event": last, "assets": sorted(there)}
                    made += self._ask(tx, record, key, RunKind.TRIGGERED, now, conf={"published": cause})
                    tx.arrivals.forget(record.name, sorted(there))
            for event in events:
                tx.events.add("notice", {**event.payload, "event": "published"}, now)
                tx.events.done(event.id, now)
        return made

    def _partitions(
        self, tx: Tx, record: PipelineRecord, schedule: Schedule, events: Sequence[Event], now: datetime
    ) -> int:
        """Ask for a run for each key of a pipeline for which all that it waits for has been told."""
        made = 0
        for event in events:
            date = event.payload.get("date")
            told = None if date is None else datetime.fromisoformat(date)
            pairs = [(a, k) for a, keys in event.payload.get("keys", {}).items() if a in schedule.mappers for k in keys]
            for asset, key in pairs:
                try:
                    new = arrived(asset, key, schedule)
                except ValueError as error:
                    _log.warning('The partition "%s" of %s is not for %s: %s', key, asset, record.name, error)
                    continue
                tx.arrivals.note(record.name, dict.fromkeys(new, str(event.id)), now)
                for own in dict.fromkeys(new.values()):
                    there = tx.arrivals.of(record.name)
                    names = names_for(own, there)
                    if not is_whole(schedule, own, names):
                        continue
                    last = max(int(there[name]) for name in names)
                    cause = {"event": last, "assets": sorted({asset_in(name) for name in names})}
                    conf = {"published": cause, "partition": run_key(schedule, own, asset, told).as_json()}
                    batch = BatchKey(record.name, run_key=f"partition-{own}-{last}")
                    made += self._ask(tx, record, batch, RunKind.TRIGGERED, now, conf=conf)
                    tx.arrivals.forget(record.name, names)
        return made

    # -- backfills

    def _go_on(self, one: Backfill, now: datetime) -> int:
        """Begin the next runs of a backfill, or note that it has ended."""
        with self._metadata.write() as tx:
            record = tx.definitions.pipeline(one.pipeline)
            steps = tx.backfills.steps(one.id)
            states = tx.runs.states(step.run_id for step in steps if step.run_id is not None)
            over = backfilling.ended(backfilling.progress(steps, states))
            if over is not None or record is None:
                tx.backfills.move(one.id, over or BackfillState.FAILED, now)
                return 0
            order = Order(record.definition_id, record.code, RunKind.BACKFILL, one.conf, one.id, one.tasks)
            made = 0
            for step in backfilling.next_steps(steps, states, one.concurrency):
                batch = tx.batches.open(BatchKey(one.pipeline, step.interval), now)
                last = tx.runs.last(batch.id)
                if last is not None and last.state is RunState.SUCCESS and one.policy is not Policy.ALL:
                    tx.backfills.started(one.id, step.position, last.id)  # somebody has run it since
                    made += 1
                    continue
                try:
                    run = tx.runs.queue(batch.id, order, now)
                except Busy:
                    break  # somebody runs that interval right now: after him
                tx.backfills.started(one.id, step.position, run.id)
                made += 1
        return made

    # -- lateness

    def _look_for_late(self, now: datetime) -> None:
        """Tell of runs that have not ended when they should have; each once."""
        if self._late_at is not None and timedelta(0) <= now - self._late_at < _LATE_EVERY:
            return
        self._late_at = now
        with self._metadata.read() as tx:
            open_ = [run for run in tx.runs.under_way() if run.late_at is None]
            self._learn(tx, (run.definition_id for run in open_))
        for run in open_:
            definition = self._definitions[run.definition_id]
            at = late_at(definition, run.interval, run.created_at)
            if definition.deadline is not None and at is not None and at <= now:
                about = {"pipeline": run.pipeline, "batch_id": run.batch_id, "run_id": run.run_id}
                with self._metadata.write() as tx:
                    tx.runs.late(run.run_id, now)
                    tx.events.add("late", {**about, "deadline": definition.deadline.total_seconds()}, now)


def _silent_at(tx: Tx, live: Run) -> datetime | None:
    """When a run by hand gives no sign of life any more; None: schedulers drive it, and another goes on with it."""
    return live.lease_until if tx.runs.order(live.id) is None else None
