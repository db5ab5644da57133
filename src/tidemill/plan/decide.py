"""What a run does next, decided from the states of its tasks: the only place that decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidemill.model.pipeline import Task
from tidemill.model.run import TASK_ENDS, RunState, TaskState

#: Ends that let what is downstream run.
_GOOD = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})


@dataclass(frozen=True, slots=True)
class Decision:
    """Tasks to start, tasks that can no longer run, and the run's next state where all have ended."""

    start: tuple[str, ...] = ()
    give_up: tuple[str, ...] = ()
    end: RunState | None = None


def decide(tasks: Iterable[Task], states: Mapping[str, TaskState]) -> Decision:
    """Decide by "all upstreams succeeded" (Airflow's `all_success`).

    Args:
        tasks: the run's tasks, upstreams before downstreams.
        states: state by task id; a task without one has not been looked at.
    """
    seen = dict(states)
    start: list[str] = []
    give_up: list[str] = []
    for task in tasks:
        if seen.get(task.id, TaskState.NONE) is not TaskState.NONE:
            continue
        above = [seen.get(u, TaskState.NONE) for u in task.upstream]
        if any(s in TASK_ENDS and s not in _GOOD for s in above):
            give_up.append(task.id)
            seen[task.id] = TaskState.UPSTREAM_FAILED
        elif all(s in _GOOD for s in above):
            start.append(task.id)
    if start or any(s not in TASK_ENDS for s in seen.values()):
        return Decision(tuple(start), tuple(give_up))
    bad = any(s not in _GOOD for s in seen.values())
    return Decision((), tuple(give_up), RunState.FAILED if bad else RunState.PUBLISHING)
