"""What is told of pipelines: schedule, next run, last runs, and what could not be read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from tidemill.model.definition import Definition
from tidemill.model.run import RunState
from tidemill.plan.due import upcoming
from tidemill.ports.definitions import PipelineRecord, Unreadable
from tidemill.ports.metadata import Tx


def pipelines_facts(
    tx: Tx, records: Collection[PipelineRecord], unread: Collection[str], now: datetime, *, strip: int
) -> list[dict[str, Any]]:
    """Several pipelines, by their newest definitions; the arguments are those of `pipeline_facts`."""
    known = tx.definitions.get_all(one.definition_id for one in records)
    runs = tx.runs.strips([one.name for one in records], strip) if strip else {}
    return [_facts(one, known[one.definition_id], unread, now, runs.get(one.name, ())) for one in records]


def pipeline_facts(
    tx: Tx, record: PipelineRecord, unread: Collection[str], now: datetime, *, strip: int
) -> dict[str, Any]:
    """One pipeline.

    Args:
        tx: the database.
        record: it.
        unread: files that cannot be read.
        now: the time.
        strip: so many of its last runs, oldest first.
    """
    return pipelines_facts(tx, [record], unread, now, strip=strip)[0]


def _facts(
    record: PipelineRecord, definition: Definition, unread: Collection[str], now: datetime,
    newest: Sequence[tuple[int, RunState]],
) -> dict[str, Any]:  # fmt: skip
    runs = newest[::-1]
    soon = [] if record.paused else upcoming(definition, now, record.newest, 1)
    return {
        "pipeline": record.name,
        "kind": definition.kind.value,
        "schedule": schedule_text(definition),
        "timed": definition.schedule.timetable is not None,
        "state": "paused" if record.paused else "active",
        "readable": record.file not in unread,
        "next_at": soon[0][0] if soon else None,
        "next_interval": [soon[0][1].start, soon[0][1].end] if soon else None,
        "due": bool(soon) and soon[0][0] <= now,
        "last_runs": [state.value for _, state in runs],
        "last_run_ids": [run_id for run_id, _ in runs],
        "tasks": len(definition.tasks),
        "file": record.file,
        "place": definition.place,
        "code_version": record.code,
        "owner": definition.owner,
        "tags": list(definition.tags),
        "doc": definition.doc,
    }


def schedule_text(definition: Definition) -> str:
    """When it runs, in words."""
    text = definition.schedule.text
    if not text:
        return "by hand"
    return text if definition.zone == "UTC" else f"{text} in {definition.zone}"


def error_facts(error: Unreadable) -> dict[str, Any]:
    """Why a file could not be read."""
    return {name: getattr(error, name) for name in error.__dataclass_fields__}
