"""Pipelines as values: sources, transformations and checks, and the tasks that they make.

`authoring` builds these from a user's file; `flow` runs them. Names are unique within a pipeline; a table is
`<pipeline>.<name>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from tidemill.model.delivery import DeliverySpec
from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import Expectation, ReferencesExpectation
from tidemill.model.graph import Graph, Node
from tidemill.model.stream import StreamSpec
from tidemill.model.table import PublishMode, TableName, TableSpec
from tidemill.model.timetable import Timetable

if TYPE_CHECKING:
    from tidemill.model.connector import Connector


class Scope(StrEnum):
    """How much of an upstream table a transformation reads (rule 2)."""

    #: The rows of this run's batch.
    BATCH = "batch"
    #: The whole table, as of the run's fork plus what the run wrote.
    WHOLE = "whole"


class SourceKind(StrEnum):
    """How a source knows what to give (rule 6)."""

    #: It is asked for a data interval; any order; no bookmark.
    INTERVAL = "interval"
    #: It goes on from a bookmark; its batches form a chain.
    BOOKMARK = "bookmark"


class OnFailure(StrEnum):
    """What a later batch of a bookmark chain does about an unpublished earlier one (rule 6)."""

    #: It waits until that one is published.
    WAIT = "wait"
    #: It takes over that one's range and makes its branch unpublishable.
    ABSORB = "absorb"


class Isolation(StrEnum):
    """What a run may have read and still be published (rule 2)."""

    #: `main` as of the fork; a moved input marks the outputs stale and blocks nothing.
    SNAPSHOT = "snapshot"
    #: A moved input is a conflict.
    SERIALIZABLE = "serializable"


class Materialized(StrEnum):
    """What a SQL model becomes."""

    TABLE = "table"
    VIEW = "view"
    INCREMENTAL = "incremental"


#: How addresses of files may begin.
FILE_SCHEMES = ("s3", "https", "http", "sftp", "ftp", "ftps")


@dataclass(frozen=True, slots=True)
class FilesOrigin:
    """Files by a pattern: a template (`feeds/{{ ds }}/*.csv.gz`) in the project, globs allowed; or an address."""

    pattern: str
    #: True: no file for an interval is an empty batch; False: it is an error.
    optional: bool = False
    #: The connection that tells the place, or who asks there; None: none.
    connection: str | None = None
    #: True: a bookmark says which files were taken, and each batch takes those that are new or changed since.
    new: bool = False
    #: Files that were changed within this time are still being written.
    complete_after: timedelta | None = None
    #: The name of the file that marks one as complete, `{name}` standing for its name; None: there are no such files.
    done: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionOrigin:
    """A user's generator function."""

    function: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A feed: where it comes from, how it is archived and decoded, and the bronze table it is loaded into."""

    name: str
    table: TableSpec
    origin: FilesOrigin | FunctionOrigin | Connector
    kind: SourceKind = SourceKind.INTERVAL
    on_failure: OnFailure = OnFailure.WAIT
    #: Format in which records are archived (files stay as they are): jsonl or avro.
    archive_format: str = "jsonl"
    #: Compression of archived records: zstd, gzip or none.
    archive_compression: str = "zstd"
    #: Keyword arguments of the decoder's options: format, csv, flatten, key, jsonpaths, limits.
    decode: Mapping[str, Any] = field(default_factory=dict)
    #: Where in the user's file, as `file:line`.
    place: str = ""

    def __post_init__(self) -> None:
        cursor = getattr(self.origin, "cursor", None)
        if isinstance(cursor, str) and cursor in self.table.policies:
            raise DefinitionError(
                f'Source "{self.name}" goes on by "{cursor}", whose values the bookmark keeps as they are.',
                where=self.place,
                hint="another cursor, or no policy of that column",
            )

    def makes(self, table: str) -> bool:
        """Whether its load may make a child table of that name: any below its own, where records are flattened."""
        child = table.removeprefix(f"{self.name}__")
        return child != table and (bool(self.decode.get("flatten")) or child in self.decode.get("children", ()))


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a transformation: the parameter that it is handed to, the table, and how much of it."""

    parameter: str
    table: TableName
    scope: Scope


