"""`tm.topic(...)` and `@pipeline.stream(...)`: declaring what is done with messages as they come."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from tidemill.authoring.handles import Handle, whole_name
from tidemill.authoring.place import here, is_interactive, placed
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Topic
from tidemill.model.frame.arguments import read_names, read_types
from tidemill.model.frame.topic import Absent, OnIdle
from tidemill.model.stream import Guarantee, OnError, StreamSpec
from tidemill.model.table import TableName, check_table_name


def topic(
    name: str,
    columns: Mapping[str, Any] | None = None,
    *,
    key: str | Sequence[str] | None = None,
    time: str | None = None,
    lateness: Duration = "0s",
    idle: Duration | None = "30s",
    on_idle: OnIdle = "wait",
    partitions: int = 1,
    retention: Duration | None = None,
    absent: Absent = "null",
    codec: Any = "json",
) -> Topic:
    """A topic that streams read or write.

    Args:
        name: of the topic.
        columns: the columns of a message's value and their types: `{"at": "timestamptz", "speed": "double"}`. A
            topic that is only written needs none.
        key: columns by whose values the topic is spread over its partitions. Where a stream groups by these, rows
            are where they are needed; otherwise they are sent through a topic of the stream's own.
        time: the column with the event time; None: the message's timestamp.
        lateness: how far behind the latest time of its partition a row may be without being late. Windows wait so
            long, too.
        idle: a partition that says nothing for so long does not make the others wait; None: they wait for ever.
        on_idle: what event time does when all partitions are silent: "wait", or go on with the "clock", so that
            windows close without new messages; messages that come later with older times are late then.
        partitions: how many, where Tidemill makes the topic.
        retention: how long messages stay, where Tidemill makes the topic; None: for ever.
        absent: a column that a message does not have is "null", or an "error" of the message.
        codec: how values are written.
    """
    if absent not in get_args(Absent):
        raise DefinitionError(f"absent={absent!r} is not known.", where=here(), hint='absent="null" or "error"')
    if on_idle not in get_args(OnIdle):
        raise DefinitionError(f"on_idle={on_idle!r} is not known.", where=here(), hint='on_idle="wait" or "clock"')
    if not name or not all(c.isalnum() or c in "._-" for c in name) or len(name) > 249:
        raise DefinitionError(
            f"{name!r} is no name for a topic.", where=here(), hint="letters, digits, `.`, `_`, `-`; at most 249"
        )
    found = read_types("topic", "columns", columns)
    keys = read_names("topic", "key", key, empty=True)
    for column in (*keys, *([time] if time else [])):
        if found is not None and column not in found:
            raise DefinitionError(
                f'Topic "{name}" has no column "{column}".', where=here(), hint=f"its columns are {', '.join(found)}"
            )
    return Topic(
        name,
        found,
        keys,
        time,
        read_duration(lateness, "lateness", where=here(), zero=True),
        None if idle is None else read_duration(idle, "idle", where=here()),
        partitions,
        absent,
        codec,
        None if retention is None else read_duration(retention, "retention", where=here()),
        on_idle,
    )


class Stream(Handle):
    """What `@pipeline.stream` returns: the function, still callable as it was."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        assert self.function is not None
        return self.function(*arguments, **named)


