"""A project's streams and topics seen from outside: what `tidemill stream` asks, and what a page will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tidemill.flow.live.progress import progress_topic
from tidemill.flow.stream.destinations import source_of
from tidemill.flow.stream.facts import ProcessFacts, counts_json, reads, topology_json, writes
from tidemill.flow.stream.lag import Lag, archive_lag, lag_of, loaded_until
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.quality import quality_json
from tidemill.flow.stream.redrive import letters_of
from tidemill.flow.stream.stretch import ends_of, stretch
from tidemill.model.errors import TidemillError, UnknownName
from tidemill.model.frame.topic import ToDestination, Topic, ToTable
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec
from tidemill.plan.topology import Node
from tidemill.ports.topic import Headers, Messages, Partition, TopicInfo, TopicSpec, moment_of
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.secrets import connections_of
from tidemill.wiring.services import late, system_clock
from tidemill.wiring.settings import Settings
from tidemill.wiring.stream_past import open_archives, with_archives
from tidemill.wiring.streams import LakeTables, StreamMaker, open_stores, streams_of
from tidemill.wiring.topics import open_topics

if TYPE_CHECKING:
    from tidemill.flow.stream.history import TopicsWithPast
    from tidemill.flow.stream.topic_archive import Archived, TopicArchives
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.state import StateStores

#: Messages that are sent in one call.
_AT_ONCE = 5_000
#: Seconds after which a topic that is not made yet is looked for again.
_LOOK_AGAIN = 0.2


@dataclass(frozen=True, slots=True)
class Overview:
    """One stream in a list.

    Args:
        stream: `pipeline.stream`.
        pipeline: whose.
        state: `running`, `recovering`, `failed`, `stopped`; `gone`: its process has fallen silent; `wrong`: it cannot
            be planned; `paused`, `pausing`: nobody is to work on it, and nobody does, or somebody still does.
        reads, writes: topics; of a table `table:name`.
        guarantee: what a crash may do to results.
        members: processes that work on it.
        lag: messages that wait; None: not known.
        dead_letters: how many were not sent again yet.
        counts: of all processes.
        error: the last one of those that failed, or why it is wrong.
        place: in the user's file.
    """

    stream: str
    pipeline: str
    state: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    guarantee: str
    members: int
    lag: int | None
    dead_letters: int
    counts: Mapping[str, Any]
    error: str | None
    place: str


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic in a list.

    Args:
        name: of the topic.
        partitions, messages: how many it has.
        cleanup: `delete` or `compact`.
        role: read, written, `own` (of a stream, for itself), or `-`.
        streams: that it has the role for.
        source: what feeds it, as it is declared.
        archived: by partition, from which offset up to which it is archived; empty: nothing of it is.
        unarchived: messages that are not archived yet; None: nothing archives it.
    """

    name: str
    partitions: int
    messages: int
    cleanup: str
    role: str
    streams: tuple[str, ...]
    source: str | None = None
    archived: tuple[tuple[int, int], ...] = ()
    unarchived: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One message, as it is in its topic."""

    partition: int
    offset: int
    at: datetime | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class StreamCare:
    """Streams and topics of a project. Close it at the end.

    Args:
        settings: the project.
        metadata: its database.

    Raises:
        DefinitionError: a pipeline file does not load.
    """

    def __init__(self, settings: Settings, metadata: Metadata) -> None:
        self.settings = settings
        self.metadata = metadata
        self.clock = system_clock()

    @cached_property
    def archives(self) -> TopicArchives:
        """What is archived of topics."""
        return open_archives(self.settings, self.metadata, self.clock)

    @cached_property
    def topics(self) -> TopicsWithPast:
        """The broker's topics, with what is archived of them."""
        return with_archives(open_topics(self.settings, self.metadata, self.clock), self.archives)

    @cached_property
    def stores(self) -> StateStores:
        """The state of this computer."""
        return open_stores(self.settings)

    @cached_property
    def tables(self) -> LakeTables:
        """Tables of the lake, opened when they are needed."""
        from tidemill.wiring.runner import services_of

        return LakeTables(late(lambda: services_of(self.settings)))

    @cached_property
    def maker(self) -> StreamMaker:
        """Plans streams."""
        return StreamMaker(self.topics, self.stores, self.tables, self.clock, registry_of(self.settings.streams))

    @cached_property
    def streams(self) -> list[tuple[PipelineSpec, StreamSpec]]:
        """All streams that the project's files declare."""
        return streams_of(self.pipelines)

    @cached_property
    def pipelines(self) -> list[PipelineSpec]:
        """All pipelines of data that the project's files declare."""
        return [pipeline.spec() for pipeline in load_pipelines(self.settings).values()]

    def close(self) -> None:
        """Let go of the broker; the database is the caller's."""
        if "topics" in self.__dict__:
            self.topics.close()

    # Streams

    def find(self, name: str) -> tuple[PipelineSpec, StreamSpec]:
        """A stream by `pipeline.stream`, or by its own name where only one is called so. Raises UnknownName."""
        found = [one for one in self.streams if name in (one[1].full_name, one[1].name)]
        exact = [one for one in found if one[1].full_name == name]
        if len(exact or found) != 1:
            raise UnknownName.of("stream", name, [spec.full_name for _, spec in self.streams])
        return (exact or found)[0]

    def plan(self, spec: StreamSpec) -> StreamPlan:
        """A stream's plan; nothing is made."""
        return self.maker.plan(spec, make=False)[0]

    def told(self, stream: str | None = None) -> list[ProcessFacts]:
        """What processes have told of streams."""
        with self.metadata.read() as tx:
            return [ProcessFacts.from_json(found) for found in tx.streams.told(stream)]

    def overview(self) -> list[Overview]:
        """All streams."""
        told: dict[str, list[ProcessFacts]] = {}
        for one in self.told():
            told.setdefault(one.stream, []).append(one)
        paused = self.paused()
        return [self._overview(p, s, told.get(s.full_name, []), s.full_name in paused) for p, s in self.streams]

    def paused(self) -> frozenset[str]:
        """The streams that are paused."""
        with self.metadata.read() as tx:
            return tx.streams.paused()

    def _overview(self, pipeline: PipelineSpec, spec: StreamSpec, told: list[ProcessFacts], paused: bool) -> Overview:
        now = self.clock.now()
        live = [one for one in told if one.is_live(now)]
        failed = [one for one in told if one.state == "failed"]
        error = failed[-1].error if failed else None
        state = state_of(told, now, paused=paused)
        lag: int | None = None
        letters = 0
        given: tuple[str, ...] = ()
        try:
            plan = self.plan(spec)
            given = tuple(writes(plan))
            lag = sum(one.behind for one in self._lag(spec, plan, times=False))
            letters = sum(not one.redriven for one in letters_of(self.topics, self.clock, plan.dead_letters))
        except TidemillError as wrong:
            if wrong.exit_code == 3:
                raise
            state, error = "wrong", str(wrong)
        return Overview(
            stream=spec.full_name,
            pipeline=pipeline.name,
            state=state,
            reads=tuple(sorted({topic.name for topic in spec.topics.values()})),
            writes=given,
            guarantee=spec.guarantee,
            members=sum(one.state != "failed" for one in live),
            lag=lag,
            dead_letters=letters,
            counts=counts_json(live),
            error=error,
            place=spec.place,
        )

    def show(self, name: str) -> dict[str, Any]:
        """A stream's topology, and what is known of it, as JSON values."""
        pipeline, spec = self.find(name)
        told = self.told(spec.full_name)
        now = self.clock.now()
        plan = self.plan(spec)
        made = topology_json(plan, [one for one in told if one.is_live(now)])
        lags = [lag_json(one) for one in self._lag(spec, plan)]
        failed = [one for one in told if one.error]
        with self.metadata.read() as tx:
            counted = [count for _, count in tx.streams.counted(spec.full_name)]
        return {
            "stream": spec.full_name,
            "pipeline": pipeline.name,
            "state": state_of(told, now, paused=spec.full_name in self.paused()),
            "place": spec.place,
            "doc": spec.doc,
            "reads": reads(plan),
            "sources": {one.name: str(one.source) for one in spec.topics.values() if one.source is not None},
            "writes": writes(plan),
            **made,
            "lag": lags,
            "checks": quality_json(plan, counted),
            "error": failed[-1].error if failed else None,
            "error_at": failed[-1].error_at if failed else None,
        }

    def lag(self, name: str | None = None) -> dict[str, list[Lag]]:
        """How far behind a stream is, or all of a pipeline's, or of the project's. Raises UnknownName."""
        chosen = streams_of(self.pipelines, name)
        return {spec.full_name: self._lag(spec, self.plan(spec)) for _, spec in chosen}

    def _lag(self, spec: StreamSpec, plan: StreamPlan, *, times: bool = True) -> list[Lag]:
        def loaded(node: Node) -> int | None:
            if isinstance(node.step, ToDestination):
                return self._loaded_there(plan, node.step)
            assert isinstance(node.step, ToTable)
            with self.metadata.read() as tx:
                return loaded_until(tx, spec.full_name, node.step.table)

        return lag_of(plan, self.topics, loaded, times=times)

    def _loaded_there(self, plan: StreamPlan, step: ToDestination) -> int | None:
        """What the destination says; None where it does not answer, or this shell does not know its address."""
        try:
            there = OutsideSystems(connections_of(self.settings), self.settings.root, self.settings).destination(
                step.destination
            )
            return int(there.position(source_of(plan.name, step)) or 0)
        except TidemillError:
            return None

    # Topics

    def topics_used(self) -> dict[str, dict[str, str]]:
        """Topics that streams are declared to use, by name: by stream, whether it is `read` or `written`."""
        used: dict[str, dict[str, str]] = {}
        for _, spec in self.streams:
            for topic in spec.topics.values():
                used.setdefault(topic.name, {})[spec.full_name] = "read"
            for topic in self.plan(spec).written():
                used.setdefault(topic.name, {}).setdefault(spec.full_name, "written")
        return used

    def topic_rows(self) -> list[TopicRow]:
        """All topics that there are, and those that are declared."""
        used = self.topics_used()
        own: dict[str, str] = {}
        sources: dict[str, str] = {}
        archived: set[str] = set()
        for _, spec in self.streams:
            for topic in spec.topics.values():
                if topic.source is not None:
                    sources[topic.name] = str(topic.source)
                    own[progress_topic(topic.name).name] = spec.full_name
            plan = self.plan(spec)
            archived |= {topic.name for topic in (*spec.topics.values(), *plan.written()) if topic.archive is not None}
            own |= {made.name: spec.full_name for made in plan.own_topics()}
        rows = []
        for name in sorted({*self.topics.names(), *used}):
            info = self.topics.live.describe(name) or TopicInfo(name, (), ())
            roles = sorted(set(used.get(name, {}).values())) or (["own"] if name in own else ["-"])
            streams = tuple(used.get(name, {})) or ((own[name],) if name in own else ())
            held = sum(end - first for first, end in zip(info.first, info.end, strict=True))
            row = TopicRow(name, info.partitions, held, info.cleanup, " and ".join(roles), streams, sources.get(name))
            rows.append(_with_archive(row, info, self.archives.of(name), kept=name in archived))
        return rows

    def declared(self, name: str) -> Topic | None:
        """A topic as streams read it, or else write it."""
        for _, spec in self.streams:
            for topic in spec.topics.values():
                if topic.name == name:
                    return topic
        for _, spec in self.streams:
            for topic in self.plan(spec).written():
                if topic.name == name:
                    return topic
        return None

    def feed(
        self, name: str, lines: Sequence[bytes], key: Sequence[str] = (), *, strict: bool = True, dry_run: bool = False
    ) -> int:
        """Send lines of JSON to a topic; how many there were. `dry_run` only looks whether they can be sent.

        Raises:
            UnknownName: there is no such topic, and none is declared. DataError: a line does not fit, and nothing was
            sent.
        """
        from tidemill.wiring.stream_rows import encoded

        topic, missing = self.declared(name), self.topics.describe(name) is None
        if missing and topic is None:
            known = {*self.topics.names(), *(t.name for _, s in self.streams for t in s.topics.values())}
            raise UnknownName.of("topic", name, known)
        meant = topic or Topic(name)
        if key:
            meant = replace(meant, key=tuple(key))
        made = encoded(meant, lines, strict=strict, registry=registry_of(self.settings.streams))
        if dry_run:
            return len(lines)
        if missing:
            self.topics.create(TopicSpec.of(meant))
        writer = self.topics.writer(f"feed.{name}")
        try:
            for at in range(0, len(lines), _AT_ONCE):
                some = slice(at, at + _AT_ONCE)
                writer.send(name, made.values[some], keys=None if made.keys is None else made.keys[some])
            writer.commit({})
        finally:
            writer.close()
        return len(lines)

    def peek(self, name: str, last: int) -> list[Seen]:
        """The last messages of a topic, oldest first; none of one that is only declared. Raises UnknownName."""
        info = self.topics.live.describe(name)
        if info is None:
            if self.declared(name) is None:
                raise UnknownName.of("topic", name, self.topics.names())
            return []
        begin = {  # a marker of a transaction may follow each message
            Partition(name, number): max(first, end - 2 * last)
            for number, (first, end) in enumerate(zip(info.first, info.end, strict=True))
        }
        found = [s for m in stretch(self.topics, self.clock, begin, ends_of(self.topics, name)) for s in seen(m)]
        found.sort(key=lambda one: (one.at or datetime.min.replace(tzinfo=UTC), one.partition, one.offset))
        return found[-last:] if last else []

    def follow(self, name: str) -> Iterator[Seen | None]:
        """Messages that come from now on; None now and then, so that whoever asks may stop."""
        ends = ends_of(self.topics, name)
        while not ends:
            yield None
            self.clock.sleep(_LOOK_AGAIN)
            ends = dict.fromkeys(ends_of(self.topics, name), 0)  # made since: all that is in it is new
        reader = self.topics.reader()
        try:
            reader.take(ends)
            while True:
                for messages in reader.read(1_000, 0.2):
                    yield from seen(messages)
                yield None
        finally:
            reader.close()


