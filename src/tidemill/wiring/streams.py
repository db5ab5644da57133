"""Streams of a project: which broker, codecs and state stores, and the processes that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.authoring.options import made_table, table_spec
from tidemill.flow.stream.defining import frames_of
from tidemill.flow.stream.destinations import DestinationLoader
from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.loading import EVERY
from tidemill.flow.stream.measuring import Counts
from tidemill.flow.stream.outlets import EncodeKeys, Loader, Outlets, Sinks
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.process import StreamProcess
from tidemill.flow.stream.tables import TableLoader, Target
from tidemill.flow.stream.work import WorkMaker
from tidemill.model.branch import MAIN
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.frame import Frame
from tidemill.model.frame.topic import ToDestination, Topic, ToTable, ToTopic
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec, TableBefore
from tidemill.model.table import PublishMode, Scan, TableName
from tidemill.plan.needed import needed_columns
from tidemill.plan.topology import Node, looked_up, plan_topology
from tidemill.ports.topic import Partition, TopicInfo, TopicSpec
from tidemill.wiring.messages import codec_of, key_encoder, reader_of
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.storage import Reach
from tidemill.wiring.stream_past import beginning, with_pasts

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.flow.stream.history import Past
    from tidemill.ports.clock import Clock
    from tidemill.ports.codec import Codec, MessageReader
    from tidemill.ports.destination import Destination
    from tidemill.ports.registry import Registry
    from tidemill.ports.state import StateStores
    from tidemill.ports.stream_engine import LookUp, StreamEngine
    from tidemill.ports.topic import Topics


def open_stores(settings: Settings) -> StateStores:
    """The state stores of this computer."""
    folder = settings.root / STATE_FOLDER / "state"
    match settings.streams.state:
        case "rocksdb":
            from tidemill.adapters.rocksdict.state import RocksStates

            return RocksStates(folder)
        case "memory":
            from tidemill.adapters.memory.state import MemoryStates

            return MemoryStates()
        case _:
            from tidemill.adapters.sqlitestate.state import SqliteStates

            return SqliteStates(folder)


class Tables(Protocol):
    """Tables that streams join, and write."""

    def schema(self, name: TableName) -> Any:
        """A table's columns. Raises UnknownName."""
        ...

    def rows(self, name: TableName) -> Any:
        """All rows of a table's newest version, as Polars reads them when they are needed. Raises UnknownName."""
        ...

    def lookup(self, name: TableName, frame: Frame, every: timedelta) -> LookUp:
        """A frame over a table, run again when the table has a new version that is looked for `every` so often."""
        ...

    def loader(
        self,
        pipeline: PipelineSpec,
        stream: StreamSpec,
        step: ToTable,
        topics: Topics,
        topic: str,
        engine: StreamEngine,
    ) -> Loader:
        """What loads the rows that wait in a topic."""
        ...


class Waiting:
    """A loader that loads nothing: rows stay where they wait."""

    error: BaseException | None = None

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class LakeTables:
    """Tables of the project's lake.

    Args:
        services: of the project.
        every: how long rows wait for others of their batch.
    """

    def __init__(self, services: Services, every: timedelta | None = None) -> None:
        self._services = services
        self._every = every or EVERY

    def schema(self, name: TableName) -> Any:
        """A table's columns."""
        return self._scan(name).schema

    def rows(self, name: TableName) -> Any:
        """All rows of a table, as they are now."""
        return Reach.of(self._services.lake).scanner().lazy(self._scan(name))

    def _scan(self, name: TableName) -> Scan:
        with self._services.metadata.read() as tx:
            pointers = tx.refs.pointers(MAIN)
        if name not in pointers:
            raise UnknownName.of("table", str(name), map(str, pointers))
        return self._services.catalog.scan(name, pointers[name])

    def lookup(self, name: TableName, frame: Frame, every: timedelta) -> LookUp:
        """A frame over a table."""
        return _Lookup(self._services, name, frame, every).rows

    def loader(
        self,
        pipeline: PipelineSpec,
        stream: StreamSpec,
        step: ToTable,
        topics: Topics,
        topic: str,
        engine: StreamEngine,
    ) -> TableLoader:
        """What loads the rows that wait in a topic."""
        spec = made_table(table_spec(TableName(pipeline.name, step.table), PublishMode.RUN, dict(step.options)))
        target = Target(pipeline, stream.name, spec, self._every, stream.place)
        return TableLoader(self._services, target, topics, topic, engine.unpack, self._services.clock)


