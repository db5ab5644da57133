"""Which intervals a backfill runs, in which order, and what it does next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tidemill.model.backfill import BackfillProgress, BackfillState, BackfillStep, Policy
from tidemill.model.batch import Interval
from tidemill.model.run import RUN_ENDS, RunState


def chosen(
    intervals: Iterable[Interval],
    seen: Mapping[Interval, RunState],
    policy: Policy,
    *,
    newest_first: bool = False,
) -> list[Interval]:
    """The intervals to run, in order.

    Args:
        intervals: of the range.
        seen: the state of the last run of those that have one; a published batch counts as success.
        policy: which of them.
        newest_first: from the end of the range to its beginning.
    """
    found = []
    for interval in intervals:
        state = seen.get(interval)
        failed = state in (RunState.FAILED, RunState.CANCELLED)
        if policy is Policy.ALL or state is None or (policy is Policy.FAILED and failed):
            found.append(interval)
    return found[::-1] if newest_first else found


def progress(steps: Iterable[BackfillStep], states: Mapping[int, RunState]) -> BackfillProgress:
    """How far it has come.

    Args:
        steps: all of them.
        states: of their runs, by run.
    """
    counts = dict.fromkeys(("total", "waiting", "running", "success", "failed"), 0)
    for step in steps:
        counts["total"] += 1
        state = None if step.run_id is None else states.get(step.run_id)
        if state is None:
            counts["waiting"] += 1
        elif state not in RUN_ENDS:
            counts["running"] += 1
        else:
            counts["success" if state is RunState.SUCCESS else "failed"] += 1
    return BackfillProgress(**counts)


def next_steps(steps: Sequence[BackfillStep], states: Mapping[int, RunState], concurrency: int) -> list[BackfillStep]:
    """Those to begin runs for now: as many as there is room for."""
    room = concurrency - progress(steps, states).running
    waiting = [step for step in steps if step.run_id is None]
    return waiting[: max(room, 0)]


def ended(now: BackfillProgress) -> BackfillState | None:
    """How a backfill has ended; None while there is something to do or under way."""
    if now.waiting or now.running:
        return None
    return BackfillState.FAILED if now.failed else BackfillState.SUCCESS
