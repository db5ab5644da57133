"""The verbs that say where rows go. On streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.model.frame import arguments as read
from tidemill.model.frame.operation import Expression, Operation
from tidemill.model.frame.recording import Recording
from tidemill.model.frame.topic import ToDestination, ToFunction, Topic, ToTable, ToTopic
from tidemill.model.place import Place
from tidemill.model.table import WriteMode, split_name

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame


class Sinks(Recording):
    """Verbs that write."""

    __slots__ = ()

    def to_topic(
        self, topic: Topic | str, *, key: str | Sequence[str] | None = None, choose: Expression | None = None
    ) -> Frame:
        """Write every row as a message; this frame goes on with the same rows. On streams.

        Args:
            topic: a name, or `tm.topic(...)`, which also says how messages are written.
            key: the columns that make the message's key; None: the topic's.
            choose: a text column's name or an expression that says for each row to which topic it goes; null: to none.
                A topic that is missing is made when its first row comes, as `topic` says. A name that no topic can
                have, or that is one of the stream's own topics, puts the row aside.
        """
        where = Topic(topic) if isinstance(topic, str) else topic
        if not isinstance(where, Topic):
            raise read.wrong(f"to_topic: {topic!r} is no topic.", 'f.to_topic("alerts")')
        keys = read.read_names("to_topic", "key", key, empty=True) or where.key
        if choose is not None:
            read.read_expressions("to_topic", [choose])
        return self._written(lambda at: ToTopic(at=at, topic=where, key=keys, chosen=choose))

    def to_table(self, table: str, **options: Any) -> Frame:
        """Write every row into a table of the lake; this frame goes on with the same rows. On streams.

        Args:
            table: its name in the pipeline.
            options: as for `@pipeline.table`: left out, rows are appended; `key="id", write="upsert", order="at"` keeps
                the newest row of each key.
        """
        return self._written(
            lambda at: ToTable(at=at, table=read.read_name("to_table", "table", table), options=options)
        )

    def to(
        self,
        destination: str,
        table: str,
        *,
        write: str = "append",
        key: str | Sequence[str] | None = None,
        order: str | None = None,
    ) -> Frame:
        """Load every row into a table of a database outside, each once; this frame goes on. On streams.

        Args:
            destination: the name of a connection: `TIDEMILL_CONN_<NAME>=postgresql://...` or `duckdb:///file.db`.
            table: `name` or `schema.name`; it is made if it is missing, and gets the columns that it lacks.
            write: "append", or "upsert": of each `key` the row with the greatest `order` stays, or the last.
            key: columns that identify a row.
            order: the column that ranks rows of a key.
        """
        keys = read.read_names("to", "key", key, empty=True)
        mode = read.read_choice("to", "write", write, ("append", "upsert"))
        if (mode == "upsert") != bool(keys):
            raise read.wrong(f"to: write={write!r} with key={key!r}.", 'f.to("shop", "t", write="upsert", key="id")')
        name, where = read.read_name("to", "table", table), read.read_name("to", "destination", destination)
        split_name(name)
        return self._written(
            lambda at: ToDestination(at=at, destination=where, table=name, write=WriteMode(mode), key=keys, order=order)
        )

    def sink(self, function: Callable[[Sequence[Mapping[str, Any]]], object]) -> Frame:
        """Give rows to your function, a list of dicts at a time; after a crash some come again. On streams."""
        taken = read.read_function("sink", function)
        return self._written(lambda at: ToFunction(at=at, function=taken))

    def _written(self, make: Callable[[Place | None], Operation]) -> Frame:
        """This frame with a sink. It is part of this very frame, so that it counts also where only `f` is returned."""
        written = self.then(make)
        object.__setattr__(self, "_operations", written._operations)
        return self  # type: ignore[return-value]  # there are no recordings but frames
