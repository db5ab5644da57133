"""A process that calls what a DAG's code wants to be told: `python -m tidemill.wiring.callbacks ROOT RUN EVENT`.

It has the user's code loaded, so it is started for one event and ends with it; what is said goes to the run's logs.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tidemill.authoring.dag import DAG
from tidemill.authoring.task_context import TaskServices
from tidemill.compat.airflow.finder import serving_file
from tidemill.flow.asset_states import ProjectAssetStates
from tidemill.flow.assets import ProjectAssets, told_in
from tidemill.flow.callbacks import tell_run
from tidemill.flow.others import OtherPipelines
from tidemill.flow.tasklog import captured
from tidemill.model.asset import Told
from tidemill.model.run import RunInfo
from tidemill.ports.metadata import Metadata
from tidemill.ports.tasklogs import TryPlace
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.performing import Performer, open_logs
from tidemill.wiring.secrets import connections_of, masker_of, variables_of
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.serving import ring
from tidemill.wiring.settings import Settings, load_settings
from tidemill.wiring.surroundings import StoredXComs

_log = logging.getLogger("tidemill.callbacks")


def main(root: str, run_id: str, event: str) -> int:
    """Call the callbacks of an event of a run; what they raise is logged. Returns the exit code."""
    settings = load_settings(Path(root))
    metadata = open_metadata(settings, system_clock(), migrate=False)
    run = _run_of(metadata, int(run_id))
    place = TryPlace(run.pipeline, run.id, f"on_{event}_callback")
    with captured(open_logs(settings).open(place), masker_of(settings)):
        try:
            performer = Performer(settings)
            made = performer.declared(run)
            if isinstance(made, DAG):
                with serving_file(performer.file_of(run), reach_of(settings, performer.code)):
                    _call(settings, metadata, made, run, event)
        except Exception:
            _log.exception("the callbacks of %s could not be called", event)
            return 1
    return 0


def _run_of(metadata: Metadata, run_id: int) -> RunInfo:
    with metadata.read() as tx:
        run, order = tx.runs.get(run_id), tx.runs.order(run_id)
        assert run is not None
        assert order is not None
        batch, definition = tx.batches.get(run.batch_id), tx.definitions.get(order.definition_id)
    assert batch is not None
    assert definition is not None
    key = batch.key
    return RunInfo(
        run.id, run.batch_id, run.attempt, batch.pipeline, order.code, definition.file, order.kind, key.interval,
        key.run_key, order.conf, run.started_at, batch.created_at,
    )  # fmt: skip


def _call(settings: Settings, metadata: Metadata, dag: DAG, run: RunInfo, event: str) -> None:
    clock, connections = system_clock(), connections_of(settings)
    pipelines = OtherPipelines(lambda: metadata, clock, lambda: ring(settings))
    services = TaskServices(
        xcoms=StoredXComs(lambda: metadata),
        clock=clock,
        root=settings.root,
        pipelines=pipelines,
        variables=variables_of(settings),
        connections=connections,
        outside=OutsideSystems(connections, settings.root, settings),
        assets=ProjectAssets(lambda: metadata),
        asset_states=ProjectAssetStates(lambda: metadata),
        pages=settings.web.address,
        standing=pipelines.task_runs,
    )
    tell_run(dag, event, run, services, told=_told_by(metadata, run.id) if event == "success" else ())


def _told_by(metadata: Metadata, run_id: int) -> list[Told]:
    """What the run has told of assets."""
    with metadata.read() as tx:
        order = tx.runs.order(run_id)
        definition = tx.definitions.get(order.definition_id) if order is not None else None
        return [] if definition is None else told_in(tx, run_id, definition)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
