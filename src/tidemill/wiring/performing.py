"""What a worker does with a job: it loads the user's code of the run's version, and performs the task."""

from __future__ import annotations

import gc
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.model.errors import TidemillError, UserError
from tidemill.model.instance import Failed, Outcome, Report
from tidemill.model.place import told
from tidemill.model.run import RunInfo
from tidemill.ports.executor import NOTHING, PUBLISH, Job
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.authoring.pipeline import Pipeline
    from tidemill.flow.services import Services

#: Versions of a file's code that a worker keeps loaded.
_KEPT = 32


class Performer:
    """Performs jobs; made once in a worker's process, and kept warm from one job to the next.

    Args:
        settings: the project's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._code: OrderedDict[tuple[str, str], dict[str, Pipeline]] = OrderedDict()
        self._services: Services | None = None

    def __call__(self, job: Job) -> tuple[Outcome, Report]:
        """Perform a job; see `ports.executor.Perform`."""
        assert job.run is not None
        try:
            pipeline = self._pipeline(job.run)
        except TidemillError as error:
            return Failed(told(error), again=False), NOTHING
        from tidemill.flow.shared import perform_publish, perform_task

        if job.key == PUBLISH:
            return perform_publish(self._services_of(), pipeline.spec(), job)
        return perform_task(self._services_of(), pipeline.spec(), job)

    def _pipeline(self, run: RunInfo) -> Pipeline:
        """The pipeline of a run, from the version of the code with which the run began."""
        from tidemill.wiring.project import load_file

        place = (run.code, run.file)
        if place not in self._code:
            self._code[place] = load_file(self._settings, Path(self._settings.root, run.file))
            if len(self._code) > _KEPT:
                self._code.popitem(last=False)
                gc.collect()
        self._code.move_to_end(place)
        found = self._code[place].get(run.pipeline)
        if found is None:
            raise UserError(f'"{run.file}" makes no pipeline "{run.pipeline}" any more.')
        return found

    def _services_of(self) -> Services:
        if self._services is None:
            from tidemill.wiring.services import connect

            self._services = connect(self._settings)
        return self._services
