"""`tm.topic(...)` and `@pipeline.stream(...)`: declaring what is done with messages as they come."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from tidemill.authoring import registry
from tidemill.authoring.bootstraps import read_bootstrap
from tidemill.authoring.handles import Handle, whole_name
from tidemill.authoring.live import as_source
from tidemill.authoring.place import here, is_interactive, placed
from tidemill.authoring.stream_checks import read_checks
from tidemill.authoring.topics import check_key_codec, read_codec, topic_columns
from tidemill.model.codec import Absent
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.expectation import Expectation
from tidemill.model.frame import VERBS, Frame, Topic
from tidemill.model.frame.arguments import read_count, read_names, read_types
from tidemill.model.frame.peeking import peek_by
from tidemill.model.frame.topic import Cleanup, OnIdle
from tidemill.model.stream import LOST, ROW_BY_ROW, Guarantee, OnError, StreamSpec
from tidemill.model.table import TableName, check_table_name


class DeclaredTopic(Topic):
    """What `tm.topic` returns."""

    __slots__ = ()

    def peek(self, rows: int = 5) -> Any:
        """The last rows of the topic as a Polars frame: for notebooks. What cannot be decoded is left out.

        No position moves. Of a topic without declared columns the fields of JSON objects are the columns.
        """
        return registry.runner().peek(self, read_count("peek", rows), rows)


peek_by(lambda frame, rows, messages: registry.runner().peek(frame, rows, messages))


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
    archive: bool | Duration = False,
    ahead: Duration | None = None,
    source: Any = None,
    checks: Sequence[Any] | None = None,
    cleanup: Cleanup = "delete",
    key_codec: Any = None,
) -> DeclaredTopic:
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
        codec: how values are written: "json", "text", "bytes", "avro", "json_schema", or a description of
            `tidemill.model.codec`: `Avro(...)`, `Protobuf(...)`, `JsonSchema(...)`, `Json(...)`.
        archive: keep every raw message in the project's archive, whatever the topic removes; True: a batch a minute,
            or how often. It is done where a stream runs that reads or writes the topic.
        ahead: a message whose event time is so much later than its own timestamp cannot be taken: an event is told
            of after it happened. One that could be would make all later rows late. None: only times beyond the
            year 2262 are refused.
        source: what feeds the topic: one of `tidemill.live`, or an object of yours; None: others write it.
        checks: expectations (`tm.not_null("car")`) or boolean expressions; a stream that reads the topic judges each
            row by them.
        cleanup: where Tidemill makes the topic: "compact" keeps the newest message of each `key` for ever, and may
            remove older ones: for results that change, such as `.current()` windows.
        key_codec: how keys are written, by the same words as `codec`; the columns of `key` are read from the messages'
            keys then, and need not be in their values. "text" and "bytes" are for a key of one column. None: keys
            are written as text, and not read.

    Raises:
        DefinitionError, UnknownName: an argument is wrong.
    """
    if cleanup not in get_args(Cleanup):
        raise DefinitionError(f"cleanup={cleanup!r} is not known.", where=here(), hint='"delete" or "compact"')
    if cleanup == "compact" and (key is None or retention is not None or archive is not False):
        raise DefinitionError(
            f'Topic "{name}" cannot compact: that goes by key, keeps the newest message for ever, and removes others '
            "before they could be archived.",
            where=here(),
            hint="key= without retention= and archive=",
        )
    if absent not in get_args(Absent):
        raise DefinitionError(f"absent={absent!r} is not known.", where=here(), hint='absent="null" or "error"')
    if on_idle not in get_args(OnIdle):
        raise DefinitionError(f"on_idle={on_idle!r} is not known.", where=here(), hint='on_idle="wait" or "clock"')
    if not name or not all(c.isalnum() or c in "._-" for c in name) or len(name) > 249:
        raise DefinitionError(
            f"{name!r} is no name for a topic.", where=here(), hint="letters, digits, `.`, `_`, `-`; at most 249"
        )
    if isinstance(partitions, bool) or partitions < 1:
        raise DefinitionError(f'Topic "{name}" cannot have {partitions!r} partitions.', where=here(), hint="1 or more")
    described = read_codec(codec)
    kept = None if retention is None else read_duration(retention, "retention", where=here())
    archived = (
        None if archive is False else read_duration("1m" if archive is True else archive, "archive", where=here())
    )
    if kept is not None and archived is not None and archived >= kept:
        raise DefinitionError(
            f'Topic "{name}" would remove messages before they are archived.',
            where=here(),
            hint="retention has to be longer than archive, and by far: archiving may rest while nothing runs",
        )
    if ahead is not None and time is None:
        raise DefinitionError("ahead= is about the event time.", where=here(), hint="time= names its column")
    keys = read_names("topic", "key", key, empty=True)
    found = topic_columns(name, described, read_types("topic", "columns", columns))
    if columns is None and key_codec is not None and not set(keys) <= set(found or keys):
        found = None  # columns that are only in keys are to be declared
    for column in (*keys, *([time] if time else [])):
        if found is not None and column not in found:
            raise DefinitionError(
                f'Topic "{name}" has no column "{column}".', where=here(), hint=f"its columns are {', '.join(found)}"
            )
    check_key_codec(name, keys, key_codec, found)
    return DeclaredTopic(
        name,
        found,
        keys,
        time,
        read_duration(lateness, "lateness", where=here(), zero=True),
        None if idle is None else read_duration(idle, "idle", where=here()),
        partitions,
        absent,
        codec if isinstance(codec, str) else described,
        kept,
        on_idle,
        archived,
        None if ahead is None else read_duration(ahead, "ahead", where=here(), zero=True),
        as_source(source, time),
        read_checks(checks, f'Topic "{name}"'),
        cleanup,
        key_codec if key_codec is None or isinstance(key_codec, str) else read_codec(key_codec),
    )


