"""Dates as templates write them, by Airflow's names. Apart from `plan.template`, so that nobody loads Jinja (0.1 s) to
find out what `ds` is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tidemill.model.batch import Interval


def _moment(value: str | date) -> date:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _ds(value: str | date) -> str:
    return _moment(value).strftime("%Y-%m-%d")


def _ds_nodash(value: str | date) -> str:
    return _moment(value).strftime("%Y%m%d")


def _ts(value: str | date) -> str:
    return _moment(value).isoformat()


def _ts_nodash(value: str | date) -> str:
    return _moment(value).strftime("%Y%m%dT%H%M%S")


def _ts_nodash_with_tz(value: str | date) -> str:
    return _moment(value).isoformat().replace("-", "").replace(":", "")


#: Airflow's forms of a date: the variables of these names show the logical date, the filters any date or ISO text.
DATE_FORMS: dict[str, Callable[[str | date], str]] = {
    "ds": _ds,
    "ds_nodash": _ds_nodash,
    "ts": _ts,
    "ts_nodash": _ts_nodash,
    "ts_nodash_with_tz": _ts_nodash_with_tz,
}
OF_INTERVALS = frozenset({*DATE_FORMS, "interval", "data_interval_start", "data_interval_end", "logical_date"})


class Macros:
    """Date arithmetic, by Airflow's names: `macros.ds_add(ds, -1)`, `data_interval_end + macros.timedelta(days=1)`."""

    timedelta = timedelta

    @staticmethod
    def datetime(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
        """A time in UTC."""
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)

    @staticmethod
    def ds_add(ds: str, days: int) -> str:
        """The day `days` after `ds`, both as YYYY-MM-DD."""
        return _ds(_moment(ds) + timedelta(days=days))

    @staticmethod
    def ds_format(ds: str, input_format: str, output_format: str) -> str:
        """`ds`, read by one format and written by another."""
        return datetime.strptime(ds, input_format).replace(tzinfo=UTC).strftime(output_format)


def interval_variables(interval: Interval) -> dict[str, Any]:
    """The names that follow from a data interval."""
    start = interval.start
    return {
        "interval": interval,
        "data_interval_start": start,
        "data_interval_end": interval.end,
        "logical_date": start,
        **{name: form(start) for name, form in DATE_FORMS.items()},
    }
