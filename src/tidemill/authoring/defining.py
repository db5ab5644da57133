"""From a data-first pipeline to its `Definition`: what a scheduler and a web page know of it without its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from tidemill.authoring.handles import Handle
from tidemill.authoring.place import here, placed
from tidemill.model.condition import AllOf, AnyOf, FilesArrive, Published
from tidemill.model.definition import Definition, Kind, Schedule, TaskInfo
from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import ReferencesExpectation
from tidemill.model.graph import Graph, Node, Retry
from tidemill.model.pipeline import Materialized, PipelineSpec, Task, TaskKind, tasks_of
from tidemill.model.table import TableName, WriteMode
from tidemill.model.timetable import parse_duration
from tidemill.model.webhook import Webhook

#: What a pipeline may be scheduled by: a preset, a cron expression or several, a step, tables, files.
When: TypeAlias = "str | timedelta | Sequence[str] | Handle | Published | AllOf | AnyOf | FilesArrive | None"

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Rules:
    """How a pipeline's runs and tasks are driven, beside its schedule; see `Pipeline`."""

    max_active_runs: int | None = None
    max_active_tasks: int | None = None
    run_timeout: timedelta | None = None
    deadline: timedelta | None = None
    paused: bool = False
    owner: str = ""
    tags: tuple[str, ...] = ()
    retry: Retry = field(default_factory=Retry)

    @classmethod
    def read(cls, *, retries: int, retry_delay: str | timedelta, tags: str | Sequence[str], **given: Any) -> Rules:
        """What the user wrote.

        Raises:
            DefinitionError: a number or a duration is wrong.
        """
        counts = {"max_active_runs": 1, "max_active_tasks": 1, "retries": 0}
        for name, value in {**given, "retries": retries}.items():
            wrong = not isinstance(value, int) or isinstance(value, bool) or value < counts.get(name, value)
            if name in counts and value is not None and wrong:
                hint = f"{counts[name]} or more"
                raise DefinitionError(f"{name}={value!r} is no number that it can be.", where=here(), hint=hint)
        for name in ("run_timeout", "deadline"):
            given[name] = None if given[name] is None else placed(parse_duration, given[name])
        retry = placed(Retry, retries, placed(parse_duration, retry_delay))
        return cls(**given, tags=(tags,) if isinstance(tags, str) else tuple(tags), retry=retry)


def definition_of(spec: PipelineSpec, schedule: Schedule, zone: str, rules: Rules) -> Definition:
    """The definition of a pipeline: a task for each step of each table.

    Raises:
        DefinitionError: tables read each other in a circle.
    """
    tasks = tasks_of(spec)
    return Definition(
        name=spec.name,
        kind=Kind.TABLES,
        graph=Graph((Node(task.id, task.upstream, retry=rules.retry) for task in tasks), place=spec.place),
        tasks={task.id: _info(spec, task) for task in tasks},
        schedule=schedule,
        zone=zone,
        start=spec.start,
        end=spec.end,
        catchup=spec.catchup,
        max_active_runs=rules.max_active_runs or _runs_at_once(spec),
        max_active_tasks=rules.max_active_tasks,
        run_timeout=rules.run_timeout,
        deadline=rules.deadline,
        sequential=spec.bookmarked,
        absorb=spec.absorbs,
        bookmarks_only=spec.bookmarked and spec.bookmarks_only,
        paused=rules.paused,
        params={name: _parameter(value) for name, value in spec.params.items()},
        file=spec.place.rpartition(":")[0],
        place=spec.place,
        doc=spec.doc,
        tags=rules.tags,
        owner=rules.owner,
        streams=tuple(spec.streams),
        webhooks=tuple(name for name, source in spec.sources.items() if isinstance(source.origin, Webhook)),
    )


def _runs_at_once(spec: PipelineSpec) -> int:
    """Batches of append tables never stand in each other's way. Of two runs that upsert or replace at the same time one
    would be computed again (rule 4), so by default there is one.
    """
    tables = [source.table for source in spec.sources.values()]
    tables += [made.table for made in spec.transforms.values() if made.materialized is not Materialized.VIEW]
    return 16 if all(table.write is WriteMode.APPEND for table in tables) else 1


def _info(spec: PipelineSpec, task: Task) -> TaskInfo:
    """What people see of a task: where its table is declared, what it reads and writes."""
    own = str(TableName(spec.name, task.name))
    maker = spec.transforms.get(task.name) or spec.sources.get(spec.loaded_by(task.name) or "")
    inlets: tuple[str, ...] = ()
    outlets: tuple[str, ...] = ()
    if task.kind is TaskKind.LOAD:
        outlets = (own,)
    elif task.kind is TaskKind.BUILD:
        inlets, outlets = tuple(dict.fromkeys(str(i.table) for i in spec.transforms[task.name].inputs)), (own,)
    elif task.kind is TaskKind.CHECK:
        others = (c.table for c in spec.checks[task.name] if isinstance(c, ReferencesExpectation))
        inlets = tuple(dict.fromkeys([own, *(str(TableName.parse(other, spec.name)) for other in others)]))
    return TaskInfo(
        str(task.kind),
        doc=maker.table.doc if maker else "",
        place=maker.place if maker else spec.place,
        inlets=inlets,
        outlets=outlets,
    )


def _parameter(default: Any) -> Mapping[str, Any]:
    """The JSON schema of a parameter that has a default: its type is the default's."""
    kind = _JSON_TYPES.get(type(default))
    return {"default": default} if kind is None else {"type": kind, "default": default}
