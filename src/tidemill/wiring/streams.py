"""Streams of a project: which broker, codecs and state stores, and the processes that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.authoring.options import made_table, table_spec
from tidemill.flow.stream.defining import frames_of
from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.outlets import Outlets, Sinks
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.process import Loader, StreamProcess
from tidemill.flow.stream.tables import TableLoader, Target
from tidemill.flow.stream.work import WorkMaker
from tidemill.model.branch import MAIN
from tidemill.model.codec import Avro, CodecSpec, Json, Raw, Text
from tidemill.model.errors import UnknownName
from tidemill.model.frame import Frame
from tidemill.model.frame.topic import Topic, ToTable, ToTopic
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec
from tidemill.model.table import PublishMode, TableName
from tidemill.plan.needed import needed_columns
from tidemill.plan.topology import Node, looked_up, plan_topology
from tidemill.ports.topic import Partition, TopicSpec
from tidemill.wiring.codecs import open_codec
from tidemill.wiring.settings import STATE_FOLDER, Settings

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.ports.clock import Clock
    from tidemill.ports.codec import Codec
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


def codec_of(topic: Topic, registry: Registry | None = None) -> Codec:
    """How a topic's values are written.

    Raises:
        DefinitionError: its columns or its schema cannot be read.
    """
    specs: dict[str, CodecSpec] = {
        "json": Json(topic.columns, topic.absent),
        "avro": Avro(columns=topic.columns),
        "text": Text(),
        "bytes": Raw(),
    }
    if isinstance(topic.codec, str) and topic.codec not in specs:
        raise UnknownName.of("codec", topic.codec, specs)
    spec = specs[topic.codec] if isinstance(topic.codec, str) else topic.codec
    return open_codec(spec, topic.name, registry=registry)


def key_codec(columns: tuple[str, ...]) -> Codec | None:
    """How a message's key is written: one column as its text, several as JSON."""
    from tidemill.adapters.arrow.key_codec import KeyCodec

    return KeyCodec(columns) if columns else None


class Tables(Protocol):
    """Tables that streams join, and write."""

    def schema(self, name: TableName) -> Any:
        """A table's columns. Raises UnknownName."""
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
    """Tables of the project's lake."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def schema(self, name: TableName) -> Any:
        """A table's columns."""
        with self._services.metadata.read() as tx:
            pointers = tx.refs.pointers(MAIN)
        if name not in pointers:
            raise UnknownName.of("table", str(name), map(str, pointers))
        return self._services.catalog.scan(name, pointers[name]).schema

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
        target = Target(pipeline, stream.name, spec, place=stream.place)
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
    """

    def __init__(
        self, topics: Topics, stores: StateStores, tables: Tables, clock: Clock, registry: Registry | None = None
    ) -> None:
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
        engine = PolarsStreamEngine({f"whole({name})": self._tables.schema(name) for name in spec.tables.values()})
        partitions = {topic.name: self._partitions(topic, make) for topic in spec.topics.values()}
        topology = plan_topology(spec.full_name, frames, engine.columns_of, partitions)
        plan = StreamPlan(spec.full_name, topology, guarantee=spec.guarantee, every=spec.every, errors=spec.errors)
        if make:
            for own in plan.own_topics():
                self._topics.create(own)
            for topic in plan.written():
                self._partitions(topic, make)
        return plan, engine

    def _partitions(self, topic: Topic, make: bool) -> int:
        """How many a topic has, which is made where it is missing."""
        found = self._topics.describe(topic.name)
        if found is None and not make:
            return topic.partitions
        if found is None:
            found = self._topics.create(TopicSpec(topic.name, topic.partitions, retention=topic.retention))
        return found.partitions

    def _reading(self, plan: StreamPlan, source: Node) -> Codec:
        """The codec of a source, for the columns that the stream uses."""
        codec = codec_of(source.topic, self._registry)
        wanted = needed_columns(plan.topology, source.number)
        return codec if wanted is None else codec.only(wanted)

    def process(
        self,
        pipeline: PipelineSpec,
        spec: StreamSpec,
        identity: str,
        sinks: Callable[[StreamPlan], Sinks] | None = None,
    ) -> StreamProcess:
        """One process's part in a stream; with `sinks`, its rows go there and nowhere else."""
        plan, engine = self.plan(spec)
        codecs = {n.number: self._reading(plan, n) for n in plan.topology.nodes if n.kind == "source"}
        lookups = {
            number: self._tables.lookup(TableName.parse(frame.source.name), frame, plan.lookups_every)
            for number, frame in looked_up(plan.topology).items()
        }

        def keep(stage: int, number: int) -> Kept:
            store = self._stores.open(f"{plan.name}/stage{stage}.{number}")
            return Kept(store, Partition(plan.changelog(stage), number), self._clock, plan.fingerprint(stage))

        def written(step: ToTopic) -> tuple[Codec, Codec | None]:
            return codec_of(step.topic, self._registry), key_codec(step.key)

        def loader(node: Node) -> Loader:
            assert isinstance(node.step, ToTable)
            return self._tables.loader(pipeline, spec, node.step, self._topics, plan.outbox(node), engine)

        work = WorkMaker(plan, engine, self._topics, keep, lookups)
        outlets = Outlets(plan, engine, written) if sinks is None else sinks(plan)
        return StreamProcess(plan, self._topics, work, codecs, outlets, loader, self._clock, identity)


def streams_of(pipelines: Iterable[PipelineSpec], name: str | None = None) -> list[tuple[PipelineSpec, StreamSpec]]:
    """The streams of pipelines; with a name (`pipeline.stream`, or a pipeline's) those only.

    Raises:
        UnknownName: there is none of that name.
    """
    found = [(pipeline, spec) for pipeline in pipelines for spec in pipeline.streams.values()]
    if name is None:
        return found
    chosen = [(p, s) for p, s in found if name in (s.full_name, p.name)]
    if not chosen:
        raise UnknownName.of("stream", name, [s.full_name for _, s in found])
    return chosen
