"""Jobs and what became of them as JSON: how executors send them to workers and back, through pipes and brokers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tidemill.model.batch import Interval
from tidemill.model.instance import Deferred, Failed, Outcome, Report, Rescheduled, Skipped, Succeeded
from tidemill.model.run import RunInfo, RunKind
from tidemill.ports.executor import NOTHING, Job, JobEnded, JobEvent, JobStarted


def dump_job(job: Job) -> str:
    """A job as one line of JSON."""
    made: dict[str, Any] = {
        "run_id": job.run_id,
        "fence": job.fence,
        "key": job.key,
        "number": job.number,
        "queue": job.queue,
        "until": job.until.isoformat(),
    }
    if job.timeout is not None:
        made["timeout"] = job.timeout.total_seconds()
    if job.run is not None:
        made["run"] = _run_json(job.run)
    if job.failed:
        made["failed"] = job.failed
    return json.dumps(made)


def load_job(text: str | bytes) -> Job:
    """What `dump_job` wrote."""
    found = json.loads(text)
    timeout, run = found.get("timeout"), found.get("run")
    return Job(
        found["run_id"],
        found["fence"],
        (found["key"][0], found["key"][1]),
        found["number"],
        found["queue"],
        datetime.fromisoformat(found["until"]),
        None if timeout is None else timedelta(seconds=timeout),
        None if run is None else _read_run(run),
        found.get("failed", 0),
    )


def dump_event(event: JobEvent) -> str:
    """An event as one line of JSON."""
    made: dict[str, Any] = {"run_id": event.run_id, "fence": event.fence, "key": event.key, "number": event.number}
    if isinstance(event, JobEnded):
        made["ended"] = None if event.outcome is None else _outcome_json(event.outcome)
        if event.report != NOTHING:
            made["report"] = {
                name: getattr(event.report, name)
                for name in Report.__dataclass_fields__
                if getattr(event.report, name) != getattr(NOTHING, name)
            }
    return json.dumps(made)


def load_event(text: str | bytes) -> JobEvent:
    """What `dump_event` wrote."""
    found = json.loads(text)
    place = (found["run_id"], found["fence"], (found["key"][0], found["key"][1]), found["number"])
    if "ended" not in found:
        return JobStarted(*place)
    outcome, report = found["ended"], found.get("report")
    if report is not None and "xcoms" in report:
        report["xcoms"] = tuple((key, value) for key, value in report["xcoms"])
    return JobEnded(
        *place, None if outcome is None else _read_outcome(outcome), NOTHING if report is None else Report(**report)
    )


def _run_json(run: RunInfo) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": run.id,
        "batch_id": run.batch_id,
        "attempt": run.attempt,
        "pipeline": run.pipeline,
        "code": run.code,
        "file": run.file,
        "kind": str(run.kind),
    }
    if run.interval is not None:
        # The zone by its name: an offset would lose on which side of a clock change the next day lies.
        zone = getattr(run.interval.start.tzinfo, "key", None)
        made["interval"] = [run.interval.start.isoformat(), run.interval.end.isoformat(), zone]
    if run.run_key is not None:
        made["run_key"] = run.run_key
    if run.conf:
        made["conf"] = dict(run.conf)
    for name in ("began", "asked"):
        if (moment := getattr(run, name)) is not None:
            made[name] = moment.isoformat()
    return made


def _read_run(found: Mapping[str, Any]) -> RunInfo:
    values = {**found, "kind": RunKind(found["kind"])}
    if "interval" in found:
        start, end, zone = found["interval"]
        values["interval"] = Interval(_in_zone(start, zone), _in_zone(end, zone))
    values |= {name: datetime.fromisoformat(found[name]) for name in ("began", "asked") if name in found}
    return RunInfo(**values)


def _in_zone(text: str, zone: str | None) -> datetime:
    from zoneinfo import ZoneInfo

    moment = datetime.fromisoformat(text)
    return moment if zone is None else moment.astimezone(ZoneInfo(zone))


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Succeeded):
        return {"is": "succeeded", "length": outcome.length, "skip": outcome.skip}
    if isinstance(outcome, Failed):
        delay = None if outcome.delay is None else outcome.delay.total_seconds()
        return {"is": "failed", "error": outcome.error, "again": outcome.again, "delay": delay}
    if isinstance(outcome, Rescheduled):
        return {"is": "rescheduled", "at": outcome.at.isoformat()}
    if isinstance(outcome, Deferred):
        timeout = None if outcome.timeout is None else outcome.timeout.total_seconds()
        arguments = dict(outcome.arguments)
        return {"is": "deferred", "trigger": outcome.trigger, "arguments": arguments, "timeout": timeout}
    return {"is": "skipped"}


def _read_outcome(found: Mapping[str, Any]) -> Outcome:
    kind = found["is"]
    if kind == "succeeded":
        return Succeeded(found["length"], tuple(found["skip"]))
    if kind == "failed":
        delay = found["delay"]
        return Failed(found["error"], found["again"], None if delay is None else timedelta(seconds=delay))
    if kind == "rescheduled":
        return Rescheduled(datetime.fromisoformat(found["at"]))
    if kind == "deferred":
        timeout = found["timeout"]
        timeout = None if timeout is None else timedelta(seconds=timeout)
        return Deferred(found["trigger"], found["arguments"], timeout)
    return Skipped()