#: Parameters of user functions that are not tables.
RESERVED = ("interval", "bookmark", "batch", "context")


@dataclass(frozen=True, slots=True)
class TransformSpec:
    """A table made from other tables, by a Python function or by SQL."""

    table: TableSpec
    inputs: tuple[InputSpec, ...]
    #: The user's function (frames in, frame out), or None for SQL.
    function: Callable[..., Any] | None = None
    #: The SQL template, and the file that it came from.
    sql: str | None = None
    sql_file: str | None = None
    materialized: Materialized = Materialized.TABLE
    #: Which frames the function is handed: polars frames of ours, or pandas.
    engine: str = "polars"
    #: Reserved parameters that the function asks for.
    wants: tuple[str, ...] = ()
    #: Columns of the one input in whose order its rows come. The SQL takes them one by one, and says nothing of order.
    in_order: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline: everything that a run of it needs to know."""

    name: str
    timetable: Timetable | None
    start: datetime | None
    end: datetime | None
    catchup: bool
    sources: Mapping[str, SourceSpec]
    transforms: Mapping[str, TransformSpec]
    #: Checks by table name (bare, within the pipeline).
    checks: Mapping[str, tuple[Expectation, ...]]
    #: Python functions callable in SQL, by name.
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    publish: PublishMode = PublishMode.RUN
    isolation: Isolation = Isolation.SNAPSHOT
    params: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    doc: str = ""
    #: What is done with messages as they come, by name.
    streams: Mapping[str, StreamSpec] = field(default_factory=dict)
    #: What goes where after a publish; None: that is not known, and what is on record stays.
    deliveries: tuple[DeliverySpec, ...] | None = None

    def table(self, name: str) -> TableSpec | None:
        """The spec of one of the pipeline's own tables, sources' bronze tables included."""
        if name in self.sources:
            return self.sources[name].table
        if name in self.transforms:
            return self.transforms[name].table
        return None

    def loaded_by(self, name: str) -> str | None:
        """The source whose load writes the table `name`: its own, or a child that it makes by flattening.

        Children are known only from data, so any name under a flattened source (`orders__items`) counts.
        """
        if name in self.sources:
            return name
        if name in self.transforms:
            return None
        parents = (name[:at] for at in range(len(name)) if name.startswith("__", at))
        return next((p for p in parents if p in self.sources and self.sources[p].makes(name)), None)

    def has(self, name: str) -> bool:
        """Whether the pipeline writes a table of that name, or may."""
        return name in self.transforms or self.loaded_by(name) is not None

    def together(self, source: str) -> tuple[str, ...]:
        """The sources that are extracted at once with this one, itself included; the first of them does it."""
        mark = _together(self.sources[source])
        if mark is None:
            return (source,)
        return tuple(name for name, other in self.sources.items() if _together(other) == mark)

    @property
    def bookmarked(self) -> bool:
        """True where a source goes on from a bookmark, so that batches form a chain."""
        return any(s.kind is SourceKind.BOOKMARK for s in self.sources.values())

    @property
    def bookmarks_only(self) -> bool:
        """True where every source does, so that no batch has an interval of its own to bring."""
        return all(s.kind is SourceKind.BOOKMARK for s in self.sources.values())

    @property
    def absorbs(self) -> bool:
        """True where a later batch takes over what a failed one should have brought."""
        return any(s.on_failure is OnFailure.ABSORB for s in self.sources.values() if s.kind is SourceKind.BOOKMARK)

    def with_params(self, params: Mapping[str, Any]) -> PipelineSpec:
        """The pipeline with parameters overridden for one run."""
        return replace(self, params={**self.params, **params})


def _together(source: SourceSpec) -> object | None:
    return getattr(source.origin, "together", None)


class TaskKind(StrEnum):
    """What a task of a pipeline does."""

    EXTRACT = "extract"
    LOAD = "load"
    BUILD = "build"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Task:
    """One task: `<kind>.<name>`, and the tasks that must have succeeded before it."""

    kind: TaskKind
    name: str
    upstream: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The task's id within its pipeline."""
        return f"{self.kind}.{self.name}"


