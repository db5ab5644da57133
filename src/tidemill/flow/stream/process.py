"""One process's part in a stream: it joins the group, makes its tasks, feeds them, and commits checkpoints.

    member -> tasks come and go          writer <- results, blocks for other stages, changelogs, dead letters
    reader -> messages -> codecs -> tasks -> outcome --'         |
                                                          commit: all of it, with the positions, or nothing

A checkpoint is the only moment at which anything counts. When one fails, all that was done since the last one is
thrown away: tasks are made again of their stores and changelogs, and the messages are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tidemill.flow.stream.letters import Read, letter_headers
from tidemill.flow.stream.outlets import Sinks
from tidemill.flow.stream.plan import LOADERS, StreamPlan
from tidemill.flow.stream.recovery import Recovering
from tidemill.flow.stream.silence import Silence
from tidemill.flow.stream.work import Work, WorkMaker, inputs_of
from tidemill.model.errors import Conflict, RunFailed, Unreachable
from tidemill.plan.topology import Node
from tidemill.ports.clock import Clock
from tidemill.ports.codec import Codec
from tidemill.ports.stream_engine import Failure, Outcome
from tidemill.ports.topic import Member, Messages, Partition, Position, Reader, Topics, Writer

_log = logging.getLogger("tidemill")

#: Messages in one turn of the loop, at most: enough for Polars to be fast, few enough to see time pass.
LIMIT = 50_000
#: A turn waits at most so long for messages, in seconds: tasks come and go, checkpoints fall due.
WAIT = 0.1
#: Seconds before a new try, after a broker or a database did not answer.
AGAIN = 1.0


@dataclass(slots=True)
class Counts:
    """What a process has done since it began."""

    messages: int = 0
    checkpoints: int = 0
    failed: int = 0
    late: int = 0
    restarts: int = 0
    #: Messages that were read for sources and exchanges, by their nodes.
    read: dict[int, int] = field(default_factory=dict)


class Loader(Protocol):
    """What brings rows into a table, while it is started."""

    error: BaseException | None

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


class StreamProcess:
    """See the module. Call `run`, or `turn` again and again and `close` at the end.

    Args:
        plan: the stream.
        topics: the broker.
        maker: makes tasks.
        codecs: of sources, by node.
        outlets: the sinks.
        loader: makes what loads a table's rows.
        clock: the time.
        identity: names this process; a later one of that name fences it.
        begin: where to begin in topics that the group has not read yet: by topic, first offsets.
    """

    def __init__(
        self,
        plan: StreamPlan,
        topics: Topics,
        maker: WorkMaker,
        codecs: Mapping[int, Codec],
        outlets: Sinks,
        loader: Callable[[Node], Loader],
        clock: Clock,
        identity: str,
        begin: Callable[[str], tuple[int, ...]] | None = None,
    ) -> None:
        self.plan = plan
        self.counts = Counts()
        self._topics = topics
        self._maker = maker
        self._codecs = codecs
        self._outlets = outlets
        self._loader = loader
        self._clock = clock
        self._identity = identity
        self._begin = begin
        #: Called in each turn, and while state is recovered.
        self.looked_at: Callable[[StreamProcess], None] = lambda _: None
        self._tasks = plan.tasks
        self.works: dict[int, Work] = {}
        self.loaders: dict[int, Loader] = {}
        #: The recovery that is under way.
        self.recovering: Recovering | None = None
        self._by_partition: dict[Partition, Work] = {}
        self._wanted: set[int] = set()
        self._read = Read()
        self._silence = Silence()
        self._committed_at = clock.monotonic()
        self._since = 0
        self._dirty = False
        self._number = 0
        self._member: Member | None = None
        self._reader: Reader | None = None
        self._writer: Writer | None = None

    @property
    def rows_out(self) -> Mapping[int, int]:
        """How many rows have gone to each sink, by its node."""
        return self._outlets.rows

    # The loop

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until it is time to stop; what was done counts then.

        Raises:
            RunFailed: a row could not be taken, and the stream is to stop at such.
        """
        try:
            while not stopping():
                try:
                    self.turn()
                except (Conflict, Unreachable) as error:
                    _log.warning("%s: %s; going back to the last checkpoint.", self.plan.name, error)
                    self.counts.restarts += 1
                    self._let_go()
                    self._clock.sleep(AGAIN)
            self.checkpoint()
        finally:
            self.close()

    def turn(self) -> int:
        """One round: tasks, messages, perhaps a checkpoint. Gives how many messages there were."""
        member, reader = self._joined()
        member.poll(self._taken, self._given_up, 0)
        self._start()
        due = self._committed_at + self.plan.every.total_seconds() - self._clock.monotonic()
        wait = max(0.0, min(WAIT, due)) if self._dirty else WAIT
        count = 0
        for messages in reader.read(LIMIT, wait):
            count += len(messages)
            self._feed(messages)
        if count:
            self._collect()
        for work in self._silence.look(self.works.values(), reader, self._clock.monotonic()):
            self._settle(work, work.task.take())
            self._dirty = True
        for loader in self.loaders.values():
            if loader.error is not None:
                raise loader.error
        self._since += count
        self.counts.messages += count
        if self._dirty and (due <= 0 or self._since >= self.plan.rows):
            self.checkpoint()
        self.looked_at(self)
        return count

    def _joined(self) -> tuple[Member, Reader]:
        if self._member is None or self._reader is None or self._writer is None:
            self._writer = self._topics.writer(f"{self.plan.name}.{self._identity}", self.plan.guarantee)
            self._reader = self._topics.reader()
            self._member = self._topics.member(self.plan.name, len(self._tasks))
        return self._member, self._reader

    # Tasks

    def _taken(self, tasks: frozenset[int]) -> None:
        self._wanted |= tasks

    def _given_up(self, tasks: frozenset[int]) -> None:
        """Let tasks go, after a checkpoint: whoever takes them shall have nothing to do again."""
        self._wanted -= tasks
        if self.works.keys() & tasks:
            try:
                self.checkpoint()
            except Conflict as error:  # they were lost before: what was done since does not count
                _log.warning("%s: %s", self.plan.name, error)
                self._drop([*self.works, *self.loaders])
                return
        self._drop([task for task in tasks if task in self.works or task in self.loaders])

    def _start(self) -> None:
        """Make the tasks that are this process's and not at work yet."""
        assert self._member is not None
        assert self._reader is not None
        for task in sorted(self._wanted - self.works.keys() - self.loaders.keys()):
            stage, number = self._tasks[task]
            if stage == LOADERS:
                self.loaders[task] = self._loader(self.plan.topology.nodes[number])
                self.loaders[task].start()
                continue
            partitions = list(inputs_of(self.plan, stage, number))
            came = self._member.committed(partitions)
            first = {p: self._first(p) for p in partitions if p not in came}
            work = self._maker.make(stage, number, came, first, self._recovering)
            if task not in self._wanted:  # lost while its state was recovered
                if work.kept is not None:
                    work.kept.close()
                continue
            self.works[task] = work
            self._by_partition.update(dict.fromkeys(work.inputs, work))
            now = self._clock.monotonic()
            work.heard = dict.fromkeys(work.inputs, now)
            self._reader.take(work.positions)

    def _recovering(self, progress: Recovering) -> None:
        """Give signs of life while state is recovered, which may take long."""
        assert self._member is not None
        self.recovering = progress if progress.done < progress.total else None
        self._member.poll(self._taken, self._given_up, 0)
        self.looked_at(self)

    def _first(self, partition: Partition) -> int:
        if self._begin is not None:
            return self._begin(partition.topic)[partition.number]
        info = self._topics.describe(partition.topic)
        return 0 if info is None else info.first[partition.number]

    def _drop(self, tasks: list[int]) -> None:
        for task in tasks:
            if task in self.loaders:
                self.loaders.pop(task).stop()
                continue
            work = self.works.pop(task)
            if self._reader is not None:
                self._reader.drop(list(work.inputs))
            for partition in work.inputs:
                self._by_partition.pop(partition, None)
            if work.kept is not None:
                work.kept.close()

    def _let_go(self) -> None:
        """Forget everything since the last checkpoint, and the tasks with it: they are made again."""
        self._drop([*self.works, *self.loaders])
        self._dirty, self._since = False, 0
        for part in (self._writer, self._reader, self._member):
            if part is not None:
                part.close()
        self._writer = self._reader = self._member = None
        self._wanted.clear()

    def close(self) -> None:
        """Leave the group."""
        self._let_go()

    def abandon(self) -> None:
        """Let everything fall, as if the process had died: nothing is committed, nobody is told."""
        for loader in self.loaders.values():
            loader.stop()
        for work in self.works.values():
            if work.kept is not None:
                work.kept.close()
        self._member = self._reader = self._writer = None

    # Rows

    def _feed(self, messages: Messages) -> None:
        work = self._by_partition.get(messages.partition)
        if work is None or len(messages) == 0:
            return
        self._read.now(messages)
        work.heard[messages.partition] = self._clock.monotonic()
        work.silent.discard(messages.partition)
        work.clock_tops.pop(messages.partition, None)
        for node in work.inputs[messages.partition]:
            self.counts.read[node.number] = self.counts.read.get(node.number, 0) + len(messages)
            if node.kind == "exchange":
                for value in messages.values:
                    if value is not None:
                        work.task.receive(node.number, value)
            else:
                self._decode(work, node, messages)
        work.positions[messages.partition] = messages.offsets[-1] + 1
        self._dirty = True

    def _decode(self, work: Work, node: Node, messages: Messages) -> None:
        decoded = self._codecs[node.number].decode(messages.values)
        for bad in decoded.bad:
            offset = messages.offsets[bad.index]
            self._refuse(node, "undecodable", bad.error, messages.partition, offset, None)
        offsets, timestamps = messages.offsets, messages.timestamps
        if decoded.taken is not None:
            offsets = [offsets[place] for place in decoded.taken]
            timestamps = [timestamps[place] for place in decoded.taken]
        work.task.feed(node.number, decoded.rows, offsets, timestamps)

    def _collect(self) -> None:
        for work in self.works.values():
            self._settle(work, work.task.take())

    def _settle(self, work: Work, outcome: Outcome) -> None:
        writer = self._writer
        assert writer is not None
        for failure in outcome.failures:
            self._failure(work, failure)
        for late in outcome.late:
            self._late(late.node, late.rows.to_dicts())
        for block in outcome.blocks:
            node = self.plan.topology.nodes[block.exchange]
            writer.send(self.plan.exchange(node), [block.data], partitions=block.task)
        for given in outcome.given:
            self._outlets.give(given, writer)

    def _failure(self, work: Work, failure: Failure) -> None:
        node = self.plan.topology.nodes[failure.node]
        origin = None
        if failure.source is not None:
            origin = Partition(self.plan.topic_of(self.plan.topology.nodes[failure.source]), work.number)
        self._refuse(node, "failed", failure.error, origin, failure.offset, failure.row)

    def _refuse(
        self,
        node: Node,
        kind: str,
        error: str,
        origin: Partition | None,
        offset: int | None,
        row: Mapping[str, object] | None,
    ) -> None:
        """A message or row that cannot be taken goes where the stream's settings say."""
        verb = "decode" if node.step is None else node.step.verb
        decision = self.plan.on_error(node)
        where = "" if origin is None or offset is None else f" (message {offset} of {origin})"
        if decision == "stop":
            raise RunFailed(
                f'"{self.plan.name}" stops at a row that {verb} cannot take{where}: {error}',
                where=None if node.step is None or node.step.at is None else str(node.step.at),
                hint=f'errors={{"{verb}": "dead_letter"}} puts such rows aside and goes on',
            )
        self.counts.failed += 1
        if decision == "skip":
            return
        assert self._writer is not None
        found = self._read.message(origin, offset) if origin is not None and offset is not None else None
        key, value, timestamp, theirs = found if found is not None else (None, None, -1, ())
        kept = row if found is None else None
        headers = letter_headers(
            "undecodable" if kind == "undecodable" else "failed",
            step=verb, error=error, origin=origin, offset=offset, row=kept,
        )  # fmt: skip
        stamps = None if timestamp < 0 else [timestamp]
        self._writer.send(self.plan.dead_letters, [value], keys=[key], timestamps=stamps, headers=[[*theirs, *headers]])

    def _late(self, number: int, rows: list[dict[str, object]]) -> None:
        node = self.plan.topology.nodes[number]
        self.counts.late += len(rows)
        assert node.step is not None
        assert self._writer is not None
        error = "the row came after what it belongs to was done with"
        for row in rows:
            headers = letter_headers("late", step=node.step.verb, error=error, origin=None, offset=None, row=row)
            self._writer.send(self.plan.late, [None], headers=[headers])

    # Checkpoints

    def checkpoint(self) -> None:
        """Make everything since the last one count.

        Raises:
            Conflict, Unreachable: it does not count.
        """
        if not self._dirty or self._writer is None:
            return
        self._number += 1
        positions: dict[Partition, Position] = {}
        for work in self.works.values():
            work.task.save()
            self._settle(work, work.task.take())
            if work.kept is not None:
                work.kept.log(self._writer)
            positions.update({p: Position(offset) for p, offset in work.positions.items()})
        self._writer.commit(positions, self._member)
        for work in self.works.values():
            if work.kept is not None:
                work.kept.committed(self._number)
        self.counts.checkpoints += 1
        self._dirty, self._since = False, 0
        self._committed_at = self._clock.monotonic()
