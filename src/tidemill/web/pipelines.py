"""Pipelines: the list with last and next runs, one with its graph, its grid; pause. One is run in `starting.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control
from tidemill.flow.facts.pipelines import error_facts, pipeline_facts, pipelines_facts, schedule_text
from tidemill.flow.facts.runs import ABSENT, LETTERS, grid, listed_run
from tidemill.model.errors import UnknownName
from tidemill.plan.due import upcoming
from tidemill.web.paging import cut, read_cursor
from tidemill.web.table import LARGEST_ID, Asked, Body, Cursor, Limit, Query

#: Runs in the strip of a pipeline.
_STRIP = 20


class Unreadable(Struct):
    """A file that could not be read, and why."""

    file: str
    kind: str
    what: str
    place: str | None
    hint: str | None
    at: datetime


class PipelineItem(Struct):
    """A pipeline in a list; `last_runs` are the states of its last runs, the oldest first.

    `timed`: its batches are intervals; those of others have run keys.
    """

    pipeline: str
    kind: str
    schedule: str
    timed: bool
    state: str
    readable: bool
    next_at: datetime | None
    next_interval: list[datetime] | None
    due: bool
    last_runs: list[str]
    last_run_ids: list[int]
    tasks: int
    file: str
    place: str
    code_version: str
    owner: str
    tags: list[str]
    doc: str


class PipelinePage(Struct):
    """Pipelines by name."""

    pipelines: list[PipelineItem]
    errors: list[Unreadable]
    next: str | None


class Pipeline(PipelineItem):
    """One pipeline, with its parameters as JSON Schema."""

    params: dict[str, Any]
    zone: str
    start: datetime | None
    end: datetime | None
    catchup: bool
    max_active_runs: int
    streams: list[str]
    errors: list[Unreadable]


class Declared(Struct):
    """A pipeline's newest definition, as its file says it, whole; `newest` is the last interval that was begun."""

    pipeline: str
    definition: dict[str, Any]
    paused: bool
    newest: list[datetime] | None
    seen_at: datetime


class GraphNode(Struct):
    """A task; what is as by default in `node` is left out."""

    id: str
    upstream: list[str]
    downstream: list[str]
    operator: str
    group: list[str]
    inlets: list[str]
    outlets: list[str]
    labels: dict[str, str]
    doc: str
    place: str
    color: str
    rule: str
    mapped: bool
    tries: int
    pool: str


class Graph(Struct):
    """The tasks of a pipeline by its newest definition, or that of a run."""

    pipeline: str
    definition_id: int
    nodes: list[GraphNode]


class Upcoming(Struct):
    """A run that a schedule will begin."""

    at: datetime
    interval: list[datetime]


class NextRuns(Struct):
    """The next runs of a schedule."""

    pipeline: str
    paused: bool
    schedule: str
    next: list[Upcoming]


class GridRun(Struct):
    """A column of a grid: a run, and a letter for each task."""

    run_id: int
    when: str
    state: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    states: str


class Grid(Struct):
    """Tasks by runs, the newest first. `legend` says what each letter means; a space: the run has no record of it."""

    pipeline: str
    tasks: list[str]
    legend: dict[str, str]
    runs: list[GridRun]
    next: str | None


class PipelinesQuery(Query, frozen=True):
    """Which pipelines."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[list[str], Meta(description="only these")] = []
    state: Annotated[str, Meta(pattern="^(active|paused)$", description="active or paused")] | None = None
    tag: Annotated[str, Meta(description="only those with this tag")] | None = None
    search: Annotated[str, Meta(description="only those whose names contain this")] | None = None
    last: Annotated[int, Meta(ge=0, le=_STRIP, description="so many of the last runs of each")] = _STRIP


class GraphQuery(Query, frozen=True):
    """Which definition."""

    run: Annotated[int, Meta(ge=1, le=LARGEST_ID, description="as this run began with it")] | None = None


class NextQuery(Query, frozen=True):
    """How many runs ahead."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 5


