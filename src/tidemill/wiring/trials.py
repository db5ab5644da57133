"""What `DAG.test` does: a trial in this process with everything in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.adapters.memory.asset_states import MemoryAssetStates
from tidemill.adapters.memory.clock import LeapingClock
from tidemill.adapters.memory.pipelines import NotedPipelines
from tidemill.adapters.memory.variables import TriedVariables
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.adapters.system.clock import SystemClock
from tidemill.authoring.dag import DAG
from tidemill.authoring.task_context import TaskServices
from tidemill.compat.airflow.finder import serving_file
from tidemill.flow.trial import Trial, run_trial
from tidemill.model.batch import Interval
from tidemill.model.errors import TidemillError, UserError
from tidemill.model.run import RunInfo
from tidemill.plan.params import params_of
from tidemill.plan.schedule import interval_at, latest_complete, parse_moment
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.dbt import open_dbt
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import connections_of, variables_of
from tidemill.wiring.settings import Settings, load_settings, name_from

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock


class ProjectTrials:
    """Runs trials; see `authoring.registry.Trials`."""

    def test(
        self,
        dag: DAG,
        interval: str | datetime | Interval | None,
        params: Mapping[str, Any] | None,
        tasks: Collection[str] | None,
        answers: Mapping[str, Any] | None = None,
    ) -> Trial:
        """See `DAG.test`."""
        return try_dag(dag, interval, params, tasks, answers)


def try_dag(
    dag: DAG,
    interval: str | datetime | Interval | None = None,
    params: Mapping[str, Any] | None = None,
    tasks: Collection[str] | None = None,
    answers: Mapping[str, Any] | None = None,
    *,
    clock: Clock | None = None,
    root: Path | None = None,
    **services: Any,
) -> Trial:
    """Run a DAG for its test.

    Args:
        dag: what to run.
        interval: see `DAG.test`, and so `params` and `tasks`.
        params: of the run.
        tasks: only these.
        answers: to what tasks ask people, by task.
        clock: where time begins; without it, now.
        root: the project's folder; without it, that of the DAG's file.
        services: others for the tasks, by the names of `TaskServices`: `tables`, `pipelines`, `variables` ...

    Raises:
        UserError: a parameter does not fit, or the DAG has no such interval.
    """
    leaping = LeapingClock(clock or SystemClock())
    meant = _interval(dag, interval, leaping)
    params_of(dag.params, params or {}, strict=not dag.any_params, where=dag.place)
    key = None if meant is not None else "test"
    file = dag.place.rpartition(":")[0]
    info = RunInfo(1, 1, 1, dag.name, "test", file, interval=meant, run_key=key, conf=dict(params or {}),
                   began=leaping.now(), asked=leaping.now())  # fmt: skip
    near = Path(file).parent if Path(file).is_file() else Path.cwd()
    settings = _settings(root or near)
    place = root or settings.root
    own = {
        "xcoms": MemoryXComs(),
        "pipelines": NotedPipelines(),
        "variables": TriedVariables(variables_of(settings)),
        "connections": connections_of(settings),
        "asset_states": MemoryAssetStates(),
    }
    given: dict[str, Any] = {**own, **services}
    given.setdefault("dbt", open_dbt(place))
    given.setdefault("outside", OutsideSystems(given["connections"], place))
    made = TaskServices(clock=leaping, root=place, testing=True, **given)
    reach = replace(reach_of(settings, place), connections=given["connections"], variables=given["variables"])
    with serving_file(Path(file), reach):
        return run_trial(dag, info, made, tasks, answers)


def _interval(dag: DAG, meant: str | datetime | Interval | None, clock: Clock) -> Interval | None:
    if isinstance(meant, Interval):
        return meant
    timetable = dag.schedule.timetable
    if timetable is None:
        if meant is None:
            return next(iter(dag.schedule.intervals), None)
        moment = parse_moment(meant if isinstance(meant, str) else meant.isoformat(), dag.zone)
        found = next((one for one in dag.schedule.intervals if one.start <= moment < one.end), None)
        if found is None:
            raise UserError(
                f'DAG "{dag.name}" has no interval at {meant}.', where=dag.place, hint="dag.test(Interval(start, end))"
            )
        return found
    if meant is None:
        return latest_complete(timetable, clock.now(), start=dag.start, end=dag.end)
    moment = parse_moment(meant if isinstance(meant, str) else meant.isoformat(), timetable.zone)
    return interval_at(timetable, moment, dag.start)


def _settings(near: Path) -> Settings:
    """The settings of the project that a folder belongs to; as they are by themselves where they cannot be read."""
    try:
        return load_settings(near)
    except TidemillError:
        return Settings(near, name_from(near))
