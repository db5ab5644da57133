"""`StreamTest`: a stream in memory for users' tests. Rows go in, time passes when told, results come out; it can crash.

It is the real thing with topics, state and time in memory: what passes here passes with a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any, TypeAlias, cast

from tidemill.adapters.memory.registry import MemoryRegistry
from tidemill.adapters.memory.state import MemoryStates
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.authoring.streams import Stream
from tidemill.flow.stream.outlets import Loader
from tidemill.flow.stream.process import StreamProcess
from tidemill.model.codec import Json
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import UnknownName
from tidemill.model.frame import Frame
from tidemill.model.frame.operation import MapWithState, Reduce
from tidemill.model.frame.topic import Topic, ToTable
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec
from tidemill.model.table import TableName
from tidemill.ports.stream_engine import LookUp, StreamEngine
from tidemill.ports.topic import Partition, Topics, TopicSpec
from tidemill.testing.clock import ManualClock
from tidemill.wiring.messages import reader_of
from tidemill.wiring.stream_rows import as_line, encoded
from tidemill.wiring.streams import StreamMaker, Waiting

#: What is fed: see `StreamTest.feed`.
Row: TypeAlias = "Mapping[str, Any] | bytes | tuple[bytes | None, bytes | None]"
_ALL = 1_000_000
#: A member that is silent for so long is out of its group, in seconds.
_SESSION = 11.0
#: Time passes in steps of so many seconds.
_STEP = 3.0


class StreamTest:
    """A stream in memory.

    Args:
        stream: what `@pipeline.stream` returned.
        tables: rows (a Polars DataFrame or a list of dicts) of the tables that it joins, by `pipeline.table`.
        clock: the time; left out, one that moves when told.
    """

    def __init__(
        self, stream: Stream, *, tables: Mapping[str, Any] | None = None, clock: ManualClock | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self._pipeline = stream.pipeline.spec()
        self._spec = self._pipeline.streams[stream.name]
        self._topics = MemoryTopics(self.clock)
        self._stores = MemoryStates()
        self._tables = _Tables(tables or {})
        self._registry = MemoryRegistry()
        self._maker = StreamMaker(self._topics, self._stores, self._tables, self.clock, self._registry)
        for topic in self._spec.topics.values():
            self._topics.create(replace(TopicSpec.of(topic), retention=None))
        self._feeding = self._topics.writer("feeding")
        self._begun = 0
        self.process = self._begin()

    def _begin(self) -> StreamProcess:
        self._begun += 1
        return self._maker.process(self._pipeline, self._spec, "test")

    # What happens

    def feed(self, topic: str, rows: Sequence[Row], partition: int | None = None) -> None:
        """Write messages and have the stream work on them.

        Args:
            topic: its name, or the parameter that reads it.
            rows: dicts, written as the topic is (times also as text; schemas go to a registry in memory); bytes are
                messages as they are, and `(key, value)` is one with its key; None is no key, or no value. What does not
                fit the topic is sent all the same: the stream shall see it.
            partition: where to; None: by the topic's key.
        """
        meant = self._topic(topic)
        for whole, some in groupby(rows, lambda row: isinstance(row, tuple)):
            if whole:
                keys, values = zip(*cast("Iterable[tuple[bytes | None, bytes | None]]", some), strict=True)
                self._feeding.send(meant.name, values, keys=keys, partitions=partition)
                continue
            raw = [row if isinstance(row, bytes) else as_line(cast("Mapping[str, Any]", row)) for row in some]
            made = encoded(meant, raw, strict=False, registry=self._registry)
            self._feeding.send(meant.name, made.values, keys=made.keys, partitions=partition)
        self._feeding.flush()
        self.work()

    def work(self) -> None:
        """Have the stream do all that there is to do, without a checkpoint unless one is due."""
        quiet = 0
        while quiet < 3:
            quiet = 0 if self.process.turn() else quiet + 1

    def advance(self, by: Duration) -> None:
        """Let time pass, and the stream notice."""
        left = read_duration(by, "by").total_seconds()
        while left > 0:  # in steps: a member that is silent for long loses its tasks
            self.clock.advance(min(left, _STEP))
            left -= _STEP
            self.work()

    def checkpoint(self) -> None:
        """Make what was done count; what the stream sent itself is worked on, too."""
        self.process.checkpoint()
        self.work()
        self.process.checkpoint()

    def crash(self) -> None:
        """Die without a word, and begin again from the last checkpoint."""
        self.process.abandon()
        self.clock.advance(_SESSION)  # until the group believes it
        self.process = self._begin()
        self.work()

    def restart(self) -> None:
        """End as one should, and begin again."""
        self.process.checkpoint()
        self.process.close()
        self.process = self._begin()
        self.work()

    # What came of it

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """All messages that a topic has, as dicts; of an exactly-once stream those that count.

        Of JSON as it stands there (times are text); what has another codec is read by that.
        """
        import json

        found = [(key, value) for key, value in self.messages(topic) if value is not None]
        keys, values = [key for key, _ in found], [value for _, value in found]
        declared = self._declared().get(topic, Topic(topic))
        if declared.codec == "json" or isinstance(declared.codec, Json):
            return [json.loads(value) for value in values]
        rows: list[dict[str, Any]] = reader_of(declared, self._registry).read(keys, values).rows.to_dicts()
        return rows

    def messages(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        """All messages that a topic has, as (key, value)."""
        return [(key, value) for key, value, _ in self._read(topic)]

    def table(self, name: str) -> list[dict[str, Any]]:
        """All rows that were given to a table, or to a destination: `table("warehouse.orders")`."""
        values = [value for _, value, _ in self._read(f"{self._spec.full_name}.{name}.rows") if value is not None]
        if not values:
            return []
        _, engine = self._maker.plan(self._spec, make=False)
        found: list[dict[str, Any]] = engine.unpack(values).to_dicts()
        return found

    def state(self, step: str | None = None) -> dict[Any, dict[str, Any]]:
        """What the function of `reduce` or `map_with_state` remembers, by key, as of the last checkpoint.

        A key of one column is its value, of several a tuple; without a key there is one, None.

        Args:
            step: which, where there are several: `reduce1`, `reduce2`, `map_with_state1`.

        Raises:
            UnknownName: the stream has no such step, or several and none was named.
        """
        from tidemill.adapters.polars.stream.keyed import read

        nodes = self.process.plan.topology.nodes
        known = {node.name: node.step for node in nodes if isinstance(node.step, Reduce | MapWithState)}
        chosen = next(iter(known)) if step is None and len(known) == 1 else step
        if chosen not in known:
            raise UnknownName.of("step with a function that remembers", str(step), known)
        prefix = f"{chosen}/states/".encode()
        found: dict[Any, dict[str, Any]] = {}
        for work in self.process.works.values():
            for name, value in work.kept.scan(prefix) if work.kept is not None else ():
                key, kept = read(name[len(prefix) :]), read(value)
                found[_of_key(key)] = kept["values"] if isinstance(known[chosen], MapWithState) else kept
        return found

    def open_windows(self) -> int:
        """How many tumbling and hopping windows are open, one for each key, as of the last checkpoint.

        Other windows keep their rows, and are not counted.
        """
        return sum(work.task.open_windows() or 0 for work in self.process.works.values())

    def late(self) -> list[dict[str, Any]]:
        """Rows that came too late."""
        return self._letters("late")

    def dead_letters(self) -> list[dict[str, Any]]:
        """What could not be taken: `value` as it came, `kind`, `step`, `error`, `topic`, `partition`, `offset`.

        Rows that failed a check are among them, of kind `quarantined`, with their `row`.
        """
        return self._letters("dead-letters")

    def checks(self, of: str | None = None) -> dict[str, tuple[int, int]]:
        """By check: rows that were looked at, and of these those that failed; as of the last checkpoint.

        Args:
            of: only those of a topic, by its name, or of the result, by `pipeline.stream`.
        """
        found: dict[str, tuple[int, int]] = {}
        for work in self.process.works.values():
            counts = work.tally.found() if work.tally is not None else ()
            for one in (count for count in counts if of in (None, count.judged)):
                rows, failed = found.get(one.name, (0, 0))
                found[one.name] = rows + one.rows, failed + one.failed
        return found

    def _letters(self, kind: str) -> list[dict[str, Any]]:
        import json

        letters = []
        for key, value, headers in self._read(f"{self._spec.full_name}.{kind}"):
            told: dict[str, Any] = {
                name.removeprefix("tidemill-"): (content or b"").decode()
                for name, content in headers
                if name.startswith("tidemill-")
            }
            if told.get("kind") == "late" and value is not None:
                told["row"], value = value, None
            if "row" in told:
                told["row"] = json.loads(told["row"])
            letters.append({"key": key, "value": value, **told})
        return letters

    def _read(self, topic: str) -> list[tuple[bytes | None, bytes | None, Any]]:
        info = self._topics.describe(topic)
        if info is None:
            raise UnknownName.of("topic", topic, self._topics.names())
        reader = self._topics.reader()
        reader.take({Partition(topic, number): 0 for number in range(info.partitions)})
        found = sorted(reader.read(_ALL, 0), key=lambda one: one.partition.number)
        reader.close()
        return [
            (key, value, one.headers[place] if one.headers is not None else ())
            for one in found
            for place, (key, value) in enumerate(zip(one.keys, one.values, strict=True))
        ]

    def _declared(self) -> dict[str, Topic]:
        """Topics that it reads and writes, by name."""
        return {one.name: one for one in (*self.process.plan.written(), *self._spec.topics.values())}

    def _topic(self, name: str) -> Topic:
        known = {**self._spec.topics, **{topic.name: topic for topic in self._spec.topics.values()}}
        if name not in known:
            raise UnknownName.of("topic", name, known)
        return known[name]


def _of_key(values: list[Any]) -> Any:
    return tuple(values) if len(values) > 1 else values[0] if values else None


class _Tables:
    """Tables in memory."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        from tidemill.adapters.polars.tables import given_rows

        self._rows = {name: given_rows(rows, name) for name, rows in given.items()}

    def schema(self, name: TableName) -> Any:
        return self._found(name).schema

    def rows(self, name: TableName) -> Any:
        return self._found(name).lazy()

    def lookup(self, name: TableName, frame: Frame, every: timedelta) -> LookUp:
        from tidemill.adapters.polars.engine import PolarsEngine

        return lambda: PolarsEngine().collect(frame, {frame.source.key: self._found(name)})

    def loader(
        self,
        pipeline: PipelineSpec,
        stream: StreamSpec,
        step: ToTable,
        topics: Topics,
        topic: str,
        engine: StreamEngine,
    ) -> Loader:
        return Waiting()

    def _found(self, name: TableName) -> Any:
        if str(name) not in self._rows:
            raise UnknownName.of("table", str(name), self._rows)
        return self._rows[str(name)]
