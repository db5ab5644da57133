"""`tidemill pipelines`: what the files of a project make, when it runs next, and what could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, duration, moment

if TYPE_CHECKING:
    from datetime import datetime

    from tidemill.model.definition import Definition, TaskInfo
    from tidemill.model.graph import Node
    from tidemill.ports.definitions import PipelineRecord, Unreadable
    from tidemill.ports.metadata import Tx

#: Runs in the strip of a pipeline, oldest first.
_STRIP = 10
_MARKS = {"success": "+", "failed": "x", "cancelled": "-"}


@click.group(cls=Group)
def pipelines() -> None:
    """Look at pipelines and their schedules; pause them.

    A schedule begins runs while `tidemill up` runs. A file that cannot be read leaves its pipelines as they were.
    """


_NAME = click.argument("name")


@pipelines.command("schema", cls=Command)
@pass_invocation
def pipeline_schema(invocation: Invocation) -> None:
    """Write the JSON Schema of pipelines in YAML, for editors.

    Save it, and begin a file with: # yaml-language-server: $schema=../pipeline.schema.json
    """
    from tidemill.authoring.written_schema import schema

    invocation.out.object(schema())


@pipelines.command("ls", cls=Command)
@pass_invocation
def list_pipelines(invocation: Invocation) -> None:
    """List pipelines, with their next and their last runs.

    In the strip of last runs, the newest at its end, + is success, x failed, - cancelled, and > not ended yet.
    """
    from tidemill.wiring.services import system_clock

    _read_files(invocation)
    now = system_clock().now()
    with invocation.metadata.read() as tx:
        errors = tx.definitions.errors()
        records = tx.definitions.pipelines()
        known = tx.definitions.get_all(record.definition_id for record in records)
        unread = {error.file for error in errors}
        listed = [_object(tx, record, known[record.definition_id], unread, now) for record in records]
    out = invocation.out
    if invocation.json:
        out.object({"pipelines": listed, "errors": [_error(error) for error in errors]})
        return
    if listed:
        columns = [Column("pipeline"), Column("schedule", wraps=True), Column("state"), Column("next run"),
                   Column("last runs"), Column("file", yields=1)]  # fmt: skip
        out.grid(columns, [_row(one) for one in listed])
    else:
        out.note(f"no pipeline in {', '.join(invocation.settings.pipelines)}")
    for error in errors:
        _tell(invocation, error)
    if listed:
        out.next(f"tidemill pipelines show {listed[0]['pipeline']}")


@pipelines.command(cls=Command)
@_NAME
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show one pipeline: its schedule, its tasks, what they touch."""
    from tidemill.flow.control import known
    from tidemill.wiring.services import system_clock

    _read_files(invocation)
    with invocation.metadata.read() as tx:
        record, definition = known(tx, name)
        errors = [error for error in tx.definitions.errors() if error.file == record.file]
        about = _object(tx, record, definition, {error.file for error in errors}, system_clock().now())
    out = invocation.out
    if invocation.json:
        details = definition.as_json()
        out.object({**about, "definition": details, "errors": [_error(error) for error in errors]})
        return
    out.facts(_facts(about, record, definition))
    out.line()
    columns = [Column("task"), Column("kind"), Column("after", wraps=True), Column("tries", right=True, yields=2),
               Column("reads", wraps=True, yields=1), Column("writes", wraps=True),
               Column("place", yields=3)]  # fmt: skip
    out.grid(columns, [_task_row(node, definition.tasks[id_]) for id_, node in definition.graph.nodes.items()])
    for error in errors:
        _tell(invocation, error)
    out.next(f"tidemill pipelines next {name}" if about["next_at"] else f"tidemill run {name}")


@pipelines.command("next", cls=Command)
@_NAME
@click.option("-n", "most", type=click.IntRange(min=1), default=5, show_default=True, help="How many.")
@pass_invocation
def next_runs(invocation: Invocation, name: str, most: int) -> None:
    """Show the next runs of a schedule: when, for which interval."""
    from tidemill.flow.control import known
    from tidemill.plan.due import upcoming
    from tidemill.wiring.services import system_clock

    _read_files(invocation)
    now = system_clock().now()
    with invocation.metadata.read() as tx:
        record, definition = known(tx, name)
    found = upcoming(definition, now, record.newest, most)
    out = invocation.out
    if invocation.json:
        runs = [{"at": at, "interval": [one.start, one.end]} for at, one in found]
        out.object({"pipeline": name, "paused": record.paused, "schedule": _schedule(definition), "next": runs})
        return
    if found:
        columns = [Column("begins"), Column("in", right=True), Column("interval")]
        out.grid(columns, [[moment(at), _until(at, now), str(one)] for at, one in found])
    else:
        out.line(f"{name}: {_why_none(definition)}")
    if record.paused and found:
        out.note("it is paused: none of them begins before it is resumed")
        out.next(f"tidemill pipelines unpause {name}")


@pipelines.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def pause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Let schedules begin no more runs; what is under way goes on."""
    _pause(invocation, names, True)


@pipelines.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def unpause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Let schedules begin runs again."""
    _pause(invocation, names, False)


