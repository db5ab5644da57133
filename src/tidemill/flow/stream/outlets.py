"""Where results go: topics, functions, tables. What is given to an outlet counts with the next checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias

from tidemill.flow.stream.calling import Caller
from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.errors import ContractError, DataError, LimitError
from tidemill.model.frame.topic import Loaded, ToFunction, ToTopic
from tidemill.plan.topology import sinks
from tidemill.ports.codec import Codec
from tidemill.ports.stream_engine import Given, StreamEngine
from tidemill.ports.topic import Writer

#: Makes the key of each row.
EncodeKeys = Callable[[Any], "list[bytes | None]"]
#: Bytes of rows in a message, before they are packed: brokers take messages of 1 MB unless they are told otherwise.
PIECE = 600_000


#: Rows that a sink cannot take, each with the reason.
Untaken: TypeAlias = "list[tuple[Mapping[str, Any], str]]"


class Outlet(Protocol):
    """One sink."""

    def give(self, rows: Any, writer: Writer) -> Untaken:
        """Take rows; they may leave at once, or with the checkpoint."""
        ...


class Sinks(Protocol):
    """All sinks of a stream, as its process sees them."""

    def give(self, given: Given, writer: Writer) -> Untaken:
        """Hand rows to their sink."""
        ...

    def busy(self, seconds: float) -> bool:
        """Whether one has not taken all that it was given, after that long at the most. Raises what it has raised."""
        ...

    def forget(self) -> None:
        """What was given since the last checkpoint does not count, and comes again."""
        ...

    def close(self) -> None:
        """Nothing more is given."""
        ...


class Loader(Protocol):
    """What brings rows into a table, while it is started."""

    error: BaseException | None

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


class TopicOutlet:
    """Rows as messages.

    Args:
        step: the sink.
        values, keys: how they are written; None: messages have no key.
        engine: gives for rows and an expression the rows by its values.
        chosen: is asked for each topic that a row chooses: makes it where it is missing; why it cannot be, else "".
    """

    def __init__(
        self,
        step: ToTopic,
        values: Codec,
        keys: EncodeKeys | None,
        engine: StreamEngine,
        chosen: Callable[[str], str],
    ) -> None:
        self._step = step
        self._chosen = chosen
        self._values = values
        self._keys = keys
        self._split = engine.split
        self._told = engine.told

    def give(self, rows: Any, writer: Writer) -> Untaken:
        """Send rows, each to its topic. Where none is chosen for a row, it goes nowhere."""
        step = self._step
        parts = {step.topic.name: rows} if step.chosen is None else self._split(rows, step.chosen)
        untaken: Untaken = []
        for topic, part in parts.items():
            if topic is None:
                continue
            if step.chosen is not None and (why := self._chosen(topic)):
                untaken += [(row, why) for row in self._told(part)]
                continue
            for some, partition in self._by_key(part):
                untaken += _halved(some, partial(self._send, topic, partition, writer), self._told)
        return untaken

    def _by_key(self, rows: Any) -> list[tuple[Any, int | None]]:
        """Rows with a key, and those without, which all go to one partition: whoever groups by it has them together."""
        key = self._step.key
        if len(key) != 1 or not rows.get_column(key[0]).null_count():
            return [(rows, None)]
        missing = rows.get_column(key[0]).is_null()
        return [(some, at) for some, at in ((rows.filter(~missing), None), (rows.filter(missing), 0)) if some.height]

    def _send(self, topic: str, partition: int | None, writer: Writer, rows: Any) -> None:
        try:
            values = self._values.encode(rows)
            keys = None if self._keys is None else self._keys(rows)
        except ContractError:
            raise  # of the schema, which is that of all rows
        except DataError as error:
            raise _Unfit(error.what) from None
        try:
            writer.send(topic, values, keys=keys, partitions=partition)
        except LimitError as error:
            raise _Unfit(error.what) from None


class FunctionOutlet:
    """Rows to a user's function, as lists of dicts. Before a checkpoint counts: a crash between sends them again."""

    def __init__(self, step: ToFunction) -> None:
        self.caller = Caller(lambda rows: step.function(rows.to_dicts()), "sink")

    def give(self, rows: Any, writer: Writer) -> Untaken:
        """Call it; `Outlets.busy` says whether it has returned.

        What it raises ends the stream: whether it has taken some of the rows nobody knows.
        """
        self.caller.call(rows)
        return []


class WaitingOutlet:
    """Rows that wait to be loaded: in a topic of the stream's own, from which `flow/stream/loading.py` takes them."""

    def __init__(self, topic: str, engine: StreamEngine) -> None:
        self._topic = topic
        self._pack = engine.pack
        self._told = engine.told

    def give(self, rows: Any, writer: Writer) -> Untaken:
        """Send rows, in pieces that a broker takes."""
        size = max(1, rows.height * PIECE // max(PIECE, rows.estimated_size()))
        untaken: Untaken = []
        for first in range(0, rows.height, size):
            untaken += _halved(rows.slice(first, size), partial(self._send, writer), self._told)
        return untaken

    def _send(self, writer: Writer, rows: Any) -> None:
        try:
            writer.send(self._topic, [self._pack(rows)], partitions=0)
        except LimitError as error:
            raise _Unfit(error.what) from None


class _Unfit(Exception):
    """Some of the rows cannot be written; none of them has been."""


def _halved(rows: Any, send: Callable[[Any], None], told: Callable[[Any], list[dict[str, Any]]]) -> Untaken:
    """Send rows, and where that fails each half of them, down to those that cannot be sent."""
    try:
        send(rows)
    except _Unfit as error:
        if rows.height == 1:
            return [(told(rows)[0], str(error))]
        half = rows.height // 2
        return _halved(rows[:half], send, told) + _halved(rows[half:], send, told)
    return []


class Outlets:
    """All sinks of a stream.

    Args:
        plan: the stream.
        engine: packs and splits rows.
        codecs: how a topic sink writes values and keys.
        chosen: see `TopicOutlet`, for a sink and a topic.
    """

    def __init__(
        self,
        plan: StreamPlan,
        engine: StreamEngine,
        codecs: Callable[[ToTopic], tuple[Codec, EncodeKeys | None]],
        chosen: Callable[[ToTopic, str], str],
    ) -> None:
        self._outlets: dict[int, Outlet] = {}
        for node in sinks(plan.topology):
            match node.step:
                case ToTopic() as step:
                    self._outlets[node.number] = TopicOutlet(step, *codecs(step), engine, partial(chosen, step))
                case ToFunction() as step:
                    self._outlets[node.number] = FunctionOutlet(step)
                case Loaded():
                    self._outlets[node.number] = WaitingOutlet(plan.outbox(node), engine)
        self._callers = [one.caller for one in self._outlets.values() if isinstance(one, FunctionOutlet)]

    def give(self, given: Given, writer: Writer) -> Untaken:
        """Hand rows to their sink."""
        return self._outlets[given.node].give(given.rows, writer)

    def busy(self, seconds: float) -> bool:
        """Whether a function has yet to return."""
        return sum(caller.busy(seconds) for caller in self._callers) > 0

    def forget(self) -> None:
        """Let go of rows that no function has begun with."""
        for caller in self._callers:
            caller.forget()

    def close(self) -> None:
        """End their threads."""
        for caller in self._callers:
            caller.close()
