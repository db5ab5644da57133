"""Looks at a stream's process every few seconds, and tells others what it does: see `facts.py`."""

from __future__ import annotations

import logging
from collections.abc import Set
from dataclasses import replace

from tidemill.flow.stream.facts import NodeFacts, ProcessFacts, TaskFacts, event_time, target_of
from tidemill.flow.stream.plan import LOADERS
from tidemill.flow.stream.process import StreamProcess
from tidemill.flow.stream.tally import Key
from tidemill.flow.stream.work import Work
from tidemill.model.errors import Conflict, TidemillError, Unreachable
from tidemill.plan.stream_steps import time_of
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata, Tx
from tidemill.ports.streams import CheckCount

_log = logging.getLogger("tidemill")

#: Seconds between two looks.
EVERY = 5.0


class Observer:
    """Tells of one process's part in one stream.

    Args:
        metadata: where to.
        facts: what does not change: whose, where, since when.
        clock: the time.
    """

    def __init__(self, metadata: Metadata, facts: ProcessFacts, clock: Clock) -> None:
        self._metadata = metadata
        self._facts = facts
        self._clock = clock
        self._told_at: float | None = None
        #: Counts of nodes at the last look, for their rates.
        self._before: dict[int, int] = {}
        #: Who was looked at last: what its checks have found may be told when it has ended.
        self._process: StreamProcess | None = None
        self._recovering: tuple[int, int] | None = None
        self._tasks: Set[int] = frozenset()

    @property
    def facts(self) -> ProcessFacts:
        """What was told last; read it from any thread."""
        return self._facts

    def look(self, process: StreamProcess) -> None:
        """Tell what the process does, if it is time to."""
        self._process = process
        now = self._clock.monotonic()
        progress = process.recovering
        recovering = None if progress is None else (progress.done, progress.total)
        # The beginning and the end of a recovery are told at once: it may be all that happens for minutes. And so is
        # who has which task, for whoever waits for that.
        tasks = process.works.keys() | process.loaders.keys()
        changed = (recovering is None) != (self._recovering is None) or tasks != self._tasks
        since = EVERY if self._told_at is None else now - self._told_at
        if since < EVERY and not changed:
            return
        self._recovering, self._tasks = recovering, tasks
        self._facts = facts_of(process, self._facts, self._before, since if self._told_at is not None else 0.0)
        self._facts = replace(self._facts, at=self._clock.now(), recovering=recovering)
        self._before = {number: node.count for number, node in self._facts.nodes.items()}
        self._told_at = now
        self._tell()

    def failed(self, error: BaseException, process: StreamProcess | None = None) -> None:
        """Tell that the stream has stopped by an error; what its process has done until then is told, too."""
        if process is not None:
            self._facts = facts_of(process, self._facts, {}, 0.0)
        what = str(error) if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"
        now = self._clock.now()
        self._facts = replace(self._facts, state="failed", error=what, error_at=now, at=now, tasks=(), recovering=None)
        self._tell()

    def still_failed(self) -> None:
        """Tell so again while it waits for the next try: others take silence for death."""
        now = self._clock.monotonic()
        if self._told_at is None or now - self._told_at >= EVERY:
            self._told_at = now
            self._facts = replace(self._facts, at=self._clock.now())
            self._tell()

    def ended(self) -> None:
        """The process has ended as it should."""
        try:
            with self._metadata.write() as tx:
                tx.streams.forget(self._facts.stream, self._facts.process)
                counted = self._count(tx)
            self._counted(counted)
        except (Conflict, Unreachable) as error:
            _log.warning("%s: what it told last stays: %s", self._facts.stream, error)

    def _tell(self) -> None:
        facts = self._facts
        try:
            with self._metadata.write() as tx:
                tx.streams.tell(facts.stream, facts.process, facts.at, facts.as_json())
                counted = self._count(tx)
            self._counted(counted)
        except (Conflict, Unreachable) as error:  # it is only shown: work goes on
            _log.warning("%s: what it does could not be told: %s", facts.stream, error)

    def _count(self, tx: Tx) -> dict[Key, tuple[CheckCount, ...]]:
        """Tell what checks have found since the last time."""
        found = {} if self._process is None else dict(self._process.tallies.untold)
        for (task, since, _), counts in found.items():
            tx.streams.count(self._facts.stream, task, since, counts)
        return found

    def _counted(self, told: dict[Key, tuple[CheckCount, ...]]) -> None:
        """The database knows these."""
        for key in told:
            assert self._process is not None
            del self._process.tallies.untold[key]


def facts_of(process: StreamProcess, before: ProcessFacts, counts: dict[int, int], seconds: float) -> ProcessFacts:
    """What a process does.

    Args:
        process: at work.
        before: its facts until now; of these stay those that do not change.
        counts: of its nodes, `seconds` ago.
        seconds: 0: nothing is known of rates yet.
    """
    topology = process.plan.topology
    counted = {**process.counts.read, **process.rows_out}
    nodes: dict[int, NodeFacts] = {}
    for node in topology.nodes:
        reads = process.plan.topic_of(node) if node.kind != "step" else ""
        made = NodeFacts(stage=node.stage, reads=reads, writes=target_of(node))
        if made.reads or made.writes:
            count = counted.get(node.number, 0)
            since = max(0, count - counts.get(node.number, 0))
            nodes[node.number] = replace(made, count=count, rate=since / seconds if seconds else 0.0)
        elif node.step is not None and time_of(node.step) is not None:
            marks = [work.task.watermark(node.number) for work in process.works.values() if work.stage == node.stage]
            known = [mark for mark in marks if mark is not None]
            low = event_time(min(known)) if known and len(known) == len(marks) else None
            nodes[node.number] = replace(made, watermark=low)
    done = process.counts
    sources = [node for node in topology.nodes if node.kind == "source"]
    parts = {f"{work.stage}.{work.number}": _part_of(process, work) for work in process.works.values()}
    tasks = [*parts]
    tasks += [f"{LOADERS}.{process.plan.tasks[task][1]}" for task in process.loaders]
    return replace(
        before,
        state="recovering" if process.recovering is not None else "running",
        tasks=tuple(sorted(tasks)),
        messages=done.messages,
        checkpoints=done.checkpoints,
        failed=done.failed,
        letters=done.letters,
        late=done.late,
        restarts=done.restarts,
        lost=done.lost,
        seconds=done.seconds,
        rate=round(sum(nodes[node.number].rate for node in sources), 3),
        nodes=nodes,
        parts=parts,
        state_bytes=sum(part.state_bytes for part in parts.values()),
    )


def _part_of(process: StreamProcess, work: Work) -> TaskFacts:
    timed = [
        node.number
        for node in process.plan.topology.nodes
        if node.stage == work.stage and node.step is not None and time_of(node.step) is not None
    ]
    marks = [work.task.watermark(number) for number in timed]
    known = [mark for mark in marks if mark is not None]
    return TaskFacts(
        event_time(min(known)) if known and len(known) == len(marks) else None,
        work.kept.size() if work.kept is not None else 0,
        work.task.open_windows(),
    )
