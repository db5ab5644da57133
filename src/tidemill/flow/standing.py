"""The task instances of a run as they stand, by Airflow's names: what a last task or a callback looks at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from tidemill.model.run import TaskRun


@dataclass(frozen=True)
class InstanceView:
    """A task instance of the run.

    Args:
        known: its record.
        dag_id: the pipeline. `run_id`: the run, as Airflow would name it.
    """

    known: TaskRun
    dag_id: str
    run_id: str

    @property
    def task_id(self) -> str:
        """The task."""
        return self.known.task

    @property
    def map_index(self) -> int:
        """Which instance of a mapped task; -1: it is one."""
        return self.known.map_index

    @property
    def state(self) -> str:
        """How it stands: success, failed, running ..."""
        return str(self.known.state)

    @property
    def try_number(self) -> int:
        """How often it was tried."""
        return self.known.tries

    @property
    def start_date(self) -> datetime | None:
        """When its last try began."""
        return self.known.started_at

    @property
    def end_date(self) -> datetime | None:
        """When that ended."""
        return self.known.ended_at

    @property
    def duration(self) -> float | None:
        """Seconds that it took; None: it has not ended."""
        if self.start_date is None or self.end_date is None:
            return None
        return (self.end_date - self.start_date).total_seconds()

    def current_state(self) -> str:
        """See `state`."""
        return self.state


def of_states(found: Iterable[InstanceView], states: str | Collection[str | None] | None) -> list[InstanceView]:
    """Those in some states, or in one; None: all."""
    wanted = [states] if isinstance(states, str) else states
    return [one for one in found if wanted is None or one.state in {str(state) for state in wanted}]
