"""Where results go: topics, functions, tables. What is given to an outlet counts with the next checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.frame.topic import ToFunction, ToTable, ToTopic
from tidemill.plan.topology import Node, sinks
from tidemill.ports.codec import Codec
from tidemill.ports.stream_engine import Given
from tidemill.ports.topic import Writer


class Outlet(Protocol):
    """One sink."""

    def give(self, rows: Any, writer: Writer) -> None:
        """Take rows; they may leave at once, or with the checkpoint."""
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


class Outlets:
    """All sinks of a stream.

    Args:
        plan: the stream.
        make: makes the outlet of a node that none of those here is for (tables).
        codecs: values' and keys' codecs of a topic sink.
        split: see `TopicOutlet`.
    """

    def __init__(
        self,
        plan: StreamPlan,
        make: Callable[[Node], Outlet],
        codecs: Callable[[ToTopic], tuple[Codec, Codec | None]],
        split: Callable[[Any, Any], Mapping[str | None, Any]],
    ) -> None:
        self._outlets: dict[int, Outlet] = {}
        for node in sinks(plan.topology):
            match node.step:
                case ToTopic() as step:
                    self._outlets[node.number] = TopicOutlet(step, *codecs(step), split)
                case ToFunction() as step:
                    self._outlets[node.number] = FunctionOutlet(step)
                case ToTable():
                    self._outlets[node.number] = make(node)
        self.rows: dict[int, int] = dict.fromkeys(self._outlets, 0)

    def give(self, given: Given, writer: Writer) -> None:
        """Hand rows to their sink."""
        self.rows[given.node] += given.rows.height
        self._outlets[given.node].give(given.rows, writer)
