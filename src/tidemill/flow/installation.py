"""Port `installation` by the project's own metadata store: what commands ask where the project is.

commands -> Installation -> facts of runs and pipelines, `flow/control.py`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.flow import control, questions
from tidemill.flow.facts.backfills import backfill_facts, found_backfill
from tidemill.flow.facts.pipelines import error_facts, pipeline_facts, pipelines_facts, schedule_text
from tidemill.flow.facts.runs import listed_run, run_facts, task_facts
from tidemill.model.access import LOCAL
from tidemill.model.backfill import BackfillState
from tidemill.model.batch import Interval
from tidemill.model.errors import UnknownName
from tidemill.model.graph import TaskKey
from tidemill.model.run import RUN_ENDS, RunKind, RunState, TaskState
from tidemill.plan.due import upcoming
from tidemill.ports.asked import AskedLake, AskedStreams, Facts
from tidemill.ports.clock import Clock
from tidemill.ports.installation import AskedLogs, Declared, ToClear, ToFill
from tidemill.ports.metadata import Metadata


@dataclass(frozen=True, slots=True)
class OwnPipelines:
    """Port `AskedPipelines`.

    Args:
        metadata: the database.
        clock: the time.
        ring: wakes schedulers.
        read_files: reads the project's files where nothing follows them: what is told must be what they say.
    """

    metadata: Metadata
    clock: Clock
    ring: Callable[[], None]
    read_files: Callable[[], None]

    def listed(self, strip: int) -> Facts:
        """All of them."""
        self.read_files()
        now = self.clock.now()
        with self.metadata.read() as tx:
            errors, records = tx.definitions.errors(), tx.definitions.pipelines()
            unread = {error.file for error in errors}
            listed = pipelines_facts(tx, records, unread, now, strip=strip)
        return {"pipelines": listed, "errors": [error_facts(error) for error in errors]}

    def one(self, name: str, strip: int) -> Facts:
        """One of them."""
        self.read_files()
        with self.metadata.read() as tx:
            record, _ = control.known(tx, name)
            errors = [error for error in tx.definitions.errors() if error.file == record.file]
            unread = {error.file for error in errors}
            about = pipeline_facts(tx, record, unread, self.clock.now(), strip=strip)
        return {**about, "errors": [error_facts(error) for error in errors]}

    def declared(self, name: str) -> Declared:
        """By its newest definition."""
        self.read_files()
        with self.metadata.read() as tx:
            record, definition = control.known(tx, name)
        return Declared(definition, record.paused, record.newest, record.seen_at)

    def upcoming(self, name: str, limit: int) -> Facts:
        """Its next runs."""
        found = self.declared(name)
        soon = upcoming(found.definition, self.clock.now(), found.newest, limit)
        listed = [{"at": at, "interval": [one.start, one.end]} for at, one in soon]
        schedule = schedule_text(found.definition)
        return {"pipeline": name, "paused": found.paused, "schedule": schedule, "next": listed}

    def pause(self, names: Sequence[str], paused: bool) -> None:
        """All, or none."""
        self.read_files()
        with self.metadata.write() as tx:
            for name in names:
                tx.definitions.pause(name, paused, self.clock.now())
        self.ring()


@dataclass(frozen=True, slots=True)
class OwnRuns:
    """Port `AskedRuns`; the arguments are those of `OwnPipelines`."""

    metadata: Metadata
    clock: Clock
    ring: Callable[[], None]

    def listed(self, pipeline: str | None, state: RunState | None, limit: int | None) -> list[Facts]:
        """Newest first."""
        with self.metadata.read() as tx:
            found = tx.runs.listed(
                pipelines=[pipeline] if pipeline else None, states=[state] if state else None, limit=limit
            )
            listed = [run_facts(one) for one in found]
            if pipeline is not None and not listed:
                known = {batch.pipeline for batch in tx.batches.recent()}
                known |= {record.name for record in tx.definitions.pipelines()}
                if pipeline not in known:
                    raise UnknownName.of("pipeline", pipeline, known)
        return listed

    def one(self, run_id: int) -> Facts:
        """With its tasks and tries."""
        with self.metadata.read() as tx:
            about = run_facts(listed_run(tx, run_id))
            asked = [one.facts() for one in questions.open_questions(tx, run_id)]
            return {**about, **task_facts(tx.runs.tasks(run_id), tx.runs.past_tries(run_id)), "questions": asked}

    def has_ended(self, run_id: int) -> bool:
        """By the run alone."""
        with self.metadata.read() as tx:
            return listed_run(tx, run_id).run.state in RUN_ENDS

    def begin(
        self, pipeline: str, *, interval: Interval | None, key: str | None, conf: Mapping[str, Any],
        only: Sequence[str], refetch: bool = False,
    ) -> Facts:  # fmt: skip
        """For a scheduler to run."""
        now = self.clock.now()
        kind = RunKind.REFETCH if refetch else RunKind.MANUAL
        run = control.trigger(
            self.metadata, pipeline, now, interval=interval, run_key=key, conf=conf, only=only, kind=kind
        )
        self.ring()
        return self.one(run.id)

    def cancel(self, run_id: int) -> None:
        """Ask for it."""
        control.cancel(self.metadata, run_id, self.clock.now())
        self.ring()

    def preview_clearing(self, run_id: int, tasks: Sequence[str], *, downstream: bool) -> ToClear:
        """What `clear` would do."""
        found = control.preview_clearing(self.metadata, run_id, tasks, downstream=downstream)
        attempt = found.run.attempt + (not found.same_attempt)
        return ToClear(run_id, found.tasks, attempt, found.same_attempt, found.why)

    def clear(self, what: ToClear) -> tuple[int, int]:
        """What was shown."""
        clearing = control.preview_clearing(self.metadata, what.run_id, what.tasks, downstream=False)
        run = control.clear(self.metadata, clearing, self.clock.now())
        self.ring()
        return run.id, run.attempt

    def mark(self, run_id: int, key: TaskKey, state: TaskState) -> tuple[int, int]:
        """And let what depends on it be judged anew."""
        run = control.mark(self.metadata, run_id, key, state, self.clock.now())
        self.ring()
        return run.id, run.attempt

    def questions(self) -> list[Facts]:
        """Oldest first."""
        with self.metadata.read() as tx:
            return questions.listed_questions(tx)

    def answer(self, run_id: int, key: TaskKey, chosen: Sequence[str], form: Mapping[str, Any]) -> Facts:
        """By whoever is at this computer."""
        by, now = LOCAL.name, self.clock.now()
        made = questions.answer(self.metadata, run_id, key, chosen, form, by, now, anyone=True)
        self.ring()
        return {**made.as_json(), "at": made.at}


@dataclass(frozen=True, slots=True)
class OwnBackfills:
    """Port `AskedBackfills`; the arguments are those of `OwnPipelines`."""

    metadata: Metadata
    clock: Clock
    ring: Callable[[], None]

    def listed(self, limit: int | None) -> list[Facts]:
        """Newest first."""
        with self.metadata.read() as tx:
            found = [backfill_facts(tx, one) for one in tx.backfills.recent(limit=limit)]
        return [{name: value for name, value in one.items() if name != "intervals"} for one in found]

    def one(self, backfill_id: int) -> Facts:
        """With its intervals."""
        with self.metadata.read() as tx:
            return backfill_facts(tx, found_backfill(tx, backfill_id))

    def preview(self, what: ToFill) -> list[Interval]:
        """What it would run."""
        return control.preview_backfill(
            self.metadata, what.pipeline, what.when, policy=what.policy, newest_first=what.newest_first
        )

    def begin(self, what: ToFill, conf: Mapping[str, Any]) -> tuple[int, list[Interval]]:
        """For a scheduler to run."""
        intervals = self.preview(what)
        made = control.start_backfill(
            self.metadata, what.pipeline, intervals, self.clock.now(), policy=what.policy,
            concurrency=what.concurrency, tasks=what.tasks, conf=conf,
        )  # fmt: skip
        self.ring()
        return made.id, intervals

    def move(self, backfill_id: int, state: BackfillState) -> None:
        """Cancelled, its runs are stopped, too."""
        now = self.clock.now()
        if state is BackfillState.CANCELLED:
            control.cancel_backfill(self.metadata, backfill_id, now)
        else:
            with self.metadata.write() as tx:
                tx.backfills.move(backfill_id, state, now)
        self.ring()


@dataclass(frozen=True, slots=True)
class OwnInstallation:
    """Port `Installation` of the project itself."""

    pipelines: OwnPipelines
    runs: OwnRuns
    backfills: OwnBackfills
    lake: AskedLake
    streams: AskedStreams
    open_logs: Callable[[], AskedLogs]

    @property
    def logs(self) -> AskedLogs:
        """Opened when they are asked for."""
        return self.open_logs()


def own_installation(
    metadata: Metadata, clock: Clock, logs: Callable[[], AskedLogs], ring: Callable[[], None],
    read_files: Callable[[], None], lake: AskedLake, streams: AskedStreams,
) -> OwnInstallation:  # fmt: skip
    """The project's own installation; `logs` opens those of tasks, for the rest see `OwnPipelines`."""
    return OwnInstallation(
        OwnPipelines(metadata, clock, ring, read_files), OwnRuns(metadata, clock, ring),
        OwnBackfills(metadata, clock, ring), lake, streams, logs,
    )  # fmt: skip
