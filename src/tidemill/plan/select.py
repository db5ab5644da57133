"""Which tasks a re-run clears: those that the user names, and everything downstream of them (rule 11)."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.model.errors import UnknownName
from tidemill.model.graph import Graph
from tidemill.model.pipeline import Task


def cleared(graph: Graph, tasks: Iterable[Task], start: Iterable[str]) -> frozenset[str]:
    """Ids of the tasks named by `start`, by id or by table, and of all that depend on them.

    Args:
        graph: the pipeline's graph.
        tasks: its tasks.
        start: task ids (`build.clean`) or names of tables (`clean`: every task of that table).

    Raises:
        UnknownName: no task and no table of that name.
    """
    listed = list(tasks)
    chosen: set[str] = set()
    for name in start:
        found = [t.id for t in listed if name in (t.id, t.name)]
        if not found:
            raise UnknownName.of("task", name, [*(t.id for t in listed), *(t.name for t in listed)])
        chosen.update(found)
    return graph.below(chosen) | chosen
