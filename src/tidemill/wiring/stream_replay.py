"""A range of the past through a stream's function, in memory: no state, position or table is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

from tidemill.flow.stream.facts import target_of
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.stretch import stretch
from tidemill.model.errors import UnknownName, UserError
from tidemill.model.frame.topic import Topic, ToTopic
from tidemill.model.stream import Bootstrap, StreamSpec, TableBefore
from tidemill.model.table import TableName
from tidemill.ports.topic import Messages, Partition, TopicSpec
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
    """Tables of the lake that are only read; of those that are a topic's past, the rows of a time."""

    def __init__(self, care: StreamCare, spec: StreamSpec, since: datetime | None, until: datetime | None) -> None:
        self.schema = care.tables.schema
        self.lookup = care.tables.lookup
        self._all_rows = care.tables.rows
        self._since, self._until = since, until
        self._times = {before.table: spec.topics[p].time for p, before in spec.bootstrap.items() if _is_timed(before)}

    def rows(self, name: TableName) -> Any:
        """Those rows."""
        from tidemill.adapters.polars.table_past import between

        time = self._times.get(name)
        rows = self._all_rows(name)
        if time is None or self._since is None or self._until is None:
            return rows
        return between(rows, time, self._since, self._until)

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
    # Rows that know their message are read as messages, like archived ones. The process reads the others by itself.
    topics = care.maker.topics_of(_bootstrapped(spec, timed=False))
    spec = _bootstrapped(spec, timed=True)
    if to is not None and to in {topic.name for topic in spec.topics.values()}:
        raise UserError(f'"{spec.full_name}" reads "{to}" itself.', hint="choose another topic")
    if to is not None and care.topics.describe(to) is None:
        raise UnknownName.of("topic", to, care.topics.names())

    ranges = _ranges(topics, spec, since, until)
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
        done = play(care, pipeline, spec, ranges, give_out, topics, since, until)
        if writer is not None:
            writer.commit({})
    finally:
        if writer is not None:
            writer.close()
    return done


def _is_timed(before: Bootstrap) -> TypeGuard[TableBefore]:
    """Whether it is a table whose rows do not know their message."""
    return isinstance(before, TableBefore) and not before.offset


def _bootstrapped(spec: StreamSpec, *, timed: bool) -> StreamSpec:
    """The stream with only such pasts."""
    kept = {parameter: before for parameter, before in spec.bootstrap.items() if _is_timed(before) == timed}
    return replace(spec, bootstrap=kept)


def play(
    care: StreamCare,
    pipeline: PipelineSpec,
    spec: StreamSpec,
    ranges: Mapping[Partition, tuple[int, int]],
    give_out: Callable[[str, tuple[str, ...], Any], None],
    topics: Topics | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Replayed:
    """Run stretches of topics through a stream's function, in memory.

    Args:
        care: whose topics and tables are read.
        pipeline: the stream's.
        spec: of the stream.
        ranges: of every partition that it reads: the first offset, and that after the last.
        give_out: gets rows: where they would have gone, their key's columns, and they themselves.
        topics: with more of a past than `care` knows.
        since: of a table that the stream is bootstrapped from, rows of this time and later come first; None: all do.
        until: up to, not including, this time.

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
    tables = _Tables(care, spec, since, until)
    maker = StreamMaker(memory, MemoryStates(), tables, clock, registry_of(care.settings.streams))
    process = maker.process(pipeline, spec, "replay", lambda plan: _Collected(plan, give_out))
    done = Replayed()
    if spec.bootstrap:
        past = [maker.topics_of(spec).describe(topic) for topic in {partition.topic for partition in ranges}]
        done.messages = sum(-1 - first for info in past if info is not None for first in info.first if first < 0)
    try:
        messages = stretch(topics or care.topics, care.clock, *_bounds(ranges))
        _play(messages, memory, process, clock, _longest_idle(spec), done)
    finally:
        process.close()
    done.rows = sum(process.rows_out.values())
    done.failed, done.late = process.counts.failed, process.counts.late
    return done


def _json(topic: str) -> Any:
    from tidemill.model.codec import Json
    from tidemill.wiring.codecs import open_codec

    return open_codec(Json(), topic)


def _ranges(topics: Topics, spec: StreamSpec, since: datetime, until: datetime) -> dict[Partition, tuple[int, int]]:
    """The stretch of each partition."""
    found: dict[Partition, tuple[int, int]] = {}
    for name in {topic.name for topic in spec.topics.values()}:
        info = topics.describe(name)
        if info is None:
            raise UnknownName.of("topic", name, topics.names())
        first, last = (topics.at(name, round(at.timestamp() * 1000)) for at in (since, until))
        found |= {Partition(name, n): (first[n], last[n]) for n in range(info.partitions)}
    return found


def _bounds(ranges: Mapping[Partition, tuple[int, int]]) -> tuple[dict[Partition, int], dict[Partition, int]]:
    begin = {partition: first for partition, (first, _) in ranges.items()}
    return begin, {partition: last for partition, (_, last) in ranges.items()}


def _play(
    found: Iterable[Messages], memory: Topics, process: StreamProcess, clock: Any, idle: timedelta, done: Replayed
) -> None:
    feeding = memory.writer("feeding")
    for messages in found:
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