def _pause(invocation: Invocation, names: tuple[str, ...], paused: bool) -> None:
    from tidemill.wiring.services import system_clock
    from tidemill.wiring.serving import ring

    _read_files(invocation)
    with invocation.metadata.write() as tx:
        for name in names:
            tx.definitions.pause(name, paused, system_clock().now())
    ring(invocation.settings)
    if invocation.json:
        invocation.out.object({"paused" if paused else "resumed": list(names)})
        return
    invocation.out.facts([("paused" if paused else "resumed", name) for name in names])
    invocation.out.next(f"tidemill pipelines {'unpause' if paused else 'next'} {names[0]}")


def _read_files(invocation: Invocation) -> None:
    """Where nothing follows the files, read them now: what is told must be what they say."""
    from tidemill.wiring.parsing import parse_once, parser_runs
    from tidemill.wiring.serving import ring

    settings = invocation.known_settings()
    if not parser_runs(settings) and parse_once(settings).changed:
        ring(settings)


def _object(tx: Tx, record: PipelineRecord, definition: Definition, unread: set[str], now: datetime) -> dict[str, Any]:
    """What is told of one pipeline."""
    from tidemill.plan.due import upcoming

    runs = tx.runs.recent(pipeline=record.name, limit=_STRIP)
    soon = [] if record.paused else upcoming(definition, now, record.newest, 1)
    return {
        "pipeline": record.name,
        "kind": definition.kind.value,
        "schedule": _schedule(definition),
        "state": "paused" if record.paused else "active",
        "readable": record.file not in unread,
        "next_at": soon[0][0] if soon else None,
        "next_interval": [soon[0][1].start, soon[0][1].end] if soon else None,
        "due": bool(soon) and soon[0][0] <= now,
        "last_runs": [run.state.value for run in reversed(runs)],
        "tasks": len(definition.tasks),
        "file": record.file,
        "place": definition.place,
        "code_version": record.code,
        "owner": definition.owner,
        "tags": list(definition.tags),
        "doc": definition.doc,
    }


def _row(one: dict[str, Any]) -> list[str]:
    state = Styled("paused", "warn") if one["state"] == "paused" else "active"
    if not one["readable"]:
        state = Styled("file broken", "bad")
    soon = "now" if one["due"] else moment(one["next_at"])
    strip = "".join(_MARKS.get(state, ">") for state in one["last_runs"])
    return [one["pipeline"], one["schedule"], state, soon, strip or "-", one["file"]]


def _task_row(node: Node, info: TaskInfo) -> list[str]:
    lists = [", ".join(names) or "-" for names in (node.upstream, info.inlets, info.outlets)]
    return [node.id, info.operator, lists[0], str(node.retry.times + 1), *lists[1:], info.place or "-"]


def _schedule(definition: Definition) -> str:
    text = definition.schedule.text
    if not text:
        return "by hand"
    return text if definition.zone == "UTC" else f"{text} in {definition.zone}"


def _why_none(definition: Definition) -> str:
    schedule = definition.schedule
    if schedule.on is not None:
        return f"it runs when {schedule.text} is published"
    if schedule.files is not None:
        return f"it runs when files come that match {schedule.files.pattern}"
    if schedule.timetable is None and not schedule.intervals:
        return "it runs by hand only"
    return "its schedule has no more runs" + (f"; it ends at {moment(definition.end)}" if definition.end else "")


def _until(at: datetime, now: datetime) -> str:
    seconds = (at - now).total_seconds()
    return "now" if seconds <= 0 else duration(seconds)


def _facts(about: dict[str, Any], record: PipelineRecord, definition: Definition) -> list[tuple[str, ...]]:
    kind = "tables, published together" if about["kind"] == "tables" else "tasks"
    facts: list[tuple[str, ...]] = [
        ("pipeline", about["pipeline"], f"{kind}, {count(about['tasks'], 'tasks')}"),
        ("declared", short(definition.place)),
        ("schedule", about["schedule"], about["state"]),
    ]
    bounds = [f"from {moment(definition.start)}" if definition.start else "",
              f"to {moment(definition.end)}" if definition.end else ""]  # fmt: skip
    if any(bounds):
        facts.append(("interval", " ".join(filter(None, bounds)), "catching up" if definition.catchup else "newest"))
    if about["next_at"] is not None:
        facts.append(("next run", "now" if about["due"] else moment(about["next_at"])))
    if record.newest is not None:
        facts.append(("begun", str(record.newest)))
    at_once = "one after the other" if definition.sequential else f"{definition.max_active_runs} at the same time"
    facts.append(("runs", at_once))
    for name, length in (("timeout", definition.run_timeout), ("deadline", definition.deadline)):
        if length is not None:
            facts.append((name, duration(length.total_seconds())))
    facts += [("parameter", name, str(schema.get("default", "must be given")))
              for name, schema in definition.params.items()]  # fmt: skip
    facts += [(name, value) for name, value in (("owner", definition.owner), ("tags", ", ".join(definition.tags)),
              ("for", definition.doc.split("\n", 1)[0])) if value]  # fmt: skip
    facts.append(("code", record.code, f"read {moment(record.seen_at)}"))
    return facts


def _error(error: Unreadable) -> dict[str, Any]:
    return {name: getattr(error, name) for name in error.__dataclass_fields__}


def _tell(invocation: Invocation, error: Unreadable) -> None:
    """Why a file cannot be read, as a failure is told."""
    out = invocation.out
    out.line()
    out.line(f"{out.styled('error:', 'bad')} {error.file} cannot be read: {error.what}")
    out.line(f"  at: {error.place or error.file}")
    if error.hint:
        out.line(f"  try: {error.hint}")
