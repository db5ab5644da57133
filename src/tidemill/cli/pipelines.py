"""`tidemill pipelines`: what the files of a project make, when it runs next, and what could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, duration, moment
from tidemill.model.batch import Interval

if TYPE_CHECKING:
    from datetime import datetime

    from tidemill.model.definition import Definition, TaskInfo
    from tidemill.model.graph import Node
    from tidemill.ports.installation import Declared

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


@pipelines.command("ls", cls=Command, asks=True)
@pass_invocation
def list_pipelines(invocation: Invocation) -> None:
    """List pipelines, with their next and their last runs.

    In the strip of last runs, the newest at its end, + is success, x failed, - cancelled, and > not ended yet.
    """
    found = invocation.installation.pipelines.listed(_STRIP)
    listed = found["pipelines"]
    out = invocation.out
    if invocation.json:
        out.object(found)
        return
    if listed:
        columns = [Column("pipeline"), Column("schedule", wraps=True), Column("state"), Column("next run"),
                   Column("last runs"), Column("file", yields=1)]  # fmt: skip
        out.grid(columns, [_row(one) for one in listed])
    else:
        out.note(f"no pipeline in {invocation.remote or ', '.join(invocation.settings.pipelines)}")
    for error in found["errors"]:
        _tell(invocation, error)
    if listed:
        out.next(f"tidemill pipelines show {listed[0]['pipeline']}")


@pipelines.command(cls=Command, asks=True)
@_NAME
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show one pipeline: its schedule, its tasks, what they touch."""
    pipelines = invocation.installation.pipelines
    about, declared = pipelines.one(name, _STRIP), pipelines.declared(name)
    definition, errors = declared.definition, about.pop("errors")
    out = invocation.out
    if invocation.json:
        out.object({**about, "definition": definition.as_json(), "errors": errors})
        return
    out.facts(_facts(about, declared))
    out.line()
    columns = [Column("task"), Column("kind"), Column("after", wraps=True), Column("tries", right=True, yields=2),
               Column("reads", wraps=True, yields=1), Column("writes", wraps=True),
               Column("place", yields=3)]  # fmt: skip
    out.grid(columns, [_task_row(node, definition.tasks[id_]) for id_, node in definition.graph.nodes.items()])
    for error in errors:
        _tell(invocation, error)
    out.next(f"tidemill pipelines next {name}" if about["next_at"] else f"tidemill run {name}")


@pipelines.command("next", cls=Command, asks=True)
@_NAME
@click.option("-n", "most", type=click.IntRange(min=1), default=5, show_default=True, help="How many.")
@pass_invocation
def next_runs(invocation: Invocation, name: str, most: int) -> None:
    """Show the next runs of a schedule: when, for which interval."""
    from tidemill.wiring.services import system_clock

    pipelines = invocation.installation.pipelines
    about = pipelines.upcoming(name, most)
    out = invocation.out
    if invocation.json:
        out.object(about)
        return
    now, found = system_clock().now(), [(one["at"], Interval(*one["interval"])) for one in about["next"]]
    if found:
        columns = [Column("begins"), Column("in", right=True), Column("interval")]
        out.grid(columns, [[moment(at), _until(at, now), str(one)] for at, one in found])
    else:
        out.line(f"{name}: {_why_none(pipelines.declared(name).definition)}")
    if about["paused"] and found:
        out.note("it is paused: none of them begins before it is resumed")
        out.next(f"tidemill pipelines unpause {name}")


@pipelines.command(cls=Command, asks=True)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def pause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Let schedules begin no more runs; what is under way goes on."""
    _pause(invocation, names, True)


@pipelines.command(cls=Command, asks=True)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def unpause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Let schedules begin runs again."""
    _pause(invocation, names, False)


def _pause(invocation: Invocation, names: tuple[str, ...], paused: bool) -> None:
    invocation.installation.pipelines.pause(names, paused)
    if invocation.json:
        invocation.out.object({"paused" if paused else "resumed": list(names)})
        return
    invocation.out.facts([("paused" if paused else "resumed", name) for name in names])
    invocation.out.next(f"tidemill pipelines {'unpause' if paused else 'next'} {names[0]}")


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


def _facts(about: dict[str, Any], declared: Declared) -> list[tuple[str, ...]]:
    definition = declared.definition
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
    if declared.newest is not None:
        facts.append(("begun", str(declared.newest)))
    at_once = "one after the other" if definition.sequential else f"{definition.max_active_runs} at the same time"
    facts.append(("runs", at_once))
    for name, length in (("timeout", definition.run_timeout), ("deadline", definition.deadline)):
        if length is not None:
            since = definition.deadline_from if name == "deadline" else ""
            facts.append((name, duration(length.total_seconds()), *([f"from {since}"] if since else [])))
    facts += [("parameter", name, str(schema.get("default", "must be given")))
              for name, schema in definition.params.items()]  # fmt: skip
    facts += [(name, value) for name, value in (("owner", definition.owner), ("tags", ", ".join(definition.tags)),
              ("for", definition.doc.split("\n", 1)[0])) if value]  # fmt: skip
    facts.append(("code", about["code_version"], f"read {moment(declared.seen_at)}"))
    return facts


def _tell(invocation: Invocation, error: dict[str, Any]) -> None:
    """Why a file cannot be read, as a failure is told."""
    out = invocation.out
    out.line()
    out.line(f"{out.styled('error:', 'bad')} {error['file']} cannot be read: {error['what']}")
    out.line(f"  at: {error['place'] or error['file']}")
    if error["hint"]:
        out.line(f"  try: {error['hint']}")