class GridQuery(Query, frozen=True):
    """Which part of a grid."""

    limit: Annotated[int, Meta(ge=1, le=100, description="runs")] = 25
    cursor: Cursor = None


class Names(Body, frozen=True):
    """Pipelines, by name."""

    pipelines: Annotated[list[str], Meta(min_length=1, max_length=500)]


def by_path(asked: Asked) -> list[str]:
    """The pipeline that the path names."""
    return [asked.path["pipeline"]]


def by_body(asked: Asked) -> list[str]:
    """The pipelines that the body names."""
    return list(asked.body.pipelines)


def list_pipelines(asked: Asked) -> dict[str, Any]:
    """Pipelines, by name."""
    query: PipelinesQuery = asked.query
    after = read_cursor(query.cursor, str)
    now = asked.backend.clock.now()
    with asked.backend.metadata.read() as tx:
        errors = tx.definitions.errors()
        records = [one for one in tx.definitions.pipelines() if asked.sees(one.name)]
        if query.pipeline:
            records = [one for one in records if one.name in query.pipeline]
        if query.state:
            records = [one for one in records if one.paused == (query.state == "paused")]
        if query.search:
            records = [one for one in records if query.search.lower() in one.name.lower()]
        if after is not None:
            records = [one for one in records if one.name > after]
        if query.tag is None:
            records = records[: query.limit + 1]
        if query.tag is not None:
            known = tx.definitions.get_all(one.definition_id for one in records)
            records = [one for one in records if query.tag in known[one.definition_id].tags]
        page, further = cut(records, query.limit, lambda one: one.name)
        unread = {error.file for error in errors}
        listed = pipelines_facts(tx, page, unread, now, strip=query.last)
    shown = errors if asked.sees(None) else []
    return {"pipelines": listed, "errors": [error_facts(error) for error in shown], "next": further}


def show_pipeline(asked: Asked) -> dict[str, Any]:
    """One pipeline."""
    with asked.backend.metadata.read() as tx:
        record, made = control.known(tx, asked.path["pipeline"])
        errors = [error for error in tx.definitions.errors() if error.file == record.file]
        about = pipeline_facts(tx, record, {e.file for e in errors}, asked.backend.clock.now(), strip=_STRIP)
    more = {name: getattr(made, name) for name in ("zone", "start", "end", "catchup", "max_active_runs")}
    return {
        **about, **more, "params": dict(made.params),
        "streams": list(made.streams), "errors": [error_facts(error) for error in errors],
    }  # fmt: skip


def show_definition(asked: Asked) -> dict[str, Any]:
    """Its newest definition: tasks, schedule, parameters, as other programs of Tidemill read it."""
    with asked.backend.metadata.read() as tx:
        record, made = control.known(tx, asked.path["pipeline"])
    return {
        "pipeline": record.name, "definition": made.as_json(), "paused": record.paused,
        "newest": [record.newest.start, record.newest.end] if record.newest else None, "seen_at": record.seen_at,
    }  # fmt: skip


def show_graph(asked: Asked) -> dict[str, Any]:
    """Its tasks, and how they depend on each other."""
    name = asked.path["pipeline"]
    with asked.backend.metadata.read() as tx:
        if asked.query.run is None:
            record, made = control.known(tx, name)
            id_ = record.definition_id
        else:
            if listed_run(tx, asked.query.run).pipeline != name:
                raise UnknownName.of("run", str(asked.query.run), (), where=f"pipeline {name}")
            order = tx.runs.order(asked.query.run)
            if order is None:
                what = f"Run {asked.query.run} was begun by hand: its definition is not recorded."
                raise UnknownName(what, hint="the newest definition: leave out `run`")
            id_ = order.definition_id
            made = tx.definitions.get(id_)
    nodes = []
    for node in made.graph.nodes.values():
        info = made.tasks[node.id]
        nodes.append({
            "id": node.id, "upstream": list(node.upstream), "downstream": list(made.graph.downstream[node.id]),
            "operator": info.operator, "group": list(info.group), "inlets": list(info.inlets),
            "outlets": list(info.outlets), "labels": dict(info.labels), "doc": info.doc, "place": info.place,
            "color": info.color, "rule": node.rule.value, "mapped": node.mapped is not None,
            "tries": node.retry.times + 1, "pool": node.pool,
        })  # fmt: skip
    return {"pipeline": name, "definition_id": id_, "nodes": nodes}


