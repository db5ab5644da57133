"""`tidemill run` with a server: its schedulers are asked for the run, which is followed until it has ended."""

from __future__ import annotations

from typing import Any

from tidemill.cli.invocation import Invocation
from tidemill.cli.run_dag import meant, tell
from tidemill.cli.runs import name_of
from tidemill.cli.text import duration

#: Seconds between two looks at a run: the first ones, and the longest.
_LOOK, _LONGEST = 0.2, 2.0
_ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


def run_there(
    invocation: Invocation, pipeline: str, when: str | None, params: tuple[str, ...], start: tuple[str, ...], *,
    refetch: bool,
) -> int:  # fmt: skip
    """Run a pipeline for what the user means by a date, a range, a run key, or nothing; returns the exit code.

    Raises:
        UserError: what was asked for is about files here, or cannot be asked of a server.
    """
    from tidemill.model.errors import UserError
    from tidemill.plan.params import read_params

    if pipeline.endswith((".py", ".yaml", ".yml")) or "/" in pipeline:
        raise UserError(f'"{pipeline}" is a file: a server runs what its project has.', hint="a pipeline's name")
    runs = invocation.installation.runs
    definition = invocation.installation.pipelines.declared(pipeline).definition
    conf = read_params(definition.params, params, strict=not definition.any_params, where=definition.place)
    for interval, key in meant(invocation, definition, when):
        begun = runs.begin(pipeline, interval=interval, key=key, conf=conf, only=start, refetch=refetch)
        code = tell(invocation, pipeline, str(interval or key or begun["run_id"]), _followed(invocation, begun))
        if code:
            return code
    return 0


def _followed(invocation: Invocation, run: dict[str, Any]) -> dict[str, Any]:
    """The run, once it has ended; tasks are told as they end."""
    from tidemill.model.run import RUN_ENDS
    from tidemill.wiring.services import system_clock

    runs, clock, told = invocation.installation.runs, system_clock(), set[tuple[str, int]]()
    run_id, wait = run["run_id"], _LOOK
    invocation.out.note(f"run {run_id}: asked for; stopping here does not stop it (tidemill runs cancel {run_id})")
    while True:
        run = runs.one(run_id)
        ended = [one for one in run["tasks"] if one["state"] in _ENDED and (one["task"], one["map_index"]) not in told]
        for one in ended:
            told.add((one["task"], one["map_index"]))
            invocation.out.note(f"{name_of(one)}: {_how(one)}")
        if run["state"] in RUN_ENDS:
            return run
        clock.sleep(wait)
        wait = _LOOK if ended else min(wait * 1.5, _LONGEST)


def _how(task: dict[str, Any]) -> str:
    how = "done" if task["state"] == "success" else task["state"].replace("_", " ")
    if task["error"]:
        how = f"{how}: {task['error'].splitlines()[0]}"
    if task["started_at"] is None or task["ended_at"] is None:
        return how
    return f"{how} ({duration(max(0.0, (task['ended_at'] - task['started_at']).total_seconds()))})"
