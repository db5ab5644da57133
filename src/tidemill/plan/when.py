"""What to write after `tidemill run PIPELINE` for a batch that there is."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tidemill.model.batch import BatchKey
from tidemill.model.pipeline import PipelineSpec


def when_of(key: BatchKey, pipeline: PipelineSpec) -> str:
    """The interval or run key as `tidemill run PIPELINE WHEN` takes it back."""
    if key.interval is None:
        return str(key.run_key)
    start = key.interval.start
    if pipeline.timetable is not None:
        start = start.astimezone(ZoneInfo(pipeline.timetable.zone))
    if start.fold:
        return start.isoformat()  # the hour that the clocks go through twice
    whole_days = key.interval.length >= timedelta(hours=23)  # a day can have 23 of them
    return start.date().isoformat() if whole_days and _is_midnight(start) else _naive(start)


def _is_midnight(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)


def _naive(moment: datetime) -> str:
    exact = "auto" if moment.second or moment.microsecond else "minutes"
    return moment.replace(tzinfo=None).isoformat(timespec=exact)
