"""A run that is begun by hand: of an interval, or of a batch with a key."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow import control
from tidemill.flow.facts.runs import listed_run, run_facts
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition, Kind
from tidemill.model.run import RunKind
from tidemill.plan.params import params_of
from tidemill.plan.schedule import latest_complete, parse_intervals
from tidemill.web.models import RunItem
from tidemill.web.problems import bad_request
from tidemill.web.table import Asked, Body


class Trigger(Body, frozen=True):
    """A run to begin. Without `interval` and `run_key` it is for the latest interval that is over; of a pipeline that
    has none, an Idempotency-Key is the run key.
    """

    interval: Annotated[str, Meta(description="a date or time in the data interval, 2013-01-15")] | None = None
    run_key: Annotated[str, Meta(min_length=1, max_length=200, description="tells its batch from others")] | None = None
    params: Annotated[dict[str, Any], Meta(description="parameters, by name")] = {}
    tasks: Annotated[list[str], Meta(description="only these, and what depends on them")] = []
    refetch: Annotated[bool, Meta(description="ask the sources again, whatever is archived")] = False


class Triggered(Struct):
    """A run that was asked for; with `dry_run` what would be. `why`: how its batch was chosen, where nobody said."""

    pipeline: str
    when: str | None
    params: dict[str, Any]
    tasks: list[str]
    why: str
    dry_run: bool
    run: RunItem | None


def trigger(asked: Asked) -> dict[str, Any]:
    """Begin a run."""
    name, given, metadata = asked.path["pipeline"], asked.body, asked.backend.metadata
    now, dry = asked.backend.clock.now(), asked.query.dry_run
    with metadata.read() as tx:
        _, made = control.known(tx, name)
    params_of(made.params, given.params, strict=not made.any_params, where=made.place)
    kind = RunKind.REFETCH if given.refetch else RunKind.MANUAL
    control.check_sources(made, kind)
    tasks = sorted(control.chosen_tasks(made, given.tasks)) if given.tasks else []
    interval, why = _batch(made, given, now)
    answer = {"pipeline": name, "params": given.params, "tasks": tasks, "why": why, "dry_run": dry}
    if dry:
        return {**answer, "when": str(interval) if interval else given.run_key, "run": None}
    key = given.run_key
    if key is None and interval is None and (header := asked.request.headers.get("idempotency-key")):
        key = f"api-{header}"
    run = control.trigger(
        metadata, name, now, interval=interval, run_key=key, conf=given.params, only=given.tasks, kind=kind
    )
    asked.backend.ring()
    with metadata.read() as tx:
        item = run_facts(listed_run(tx, run.id))
    return {**answer, "when": item["when"], "run": item}


def _batch(made: Definition, given: Trigger, now: datetime) -> tuple[Interval | None, str]:
    """The interval that is meant, if any, and why it is that where nobody said which."""
    timetable = made.schedule.timetable
    if given.interval is not None:
        if given.run_key is not None:
            raise bad_request("A batch is told from others by an interval or by a run key.", "one of the two")
        return _interval(made, given.interval), ""
    if given.run_key is not None:
        return None, ""
    if timetable is None:
        return None, "a batch of its own, which replaces no other"
    latest = latest_complete(timetable, now, start=made.start, end=made.end)
    if latest is None and made.kind is Kind.TABLES:
        raise bad_request(f'No interval of "{made.name}" is over yet.', hint="interval")
    why = "no interval is over yet: a batch of its own" if latest is None else "the latest interval that is over"
    return latest, why


def _interval(made: Definition, text: str) -> Interval:
    timetable = made.schedule.timetable
    if timetable is None:
        raise bad_request(f'Pipeline "{made.name}" has no intervals: it does not run by time.', "run_key")
    found = parse_intervals(text, timetable, made.start)
    if len(found) != 1:
        raise bad_request(f'"{text}" means {len(found)} intervals.', hint="one of them, or a backfill")
    (one,) = found
    outside = (made.start and one.start < made.start) or (made.end and one.end > made.end)
    if outside and made.kind is Kind.TABLES:  # a slip of the finger; a DAG may be run for any time, as under Airflow
        limits = f"{made.start or '...'} .. {made.end or '...'}"
        raise bad_request(f'"{one}" is outside of the time of "{made.name}".', hint=f"within {limits}")
    return one
