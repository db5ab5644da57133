"""Port `managed_jobs`: jobs that a cloud's service runs, by their names there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class JobRun:
    """How a run of a job is: its state in the service's words, whether that is an end, and a good one."""

    state: str
    ended: bool
    good: bool
    error: str = ""


class ManagedJobs(Protocol):
    """A service of jobs.

    Raises:
        Unreachable: it does not answer, or has too much to do. Refused: it does not take the request.
    """

    def start(self, job: str, arguments: Mapping[str, str], options: Mapping[str, Any]) -> str:
        """Begin a run of a job; returns its id."""
        ...

    def look(self, job: str, run: str) -> JobRun:
        """How a run is now."""
        ...

    def last_lines(self, run: str, most: int) -> list[str]:
        """The last lines of a run's error log; empty where there is none."""
        ...