class Stream(Handle):
    """What `@pipeline.stream` returns. Calling it with plain frames runs the function on them (for tests)."""

    def __call__(self, *frames: Any, **named: Any) -> Any:
        """Run the user's function on Polars or pandas frames, as on tables, and return a Polars frame.

        Frames of Tidemill's, of another function that calls this one, are handed on as they are.
        """
        assert self.function is not None
        if all(isinstance(one, Frame) for one in (*frames, *named.values())):
            return self.function(*frames, **named)
        return registry.runner().call(self.function, frames, named)

    def peek(self, rows: int = 5, *, messages: int = 1_000, to: str | None = None) -> Any:
        """The last rows of what the stream makes of what its topics hold now, as a Polars frame: for notebooks.

        In memory: no position moves, no state is touched, nothing is written, no function given to `sink` is called.
        Windows that the messages do not close give nothing, and what was before them is not known.

        Args:
            rows: how many, at most.
            messages: so many of the last ones of each partition are looked at.
            to: the sink whose rows are meant, where there are several: a topic, or a table's name.
        """
        return registry.runner().peek(self, read_count("peek", rows), read_count("peek", messages), to)

    def _expect(self, checks: list[Expectation]) -> None:
        self.pipeline.judge(self.name, checks)


class HasStreams:
    """The part of a pipeline that declares its streams."""

    name: str

    def __init__(self) -> None:
        super().__init__()
        self._streams: dict[str, StreamSpec] = {}

    def stream(
        self,
        *topics: Any,
        to: Topic | str | None = None,
        name: str | None = None,
        guarantee: str = "exactly-once",
        every: Duration = "1s",
        errors: Mapping[str, str] | str | None = None,
        bootstrap: Any = None,
        checks: Sequence[Any] | None = None,
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
                "decode": messages that cannot be read; "expect": rows that fail a check.
                `{"lost": "skip"}`: go on where messages were removed from a topic before they were read.
            bootstrap: what the first start reads before what the topics still have: "archive", or a table of the
                past, `tm.whole("table", ...)`; for all topics, or by parameter.
            checks: expectations (`tm.not_null("car")`) or boolean expressions, by which each row of the result is
                judged before it goes to a sink.
            inputs: see `topics`.
        """
        how = (guarantee, every, errors, bootstrap, checks)
        if topics and not isinstance(topics[0], Topic):
            return self._stream(topics[0], name, topics[1:], inputs, to, *how)
        return lambda f: self._stream(f, name, topics, inputs, to, *how)

    def _stream(self, function: Any, name: str | None, topics: Any, inputs: Any, to: Any, *how: Any) -> Stream:
        guarantee, every, errors, bootstrap, checks = how
        made = stream_spec(
            self.name, function, name, topics, inputs, to=to, guarantee=guarantee, every=every, errors=errors,
            bootstrap=bootstrap, checks=checks,
        )  # fmt: skip
        if made.name in self._streams and not is_interactive(here()):
            raise DefinitionError(f'Pipeline "{self.name}" has two streams named "{made.name}".', where=here())
        self._streams[made.name] = made
        return Stream(self, made.name, made.function)  # type: ignore[arg-type]  # only pipelines have streams

    def judge(self, stream: str, checks: Sequence[Any]) -> None:
        """Add checks to one of the pipeline's streams; `checks=` and `Stream.expect` are the usual ways."""
        spec = self._streams[stream]
        newer = {check.name for check in checks if isinstance(check, Expectation)}
        kept = [check for check in spec.checks if check.name not in newer]
        self._streams[stream] = replace(spec, checks=read_checks([*kept, *checks], f'Stream "{stream}"'))


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
    bootstrap: Any,
    checks: Sequence[Any] | None = None,
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
        read_bootstrap(bootstrap, called, found, pipeline),
        read_checks(checks, f'Stream "{called}"'),
    )


def _function_of(value: Any) -> Callable[..., Any]:
    """The function, also of a table: what was written for a table runs on a topic."""
    found: Any = value.function if isinstance(value, Handle) else value
    if isinstance(found, str):
        hint = f'@pipeline.stream(tm.topic({found!r}, {{"id": "long"}}))'
        raise DefinitionError(f"A stream is given topics, and {found!r} is a text.", where=here(), hint=hint)
    if found is None or not callable(found):
        raise DefinitionError(f"{value!r} is no function from frames to a frame.", where=here())
    return found  # type: ignore[no-any-return]  # it can be called


def _errors(errors: Mapping[str, str] | str | None) -> dict[str, OnError]:
    given = errors if isinstance(errors, Mapping) else {} if errors is None else {"": errors}
    for verb, what in given.items():
        if what not in get_args(OnError):
            raise DefinitionError(
                f"errors: {what!r} is not known.", where=here(), hint='"stop", "dead_letter" or "skip"'
            )
        if verb == LOST:
            if what == "dead_letter":
                raise DefinitionError("errors: what is lost is no letter.", where=here(), hint='"stop" or "skip"')
            continue
        if verb not in ("", *ROW_BY_ROW, *VERBS):
            raise UnknownName.of("verb", verb, (LOST, *ROW_BY_ROW), where=here())
        if verb and verb not in ROW_BY_ROW:
            raise DefinitionError(
                f"errors: {verb} takes no decision about a single row.",
                where=here(),
                hint=f"verbs that do: {', '.join(ROW_BY_ROW)}",
            )
    return dict(given)  # type: ignore[arg-type]  # values were just checked
