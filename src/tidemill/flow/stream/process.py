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
from contextlib import suppress
from functools import partial

from tidemill.flow.stream.asking import Asking
from tidemill.flow.stream.collecting import rarely_collected
from tidemill.flow.stream.inputs import Inputs, see_loss
from tidemill.flow.stream.measuring import Checkpoint, Counts, Timing
from tidemill.flow.stream.notes import offset_of
from tidemill.flow.stream.outages import Outage
from tidemill.flow.stream.outlets import Loader, Sinks
from tidemill.flow.stream.pace import Pace
from tidemill.flow.stream.plan import LOADERS, StreamPlan
from tidemill.flow.stream.recovery import Recovering
from tidemill.flow.stream.refusing import Refusing
from tidemill.flow.stream.silence import Silence
from tidemill.flow.stream.tally import Tallies
from tidemill.flow.stream.times import Times
from tidemill.flow.stream.trimming import try_to_trim, worked_off
from tidemill.flow.stream.work import Work, WorkMaker, inputs_of, readers_of
from tidemill.model.errors import Conflict, UnknownName, Unreachable
from tidemill.plan.topology import Node
from tidemill.ports.clock import Clock
from tidemill.ports.codec import MessageReader
from tidemill.ports.stream_engine import Outcome
from tidemill.ports.topic import Member, Messages, Partition, Position, Reader, Topics, Writer

_log = logging.getLogger("tidemill")

#: A turn waits at most so long for messages, in seconds: tasks come and go, checkpoints fall due.
WAIT = 0.1
#: A checkpoint that is due in so few seconds is due: readers do not wait for what clocks round off.
SOON = 1e-4
#: Seconds between two times that what exchanges no longer need is let go.
TRIM = 30.0
#: A function that rows were given to is waited for so long, in seconds, where tasks are to be given up.
HAND_OVER = 5.0