Tasks: TypeAlias = "tuple[Task, ...]"


def tasks_of(pipeline: PipelineSpec) -> Tasks:
    """The pipeline's tasks in an order in which they can run: a check follows its table and guards what reads it.

    Raises:
        DefinitionError: transformations read each other in a circle.
    """
    tasks: list[Task] = []

    def guard(name: str) -> str:
        """The task after which the table `name` may be read."""
        if pipeline.checks.get(name):
            return f"{TaskKind.CHECK}.{name}"
        source = pipeline.loaded_by(name)
        return f"{TaskKind.BUILD}.{name}" if source is None else f"{TaskKind.LOAD}.{source}"

    def add_check(name: str, after: str) -> None:
        others = tuple(
            dict.fromkeys(
                guard(t.table)
                for check in pipeline.checks.get(name, ())
                if (t := _referenced(check, pipeline.name)) and t.namespace == pipeline.name and t.table != name
                and pipeline.has(t.table)
            )
        )  # fmt: skip
        if pipeline.checks.get(name):
            tasks.append(Task(TaskKind.CHECK, name, (after, *others)))

    for name in pipeline.sources:
        leader = pipeline.together(name)[0]
        tasks.append(Task(TaskKind.EXTRACT, name, () if leader == name else (f"{TaskKind.EXTRACT}.{leader}",)))
        tasks.append(Task(TaskKind.LOAD, name, (f"{TaskKind.EXTRACT}.{name}",)))
        add_check(name, f"{TaskKind.LOAD}.{name}")
    for name in pipeline.checks:
        source = pipeline.loaded_by(name)
        if source not in (None, name):
            add_check(name, f"{TaskKind.LOAD}.{source}")
    for name, transform in pipeline.transforms.items():
        upstream = tuple(
            dict.fromkeys(
                guard(i.table.table)
                for i in transform.inputs
                if i.table.namespace == pipeline.name and i.table.table != name
                and pipeline.has(i.table.table)
            )
        )  # fmt: skip
        tasks.append(Task(TaskKind.BUILD, name, upstream))
        add_check(name, f"{TaskKind.BUILD}.{name}")
    return _sorted(tasks, pipeline)


def graph_of(tasks: Iterable[Task]) -> Graph:
    """What a scheduler knows of a pipeline's tasks: each runs when all before it have ended well."""
    return Graph(Node(task.id, task.upstream) for task in tasks)


def _referenced(check: Expectation, namespace: str) -> TableName | None:
    return TableName.parse(check.table, namespace) if isinstance(check, ReferencesExpectation) else None


def _sorted(tasks: list[Task], pipeline: PipelineSpec) -> Tasks:
    """Topological order that keeps the order of definition where it can."""
    by_id = {t.id: t for t in tasks}
    done: dict[str, Task] = {}
    visiting: list[str] = []

    def visit(task: Task) -> None:
        if task.id in done:
            return
        if task.id in visiting:
            circle = [i.split(".", 1)[1] for i in [*visiting[visiting.index(task.id) :], task.id]]
            raise DefinitionError(
                f'Tables of pipeline "{pipeline.name}" read each other in a circle: '
                + " -> ".join(dict.fromkeys(circle))
                + f" -> {circle[0]}.",
                where=next((pipeline.transforms[n].place for n in circle if n in pipeline.transforms), pipeline.place),
                hint="take one of these inputs out, or split a table in two",
            )
        visiting.append(task.id)
        for upstream in task.upstream:
            visit(by_id[upstream])
        visiting.pop()
        done[task.id] = task

    for task in tasks:
        visit(task)
    return tuple(done.values())