class HasStreams:
    """The part of a pipeline that declares its streams."""

    name: str

    def __init__(self) -> None:
        self._streams: dict[str, StreamSpec] = {}

    def stream(
        self,
        *topics: Any,
        to: Topic | str | None = None,
        name: str | None = None,
        guarantee: str = "exactly-once",
        every: Duration = "1s",
        errors: Mapping[str, str] | str | None = None,
        **inputs: Any,
    ) -> Any:
        """Declare what is done with messages as they come: a function from frames to frames, as for a table.

        Args:
            topics: what the function's parameters read, in their order; `inputs`: by name, also `tm.whole("table")`.
                Before them a function or a table's handle, where this is not used as a decorator.
            to: the topic for rows that the function gave no sink; None: the table of the stream's name.
            name: of the stream; left out, the function's.
            guarantee: "exactly-once" or "at-least-once".
            every: results count at the latest after this long.
            errors: what becomes of rows that cannot be taken: "stop", "dead_letter", "skip"; for all verbs, or by verb.
            inputs: see `topics`.
        """
        if topics and not isinstance(topics[0], Topic):
            return self._stream(topics[0], name, topics[1:], inputs, to, guarantee, every, errors)
        return lambda f: self._stream(f, name, topics, inputs, to, guarantee, every, errors)

    def _stream(self, function: Any, name: str | None, topics: Any, inputs: Any, to: Any, *how: Any) -> Stream:
        guarantee, every, errors = how
        made = stream_spec(
            self.name, function, name, topics, inputs, to=to, guarantee=guarantee, every=every, errors=errors
        )
        if made.name in self._streams and not is_interactive(here()):
            raise DefinitionError(f'Pipeline "{self.name}" has two streams named "{made.name}".', where=here())
        self._streams[made.name] = made
        return Stream(self, made.name, made.function)  # type: ignore[arg-type]  # only pipelines have streams


def stream_spec(
    pipeline: str,
    function: Callable[..., Any] | Handle,
    name: str | None,
    topics: Sequence[Topic],
    named: Mapping[str, Any],
    *,
    to: Topic | str | None,
    guarantee: str,
    every: Duration,
    errors: Mapping[str, str] | str | None,
) -> StreamSpec:
    """Read the arguments of `@pipeline.stream`. Raises DefinitionError."""
    function = _function_of(function)
    called = placed(check_table_name, name or function.__name__, "stream")
    parameters = inspect.signature(function).parameters
    if len(topics) > len(parameters):
        raise DefinitionError(
            f'Stream "{called}" is given {len(topics)} topics and takes {len(parameters)}.', where=here()
        )
    given = {**dict(zip(parameters, topics, strict=False)), **named}
    found: dict[str, Topic] = {}
    tables: dict[str, TableName] = {}
    for parameter in parameters.values():
        value = given.pop(parameter.name, parameter.default)
        if isinstance(value, Topic):
            found[parameter.name] = value
        elif (text := whole_name(value)) is not None:
            tables[parameter.name] = TableName.parse(text or parameter.name, pipeline)
        else:
            raise DefinitionError(
                f'Stream "{called}" is not told what "{parameter.name}" is.',
                where=here(),
                hint=f'@pipeline.stream({parameter.name}=tm.topic("...")), or tm.whole("table") for a table',
            )
    if given:
        raise DefinitionError(f'Stream "{called}" has no parameter "{next(iter(given))}".', where=here())
    if not found:
        raise DefinitionError(f'Stream "{called}" reads no topic.', where=here(), hint="a stream begins with a topic")
    if guarantee not in get_args(Guarantee):
        raise DefinitionError(
            f"guarantee={guarantee!r} is not known.", where=here(), hint='"exactly-once" or "at-least-once"'
        )
    return StreamSpec(
        pipeline,
        called,
        function,
        found,
        tables,
        Topic(to) if isinstance(to, str) else to,
        guarantee,  # type: ignore[arg-type]  # one of them, as was just checked
        read_duration(every, "every", where=here()),
        _errors(errors),
        here(),
        inspect.getdoc(function) or "",
    )


def _function_of(value: Callable[..., Any] | Handle) -> Callable[..., Any]:
    """The function, also of a table: what was written for a table runs on a topic."""
    found = value.function if isinstance(value, Handle) else value
    if found is None or not callable(found):
        raise DefinitionError(f"{value!r} is no function from frames to a frame.", where=here())
    return found


def _errors(errors: Mapping[str, str] | str | None) -> dict[str, OnError]:
    given = errors if isinstance(errors, Mapping) else {} if errors is None else {"": errors}
    for verb, what in given.items():
        if what not in get_args(OnError):
            raise DefinitionError(
                f"errors: {what!r} is not known.", where=here(), hint='"stop", "dead_letter" or "skip"'
            )
        if verb and verb != "decode" and not hasattr(Frame, verb):
            raise DefinitionError(f'errors: there is no verb "{verb}".', where=here(), hint='{"map_rows": "skip"}')
    return dict(given)  # type: ignore[arg-type]  # values were just checked
