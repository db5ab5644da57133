"""Definitions: what is known of a pipeline without its code, so that a scheduler and a web page need not load it.

The parser reads a user's file and stores these; `authoring` makes them from both kinds of pipelines. A definition goes
to the database as JSON and comes back equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tidemill.model.batch import Interval
from tidemill.model.condition import Condition, FilesArrive, condition_json, read_condition
from tidemill.model.graph import Graph, Lengths, Node, Retry, TriggerRule
from tidemill.model.partition import Mapper, mapper_json, read_mapper
from tidemill.model.timetable import Timetable

#: Intervals of a user's own timetable that are known ahead each time its file is read.
AHEAD = 100


class Kind(StrEnum):
    """How a pipeline was written."""

    #: Data first: feeds, tables, checks (`Pipeline`). Its tasks share a branch, which is published at the end.
    TABLES = "tables"
    #: Task first: operators and their order (`DAG`).
    TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a pipeline runs by itself; all empty: never.

    Args:
        timetable: by time.
        intervals: the next intervals of a user's own timetable, as its code told them when the file was parsed; the
            scheduler never runs a user's code. `more` tells that it will have others after these.
        on: when tables are published.
        files: when files arrive.
        webhook: when somebody calls.
        continuous: whenever the run before has ended, for the time since that one's interval; one run at a time.
        mappers: for each asset that is waited for, to which of its own keys a key of the asset belongs; each key that
            is whole begins a run.
        key: the form of the keys of runs by time, of the tick that they are due at; `key_offset` so many ticks later.
    """

    timetable: Timetable | None = None
    intervals: tuple[Interval, ...] = ()
    more: bool = False
    on: Condition | None = None
    files: FilesArrive | None = None
    webhook: bool = False
    continuous: bool = False
    mappers: Mapping[str, Mapper] = field(default_factory=dict)
    key: str = ""
    key_offset: int = 0
    #: As the user wrote it, for people.
    text: str = ""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What people see of a task beside its node.

    Args:
        operator: the kind of task: `python`, `bash`, `load`.
        group: the ids of the groups that it is in, outermost first.
        doc: what it is for.
        place: where in the user's file, as `file:line`.
        inlets, outlets: assets (tables) that it reads and writes.
        labels: texts on the edges to tasks right after it, by task id.
        callbacks: events that its code wants to hear of: `failure`, `retry`, `success`, `execute`, `skipped`.
        color: of its box, where the user gave one.
    """

    operator: str = "python"
    group: tuple[str, ...] = ()
    doc: str = ""
    place: str = ""
    inlets: tuple[str, ...] = ()
    outlets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    callbacks: tuple[str, ...] = ()
    color: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A pipeline without its code.

    Args:
        name: unique in the project.
        kind: how it was written.
        graph: its tasks for the scheduler; `tasks` what people see of them.
        schedule: when it runs by itself.
        zone: the IANA zone in which it counts.
        start, end: no interval begins before, or ends after, these.
        catchup: also run intervals that were missed.
        max_active_runs: at the same time.
        max_active_tasks: instances of it at the same time; None: any number.
        run_timeout: a run that takes longer is stopped.
        deadline: a run that has not ended so long after its interval's end is told of.
        sequential: a run waits until the one before it has ended (bookmark sources; `depends_on_past` is a node's).
        absorb: where that one failed, the next takes over what it should have brought (rule 6).
        paused: as it is when it is seen for the first time.
        params: JSON schema by parameter; each has a `default` unless it must be given.
        file: relative to the project. `place` is `file:line`.
        callbacks: events of runs that its code wants to hear of: `begun`, `failure`, `success`, `deadline`.
        streams: the names of its streams.
        webhooks: the names of its sources that others POST to.
        deadline_from: what `deadline` counts from instead: "start" of the interval, "created" (when the run was asked
            for), or a moment as ISO text.
        bookmarks_only: every source goes on from a bookmark, so that no run owes an interval (rule 6).
        any_params: runs may be given others than `params`, as under Airflow.
    """

    name: str
    kind: Kind
    graph: Graph
    tasks: Mapping[str, TaskInfo] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    zone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    catchup: bool = False
    max_active_runs: int = 16
    max_active_tasks: int | None = None
    run_timeout: timedelta | None = None
    deadline: timedelta | None = None
    sequential: bool = False
    absorb: bool = False
    paused: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    place: str = ""
    doc: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    callbacks: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    deadline_from: str = ""
    bookmarks_only: bool = False
    any_params: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash(self.name)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; what is as by default is left out."""
        made: dict[str, Any] = {"name": self.name, "kind": str(self.kind)}
        made["nodes"] = [_node_json(node) for node in self.graph.nodes.values()]
        made["tasks"] = {id_: _plain(info, TaskInfo()) for id_, info in self.tasks.items()}
        made["schedule"] = _schedule_json(self.schedule)
        for name in _PLAIN:
            value = getattr(self, name)
            if value not in (None, (), "") and value != {}:
                made[name] = _value(value)
        return {**made, "any_params": True} if self.any_params else made

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Definition:
        """What `as_json` wrote."""
        values = {name: found[name] for name in _PLAIN if name in found}
        for name in ("start", "end"):
            values[name] = _moment(values.get(name))
        for name in ("run_timeout", "deadline"):
            values[name] = _length(values.get(name))
        for name in ("tags", "callbacks", "streams", "webhooks"):
            values[name] = tuple(values.get(name, ()))
        return cls(
            name=found["name"],
            kind=Kind(found["kind"]),
            graph=Graph(_read_node(node) for node in found["nodes"]),
            tasks={id_: _read_info(info) for id_, info in found["tasks"].items()},
            schedule=_read_schedule(found["schedule"]),
            any_params=found.get("any_params", False),
            **values,
        )


_PLAIN = (
    "zone", "start", "end", "catchup", "max_active_runs", "max_active_tasks", "run_timeout", "deadline",
    "deadline_from", "sequential", "absorb", "bookmarks_only", "paused", "params", "file", "place", "doc", "tags",
    "owner", "callbacks", "streams", "webhooks",
)  # fmt: skip


def _value(value: Any) -> Any:
    """A JSON value: times as ISO text, lengths in seconds."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): _value(one) for key, one in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [_value(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _plain(thing: Any, default: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass that are not as by default."""
    names = [name for name in thing.__dataclass_fields__ if name not in without]
    return {name: _value(getattr(thing, name)) for name in names if getattr(thing, name) != getattr(default, name)}


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _length(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


_NODE, _RETRY, _LENGTHS = Node(""), Retry(), Lengths()


def _node_json(node: Node) -> dict[str, Any]:
    made = _plain(node, _NODE, without=("retry", "mapped"))
    if node.retry != _RETRY:
        made["retry"] = _plain(node.retry, _RETRY)
    if node.mapped is not None:
        made["mapped"] = _plain(node.mapped, _LENGTHS)
    return made


def _read_node(found: Mapping[str, Any]) -> Node:
    values = dict(found)
    values["upstream"] = tuple(values.get("upstream", ()))
    values["rule"] = TriggerRule(values.get("rule", TriggerRule.ALL_SUCCESS))
    values["timeout"] = _length(values.get("timeout"))
    if "retry" in values:
        retry = dict(values["retry"])
        for name in ("delay", "longest"):
            if name in retry:
                retry[name] = timedelta(seconds=retry[name])
        values["retry"] = Retry(**retry)
    if "mapped" in values:
        mapped = dict(values["mapped"])
        values["mapped"] = Lengths(
            tuple(mapped.get("known", ())),
            tuple(mapped.get("tasks", ())),
            tuple(tuple(group) for group in mapped.get("zipped", ())),
            mapped.get("longest", False),
            tuple(tuple(group) for group in mapped.get("summed", ())),
        )
    return Node(**values)


def _read_info(found: Mapping[str, Any]) -> TaskInfo:
    values = dict(found)
    for name in ("group", "inlets", "outlets", "callbacks"):
        values[name] = tuple(values.get(name, ()))
    return TaskInfo(**values)


def _schedule_json(schedule: Schedule) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if schedule.timetable is not None:
        made["timetable"] = _plain(schedule.timetable, Timetable(""))
    if schedule.intervals:
        made["intervals"] = [[i.start.isoformat(), i.end.isoformat()] for i in schedule.intervals]
    if schedule.on is not None:
        made["on"] = condition_json(schedule.on)
    if schedule.files is not None:
        made["files"] = {"pattern": schedule.files.pattern, "every": schedule.files.every.total_seconds()}
    if schedule.mappers:
        made["mappers"] = {asset: mapper_json(mapper) for asset, mapper in schedule.mappers.items()}
    made |= {name: value for name in ("key", "key_offset") if (value := getattr(schedule, name))}
    made |= {name: True for name in ("more", "continuous", "webhook") if getattr(schedule, name)}
    return {**made, **({"text": schedule.text} if schedule.text else {})}


def _read_schedule(found: Mapping[str, Any]) -> Schedule:
    timetable, files = found.get("timetable"), found.get("files")
    if timetable is not None:
        timetable = {"text": "", **timetable}
        step = _length(timetable.get("step"))
        timetable = Timetable(**{**timetable, "step": step, "crons": tuple(timetable.get("crons", ()))})
    intervals = tuple(
        Interval(datetime.fromisoformat(start), datetime.fromisoformat(end))
        for start, end in found.get("intervals", ())
    )
    return Schedule(
        timetable=timetable,
        intervals=intervals,
        more=found.get("more", False),
        continuous=found.get("continuous", False),
        on=read_condition(found["on"]) if "on" in found else None,
        files=FilesArrive(files["pattern"], timedelta(seconds=files["every"])) if files else None,
        webhook=found.get("webhook", False),
        mappers={asset: read_mapper(one) for asset, one in found.get("mappers", {}).items()},
        key=found.get("key", ""),
        key_offset=found.get("key_offset", 0),
        text=found.get("text", ""),
    )
