"""What a worker does with a job: it loads the user's code of the run's version, and performs the task."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.authoring.dag import DAG
from tidemill.authoring.task_context import TaskServices
from tidemill.compat.airflow.finder import serving_file
from tidemill.compat.airflow.reach import within
from tidemill.flow.asset_states import ProjectAssetStates
from tidemill.flow.assets import ProjectAssets
from tidemill.flow.perform import perform
from tidemill.flow.tasklog import Spool, captured
from tidemill.model.errors import TidemillError, UserError
from tidemill.model.instance import Failed, Outcome, Report
from tidemill.model.masking import Masker
from tidemill.model.place import told
from tidemill.model.run import RunInfo
from tidemill.ports.executor import NOTHING, PUBLISH, Job
from tidemill.ports.tasklogs import TaskLogs, TryPlace
from tidemill.wiring.dbt import open_dbt
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import connections_of, masker_of, variables_of
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import STATE_FOLDER, Settings
from tidemill.wiring.storage import open_archive
from tidemill.wiring.surroundings import ArchivedValues, StoredXComs

if TYPE_CHECKING:
    from tidemill.authoring.registry import Declared
    from tidemill.flow.services import Services
    from tidemill.ports.metadata import Metadata

#: What the log of a publish is filed under.
_PUBLISH = "publish"


def open_logs(settings: Settings) -> TaskLogs:
    """The logs of the project's tasks."""
    from tidemill.adapters.localfs.tasklogs import LocalTaskLogs

    return LocalTaskLogs(settings.root / STATE_FOLDER / "logs", system_clock())


def place_of(job: Job) -> TryPlace:
    """Where the log of a job is."""
    assert job.run is not None
    return TryPlace(job.run.pipeline, job.run_id, job.key[0] or _PUBLISH, job.key[1], job.number)


class Performer:
    """Performs jobs; made before workers are forked, opened by the first job of each.

    Args:
        settings: the project's.
        spool: descriptors 1 and 2 of this process, where it is a worker's own; None: they are left alone.
    """

    def __init__(self, settings: Settings, *, spool: Spool | None = None) -> None:
        self._settings = settings
        #: The version of the code that is loaded, where it is, and what its files have made.
        self._version: str | None = None
        self._at = settings
        self._code: dict[str, dict[str, Declared]] = {}
        self._spool = spool
        self._logs: TaskLogs | None = None
        self._metadata: Metadata | None = None
        self._assets = ProjectAssets(self.metadata)
        self._services: Services | None = None
        self._masker = Masker()
        self._clock = system_clock()

    def __call__(self, job: Job) -> tuple[Outcome, Report]:
        """Perform a job; see `ports.executor.Perform`."""
        assert job.run is not None
        if self._logs is None:
            self._logs = open_logs(self._settings)
            self._masker = masker_of(self._settings)
        with captured(self._logs.open(place_of(job)), self._masker, self._spool):
            return self._perform(job, job.run)

    def _perform(self, job: Job, run: RunInfo) -> tuple[Outcome, Report]:
        try:
            made = self.declared(run)
        except TidemillError as error:
            return Failed(told(error), again=False), NOTHING
        if isinstance(made, DAG):
            return self._perform_dag(made, job, self.file_of(run))
        from tidemill.authoring.pipeline import Pipeline
        from tidemill.flow.shared import perform_publish, perform_task

        assert isinstance(made, Pipeline)
        if job.key == PUBLISH:
            return perform_publish(self.services(), made.spec(), job)
        return perform_task(self.services(), made.spec(), job)

    def _perform_dag(self, dag: DAG, job: Job, file: Path) -> tuple[Outcome, Report]:
        if job.key == PUBLISH:
            from tidemill.flow.shared import perform_publish
            from tidemill.flow.task_tables import spec_of

            assert job.run is not None
            return perform_publish(self.services(), spec_of(job.run), job)
        from tidemill.flow.others import OtherPipelines
        from tidemill.flow.task_tables import RunTables
        from tidemill.wiring.airflow_reach import reach_of

        connections = connections_of(self._settings)
        pipelines = OtherPipelines(self.metadata, self._clock, self._ring)
        with closing(RunTables(self.services, job, _as_frame)) as tables:
            services = TaskServices(
                xcoms=StoredXComs(self.metadata),
                clock=self._clock,
                root=self._settings.root,
                big=ArchivedValues(lambda: open_archive(self._settings).files),
                tables=tables,
                pipelines=pipelines,
                variables=variables_of(self._settings),
                connections=connections,
                outside=OutsideSystems(connections, self._settings.root, self._settings),
                dbt=open_dbt(self._settings.root),
                assets=self._assets,
                asset_states=ProjectAssetStates(self.metadata),
                pages=self._settings.web.address,
                standing=pipelines.task_runs,
            )
            with serving_file(file, reach_of(self._settings, self.code)):
                return perform(dag, job, services)

    def declared(self, run: RunInfo) -> Declared:
        """The pipeline of a run, from the version of the code with which the run began."""
        from tidemill.wiring.airflow_reach import reach_of
        from tidemill.wiring.project import declared_in

        if run.code != self._version:
            self._change_version(run.code)
        if run.file not in self._code:
            with within(reach_of(self._settings, self.code)):
                self._code[run.file] = declared_in(self._at, self.file_of(run))
        found = self._code[run.file].get(run.pipeline)
        if found is None:
            raise UserError(f'"{run.file}" makes no pipeline "{run.pipeline}" any more.')
        return found

    @property
    def code(self) -> Path:
        """Where the version of the code lies that is loaded."""
        return self._at.root

    def file_of(self, run: RunInfo) -> Path:
        """Where the file of a run lies, in the version of the code that is loaded."""
        return Path(self.code, run.file)

    def _change_version(self, version: str) -> None:
        """Forget all code of another version: modules that files import are known to Python by their names alone."""
        from tidemill.wiring.parsing import code_settings

        old = str(self._at.root)
        self._at = code_settings(self._settings, version)
        self._version = version
        self._code.clear()
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(old + os.sep):
                del sys.modules[name]
        sys.path[:] = [path for path in sys.path if path != old and not path.startswith(old + os.sep)]
        sys.path_importer_cache.clear()
        gc.collect()

    def metadata(self) -> Metadata:
        """The metadata database, without the engines."""
        if self._services is not None:
            return self._services.metadata
        if self._metadata is None:
            self._metadata = open_metadata(self._settings, self._clock, migrate=False)
        return self._metadata

    def services(self) -> Services:
        """Everything that data-first tasks need."""
        if self._services is None:
            from tidemill.wiring.services import connect

            self._services = connect(self._settings)
        return self._services

    def _ring(self) -> None:
        from tidemill.wiring.serving import ring

        ring(self._settings)


def _as_frame(table: Any) -> Any:
    """An Arrow table as the frame that users are handed."""
    from tidemill.adapters.polars.result import Result

    return Result(table, "rows").to_polars()
