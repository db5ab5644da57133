"""What is known of a stream from outside, as values: what each process tells of itself, and the topology as JSON.

process -> Observer (observing.py) -> ProcessFacts -> metadata database -> `tidemill stream ls`, `show`, web page
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tidemill.model.frame.topic import ToDestination, ToFunction, ToTable, ToTopic
from tidemill.model.metric import Histogram
from tidemill.plan.stream_steps import is_stateful, place_of

if TYPE_CHECKING:
    from tidemill.flow.stream.plan import StreamPlan
    from tidemill.plan.topology import Node

State = Literal["running", "recovering", "failed"]

#: A process that has told nothing for so long is thought dead: it tells every 5 s, and a turn may be a long one.
SILENT = timedelta(seconds=20)
#: Before the name of a table that rows go to.
TABLE = "table:"


def outbox_of(stream: str, place: str) -> str:
    """The topic in which rows of a stream wait that are loaded somewhere."""
    return f"{stream}.{place}.rows"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a process knows of a node.

    Args:
        count: messages that were read for a source or exchange, rows that were given to a sink, since it began.
        rate: of these a second, of late.
        watermark: how far event time has come at a step that goes by it; None: nowhere yet.
        stage: whose it is.
        reads: the topic of a source or exchange; else empty.
        writes: where rows of a sink go, as `target_of` says it; else empty.
    """

    count: int = 0
    rate: float = 0.0
    watermark: datetime | None = None
    stage: int = 1
    reads: str = ""
    writes: str = ""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a process knows of one of its tasks.

    Args:
        watermark: the least of its steps that go by event time; None: nowhere yet, or none does.
        state_bytes: of what it remembers, about.
        windows: that are open, one for each key; None: it has none, or keeps rows instead.
    """

    watermark: datetime | None = None
    state_bytes: int = 0
    windows: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What a process tells of its part in a stream.

    Args:
        stream: `pipeline.stream`.
        process: names it; the same again after a crash.
        host, pid: where it is.
        began, at: when it began, and when it told this.
        state: a failed one is tried again.
        version: of the code; empty: the files as they are.
        tasks: those that it has, as `stage.number`; `0.n` loads the rows of the sink n.
        messages, checkpoints, failed, letters, late, restarts, lost: how many, since it began. Of those that failed
            some have become dead letters, the others were skipped; lost ones were removed before they were read.
        seconds: that checkpoints took.
        rate: messages of topics that it reads, a second, of late.
        nodes: by node.
        parts: by task that works on a partition, as `tasks` names it.
        state_bytes: of what its tasks remember, about.
        recovering: changelog messages that were read again, and how many there are.
        error: the last one, and when.
    """

    stream: str
    process: str
    host: str
    pid: int
    began: datetime
    at: datetime
    state: State = "running"
    version: str = ""
    tasks: tuple[str, ...] = ()
    messages: int = 0
    checkpoints: int = 0
    failed: int = 0
    letters: int = 0
    late: int = 0
    restarts: int = 0
    lost: int = 0
    seconds: Histogram = field(default_factory=Histogram)
    rate: float = 0.0
    nodes: Mapping[int, NodeFacts] = field(default_factory=dict)
    parts: Mapping[str, TaskFacts] = field(default_factory=dict)
    state_bytes: int = 0
    recovering: tuple[int, int] | None = None
    error: str | None = None
    error_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it has told something lately."""
        return now - self.at < SILENT

    def has(self, stage: int, number: int) -> bool:
        """Whether a task is its own."""
        return f"{stage}.{number}" in self.tasks

    def loads(self, sink: int) -> bool:
        """Whether it loads a sink's rows into their table."""
        return f"0.{sink}" in self.tasks

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        made = asdict(self)
        for name in ("began", "at", "error_at"):
            made[name] = _text(made[name])
        made["nodes"] = {
            str(number): asdict(node) | {"rate": round(node.rate, 3), "watermark": _text(node.watermark)}
            for number, node in self.nodes.items()
        }
        made["parts"] = {task: asdict(part) | {"watermark": _text(part.watermark)} for task, part in self.parts.items()}
        made["seconds"] = {"counts": list(self.seconds.counts), "sum": self.seconds.sum}
        return made | {"tasks": list(self.tasks), "recovering": self.recovering and list(self.recovering)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> ProcessFacts:
        """What `as_json` gave; what another version wrote beside it is left out."""
        values = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        for name in ("began", "at", "error_at"):
            values[name] = _moment(values.get(name))
        values["nodes"] = {int(number): _node(node) for number, node in found.get("nodes", {}).items()}
        values["parts"] = {task: _part(part) for task, part in found.get("parts", {}).items()}
        seconds = found.get("seconds", {})
        values["seconds"] = Histogram(tuple(seconds.get("counts", ())), seconds.get("sum", 0.0))
        values["tasks"] = tuple(found.get("tasks", ()))
        recovering = found.get("recovering")
        values["recovering"] = tuple(recovering) if recovering else None
        return cls(**values)


def topology_json(plan: StreamPlan, processes: Iterable[ProcessFacts] = ()) -> dict[str, Any]:
    """A stream's topology as a page shows it: stages, nodes, edges, and what processes tell of them.

    Watermarks of a node are the least of all processes, counts and rates the sum.
    """
    told = list(processes)
    nodes = [_node_json(plan, node, told) for node in plan.topology.nodes]
    edges = [
        {"from": parent, "to": node.number, "topic": plan.exchange(node) if node.kind == "exchange" else None}
        for node in plan.topology.nodes
        for parent in node.parents
    ]
    stages = [
        {
            "stage": stage,
            "tasks": plan.topology.tasks(stage),
            "state": plan.keeps_state(stage),
            "changelog": plan.changelog(stage) if plan.keeps_state(stage) else None,
            "reads": sorted({plan.topic_of(node) for node in plan.sources(stage)}),
        }
        for stage in plan.topology.stages
    ]
    return {
        "stream": plan.name,
        "guarantee": plan.guarantee,
        "stages": stages,
        "nodes": nodes,
        "edges": edges,
        "counts": counts_json(told),
        "processes": [one.as_json() for one in told],
    }


def counts_json(processes: Iterable[ProcessFacts]) -> dict[str, Any]:
    """What processes have done together."""
    told = list(processes)
    names = ("messages", "checkpoints", "failed", "late", "restarts", "state_bytes")
    return {name: sum(getattr(one, name) for one in told) for name in names} | {
        "rate": round(sum(one.rate for one in told), 3)
    }


def reads(plan: StreamPlan) -> list[str]:
    """The topics that a stream is fed with."""
    return sorted({node.topic.name for node in plan.topology.nodes if node.kind == "source"})


def writes(plan: StreamPlan) -> list[str]:
    """Where a stream's rows go: `topic`, `table:name`, `function:name`."""
    return [target_of(node) for node in plan.topology.nodes if target_of(node)]


def target_of(node: Node) -> str:
    """Where rows of a sink go: `topic`, `table:name`, `connection:table`, `function:name`; empty: it is none."""
    match node.step:
        case ToTopic() as step:
            return step.topic.name if step.chosen is None else "topic by row"
        case ToTable() as step:
            return f"{TABLE}{step.table}"
        case ToDestination() as step:
            return f"{step.destination}:{step.table}"
        case ToFunction() as step:
            return f"function:{getattr(step.function, '__qualname__', type(step.function).__name__)}"
    return ""


def _node_json(plan: StreamPlan, node: Node, told: list[ProcessFacts]) -> dict[str, Any]:
    # Plans of topologies load Polars (100 MB), which processes that only look at facts do without.
    from tidemill.plan.topology import looked_up

    mine = [one.nodes[node.number] for one in told if node.number in one.nodes]
    marks = [one.watermark for one in mine if one.watermark is not None]
    frame = looked_up(plan.topology).get(node.number)
    return {
        "node": node.number,
        "name": node.name,
        "kind": node.kind,
        "verb": node.step.verb if node.step is not None else None,
        "stage": node.stage,
        "place": place_of(node.step) if node.step is not None else None,
        "reads": plan.topic_of(node) if node.kind != "step" else None,
        "writes": target_of(node) or None,
        "joins": frame.source.name if frame is not None else None,
        "by": list(node.by),
        "columns": None if node.columns is None else list(node.columns),
        "stateful": node.step is not None and is_stateful(node.step),
        "results": "change" if node.changing is not None else "final",
        "errors": plan.on_error(node),
        "count": sum(one.count for one in mine),
        "rate": round(sum(one.rate for one in mine), 3),
        "watermark": _text(min(marks)) if marks else None,
    }


def _node(found: Mapping[str, Any]) -> NodeFacts:
    known = {name: found[name] for name in NodeFacts.__dataclass_fields__ if name in found}
    return NodeFacts(**known | {"watermark": _moment(known.get("watermark"))})


def _part(found: Mapping[str, Any]) -> TaskFacts:
    known = {name: found[name] for name in TaskFacts.__dataclass_fields__ if name in found}
    return TaskFacts(**known | {"watermark": _moment(known.get("watermark"))})


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def event_time(micros: int | None) -> datetime | None:
    """Microseconds since 1970 as a time; None also for what no calendar has (rows may claim any time)."""
    if micros is None:
        return None
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
    except OverflowError:
        return None
