"""Port `Pipelines` of `DAG.test`: there is no other pipeline, so runs of them are noted, and not begun."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from tidemill.model.batch import Interval
from tidemill.model.errors import SettingsError
from tidemill.model.run import RunState, TaskState
from tidemill.ports.tasks import AskedRun, Pipelines

#: The first number of such a run; the trial's own is 1.
_FIRST = 2


class NotedPipelines(Pipelines):
    """Notes which runs are asked for, and takes each as one that has ended well.

    Looking at others is an error: nobody can say here whether they have run.
    """

    def __init__(self) -> None:
        self._runs: dict[object, AskedRun] = {}

    @property
    def asked(self) -> list[AskedRun]:
        """The runs, in the order in which they were first asked for."""
        return list(self._runs.values())

    def trigger(
        self,
        pipeline: str,
        *,
        conf: Mapping[str, Any],
        logical_date: datetime | None = None,
        run_key: str | None = None,
        again: bool = False,
    ) -> int:
        """Note a run; the same key or date is the same run."""
        known = (pipeline, logical_date, run_key) if logical_date or run_key else object()
        self._runs[known] = AskedRun(pipeline, dict(conf), logical_date, run_key)
        return _FIRST + list(self._runs).index(known)

    def run_state(self, run_id: int) -> RunState | None:
        """Success, of one that was asked for."""
        return RunState.SUCCESS if _FIRST <= run_id < _FIRST + len(self._runs) else None

    def state_at(self, pipeline: str, moment: datetime) -> RunState | None:
        """Raises SettingsError."""
        _refuse()

    def task_states_at(self, pipeline: str, task: str, moment: datetime) -> list[TaskState]:
        """Raises SettingsError."""
        _refuse()

    def group_states_at(self, pipeline: str, group: str, moment: datetime) -> list[TaskState]:
        """Raises SettingsError."""
        _refuse()

    def published(self, table: str, interval: Interval | None) -> bool:
        """Raises SettingsError."""
        _refuse()

    def published_before(self, pipeline: str, interval: Interval) -> Interval | None:
        """None: a trial is the first run that there is."""
        return None


def _refuse() -> NoReturn:
    raise SettingsError("Other pipelines cannot be reached from here.", hint="run it by a scheduler: tidemill up")
