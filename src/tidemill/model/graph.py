"""Task graphs: what a scheduler knows of a pipeline's tasks, whichever way the pipeline was written.

A `Node` says when a task may run, how often it is tried, what it occupies; not what it does. Both kinds of pipelines,
data-first (`model.pipeline`) and task-first, become a `Graph`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from tidemill.model.errors import DefinitionError, UnknownName

#: The map index of a task that is not mapped, and of a mapped one until it is expanded.
WHOLE = -1
#: An instance of a task in a run: the task's id and its map index.
TaskKey: TypeAlias = tuple[str, int]


class TriggerRule(StrEnum):
    """When a task may run, by how its upstreams ended; Airflow's rules and names."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ALL_DONE_SETUP_SUCCESS = "all_done_setup_success"
    ALL_SKIPPED = "all_skipped"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a failed task is tried again.

    Args:
        times: further tries after the first.
        delay: the wait before the second try.
        factor: what the wait grows by with each further try; 1 keeps it fixed, 2 doubles it.
        longest: no wait is longer.
        jitter: the share of the wait, 0 to 1, by which it may be shorter, so that many failures do not come back at
            the same moment.
    """

    times: int = 0
    delay: timedelta = timedelta(minutes=5)
    factor: float = 1.0
    longest: timedelta = timedelta(hours=24)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.times < 0 or self.delay < timedelta(0) or self.factor < 1 or not 0 <= self.jitter <= 1:
            raise DefinitionError(
                f"No retry policy: times {self.times}, delay {self.delay}, factor {self.factor}, jitter {self.jitter}.",
                hint="times >= 0, delay >= 0, factor >= 1, jitter between 0 and 1",
            )


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of what a mapped task is made: the number of its instances is the product of these.

    Args:
        known: lengths that the definition names.
        tasks: tasks whose results' lengths count.
        zipped: groups of tasks of which only the shortest result counts, or with `longest` the longest.
        longest: see `zipped`.
        summed: groups of tasks whose results come one after the other: their sum counts.
    """

    known: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    zipped: tuple[tuple[str, ...], ...] = ()
    longest: bool = False
    summed: tuple[tuple[str, ...], ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Every task whose result is needed."""
        return (*self.tasks, *(task for group in (*self.zipped, *self.summed) for task in group))


@dataclass(frozen=True, slots=True)
class Node:
    """One task as the scheduler sees it.

    Args:
        id: unique in its graph.
        upstream: ids of the tasks before it.
        rule: when it may run.
        retry: how often it is tried.
        mapped: what it is expanded over; None: it is one instance.
        scope: the mapped group that it belongs to: instances of tasks with one scope depend on each other index by
            index. A mapped task outside of groups has none.
        pool: what it takes slots of, and `slots` how many.
        weight: among ready tasks, the larger goes first.
        queue: which workers may have it.
        limit: instances of it at the same time over all runs; `limit_in_run` in one run. None: any number.
        timeout: of one try.
        setup: it prepares something; its failure is also that of what needs it.
        teardown: it cleans up; its failure does not fail the run.
        waits_for_past: it does not run before the run of the interval before it has ended it well.
    """

    id: str
    upstream: tuple[str, ...] = ()
    rule: TriggerRule = TriggerRule.ALL_SUCCESS
    retry: Retry = field(default_factory=Retry)
    mapped: Lengths | None = None
    scope: str | None = None
    pool: str = "default"
    slots: int = 1
    weight: int = 1
    queue: str = "default"
    limit: int | None = None
    limit_in_run: int | None = None
    timeout: timedelta | None = None
    setup: bool = False
    teardown: bool = False
    strict: bool = False
    waits_for_past: bool = False
    waits_for_downstream: bool = False


class Graph:
    """The tasks of a pipeline and how they depend on each other.

    Raises:
        DefinitionError: two tasks with one id, or tasks that wait for each other in a circle.
        UnknownName: an upstream, or a task to map over, that is not there.
    """

    def __init__(self, nodes: Iterable[Node], *, place: str = "") -> None:
        made: dict[str, Node] = {}
        for node in nodes:
            if node.id in made:
                raise DefinitionError(f'Two tasks are called "{node.id}".', where=place, hint="rename one of them")
            made[node.id] = node
        self.nodes: Mapping[str, Node] = made
        for node in made.values():
            for needed in (*node.upstream, *(node.mapped.sources if node.mapped else ())):
                if needed not in made:
                    raise UnknownName.of("task", needed, made, where=place)
        circle = self._circle()
        if circle:
            raise DefinitionError(
                "Tasks wait for each other in a circle: " + " -> ".join([*circle, circle[0]]) + ".",
                where=place,
                hint="take one of these dependencies out",
            )

    @cached_property
    def downstream(self) -> Mapping[str, tuple[str, ...]]:
        """The tasks right after each task, in the order of definition."""
        found: dict[str, list[str]] = {id_: [] for id_ in self.nodes}
        for node in self.nodes.values():
            for above in dict.fromkeys(node.upstream):
                found[above].append(node.id)
        return {id_: tuple(below) for id_, below in found.items()}

    @cached_property
    def mapped_over(self) -> Mapping[str, tuple[str, ...]]:
        """The tasks that each task's result gives a length to."""
        found: dict[str, list[str]] = {id_: [] for id_ in self.nodes}
        for node in self.nodes.values():
            for source in dict.fromkeys(node.mapped.sources if node.mapped else ()):
                found[source].append(node.id)
        return {id_: tuple(below) for id_, below in found.items()}

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The tasks whose ends are the run's: those with nothing but teardowns after them.

        Teardowns themselves count where there is nothing else, or where they are strict.
        """
        strict = {id_ for id_, node in self.nodes.items() if node.teardown and node.strict}
        work = {
            id_
            for id_, node in self.nodes.items()
            if not node.teardown and all(self.nodes[below].teardown for below in self.downstream[id_])
        }
        return frozenset(work | strict or {id_ for id_ in self.nodes if not self.downstream[id_]})

    def below(self, start: Iterable[str]) -> frozenset[str]:
        """Everything that depends, near or far, on some tasks; these themselves are not among them."""
        found: set[str] = set()
        todo = [below for id_ in start for below in self.downstream[id_]]
        while todo:
            id_ = todo.pop()
            if id_ not in found:
                found.add(id_)
                todo.extend(self.downstream[id_])
        return frozenset(found)

    def only(self, ids: Iterable[str]) -> Graph:
        """The graph of some tasks: those that are left out are behind them."""
        kept = frozenset(ids)
        nodes = (node for node in self.nodes.values() if node.id in kept)
        return Graph(replace(n, upstream=tuple(above for above in n.upstream if above in kept)) for n in nodes)

    def _circle(self) -> list[str]:
        """Tasks that wait for each other, if any: what is left when tasks are taken off that wait for nothing."""
        waiting = {id_: len(set(node.upstream)) for id_, node in self.nodes.items()}
        ready = [id_ for id_, count in waiting.items() if not count]
        while ready:
            id_ = ready.pop()
            del waiting[id_]
            for below in self.downstream[id_]:
                waiting[below] -= 1
                if not waiting[below]:
                    ready.append(below)
        path: list[str] = []
        at = next(iter(waiting), None)
        while at is not None and at not in path:
            path.append(at)
            at = next(above for above in self.nodes[at].upstream if above in waiting)
        return path[path.index(at) :][::-1] if at is not None else []