def next_runs(asked: Asked) -> dict[str, Any]:
    """The next runs of its schedule."""
    name = asked.path["pipeline"]
    with asked.backend.metadata.read() as tx:
        record, made = control.known(tx, name)
    found = upcoming(made, asked.backend.clock.now(), record.newest, asked.query.limit)
    listed = [{"at": at, "interval": [one.start, one.end]} for at, one in found]
    return {"pipeline": name, "paused": record.paused, "schedule": schedule_text(made), "next": listed}


def show_grid(asked: Asked) -> dict[str, Any]:
    """Its tasks by its last runs, as strings of letters."""
    name, limit = asked.path["pipeline"], asked.query.limit
    before = read_cursor(asked.query.cursor, int)
    with asked.backend.metadata.read() as tx:
        record = tx.definitions.pipeline(name)
        found = tx.runs.listed(pipelines=[name], before=before, limit=limit + 1)
        if record is None and not found:
            raise UnknownName.of("pipeline", name, (one.name for one in tx.definitions.pipelines()))
        made = tx.definitions.get(record.definition_id) if record is not None else None
        page, further = cut(found, limit, lambda one: one.run.id)
        ids = [one.run.id for one in page]
        standings = tx.runs.standings(ids)
    tasks = list(made.graph.nodes) if made is not None else []
    known = set(tasks)
    tasks += [task for task in dict.fromkeys(one.task for one in standings) if task not in known]
    columns = []
    for one, states in zip(page, grid(tasks, ids, standings), strict=True):
        run = one.run
        columns.append({
            "run_id": run.id, "when": str(one.interval or one.run_key), "state": run.state.value,
            "attempt": run.attempt, "created_at": run.created_at, "started_at": run.started_at,
            "ended_at": run.ended_at, "states": states,
        })  # fmt: skip
    legend = {letter: state.value for state, letter in LETTERS.items()} | {ABSENT: "absent"}
    return {"pipeline": name, "tasks": tasks, "legend": legend, "runs": columns, "next": further}


# -- actions


def pause(asked: Asked) -> dict[str, Any]:
    """Let its schedule begin no more runs; what is under way goes on."""
    return _pause(asked, by_path(asked), paused=True)


def unpause(asked: Asked) -> dict[str, Any]:
    """Let its schedule begin runs again."""
    return _pause(asked, by_path(asked), paused=False)


def pause_many(asked: Asked) -> dict[str, Any]:
    """Let schedules begin no more runs: all of them, or none where one is not there."""
    return _pause(asked, by_body(asked), paused=True)


def unpause_many(asked: Asked) -> dict[str, Any]:
    """Let schedules begin runs again."""
    return _pause(asked, by_body(asked), paused=False)


def _pause(asked: Asked, names: list[str], *, paused: bool) -> dict[str, Any]:
    metadata, now = asked.backend.metadata, asked.backend.clock.now()
    with metadata.read() as tx:
        records = [control.known(tx, name)[0] for name in dict.fromkeys(names)]
    changed = [record.name for record in records if record.paused != paused]
    if changed and not asked.query.dry_run:
        with metadata.write() as tx:
            for name in changed:
                tx.definitions.pause(name, paused, now)
        asked.backend.ring()
    return {"done": "paused" if paused else "resumed", "names": changed, "dry_run": asked.query.dry_run}
