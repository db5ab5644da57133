"""What was told of assets: by the publish of a run, and read again from what its tasks left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tidemill.model.asset import ALIAS, TOLD, AssetEvent, Told
from tidemill.model.definition import Definition
from tidemill.model.graph import WHOLE
from tidemill.model.run import Run, RunKind, RunState, TaskState
from tidemill.plan.assets import tells, told_by, told_event
from tidemill.plan.partitions import RunKey, key_of
from tidemill.ports.metadata import Metadata, Tx
from tidemill.ports.xcoms import XComs


def told_in(tx: Tx, run_id: int, definition: Definition) -> list[Told]:
    """What the tasks of a run tell of assets."""
    if not tells(definition):
        return []
    well = [(one.task, one.map_index) for one in tx.runs.tasks(run_id) if one.state is TaskState.SUCCESS]
    return told_of(tx.xcoms, run_id, definition, well, _key_of(tx, run_id, definition))


def told_of(
    xcoms: XComs, run_id: int, definition: Definition, well: Iterable[tuple[str, int]], key: RunKey | None
) -> list[Told]:
    """What the instances of a run that ended well tell, with what they said of it, for a partition."""
    if not tells(definition):
        return []
    well = [(task, index) for task, index in well if definition.tasks[task].outlets]
    said: dict[tuple[str, int], str] = {}
    for task in dict.fromkeys(task for task, _ in well):
        whole = xcoms.get(run_id, task, TOLD)
        found = xcoms.all(run_id, task, TOLD) if whole is None else [(WHOLE, whole)]
        said |= {(task, index): text for index, text in found}
    return told_by(definition, well, said, key)


def _key_of(tx: Tx, run_id: int, definition: Definition) -> RunKey | None:
    run, order = tx.runs.get(run_id), tx.runs.order(run_id)
    batch = None if run is None else tx.batches.get(run.batch_id)
    if batch is None or order is None:
        return None
    return key_of(definition.schedule, batch.key.interval, order.conf)


def assets_told(tx: Tx, run_id: int) -> dict[str, Any]:
    """What the publish of a run tells beside its tables, as an event has it: `tables`, and `keys` and `date`."""
    order = tx.runs.order(run_id)
    definition = None if order is None else tx.definitions.get(order.definition_id)
    if definition is None:
        return {"tables": []}
    return told_event(told_in(tx, run_id, definition), _key_of(tx, run_id, definition))


class ProjectAssets:
    """Port `Assets`: events are read from the runs that are published, by the pipelines as they are now.

    Args:
        metadata: asked for when it is first needed.
    """

    def __init__(self, metadata: Callable[[], Metadata]) -> None:
        self._metadata = metadata
        self._definitions: dict[int, Definition] = {}

    def events(self, names: Iterable[str], most: int) -> list[AssetEvent]:
        """See `ports.tasks.Assets`."""
        wanted = set(names)
        found: list[AssetEvent] = []
        with self._metadata().read() as tx:
            records = tx.definitions.pipelines()
            missing = {one.definition_id for one in records} - self._definitions.keys()
            if missing:
                self._definitions |= tx.definitions.get_all(missing)
            for record in records:
                definition = self._definitions[record.definition_id]
                if _may_tell(definition, wanted):
                    for run in tx.runs.recent(pipeline=record.name, state=RunState.SUCCESS, limit=most):
                        found += _events_of(tx, record.name, run, definition, wanted)
        return sorted(found, key=lambda one: (one.at, one.run_id))[-most:]


def _may_tell(definition: Definition, wanted: set[str]) -> bool:
    outlets = {name for info in definition.tasks.values() for name in info.outlets}
    return tells(definition) and (bool(wanted & outlets) or any(name.startswith(ALIAS) for name in outlets))


def _events_of(tx: Tx, pipeline: str, run: Run, definition: Definition, wanted: set[str]) -> list[AssetEvent]:
    if run.ended_at is None:
        return []
    told = [one for one in told_in(tx, run.id, definition) if one.asset in wanted or one.alias in wanted]
    if not told:
        return []
    name = _name_of(tx, run)
    return [AssetEvent(one, pipeline, run.id, name, run.ended_at) for one in told]


def _name_of(tx: Tx, run: Run) -> str:
    """A run as Airflow would name it."""
    batch, order = tx.batches.get(run.batch_id), tx.runs.order(run.id)
    kind = order.kind if order is not None else RunKind.MANUAL
    if batch is None or batch.key.interval is None:
        return (batch.key.run_key if batch is not None else None) or f"{kind}__{run.id}"
    return f"{kind}__{batch.key.interval.start.isoformat()}"
