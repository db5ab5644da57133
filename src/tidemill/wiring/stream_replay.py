"""A range of the past through a stream's function, in memory: no state, position or table is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidemill.flow.stream.facts import target_of
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.stretch import stretch
from tidemill.model.errors import UnknownName, UserError
from tidemill.model.frame.topic import Topic, ToTopic
from tidemill.model.stream import StreamSpec
from tidemill.ports.topic import Partition, TopicSpec
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.messages import codec_of, key_encoder
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.streams import StreamMaker, Waiting

if TYPE_CHECKING:
    from tidemill.flow.stream.outlets import Untaken
    from tidemill.flow.stream.process import StreamProcess
    from tidemill.model.pipeline import PipelineSpec
    from tidemill.ports.stream_engine import Given
    from tidemill.ports.topic import Topics, Writer

#: Seconds that pass at a time at the end, so that silent partitions are no longer waited for: a member that is not
#: heard of for 10 would lose its tasks.
_STEP = 3.0


@dataclass(slots=True)
class Replayed:
    """What came of a replay: messages in, rows out, and what could not be taken."""

    messages: int = 0
    rows: int = 0
    failed: int = 0
    late: int = 0


@dataclass(slots=True)
class _Collected:
    """Sinks that hand every row to one function, and call none of the user's."""

    plan: StreamPlan
    give_out: Callable[[str, tuple[str, ...], Any], None]

    def give(self, given: Given, writer: Writer) -> Untaken:
        """Hand rows on."""
        node = self.plan.topology.nodes[given.node]
        key = node.step.key if isinstance(node.step, ToTopic) else ()
        self.give_out(target_of(node), key, given.rows)
        return []

    def busy(self, seconds: float) -> bool:
        """Rows are taken at once."""
        return False

    def forget(self) -> None:
        """What was given is gone."""

    def close(self) -> None:
        """Nothing to end."""


class _Tables:
    """Tables of the lake that are only read."""

    def __init__(self, care: StreamCare) -> None:
        self.schema = care.tables.schema
        self.rows = care.tables.rows
        self.lookup = care.tables.lookup

    def loader(self, *_: Any) -> Waiting:
        """Rows for tables do not go there."""
        return Waiting()


def replay(
    care: StreamCare,
    name: str,
    since: datetime,
    until: datetime,
    shown: Callable[[str, Mapping[str, Any]], None] | None = None,
    to: str | None = None,
) -> Replayed:
    """Run the messages of a time through a stream's function.

    Windows that the range does not close give nothing; what was before it is not known.

    Args:
        care: the project's streams.
        name: of the stream.
        since: messages of this time, and later, by their timestamps.
        until: up to, not including, this time.
        shown: gets each row, with where it would have gone.
        to: a topic that gets the rows.

    Raises:
        UserError: the range is empty; the topic is one of those that the stream reads.
        RunFailed: a row cannot be taken, and the stream stops at such.
    """
    if since >= until:
        raise UserError("The range is empty: --from is not before --until.")
    pipeline, spec = care.find(name)
    spec = replace(spec, bootstrap={})  # the range is what is read, wherever it is kept
    if to is not None and to in {topic.name for topic in spec.topics.values()}:
        raise UserError(f'"{spec.full_name}" reads "{to}" itself.', hint="choose another topic")
    if to is not None and care.topics.describe(to) is None:
        raise UnknownName.of("topic", to, care.topics.names())

    ranges = _ranges(care, spec, since, until)
    writer = care.topics.writer(f"{spec.full_name}.replay") if to is not None else None

    def give_out(target: str, key: tuple[str, ...], rows: Any) -> None:
        if shown is not None:
            for row in rows.to_dicts():
                shown(target, row)
        if writer is not None and to is not None:
            known, registry = care.declared(to), registry_of(care.settings.streams)
            keys = key_encoder(known or Topic(to), registry, key)
            values = (codec_of(known, registry) if known is not None else _json(to)).encode(rows)
            writer.send(to, values, keys=None if keys is None else keys(rows))

    try:
        done = play(care, pipeline, spec, ranges, give_out)
        if writer is not None:
            writer.commit({})
    finally:
        if writer is not None:
            writer.close()
    return done


