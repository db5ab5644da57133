"""Runs for schedulers to drive, in a real store, with workers that do at once what the test says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.adapters.sql.schedule_schema import definitions, pools
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import BatchKey, Interval
from tidemill.model.definition import Definition, Kind
from tidemill.model.graph import Graph, Node, TaskKey
from tidemill.model.instance import Outcome, Report, Succeeded
from tidemill.model.run import Order, Run
from tidemill.ports.clock import Clock
from tidemill.ports.executor import NOTHING, Job, JobEnded, JobEvent, JobStarted


def dag(name: str, *nodes: Node, **options: Any) -> Definition:
    """A definition of tasks."""
    return Definition(name, Kind.TASKS, Graph(nodes), file=f"{name}.py", **options)


def define(store: SqlMetadata, definition: Definition, clock: Clock) -> int:
    """Put a definition into the store; returns its id."""
    with store.session(writing=True) as session:
        row = session.add(
            session.insert(definitions)
            .values(
                project=session.project, pipeline=definition.name, hash=str(hash(str(definition.as_json()))),
                body=definition.as_json(), created_at=clock.now(),
            )
            .returning(definitions.c.id)
        )  # fmt: skip
        assert row is not None
        return int(row.id)


def give_pool(store: SqlMetadata, name: str, slots: int) -> None:
    with store.session(writing=True) as session:
        session.add_all(session.insert(pools), [{"project": session.project, "name": name, "slots": slots}])


def queue(
    store: SqlMetadata,
    definition_id: int,
    pipeline: str,
    clock: Clock,
    key: Any = None,
    *,
    keep: Iterable[str] = (),
    **order: Any,
) -> Run:
    """Ask for a run; `key` is an interval or a run key."""
    kind = {"interval": key} if isinstance(key, Interval) else {"run_key": key or f"by-hand-{clock.now()}"}
    with store.write() as tx:
        batch = tx.batches.open(BatchKey(pipeline, **kind), clock.now())
        return tx.runs.queue(batch.id, Order(definition_id, "c0de", **order), clock.now(), keep=keep)


class AtOnce:
    """An executor whose workers are done as soon as they are asked: `ends` says how."""

    def __init__(
        self,
        workers: int = 4,
        ends: Callable[[Job], Outcome | None] = lambda _: Succeeded(),
        report: Callable[[Job], Report] = lambda _: NOTHING,
    ) -> None:
        self.workers = workers
        self.jobs: list[Job] = []
        self.renewed: datetime | None = None
        self._ends = ends
        self._report = report
        self._told: list[JobEvent] = []

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        return dict.fromkeys(queues, self.workers)

    def handles(self) -> Sequence[int]:
        return ()

    def pause(self) -> float | None:
        return None

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        place = (job.run_id, job.fence, job.key, job.number)
        self._told += [JobStarted(*place), JobEnded(*place, self._ends(job), self._report(job))]

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        return any((one.run_id, one.key, one.number) == (run_id, key, number) for one in self._told)

    def renew(self, until: datetime, places: Any = None) -> None:
        self.renewed = until

    def stop(self, run_id: int, key: TaskKey) -> None:
        return None

    def events(self) -> Sequence[JobEvent]:
        return list(self._told)

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        self._told = [one for one in self._told if one not in events]

    @property
    def order(self) -> list[str]:
        """Ids of tasks in the order in which they were begun."""
        return [job.key[0] for job in self.jobs]


def chain(*ids: str, **options: Any) -> list[Node]:
    """Tasks one after another."""
    return [Node(id_, ids[at - 1 : at] if at else (), **options) for at, id_ in enumerate(ids)]


def days(count: int, start: datetime) -> Iterable[Interval]:
    """Daily intervals."""
    for at in range(count):
        yield Interval(start + timedelta(days=at), start + timedelta(days=at + 1))
