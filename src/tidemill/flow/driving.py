"""A run in hand: its book, and what was decided about it and is not recorded yet. Part of the scheduler's loop."""

from __future__ import annotations

from datetime import datetime

from tidemill.model.definition import Definition, Kind
from tidemill.model.graph import Node, TaskKey
from tidemill.model.instance import Change, Report
from tidemill.model.run import RunState, TaskState
from tidemill.plan.decide import LIVE, RunBook
from tidemill.ports.runstore import NO_PAST, DrivenRun, Progress


class Driven:
    """A run that a scheduler drives.

    Args:
        run: as it was recorded when it was taken on.
        definition: the one that it began with.
    """

    def __init__(self, run: DrivenRun, definition: Definition) -> None:
        self.run = run
        self.definition = definition
        graph = definition.graph.only(run.only) if run.only else definition.graph
        self.book = RunBook(graph, f"run {run.id}", run.instances, past=run.past)
        self.past = set(run.past)
        self.changes: list[Change] = []
        self.reports: list[tuple[TaskKey, int, Report]] = []
        self.wishes: list[int] = []
        self.stop: list[TaskKey] = []
        self.end: RunState | None = None
        self.error: str | None = None
        #: It is stopped because it took too long.
        self.timed_out = False
        #: How many jobs to publish it were handed out; 0: its tasks have not ended.
        self.publishes = 0
        self.publish_again = False
        #: Something other than the start of a try is to be recorded.
        self._urgent = False

    @property
    def name(self) -> str:
        """The pipeline."""
        return self.definition.name

    @property
    def waits_for_past(self) -> bool:
        """Whether tasks wait for the run of the interval before."""
        if self.past >= NO_PAST:
            return False
        return any(node.waits_for_past for node in self.book.graph.nodes.values())

    @property
    def busy(self) -> bool:
        """Whether a worker has something of it."""
        return bool(self.publishes) or any(one.state in LIVE for one in self.book.instances.values())

    @property
    def changed(self) -> bool:
        """Whether there is something to record."""
        return bool(self.changes or self.wishes or self.end is not None)

    @property
    def urgent(self) -> bool:
        """Whether it must be recorded before anything else happens."""
        return bool(self._urgent or self.wishes or self.stop or self.publish_again or self.end is not None)

    @property
    def defers(self) -> bool:
        """Whether an instance begins to wait in the shared loop."""
        return any(change.after.state is TaskState.DEFERRED for change in self.changes)

    def node(self, key: TaskKey) -> Node:
        """The node of an instance."""
        return self.book.graph.nodes[key[0]]

    def note(self, change: Change) -> None:
        """Keep a change for the record."""
        self.changes.append(change)
        state = change.after.state
        self._urgent = self._urgent or state is not TaskState.RUNNING
        if state is TaskState.FAILED and self.error is None:
            index = "" if change.key[1] < 0 else f"[{change.key[1]}]"
            self.error = f"Task {change.key[0]}{index} failed: {change.error or 'no reason was given'}"

    def progress(self, now: datetime) -> Progress:
        """All that was decided since the last record."""
        end, error = self.end, self.error
        if self.timed_out and end is RunState.CANCELLED:
            end, error = RunState.FAILED, f"It took longer than {self.definition.run_timeout}."
        return Progress(
            self.run.id,
            self.run.fence,
            now,
            tuple(self.changes),
            tuple(self.reports),
            tuple(self.wishes),
            end,
            publish=self.definition.kind is Kind.TABLES,
            error=error if end in (RunState.FAILED, RunState.CANCELLED) else None,
        )

    def recorded(self) -> None:
        """All of it is written."""
        self.changes, self.reports, self.wishes, self.stop = [], [], [], []
        self._urgent = False
        if self.publishes:
            self.end = None