def play(
    care: StreamCare,
    pipeline: PipelineSpec,
    spec: StreamSpec,
    ranges: Mapping[Partition, tuple[int, int]],
    give_out: Callable[[str, tuple[str, ...], Any], None],
) -> Replayed:
    """Run stretches of topics through a stream's function, in memory.

    Args:
        care: whose topics and tables are read.
        pipeline: the stream's.
        spec: of the stream.
        ranges: of every partition that it reads: the first offset, and that after the last.
        give_out: gets rows: where they would have gone, their key's columns, and they themselves.

    Raises:
        RunFailed: a row cannot be taken, and the stream stops at such.
    """
    from tidemill.adapters.memory.clock import LeapingClock
    from tidemill.adapters.memory.state import MemoryStates
    from tidemill.adapters.memory.topics import MemoryTopics

    clock = LeapingClock(care.clock)
    memory = MemoryTopics(clock)
    for name in {partition.topic for partition in ranges}:
        memory.create(TopicSpec(name, sum(partition.topic == name for partition in ranges)))
    maker = StreamMaker(memory, MemoryStates(), _Tables(care), clock, registry_of(care.settings.streams))
    process = maker.process(pipeline, spec, "replay", lambda plan: _Collected(plan, give_out))
    done = Replayed()
    try:
        _play(care, memory, ranges, process, clock, _longest_idle(spec), done)
    finally:
        process.close()
    done.rows = sum(process.rows_out.values())
    done.failed, done.late = process.counts.failed, process.counts.late
    return done


def _json(topic: str) -> Any:
    from tidemill.model.codec import Json
    from tidemill.wiring.codecs import open_codec

    return open_codec(Json(), topic)


def _ranges(care: StreamCare, spec: StreamSpec, since: datetime, until: datetime) -> dict[Partition, tuple[int, int]]:
    """The stretch of each partition."""
    found: dict[Partition, tuple[int, int]] = {}
    for name in {topic.name for topic in spec.topics.values()}:
        info = care.topics.describe(name)
        if info is None:
            raise UnknownName.of("topic", name, care.topics.names())
        first, last = (care.topics.at(name, round(at.timestamp() * 1000)) for at in (since, until))
        found |= {Partition(name, n): (first[n], last[n]) for n in range(info.partitions)}
    return found


def _play(
    care: StreamCare,
    memory: Topics,
    ranges: Mapping[Partition, tuple[int, int]],
    process: StreamProcess,
    clock: Any,
    idle: timedelta,
    done: Replayed,
) -> None:
    feeding = memory.writer("feeding")
    begin = {partition: first for partition, (first, _) in ranges.items()}
    end = {partition: last for partition, (_, last) in ranges.items()}
    for messages in stretch(care.topics, care.clock, begin, end):
        done.messages += len(messages)
        feeding.send(
            messages.partition.topic, messages.values, keys=messages.keys, partitions=messages.partition.number,
            timestamps=messages.timestamps, headers=messages.headers,
        )  # fmt: skip
        feeding.flush()
        _work(process)
    left = idle.total_seconds() + _STEP
    while left > 0:
        clock.sleep(_STEP)
        left -= _STEP
        _work(process)


def _work(process: StreamProcess) -> None:
    """Have it do all that there is to do; what it sends itself is worked on, too."""
    quiet = 0
    while quiet < 2:
        if process.turn():
            quiet = 0
            continue
        process.checkpoint()
        quiet += 1


def _longest_idle(spec: StreamSpec) -> timedelta:
    return max((topic.idle for topic in spec.topics.values() if topic.idle is not None), default=timedelta(0))
