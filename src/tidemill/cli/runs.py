"""`tidemill runs`: what schedulers have run, run and will run; stop it, clear it, mark it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, duration, moment

if TYPE_CHECKING:
    from datetime import datetime

    from tidemill.ports.installation import ToClear

_STYLES = {
    "success": "good", "failed": "bad", "upstream_failed": "bad", "cancelled": "warn", "skipped": "dim",
    "up_for_retry": "warn", "running": "heading", "publishing": "heading",
}  # fmt: skip
#: Tasks that a person is shown; JSON has all.
_MOST_TASKS = 200


@click.group(cls=Group)
def runs() -> None:
    """Look at runs; stop them, clear and mark their tasks.

    A run is one attempt at a batch. Clearing tasks of a run that has ended begins the next attempt.
    """


_RUN = click.argument("run_id", type=click.IntRange(min=1), metavar="RUN")


@runs.command("ls", cls=Command, asks=True)
@click.option("--pipeline", metavar="NAME", help="Only runs of this pipeline.")
@click.option("--state", metavar="STATE", help="Only runs in this state: queued, running, success, failed ...")
@limit_option(20, "How many, newest first; 0: all.")
@pass_invocation
def list_runs(invocation: Invocation, pipeline: str | None, state: str | None, limit: int) -> None:
    """List runs, newest first."""
    from tidemill.model.errors import UnknownName
    from tidemill.model.run import RunState

    if state is not None and state not in list(RunState):
        raise UnknownName.of("state", state, list(RunState))
    listed = invocation.installation.runs.listed(pipeline, RunState(state) if state else None, limit or None)
    out = invocation.out
    if invocation.json:
        out.object({"runs": listed})
        return
    if not listed:
        out.note("no run yet; try: tidemill up")
        return
    columns = [
        Column("run", right=True), Column("pipeline"), Column("interval"), Column("state"), Column("kind", yields=2),
        Column("attempt", right=True, yields=3), Column("began"), Column("took", right=True),
        Column("error", wraps=True),
    ]  # fmt: skip
    out.grid(columns, [_row(one) for one in listed])
    out.next(f"tidemill runs show {listed[0]['run_id']}")


def _row(one: dict[str, Any]) -> list[str]:
    return [
        str(one["run_id"]), one["pipeline"], one["when"], _state(one["state"]), one["kind"], str(one["attempt"]),
        moment(one["started_at"]), _took(one["started_at"], one["ended_at"]), _first_line(one["error"]),
    ]  # fmt: skip


def _state(state: str) -> str:
    style = _STYLES.get(state)
    return Styled(state, style) if style else state


def _took(started: datetime | None, ended: datetime | None) -> str:
    return "-" if started is None or ended is None else duration(max((ended - started).total_seconds(), 0.0))


def _first_line(error: str | None) -> str:
    return short(error or "").split("\n", 1)[0]


@runs.command(cls=Command, asks=True)
@_RUN
@pass_invocation
def show(invocation: Invocation, run_id: int) -> None:
    """Everything about one run: its tasks, their tries, and the error."""
    about = invocation.installation.runs.one(run_id)
    out = invocation.out
    if invocation.json:
        out.object(about)
        return
    tasks, error = about["tasks"], about["error"]
    facts = [
        ("run", str(run_id)),
        ("pipeline", f"{about['pipeline']} {about['when']}"),
        ("batch", f"{about['batch_id']}, attempt {about['attempt']}"),
        ("state", about["state"]),
        ("kind", about["kind"]),
        ("code", about["code_version"] or "-"),
        ("began", moment(about["started_at"])),
        ("took", _took(about["started_at"], about["ended_at"])),
    ]
    if about["branch"]:
        facts.append(("branch", about["branch"]))
    facts += [("parameter", f"{name} = {value!r}") for name, value in about["conf"].items()]
    out.facts(facts)
    if error:
        head, *more = short(error).splitlines()
        out.line(f"{out.styled('error:', 'bad')} {head}")
        for line in more:
            out.line(line if line.startswith("  ") else f"  {line}")
    if tasks:
        out.line()
        _print_tasks(invocation, tasks, error)
    for one in about["questions"]:
        out.line()
        out.facts(question_facts(one))
    if about["questions"]:
        out.next(_to_answer(about["questions"][0]))
        return
    bad = next((task for task in tasks if task["state"] == "failed"), None)
    out.next(f"tidemill logs {run_id} {name_of(bad)}" if bad else f"tidemill data batches {about['batch_id']}")


def name_of(task: dict[str, Any]) -> str:
    """A task instance as commands name it: `load`, or `load[3]`."""
    return f"{task['task']}[{task['map_index']}]" if task["map_index"] >= 0 else str(task["task"])


def _print_tasks(invocation: Invocation, tasks: list[dict[str, Any]], told: str | None) -> None:
    errors = ["" if told and task["error"] and task["error"] in told else _first_line(task["error"]) for task in tasks]
    columns = [Column("task"), Column("state"), Column("tries", right=True), Column("rows", right=True, yields=1),
               Column("began"), Column("took", right=True),
               *([Column("error", wraps=True)] if any(errors) else [])]  # fmt: skip
    rows = [
        [name_of(task), _state(task["state"]), str(task["tries"]), count(task["rows"]), moment(task["started_at"]),
         _took(task["started_at"], task["ended_at"]), *([error] if any(errors) else [])]
        for task, error in zip(tasks[:_MOST_TASKS], errors, strict=False)
    ]  # fmt: skip
    invocation.out.grid(columns, rows)
    if len(tasks) > _MOST_TASKS:
        invocation.out.note(f"the first {_MOST_TASKS} of {count(len(tasks), 'task instances')}; --json has all")


# Changing -------------------------------------------------------------------------------------------------------------


@runs.command(cls=Command, asks=True)
@_RUN
@pass_invocation
def cancel(invocation: Invocation, run_id: int) -> None:
    """Stop a run and its tasks; main never sees it, its branch stays."""
    invocation.installation.runs.cancel(run_id)
    if invocation.json:
        invocation.out.object({"run_id": run_id, "cancelled": True})
        return
    invocation.out.facts([("stopping", f"run {run_id}")])
    invocation.out.next(f"tidemill runs show {run_id}")


@runs.command(cls=Command, asks=True)
@_RUN
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--only", is_flag=True, help="Only these tasks, not those that depend on them.")
@click.option("--dry-run", is_flag=True, help="Show what would run again, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def clear(invocation: Invocation, run_id: int, tasks: tuple[str, ...], only: bool, dry_run: bool, yes: bool) -> None:
    """Let tasks of a run, and all that depends on them, run again.

    TASK is a task's id, a group's or a table's name. Without any: the tasks that failed, or could not run because of
    that. A run that has ended is not changed: its batch gets the next attempt, which takes over what is not cleared.
    """
    runs = invocation.installation.runs
    clearing = runs.preview_clearing(run_id, tasks, downstream=not only)
    if not invocation.json:
        _show_clearing(invocation, clearing)
    if dry_run:
        if invocation.json:
            invocation.out.object({"run_id": run_id, "tasks": list(clearing.tasks), "dry_run": True})
        return
    if not (yes or invocation.json):
        click.confirm(f"Clear {count(len(clearing.tasks), 'tasks')}?", abort=True, err=True)
    into, attempt = runs.clear(clearing)
    if invocation.json:
        invocation.out.object({"run_id": into, "attempt": attempt, "tasks": list(clearing.tasks)})
        return
    invocation.out.facts([("cleared", count(len(clearing.tasks), "tasks"), f"run {into}, attempt {attempt}")])
    invocation.out.next(f"tidemill runs show {into}")


def _show_clearing(invocation: Invocation, clearing: ToClear) -> None:
    how = "within this attempt" if clearing.same_attempt else f"as attempt {clearing.attempt}"
    invocation.out.facts([("would clear", task) for task in clearing.tasks])
    invocation.out.note(f"{count(len(clearing.tasks), 'tasks')} {how}" + (f": {clearing.why}" if clearing.why else ""))


@runs.command(cls=Command, asks=True)
@_RUN
@click.argument("task")
@click.argument("state", type=click.Choice(["success", "failed", "skipped"]))
@click.option("--index", type=click.IntRange(min=0), metavar="N", help="Which instance of a mapped task.")
@pass_invocation
def mark(invocation: Invocation, run_id: int, task: str, state: str, index: int | None) -> None:
    """Let a task count as ended, whatever became of it.

    What depends on it runs again.
    """
    from tidemill.flow.control import whole
    from tidemill.model.run import TaskState

    into, attempt = invocation.installation.runs.mark(run_id, whole(task, index), TaskState(state))
    if invocation.json:
        invocation.out.object({"run_id": into, "attempt": attempt, "task": task, "state": state})
        return
    invocation.out.facts([("marked", f"{task} {state}", f"run {into}, attempt {attempt}")])
    invocation.out.next(f"tidemill runs show {into}")


@runs.command(cls=Command, asks=True)
@pass_invocation
def questions(invocation: Invocation) -> None:
    """List what tasks ask people, oldest first."""
    asked = invocation.installation.runs.questions()
    out = invocation.out
    if invocation.json:
        out.object({"questions": asked})
        return
    if not asked:
        out.note("no task asks anything")
        return
    columns = [Column("run", right=True), Column("pipeline"), Column("task"), Column("subject", wraps=True),
               Column("options", wraps=True), Column("since"), Column("until")]  # fmt: skip
    rows = [
        [str(one["run_id"]), one["pipeline"], name_of(one), one["subject"], ", ".join(one["options"]),
         moment(one["asked_at"]), moment(one["until"])]
        for one in asked
    ]  # fmt: skip
    out.grid(columns, rows)
    out.next(_to_answer(asked[0]))


def question_facts(one: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a task asks, for people."""
    made: list[tuple[str, ...]] = [("asks", name_of(one)), ("subject", one["subject"])]
    made += [("", line) for line in one["body"].strip().splitlines()]
    made.append(("options", ", ".join(one["options"]) + (" (several)" if one["multiple"] else "")))
    made += [("parameter", name, str(schema.get("description") or "")) for name, schema in one["form"].items()]
    if one["people"]:
        made.append(("of", ", ".join(one["people"])))
    if one["until"]:
        made.append(("until", moment(one["until"]), f"then {', '.join(one['defaults'] or ('it fails',))}"))
    return made


