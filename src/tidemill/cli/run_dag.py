"""`tidemill run` of a DAG: its tasks one after another in this process, told as they end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.invocation import Invocation
from tidemill.cli.runs import name_of
from tidemill.cli.text import count, duration

if TYPE_CHECKING:
    from tidemill.model.batch import Interval
    from tidemill.model.definition import Definition
    from tidemill.ports.executor import JobEnded


def run_dag(
    invocation: Invocation, definition: Definition, when: str | None, params: tuple[str, ...], start: tuple[str, ...]
) -> int:
    """Run a DAG for what the user means by a date, a range, a run key, or nothing; returns the exit code."""
    from tidemill.plan.params import read_params

    conf = read_params(definition.params, params, strict=not definition.any_params, where=definition.place)
    for interval, key in meant(invocation, definition, when):
        code = _run_one(invocation, definition.name, interval, key, conf, start)
        if code:
            return code
    return 0


def meant(invocation: Invocation, definition: Definition, when: str | None) -> list[tuple[Interval | None, str | None]]:
    """The intervals or the run key that the user means by a date, a range, a key, or nothing."""
    from tidemill.plan.schedule import latest_complete, parse_intervals
    from tidemill.wiring.services import system_clock

    timetable = definition.schedule.timetable
    if timetable is None:
        return [(None, when)]
    if when is not None:
        return [(interval, None) for interval in parse_intervals(when, timetable, definition.start)]
    latest = latest_complete(timetable, system_clock().now(), start=definition.start, end=definition.end)
    if latest is not None:
        told = f"running {definition.name} for {latest}, the latest complete interval (no date was given)"
        invocation.out.note(told)
    return [(latest, None)]


def _run_one(
    invocation: Invocation,
    name: str,
    interval: Interval | None,
    key: str | None,
    conf: Mapping[str, Any],
    start: tuple[str, ...],
) -> int:
    from tidemill.wiring.running import run_here

    run = run_here(
        invocation.settings, name, interval=interval, run_key=key, conf=conf, only=start,
        ended=lambda end: _ended(invocation, end),
    )  # fmt: skip
    return tell(invocation, name, str(interval or key or run.id), invocation.installation.runs.one(run.id))


def tell(invocation: Invocation, name: str, when: str, run: dict[str, Any]) -> int:
    """Say how a run has ended; returns the exit code."""
    tasks, run_id, state = run["tasks"], run["run_id"], run["state"]
    good = state == "success"
    if invocation.json:
        listed = [{"task": name_of(task), **{field: task[field] for field in _TOLD}} for task in tasks]
        invocation.out.object({"ok": good, "run_id": run_id, "state": state, "error": run["error"], "tasks": listed})
        return 0 if good else 1
    verb = "ran" if good else state
    invocation.out.facts([(verb, f"{name} {when}", count(len(tasks), "tasks"), _took(run))])
    bad = next((task for task in tasks if task["state"] == "failed"), None)
    if not good:
        sys.stdout.flush()
        print(f"error: {run['error'] or state}", file=sys.stderr)
    invocation.out.next(f"tidemill logs {run_id} {name_of(bad)}" if bad else f"tidemill runs show {run_id}")
    return 0 if good else 1


_TOLD = ("state", "tries", "error")


def _took(run: dict[str, Any]) -> str:
    if run["started_at"] is None or run["ended_at"] is None:
        return ""
    return duration((run["ended_at"] - run["started_at"]).total_seconds())


def _ended(invocation: Invocation, end: JobEnded) -> None:
    from tidemill.model.instance import Deferred, Failed, Rescheduled, Skipped

    task, index = end.key
    if not task:
        return
    how = "done"
    if isinstance(end.outcome, Failed):
        how = f"failed: {end.outcome.error.splitlines()[0]}"
    elif isinstance(end.outcome, Skipped):
        how = "skipped"
    elif isinstance(end.outcome, Deferred | Rescheduled):
        how = "waits"
    name = task if index < 0 else f"{task}[{index}]"
    invocation.out.note(f"{name}: {how} ({duration(end.report.seconds)})")