class StreamProcess:
    """See the module. Call `run`, or `turn` again and again and `close` at the end.

    Args:
        plan: the stream.
        topics: the broker.
        maker: makes tasks.
        codecs: what reads sources, by node.
        outlets: the sinks.
        loader: makes what loads a table's rows.
        clock: the time.
        identity: names this process; a later one of that name fences it.
        begin: where to begin in topics that the group has not read yet: by topic, first offsets.
        counts: of what stood in its place before, and failed.
    """

    def __init__(
        self,
        plan: StreamPlan,
        topics: Topics,
        maker: WorkMaker,
        codecs: Mapping[int, MessageReader],
        outlets: Sinks,
        loader: Callable[[Node], Loader],
        clock: Clock,
        identity: str,
        begin: Callable[[str], tuple[int, ...]] | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.plan = plan
        self.counts = counts or Counts()
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
        #: Told of each checkpoint, also of one that does not count.
        self.checkpointed: Callable[[Checkpoint], None] = lambda _: None
        self._tasks = plan.tasks
        self.works: dict[int, Work] = {}
        self.loaders: dict[int, Loader] = {}
        #: The recovery that is under way.
        self.recovering: Recovering | None = None
        self._by_partition: dict[Partition, Work] = {}
        self._wanted: set[int] = set()
        self._refusing = Refusing(plan, self.counts)
        self._silence = Silence(plan, topics)
        #: What the group has committed of what is read here.
        self._counted: dict[Partition, int] = {}
        self._pace = Pace()
        self.tallies = Tallies(plan.judges, clock)
        self._committed_at = self._trimmed_at = clock.monotonic()
        self._since = 0
        self._timing = Timing(clock, self.counts)
        self._dirty = False
        self._number = 0
        self._member: Member | None = None
        self._inputs: Inputs | None = None
        self._outage, self._asking = Outage(plan.name, clock), Asking(plan.name, clock)
        self._reader: Reader | None = None
        self._writer: Writer | None = None

    @property
    def rows_out(self) -> Mapping[int, int]:
        """How many rows have gone to each sink, by its node."""
        return self.counts.given

    # The loop

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until it is time to stop; what was done counts then.

        Raises:
            RunFailed: a row could not be taken, and the stream is to stop at such.
        """
        try:
            with rarely_collected():
                self._loop(stopping)
            while self._outlets.busy(WAIT):
                self._joined()[0].poll(self._taken, self._given_up, 0)
            self.checkpoint()
        finally:
            self.close()

    def _loop(self, stopping: Callable[[], bool]) -> None:
        while not stopping():
            began = self._clock.monotonic()
            try:
                count = self.turn()
                if rest := self._pace.rest(count, self._clock.monotonic() - began):
                    self._clock.sleep(rest)
            except (Conflict, Unreachable) as error:
                wait = self._outage.met(error, "going back to the last checkpoint")
                self.counts.restarts += 1
                self._let_go()
                self._clock.sleep(wait)
            except UnknownName as error:
                if self._inputs is not None:
                    self._inputs.explain()
                raise error from None

    def turn(self) -> int:
        """One round: tasks, messages, perhaps a checkpoint. Gives how many messages there were."""
        member, reader = self._joined()
        member.poll(self._taken, self._given_up, 0)
        self._start()
        if self._outlets.busy(WAIT):  # nothing more is read until it has taken what it was given
            self.looked_at(self)
            return 0
        due = self._committed_at + self.plan.every.total_seconds() - self._clock.monotonic()
        wait = max(0.0, min(WAIT, due)) if self._dirty else WAIT
        assert self._inputs is not None
        self._inputs.look(self._clock.monotonic())
        self._outage.look()
        count = 0
        stretches = reader.read(self._pace.limit, wait)
        self._see_loss(reader)
        began = self._clock.monotonic()
        for messages in stretches:
            count += len(messages)
            self._feed(messages)
        if count:
            self._collect()
            self._pace.took(count, self._clock.monotonic() - began)
        silence = self._silence.look(self.works.values(), reader, member, self._counted, self._clock.monotonic())
        for work in silence:
            self._settle(work, work.task.take())
            self._dirty = True
        for loader in self.loaders.values():
            if loader.error is not None:
                raise loader.error
        self._since += count
        self.counts.messages += count
        if (due <= SOON or self._since >= self.plan.rows) and (self._dirty or self._has_passed(reader)):
            self._dirty = True
            self.checkpoint()
        self.looked_at(self)
        return count

    def _joined(self) -> tuple[Member, Reader]:
        if self._member is None or self._reader is None or self._writer is None:
            self._writer = self._topics.writer(f"{self.plan.name}.{self._identity}", self.plan.guarantee)
            self._reader = self._topics.reader()
            self._inputs = Inputs(self.plan, self._topics, self._clock.monotonic())
            self._member = self._topics.member(self.plan.name, len(self._tasks), inputs=readers_of(self.plan))
        return self._member, self._reader

    # Tasks

    def _taken(self, tasks: frozenset[int]) -> None:
        self._wanted |= tasks
        self._maker.moved()

    def _given_up(self, tasks: frozenset[int]) -> None:
        """Let tasks go, after a checkpoint: whoever takes them shall have nothing to do again."""
        self._wanted -= tasks
        if self.works.keys() & tasks:
            assert self._writer is not None
            try:
                if self._outlets.busy(HAND_OVER):
                    self._writer.abort()
                    self._outlets.forget()
                    raise Conflict("tasks are given up while a function has not taken its rows yet")
                self.checkpoint()
            except Conflict as error:  # they were lost before: what was done since does not count
                _log.warning("%s: %s", self.plan.name, error)
                self._drop([*self.works, *self.loaders])
                self._dirty = False
                return
        self._drop([task for task in tasks if task in self.works or task in self.loaders])

    def _start(self) -> None:
        """Make the tasks that are this process's and not at work yet."""
        missing = self._asking.due(self._wanted - self.works.keys() - self.loaders.keys())
        if not missing:
            return
        with self._maker.several():
            for task in missing:
                stage, number = self._tasks[task]
                if stage == LOADERS:
                    self.loaders[task] = self._loader(self.plan.topology.nodes[number])
                    self.loaders[task].start()
                elif task in self._wanted and not self._make(task, stage, number):
                    break  # no two are waited for in one turn

    def _make(self, task: int, stage: int, number: int) -> bool:
        """Make one; False: that is not possible now."""
        member, reader = self._joined()
        assert self._inputs is not None
        partitions = list(inputs_of(self.plan, stage, number))
        known = self._asking.ask(task, member, partitions, lambda: self._maker.is_settled(stage, number))
        if known is None:
            return False
        came = self._inputs.checked(known)
        first = {p: self._first(p) for p in partitions if p not in came}
        make = partial(self._maker.make, stage, number, came, first, self._inputs, self._recovering)
        if (work := self._asking.begin(task, make)) is None:
            return False
        if task not in self._wanted:  # lost while its state was recovered
            if work.kept is not None:
                work.kept.close()
            return True
        self.tallies.begin(work, came)
        self.works[task] = work
        self._by_partition.update(dict.fromkeys(work.inputs, work))
        self._counted.update({partition: work.positions[partition] for partition in came})
        self._silence.begin(work, self._clock.monotonic())
        reader.take(work.positions)
        return True

    def _recovering(self, progress: Recovering) -> None:
        """Give signs of life while state is recovered, which may take long."""
        assert self._member is not None
        self.recovering = progress if progress.done < progress.total else None
        self._member.poll(self._taken, self._given_up, 0)
        self.looked_at(self)

    def _first(self, partition: Partition) -> int:
        if self._begin is not None:
            return self._begin(partition.topic)[partition.number]
        assert self._inputs is not None
        return self._inputs.first(partition)

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
                self._counted.pop(partition, None)
            if work.kept is not None:
                with suppress(Unreachable):  # all that counts is in the changelog
                    work.kept.close()

    def _let_go(self) -> None:
        """Forget everything since the last checkpoint, and the tasks with it: they are made again."""
        self._drop([*self.works, *self.loaders])
        self._dirty, self._since = False, 0
        self._timing.again()
        self._outlets.forget()
        for part in (self._writer, self._reader, self._member):
            if part is not None:
                with suppress(Conflict, Unreachable):  # then others find out that it is gone
                    part.close()
        self._writer = self._reader = self._member = None
        self._wanted.clear()

    def close(self) -> None:
        """Leave the group."""
        self._let_go()
        self._outlets.close()

    def abandon(self) -> None:
        """Let everything fall, as if the process had died: nothing is committed, nobody is told."""
        for loader in self.loaders.values():
            loader.stop()
        for work in self.works.values():
            if work.kept is not None:
                work.kept.close()
        self._member = self._reader = self._writer = None
        self._outlets.close()

    # Rows

    def _see_loss(self, reader: Reader) -> None:
        """Messages that a topic no longer has were either given up by whoever declared the stream, or end it."""
        for partition, (wanted, oldest) in reader.lost().items():
            work = self._by_partition.get(partition)
            if work is None or partition in work.new:  # nobody has said yet that these were to be read
                continue
            self.counts.lost += see_loss(self.plan, partition, wanted, oldest)

    def _feed(self, messages: Messages) -> None:
        work = self._by_partition.get(messages.partition)
        if work is None or len(messages) == 0:
            return
        self._refusing.reading(messages)
        self._timing.begin(len(messages))
        self._silence.hear(work, work.sources(messages.partition), self._clock.monotonic())
        for node in work.inputs[messages.partition]:
            self.counts.read[node.number] = self.counts.read.get(node.number, 0) + len(messages)
            if node.kind == "exchange":
                for value in messages.values:
                    if value is not None:
                        work.task.receive(node.number, value)
                self._timing.spent("engine")
            else:
                self._decode(work, node, messages)
        work.positions[messages.partition] = messages.offsets[-1] + 1
        work.new.discard(messages.partition)
        self._dirty = True

    def _decode(self, work: Work, node: Node, messages: Messages) -> None:
        decoded = self._codecs[node.number].read(messages.keys, messages.values)
        self._timing.spent("decode")
        if decoded.bad:
            assert self._writer is not None
            self._refusing.unread(self._writer, node, messages, decoded.bad)
        offsets, timestamps = messages.offsets, messages.timestamps
        if decoded.taken is not None:
            offsets = [offsets[place] for place in decoded.taken]
            timestamps = [timestamps[place] for place in decoded.taken]
        work.task.feed(node.number, decoded.rows, offsets, timestamps)
        self._timing.spent("engine")

    def _collect(self) -> None:
        self._timing.begin()
        for work in self.works.values():
            outcome = work.task.take()
            self._timing.spent("engine")
            self._settle(work, outcome)
            self._timing.spent("send")

    def _settle(self, work: Work, outcome: Outcome) -> None:
        writer = self._writer
        assert writer is not None
        for failure in outcome.failures:
            self._refusing.failed(writer, work.number, failure)
        for late in outcome.late:
            self._refusing.late(writer, late)
        for judged in outcome.judged:
            assert work.tally is not None
            work.tally.add(judged)
        for block in outcome.blocks:
            node = self.plan.topology.nodes[block.exchange]
            writer.send(self.plan.exchange(node), [block.data], partitions=block.task)
        for given in outcome.given:
            untaken = self._outlets.give(given, writer)
            taken = given.rows.height - len(untaken)
            self.counts.given[given.node] = self.counts.given.get(given.node, 0) + taken
            for row, error in untaken:
                self._refusing.untaken(writer, given.node, row, error)

    # Checkpoints

    def _has_passed(self, reader: Reader) -> bool:
        """Whether offsets that nobody gets follow what was committed: others, and lag, wait for all of a partition."""
        reached = reader.positions()
        return any(reached.get(partition, offset) > offset for partition, offset in self._counted.items())

    def checkpoint(self) -> None:
        """Make everything since the last one count; not while a function has yet to take what it was given.

        Raises:
            Conflict, Unreachable: it does not count.
        """
        if not self._dirty or self._writer is None or self._inputs is None or self._outlets.busy(0.0):
            return
        self._number += 1
        tasks = [(work.stage, work.number) for work in self.works.values()]
        try:
            self._commit(self._writer, self._inputs)
        except (Conflict, Unreachable) as error:
            self.checkpointed(self._timing.made(self.plan.name, tasks, str(error)))
            raise
        self._outage.over()
        self.checkpointed(self._timing.made(self.plan.name, tasks))
        self._dirty, self._since = False, 0
        self._committed_at = self._clock.monotonic()
        if self._committed_at - self._trimmed_at >= TRIM:
            self._trim()

    def _commit(self, writer: Writer, inputs: Inputs) -> None:
        self._timing.step()
        positions: dict[Partition, Position] = {}
        reached = {} if self._reader is None else self._reader.positions()
        for work in self.works.values():
            work.task.save()
            self._settle(work, work.task.take())
            if work.kept is not None:
                work.kept.log(writer)
            counted, times = self.tallies.notes(work), {min(work.positions): Times.of(work).packed()}
            for partition, offset in work.positions.items():
                upto = max(offset, reached.get(partition, offset))
                notes = counted.get(partition), times.get(partition)
                positions[partition] = inputs.position(partition, upto, *notes)
        self._timing.step()
        writer.commit(positions, self._member)
        self._counted.update({partition: offset_of(position) for partition, position in positions.items()})
        self._timing.step()
        for work in self.works.values():
            if work.kept is not None:
                work.kept.committed(self._number)
        self.tallies.committed(self.works.values())

    def _trim(self) -> None:
        """Let messages of exchanges go that count as done: nobody else reads these topics."""
        self._trimmed_at = self._committed_at
        try_to_trim(self._topics, worked_off(self.works.values()))