def _to_answer(one: dict[str, Any]) -> str:
    index = f" --index {one['map_index']}" if one["map_index"] >= 0 else ""
    given = "".join(f" --param {name}=..." for name in one["form"])
    return f"tidemill runs answer {one['run_id']} {one['task']} {shlex.quote(one['options'][0])}{given}{index}"


@runs.command(cls=Command, asks=True)
@_RUN
@click.argument("task")
@click.argument("options", nargs=-1, metavar="[OPTION]...")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Fill in what is asked for.")
@click.option("--index", type=click.IntRange(min=0), metavar="N", help="Which instance of a mapped task.")
@pass_invocation
def answer(
    invocation: Invocation, run_id: int, task: str, options: tuple[str, ...], params: tuple[str, ...], index: int | None
) -> None:
    """Answer what a task asks people; it goes on.

    OPTION is what is chosen; it may be left out where there is but one.
    """
    from tidemill.flow.control import whole
    from tidemill.plan.params import read_params

    installation, key = invocation.installation, whole(task, index)
    form = {}
    if params:
        asked = installation.runs.one(run_id)["questions"]
        schemas: dict[str, Any] = next((one["form"] for one in asked if (one["task"], one["map_index"]) == key), {})
        form = read_params(schemas, params)
    made = installation.runs.answer(run_id, key, options, form)
    if invocation.json:
        invocation.out.object({"run_id": run_id, "task": task, **made})
        return
    invocation.out.facts([("answered", task, ", ".join(made["chosen"]), f"by {made['by']}")])
    invocation.out.next(f"tidemill runs show {run_id}")
