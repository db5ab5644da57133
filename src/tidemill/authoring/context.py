"""What a user function learns about the run that calls it, by a parameter named `context`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidemill.model.batch import Batch, Interval


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run, as user code sees it."""

    pipeline: str
    batch_id: int
    interval: Interval | None
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, params: Mapping[str, Any]) -> RunContext:
        """The context of a run of `batch`."""
        return cls(batch.pipeline, batch.id, batch.key.interval, dict(params))

    @property
    def logical_date(self) -> datetime | None:
        """The interval's start: Airflow's name for it."""
        return self.interval.start if self.interval else None

    @property
    def ds(self) -> str | None:
        """The interval's start as `YYYY-MM-DD`."""
        return self.interval.ds if self.interval else None
