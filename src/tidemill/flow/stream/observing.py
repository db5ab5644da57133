"""Looks at a stream's process every few seconds, and tells others what it does: see `facts.py`."""

from __future__ import annotations

import logging
from dataclasses import replace

from tidemill.flow.stream.facts import NodeFacts, ProcessFacts, event_time
from tidemill.flow.stream.plan import LOADERS
from tidemill.flow.stream.process import StreamProcess
from tidemill.model.errors import Conflict, TidemillError, Unreachable
from tidemill.plan.stream_steps import time_of
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata

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
        self._recovering: tuple[int, int] | None = None

    def look(self, process: StreamProcess) -> None:
        """Tell what the process does, if it is time to."""
        now = self._clock.monotonic()
        progress = process.recovering
        recovering = None if progress is None else (progress.done, progress.total)
        # The beginning and the end of a recovery are told at once: it may be all that happens for minutes.
        changed = (recovering is None) != (self._recovering is None)
        since = EVERY if self._told_at is None else now - self._told_at
        if since < EVERY and not changed:
            return
        self._recovering = recovering
        self._facts = facts_of(process, self._facts, self._before, since if self._told_at is not None else 0.0)
        self._facts = replace(self._facts, at=self._clock.now(), recovering=recovering)
        self._before = {number: node.count for number, node in self._facts.nodes.items()}
        self._told_at = now
        self._tell()

    def failed(self, error: BaseException) -> None:
        """Tell that the stream has stopped by an error."""
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
        except (Conflict, Unreachable) as error:
            _log.warning("%s: what it told last stays: %s", self._facts.stream, error)

    def _tell(self) -> None:
        facts = self._facts
        try:
            with self._metadata.write() as tx:
                tx.streams.tell(facts.stream, facts.process, facts.at, facts.as_json())
        except (Conflict, Unreachable) as error:  # it is only shown: work goes on
            _log.warning("%s: what it does could not be told: %s", facts.stream, error)


def facts_of(process: StreamProcess, before: ProcessFacts, counts: dict[int, int], seconds: float) -> ProcessFacts:
    """What a process does.

    Args:
        process: at work.
        before: its facts until now; of these stay those that do not change.
        counts: of its nodes, `seconds` ago.
        seconds: 0: nothing is known of rates yet.
    """
    found = {**process.counts.read, **process.rows_out}
    nodes = {
        number: NodeFacts(count, max(0, count - counts.get(number, 0)) / seconds if seconds else 0.0)
        for number, count in found.items()
    }
    for node in process.plan.topology.nodes:
        if node.step is not None and time_of(node.step) is not None:
            marks = [work.task.watermark(node.number) for work in process.works.values() if work.stage == node.stage]
            known = [mark for mark in marks if mark is not None]
            low = event_time(min(known)) if known and len(known) == len(marks) else None
            nodes[node.number] = NodeFacts(watermark=low)
    done = process.counts
    sources = [node for node in process.plan.topology.nodes if node.kind == "source"]
    tasks = [f"{work.stage}.{work.number}" for work in process.works.values()]
    tasks += [f"{LOADERS}.{process.plan.tasks[task][1]}" for task in process.loaders]
    return replace(
        before,
        state="recovering" if process.recovering is not None else "running",
        tasks=tuple(sorted(tasks)),
        messages=done.messages,
        checkpoints=done.checkpoints,
        failed=done.failed,
        late=done.late,
        restarts=done.restarts,
        rate=round(sum(nodes[n.number].rate for n in sources if n.number in nodes), 3),
        nodes=nodes,
        state_bytes=sum(work.kept.size() for work in process.works.values() if work.kept is not None),
    )
