"""Where results go: topics, functions, tables. What is given to an outlet counts with the next checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.frame.topic import ToFunction, ToTable, ToTopic
from tidemill.plan.topology import sinks
from tidemill.ports.codec import Codec
from tidemill.ports.stream_engine import Given, StreamEngine
from tidemill.ports.topic import Writer

#: Bytes of rows in a message, before they are packed: brokers take messages of 1 MB unless they are told otherwise.
PIECE = 600_000


class Outlet(Protocol):
    """One sink."""

    def give(self, rows: Any, writer: Writer) -> None:
        """Take rows; they may leave at once, or with the checkpoint."""
        ...


class Sinks(Protocol):
    """All sinks of a stream, as its process sees them."""

    @property
    def rows(self) -> Mapping[int, int]:
        """How many rows have gone to each, by its node."""
        ...

    def give(self, given: Given, writer: Writer) -> None:
        """Hand rows to their sink."""
        ...


class TopicOutlet:
    """Rows as messages.

    Args:
        step: the sink.
        values, keys: how they are written; None: messages have no key.
        split: gives for rows and an expression the rows by its values.
    """

    def __init__(
        self,
        step: ToTopic,
        values: Codec,
        keys: Codec | None,
        split: Callable[[Any, Any], Mapping[str | None, Any]],
    ) -> None:
        self._step = step
        self._values = values
        self._keys = keys
        self._split = split

    def give(self, rows: Any, writer: Writer) -> None:
        """Send rows, each to its topic. Where none is chosen for a row, it goes nowhere."""
        if self._step.chosen is None:
            self._send(self._step.topic.name, rows, writer)
            return
        for topic, part in self._split(rows, self._step.chosen).items():
            if topic is not None:
                self._send(topic, part, writer)

    def _send(self, topic: str, rows: Any, writer: Writer) -> None:
        keys = None if self._keys is None else self._keys.encode(rows.select(list(self._step.key)))
        writer.send(topic, self._values.encode(rows), keys=keys)


class FunctionOutlet:
    """Rows to a user's function, as lists of dicts. Before a checkpoint counts: a crash between sends them again."""

    def __init__(self, step: ToFunction) -> None:
        self._step = step

    def give(self, rows: Any, writer: Writer) -> None:
        """Call it."""
        self._step.function(rows.to_dicts())


class TableOutlet:
    """Rows on their way to a table: into a topic of the stream's own, which `flow/stream/tables.py` loads."""

    def __init__(self, topic: str, pack: Callable[[Any], bytes]) -> None:
        self._topic = topic
        self._pack = pack

    def give(self, rows: Any, writer: Writer) -> None:
        """Send rows, in pieces that a broker takes."""
        size = max(1, rows.height * PIECE // max(PIECE, rows.estimated_size()))
        for first in range(0, rows.height, size):
            writer.send(self._topic, [self._pack(rows.slice(first, size))], partitions=0)


class Outlets:
    """All sinks of a stream.

    Args:
        plan: the stream.
        engine: packs and splits rows.
        codecs: values' and keys' codecs of a topic sink.
    """

    def __init__(
        self, plan: StreamPlan, engine: StreamEngine, codecs: Callable[[ToTopic], tuple[Codec, Codec | None]]
    ) -> None:
        self._outlets: dict[int, Outlet] = {}
        for node in sinks(plan.topology):
            match node.step:
                case ToTopic() as step:
                    self._outlets[node.number] = TopicOutlet(step, *codecs(step), engine.split)
                case ToFunction() as step:
                    self._outlets[node.number] = FunctionOutlet(step)
                case ToTable():
                    self._outlets[node.number] = TableOutlet(plan.outbox(node), engine.pack)
        self.rows: dict[int, int] = dict.fromkeys(self._outlets, 0)

    def give(self, given: Given, writer: Writer) -> None:
        """Hand rows to their sink."""
        self.rows[given.node] += given.rows.height
        self._outlets[given.node].give(given.rows, writer)