class _Lookup:
    """A frame over a table, as rows in memory."""

    def __init__(self, services: Services, name: TableName, frame: Frame, every: timedelta) -> None:
        self._services = services
        self._name = name
        self._frame = frame
        self._every = every.total_seconds()
        self._seen: str | None = None
        self._looked = 0.0
        self._rows: Any = None

    def rows(self) -> Any:
        """The rows of the newest version that is known."""
        now = self._services.clock.monotonic()
        if self._rows is not None and now - self._looked < self._every:
            return self._rows
        self._looked = now
        with self._services.metadata.read() as tx:
            pointer = tx.refs.pointers(MAIN).get(self._name)
        if pointer is None:
            raise UnknownName.of("table", str(self._name), ())
        if pointer != self._seen:
            scan = self._services.catalog.scan(self._name, pointer)
            self._rows = self._services.frames.collect(self._frame, {self._frame.source.key: scan})
            self._seen = pointer
        return self._rows


class StreamMaker:
    """Makes the processes of streams.

    Args:
        topics: the broker.
        stores: state stores.
        tables: that are joined, and written.
        clock: the time.
        registry: of schemas, where messages name theirs.
        destinations: opens databases outside by the names of connections; None: rows for them stay where they wait.
        every: how long rows for these wait for others of their batch.
    """

    def __init__(
        self,
        topics: Topics,
        stores: StateStores,
        tables: Tables,
        clock: Clock,
        registry: Registry | None = None,
        destinations: Callable[[str], Destination] | None = None,
        every: timedelta | None = None,
    ) -> None:
        self._destinations = destinations
        self._every = every or EVERY
        self._registry = registry
        self._topics = topics
        self._stores = stores
        self._tables = tables
        self._clock = clock

    def plan(self, spec: StreamSpec, *, make: bool = True) -> tuple[StreamPlan, StreamEngine]:
        """Plan a stream, and make the topics that it needs; with `make` false only look.

        Raises:
            UserError: the stream is wrong; nothing is made.
        """
        from tidemill.adapters.polars.stream.engine import PolarsStreamEngine

        frames = frames_of(spec)
        since: dict[str, datetime] = {}
        for parameter, before in spec.bootstrap.items():
            if isinstance(before, TableBefore):
                self._tables.schema(before.table)  # that there is none is told before anything begins
                since |= {} if before.until is None else {spec.topics[parameter].name: before.until}
        joined = {f"whole({name})": self._joined(name, spec) for name in spec.tables.values()}
        engine = PolarsStreamEngine(joined, since)
        found = {topic.name: self._found(topic, make) for topic in spec.topics.values()}
        partitions = {topic.name: found[topic.name].partitions for topic in spec.topics.values()}
        topology = plan_topology(spec.full_name, frames, engine.columns_of, partitions)
        plan = StreamPlan(
            spec.full_name, topology, guarantee=spec.guarantee, every=spec.every, errors=spec.errors,
            largest=max(info.largest for info in found.values()),
        )  # fmt: skip
        if make:
            for own in plan.own_topics():
                self._topics.create(own)
            for topic in plan.written():
                self._found(topic, make)
        return plan, engine

    def _joined(self, name: TableName, spec: StreamSpec) -> Any:
        try:
            return self._tables.schema(name)
        except UnknownName as error:
            error.where = error.where or spec.place
            raise

    def _found(self, topic: Topic, make: bool) -> TopicInfo:
        """A topic, which is made where it is missing; or as it would be made."""
        found = self._topics.describe(topic.name)
        if found is None and make:
            found = self._topics.create(TopicSpec.of(topic))
        return found or TopicInfo(topic.name, (0,) * topic.partitions, (0,) * topic.partitions)

    def _chosen(self, plan: StreamPlan) -> Callable[[ToTopic, str], str]:
        """Makes topics that rows choose, each when its first row comes; why one cannot be, else an empty text."""
        made: set[str] = set()

        def make(step: ToTopic, name: str) -> str:
            if name in made:
                return ""
            if name.startswith(f"{plan.name}."):
                return f'"{name}" is a topic of the stream\'s own'
            try:
                self._found(replace(step.topic, name=name), make=True)
            except DefinitionError as error:
                return error.what
            made.add(name)
            return ""

        return make

    def topics_of(self, spec: StreamSpec) -> Topics:
        """The topics, each with the past that a stream is bootstrapped from."""
        from tidemill.adapters.polars.table_past import TablePast

        tables: list[Past] = []
        for parameter, before in spec.bootstrap.items():
            if isinstance(before, TableBefore):
                topic = spec.topics[parameter]
                values, keys = codec_of(topic, self._registry).encode, key_encoder(topic, self._registry)
                partitions = self._found(topic, make=False).partitions
                tables.append(TablePast(self._tables.rows(before.table), before, topic, partitions, values, keys))
        return with_pasts(self._topics, tables)

    def _reading(self, plan: StreamPlan, spec: StreamSpec, source: Node) -> MessageReader:
        """What reads a source, the columns that the stream uses."""
        wanted = needed_columns(plan.topology, source.number)
        if wanted is None:
            return reader_of(source.topic, self._registry)
        parted = any(spec.topics[parameter].name == source.topic.name for parameter in spec.bootstrap)
        time = [source.topic.time] if parted and source.topic.time is not None else []
        names = [*wanted, *(name for name in time if name not in wanted)]
        return reader_of(source.topic, self._registry, names)

    def process(
        self,
        pipeline: PipelineSpec,
        spec: StreamSpec,
        identity: str,
        sinks: Callable[[StreamPlan], Sinks] | None = None,
        counts: Counts | None = None,
    ) -> StreamProcess:
        """One process's part in a stream; with `sinks`, its rows go there and nowhere else.

        `counts`: of a process before it, which are gone on with.
        """
        plan, engine = self.plan(spec)
        codecs = {n.number: self._reading(plan, spec, n) for n in plan.topology.nodes if n.kind == "source"}
        lookups = {
            number: self._tables.lookup(TableName.parse(frame.source.name), frame, plan.lookups_every)
            for number, frame in looked_up(plan.topology).items()
        }

        def keep(stage: int, number: int) -> Kept:
            store = self._stores.open(f"{plan.name}/stage{stage}.{number}")
            return Kept(store, Partition(plan.changelog(stage), number), self._clock, plan.fingerprint(stage))

        def written(step: ToTopic) -> tuple[Codec, EncodeKeys | None]:
            return codec_of(step.topic, self._registry), key_encoder(step.topic, self._registry, step.key)

        def loader(node: Node) -> Loader:
            if isinstance(node.step, ToDestination):
                return self._destination_loader(plan, node, node.step, engine)
            assert isinstance(node.step, ToTable)
            return self._tables.loader(pipeline, spec, node.step, self._topics, plan.outbox(node), engine)

        topics = self.topics_of(spec)
        work = WorkMaker(plan, engine, topics, keep, lookups)
        outlets = Outlets(plan, engine, written, self._chosen(plan)) if sinks is None else sinks(plan)
        begin = beginning(spec, topics)
        return StreamProcess(plan, topics, work, codecs, outlets, loader, self._clock, identity, begin, counts)

    def _destination_loader(self, plan: StreamPlan, node: Node, step: ToDestination, engine: StreamEngine) -> Loader:
        from tidemill.adapters.arrow.frames import batches_of

        if self._destinations is None:
            return Waiting()
        there = self._destinations(step.destination)
        return DestinationLoader(
            plan.name, step, there, batches_of, self._topics, plan.outbox(node), engine.unpack, self._clock, self._every
        )


def streams_of(pipelines: Iterable[PipelineSpec], name: str | None = None) -> list[tuple[PipelineSpec, StreamSpec]]:
    """The streams of pipelines; with a name (`pipeline.stream`, a pipeline's, or a stream's own) those only.

    Raises:
        UnknownName: there is none of that name, or several pipelines have one.
    """
    found = [(pipeline, spec) for pipeline in pipelines for spec in pipeline.streams.values()]
    if name is None:
        return found
    chosen = [(p, s) for p, s in found if name in (s.full_name, p.name)]
    if not chosen:
        chosen = [(p, s) for p, s in found if s.name == name]
    if not chosen or (len(chosen) > 1 and chosen[0][0] is not chosen[-1][0]):
        raise UnknownName.of("stream", name, [s.full_name for _, s in found])
    return chosen