def _with_archive(row: TopicRow, info: TopicInfo, archived: Archived, *, kept: bool) -> TopicRow:
    numbers = range(info.partitions)
    waiting = sum(one.behind for one in archive_lag(info, archived))
    spans = tuple((archived.first.get(n, 0), archived.end.get(n, 0)) for n in numbers) if archived.end else ()
    return replace(row, archived=spans, unarchived=waiting if kept or spans else None)


def state_of(told: Sequence[ProcessFacts], now: datetime, *, paused: bool = False) -> str:
    """A stream's state, by what its processes have told, and whether it is to be paused."""
    live = [one for one in told if one.is_live(now)]
    if paused:
        return "pausing" if live else "paused"
    for state in ("recovering", "running", "failed"):
        if any(one.state == state for one in live):
            return state
    if any(one.state == "failed" for one in told):
        return "failed"
    return "gone" if told else "stopped"


def lag_json(lag: Lag) -> dict[str, Any]:
    """As JSON values."""
    return {
        "topic": lag.partition.topic,
        "partition": lag.partition.number,
        "committed": lag.committed,
        "first": lag.first,
        "end": lag.end,
        "lag": lag.behind,
        "waiting_since": lag.waiting_since,
        "loads": lag.loads,
    }


def seen(messages: Messages) -> Iterator[Seen]:
    """A stretch of messages, one after the other."""
    for place, offset in enumerate(messages.offsets):
        stamp = messages.timestamps[place]
        at = moment_of(stamp)
        headers = messages.headers[place] if messages.headers is not None else ()
        yield Seen(messages.partition.number, offset, at, messages.keys[place], messages.values[place], headers)
