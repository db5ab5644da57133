"""What is told of backfills: how far each has come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tidemill.model.backfill import Backfill
from tidemill.model.batch import Interval
from tidemill.model.errors import UnknownName
from tidemill.plan.backfill import progress
from tidemill.ports.metadata import Tx


def backfill_facts(tx: Tx, one: Backfill) -> dict[str, Any]:
    """One backfill, with its intervals and their runs."""
    steps = tx.backfills.steps(one.id)
    states = tx.runs.states(step.run_id for step in steps if step.run_id is not None)
    listed = []
    for step in steps:
        state = states.get(step.run_id) if step.run_id is not None else None
        listed.append({
            "interval": str(step.interval), "run_id": step.run_id, "state": state.value if state else "waiting",
        })  # fmt: skip
    return {
        "backfill_id": one.id,
        "pipeline": one.pipeline,
        "range": range_of([step.interval for step in steps]),
        "state": one.state.value,
        "policy": one.policy.value,
        "concurrency": one.concurrency,
        "tasks": list(one.tasks),
        "conf": dict(one.conf),
        "created_at": one.created_at,
        "ended_at": one.ended_at,
        "progress": asdict(progress(steps, states)),
        "intervals": listed,
    }


def found_backfill(tx: Tx, backfill_id: int) -> Backfill:
    """One of them. Raises UnknownName."""
    found = tx.backfills.get(backfill_id)
    if found is None:
        raise UnknownName.of("backfill", str(backfill_id), (str(one.id) for one in tx.backfills.recent(limit=50)))
    return found


def range_of(intervals: Sequence[Interval] | Iterable[Interval]) -> str:
    """From the first to the last day, in words."""
    ends = sorted(intervals)
    return f"{ends[0].ds}..{ends[-1].ds}" if ends else "-"
